# SPDX-License-Identifier: BSD-2-Clause
"""Where the data blocks of a pool's files are, in the order of the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from capstan.build.zfs.layout import (
    BP_SIZE,
    COMPRESS_LZ4,
    DATA_START,
    DNODE_SIZE,
    Dnode,
    Ot,
    unpack_bp,
)
from capstan.build.zfs.reader import Device, Pool
from capstan.errors import ImageError
from capstan.extents import Block, FileBlocks

_LEVELS_MAX = 8


def file_extents(disk: Path) -> Sequence[FileBlocks]:
    """The blocks of every file in the image `disk`, the files as they lie on the disk.

    Raises:
        ImageError: it cannot be read, or the pool is damaged.
    """
    try:
        with disk.open("rb") as file:
            pool = Pool.open(file, disk)
            objects = pool.filesystem().objects
            found = []
            for block in objects.content(objects.meta):
                for at in range(0, len(block), DNODE_SIZE):
                    dnode = Dnode.unpack(block[at : at + DNODE_SIZE])
                    if dnode.kind == Ot.PLAIN_FILE:
                        blocks = list(_leaves(pool.device, dnode.pointers, dnode.levels - 1))
                        if blocks:
                            found.append(blocks)
    except (OSError, ValueError) as err:
        raise ImageError(f"{disk}: {err}", hint="build or pull the image again") from err
    return sorted(found)


def _leaves(device: Device, pointers: bytes, level: int) -> Iterator[Block]:
    if level > _LEVELS_MAX:
        raise ValueError(f"a tree of blocks with {level} levels")
    for at in range(0, len(pointers), BP_SIZE):
        pointer = unpack_bp(pointers[at : at + BP_SIZE])
        if pointer is None:
            continue
        if level:
            yield from _leaves(device, device.block(pointer), level - 1)
        else:
            address, size = pointer.copies[0]
            is_lz4 = pointer.compression == COMPRESS_LZ4
            yield Block(DATA_START + address, size, pointer.lsize, is_lz4)
