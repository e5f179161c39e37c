#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""How long commands take to start: prints a table.

usage: bench/cli.py [--rounds N] [--imports]

Each command runs N times, all of them by turns, in a home and a store of its own with a few dozen
images; what counts is the least and the median of the wall-clock times, and beside them the least
CPU time, which other work on the machine lengthens less. Help has 150 ms, every other command 300
ms, TAB 100 ms. Commands that ask something of QEMU or of a registry are not here.
--imports: what `capstan images` imports, with the time of each module.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CAPSTAN = ROOT / ".venv" / "bin" / "capstan"
IMAGES = 40
COMMANDS = (
    ("--help", 150),
    ("help run", 300),
    ("run --help", 300),
    ("images", 300),
    ("ps", 300),
    ("ps -a", 300),
    ("inspect bench-1", 300),
    ("history bench-1", 300),
    ("system df", 300),
    ("tag bench-1 again", 300),
    ("config show --origin", 300),
    ("config set cpus 1", 300),
    ("syscalls read", 300),
    ("sdk", 300),
    ("completion bash", 300),
)
QUESTIONS = ("capstan ", "capstan run --", "capstan rmi bench-", "capstan config get ")


def main() -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(usage=__doc__.splitlines()[2].removeprefix("usage: "))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--imports", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environ = prepare(Path(folder))
        if given.imports:
            return show_imports(environ)
        rows = lines(environ)
        times = measure(rows, given.rounds)
    print(f"{'command':32} {'least':>6} {'median':>6} {'CPU':>5} {'budget':>6}   in ms")
    for name, (_, _, budget) in rows.items():
        walls = [wall * 1000 for wall, _ in times[name]]
        cpu = min(cpu for _, cpu in times[name]) * 1000
        least, median = min(walls), statistics.median(walls)
        over = "" if not budget or median <= budget else "  OVER"
        print(f"{name:32} {least:6.0f} {median:6.0f} {cpu:5.0f} {budget or '-':>6}{over}")
    return 0


def prepare(folder: Path) -> dict[str, str]:
    """The environment of a user with a settings file and a store; a program packed once."""
    environ = {**os.environ, "HOME": str(folder), "CAPSTAN_ROOT": str(folder / "store")}
    environ["CAPSTAN_CONFIG"] = str(folder / "config.toml")
    Path(environ["CAPSTAN_CONFIG"]).write_text('memory = "64M"\n')
    for number in range(IMAGES):
        line = [CAPSTAN, "build", "-q", "-t", f"bench-{number}", "/bin/true", str(number % 4)]
        subprocess.run(line, env=environ, check=True, stdout=subprocess.DEVNULL)
    return environ


def lines(environ: dict[str, str]) -> dict[str, tuple[list[str], dict[str, str], int | None]]:
    """What is measured: a name, the command, its environment, its budget."""
    rows: dict[str, tuple[list[str], dict[str, str], int | None]] = {
        "python -c pass": ([str(CAPSTAN.parent / "python"), "-c", "pass"], environ, None),
        "python -c 'import click'": (
            [str(CAPSTAN.parent / "python"), "-c", "import click"],
            environ,
            None,
        ),
    }
    for words, budget in COMMANDS:
        rows[f"capstan {words}"] = ([str(CAPSTAN), *words.split()], environ, budget)
    for question in QUESTIONS:
        asked = {**environ, "_CAPSTAN_COMPLETE": "bash_complete", "COMP_WORDS": question}
        rows[f"{question}TAB"] = ([str(CAPSTAN)], asked, 100)
    return rows


def measure(
    rows: dict[str, tuple[list[str], dict[str, str], int | None]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """The wall-clock and the CPU times of each row."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, (line, environ, _) in rows.items():
            before, start = os.times(), time.perf_counter()
            done = subprocess.run(line, env=environ, capture_output=True, text=True, check=False)
            wall, after = time.perf_counter() - start, os.times()
            if done.returncode:
                raise SystemExit(f"{name}: status {done.returncode}\n{done.stderr}")
            cpu = after.children_user - before.children_user
            cpu += after.children_system - before.children_system
            times[name].append((wall, cpu))
    return times


def show_imports(environ: dict[str, str]) -> int:
    """Print what one command imports, the dearest last."""
    line = [str(CAPSTAN.parent / "python"), "-X", "importtime", "-m", "capstan", "images"]
    done = subprocess.run(line, env=environ, capture_output=True, text=True, check=True)
    rows = [row for row in done.stderr.splitlines() if row.startswith("import time:")]
    print("\n".join(sorted(rows[1:], key=lambda row: int(row.split("|")[1]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
