# SPDX-License-Identifier: BSD-2-Clause
"""A server in the guest, reached from the host through a published port and through a tap."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from capstan.run import net, tap
from tests.boot.test_tinyguest import ACCELS, pytestmark

__all__ = ["pytestmark"]
SOURCE = Path(__file__).with_name("net_echo.c")
DEADLINE = 30.0
has_tap = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access(tap.TUN_DEVICE, os.W_OK),
    reason="a tap needs root and /dev/net/tun",
)
MACHINES = pytest.mark.parametrize("machine", ["microvm", "q35"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("net") / "net_echo"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, SOURCE], check=True)
    return program


@contextmanager
def running(server: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The server in a guest, listening; it is told to end by the body."""
    environ = {**os.environ, "CAPSTAN_ROOT": str(server.parent / "root")}
    line = [sys.executable, "-m", "capstan", "run", f"--timeout={DEADLINE:g}", *options]
    with subprocess.Popen(
        [*line, str(server)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ,
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "listening\n"
            yield child
            assert child.stdout.read() == "bye\n"
            assert child.wait(DEADLINE) == 0
        finally:
            child.kill()


def echoed(where: tuple[str, int], data: bytes) -> bytes:
    """What comes back for `data`, sent and received at the same time."""
    with socket.create_connection(where, DEADLINE) as s:
        sender = threading.Thread(target=s.sendall, args=(data,))
        sender.start()
        got = bytearray()
        while len(got) < len(data) and (some := s.recv(1 << 20)):
            got += some
        sender.join(DEADLINE)
    return bytes(got)


def stop(where: tuple[str, int]) -> None:
    with socket.create_connection(where, DEADLINE) as s:
        s.sendall(b"QUIT\n")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize("accel", ACCELS)
@MACHINES
def test_published_ports(server: Path, accel: object, machine: str) -> None:
    port = free_port()
    publish = [f"-p127.0.0.1:{port}:7", f"-p127.0.0.1:{port}:7/udp"]
    name = accel.value  # type: ignore[attr-defined]
    with running(server, f"--accel={name}", f"--machine={machine}", *publish):
        where = ("127.0.0.1", port)
        data = random.Random(port).randbytes(3_000_000)
        assert echoed(where, data) == data
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(DEADLINE)
            s.sendto(b"datagram", where)
            assert s.recv(100) == b"datagram"
        stop(where)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl (apt-get install curl)")
@MACHINES
def test_user_network_reaches_ipv6(machine: str) -> None:
    """The host's loopback is the router's address in the guest."""
    curl = shutil.which("curl")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        server.settimeout(DEADLINE)
        url = f"http://[fec0::2]:{server.getsockname()[1]}/"
        line = [sys.executable, "-m", "capstan", "run", f"--machine={machine}", "--timeout=60"]
        child = subprocess.Popen(
            [*line, "--net=user", f"{curl}", "-s", url], stdout=subprocess.PIPE
        )
        peer = server.accept()[0]
        with peer:
            assert peer.recv(1000).startswith(b"GET / ")
            peer.sendall(b"HTTP/1.0 200 OK\r\n\r\nover six\n")
        assert child.communicate(timeout=DEADLINE)[0] == b"over six\n"
        assert child.returncode == 0


@has_tap
@pytest.mark.net
@MACHINES
@pytest.mark.parametrize("more", [[], ["--cpus=2"], ["--kernel-word=torture", "--cpus=2"]])
def test_tap(server: Path, machine: str, more: list[str], tmp_path: Path) -> None:
    spec = net.plan(net.NetOptions(net="tap"), (), net.host_interfaces(), b"123")
    assert spec is not None
    address = spec.ip[0].split("/", maxsplit=1)[0]
    pcap = tmp_path / "frames.pcap"
    with running(server, "--net=tap", f"--machine={machine}", f"--pcap={pcap}", *more):
        if ping := shutil.which("ping"):
            done = subprocess.run([ping, "-c3", "-i0.2", "-W5", address], check=False)
            assert done.returncode == 0
        data = random.Random(1).randbytes(20_000_000)
        assert echoed((address, 7), data) == data
        stop((address, 7))
    assert pcap.stat().st_size > 2 * len(data)


@has_tap
@pytest.mark.net
def test_an_idle_guest_burns_nothing(server: Path) -> None:
    spec = net.plan(net.NetOptions(net="tap"), (), net.host_interfaces(), b"123")
    assert spec is not None
    address = spec.ip[0].split("/", maxsplit=1)[0]
    with running(server, "--net=tap", "--accel=kvm") as child:
        assert echoed((address, 7), b"x" * 100_000) == b"x" * 100_000
        time.sleep(1)
        before = cpu_seconds(child.pid)
        time.sleep(3)
        assert cpu_seconds(child.pid) - before < 0.1  # 3 s of polling would be 3
        stop((address, 7))


def cpu_seconds(pid: int) -> float:
    """What the process's children have used."""
    used = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended
        if int(fields[1]) == pid:
            used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


def test_a_port_in_use_is_told_before_the_start(server: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = [sys.executable, "-m", "capstan", "run", f"-p127.0.0.1:{port}:7", str(server)]
        environ = {**os.environ, "CAPSTAN_ROOT": str(server.parent / "root")}
        done = subprocess.run(line, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 125
    assert f"127.0.0.1:{port}/tcp" in done.stderr and "another port" in done.stderr
