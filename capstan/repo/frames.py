# SPDX-License-Identifier: BSD-2-Clause
"""An image cut into frames: pieces of the disk file that versions of an image share.

A frame is a list of places in the disk file; its content is what stands there, one after the
other, so it does not say where it lies: the same files give the same frames wherever the pool's
writer put them. Cuts are at the ends of files; a large file is cut every `PIECE` bytes of its
content. Whether there is a cut behind a small file is decided by its content, so that a change
moves only the cuts close to it. What is no file's data (labels, header, manifest, the pool's
metadata) and the kernel have frames of their own. Zeros between are not sent.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan import manifest
from capstan.errors import ImageError
from capstan.extents import Block, FileBlocks, data_ranges

SECTOR = 4096
PIECE = 1 << 20  # of a file's content
GROUP = 128 << 10  # of small files, on average; four times that at most
_ZERO = bytes(SECTOR)
Run = tuple[int, int]
"""(byte of the disk file, length)"""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; `blocks` is empty when it is not a file's data."""

    kind: str  # data, meta, kernel
    runs: tuple[Run, ...]
    blocks: tuple[Block, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of its content."""
        return sum(length for _, length in self.runs)


def cut(disk: Path, files: Sequence[FileBlocks]) -> Sequence[Frame]:
    """All frames of the image `disk`, whose files are where `files` says.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        with disk.open("rb", buffering=0) as file:
            fd = file.fileno()
            size = os.fstat(fd).st_size
            data = [_data_frame(blocks) for blocks in _groups(fd, files)]
            taken = sorted(run for frame in data for run in frame.runs)
            kernel: list[Run] = []
            rest: list[Run] = []
            for start, end in _between(taken, size):
                for run in _used(fd, start, end):
                    is_kernel = manifest.KERNEL_OFFSET <= run[0] < _KERNEL_END
                    (kernel if is_kernel else rest).append(run)
    except OSError as err:
        raise ImageError(f"{disk}: {err.strerror}", hint="build or pull the image again") from err
    frames = [Frame("kernel", part) for part in _portions(kernel)]
    return [*frames, *(Frame("meta", part) for part in _portions(rest)), *data]


def read(fd: int, frame: Frame) -> bytes:
    """The content of a frame."""
    return b"".join(_read(fd, at, length) for at, length in frame.runs)


def write(fd: int, runs: Sequence[Run], content: bytes) -> None:
    """Put the content of a frame at its places; sectors of zeros stay holes."""
    view, at = memoryview(content), 0
    for offset, length in runs:
        _write_sparse(fd, offset, view[at : at + length])
        at += length


_KERNEL_END = manifest.KERNEL_OFFSET + manifest.KERNEL_MAX
_META_MAX = 4 << 20


def _groups(fd: int, files: Sequence[FileBlocks]) -> Iterator[list[Block]]:
    """The blocks of each frame of data."""
    group: list[Block] = []
    for blocks in files:
        if sum(block.logical for block in blocks) > PIECE:
            if group:
                yield group
                group = []
            yield from _pieces(blocks)
            continue
        group += blocks
        size = sum(block.size for block in group)
        content = sum(block.logical for block in group)
        if size >= 4 * GROUP or content >= 4 * PIECE or _is_cut(fd, blocks):
            yield group
            group = []
    if group:
        yield group


def _pieces(blocks: FileBlocks) -> Iterator[list[Block]]:
    piece: list[Block] = []
    size = 0
    for block in blocks:
        piece.append(block)
        size += block.logical
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _is_cut(fd: int, blocks: FileBlocks) -> bool:
    """Whether a group ends behind this file: the more likely the larger it is."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(_read(fd, block.offset, block.size))
    chance = min(sum(block.size for block in blocks) / GROUP, 1.0)
    return int.from_bytes(digest.digest()[:8], "big") < chance * (1 << 64)


def _data_frame(blocks: Sequence[Block]) -> Frame:
    runs: list[Run] = []
    for block in blocks:
        if runs and sum(runs[-1]) == block.offset:
            runs[-1] = (runs[-1][0], runs[-1][1] + block.size)
        else:
            runs.append((block.offset, block.size))
    return Frame("data", tuple(runs), tuple(blocks))


def _between(taken: Sequence[Run], size: int) -> Iterator[tuple[int, int]]:
    """The parts (start, end) of the disk file outside `taken`."""
    at = 0
    for start, length in taken:
        if start > at:
            yield at, start
        at = max(at, start + length)
    if at < size:
        yield at, size


def _used(fd: int, start: int, end: int) -> Iterator[Run]:
    """The runs of sectors in a part of the disk file that are not zero."""
    at = start
    run: Run | None = None
    for data, hole in data_ranges(fd, start, end):
        at = max(at, data // SECTOR * SECTOR)
        while at < hole:
            length = min(SECTOR, end - at)
            if _read(fd, at, length) != _ZERO[:length]:
                if run is not None and sum(run) == at:
                    run = (run[0], run[1] + length)
                else:
                    if run is not None:
                        yield run
                    run = (at, length)
            at += length
    if run is not None:
        yield run


def _portions(runs: Sequence[Run]) -> Iterator[tuple[Run, ...]]:
    """`runs` in portions that are not too large for a frame."""
    part: list[Run] = []
    size = 0
    for run_start, run_length in runs:
        start, length = run_start, run_length
        while length:
            now = min(length, _META_MAX - size)
            part.append((start, now))
            start, length, size = start + now, length - now, size + now
            if size == _META_MAX:
                yield tuple(part)
                part, size = [], 0
    if part:
        yield tuple(part)


def _read(fd: int, offset: int, length: int) -> bytes:
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise OSError(5, "the disk file ends too early")
        data += more
    return data


def _write_sparse(fd: int, offset: int, data: memoryview) -> None:
    """Write `data`, leaving out sectors of zeros."""
    start: int | None = None
    for at in range(0, len(data), SECTOR):
        is_zero = data[at : at + SECTOR] == _ZERO[: len(data) - at]
        if is_zero and start is not None:
            _write_all(fd, offset + start, data[start:at])
            start = None
        elif not is_zero and start is None:
            start = at
    if start is not None:
        _write_all(fd, offset + start, data[start:])


def _write_all(fd: int, offset: int, data: memoryview) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        offset, data = offset + done, data[done:]
