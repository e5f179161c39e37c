# SPDX-License-Identifier: BSD-2-Clause
"""The content of files: read block by block, packed by several threads, written in order.

No file is ever in memory as a whole; a block of zeros becomes a hole.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from capstan.build.zfs.dmu import BlockTable, BlockWriter, Packed
from capstan.build.zfs.layout import BLOCK_MAX, Ot, align
from capstan.errors import BuildError
from capstan.extents import data_ranges

_ZERO = bytes(BLOCK_MAX)
_BATCH_BYTES = 1 << 20
_BATCH_BLOCKS = 64
_THREADS_ABOVE = 4 << 20  # below that a second thread costs more than it gives

Progress = Callable[[int], None]


@dataclass(slots=True)
class Content:
    """One regular file: where its bytes come from, then what became of them."""

    source: Path | bytes | None
    size: int = 0
    block_size: int = 512
    table: BlockTable | None = None

    @property
    def blocks(self) -> int:
        """How many blocks the file has, holes included."""
        return -(-self.size // self.block_size)


@dataclass(slots=True)
class _Block:
    content: Content
    number: int
    data: bytes


def size_of(source: Path | bytes | None) -> int:
    """About how much data a file has, before it is read; holes do not count.

    Raises:
        BuildError: there is no such file.
    """
    if source is None:
        return 0
    if isinstance(source, bytes):
        return len(source)
    with _explained(source):
        facts = source.stat()
        return min(facts.st_size, facts.st_blocks * 512)


def write_contents(
    contents: list[Content], writer: BlockWriter, total: int, progress: Progress | None
) -> None:
    """Write the data blocks of all files; `total` is their size, roughly.

    Raises:
        BuildError: a file cannot be read or changes meanwhile.
    """
    batches = _batches(contents, progress)
    if total < _THREADS_ABOVE:
        for batch in batches:
            _place(writer, batch, _pack(writer, batch))
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    workers = min(4, os.cpu_count() or 1)
    waiting: deque[tuple[list[_Block], Future[list[Packed | None]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            waiting.append((batch, pool.submit(_pack, writer, batch)))
            if len(waiting) > 2 * workers:
                oldest, packed = waiting.popleft()
                _place(writer, oldest, packed.result())
        while waiting:
            oldest, packed = waiting.popleft()
            _place(writer, oldest, packed.result())


def _pack(writer: BlockWriter, batch: list[_Block]) -> list[Packed | None]:
    return [None if _ZERO.startswith(block.data) else writer.pack(block.data) for block in batch]


def _place(writer: BlockWriter, batch: list[_Block], results: list[Packed | None]) -> None:
    for block, packed in zip(batch, results, strict=True):
        if packed is not None:
            content = block.content
            if content.table is None:
                content.table = BlockTable()
            pointer = writer.place(packed, len(block.data), Ot.PLAIN_FILE)
            content.table.add(block.number, pointer)


def _batches(contents: list[Content], progress: Progress | None) -> Iterator[list[_Block]]:
    batch: list[_Block] = []
    room = _BATCH_BYTES
    for content in contents:
        told = 0
        for number, data in _blocks(content):
            batch.append(_Block(content, number, data))
            room -= len(data)
            if room <= 0 or len(batch) >= _BATCH_BLOCKS:
                yield batch
                batch, room = [], _BATCH_BYTES
            if progress:
                now = min((number + 1) * content.block_size, content.size)
                progress(now - told)
                told = now
        if progress and told < content.size:
            progress(content.size - told)
    if batch:
        yield batch


def _blocks(content: Content) -> Iterator[tuple[int, bytes]]:
    """(number, data) of each block that may hold data; sets the file's size first."""
    source = content.source
    if isinstance(source, Path):
        with _explained(source):
            yield from _blocks_of_file(content, source)
    elif source:
        _set_size(content, len(source))
        size = content.block_size
        for number, at in enumerate(range(0, len(source), size)):
            yield number, source[at : at + size].ljust(size, b"\0")


def _set_size(content: Content, size: int) -> None:
    content.size = size
    content.block_size = BLOCK_MAX if size > BLOCK_MAX else max(align(size, 512), 512)


def _blocks_of_file(content: Content, path: Path) -> Iterator[tuple[int, bytes]]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise BuildError(
                f"{path} is not a regular file", hint="something replaced it during the build"
            )
        size = before.st_size
        _set_size(content, size)
        step = content.block_size
        is_sparse = before.st_blocks * 512 < size
        for start, end in _blocks_with_data(fd, size, step) if is_sparse else [(0, size)]:
            for at in range(start, end, step):
                yield at // step, _read(fd, at, min(step, size - at), path).ljust(step, b"\0")
        after = os.fstat(fd)
        if (after.st_size, after.st_mtime_ns) != (size, before.st_mtime_ns):
            raise _changed(path)
    finally:
        os.close(fd)


def _blocks_with_data(fd: int, size: int, step: int) -> Iterator[tuple[int, int]]:
    """The parts of a sparse file that are no holes, widened to whole blocks."""
    at = 0
    for data, hole in data_ranges(fd, 0, size):
        start, at = max(at, data // step * step), min(size, align(hole, step))
        if start < at:
            yield start, at


def _read(fd: int, at: int, size: int, path: Path) -> bytes:
    data = os.pread(fd, size, at)
    while len(data) < size:
        more = os.pread(fd, size - len(data), at + len(data))
        if not more:
            raise _changed(path)
        data += more
    return data


def _changed(path: Path) -> BuildError:
    return BuildError(
        f"{path} changed while it was read", hint="stop what writes to it and build again"
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise BuildError(
            f"cannot read {path}: {err.strerror}",
            hint="check that the file exists and that you may read it",
        ) from err
