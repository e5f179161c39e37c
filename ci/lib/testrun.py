# SPDX-License-Identifier: BSD-2-Clause
"""The steps of ci/test after the set-up: each runs to its end, then a table and one line in all.

A pytest skip because a tool is missing counts as a failure here: the set-up installs all of them.
A gate that could not run counts as a failure unless it says that it belongs to --long.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

TOP = Path(__file__).resolve().parents[2]
LOGS = TOP / "build" / "test"
PYTHON = str(TOP / ".venv" / "bin" / "python")
JOBS = f"-j{os.cpu_count() or 1}"
MISSING_TOOL = re.compile(r"needs |no gdb|no QEMU|not installed")
GATE_ROW = re.compile(r"^(\d\d-\d+-\S+) +(good|BROKEN|not run) +[\d.]+ +(.*)$", re.MULTILINE)


@dataclass
class Step:
    """One line of the table."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def run(argv: list[str], log: Path, deadline: float) -> int:
    """The status of a command, its output on the terminal and in `log`; 124: no end in time."""
    tee = subprocess.Popen(["tee", str(log)], stdin=subprocess.PIPE)
    assert tee.stdin is not None
    child = subprocess.Popen(
        argv,
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stdout=tee.stdin,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        status = child.wait(deadline)
    except subprocess.TimeoutExpired:
        status = 124
    # What it left behind would keep the pipe open.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    tee.stdin.close()
    tee.wait()
    return status


def command(step: Step, argv: list[str], deadline: float) -> None:
    """A step that is one thing: good or not."""
    status = run(argv, LOGS / f"{step.name.replace(' ', '-')}.log", deadline)
    step.passed, step.failed = (1, 0) if status == 0 else (0, 1)
    if status:
        step.notes.append(f"status {status}: {' '.join(argv)}")


def tests(step: Step, folder: str, deadline: float, *more: str) -> None:
    """A step of pytest; `more`: options of its own."""
    report = LOGS / f"{step.name.replace(' ', '-')}.xml"
    report.unlink(missing_ok=True)
    options = ["-rs", "--continue-on-collection-errors", f"--junitxml={report}", *more]
    argv = [PYTHON, "-m", "pytest", *options, folder]
    status = run(argv, report.with_suffix(".log"), deadline)
    if not report.is_file():
        step.failed = 1
        step.notes.append(f"pytest {folder} ended with status {status} and no report")
        return
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            step.failed += 1
            step.notes.append(name)
        elif skip is not None and MISSING_TOOL.search(skip.get("message") or ""):
            step.failed += 1
            step.notes.append(f"{name}: skipped: {skip.get('message')}")
        elif skip is not None:
            step.skipped += 1
        else:
            step.passed += 1
    if status and not step.failed:
        step.failed = 1
        step.notes.append(f"pytest {folder}: status {status}")


def gates(step: Step, is_long: bool, deadline: float) -> None:
    """The step of ci/gates/run, which prints a table of its own."""
    log = LOGS / "gates.log"
    argv = [str(TOP / "ci" / "gates" / "run"), *(["--long"] if is_long else [])]
    status = run(argv, log, deadline)
    for name, result, figure in GATE_ROW.findall(log.read_text(errors="replace")):
        if result == "good":
            step.passed += 1
        elif result == "not run" and "--long" in figure:
            step.skipped += 1
        else:
            step.failed += 1
            step.notes.append(f"{name}: {result}: {figure}")
    if not step.passed + step.failed or (status not in (0, 2) and not step.failed):
        step.failed += 1
        step.notes.append(f"ci/gates/run: status {status}")


def main() -> int:
    """Run everything; 1 when something failed."""
    is_long = "--long" in sys.argv[1:]
    LOGS.mkdir(parents=True, exist_ok=True)
    guest = ["make", "-s", JOBS, "-C", "guest"]
    steps: list[tuple[str, Callable[[Step], None]]] = [
        ("guest", lambda step: command(step, guest, 300)),
        ("guest DEBUG=1", lambda step: command(step, [*guest, "DEBUG=1"], 300)),
        ("unit tests", lambda step: tests(step, "tests/unit", 600, "-n", "auto")),
        (
            "guest code on the host",
            lambda step: command(
                step, ["make", "-s", JOBS, "-C", "tests/guest_host", "check"], 900
            ),
        ),
        # by file: those that use a tap know its address beforehand, so they take turns. Groups
        # of pytest-xdist 3.8 have no effect with pytest 9.2: it sets _nodeid, which nobody reads.
        ("boot tests", lambda step: tests(step, "tests/boot", 600, "-n2", "--dist=loadfile")),
    ]
    if "--no-gates" not in sys.argv[1:]:
        deadline = 12 * 3600 if is_long else 1800
        steps.append(("gates", lambda step: gates(step, is_long, deadline)))
    done = []
    for name, act in steps:
        print(f"\n##### {name}", flush=True)
        step = Step(name)
        start = time.monotonic()
        act(step)
        step.seconds = time.monotonic() - start
        done.append(step)
    return summary(done)


def summary(done: list[Step]) -> int:
    """Print the table and the last line; the exit status."""
    print(f"\n{'step':<24} {'passed':>6} {'failed':>6} {'skipped':>7} {'s':>7}")
    for step in done:
        row = f"{step.passed:>6} {step.failed:>6} {step.skipped:>7} {step.seconds:>7.1f}"
        print(f"{step.name:<24} {row}")
    for step in done:
        for note in step.notes:
            print(f"FAILED {step.name}: {note}")
    failed = sum(step.failed for step in done)
    line = f"{sum(step.passed for step in done)} passed, {failed} failed"
    if skipped := sum(step.skipped for step in done):
        line += f", {skipped} skipped"
    print(f"{line} in {sum(step.seconds for step in done):.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
