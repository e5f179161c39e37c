# SPDX-License-Identifier: BSD-2-Clause
"""Echo servers, iperf3, and what a server sends while it is being stopped."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

from tests.net.guest import Broken, Guest, Reach

LAST_BYTES = 4_000_000


def _read(sock: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size and (some := sock.recv(1 << 20)):
        got += some
    return bytes(got)


def echo_one(sock: socket.socket, data: bytes) -> None:
    """What is sent comes back, sent and read at the same time."""
    sender = threading.Thread(target=sock.sendall, args=(data,), daemon=True)
    sender.start()
    got = _read(sock, len(data))
    sender.join(60)
    if got != data:
        raise Broken(f"echo: {len(got)} bytes for {len(data)}, or different ones")


def echo(reach: Reach, port: int = 7) -> None:
    """One large transfer, 64 clients at once, half-closing, many short ones."""
    with reach.tcp(port) as sock:
        echo_one(sock, random.Random(3).randbytes(10_000_000))
        sock.shutdown(socket.SHUT_WR)
        if rest := sock.recv(1):
            raise Broken(f"echo: {rest!r} after the end")

    def client(seed: int) -> None:
        with reach.tcp(port) as sock:
            for size in (1, 1460, 65_536, 200_000):
                echo_one(sock, random.Random(seed + size).randbytes(size))

    with ThreadPoolExecutor(64) as pool:
        for done in [pool.submit(client, seed) for seed in range(64)]:
            done.result(120)
    for number in range(100):
        with reach.tcp(port) as sock:
            echo_one(sock, b"%d" % number)


def echo_udp(reach: Reach, port: int = 7) -> None:
    """Datagrams of all sizes come back as they are; large ones in fragments."""
    sizes = [1, 2, 100, 1400, 1472, 1473, 4000, 8000]
    with reach.udp(port) as sock:
        for size in sizes:
            data = random.Random(size).randbytes(size)
            sock.send(data)
            if (got := sock.recv(65536)) != data:
                raise Broken(f"UDP echo of {size} bytes: {len(got)} bytes, or different ones")


def iperf3(reach: Reach, machine: Guest, port: int = 5201) -> None:
    """TCP and UDP, each way; every byte is counted at both ends."""
    address, host_port = reach.where(port)
    base = ["iperf3", "-c", address, "-p", str(host_port), "-J"]
    if reach.where(port, "udp")[1] != host_port:
        raise Broken("iperf3 needs the same port of the host for TCP and UDP")
    # Slow: the client's buffer holds 90 datagrams, and a loaded host lets it wait.
    datagrams = ["-u", "-b", "4M", "-l", "1400", "-n", "400K"]
    for more in (["-n", "60M"], ["-n", "60M", "-R"], ["-n", "60M", "-P", "4"], datagrams,
                 [*datagrams, "-R"]):  # fmt: skip
        # For each test the server makes its listening socket anew: who comes too early is reset.
        number = machine.output().count("Accepted connection") + 1
        machine.wait_for_text(f"Server listening on {port} (test #{number})", 30)
        done = subprocess.run([*base, *more], capture_output=True, timeout=60, check=False)
        said = json.loads(done.stdout)
        if done.returncode or "error" in said:
            raise Broken(f"iperf3 {more}: {said.get('error', done.returncode)}")
        total = said["end"]["sum"] if "-u" in more else said["end"]["sum_received"]
        # iperf3 stops counting when the sender says it is done, not at the last
        # byte: what is on its way in several connections through QEMU is not little.
        wanted = (400 << 10) * 0.9 if "-u" in more else (60 << 20) * 0.3
        if total["bytes"] < wanted:
            raise Broken(f"iperf3 {more}: {total['bytes']} bytes arrived")
        if total.get("lost_percent", 0) > 10:
            raise Broken(f"iperf3 {more}: {total['lost_percent']} % of the datagrams lost")


def last_words(reach: Reach, guest: Guest, port: int = 9) -> None:
    """A server that writes megabytes when it gets SIGTERM, and ends: all of it arrives."""
    wanted = random.Random(9).randbytes(LAST_BYTES)
    with reach.tcp(port) as sock:
        if _read(sock, 5) != b"hello":
            raise Broken("last words: no greeting")
        got: list[bytes] = []
        reader = threading.Thread(target=lambda: got.append(_read(sock, LAST_BYTES + 1)))
        reader.start()
        status = guest.stop()
        reader.join(60)
    if not got or got[0] != wanted:
        raise Broken(f"last words: {len(got[0]) if got else 0} bytes for {LAST_BYTES}")
    if status != 0:
        raise Broken(f"last words: status {status}")
