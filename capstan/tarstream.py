# SPDX-License-Identifier: BSD-2-Clause
"""Plain tar streams: a writer whose bytes depend on nothing but the files, and a wary reader.

The reader takes regular files and directories only and needs a bounded amount of memory whatever
the stream says (Python's tarfile reads extended headers of any size). POSIX.1-1988 ustar; sizes of
8 GiB and more in GNU's base-256 form. Extended headers are skipped: what they could say of a file
with a short name does not matter here.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

BLOCK = 512
_CHUNK = 1 << 20
_OCTAL_MAX = 8 << 30
_EXTENDED_MAX = 1 << 20
_MEMBERS_MAX = 10_000


class TarError(Exception):
    """The stream is no tar archive we take; the text says why, `hint` what to do."""

    def __init__(self, text: str, *, hint: str = "save it again, or copy it again") -> None:
        super().__init__(text)
        self.hint = hint


class Source(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""


@dataclass(slots=True)
class Member:
    """A regular file of the stream; its content is read before the next one is asked for."""

    name: str
    size: int
    source: Source

    def chunks(self) -> Iterator[bytes]:
        """The content, once.

        Raises:
            TarError: the stream ends first.
        """
        left = self.size
        while left:
            data = self.source.read(min(left, _CHUNK))
            if not data:
                raise TarError(f"ends in the middle of {self.name}")
            left -= len(data)
            yield data
        _skip(self.source, -self.size % BLOCK)
        self.size = 0


def header(name: str, size: int) -> bytes:
    """The header of a file that belongs to root and has no time."""
    encoded = name.encode()
    if len(encoded) > 100:
        raise TarError(f"{name}: too long a name")
    octal = b"%011o\0" % size if size < _OCTAL_MAX else b"\x80" + size.to_bytes(11, "big")
    zeros = b"0000000\0"
    head = encoded.ljust(100, b"\0") + b"0000644\0" + zeros * 2 + octal + b"%011o\0" % 0
    tail = b"0".ljust(101, b"\0") + b"ustar\x0000" + bytes(64) + zeros * 2
    total = sum(head) + sum(tail) + 8 * 0x20
    return (head + b"%06o\0 " % total + tail).ljust(BLOCK, b"\0")


def padding(size: int) -> bytes:
    """What follows `size` bytes of content."""
    return bytes(-size % BLOCK)


END = bytes(2 * BLOCK)


def unzipped(source: BinaryIO) -> Source:
    """The stream itself, or what it holds when it is compressed with gzip."""
    peeking = _Peeking(source)
    return _Unzipped(peeking) if peeking.head == b"\x1f\x8b" else peeking


def members(source: Source) -> Iterator[Member]:
    """The regular files of a stream.

    Raises:
        TarError: damaged, or something else than files and directories is in it.
    """
    count = 0
    while True:
        block = _exactly(source, BLOCK)
        if not block.strip(b"\0"):
            source.read(_CHUNK)  # the rest of the end: who writes into a pipe shall not fail
            return
        count += 1
        if count > _MEMBERS_MAX:
            raise TarError(f"more than {_MEMBERS_MAX} files")
        name, size, kind = _parse(block)
        if kind == b"5" and not size:
            continue
        if kind in b"xgLK":
            if size > _EXTENDED_MAX:
                raise TarError(f"an extended header of {size} bytes")
            _skip(source, size + -size % BLOCK)
        elif kind in b"0\0":
            member = Member(name, size, source)
            yield member
            for _ in member.chunks() if member.size else ():
                pass
        else:
            raise TarError(f"{name} is neither a file nor a directory")


def _parse(block: bytes) -> tuple[str, int, bytes]:
    try:
        told = int(block[148:156].strip(b" \0") or b"0", 8)
        if block[124] & 0x80:
            size = int.from_bytes(block[125:136], "big")
        else:
            size = int(block[124:136].strip(b" \0") or b"0", 8)
        if size < 0:
            raise ValueError
    except ValueError as err:
        raise TarError("no tar archive") from err
    if told != sum(block) - sum(block[148:156]) + 8 * 0x20:
        raise TarError("no tar archive, or a damaged one (checksum of a header)")
    name = block[:100].split(b"\0")[0].decode(errors="replace")
    prefix = block[345:500].split(b"\0")[0].decode(errors="replace")
    is_ustar = block[257:262] == b"ustar"
    return (f"{prefix}/{name}" if prefix and is_ustar else name), size, block[156:157]


def _exactly(source: Source, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.read(size - len(data))
        if not more:
            raise TarError("ends too early" if data or size else "empty")
        data += more
    return data


def _skip(source: Source, size: int) -> None:
    while size:
        size -= len(_exactly(source, min(size, _CHUNK)))


class _Peeking:
    """A stream whose first two bytes are known before they are read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.head = self._kept = source.read(2)

    def read(self, size: int = -1, /) -> bytes:
        kept, self._kept = self._kept[:size], self._kept[size:]
        return kept or self._source.read(size)


class _Unzipped:
    """What a stream compressed with gzip holds."""

    def __init__(self, source: Source) -> None:
        self._file = gzip.GzipFile(fileobj=source, mode="rb")  # type: ignore[call-overload]

    def read(self, size: int, /) -> bytes:
        try:
            data = self._file.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as err:
            raise TarError(f"damaged: {err}") from err
        assert isinstance(data, bytes)
        return data
