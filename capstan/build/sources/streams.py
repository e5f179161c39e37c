# SPDX-License-Identifier: BSD-2-Clause
"""The plain bytes of a layer: gzip, zstd or as they are; counted, and hashed on both sides.

Memory stays bounded whatever the input says: a decompressor is asked for a piece at a time, and
zstd's window is limited. Several gzip members or zstd frames in a row are one stream (as written by
parallel compressors); anything else behind them is an error.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from capstan.build.sources.limits import WINDOW_MAX, Meter
from capstan.errors import BuildError

PIECE = 1 << 18
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip"}
ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Readable(Protocol):
    """Anything with `read`."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


class Damaged(Exception):
    """What is wrong with a stream; the caller says which."""


class Digest:
    """A digest to be fulfilled: `ALGORITHM:HEX` and the running hash."""

    def __init__(self, text: str) -> None:
        self.text = text
        algorithm, _, value = text.partition(":")
        if ALGORITHMS.get(algorithm) != len(value) or set(value) - set("0123456789abcdef"):
            raise Damaged(f"{text[:80]!r} is not a digest (sha256:...)")
        self._hash = hashlib.new(algorithm)
        self.update = self._hash.update

    def fits(self) -> bool:
        """Whether the bytes so far are the right ones."""
        return self._hash.hexdigest() == self.text.partition(":")[2]


class Hashed:
    """Bytes of a file, counted and hashed on their way; `size` is what they must be, if known."""

    def __init__(self, raw: Readable, digest: str | None, size: int | None) -> None:
        self._raw = raw
        self._digest = Digest(digest) if digest is not None else None
        self._size = size
        self._count = 0

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        data = self._raw.read(size)
        self._count += len(data)
        if self._size is not None and self._count > self._size:
            raise Damaged(f"longer than the {self._size} bytes the manifest says")
        if self._digest is not None:
            self._digest.update(data)
        return data

    def finish(self) -> None:
        """Read the rest; check size and digest."""
        while self.read(PIECE):
            pass
        if self._size is not None and self._count != self._size:
            raise Damaged(f"{self._count} bytes, but the manifest says {self._size}: cut off?")
        if self._digest is not None and not self._digest.fits():
            raise Damaged(f"does not have the digest {self._digest.text}")


class _Gzip:
    def __init__(self, raw: Readable, head: bytes) -> None:
        self._raw, self._input = raw, head
        self._inflate = zlib.decompressobj(31)

    def read(self, size: int, /) -> bytes:
        while True:
            if not self._input:
                self._input = self._raw.read(PIECE)
            if self._inflate.eof:
                if not self._input:
                    return b""
                if not GZIP.startswith(self._input[:2]):
                    raise Damaged("something that is not gzip follows the gzip data")
                self._inflate = zlib.decompressobj(31)
            elif not self._input:
                raise Damaged("the gzip data ends early")
            try:
                data = self._inflate.decompress(self._input, size)
            except zlib.error as err:
                raise Damaged(f"damaged gzip data ({err})") from err
            ended = self._inflate.eof
            self._input = self._inflate.unused_data if ended else self._inflate.unconsumed_tail
            if data:
                return data


class Head:
    """Bytes as they are, of which the first were looked at already."""

    def __init__(self, head: bytes, raw: Readable) -> None:
        self._head, self._raw = head, raw

    def read(self, size: int = PIECE, /) -> bytes:
        """The next bytes."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._raw.read(size)


class _Zstd:
    def __init__(self, raw: Readable, head: bytes) -> None:
        import zstandard

        self._error: type[Exception] = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX)
        source: BinaryIO = Head(head, raw)  # type: ignore[assignment]
        self._read: Callable[[int], bytes] = decompressor.stream_reader(
            source, read_size=PIECE, read_across_frames=True
        ).read

    def read(self, size: int, /) -> bytes:
        try:
            return self._read(size)
        except self._error as err:
            raise Damaged(f"damaged zstd data ({err})") from err


def decompress(raw: Readable) -> Readable:
    """The plain bytes of `raw`, whatever its first bytes say it is.

    Raises:
        Damaged: a kind of compression layers do not have.
    """
    head = b""
    while len(head) < 6 and (more := raw.read(6 - len(head))):
        head += more
    if head.startswith(GZIP):
        return _Gzip(raw, head)
    if head.startswith(ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return _Zstd(raw, head)
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise Damaged(f"compressed with {name}, which layers are not (gzip, zstd or none)")
    return Head(head, raw)


class Plain:
    """The plain bytes of a layer, exactly as many as asked for, counted and hashed."""

    def __init__(self, raw: Hashed, diff_id: str | None, meter: Meter, name: str) -> None:
        self._raw, self._meter, self._name = raw, meter, name
        self._digest = Digest(diff_id) if diff_id is not None else None
        self._stream = decompress(raw)

    def read(self, size: int, /) -> bytes:
        """`size` bytes, fewer only at the end."""
        data = self._piece(size)
        if len(data) < size:
            parts = [data]
            left = size - len(data)
            while left and (more := self._piece(left)):
                parts.append(more)
                left -= len(more)
            data = b"".join(parts)
        return data

    def skip(self, size: int) -> None:
        """Leave out `size` bytes.

        Raises:
            Damaged: the stream ends before.
        """
        while size:
            data = self._piece(min(size, PIECE))
            if not data:
                raise Damaged("the archive ends early")
            size -= len(data)

    def finish(self) -> None:
        """Read the rest; check sizes and digests of both sides."""
        while self._piece(PIECE):
            pass
        self._raw.finish()
        if self._digest is not None and not self._digest.fits():
            raise Damaged(f"unpacked, it does not have the digest {self._digest.text}")

    def _piece(self, size: int) -> bytes:
        data = self._stream.read(size)
        if data:
            self._meter.more_bytes(len(data), self._name)
            if self._digest is not None:
                self._digest.update(data)
        return data


def damaged(where: str, what: str) -> BuildError:
    """The error for an archive that is not as it should be."""
    return BuildError(f"{where}: {what}", hint="fetch or build it again; nothing was stored")
