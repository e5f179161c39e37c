# SPDX-License-Identifier: BSD-2-Clause
"""Where the data of an image's files is: what the builder's reader says and a push cuts along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Block(NamedTuple):
    """One block of a file in the disk file."""

    offset: int  # byte of the disk file
    size: int  # bytes it occupies, a multiple of the sector
    logical: int  # bytes of the file it stands for
    is_lz4: bool


FileBlocks = Sequence[Block]
"""The blocks of one file in the file's order, holes left out."""
