# SPDX-License-Identifier: BSD-2-Clause
"""From a frame's content to the blob that is sent, and back: zstd with pinned parameters.

    RAW   zstd of the content

The same content gives the same blob as long as the zstd library's encoder is the same; with
another one versions share less, nothing else.
"""

from __future__ import annotations

from capstan.errors import RepoError
from capstan.repo.limits import FRAME_MAX

RAW = "application/vnd.capstan.frame.v1+zstd"
KNOWN = (RAW,)
LEVEL = 19
WINDOW_LOG = 23


def pack(content: bytes) -> bytes:
    """The blob for a frame."""
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


def unpack(blob: bytes, size: int, where: str) -> bytes:
    """The content of `size` bytes in a blob.

    Raises:
        RepoError: it is damaged, or of another size.
    """
    import zstandard

    try:
        stated = zstandard.frame_content_size(blob)
        if size > FRAME_MAX or stated != size:
            raise RepoError(
                f"{where}: unpacks to {stated} bytes, not {size}", hint="push the image again"
            )
        unpacker = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
        content = unpacker.decompress(blob, max_output_size=size)
    except zstandard.ZstdError as err:
        raise RepoError(f"{where}: damaged ({err})", hint="push the image again") from err
    if len(content) != size:
        raise RepoError(
            f"{where}: unpacks to {len(content)} bytes, not {size}", hint="push the image again"
        )
    return content
