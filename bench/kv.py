#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""examples/kv against memcached, both in the guest: prints a table.

usage: bench/kv.py [--rounds N] [--requests N] [--accel kvm|tcg] [--machine microvm|q35]

One vCPU, a tap in a network namespace made for the run; the guest and QEMU's own thread on CPU 1,
the load (kv_load.c) on CPU 0. Both servers by turns in each round, a fresh guest each; the best
round counts, as the machine may have other work. Needs root, memcached and two CPUs.

Beside requests per second: what the guest needed from a frame's leaving the card's ring to its
next rest, notifications of the host not counted ("ring to ring", TSC cycles per request, from
`--stats`), and the CPU time of QEMU's threads on the host, per request.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CAPSTAN = str(ROOT / ".venv" / "bin" / "capstan")
GUEST = "10.77.0.2"  # what --net tap gives in a namespace with nothing else
PORT = "11211"
LOADS = (("set", 16), ("get", 16), ("set", 1), ("get", 1))
CONNECTIONS = "50"
DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One run."""

    rate: float
    p50: float
    cycles: float
    vcpu_ns: float
    other_ns: float


def prepare(folder: Path) -> dict[str, list[str]]:
    """Builds both programs; the command line of each server."""
    sdk = subprocess.run([CAPSTAN, "sdk"], capture_output=True, text=True, check=True)
    flags = shlex.split(sdk.stdout)
    sources = sorted((ROOT / "examples" / "kv").glob("*.c"))
    subprocess.run(["gcc", "-O2", "-o", folder / "kv", *sources, *flags, "-pthread"], check=True)
    load = ROOT / "bench" / "kv_load.c"
    subprocess.run(["gcc", "-O2", "-o", folder / "kv_load", load], check=True)
    memcached = shutil.which("memcached") or "memcached"
    plain = [memcached, "-u", "root", "-m", "64", "-t", "1", "-p", PORT, "-U", "0"]
    return {"kv": [str(folder / "kv"), "-t", "1"], "memcached": plain}


@contextmanager
def namespace() -> Iterator[str]:
    name = f"kvbench{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def cpu_times(launcher: int) -> tuple[int, int]:
    """Nanoseconds of CPU: the vCPU's thread, QEMU's others."""
    vcpu = other = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            is_ours = int(status.read_text().rsplit(")", 1)[1].split()[1]) == launcher
            for task in status.parent.glob("task/*") if is_ours else ():
                used = int((task / "schedstat").read_text().split()[0])
                if (task / "comm").read_text().startswith("CPU "):
                    vcpu += used
                else:
                    other += used
        except (OSError, IndexError):
            continue  # it has ended
    return vcpu, other


def wait_for(inside: list[str], child: subprocess.Popen[str]) -> None:
    probe = [
        sys.executable,
        "-c",
        f"import socket; socket.create_connection(('{GUEST}', {PORT}), 1)",
    ]
    end = time.monotonic() + DEADLINE
    while subprocess.run([*inside, *probe], capture_output=True, check=False).returncode:
        if time.monotonic() > end or child.poll() is not None:
            child.terminate()
            sys.exit(f"kv.py: no server at {GUEST}:{PORT}: {child.communicate()[1]}")
        time.sleep(0.1)


def measure(inside: list[str], server: list[str], load: list[str], options: list[str]) -> Figures:
    requests = int(load[-1])
    run = ["taskset", "-c", "1", CAPSTAN, "run", "-m", "1G", "--net", "tap", "--stats", *options]
    with subprocess.Popen(
        [*inside, *run, *server], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        wait_for(inside, child)
        before = cpu_times(child.pid)
        done = subprocess.run(
            [*inside, "taskset", "-c", "0", *load], capture_output=True, text=True, check=False
        )
        after = cpu_times(child.pid)
        child.terminate()
        said = child.communicate(timeout=DEADLINE)[1]
    rate = re.match(r"(\d+) requests/s, p50 (\d+)", done.stdout)
    cycles = re.search(r"network cycles (\d+)", said)
    if rate is None or cycles is None:
        sys.exit(f"kv.py: {server[0]}: {done.stderr}{said}")
    vcpu, other = ((b - a) / requests for a, b in zip(before, after, strict=True))
    return Figures(float(rate[1]), float(rate[2]), int(cycles[1]) / requests, vcpu, other)


def best(runs: list[Figures]) -> Figures:
    """The best of each figure."""
    return Figures(
        max(r.rate for r in runs),
        *(min(getattr(r, name) for r in runs) for name in ("p50", "cycles", "vcpu_ns", "other_ns")),
    )


def show(name: str, f: Figures) -> None:
    print(
        f"  {name:10} {f.rate:10,.0f}/s  p50 {f.p50:6,.0f} us  ring to ring {f.cycles:7,.0f} cycles"
        f"  host CPU {f.vcpu_ns:6,.0f} + {f.other_ns:5,.0f} ns",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(usage=(__doc__ or "").split("usage: ")[1].split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=640_000)
    parser.add_argument("--accel", default="kvm")
    parser.add_argument("--machine", default="microvm")
    given = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("memcached") is None or (os.cpu_count() or 1) < 2:
        sys.exit("kv.py: needs root, memcached (apt-get install memcached) and two CPUs")
    options = [f"--accel={given.accel}", f"--machine={given.machine}"]
    with tempfile.TemporaryDirectory() as temporary, namespace() as name:
        folder = Path(temporary)
        os.environ["CAPSTAN_ROOT"] = str(folder / "root")
        servers = prepare(folder)
        inside = ["ip", "netns", "exec", name]
        for verb, depth in LOADS:
            requests = str(given.requests if depth > 1 else given.requests // 10)
            what = [GUEST, PORT, verb, CONNECTIONS, str(depth), requests]
            load = [str(folder / "kv_load"), *what]
            runs: dict[str, list[Figures]] = {server: [] for server in servers}
            print(f"{verb}, {depth} on the way in each of {CONNECTIONS} connections", flush=True)
            for _ in range(given.rounds):
                for server, line in servers.items():
                    runs[server].append(measure(inside, line, load, options))
            for server in servers:
                show(server, best(runs[server]))
            a, b = best(runs["kv"]), best(runs["memcached"])
            ratios = a.rate / b.rate, a.cycles / b.cycles
            print("  kv: {:.2f} x the requests, {:.2f} x the cycles".format(*ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
