# SPDX-License-Identifier: BSD-2-Clause
"""Guests under load: starting them, loading them, and what they hold in memory.

Everything runs inside one network namespace (see `namespace`), where each guest has a tap of its
own: guest n is 10.98.n.2 (0 runs nginx, 1 redis), the host has 10.98.n.1 and a few addresses more,
to connect from.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
SOURCES = (1, *range(10, 17))
PROBE_PORT = 7070
START_DEADLINE = 60.0
STEP_DEADLINE = 300.0
NGINX = ["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf", "-e", "stderr"]
REDIS = [
    "/usr/bin/redis-server", "--port", "6379", "--bind", "0.0.0.0", "--protected-mode", "no",
    "--save", "", "--appendonly", "no", "--maxclients", "30000", "--tcp-backlog", "8192",
]  # fmt: skip
FILES = {"small": 200, "medium": 5000, "large": 100_000}
STOPPED_MS = 3000  # a host gives up on a neighbour that is stopped for so long
OPENED_PER_PROCESS = 9000  # a load's connections; containers often allow 20,000 files or fewer


class SoakError(Exception):
    """The guest or a load did what it must not."""


class Disturbed(SoakError):
    """Something went wrong, and the machine had stopped us or the guest for long."""


# --- the host's side ---


def build(folder: Path) -> None:
    """The load generator, the preloaded library and the served files, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [str(HERE / f"{name}.c") for name in ("load", "conn", "http", "redis", "gaps")]
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    for line in (
        ["gcc", *flags, "-o", str(folder / "load"), *sources],
        ["gcc", *flags, "-shared", "-fPIC", "-o", str(folder / "probe.so"), str(HERE / "probe.c")],
    ):
        subprocess.run(line, check=True)
    (folder / "srv").mkdir(exist_ok=True)
    for number, (name, size) in enumerate(FILES.items()):
        pattern = bytes((i * 7 + number * 31 + i // 251) % 26 + 97 for i in range(size))
        (folder / "srv" / name).write_bytes(pattern)


def build_images(capstan: Path, folder: Path) -> None:
    """The images soak-nginx and soak-redis."""
    for name, command in (("nginx", NGINX), ("redis", REDIS)):
        place = folder / name
        place.mkdir(exist_ok=True)
        files = {"/app/probe.so": str(folder / "probe.so"), command[0]: command[0]}
        if name == "nginx":
            files |= {"/etc/nginx/nginx.conf": str(HERE / "nginx.conf")}
            files |= {"/srv": str(folder / "srv")}
        text = {
            "cmdline": command,
            "files": files,
            "env": {"LD_PRELOAD": "/app/probe.so", "SOAK_PORT": str(PROBE_PORT)},
        }
        (place / "Capstanfile").write_text(json.dumps(text))  # JSON is YAML
        subprocess.run([capstan, "build", "-q", "-t", f"soak-{name}:1", place], check=True)


@contextlib.contextmanager
def namespace(name: str, taps: int, *, queues: bool = False) -> Iterator[str]:
    """A network namespace of our own with `taps` interfaces, tap0 and so on."""

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        for n in range(taps):
            more = ["multi_queue", "vnet_hdr"] if queues else []
            ip("-n", name, "tuntap", "add", f"tap{n}", "mode", "tap", *more)
            for last in SOURCES:
                ip("-n", name, "addr", "add", f"10.98.{n}.{last}/24", "dev", f"tap{n}")
            # A burst of 9,000 connections that end must not overflow the host's side of the tap:
            # that would be a loss on the wire, and cost a lost SYN a second.
            ip("-n", name, "link", "set", f"tap{n}", "txqueuelen", "20000", "up")
        for setting in ("tcp_tw_reuse=1", "ip_local_port_range=1024 65535"):
            subprocess.run(
                ["ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv4.{setting}"], check=True
            )
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


# --- guests ---


@dataclass
class Guest:
    """A running guest, `number` says which tap and addresses it has."""

    number: int
    child: subprocess.Popen[bytes]
    log: Path

    def serves(self) -> bool:
        """Whether the server answers, not only the library in it."""
        port, question = (6379, b"PING\r\n") if self.number == 1 else (80, b"GET /small\r\n")
        try:
            with socket.create_connection((self.address, port), 2.0) as s:
                s.settimeout(10.0)
                s.sendall(question)
                return bool(s.recv(100))
        except OSError:
            return False

    @property
    def address(self) -> str:
        """Its address."""
        return f"10.98.{self.number}.2"

    def ask(self, line: str, deadline: float = 20.0) -> str:
        """What the preloaded library answers."""
        end = time.monotonic() + deadline
        with socket.create_connection((self.address, PROBE_PORT), deadline) as s:
            s.sendall(line.encode() + b"\n")
            got = b""
            while some := s.recv(1 << 16):
                got += some
                s.settimeout(max(0.1, end - time.monotonic()))
        if got.startswith(b"probe: "):
            raise SoakError(got.decode().strip())
        return got.decode()

    def qemu(self) -> list[int]:
        """The process that runs it."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [int(word) for word in children.read_text().split()][:1]

    def check_alive(self) -> None:
        """Raise when it has ended."""
        if self.child.poll() is not None:
            raise SoakError(f"the guest ended with {self.child.returncode}: {self.tail()}")

    def tail(self) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def stop(self) -> str:
        """End it in an orderly way; its --stats line."""
        with contextlib.suppress(OSError):
            self.ask("quit")
        try:
            status = self.child.wait(30)
        except subprocess.TimeoutExpired as err:
            raise SoakError(f"the guest does not end when told to: {self.tail()}") from err
        if status != 0:
            raise SoakError(f"the guest ended with status {status}: {self.tail()}")
        lines = self.log.read_text(errors="replace").splitlines()
        return next((s for s in reversed(lines) if "stats:" in s), "")


@contextlib.contextmanager
def guest(capstan: Path, image: str, number: int, log: Path, *options: str) -> Iterator[Guest]:
    """A guest that answers."""
    line = [str(capstan), "run", "--stats", f"--net=tap=tap{number}", f"--ip=10.98.{number}.2/24"]
    with log.open("wb") as out:
        child = subprocess.Popen(
            [*line, *options, f"soak-{image}:1"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        it = Guest(number, child, log)
        try:
            end = time.monotonic() + START_DEADLINE
            while True:
                it.check_alive()
                if it.serves():
                    break
                if time.monotonic() > end:
                    raise SoakError(f"the guest does not answer: {it.tail()}")
                time.sleep(0.1)
            yield it
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(20)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


# --- memory ---


@dataclass(frozen=True)
class Memory:
    """What a guest holds: /proc/meminfo, /proc/slabinfo, /proc/net/capstan."""

    used_kb: int  # MemTotal - MemFree
    program_kb: int  # AnonPages: the program's own
    slabs: dict[str, int]  # objects in use by size
    net: dict[str, int]

    @property
    def kernel_kb(self) -> int:
        """What is neither free nor the program's nor an idle frame of the network."""
        return self.used_kb - self.program_kb - self.net["frame_bytes_pooled"] // 1024

    @property
    def frames(self) -> int:
        """Bytes of frames in use."""
        return self.net["frame_bytes"] - self.net["frame_bytes_pooled"]


def memory(of: Guest) -> Memory:
    """What the guest holds now."""
    rows = [line.split() for line in of.ask("get /proc/meminfo").splitlines()]
    info = {row[0].rstrip(":"): int(row[1]) for row in rows}
    slabs = [line.split() for line in of.ask("get /proc/slabinfo").splitlines()[2:]]
    if not slabs:
        raise SoakError("/proc/slabinfo is empty")
    net = [line.split() for line in of.ask("get /proc/net/capstan").splitlines()]
    return Memory(
        info["MemTotal"] - info["MemFree"],
        info["AnonPages"],
        {row[0]: int(row[1]) for row in slabs},
        {row[0]: int(row[1]) for row in net},
    )


QUESTIONS = 3  # of `memory`; each leaves the guest a record for a minute


def drain(of: Guest, seconds: float) -> None:
    """Wait until no connection waits for old segments, but those of our own questions."""
    end = time.monotonic() + seconds
    own = 2
    time.sleep(seconds * 0.6)
    while (left := memory(of).net["tcp_time_wait"]) > own:
        if time.monotonic() > end:
            raise SoakError(f"{left} connections in TIME_WAIT after {seconds:.0f} s, {own} of ours")
        own += QUESTIONS
        time.sleep(5)


def wait_idle(of: Guest, seconds: float) -> float:
    """Wait until nobody but us is connected; how many seconds it took.

    A server that loses 20,000 clients at once is busy with freeing them and answers nobody: redis
    for 1.5 s on Linux too. That is no stall of the network.
    """
    start = time.monotonic()
    left = "unknown how many"
    while time.monotonic() < start + seconds:
        with contextlib.suppress(OSError):  # a guest short of memory may refuse the question too
            count = memory(of).net["tcp_conns"]
            if count <= 3:
                return time.monotonic() - start
            left = str(count)
        of.check_alive()
        time.sleep(0.1)
    raise SoakError(f"{left} connections are still there after {seconds:.0f} s")


# Small differences are no leak: names and inodes that stay cached, slabs that are half full.
SLAB_OBJECTS = 48
KERNEL_KB = 768
# The whole table: records that were used again stay in it until their time.
TIME_WAIT_KB = 131072 * 64 // 1024 + 128
FRAME_BYTES = 16 * 2048


def compare(before: Memory, after: Memory) -> list[str]:
    """What there is more of than before; records in TIME_WAIT are allowed for."""
    waits = after.net["tcp_time_wait"] > before.net["tcp_time_wait"]
    waiting_kb = TIME_WAIT_KB if waits else 0
    wrong = [
        f"{name}: {before.slabs[name]} objects before, {now} after"
        for name, now in after.slabs.items()
        if name != "kmalloc-2048" and now > before.slabs[name] + SLAB_OBJECTS
    ]
    if after.frames > before.frames + FRAME_BYTES:
        wrong.append(f"frames: {before.frames} bytes before, {after.frames} after")
    if after.kernel_kb > before.kernel_kb + KERNEL_KB + waiting_kb:
        wrong.append(f"kernel: {before.kernel_kb} kB before, {after.kernel_kb} after")
    for name in ("tcp_conns", "tcp_half_open"):
        if after.net[name] > before.net[name] + 1:  # the question itself
            wrong.append(f"{name}: {before.net[name]} before, {after.net[name]} after")
    return wrong


# --- loads ---


@dataclass
class Report:
    """One object that a load printed."""

    step: str
    done: int
    errors: int
    stalls: int
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    max_net_ms: float
    gap_ms: float
    kinds: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.done} requests, {self.rate:.0f}/s, {self.errors} errors {self.kinds or ''}, "
            f"p50 {self.p50_ms:.1f} p99 {self.p99_ms:.1f} max {self.max_ms:.0f} ms (net of gaps "
            f"{self.max_net_ms:.0f}; longest gap {self.gap_ms:.0f})"
        )


