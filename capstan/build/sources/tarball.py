# SPDX-License-Identifier: BSD-2-Clause
"""The entries of a tar archive: ustar, GNU and pax (POSIX.1-2017, "pax", and GNU tar's manual).

One pass over a stream, no seeking, memory bounded by `limits`. The caller takes the data of an
entry (`data`) or leaves it; `entries` goes on behind it. Global pax headers are skipped. Sparse
files come in pieces with holes between: old GNU and pax 0.0, 0.1, 1.0.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from capstan.build.sources import limits
from capstan.build.sources.streams import PIECE, Damaged, Readable

BLOCK = 512
_ZERO = bytes(BLOCK)
_TYPES = {
    b"0": stat.S_IFREG,
    b"\0": stat.S_IFREG,
    b"7": stat.S_IFREG,
    b"S": stat.S_IFREG,
    b"1": 0,
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"6": stat.S_IFIFO,
}
_NO_DATA = b"123456"
_TIME_MAX = 253_402_300_799  # the year 9999
_ID_MAX = 2**32 - 2
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."


class Stream(Readable, Protocol):
    """Where an archive comes from."""

    def skip(self, size: int) -> None:
        """Leave out bytes."""


@dataclass(slots=True)
class Entry:
    """One entry; `mode` without file type is a hard link to `target` (its attributes count too)."""

    name: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    target: bytes = b""
    rdev: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    parts: list[tuple[int, int]] | None = None  # of a sparse file: (offset, size) with data

    @property
    def shown(self) -> str:
        """The name for messages."""
        return show(self.name)


@dataclass(slots=True)
class _Extra:
    """What the headers in front of an entry say about it."""

    pax: dict[bytes, bytes] = field(default_factory=dict)
    name: bytes | None = None
    target: bytes | None = None
    sparse: list[int] = field(default_factory=list)  # pax 0.0: offset, size, offset, ...


def show(name: bytes) -> str:
    """A name as part of a message: printable and not too long."""
    text = name.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= 120 else f"{text[:60]}...{text[-40:]}"


class TarReader:
    """Reads one archive.

    Raises everywhere:
        Damaged: it is no valid archive, or asks for more than the limits.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = 0  # data of the entry not read yet
        self._padding = 0
        self._entry: Entry | None = None

    def entries(self) -> Iterator[Entry]:
        """The entries in order."""
        extra = _Extra()
        while True:
            self._stream.skip(self._left + self._padding)
            self._left = self._padding = 0
            header = self._stream.read(BLOCK)
            if not header or header == _ZERO:
                if extra != _Extra():
                    raise Damaged("the archive ends behind an extended header")
                return
            _check(header)
            kind = header[156:157]
            if kind in b"xgLKX" and kind:
                self._extend(extra, kind, header)
                continue
            self._entry = entry = self._make(header, extra)
            yield entry
            extra = _Extra()

    def data(self) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of the current entry, in pieces."""
        assert self._entry is not None
        for offset, size in self._entry.parts or [(0, self._left)]:
            at, end = offset, offset + size
            while at < end:
                data = self._stream.read(min(PIECE, end - at))
                if not data:
                    raise Damaged(f"{self._entry.shown}: the archive ends in this file")
                self._left -= len(data)
                yield at, data
                at += len(data)

    # --- headers in front of an entry ----------------------------------------------------------

    def _extend(self, extra: _Extra, kind: bytes, header: bytes) -> None:
        size = _number(header[124:136], "size")
        if not 0 <= size <= limits.HEADER_MAX:
            raise Damaged(f"an extended header of {size} bytes, {limits.HEADER_MAX} is the most")
        data = self._stream.read(size)
        if len(data) != size:
            raise Damaged("the archive ends in an extended header")
        self._stream.skip(-size % BLOCK)
        if kind == b"L":
            extra.name = data.split(b"\0", 1)[0]
        elif kind == b"K":
            extra.target = data.split(b"\0", 1)[0]
        elif kind in b"xX":
            _parse_pax(data, extra)

    # --- the entry itself ----------------------------------------------------------------------

    def _make(self, header: bytes, extra: _Extra) -> Entry:
        pax, kind = extra.pax, header[156:157]
        name, target = _names(header, extra)
        if kind not in _TYPES:
            raise Damaged(f"{show(name)}: type {show(kind)!r} of entry is unknown")
        if kind == b"\0" and name.endswith(b"/"):
            kind = b"5"
        size = _pax_int(pax, b"size", _number(header[124:136], "size"))
        if size < 0:
            raise Damaged(f"{show(name)}: a size of {size} bytes")
        self._left = 0 if kind in _NO_DATA else size
        self._padding = -self._left % BLOCK
        mode = 0o777 if kind == b"2" else _number(header[100:108], "mode") & 0o7777
        entry = Entry(
            name,
            _TYPES[kind] | mode,
            _owner(pax, b"uid", header[108:116], name),
            _owner(pax, b"gid", header[116:124], name),
            _mtime(pax, header[136:148]),
            size=self._left,
            target=target,
            xattrs=_xattrs(pax, name),
        )
        if kind in b"34":
            major, minor = _number(header[329:337], "major"), _number(header[337:345], "minor")
            if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
                raise Damaged(f"{entry.shown}: device {major}:{minor} is not possible")
            entry.rdev = os.makedev(major, minor)
        if kind == b"S":
            self._old_sparse(entry, header)
        elif any(key.startswith(_SPARSE) for key in pax):
            self._pax_sparse(entry, extra)
        if entry.size > limits.FILE_MAX:
            raise Damaged(f"{entry.shown}: {entry.size} bytes, {limits.FILE_MAX} is the most")
        return entry

    # --- sparse files --------------------------------------------------------------------------

    def _old_sparse(self, entry: Entry, header: bytes) -> None:
        entry.size = _number(header[483:495], "real size")
        numbers = _old_map(header[386:482])
        more = header[482]
        while more:
            block = self._stream.read(BLOCK)
            if len(block) != BLOCK:
                raise Damaged(f"{entry.shown}: the archive ends in the map of a sparse file")
            numbers += _old_map(block[:504])
            more = block[504]
            if len(numbers) > 2 * limits.SPARSE_PARTS_MAX:
                raise Damaged(f"{entry.shown}: too many pieces of a sparse file")
        self._set_parts(entry, numbers)

    def _pax_sparse(self, entry: Entry, extra: _Extra) -> None:
        pax = extra.pax
        real = pax.get(_SPARSE + b"name")
        if real:
            entry.name = real
        if pax.get(_SPARSE + b"major") == b"1":
            entry.size = _pax_int(pax, _SPARSE + b"realsize", entry.size)
            numbers = self._map_in_data(entry)
        elif _SPARSE + b"map" in pax:
            entry.size = _pax_int(pax, _SPARSE + b"size", entry.size)
            numbers = [_decimal(n) for n in pax[_SPARSE + b"map"].split(b",") if n]
        elif extra.sparse:
            entry.size = _pax_int(pax, _SPARSE + b"size", entry.size)
            numbers = extra.sparse
        else:
            raise Damaged(f"{entry.shown}: a sparse file of an unknown format")
        self._set_parts(entry, numbers)

    def _map_in_data(self, entry: Entry) -> list[int]:
        """pax 1.0: the map is in front of the data, a decimal number a line, in whole blocks."""
        numbers: list[int] = []
        text, wanted = b"", 1
        while len(numbers) < wanted:
            line, newline, rest = text.partition(b"\n")
            if not newline:
                if self._left < BLOCK or len(text) > 64:
                    raise Damaged(f"{entry.shown}: the map of a sparse file is damaged")
                text += self._stream.read(BLOCK)
                self._left -= BLOCK
                continue
            numbers.append(_decimal(line))
            text = rest
            if len(numbers) == 1:
                if numbers[0] > limits.SPARSE_PARTS_MAX:
                    raise Damaged(f"{entry.shown}: too many pieces of a sparse file")
                wanted = 1 + 2 * numbers[0]
        return numbers[1:]

    def _set_parts(self, entry: Entry, numbers: list[int]) -> None:
        if len(numbers) % 2 or len(numbers) > 2 * limits.SPARSE_PARTS_MAX:
            raise Damaged(f"{entry.shown}: the map of a sparse file is damaged")
        parts = [pair for pair in zip(numbers[::2], numbers[1::2], strict=True) if pair[1]]
        end = 0
        for offset, size in parts:
            if offset < end or size < 0 or offset + size > entry.size:
                raise Damaged(f"{entry.shown}: the pieces of a sparse file overlap or exceed it")
            end = offset + size
        if sum(size for _, size in parts) != self._left:
            raise Damaged(f"{entry.shown}: the pieces of a sparse file do not fit its data")
        entry.parts = parts or [(0, 0)]


def _check(header: bytes) -> None:
    if len(header) != BLOCK:
        raise Damaged("the archive ends in a header")
    digits = header[148:156].strip(b" \0")
    said = int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else -1
    fields = header[:148] + header[156:]
    if said != sum(fields) + 256 and said != sum(b - 256 * (b > 127) for b in fields) + 256:
        raise Damaged("a header has a wrong checksum: no tar archive, or damaged")


def _number(data: bytes, what: str) -> int:
    """Octal digits, or a binary number whose first byte has the highest bit set."""
    if data[0] & 0x80:
        value = int.from_bytes(data, "big") & ((1 << 8 * len(data) - 1) - 1)
        return value - (1 << 8 * len(data) - 1) if data[0] & 0x40 else value
    digits = data.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise Damaged(f"{what} {show(digits)!r} in a header is no number")


def _decimal(data: bytes) -> int:
    if not data.isdigit() or len(data) > 19:
        raise Damaged(f"{show(data[:40])!r} in an extended header is no number")
    return int(data)


def _old_map(data: bytes) -> list[int]:
    numbers: list[int] = []
    for at in range(0, len(data) - 23, 24):
        if not data[at]:
            break
        numbers += [_number(data[at : at + 12], "map"), _number(data[at + 12 : at + 24], "map")]
    return numbers


def _parse_pax(data: bytes, extra: _Extra) -> None:
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        if space < 0 or not data[at:space].isdigit():
            if not data[at:].strip(b"\0"):
                return
            raise Damaged("an extended header is damaged")
        end = at + int(data[at:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not equals:
            raise Damaged("an extended header is damaged")
        if key in (_SPARSE + b"offset", _SPARSE + b"numbytes"):
            extra.sparse.append(_decimal(value))
        elif value or key.startswith(_XATTR):
            extra.pax[key] = value
        else:
            extra.pax.pop(key, None)
        at = end


def _names(header: bytes, extra: _Extra) -> tuple[bytes, bytes]:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0", 1)[0]
        if prefix:
            name = prefix + b"/" + name
    target = header[157:257].split(b"\0", 1)[0]
    name = extra.pax.get(b"path", extra.name if extra.name is not None else name)
    target = extra.pax.get(b"linkpath", extra.target if extra.target is not None else target)
    if b"\0" in name or b"\0" in target:
        raise Damaged(f"{show(name)}: a name with a NUL byte")
    return name, target


def _pax_int(pax: dict[bytes, bytes], key: bytes, default: int) -> int:
    return _decimal(pax[key]) if key in pax else default


def _owner(pax: dict[bytes, bytes], key: bytes, data: bytes, name: bytes) -> int:
    value = _pax_int(pax, key, _number(data, key.decode()))
    if not 0 <= value <= _ID_MAX:
        raise Damaged(f"{show(name)}: {key.decode()} {value} is not possible")
    return value


def _mtime(pax: dict[bytes, bytes], data: bytes) -> int:
    text = pax.get(b"mtime")
    if text is None:
        seconds, nanoseconds = _number(data, "time"), 0
    else:
        whole, _, fraction = text.partition(b".")
        digits = whole.removeprefix(b"-")
        if not digits.isdigit() or len(digits) > 19 or (fraction and not fraction.isdigit()):
            raise Damaged(f"time {show(text[:40])!r} in an extended header is no number")
        seconds, nanoseconds = int(digits), int(fraction[:9].ljust(9, b"0"))
        if whole.startswith(b"-"):
            seconds, nanoseconds = -seconds, -nanoseconds
    return max(-_TIME_MAX, min(seconds, _TIME_MAX)) * 10**9 + nanoseconds


def _xattrs(pax: dict[bytes, bytes], name: bytes) -> dict[bytes, bytes]:
    found = {k[len(_XATTR) :]: v for k, v in pax.items() if k.startswith(_XATTR)}
    if found:
        total = sum(len(key) + len(value) + 64 for key, value in found.items())
        if total > limits.XATTRS_MAX or any(
            not key or b"\0" in key or len(key) > limits.NAME_MAX for key in found
        ):
            raise Damaged(
                f"{show(name)}: extended attributes of {total} bytes, "
                f"{limits.XATTRS_MAX} is the most, or one without a proper name"
            )
    return found
