# SPDX-License-Identifier: BSD-2-Clause
"""The bytes of files, each once, as plain files named by their digest.

    files/AB/CDEF...      content with this SHA-256; a sparse file's has `-PARTS` behind it
    layers/DIGEST.json    the entries of an unpacked layer (`layers.py`)
    tmp/                  being written, in a folder of each process
    apt/                  packages and the state of apt (`debs.py`)

Rules: a file appears by a rename, complete; it is never changed. Any number of processes may fill
one folder. A file that is gone or has a wrong size (after a power cut) is unpacked again. Blocks of
zeros become holes, so that a file of zeros takes no room.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from capstan import fs
from capstan.errors import BuildError

SMALL = 1 << 20
TMP = "tmp"
_HOLE = 1 << 16
_ZEROS = bytes(_HOLE)
Pieces = Iterable[tuple[int, bytes]]


class Contents:
    """The folder `root`, made when something is put into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layers = root / "layers"
        self._files = os.fspath(root / "files")
        self._made: set[str] = set()
        self._stack = contextlib.ExitStack()
        self._scratch: Path | None = None

    def __enter__(self) -> Self:
        """Itself; temporary files go at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the temporary files."""
        self._scratch = None
        self._stack.close()

    def path(self, name: str) -> Path:
        """Where the content `name` is, or would be."""
        return Path(self._place(name))

    def _place(self, name: str) -> str:
        return f"{self._files}/{name[:2]}/{name[2:]}"

    def name_of(self, path: Path) -> str:
        """The name of the content in the file `path`."""
        return path.parent.name + path.name

    def facts(self, name: str, size: int) -> os.stat_result | None:
        """What `lstat` says of a content, None when it is not there as it should be."""
        try:
            status = os.lstat(self._place(name))
        except OSError:
            return None
        return status if stat.S_ISREG(status.st_mode) and status.st_size == size else None

    def put(self, pieces: Pieces, size: int, parts: list[tuple[int, int]] | None) -> str:
        """The name under which the `size` bytes in `pieces` are kept; the rest are holes.

        Raises:
            BuildError: no room.
        """
        with self._explained():
            if size <= SMALL and parts is None:
                data = b"".join(piece for _, piece in pieces)
                name = hashlib.sha256(data).hexdigest()
                if self.facts(name, size) is None:
                    self._write([(0, data)], size, name, None)
                return name
            return self._write(pieces, size, None, parts)

    def scratch(self) -> Path:
        """The folder for temporary files of this process, made if it is missing."""
        if self._scratch is None:
            fs.sweep_temps(self.root / TMP)
            self._scratch = self._stack.enter_context(fs.temp_dir(self.root / TMP))
        return self._scratch

    def _write(
        self, pieces: Pieces, size: int, name: str | None, parts: list[tuple[int, int]] | None
    ) -> str:
        fd, temp = tempfile.mkstemp(dir=self.scratch())
        try:
            try:
                digest = _fill(fd, pieces, size)
            finally:
                os.close(fd)
            if name is None:
                name = digest
                if parts is not None:
                    shape = hashlib.sha256(repr((size, parts)).encode()).hexdigest()
                    name = f"{digest}-{shape[:16]}"
            place = self.path(name)
            if place.parent.name not in self._made:
                place.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(place.parent.name)
            Path(temp).rename(place)
        except BaseException:
            Path(temp).unlink(missing_ok=True)
            raise
        return name

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            no_room = err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise BuildError(
                f"{self.root}: {os.strerror(err.errno or 0)}",
                hint="files of container images are unpacked there: make room"
                if no_room
                else "files of container images are unpacked there",
            ) from err


def _fill(fd: int, pieces: Pieces, size: int) -> str:
    """Write the pieces, leaving out zeros; the digest of what they hold."""
    digest = hashlib.sha256()
    os.ftruncate(fd, size)
    for start, data in pieces:
        digest.update(data)
        for at in range(0, len(data), _HOLE):
            block = data[at : at + _HOLE]
            if not _ZEROS.startswith(block):
                os.pwrite(fd, block, start + at)
    return digest.hexdigest()
