#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The stack behind a tap device against the host's own kernel: ping, TCP, UDP, on bad lines too.

usage: tap.py TAPD [--quick]    TAPD: build/net/tapd (see net.mk); needs root and /dev/net/tun

Each profile starts tapd in a network namespace of its own. Exits 0 when everything arrived intact,
1 when not, 2 when it cannot run here (the reason is printed).
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

OURS = ("10.9.0.2", "fd09::2")
MIB = 1 << 20
DEADLINE = 120


@dataclass(frozen=True, slots=True)
class Profile:
    """One line between the host and tapd."""

    name: str
    options: tuple[str, ...] = ()
    mib: int = 8
    short: int = 500
    datagrams: bool = True
    offload: bool = False


PROFILES = (
    Profile("plain", mib=32),
    Profile("offload", ("--offload",), mib=64, offload=True),
    Profile("small MTU", ("--mtu", "1280"), mib=8, datagrams=False),
    Profile("1 % loss, 5 ms", ("--loss", "1", "--delay", "5"), 4, 20, False),
    Profile(
        "5 % loss, repeats, reordering",
        ("--loss", "5", "--dup", "5", "--reorder", "10", "--delay", "2"),
        2,
        10,
        False,
    ),
)


def fail(what: str) -> None:
    """Ends the program."""
    sys.exit(f"tap.py: FAILED: {what}")


def expect(condition: bool, what: str) -> None:
    """Ends the program when a fact does not hold."""
    if not condition:
        fail(what)


def connect(host: str, port: int) -> socket.socket:
    """A connection with a deadline on everything."""
    return socket.create_connection((host, port), timeout=DEADLINE)


def read_all(sock: socket.socket) -> bytes:
    """Everything until the end."""
    parts = []
    while part := sock.recv(1 << 18):
        parts.append(part)
    return b"".join(parts)


def echo(host: str, data: bytes) -> None:
    """The same bytes come back, then the end."""
    with connect(host, 7) as sock:

        def feed() -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=feed)
        writer.start()
        got = read_all(sock)
        writer.join(DEADLINE)
    expect(
        hashlib.sha256(got).digest() == hashlib.sha256(data).digest(),
        f"echo from {host}: {len(got)} of {len(data)} bytes, or others",
    )


def http(host: str, size: int) -> None:
    """The pattern services.c makes."""
    with connect(host, 80) as sock:
        sock.sendall(b"GET /%d HTTP/1.0\r\n\r\n" % size)
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    pattern = bytes(range(33, 33 + 94))
    wanted = (pattern * (size // 94 + 1))[:size]
    expect(head.startswith(b"HTTP/1.1 200") and body == wanted, f"http from {host}: {size} bytes")


def short_connections(host: str, count: int) -> None:
    """Many connections that we close last, and first."""
    for number in range(count):
        with connect(host, 80) as sock:
            sock.sendall(b"GET /1 HTTP/1.0\r\n\r\n")
            if number % 2:
                expect(read_all(sock).endswith(b"!"), f"short connection {number}")


def many_at_once(host: str, count: int) -> None:
    """Open connections, all of which answer."""
    socks = [connect(host, 7) for _ in range(count)]
    for number, sock in enumerate(socks):
        sock.sendall(b"%d" % number)
    for number, sock in enumerate(socks):
        expect(sock.recv(100) == b"%d" % number, f"connection {number} of {count}")
        sock.close()


def udp(host: str) -> None:
    """Datagrams of all sizes, fragmented ones too."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        for size in (0, 1, 100, 1400, 1472, 1473, 5000, 30000, 60000):
            data = random.randbytes(size)
            sock.sendto(data, (host, 7))
            expect(sock.recv(65536) == data, f"UDP from {host}: {size} bytes")


def refused(host: str) -> None:
    """A reset, and an ICMP error, for ports nobody serves."""
    try:
        connect(host, 81).close()
        fail(f"{host} port 81 is open")
    except ConnectionRefusedError:
        pass
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect((host, 82))
        sock.send(b"x")
        try:
            sock.recv(1)
            fail(f"{host} answers on UDP port 82")
        except ConnectionRefusedError:
            pass


def ping(host: str) -> None:
    """Small and fragmented echo requests."""
    if not shutil.which("ping"):
        print("tap.py: no ping here (apt-get install iputils-ping)")
        return
    for size in ("56", "1472", "9000"):
        argv = ["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "5", "-s", size, host]
        run = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        expect(run.returncode == 0, f"ping -s {size} {host}: {run.stdout}{run.stderr}")


def exercise(profile: Profile) -> None:
    """Everything, over both families."""
    lossy = "--loss" in profile.options
    for host in OURS:
        if not lossy:
            ping(host)
            refused(host)
            many_at_once(host, 200)
        if profile.datagrams:
            udp(host)
        http(host, 100_000)
        http(host, profile.mib * MIB)
        short_connections(host, profile.short)
        data = [os.urandom(profile.mib * MIB // 4) for _ in range(4)]
        with ThreadPoolExecutor(len(data)) as pool:
            for result in [pool.submit(echo, host, block) for block in data]:
                result.result(DEADLINE)


def ip(*words: str) -> None:
    """Runs ip(8); it must succeed."""
    subprocess.run(["ip", *words], check=True, timeout=20, capture_output=True)


def run_profile(tapd: Path, profile: Profile) -> None:
    """One namespace, one tapd, one child of ours in it."""
    name = f"capstan-tap-{os.getpid()}"
    kind = ["vnet_hdr"] if profile.offload else []
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "tuntap", "add", "tap0", "mode", "tap", *kind)
        ip("-n", name, "addr", "add", "10.9.0.1/24", "dev", "tap0")
        ip("-n", name, "-6", "addr", "add", "fd09::1/64", "dev", "tap0", "nodad")
        ip("-n", name, "link", "set", "tap0", "up")
        argv = ["ip", "netns", "exec", name]
        server = subprocess.Popen(
            [
                *argv,
                tapd,
                "--addr",
                "10.9.0.2/24",
                "--addr",
                "fd09::2/64",
                *profile.options,
                "tap0",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdin and server.stdout
        try:
            expect(server.stdout.readline() == "ready\n", f"{profile.name}: tapd does not start")
            begun = time.monotonic()
            inside = [*argv, sys.executable, __file__, "--inside", profile.name]
            done = subprocess.run(inside, timeout=5 * DEADLINE, check=False)
            server.stdin.close()
            counters = server.stdout.read()
            status = server.wait(20)
        finally:
            server.kill()
        expect(done.returncode == 0, f"{profile.name}: see above\n{counters}")
        expect(status == 0, f"{profile.name}: tapd ended with {status}")
        seen = dict(line.split() for line in counters.splitlines())
        took = time.monotonic() - begun
        print(
            f"tap.py: ok {profile.name}: {took:.1f} s, {seen.get('tcp_in', 0)} segments in, "
            f"{seen.get('tcp_retrans', 0)} repeated, {seen.get('line_dropped', 0)} lost",
            flush=True,
        )
    finally:
        ip("netns", "del", name)


def main() -> None:
    """All profiles."""
    if len(sys.argv) == 3 and sys.argv[1] == "--inside":
        exercise(next(p for p in PROFILES if p.name == sys.argv[2]))
        return
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists() or not shutil.which("ip"):
        print("tap.py: cannot run: needs root, /dev/net/tun and ip(8)")
        sys.exit(2)
    tapd = Path(sys.argv[1]).resolve()
    profiles = PROFILES[:2] if "--quick" in sys.argv else PROFILES
    for profile in profiles:
        run_profile(tapd, profile)


if __name__ == "__main__":
    main()
