const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
if (isMainThread) {
  const results = [];
  let left = 3;
  for (let i = 0; i < 3; i++) {
    const w = new Worker(__filename, { workerData: i });
    w.on('message', (m) => results.push(m));
    w.on('exit', () => {
      if (--left === 0) {
        results.sort();
        console.log(results.join('\n'));
        const fs = require('fs');
        fs.writeFileSync('/tmp/out.txt', results.join(','));
        console.log(fs.readFileSync('/tmp/out.txt', 'utf8').length);
      }
    });
  }
} else {
  let h = crypto.createHash('sha256');
  for (let i = 0; i < 20000; i++) h.update(`${workerData}:${i}`);
  parentPort.postMessage(`${workerData} ${h.digest('hex').slice(0, 16)}`);
}
