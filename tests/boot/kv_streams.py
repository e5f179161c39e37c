# SPDX-License-Identifier: BSD-2-Clause
"""Random streams of memcached's text protocol, for comparing two servers.

What real memcached (1.6) answers by chance is left out: with responses of earlier commands on
their way, `incr` keeps the length of a value or not, and a `get` with a key that is too long
takes back answers to commands before it.
"""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from dataclasses import dataclass
from itertools import pairwise

DEADLINE = 60.0
KEYS = (b"a", b"b", b"key1", b"key2")
LONG = b"x" * 251
NUMBERS = (
    b"0", b"1", b"5", b"10", b"-1", b"18446744073709551615", b"18446744073709551616",
    b"99999999999", b"4294967296", b"abc", b"1a", b"+3", b"007", b"2147483648",
)  # fmt: skip
ODD_LINES = (
    b"", b" ", b"foo", b"get", b"gets", b"set", b"set a", b"incr a", b"delete", b"touch a",
    b"set a 0 0 1 2 3 4", b"GET a", b"add a 0 0 x", b"get\ta", b"\0", b"verbosity",
    b"verbosity 0", b"verbosity abc", b"verbosity noreply", b"flush_all 0 1 2",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stream:
    """Commands, and where the bytes are cut; sent one by one when `is_lockstep`."""

    commands: tuple[bytes, ...]
    cuts: tuple[int, ...]
    is_lockstep: bool


def _value(r: random.Random) -> bytes:
    kind = r.random()
    if kind < 0.4:
        return str(r.choice([0, 1, 9, 10, 99, 100, 2**64 - 1, 2**63])).encode()
    if kind < 0.5:
        return b""
    if kind < 0.9:
        tail = bytes(r.choice(b"abc 123\r\n") for _ in range(r.randrange(40)))
        return b"z"[: r.randrange(2)] + str(r.randrange(9)).encode() + tail
    return bytes([r.randrange(97, 120)]) * r.randrange(2000)


def _large(r: random.Random) -> bytes:
    """A store of a large value; always good: what follows a bad one is not a line."""
    value = b"v" * r.choice([5000, 100_000, 1_048_276, 1_048_517, 1_048_518, 1_048_519, 1_100_000])
    name = r.choice([b"set", b"add", b"replace", b"append", b"prepend"])
    return b"%s %s 0 0 %d\r\n%s\r\n" % (name, r.choice(KEYS), len(value), value)


def _store(r: random.Random, quiet: bytes) -> bytes:
    value = _value(r)
    size = str(len(value)).encode()
    flags = r.choice([b"0", b"1", b"4294967295"]) if r.random() < 0.95 else r.choice(NUMBERS)
    expires = r.choice([b"0", b"0", b"-1", b"1000"])
    if r.random() < 0.05:
        expires = r.choice([b"abc", b"99999999999999", b"2147483648"])
    if r.random() < 0.03:
        size, value = r.choice([b"-1", b"abc", b"2147483647"]), b""
    name = r.choice([b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas"])
    cas = (
        b" " + r.choice([b"99999999", b"18446744073709551615", b"zz", b"-1"])
        if name == b"cas"
        else b""
    )
    space = b" " if r.random() < 0.97 else b"  "
    end = b"\r\n" if r.random() < 0.97 else r.choice([b"\n\n", b"xx\r\n", b"\r\r\n"])
    key = LONG if r.random() < 0.02 else r.choice(KEYS)
    line = b" ".join([name + space + key, flags, expires, size]) + cas + quiet
    return line + b"\r\n" + value + end


def _get(r: random.Random, may_fail: bool) -> bytes:
    keys = [r.choice(KEYS) for _ in range(r.choice([1, 1, 1, 2, 3, 40]))]
    if may_fail and r.random() < 0.05:
        keys.append(LONG)
    return r.choice([b"get ", b"gets "]) + b" ".join(keys)


def _other(r: random.Random, is_lockstep: bool, quiet: bytes) -> bytes:
    key = r.choice(KEYS)
    word = r.choices(("arith", "delete", "touch", "flush_all", "odd", "get"), (12, 8, 7, 2, 5, 8))[
        0
    ]
    if word == "arith" and is_lockstep:
        return r.choice([b"incr ", b"decr "]) + key + b" " + r.choice(NUMBERS) + quiet
    if word == "delete":
        more = r.choice([b"", b"", b" 0", b" 1", b" 0 noreply"])
        return b"delete " + r.choice([*KEYS, LONG]) + more + quiet
    if word == "touch":
        when = r.choice([b"0", b"100", b"-1", b"abc", b"99999999999999"])
        return b"touch " + key + b" " + when + quiet
    if word == "flush_all":
        return b"flush_all" + r.choice([b"", b" 0", b" abc", b" -5"]) + quiet
    return r.choice(ODD_LINES) if word == "odd" else b"get " + key


def _command(r: random.Random, is_lockstep: bool) -> bytes:
    quiet = b" noreply" if r.random() < 0.15 else b""
    kind = r.randrange(100)
    if kind < 35:
        return _store(r, quiet)
    if kind < 37:
        return _large(r)
    if kind < 58:
        return _get(r, is_lockstep) + b"\r\n"
    return _other(r, is_lockstep, quiet) + b"\r\n"


def stream(seed: int, length: int = 60) -> Stream:
    """The stream of a seed: odd ones wait for each answer, even ones are pipelined."""
    r = random.Random(seed)
    is_lockstep = seed % 2 == 1
    commands = tuple(_command(r, is_lockstep) for _ in range(length))
    total = sum(map(len, commands))
    cuts, at = [], 0
    while not is_lockstep and at < total:
        cuts.append(at)
        at += r.choice([1, 3, 10, 100, 1000, 100_000, total])
    return Stream(commands, (*cuts, total), is_lockstep)


def connect(where: tuple[str, int]) -> socket.socket:
    """A connection, as soon as the server takes it."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            s = socket.create_connection(where, DEADLINE)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.settimeout(DEADLINE)
            return s


def _until_version(s: socket.socket, got: bytearray) -> bytes:
    """What comes before the answer to `version`."""
    while not (end := re.search(rb"VERSION [^\r]*\r\n\Z", got)):
        some = s.recv(1 << 20)
        if not some:
            return bytes(got) + b"<end>"
        got += some
    return bytes(got[: end.start()])


def ask(s: socket.socket, data: bytes) -> bytes:
    """All that is answered to `data`."""
    s.sendall(data + b"version\r\n")
    return _until_version(s, bytearray())


def play(where: tuple[str, int], st: Stream) -> list[bytes]:
    """The answers: of each command, or of all in one."""
    with connect(where) as s:
        ask(s, b"flush_all\r\n")
        if st.is_lockstep:
            return [ask(s, command) for command in st.commands]
        data = b"".join(st.commands)
        parts = [data[a:b] for a, b in pairwise(st.cuts)]
        sender = threading.Thread(target=lambda: [s.sendall(p) for p in [*parts, b"version\r\n"]])
        sender.start()
        try:
            return [_until_version(s, bytearray())]
        finally:
            sender.join(DEADLINE)


def without_numbers(answer: bytes) -> bytes:
    """The answer without the unique numbers of `gets`, which depend on what was before."""
    return re.sub(rb"(VALUE \S+ \d+ \d+) \d+\r\n", rb"\1 CAS\r\n", answer)
