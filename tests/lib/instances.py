# SPDX-License-Identifier: BSD-2-Clause
"""Driving instances through the command line, for the gate and the boot tests."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIB = Path(__file__).resolve().parent
ROOT = LIB.parent.parent
PROGRAM = ROOT / "tests" / "apps" / "instance.c"
DEADLINE = 120.0
STEP = 0.02


class Broken(Exception):
    """Not as it should be."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


class Host:
    """One store with the test program as image `instance`."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = python
        self.env = {**os.environ, "CAPSTAN_ROOT": str(folder / "root"), "HOME": str(folder)}

    def build(self) -> None:
        """Compile the program and make the image."""
        self.folder.mkdir(parents=True, exist_ok=True)
        program = self.folder / "instance"
        subprocess.run(["gcc", "-O2", "-o", program, PROGRAM], check=True)
        self.run("build", "-q", "-t", "instance", str(program))
        self.run("run", "instance", "count", "1", "0")  # the host is looked at once

    def line(self, *args: str) -> list[str]:
        """The command line of `capstan ARGS`."""
        return [self.python, "-m", "capstan", *args]

    def call(self, *args: str, deadline: float = DEADLINE, killed_at: Sequence[str] = ()) -> Done:
        """`capstan ARGS`, or what `killat` makes of it."""
        line = self.line(*args)
        if killed_at:
            line = [self.python, os.fspath(LIB / "killat.py"), *killed_at, *args]
        done = subprocess.run(
            line,
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadline,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace"))

    def run(self, *args: str, deadline: float = DEADLINE) -> str:
        """What it printed on stdout; it must succeed."""
        done = self.call(*args, deadline=deadline)
        expect(done.status == 0, f"capstan {' '.join(args)}: {done.status}: {done.err}")
        return done.out

    def rows(self) -> dict[str, dict[str, Any]]:
        """`ps -a` by name."""
        return {row["name"]: row for row in json.loads(self.run("ps", "-a", "--format", "json"))}

    def inspect(self, name: str) -> dict[str, Any]:
        """All about one instance."""
        found: dict[str, Any] = json.loads(self.run("inspect", "--type", "instance", name))
        return found

    def folder_of(self, name: str) -> Path:
        """Its directory."""
        return Path(self.inspect(name)["directory"])

    def record(self, folder: Path) -> dict[str, Any]:
        """Its state on disk, without a command that would repair it."""
        found: dict[str, Any] = json.loads((folder / "state.json").read_bytes())
        return found

    def clear(self) -> None:
        """Remove all instances."""
        if names := list(self.rows()):
            self.run("rm", "-f", *names)


def expect(condition: object, what: str) -> None:
    """Raise `Broken` with `what` unless the condition holds."""
    if not condition:
        raise Broken(what)


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> Any:
    """The first true value of `condition()`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise Broken(f"{what}: not within {seconds:g} s")
        time.sleep(STEP)
    return value


def answer(port: int, seconds: float = 20.0) -> str:
    """What the server behind a port of this host says, once it listens."""

    def ask() -> str:
        try:
            return ask_once(port, seconds)
        except ConnectionError:  # QEMU took the connection, the guest did not
            return ""

    return str(until(ask, f"an answer on port {port}", seconds))


def ask_once(port: int, seconds: float) -> str:
    """What the server says; empty when it does not listen yet."""
    with socket.create_connection(("127.0.0.1", port), seconds) as s:
        s.settimeout(seconds)
        data = b""
        while more := s.recv(100):
            data += more
    return data.decode()


def free_ports(count: int) -> list[int]:
    """Ports nobody has now."""
    held = [socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("0.0.0.0", 0))
    ports = [int(s.getsockname()[1]) for s in held]
    for s in held:
        s.close()
    return ports


def pss(pid: int) -> int:
    """The proportional share of memory of a process, in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss: *(\d+) kB", text, re.MULTILINE)
    if not found:
        raise Broken(f"process {pid} has no PSS: {text!r}")
    return int(found[1]) << 10


def kill(pid: int) -> None:
    """`kill -9`."""
    os.kill(pid, signal.SIGKILL)


def numbers(text: str) -> list[int]:
    """The N of all lines "line N"; anything else is an error."""
    found = [re.fullmatch(r"line (\d+)", line) for line in text.splitlines()]
    bad = [line for line, ok in zip(text.splitlines(), found, strict=True) if not ok]
    expect(not bad, f"{len(bad)} lines are damaged, the first: {bad[:1]}")
    return [int(match[1]) for match in found if match]
