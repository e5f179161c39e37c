# SPDX-License-Identifier: BSD-2-Clause
"""A name server in a guest, and one on the host for it to ask (RFC 1035, RFC 3596)."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.net.guest import Broken, Reach

A, TXT, AAAA = 1, 16, 28
TEXT = "x" * 200
"""What the server on the host says: eight strings of these, more than a datagram takes."""


def name_bytes(name: str) -> bytes:
    """A name on the wire."""
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".") if p) + b"\0"


def query(number: int, name: str, kind: int) -> bytes:
    """A question, with recursion asked for."""
    header = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0)
    return header + name_bytes(name) + struct.pack(">HH", kind, 1)


def _skip_name(packet: bytes, at: int) -> int:
    while True:
        size = packet[at]
        if size & 0xC0:
            return at + 2
        at += 1 + size
        if not size:
            return at


def answers(packet: bytes, number: int) -> tuple[int, bool, list[bytes]]:
    """Status, whether it was cut short, and the data of all answers."""
    got, flags, questions, count = struct.unpack_from(">HHHH", packet)
    if got != number or not flags & 0x8000:
        raise Broken(f"DNS: answer {got:#x} with flags {flags:#x} to question {number:#x}")
    at = 12
    for _ in range(questions):
        at = _skip_name(packet, at) + 4
    data = []
    for _ in range(count):
        at = _skip_name(packet, at)
        size = struct.unpack_from(">H", packet, at + 8)[0]
        data.append(packet[at + 10 : at + 10 + size])
        at += 10 + size
    return flags & 15, bool(flags & 0x0200), data


def by_udp(reach: Reach, port: int, name: str, kind: int) -> tuple[int, bool, list[bytes]]:
    """One question in a datagram, from a port of its own."""
    number = random.randrange(0x10000)
    with reach.udp(port) as sock:
        sock.send(query(number, name, kind))
        return answers(sock.recv(65536), number)


def by_tcp(reach: Reach, port: int, name: str, kind: int) -> list[bytes]:
    """One question over a connection."""
    with reach.tcp(port) as sock:
        packet = query(7, name, kind)
        sock.sendall(struct.pack(">H", len(packet)) + packet)
        stream = sock.makefile("rb")
        size = struct.unpack(">H", stream.read(2))[0]
        return answers(stream.read(size), 7)[2]


def want(got: object, wanted: object, what: str) -> None:
    """Nothing; it is an error when they differ."""
    if got != wanted:
        raise Broken(f"DNS, {what}: {str(got)[:200]} for {str(wanted)[:200]}")


def own_names(reach: Reach, port: int = 53) -> None:
    """What the server knows by itself."""
    four = ipaddress.ip_address("10.9.8.7").packed
    six = ipaddress.ip_address("fd00::987").packed
    want(by_udp(reach, port, "own.test", A), (0, False, [four]), "A of own.test")
    want(by_udp(reach, port, "own.test", AAAA), (0, False, [six]), "AAAA of own.test")
    want(by_tcp(reach, port, "own.test", A), [four], "A of own.test by TCP")


def dns(reach: Reach, port: int = 53) -> None:
    """Own names, forwarded names, many at once, long answers over TCP, names that are not."""
    own_names(reach, port)
    with ThreadPoolExecutor(16) as pool:
        names = [f"n{n}.host.test" for n in range(150)]
        found = pool.map(lambda name: by_udp(reach, port, name, A), names)
        for name, got in zip(names, found, strict=True):
            want(got, (0, False, [address_of(name)]), name)
    status, is_cut, _ = by_udp(reach, port, "text.host.test", TXT)
    want((status, is_cut), (0, True), "a long TXT by UDP is cut short")
    parts = b"".join(bytes([len(TEXT)]) + TEXT.encode() for _ in range(8))
    want(by_tcp(reach, port, "text.host.test", TXT), [parts], "the long TXT by TCP")
    want(by_udp(reach, port, "absent.host.test", A)[0], 3, "a name that is not")


# --- the host's server ---


def address_of(name: str) -> bytes:
    """What the host's server says a name's address is."""
    return bytes([10, *(sum(name.encode()) * n % 251 for n in (1, 3, 7))])


def _response(packet: bytes, limit: int) -> bytes:
    end = _skip_name(packet, 12)
    kind = struct.unpack_from(">H", packet, end)[0]
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    name = ".".join(labels).lower()
    question = packet[12 : end + 4]
    data = None
    if name == "text.host.test" and kind == TXT:
        data = b"".join(bytes([len(TEXT)]) + TEXT.encode() for _ in range(8))
    elif name.startswith("n") and kind == A:
        data = address_of(name)
    status = 3 if name.startswith("absent") else 0
    record = b""
    if data is not None:
        record = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
    is_cut = len(question) + len(record) + 12 > limit
    flags = 0x8180 | status | (0x0200 if is_cut else 0)
    count = 1 if record and not is_cut else 0
    header = packet[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0)
    return header + question + (record if count else b"")


def _serve_udp(sock: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError, OSError):
            packet, peer = sock.recvfrom(65536)
            sock.sendto(_response(packet, 512), peer)


def _serve_tcp(sock: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError, OSError):
            one, _ = sock.accept()
            with one, one.makefile("rb") as stream:
                one.settimeout(5)
                size = struct.unpack(">H", stream.read(2))[0]
                packet = _response(stream.read(size), 65535)
                one.sendall(struct.pack(">H", len(packet)) + packet)


@contextlib.contextmanager
def name_server() -> Iterator[int]:
    """The port of a name server on the host, UDP and TCP, in the calling thread's namespace."""
    ended = threading.Event()
    with (
        socket.create_server(("", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        port = int(tcp.getsockname()[1])
        udp.bind(("", port))
        for sock in (tcp, udp):
            sock.settimeout(0.1)
        threads = [
            threading.Thread(target=_serve_udp, args=(udp, ended), daemon=True),
            threading.Thread(target=_serve_tcp, args=(tcp, ended), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield port
        finally:
            ended.set()
            for thread in threads:
                thread.join(10)
