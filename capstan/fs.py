# SPDX-License-Identifier: BSD-2-Clause
"""Writing state: whole files or none, and locks that end with the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

TEMP_PREFIX = ".tmp-"


@contextlib.contextmanager
def temp_dir(parent: Path) -> Iterator[Path]:
    """A new directory in `parent`; removed at the end unless it was renamed away."""
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=parent))
    try:
        yield path
    finally:
        if path.exists():
            import shutil

            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` when the block ends, and vanishes when it raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=TEMP_PREFIX, dir=path.parent)
    temp = Path(name)
    try:
        with os.fdopen(fd, "wb") as out:
            yield out
            out.flush()
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


def atomic_write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Make `data` the content of `path`, on disk and in one step."""
    with atomic_file(path, mode) as out:
        out.write(data)


def atomic_symlink(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target` in one step, whatever link was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temp_dir(path.parent) as scratch:
        link = scratch / "link"
        link.symlink_to(target)
        link.replace(path)
    sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Put a directory's entries on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`; the kernel lets go of it when the process ends.

    Raises:
        BlockingIOError: somebody else holds it and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(fd)
