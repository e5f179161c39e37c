# SPDX-License-Identifier: BSD-2-Clause
"""What a web server in a guest has to do, compared byte for byte."""

from __future__ import annotations

import hashlib
import http.client
import random
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.net.content import BIG, NAMES, SMALL, body
from tests.net.guest import Broken, Reach

Connect = Callable[[], socket.socket]


class Connection(http.client.HTTPConnection):
    """HTTP over whatever socket `connect` makes."""

    def __init__(self, connect: Connect) -> None:
        super().__init__("capstan.test")
        self._make = connect

    def connect(self) -> None:
        self.sock = self._make()


def fetch(connection: Connection, name: str, **headers: str) -> bytes:
    """The body of one file; a wrong status is an error."""
    connection.request("GET", f"/{name}", headers=headers)
    answer = connection.getresponse()
    data = answer.read()
    if answer.status not in (200, 206):
        raise Broken(f"GET /{name}: status {answer.status}")
    return data


def same(name: str, got: bytes, wanted: bytes) -> None:
    """Nothing; it is an error when they differ."""
    if got == wanted:
        return
    first = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
    where = "the end" if first is None else f"byte {first}"
    raise Broken(f"{name}: {len(got)} bytes for {len(wanted)}, different from {where} on")


def files(connect: Connect, *, keeps_alive: bool = True) -> None:
    """Every file, over one connection when the server keeps it."""
    connection = Connection(connect)
    for name in NAMES:
        same(name, fetch(connection, name), body(name))
        if keeps_alive and connection.sock is None:
            raise Broken(f"the connection was closed after {name}")
    connection.close()


def head_and_missing(connect: Connect) -> None:
    """HEAD has a length and no body, a file that is not there is 404."""
    connection = Connection(connect)
    connection.request("HEAD", f"/{BIG}")
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200 or data or answer.getheader("Content-Length") != str(len(body(BIG))):
        raise Broken(f"HEAD: status {answer.status}, {answer.getheaders()}, {len(data)} bytes")
    connection.close()
    connection.request("GET", "/is-not-there")
    status = connection.getresponse().status
    if status != 404:
        raise Broken(f"a file that is not there: status {status}")
    connection.close()


def ranges(connect: Connect) -> None:
    """Parts of the big file."""
    connection = Connection(connect)
    for first, last in ((0, 0), (1, 70000), (len(body(BIG)) - 5, len(body(BIG)) - 1)):
        got = fetch(connection, BIG, Range=f"bytes={first}-{last}")
        same(f"bytes {first}-{last}", got, body(BIG)[first : last + 1])
    connection.close()


def pipelined(connect: Connect) -> None:
    """All requests are sent at once, the answers come in order."""
    sock = connect()
    names = SMALL * 3
    lines = [f"GET /{name} HTTP/1.1\r\nHost: x\r\n" for name in names]
    last = lines.pop() + "Connection: close\r\n"
    sock.sendall("\r\n".join([*lines, last, ""]).encode())
    stream = sock.makefile("rb")
    for name in names:
        status = stream.readline()
        if not status.startswith(b"HTTP/1.1 200"):
            raise Broken(f"pipelined {name}: {status!r}")
        length = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            key, _, value = line.partition(b":")
            if key.lower() == b"content-length":
                length = int(value)
        same(f"pipelined {name}", stream.read(length), body(name))
    if rest := stream.read():
        raise Broken(f"pipelined: {len(rest)} bytes more than asked for")
    sock.close()


def parallel(connect: Connect, clients: int = 40, requests: int = 5) -> None:
    """Many connections, all open at once, each with its own sequence of files."""
    barrier = threading.Barrier(clients)

    def client(seed: int) -> None:
        chosen = random.Random(seed).choices(SMALL, k=requests)
        connection = Connection(connect)
        connection.connect()
        barrier.wait(60)
        for name in [*chosen, *([BIG] if seed % 16 == 0 else [])]:
            same(name, fetch(connection, name), body(name))
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(client, seed) for seed in range(clients)]:
            done.result(120)


def posts(connect: Connect, sizes: Sequence[int] = (0, 1, 100_000, 3_000_001)) -> None:
    """What is sent to /digest arrives whole; also in chunks."""
    connection = Connection(connect)
    for size in sizes:
        data = random.Random(size).randbytes(size)
        connection.request("POST", "/digest", data)
        got = connection.getresponse().read()
        same(f"digest of {size} bytes", got, hashlib.sha256(data).hexdigest().encode() + b"\n")
    connection.close()


def encrypted(connect: Connect, certificate: Path) -> Connect:
    """`connect` with TLS above it; the certificate is verified."""
    context = ssl.create_default_context(cafile=certificate)

    def make() -> socket.socket:
        return context.wrap_socket(connect(), server_hostname="capstan.test")

    return make


def plain(reach: Reach, port: int) -> Connect:
    """Connections to a port of the guest."""
    return lambda: reach.tcp(port)


def all_of(connect: Connect) -> None:
    """What any server of files with HTTP/1.1 can."""
    files(connect)
    head_and_missing(connect)
    ranges(connect)
    pipelined(connect)
    parallel(connect)
