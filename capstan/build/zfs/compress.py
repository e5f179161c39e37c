# SPDX-License-Identifier: BSD-2-Clause
"""From a logical block to the bytes on disk and back: lz4 or as it is."""

from __future__ import annotations

import struct
from collections.abc import Callable

from capstan.build.zfs.layout import COMPRESS_LZ4, COMPRESS_OFF, SECTOR
from capstan.errors import BuildError

Compressor = Callable[[bytes], tuple[bytes, int]]

_LENGTH = struct.Struct(">I")


def store(block: bytes) -> tuple[bytes, int]:
    """`block` uncompressed: its bytes on disk and the compression number."""
    return block, COMPRESS_OFF


def lz4_compressor() -> Compressor:
    """A function that compresses a block when that saves 1/8 and a sector.

    Raises:
        BuildError: the lz4 package is missing.
    """
    try:
        import lz4.block
    except ImportError as err:
        raise BuildError(
            "cannot compress the image: the Python package lz4 is missing",
            hint="install it (pip install lz4) or build without compression",
        ) from err
    compress = lz4.block.compress

    def pack(block: bytes) -> tuple[bytes, int]:
        size = len(block)
        if size <= SECTOR:
            return block, COMPRESS_OFF
        packed: bytes = compress(block, store_size=False)
        length = _LENGTH.size + len(packed)
        on_disk = -(-length // SECTOR) * SECTOR
        if length > size - size // 8 or on_disk >= size:
            return block, COMPRESS_OFF
        return b"".join((_LENGTH.pack(len(packed)), packed, bytes(on_disk - length))), COMPRESS_LZ4

    return pack


def unpack(data: bytes, compression: int, size: int) -> bytes:
    """The logical block of `size` bytes stored as `data`.

    Raises:
        ValueError: unknown compression, or the data is damaged.
    """
    if compression == COMPRESS_OFF:
        return data[:size]
    if compression != COMPRESS_LZ4:
        raise ValueError(f"compression {compression} is not known")
    import lz4.block

    (length,) = _LENGTH.unpack_from(data)
    if length > len(data) - _LENGTH.size:
        raise ValueError(f"compressed length {length} is over the block's {len(data)} bytes")
    try:
        block: bytes = lz4.block.decompress(data[4 : 4 + length], uncompressed_size=size)
    except lz4.block.LZ4BlockError as err:
        raise ValueError(f"damaged lz4 block: {err}") from err
    if len(block) != size:
        raise ValueError(f"block of {len(block)} bytes instead of {size}")
    return block
