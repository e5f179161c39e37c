# SPDX-License-Identifier: BSD-2-Clause
"""redis and memcached in a guest, by their protocols."""

from __future__ import annotations

import random
import socket
import struct
from typing import BinaryIO, cast

from tests.net.guest import Broken, Reach

Reply = bytes | int | list["Reply"] | None


def encode(*words: bytes | str | int) -> bytes:
    """One command for redis."""
    raw = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in raw)


def reply(stream: BinaryIO) -> Reply:
    """The next reply of redis; its errors are ours."""
    line = stream.readline()
    kind, text = line[:1], line[1:-2]
    match kind:
        case b"+":
            return text
        case b":":
            return int(text)
        case b"$":
            size = int(text)
            return None if size < 0 else stream.read(size + 2)[:-2]
        case b"*":
            size = int(text)
            return None if size < 0 else [reply(stream) for _ in range(size)]
    raise Broken(f"redis says {line!r}")


class Redis:
    """One client."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.stream = cast("BinaryIO", sock.makefile("rb"))

    def ask(self, *words: bytes | str | int) -> Reply:
        self.sock.sendall(encode(*words))
        return reply(self.stream)

    def want(self, wanted: Reply, *words: bytes | str | int) -> None:
        got = self.ask(*words)
        if got != wanted:
            shown = [w if not isinstance(w, bytes) or len(w) < 40 else "..." for w in words]
            raise Broken(f"redis {shown}: {str(got)[:100]} for {str(wanted)[:100]}")

    def close(self) -> None:
        self.stream.close()
        self.sock.close()


def redis(reach: Reach, port: int = 6379, clients: int = 100) -> None:
    """Values small and large, pipelines, many clients, publishing."""
    one = Redis(reach.tcp(port))
    one.want(b"OK", "FLUSHALL")
    large = random.Random(1).randbytes(8_000_003)
    one.want(b"OK", "SET", "large", large)
    one.want(large, "GET", "large")
    one.want(len(large), "STRLEN", "large")
    one.want(None, "GET", "absent")
    count = 5000
    one.sock.sendall(b"".join(encode("SET", f"k{n}", n * n) for n in range(count)))
    answers = [reply(one.stream) for _ in range(count)]
    if answers != [b"OK"] * count:
        raise Broken("redis: a pipeline of SET was not answered OK throughout")
    one.want([b"%d" % (n * n) for n in range(count)], "MGET", *(f"k{n}" for n in range(count)))
    many = [Redis(reach.tcp(port)) for _ in range(clients)]
    for client in many:
        client.sock.sendall(encode("INCR", "counter"))
    if sorted(cast("int", reply(client.stream)) for client in many) != list(range(1, clients + 1)):
        raise Broken(f"redis: {clients} clients did not count to {clients}")
    many[0].want([b"subscribe", b"news", 1], "SUBSCRIBE", "news")
    one.want(1, "PUBLISH", "news", large)
    if reply(many[0].stream) != [b"message", b"news", large]:
        raise Broken("redis: what was published did not arrive")
    one.want(count + 2, "DBSIZE")
    one.want(None, "BLPOP", "list", "0.2")
    for client in [*many, one]:
        client.close()


def memcached(reach: Reach, port: int = 11211) -> None:
    """Sets and gets of many sizes, over TCP and UDP."""
    with reach.tcp(port) as sock:
        stream = sock.makefile("rb")
        values = {b"k%d" % n: random.Random(n).randbytes(n * 9001 % 1_000_000) for n in range(120)}
        for key, value in values.items():
            sock.sendall(b"set %s 7 0 %d\r\n%s\r\n" % (key, len(value), value))
            if (got := stream.readline()) != b"STORED\r\n":
                raise Broken(f"memcached: set of {len(value)} bytes: {got!r}")
        sock.sendall(b"get " + b" ".join(values) + b"\r\n")
        for key, value in values.items():
            if (got := stream.readline()) != b"VALUE %s 7 %d\r\n" % (key, len(value)):
                raise Broken(f"memcached: get {key!r}: {got!r}")
            if stream.read(len(value) + 2) != value + b"\r\n":
                raise Broken(f"memcached: get {key!r}: other bytes than were set")
        if stream.readline() != b"END\r\n":
            raise Broken("memcached: more than was asked for")
    with reach.udp(port) as sock:
        wanted = b"VALUE k1 7 9001\r\n" + values[b"k1"] + b"\r\nEND\r\n"
        for number in range(20):
            sock.send(struct.pack(">HHHH", number, 0, 1, 0) + b"get k1\r\n")
            if _datagrams(sock, number) != wanted:
                raise Broken("memcached: other bytes by UDP than were set")


def _datagrams(sock: socket.socket, number: int) -> bytes:
    """The parts of memcached's answer to request `number`, put together."""
    got: dict[int, bytes] = {}
    count = 1
    while len(got) < count:
        packet = sock.recv(65536)
        answered, index, count, _ = struct.unpack_from(">HHHH", packet)
        if answered != number:
            raise Broken(f"memcached: answer {answered} to datagram {number}")
        got[index] = packet[8:]
    return b"".join(got[index] for index in sorted(got))
