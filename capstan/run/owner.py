# SPDX-License-Identifier: BSD-2-Clause
"""Locks of open files: they pass to a child with the descriptor and end with its last holder.

`fcntl`'s OFD locks (`man 2 fcntl`, "Open file description locks") and not `flock`: whether one is
held can be asked without taking it, so that a listing never stands in the way of a start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from typing import TYPE_CHECKING

from capstan.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_DEADLINE = 10.0
STEP = 0.005
_FLOCK = struct.Struct("hhqqi4x")


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock file `path`, None when somebody else does."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock file `path`."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


@contextlib.contextmanager
def locked(path: Path, what: str, deadline: float = LOCK_DEADLINE) -> Iterator[None]:
    """Hold the lock file `path`.

    Raises:
        MachineError: somebody else held it all the time; `what` says what could not be done.
    """
    end = time.monotonic() + deadline
    while (fd := try_lock(path)) is None:
        if time.monotonic() > end:
            raise MachineError(
                f"{what}: {path} has been locked for {deadline:g} seconds",
                hint=f"`fuser -v {path}` shows by whom",
            )
        time.sleep(STEP)
    try:
        yield
    finally:
        os.close(fd)
