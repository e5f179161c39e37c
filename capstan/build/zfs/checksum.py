# SPDX-License-Identifier: BSD-2-Clause
"""The two checksums of the format: fletcher4 for blocks, SHA-256 for the label areas.

Fletcher4 runs four sums over the little-endian 32-bit words of a block: each sum adds up the
one before it. `fletcher4` needs nothing but Python (400 MB/s); `fletcher4_numpy` gives
a function that is six times as fast, at the price of 0.1 s for importing numpy.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import lru_cache
from operator import mul

Sums = tuple[int, int, int, int]
Fletcher = Callable[[bytes], Sums]

EMBEDDED_MAGIC = 0x0210DA7AB10C7A11
_EMBEDDED = struct.Struct("<5Q")
_MASK = (1 << 64) - 1
_ROW = 512  # bytes: 64 even and 64 odd words, each in its own 64-bit lane
_LANES = _ROW // 8
_LOW_WORDS = int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * _LANES, "little")
_LANE_STRUCT = struct.Struct(f"<{_LANES}Q")
_MAX_ROWS = 300  # a lane of the fourth sum stays below 2^64: 2^32 * rows^4 / 24
_SMALL = 3072


def fletcher4(data: bytes) -> Sums:
    """The four sums of `data`, whose length is a multiple of 4."""
    if len(data) < _SMALL:
        return _word_by_word(data)
    if len(data) > _MAX_ROWS * _ROW:
        raise ValueError(f"block of {len(data)} bytes is over 128 KiB")
    return _lanes(data)


def _word_by_word(data: bytes) -> Sums:
    a = b = c = d = 0
    for (word,) in struct.iter_unpack("<I", data):
        a += word
        b += a
        c += b
        d += c
    return a & _MASK, b & _MASK, c & _MASK, d & _MASK


def _lanes(data: bytes) -> Sums:
    """Run the sums over rows of 128 words at once, each word a lane of one big integer.

    Zeros put before a block change no sum, so it may be padded to whole rows there.
    """
    data = bytes(-len(data) % _ROW) + data
    from_bytes = int.from_bytes
    e0 = e1 = e2 = e3 = o0 = o1 = o2 = o3 = 0
    for at in range(0, len(data), _ROW):
        row = from_bytes(data[at : at + _ROW], "little")
        e0 += row & _LOW_WORDS
        e1 += e0
        e2 += e1
        e3 += e2
        o0 += row >> 32 & _LOW_WORDS
        o1 += o0
        o2 += o1
        o3 += o2
    columns = []
    for even, odd in ((e0, o0), (e1, o1), (e2, o2), (e3, o3)):
        merged = [0] * (2 * _LANES)
        merged[0::2] = _LANE_STRUCT.unpack(even.to_bytes(_ROW, "little"))
        merged[1::2] = _LANE_STRUCT.unpack(odd.to_bytes(_ROW, "little"))
        columns.append(merged)
    return _join_columns(columns)


# Column j of a row of C words: the word of row weight m (1 = last row) has the weight
# k = m*C - j in the whole block. The four sums are sum(w), sum(k w), sum(k(k+1)/2 w),
# sum(k(k+1)(k+2)/6 w); the column sums give the moments sum(m^p w), from which the moments
# sum(k^p w) follow by the binomial formula.
_COLS = 2 * _LANES
_J1 = list(range(_COLS))
_J2 = [j * j for j in _J1]
_J3 = [j * j * j for j in _J1]


def _join_columns(columns: list[list[int]]) -> Sums:
    s0, s1, s2, s3 = columns
    t2 = [2 * y - x for x, y in zip(s1, s2, strict=True)]
    t3 = [6 * z - 3 * y - 2 * x for x, y, z in zip(s1, t2, s3, strict=True)]
    n = _COLS
    k0 = sum(s0)
    j1 = sum(map(mul, s0, _J1))
    k1 = n * sum(s1) - j1
    k2 = n * n * sum(t2) - 2 * n * sum(map(mul, s1, _J1)) + sum(map(mul, s0, _J2))
    k3 = (
        n**3 * sum(t3)
        - 3 * n * n * sum(map(mul, t2, _J1))
        + 3 * n * sum(map(mul, s1, _J2))
        - sum(map(mul, s0, _J3))
    )
    return k0 & _MASK, k1 & _MASK, (k2 + k1) // 2 & _MASK, (k3 + 3 * k2 + 2 * k1) // 6 & _MASK


@lru_cache(maxsize=1)
def fletcher4_numpy() -> Fletcher:
    """The same function made with numpy, or `fletcher4` itself where numpy is missing."""
    try:
        import numpy as np
    except ImportError:
        return fletcher4
    words = 1 << 15
    k = np.arange(words, 0, -1, dtype=np.uint64)
    weights = (k, k * (k + 1) // 2, k * (k + 1) // 2 * (k + 2) // 3)

    def fast(data: bytes) -> Sums:
        if len(data) > 4 * words:
            raise ValueError(f"block of {len(data)} bytes is over 128 KiB")
        wide = np.frombuffer(data, dtype="<u4").astype(np.uint64)
        skip = words - len(wide)
        b, c, d = (int(np.dot(wide, weight[skip:])) for weight in weights)
        return int(wide.sum()), b, c, d

    return fast


def seal(area: bytes, offset: int) -> bytes:
    """`area` with its last 40 bytes replaced by the embedded checksum for `offset` in the vdev."""
    body = area[: -_EMBEDDED.size]
    first = body + _EMBEDDED.pack(EMBEDDED_MAGIC, offset, 0, 0, 0)
    digest = struct.unpack(">4Q", hashlib.sha256(first).digest())
    return body + _EMBEDDED.pack(EMBEDDED_MAGIC, *digest)


def is_sealed(area: bytes, offset: int) -> bool:
    """Whether the embedded checksum of `area` is right."""
    return seal(area, offset) == area
