# SPDX-License-Identifier: BSD-2-Clause
"""Help for tests that start machines.

`tiny_kernel` builds the tiny guest, `fake_host` is a host whose QEMU is `fakeqemu`, `Session` is
a launcher running in a process of its own, so that tests can signal it, pull its pipes, or give
it a terminal. Run as a program, this module is that launcher.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

LIB = Path(__file__).resolve().parent
ROOT = LIB.parent.parent
if __name__ == "__main__":
    sys.path.insert(0, os.fspath(ROOT))

from capstan.errors import CapstanError  # noqa: E402
from capstan.run import machine  # noqa: E402
from capstan.run.hostcaps import HostCaps  # noqa: E402
from capstan.run.spec import Accel, RunSpec  # noqa: E402


def tiny_kernel(folder: Path) -> Path:
    """The tiny guest, built into `folder`."""
    source = LIB / "tinyguest"
    built = folder / "tiny.elf"
    made = folder / "tiny.o"
    subprocess.run(["gcc", "-c", source / "tiny.S", "-o", made], check=True)
    layout: list[str | Path] = [
        "-T",
        source / "tiny.ld",
        "--no-warn-rwx-segments",
        "-z",
        "max-page-size=4096",
    ]
    subprocess.run(["ld", "-nostdlib", "-static", *layout, made, "-o", built], check=True)
    return built


def fake_host(folder: Path) -> HostCaps:
    """A host whose QEMU is `fakeqemu`."""
    script = folder / "qemu-system-x86_64"
    if not script.exists():
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {LIB / "fakeqemu.py"} "$@"\n')
        script.chmod(0o755)
    return HostCaps(script, (7, 2, 22))


def launcher(folder: Path, *argv: str, **options: str) -> list[str]:
    """The command that runs `argv` under the fake QEMU; options as in `main`."""
    host = fake_host(folder)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    script = os.fspath(LIB / "boot.py")
    return [sys.executable, script, f"--qemu={host.qemu}", *flags, "--", *argv]


def wait_for(condition: object, seconds: float = 30.0) -> bool:
    """Whether `condition()` became true in time."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


def children(pid: int) -> list[int]:
    """The processes that `pid` started."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def state(pid: int) -> str:
    """The state letter of a process (`man 5 proc`), empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether `pid` runs (a zombie does not)."""
    return state(pid) not in ("", "Z")


def main() -> int:
    """Run a program under the QEMU given; 125 and a line on stderr for failures, as the CLI."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--qemu", type=Path, required=True)
    parser.add_argument("--kernel", type=Path, default=Path("/dev/null"))
    parser.add_argument("--disk", type=Path, default=Path("/dev/null"))
    parser.add_argument("--word", help="on the PVH command line: for the tiny guest")
    parser.add_argument("--accel", type=Accel, default=Accel.TCG)
    parser.add_argument("--fake", default="")
    parser.add_argument("--gdb")
    parser.add_argument("--quit-deadline", type=float, default=machine.QUIT_DEADLINE)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--verbose", default="")
    parser.add_argument("argv", nargs="+")
    given = parser.parse_args()
    machine.QUIT_DEADLINE = given.quit_deadline
    spec = RunSpec(
        disk=given.disk,
        kernel=given.kernel,
        argv=tuple(given.argv),
        env={"PATH": os.environ["PATH"], "FAKE": given.fake},
        gdb=given.gdb,
        timeout=given.timeout,
        grace=given.grace,
        verbose=bool(given.verbose),
        words=(given.word,) if given.word else (),
    )
    try:
        return machine.Machine(spec, HostCaps(given.qemu, (7, 2, 22)), given.accel).run()
    except CapstanError as err:
        os.write(2, f"capstan: {err.message}\n".encode())
        return err.exit_code


if __name__ == "__main__":
    sys.exit(main())
