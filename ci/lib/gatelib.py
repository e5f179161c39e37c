# SPDX-License-Identifier: BSD-2-Clause
"""What the gates share: the set-up, running things with a deadline, comparing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
CAPSTAN = ROOT / ".venv" / "bin" / "capstan"
CLEAN_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}


def cannot_run(reason: str) -> None:
    """End this gate with "could not run"."""
    print(f"cannot run: {reason}")
    sys.exit(2)


def setup(packages: list[str] | None = None) -> None:
    """Install what is missing and make the virtual environment; ends the gate if it cannot."""
    script = '. ci/lib/setup.sh && setup_all "$@" >&2'
    done = subprocess.run(["bash", "-c", script, "setup", *(packages or [])], cwd=ROOT, check=False)
    if done.returncode:
        cannot_run("the set-up failed (see above)")
    os.environ["CAPSTAN_ROOT"] = os.environ.get("CAPSTAN_GATE_ROOT", str(BUILD / "gate-store"))
    os.environ["CAPSTAN_CONFIG"] = os.devnull
    os.environ["PATH"] = f"{CAPSTAN.parent}:{os.environ['PATH']}"


class Result:
    """How a command ended: status (None: no end in time), bytes out, bytes err, seconds."""

    def __init__(self, status: int | None, out: bytes, err: bytes, seconds: float) -> None:
        self.status, self.out, self.err, self.seconds = status, out, err, seconds


def run(
    args: list[str],
    *,
    stdin: bytes = b"",
    timeout: float = 60,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Result:
    """Run a command to its end or its deadline."""
    start = time.monotonic()
    proc = subprocess.Popen(
        args,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    try:
        out, err = proc.communicate(stdin, timeout=timeout)
        # As a shell and capstan say it: 128 + n when signal n ended it.
        status: int | None = proc.returncode if proc.returncode >= 0 else 128 - proc.returncode
    except subprocess.TimeoutExpired:
        os.killpg(proc.pid, 9)
        out, err = proc.communicate()
        status = None
    return Result(status, out, err, time.monotonic() - start)


def tail(data: bytes, lines: int = 12) -> str:
    """The last lines of some output, indented."""
    return "\n".join("    " + s for s in data.decode(errors="replace").splitlines()[-lines:])
