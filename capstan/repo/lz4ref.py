# SPDX-License-Identifier: BSD-2-Clause
"""LZ4's fast compressor, written out: the bytes that lz4.block.compress makes with liblz4 1.9.

The block format (lz4_Block_format.md) leaves the choice of matches to the compressor. Frames whose
LZ4 was undone need the same choice again; this is what a puller falls back to whose library chooses
otherwise. It is some hundred times slower than the library, and the same for ever.
"""

from __future__ import annotations

_MIN_MATCH = 4
_MATCH_FIND_LIMIT = 12  # no match begins in the last bytes ...
_LAST_LITERALS = 5  # ... and none reaches these
_DISTANCE_MAX = 65535
_PRIME5 = 889523592379
_MASK64 = (1 << 64) - 1
_SKIP = 6


def compress(data: bytes) -> bytes:
    """The LZ4 block for `data`."""
    return _Compressor(data).run()


class _Compressor:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._out = bytearray()
        self._table: dict[int, int] = {}
        self._start_limit = len(data) - _MATCH_FIND_LIMIT + 1
        self._anchor = 0

    def run(self) -> bytes:
        if len(self._data) > _MATCH_FIND_LIMIT:
            self._table[self._hash(0)] = 0
            at = 1
            while (found := self._find(at)) is not None:
                at, match = self._catch_up(*found)
                end = self._sequence(at, match)
                if end is None:
                    break
                at = end
        self._literals(len(self._data), 0)
        return bytes(self._out)

    def _hash(self, at: int) -> int:
        word = int.from_bytes(self._data[at : at + 8], "little")
        return ((word << 24 & _MASK64) * _PRIME5 & _MASK64) >> 52

    def _find(self, at: int) -> tuple[int, int] | None:
        """(place, earlier place) of the next match, looking ever less closely."""
        data, table = self._data, self._table
        tries, step, ahead = 1 << _SKIP, 1, at
        key = self._hash(at)
        while True:
            at, ahead = ahead, ahead + step
            step = tries >> _SKIP
            tries += 1
            if ahead > self._start_limit:
                return None
            match = table.get(key, 0)
            table[key] = at
            key = self._hash(ahead)
            is_near = match + _DISTANCE_MAX >= at
            if is_near and data[match : match + 4] == data[at : at + 4]:
                return at, match

    def _catch_up(self, at: int, match: int) -> tuple[int, int]:
        """The match begun as early as possible."""
        data = self._data
        while at > self._anchor and match > 0 and data[at - 1] == data[match - 1]:
            at, match = at - 1, match - 1
        return at, match

    def _sequence(self, at: int, match: int) -> int | None:
        """Write literals and matches from here on; where to look next, None at the end."""
        data, table = self._data, self._table
        while True:
            length = self._count(at + _MIN_MATCH, match + _MIN_MATCH)
            self._literals(at, min(length, 15))
            self._out += (at - match).to_bytes(2, "little")
            self._length(length)
            at += length + _MIN_MATCH
            self._anchor = at
            if at >= self._start_limit:
                return None
            table[self._hash(at - 2)] = at - 2
            key = self._hash(at)
            match = table.get(key, 0)
            table[key] = at
            is_near = match + _DISTANCE_MAX >= at
            if not (is_near and data[match : match + 4] == data[at : at + 4]):
                return at + 1

    def _count(self, at: int, match: int) -> int:
        """How many bytes are the same from here on."""
        data, start = self._data, at
        end = len(data) - _LAST_LITERALS
        while at + 32 <= end and data[at : at + 32] == data[match : match + 32]:
            at, match = at + 32, match + 32
        while at < end and data[at] == data[match]:
            at, match = at + 1, match + 1
        return at - start

    def _literals(self, end: int, match_bits: int) -> None:
        """The token and what stands between the last match and `end`."""
        length = end - self._anchor
        self._out.append(min(length, 15) << 4 | match_bits)
        self._length(length)
        self._out += self._data[self._anchor : end]

    def _length(self, length: int) -> None:
        """The bytes of a length that does not fit the token."""
        if length >= 15:
            rest = length - 15
            self._out += b"\xff" * (rest // 255) + bytes([rest % 255])
