# SPDX-License-Identifier: BSD-2-Clause
"""What the servers serve: files with known bytes, a certificate, and a server on the host."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import random
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

BIG = "big.bin"
BIG_BYTES = 6_000_001
SMALL = [f"small-{n:02}.txt" for n in range(40)]


@functools.cache
def body(name: str) -> bytes:
    """The bytes of one of the files."""
    match name:
        case "empty":
            return b""
        case "one":
            return b"1"
        case "page.html":
            return b"<title>capstan</title>\n"
        case "big.bin":
            return random.Random(name).randbytes(BIG_BYTES)
    found = random.Random(name)
    return b"".join(b"%s %d\n" % (name.encode(), found.random() * 1e9) for _ in range(200))


NAMES = ["empty", "one", "page.html", BIG, *SMALL]


def write_files(folder: Path) -> None:
    """All files, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        path = folder / name
        if not path.is_file() or path.stat().st_size != len(body(name)):
            path.write_bytes(body(name))


def make_certificate(folder: Path) -> None:
    """key.pem, cert.pem, both.pem for the name `capstan.test`, in `folder`; openssl makes them."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "both.pem").is_file():
        return
    openssl = shutil.which("openssl") or "openssl"
    names = "subjectAltName=DNS:capstan.test,IP:10.0.2.2,IP:192.168.77.1,IP:fd77::1,IP:127.0.0.1"
    line = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
    line += ["-subj", "/CN=capstan.test", "-addext", names]
    line += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(line, check=True, capture_output=True, timeout=60)
    both = (folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes()
    (folder / "both.pem").write_bytes(both)


class Handler(http.server.BaseHTTPRequestHandler):
    """The files by GET, and at /digest the SHA-256 of what is posted."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.lstrip("/").partition("?")[0] or "page.html"
        known = name in NAMES
        self._answer(200 if known else 404, body(name) if known else b"no\n")

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, hashlib.sha256(sent).hexdigest().encode() + b"\n")

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """Both families at one port."""

    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 100

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        if isinstance(request, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                request.settimeout(5)
                request.unwrap()  # else the end looks like a cut cable
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients may go as they like


@contextlib.contextmanager
def host_server(certificate: Path | None = None) -> Iterator[int]:
    """The port of an HTTP server on the host, in the namespace of the calling thread."""
    server = Server(("::", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
