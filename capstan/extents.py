# SPDX-License-Identifier: BSD-2-Clause
"""Where data is: of an image's files, which a push cuts along, and of a file with holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Block(NamedTuple):
    """One block of a file in the disk file."""

    offset: int  # byte of the disk file
    size: int  # bytes it occupies, a multiple of the sector
    logical: int  # bytes of the file it stands for
    is_lz4: bool


FileBlocks = Sequence[Block]
"""The blocks of one file in the file's order, holes left out."""


def data_ranges(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what is no hole between `start` and `end` of a file."""
    at = start
    while at < end:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, data, os.SEEK_HOLE)
        except OSError as err:
            if err.errno != errno.ENXIO:
                raise
            return  # only a hole is left
        if data < end:
            yield data, min(at, end)
