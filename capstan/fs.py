# SPDX-License-Identifier: BSD-2-Clause
"""Writing state: whole files or none, and locks that end with the process.

Every change of a directory goes through here, so a test can stop the program before each of them
(`before`). Temporary names begin with `TEMP_PREFIX` and are locked by the process that writes
them: `sweep_temps` takes away those of dead processes only.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from capstan.errors import CapstanError

TEMP_PREFIX = ".tmp-"
LOCK_SECONDS = 120.0

before: Callable[[str, Path], None] | None = None
"""For fault injection: called with what is about to be done ("fsync", "rename"), and to what."""
raw_file: type[io.FileIO] = io.FileIO
"""For fault injection: what writes new files."""


def about_to(what: str, path: Path) -> None:
    """Tell those who want to know before something changes on the disk."""
    if before is not None:
        before(what, path)


@contextlib.contextmanager
def temp_dir(parent: Path) -> Iterator[Path]:
    """A new directory in `parent`; removed at the end unless it was renamed away."""
    parent.mkdir(parents=True, exist_ok=True)
    about_to("mkdir", parent)
    path, fd = _claimed(lambda: Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=parent)))
    try:
        yield path
    finally:
        if path.exists():
            import shutil

            shutil.rmtree(path, ignore_errors=True)
        os.close(fd)


def _claimed(make: Callable[[], Path]) -> tuple[Path, int]:
    """A temporary file or directory and the descriptor that locks it."""
    while True:
        path = make()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # somebody swept it before it was locked
        fcntl.flock(fd, fcntl.LOCK_EX)
        if path.exists():
            return path, fd
        os.close(fd)


@contextlib.contextmanager
def atomic_file(path: Path, mode: int = 0o644, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` when the block ends, and vanishes when it raises.

    Not `durable`: a power cut may leave it damaged, so who reads it checks it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    about_to("create", path)
    temp, lock = _claimed(lambda: _new_file(path.parent))
    try:
        with io.BufferedWriter(raw_file(temp, "wb")) as out:
            yield out
            out.flush()
            os.fchmod(out.fileno(), mode)
            if durable:
                sync(out, path)
        rename(temp, path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    finally:
        os.close(lock)
    if durable:
        sync_dir(path.parent)


def _new_file(folder: Path) -> Path:
    fd, name = tempfile.mkstemp(prefix=TEMP_PREFIX, dir=folder)
    os.close(fd)
    return Path(name)


def atomic_write(path: Path, data: bytes, mode: int = 0o644, *, durable: bool = True) -> None:
    """Make `data` the content of `path` in one step; on disk if it is to be `durable`."""
    with atomic_file(path, mode, durable=durable) as out:
        out.write(data)


def atomic_symlink(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target` in one step, whatever link was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about_to("create", path)
    with temp_dir(path.parent) as scratch:
        link = scratch / "link"
        link.symlink_to(target)
        rename(link, path)
    sync_dir(path.parent)


def create(path: Path) -> io.BufferedRandom:
    """The new file `path`, open to write and read."""
    about_to("create", path)
    return io.BufferedRandom(raw_file(path, "w+b"))


def rename(source: Path, target: Path) -> None:
    """Give `source` the name `target`, over a file that has it."""
    about_to("rename", target)
    source.replace(target)


def unlink(path: Path) -> None:
    """Remove a file or link, if it is there."""
    about_to("unlink", path)
    path.unlink(missing_ok=True)


def sync(file: BinaryIO, path: Path) -> None:
    """Put the content of an open file on disk; `path` is its name to be."""
    about_to("fsync", path)
    os.fsync(file.fileno())


def sync_dir(path: Path) -> None:
    """Put a directory's entries on disk."""
    about_to("fsync", path)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def discard(path: Path) -> Path:
    """Take the directory `path` out of sight in one step; `sweep_temps` removes what it returns.

    That may take long, and can be done after a lock was let go.
    """
    while True:
        gone = path.with_name(f"{TEMP_PREFIX}gone-{random.getrandbits(48):012x}")
        if not gone.exists():
            rename(path, gone)
            return gone


def sweep_temps(folder: Path) -> int:
    """Remove the temporary files and directories of dead processes in `folder`; how many."""
    count = 0
    for path in folder.glob(f"{TEMP_PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                count += _remove(path)
            finally:
                os.close(fd)
    return count


def _remove(path: Path) -> bool:
    about_to("sweep", path)
    if path.is_dir():
        import shutil

        shutil.rmtree(path)
    else:
        path.unlink()
    return True


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock file `path`, or lock a directory; the kernel lets go when the process ends.

    Raises:
        BlockingIOError: somebody else holds it and `wait` is false.
        CapstanError: somebody else held it for `seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    fd = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        if wait:
            _wait_for(fd, path, seconds)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _wait_for(fd: int, path: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    pause = 0.001
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as err:
            if time.monotonic() > end:
                raise CapstanError(
                    f"{path}: locked by another capstan for {seconds:.0f} seconds",
                    hint=f"`fuser -v {path}` shows which process that is; end it if it hangs",
                ) from err
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, 0.05)
