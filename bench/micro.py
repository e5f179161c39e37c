#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Operating-system primitives in the guest and on the host: prints a table, with what each cost.

usage: bench/micro.py [--json FILE] [--accel kvm|tcg] [--memory SIZE] [--repeat N] [NAME...]

The same static binary (micro.c) runs on the host and, linked, in the guest with one vCPU, N times
by turns; it makes each test five times; the best counts. Beside each figure stand the guest's
events, which the guest counts itself (`capstan run --stats`): trapped calls, page faults, TLB
flushes, timer settings, interrupts and halts. On most hosts each of these is an exit, or several.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CAPSTAN = str(ROOT / ".venv" / "bin" / "capstan")
RUNS = 5
TESTS = (
    "getppid",
    "clock_gettime_vdso",
    "pipe_pingpong",
    "futex_handoff",
    "mmap_touch_munmap_4k",
    "thread_create_join",
    "mmap_touch_256MiB",
    "seqread_256MiB",
)
EVENTS = ("trapped", "page faults", "TLB flushes", "timers", "interrupts", "halts", "switches")


def figure(text: str, name: str) -> float:
    """The best value micro printed for a test."""
    found = re.search(rf"^{name}\s+best\s+([0-9.]+)", text, re.MULTILINE)
    return float(found[1]) if found else float("nan")


def counted(text: str) -> dict[str, int]:
    """The numbers of the --stats line."""
    found = re.search(r"stats: (.*)", text)
    pairs = re.findall(r"([A-Za-z ]+?) (\d+)(?:, |$)", found[1]) if found else []
    return {name.strip(): int(number) for name, number in pairs}


def run(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)


def prepare(folder: Path, memory: str) -> tuple[str, Path]:
    """The image's name and the host's program; both with the 256 MiB file beside."""
    program, data = folder / "micro", folder / "data256"
    source = ROOT / "bench" / "micro.c"
    subprocess.run(["gcc", "-O2", "-static", "-pthread", "-o", program, source], check=True)
    with data.open("wb") as out:
        for _ in range(256):
            out.write(os.urandom(1 << 20))
    capstanfile = folder / "Capstanfile"
    capstanfile.write_text(f"cmdline: [{program}]\nfiles: {{/data256: {data}}}\nmemory: {memory}\n")
    line = [CAPSTAN, "build", "-q", "-t", "bench-micro", str(folder)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    return "bench-micro", program


def better(name: str, figures: list[float]) -> float:
    """The best of some figures: nanoseconds, or MiB/s for those with a size in the name."""
    return max(figures) if "MiB" in name else min(figures)


def measure(names: list[str], accel: str, memory: str, repeat: int) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image, program = prepare(folder, memory)
        for name in names:
            line = [CAPSTAN, "run", "--stats", "--accel", accel, "-c", "1", image]
            idle = run([*line, "1", "/data256", "no-such-test"])
            on_host, in_guest = [], []
            for _ in range(repeat):
                host = run([str(program), "1", str(folder / "data256"), name])
                guest = run([*line, "1", "/data256", name])
                on_host.append(figure(host.stdout, name))
                in_guest.append(figure(guest.stdout, name))
            row = {"guest": better(name, in_guest), "host": better(name, on_host)}
            events, base = counted(guest.stderr), counted(idle.stderr)
            for event in EVENTS:
                row[event] = max(0, events.get(event, 0) - base.get(event, 0))
            row["calls"] = max(0, events.get("calls", 0) - base.get("calls", 0))
            rows[name] = row
    return rows


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--accel", default="kvm")
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("names", nargs="*", default=list(TESTS))
    options = parser.parse_args()
    rows = measure(options.names, options.accel, options.memory, options.repeat)
    print(f"best of {options.repeat} x {RUNS}; events of {RUNS} runs together, start-up taken off")
    head = f"{'':<22}{'guest':>10}{'host':>10}{'calls':>11}"
    print(head + "".join(f"{event:>13}" for event in EVENTS))
    for name, row in rows.items():
        line = f"{name:<22}{row['guest']:10.1f}{row['host']:10.1f}{row['calls']:11.0f}"
        print(line + "".join(f"{row[event]:13.0f}" for event in EVENTS))
    if options.json:
        options.json.write_text(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
