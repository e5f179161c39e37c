// SPDX-License-Identifier: BSD-2-Clause
// The files of a folder by GET, digests by POST.
'use strict';
const http = require('http');
const fs = require('fs');
const path = require('path');
const crypto = require('crypto');

const server = http.createServer((request, response) => {
  if (request.method === 'POST') {
    const hash = crypto.createHash('sha256');
    request.on('data', (data) => hash.update(data));
    request.on('end', () => response.end(hash.digest('hex') + '\n'));
    return;
  }
  const file = path.join(process.argv[2], path.normalize('/' + request.url));
  fs.stat(file, (error, stat) => {
    if (error || !stat.isFile()) {
      response.writeHead(404).end('no\n');
      return;
    }
    const part = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range || '');
    const first = part ? Number(part[1]) : 0;
    const last = part ? Number(part[2]) : stat.size - 1;
    response.writeHead(part ? 206 : 200, { 'Content-Length': last - first + 1 });
    if (request.method === 'HEAD' || stat.size === 0) {
      response.end();
    } else {
      fs.createReadStream(file, { start: first, end: last }).pipe(response);
    }
  });
});
server.keepAliveTimeout = 60000;
process.on('SIGTERM', () => process.exit(0));
server.listen(8080, '::', 511);
