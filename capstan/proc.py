# SPDX-License-Identifier: BSD-2-Clause
"""The only place that starts other programs: argument lists, never a shell; -v shows them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from capstan import ui
from capstan.errors import CapstanError, TimeoutExpired

Stream = int | IO[bytes] | None

DEVNULL = subprocess.DEVNULL
PIPE = subprocess.PIPE
Popen = subprocess.Popen


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended; `status` is negative when a signal killed it."""

    status: int
    stdout: bytes
    stderr: bytes


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float | None = None,
) -> Done:
    """The program's status and output.

    Raises:
        CapstanError: it could not be started.
        TimeoutExpired: it ran longer than `timeout` seconds and was killed.
    """
    _show(argv)
    try:
        done = subprocess.run(
            list(argv),
            cwd=cwd,
            env=env,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise TimeoutExpired(f"{argv[0]} did not end within {timeout:g} seconds") from err
    except (OSError, ValueError) as err:
        raise _cannot_start(argv, err) from err
    return Done(done.returncode, done.stdout, done.stderr)


def run_visible(argv: Sequence[str], *, cwd: Path | None = None) -> int:
    """The status of a program whose output the user sees, all of it on stderr.

    Raises:
        CapstanError: it could not be started.
    """
    _show(argv)
    try:
        return subprocess.run(
            list(argv), cwd=cwd, stdin=DEVNULL, stdout=2, stderr=2, check=False
        ).returncode
    except (OSError, ValueError) as err:
        raise _cannot_start(argv, err) from err


def spawn(
    argv: Sequence[str],
    *,
    stdin: Stream = DEVNULL,
    stdout: Stream = None,
    stderr: Stream = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """The running program; the caller waits for it.

    Raises:
        CapstanError: it could not be started.
    """
    _show(argv)
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            pass_fds=tuple(pass_fds),
            start_new_session=new_session,
        )
    except (OSError, ValueError) as err:
        raise _cannot_start(argv, err) from err


def _show(argv: Sequence[str]) -> None:
    if ui.level() >= ui.Level.VERBOSE:
        import shlex

        ui.detail(f"starts {shlex.join(argv)}")


def _cannot_start(argv: Sequence[str], err: Exception) -> CapstanError:
    reason = os.strerror(err.errno) if isinstance(err, OSError) and err.errno else str(err)
    return CapstanError(f"cannot start {argv[0]}: {reason}", hint=f"is {argv[0]} installed?")
