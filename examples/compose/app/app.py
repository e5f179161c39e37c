# SPDX-License-Identifier: BSD-2-Clause
"""Counts the visits of each path in redis; /health says whether redis answers."""

from __future__ import annotations

import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIS = (os.environ.get("REDIS_HOST", "redis"), 6379)
GREETING = os.environ.get("GREETING", "hello")


def ask(*words: str) -> str:
    """The answer of redis, one line of its protocol."""
    line = f"*{len(words)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in words)
    with socket.create_connection(REDIS, timeout=5) as connection:
        connection.sendall(line.encode())
        return connection.makefile("rb").readline().decode().strip()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Count, and tell the number."""
        try:
            if self.path == "/health":
                self.reply(200, ask("PING"))
            else:
                self.reply(200, f"{GREETING} {self.path} {ask('INCR', self.path)[1:]}")
        except OSError as err:
            self.reply(503, str(err))

    def reply(self, status: int, text: str) -> None:
        """Send it."""
        data = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer(("", 8000), Handler).serve_forever()