def _report(line: str) -> Report:
    values = json.loads(line)
    return Report(**{name: values[name] for name in Report.__dataclass_fields__})


class Load:
    """A load generator at work."""

    def __init__(self, folder: Path, of: Guest, *words: str, redis: bool = False) -> None:
        line = [str(folder / "load"), of.address, "6379" if redis else "80", *words]
        line += [f"source=10.98.{of.number}.{last}" for last in SOURCES]
        line += [f"watch={pid}" for pid in of.qemu()]
        if not redis:
            line += [f"file={name}={folder / 'srv' / name}" for name in FILES]
        self.words = words
        self.child = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def _pipe(self) -> IO[str]:
        assert self.child.stdin is not None
        return self.child.stdin

    def step(self) -> tuple[int, Report]:
        """mode=hold: the connections open and the report of the next step."""
        assert self.child.stdout is not None
        killer = threading.Timer(STEP_DEADLINE, self.child.kill)
        killer.start()
        held = self.child.stdout.readline()
        report = self.child.stdout.readline()
        killer.cancel()
        if not report:
            raise SoakError(f"load {' '.join(self.words)} ended: {self.errors()}")
        return int(json.loads(held)["held"]), _report(report)

    def again(self) -> None:
        """mode=hold: ask on each connection once more."""
        self._pipe().write("check\n")
        self._pipe().flush()

    def errors(self) -> str:
        """What it says of errors; it has ended."""
        assert self.child.stderr is not None
        return self.child.stderr.read()

    def end(self, timeout: float) -> Report:
        """Its report.

        Raises:
            SoakError: errors or stalls, or no end.
        """
        try:
            out, err = self.child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.communicate()
            raise SoakError(f"load {' '.join(self.words)} has no end") from None
        if not out.strip():
            raise SoakError(f"load {' '.join(self.words)}: status {self.child.returncode}: {err}")
        report = _report(out.strip().splitlines()[-1])
        if self.child.returncode != 0 or not report.done:
            kind = Disturbed if report.gap_ms > STOPPED_MS else SoakError
            raise kind(f"load {' '.join(self.words)}: {report}; {report.stalls} stalls\n{err}")
        return report


def hold(folder: Path, of: Guest, count: int, *words: str, redis: bool = False) -> list[Load]:
    """Loads that keep `count` connections open, which must all be there."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = OPENED_PER_PROCESS if hard == resource.RLIM_INFINITY else hard - 200
    each = min(most, OPENED_PER_PROCESS)
    loads = []
    for first in range(0, count, each):
        n = min(each, count - first)
        loads.append(Load(folder, of, "mode=hold", f"slots={n}", *words, redis=redis))
    return loads


def held(loads: list[Load]) -> int:
    """How many connections they hold after the step they are at."""
    return sum(load.step()[0] for load in loads)


def lost(number: int) -> int:
    """Frames for guest `number` that the host dropped because the tap's queue was full."""
    return int(Path(f"/sys/class/net/tap{number}/statistics/tx_dropped").read_text())


def is_possible() -> str:
    """Why no soak test can run here; empty: it can."""
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.W_OK):
        return "a tap needs root and /dev/net/tun"
    if not os.access("/dev/kvm", os.W_OK):
        return "/dev/kvm cannot be used"
    name = f"soakprobe{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        return "no network namespace can be made (ip netns add)"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""
