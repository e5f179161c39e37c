# SPDX-License-Identifier: BSD-2-Clause
"""Who needs an image: files in `objects/SHA256/.holds/` that keep the object from being removed.

Two kinds, both undone by a crash without anybody's help:
- a *hold* lasts while a descriptor is open (the file is locked with flock, so a process that
  inherited the descriptor holds on, too);
- a *pin* lasts while a path exists, such as the directory of an instance that is not running.

They are made, and looked at, under the lock of the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from capstan import fs

FOLDER = ".holds"
_PIN = "pin-"


class Hold:
    """An image that cannot be removed until `close`; also the value of a `with` block."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """The descriptor to pass on to a process that shall hold the image as well."""
        return self._fd

    def close(self) -> None:
        """Let go; a process that inherited the descriptor still holds the image."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


def hold(place: Path, owner: str) -> Hold:
    """A new hold on the object in `place`; `owner` is named when somebody wants to remove it."""
    folder = place / FOLDER
    fs.about_to("create", folder)
    folder.mkdir(exist_ok=True)
    owners(place)  # those of dead processes do not pile up
    fd, _ = tempfile.mkstemp(prefix="hold-", dir=folder)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, json.dumps({"owner": owner}).encode())
    return Hold(fd)


def pin(place: Path, owner: str, path: Path) -> None:
    """Keep the object in `place` as long as `path` exists; again for the same path: once."""
    record = {"owner": owner, "path": os.fspath(path)}
    key = hashlib.sha256(os.fsencode(path)).hexdigest()
    fs.atomic_write(place / FOLDER / f"{_PIN}{key[:32]}", json.dumps(record).encode())


def owners(place: Path) -> list[str]:
    """Who needs the object in `place`; what nobody needs any more is removed."""
    found = []
    for path in sorted((place / FOLDER).glob("*")):
        if path.name.startswith(fs.TEMP_PREFIX):
            continue
        owner = _owner(path)
        if owner is None:
            fs.unlink(path)
        else:
            found.append(owner)
    return found


def _owner(path: Path) -> str | None:
    """Who holds with the file `path`, None when it is left over."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        record: Any = None
        with contextlib.suppress(ValueError):
            record = json.loads(os.read(fd, 65536))
        record = record if isinstance(record, dict) else {}
        owner = str(record.get("owner") or "a running process")
        if path.name.startswith(_PIN):
            return owner if os.path.lexists(str(record.get("path", ""))) else None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return owner
        return None
    finally:
        os.close(fd)
