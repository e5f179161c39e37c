# SPDX-License-Identifier: BSD-2-Clause
"""From a frame's content to the blob that is sent, and back.

    RAW   zstd of the content
    LZ4   zstd of the files' blocks, the pool's LZ4 undone: a fifth smaller

zstd's parameters are pinned: the same content gives the same blob as long as the encoder of the
library is the same; with another one versions share less, nothing else. LZ4 is undone only when
doing it again gave the same bytes, by the library and by `lz4ref`; so who unpacks can use the
library, look at the digest, and do it again with `lz4ref` if it must.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence

from capstan.errors import RepoError
from capstan.extents import Block
from capstan.repo.limits import FRAME_MAX, UNPACKED_MAX

RAW = "application/vnd.capstan.frame.v1+zstd"
LZ4 = "application/vnd.capstan.frame.v1.lz4+zstd"
KNOWN = (RAW, LZ4)
LEVEL = 19
WINDOW_LOG = 23

_SECTOR = 4096
_MAGIC = b"CAPLZ4\0\1"
_HEAD = struct.Struct("<8sI")
_ROW = struct.Struct("<HHH")  # sectors on disk, bytes / 512, is it LZ4
_LENGTH = struct.Struct(">I")
_BLOCKS_MAX = 1 << 16
Compress = Callable[[bytes], bytes]


def pack(content: bytes, blocks: Sequence[Block]) -> tuple[str, bytes]:
    """The type and the blob for a frame; `blocks` is empty when it is no file's data."""
    plain = _undo(content, blocks) if any(block.is_lz4 for block in blocks) else None
    if plain is not None and len(plain) <= UNPACKED_MAX:
        return LZ4, _zstd(plain)
    return RAW, _zstd(content)


def unpack(kind: str, blob: bytes, size: int, where: str, is_exact: bool = False) -> bytes:
    """The content of `size` bytes in a blob of the type `kind`; the caller compares its digest.

    `is_exact`: with our own LZ4, not the library's.

    Raises:
        RepoError: it is damaged, or of another size.
    """
    if size > FRAME_MAX:
        raise RepoError(f"{where}: a frame of {size} bytes", hint="push the image again")
    if kind == RAW:
        return _unzstd(blob, size, where)
    try:
        content = _redo(_unzstd(blob, None, where), size, _exactly if is_exact else _library())
    except (ValueError, struct.error) as err:
        raise RepoError(f"{where}: unpacks to nonsense ({err})", hint=_AGAIN) from err
    if len(content) != size:
        raise _wrong_size(where, len(content), size)
    return content


_AGAIN = "push the image again"

# --- LZ4 ---------------------------------------------------------------------------------------


def _undo(content: bytes, blocks: Sequence[Block]) -> bytes | None:
    """The blocks without their LZ4, None when that could not be done again."""
    import lz4.block

    compress = _library()
    rows, parts, at, checked = [], [], 0, False
    for block in blocks:
        stored = content[at : at + block.size]
        at += block.size
        if block.is_lz4:
            (length,) = _LENGTH.unpack_from(stored)
            packed = stored[_LENGTH.size : _LENGTH.size + length]
            try:
                data = lz4.block.decompress(packed, uncompressed_size=block.logical)
            except lz4.block.LZ4BlockError:
                return None
            if not checked and not _is_ours(compress, data[: _SECTOR * 8]):
                return None
            checked = True
        else:
            data = stored[: block.logical]
        row = (block.size // _SECTOR, len(data) >> 9, int(block.is_lz4))
        if max(row[:2]) > 0xFFFF or len(data) % 512 or _stored(data, row, compress) != stored:
            return None
        rows.append(_ROW.pack(*row))
        parts.append(data)
    return b"".join((_HEAD.pack(_MAGIC, len(rows)), *rows, *parts))


def _redo(plain: bytes, size: int, compress: Compress) -> bytes:
    """The content of a frame from what `_undo` made of it."""
    magic, count = _HEAD.unpack_from(plain)
    if magic != _MAGIC or count > _BLOCKS_MAX:
        raise ValueError("no list of blocks")
    rows = [_ROW.unpack_from(plain, _HEAD.size + n * _ROW.size) for n in range(count)]
    if sum(row[0] for row in rows) * _SECTOR != size:
        raise ValueError("blocks of another size")
    at = _HEAD.size + count * _ROW.size
    parts = []
    for row in rows:
        data = plain[at : at + (row[1] << 9)]
        at += row[1] << 9
        parts.append(_stored(data, row, compress))
    if at != len(plain):
        raise ValueError("more than the blocks")
    return b"".join(parts)


def _stored(data: bytes, row: tuple[int, int, int], compress: Compress) -> bytes:
    """A block as it is on disk; cut off or filled up to its sectors."""
    room = row[0] * _SECTOR
    if row[2]:
        packed = compress(data)
        data = _LENGTH.pack(len(packed)) + packed
    return data[:room].ljust(room, b"\0")


@functools.cache
def _library() -> Compress:
    import lz4.block

    return functools.partial(lz4.block.compress, store_size=False)


def _exactly(data: bytes) -> bytes:
    from capstan.repo import lz4ref

    return lz4ref.compress(data)


def _is_ours(compress: Compress, sample: bytes) -> bool:
    """Whether the library packs as `lz4ref` does, by a sample."""
    return compress(sample) == _exactly(sample)


# --- zstd --------------------------------------------------------------------------------------


def _zstd(content: bytes) -> bytes:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL,
        source_size=len(content),
        window_log=min(WINDOW_LOG, max(10, len(content).bit_length())),
        write_checksum=False,
        write_content_size=True,
        threads=0,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


def _unzstd(blob: bytes, size: int | None, where: str) -> bytes:
    """What a blob unpacks to: `size` bytes, or what it states within the limit."""
    import zstandard

    try:
        stated = zstandard.frame_content_size(blob)
        wanted = stated if size is None else size
        if stated != wanted or not 0 <= wanted <= UNPACKED_MAX:
            raise _wrong_size(where, stated, size)
        unpacker = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
        content = unpacker.decompress(blob, max_output_size=wanted)
    except zstandard.ZstdError as err:
        raise RepoError(f"{where}: damaged ({err})", hint=_AGAIN) from err
    if len(content) != wanted:
        raise _wrong_size(where, len(content), size)
    return content


def _wrong_size(where: str, got: int, wanted: int | None) -> RepoError:
    return RepoError(f"{where}: unpacks to {got} bytes, not {wanted or 'a frame'}", hint=_AGAIN)
