# SPDX-License-Identifier: BSD-2-Clause
"""ZAP objects: name -> value tables, as directories and as the pool's own tables.

A *micro* ZAP is one block of 64-byte entries; it holds names under 50 bytes and single 64-bit
values. Everything else is a *fat* ZAP: blocks of 16 KiB, a header with the pointer table, then
leaves. A leaf holds the entries whose hash starts with its prefix; the pointer table has
one slot for each value of the first `shift` bits of the hash.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Value = int | bytes | tuple[int, ...]  # u64 | string with its NUL | 16-bit numbers

MICRO_TYPE = 0x8000000000000003
HEADER_TYPE = 0x8000000000000001
LEAF_TYPE = 0x8000000000000000
HEADER_MAGIC = 0x2F52AB2AB
LEAF_MAGIC = 0x2AB1EAF

MICRO_NAME_MAX = 49
MICRO_ENTRIES_MAX = 2047
_MICRO_ENTRY = struct.Struct("<QI2x50s")

BLOCK_SHIFT = 14
BLOCK = 1 << BLOCK_SHIFT
EMBEDDED_SHIFT = 10  # the pointer table in the header block: half of it
_HEADER = struct.Struct("<2Q5Q6Q")
_LEAF_HEADER = struct.Struct("<3QI4HB11x")
_ENTRY = struct.Struct("<BBHHHHHIQ")
_ARRAY = struct.Struct("<B21sH")
_CHUNK = 24
_BUCKET_SHIFT = BLOCK_SHIFT - 5
_BUCKETS = 1 << _BUCKET_SHIFT
_CHUNKS_AT = _LEAF_HEADER.size + 2 * _BUCKETS
CHUNKS = (BLOCK - 2 * _BUCKETS) // _CHUNK - 2
_ARRAY_BYTES = 21
_CHUNK_ENTRY, _CHUNK_ARRAY, _CHUNK_FREE = 252, 251, 253
_END = 0xFFFF
_SORTED_BY_CD = 1
_HASH_BITS = 28

_CRC_POLY = 0xC96C5795D7870F42


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC_POLY if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()
_HASH_MASK = (1 << 64) - (1 << 64 - _HASH_BITS)


def zap_hash(name: bytes, salt: int) -> int:
    """The 64-bit hash of `name`, of which the first 28 bits count."""
    crc = salt
    for byte in name:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc & _HASH_MASK


@dataclass(frozen=True, slots=True)
class ZapData:
    """The content of a ZAP object."""

    block_size: int
    data: bytes  # whole blocks

    @property
    def blocks(self) -> list[bytes]:
        """The object's blocks in order."""
        size = self.block_size
        return [self.data[at : at + size] for at in range(0, len(self.data), size)]


def encode(entries: Mapping[bytes, Value], salt: int) -> ZapData:
    """The smallest form of the table; `salt` is any number but 0.

    Raises:
        ValueError: too many names have the same hash.
    """
    hashed = _with_discriminators(entries, salt)
    if len(entries) <= MICRO_ENTRIES_MAX and all(
        len(name) <= MICRO_NAME_MAX and isinstance(value, int) for name, value in entries.items()
    ):
        return _encode_micro(hashed, salt)
    return _encode_fat(hashed, salt)


@dataclass(frozen=True, slots=True)
class _Hashed:
    """One entry with its place: names with the same hash differ in `cd`."""

    hash: int
    cd: int
    name: bytes
    value: Value

    @property
    def chunks(self) -> int:
        return 1 + _array_chunks(len(self.name) + 1) + _array_chunks(len(_value_bytes(self.value)))


def _with_discriminators(entries: Mapping[bytes, Value], salt: int) -> list[_Hashed]:
    seen: dict[int, int] = {}
    hashed = []
    for name, value in sorted(entries.items()):
        key = zap_hash(name, salt)
        cd = seen.get(key, 0)
        seen[key] = cd + 1
        hashed.append(_Hashed(key, cd, name, value))
    return hashed


def _encode_micro(entries: list[_Hashed], salt: int) -> ZapData:
    parts = [struct.pack("<3Q40x", MICRO_TYPE, salt, 0)]
    for entry in entries:
        assert isinstance(entry.value, int)
        parts.append(_MICRO_ENTRY.pack(entry.value, entry.cd, entry.name))
    data = b"".join(parts)
    size = -(-len(data) // 512) * 512
    return ZapData(size, data + bytes(size - len(data)))


def _array_chunks(size: int) -> int:
    return -(-size // _ARRAY_BYTES)


def _value_bytes(value: Value) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(8, "big")
    if isinstance(value, bytes):
        return value
    return struct.pack(f">{len(value)}H", *value)


def _value_shape(value: Value) -> tuple[int, int]:
    """Bytes of one number and how many numbers."""
    if isinstance(value, int):
        return 8, 1
    if isinstance(value, bytes):
        return 1, len(value)
    return 2, len(value)


def _encode_fat(entries: list[_Hashed], salt: int) -> ZapData:
    entries.sort(key=lambda entry: (entry.hash, entry.cd))
    leaves = list(_split(entries, [entry.chunks for entry in entries], 0, 0))
    shift = max(EMBEDDED_SHIFT, *(length for _, length, _ in leaves))
    external = shift > EMBEDDED_SHIFT
    table_blocks = (8 << shift) // BLOCK if external else 0
    table: list[int] = []
    for number, (_, length, _) in enumerate(leaves, 1 + table_blocks):
        table += [number] * (1 << shift - length)
    next_block = 1 + table_blocks + len(leaves)
    head = _HEADER.pack(
        HEADER_TYPE,
        HEADER_MAGIC,
        1 if external else 0,
        table_blocks,
        shift,
        0,
        0,
        next_block,
        len(leaves),
        len(entries),
        salt,
        0,
        0,
    )
    pointers = struct.pack(f"<{len(table)}Q", *table)
    header = head + bytes(BLOCK // 2 - len(head))
    header += bytes(BLOCK // 2) + pointers if external else pointers
    return ZapData(BLOCK, header + b"".join(_leaf(*leaf) for leaf in leaves))


def _split(
    entries: list[_Hashed], chunks: list[int], prefix: int, length: int
) -> Iterable[tuple[int, int, list[_Hashed]]]:
    """(prefix, its length in bits, entries) of each leaf, in the order of the prefixes."""
    if sum(chunks) <= CHUNKS:
        yield prefix, length, entries
        return
    if length == _HASH_BITS:
        raise ValueError("too many names with the same hash in one directory")
    middle = (prefix << 1 | 1) << 63 - length
    cut = bisect_left(entries, middle, key=lambda entry: entry.hash)
    yield from _split(entries[:cut], chunks[:cut], prefix << 1, length + 1)
    yield from _split(entries[cut:], chunks[cut:], prefix << 1 | 1, length + 1)


class _Chunks:
    """The chunks of a leaf, filled from the first one on."""

    def __init__(self) -> None:
        self.packed: list[bytes] = []

    def add_array(self, data: bytes) -> int:
        """Store `data`; gives the number of its first chunk."""
        first = len(self.packed)
        last = first + _array_chunks(len(data)) - 1
        for at in range(0, len(data), _ARRAY_BYTES):
            number = len(self.packed)
            link = number + 1 if number < last else _END
            self.packed.append(_ARRAY.pack(_CHUNK_ARRAY, data[at : at + _ARRAY_BYTES], link))
        return first

    def pad(self) -> int:
        """Chain all that is left as free; gives the first free chunk."""
        first = len(self.packed)
        for number in range(first, CHUNKS):
            link = number + 1 if number + 1 < CHUNKS else _END
            self.packed.append(_ARRAY.pack(_CHUNK_FREE, b"", link))
        return first if first < CHUNKS else _END


def _leaf(prefix: int, length: int, entries: list[_Hashed]) -> bytes:
    buckets: dict[int, list[_Hashed]] = {}
    for entry in entries:
        bucket = entry.hash >> 64 - _BUCKET_SHIFT - length & _BUCKETS - 1
        buckets.setdefault(bucket, []).append(entry)
    table = [_END] * _BUCKETS
    chunks = _Chunks()
    for bucket, chain in sorted(buckets.items()):
        link = _END
        for entry in sorted(chain, key=lambda item: item.cd, reverse=True):
            link = _add_entry(chunks, entry, link)
        table[bucket] = link
    used = len(chunks.packed)
    free = chunks.pad()
    head = _LEAF_HEADER.pack(
        LEAF_TYPE,
        0,
        prefix,
        LEAF_MAGIC,
        CHUNKS - used,
        len(entries),
        length,
        free,
        _SORTED_BY_CD,
    )
    body = head + struct.pack(f"<{_BUCKETS}H", *table) + b"".join(chunks.packed)
    return body + bytes(BLOCK - len(body))


def _add_entry(chunks: _Chunks, entry: _Hashed, link: int) -> int:
    width, count = _value_shape(entry.value)
    name = chunks.add_array(entry.name + b"\0")
    value = chunks.add_array(_value_bytes(entry.value))
    packed = _ENTRY.pack(
        _CHUNK_ENTRY,
        width,
        link,
        name,
        len(entry.name) + 1,
        value,
        count,
        entry.cd,
        entry.hash,
    )
    chunks.packed.append(packed)
    return len(chunks.packed) - 1


def decode(data: bytes) -> dict[bytes, Value]:
    """The table in the whole blocks of a ZAP object, checked as far as lookups depend on it.

    Raises:
        ValueError: damaged.
    """
    try:
        (kind, word) = struct.unpack_from("<2Q", data)
        if kind == MICRO_TYPE:
            return _decode_micro(data, word)
        if kind == HEADER_TYPE and word == HEADER_MAGIC:
            return _decode_fat(data)
    except (struct.error, IndexError) as err:
        raise ValueError(f"damaged ZAP: {err}") from err
    raise ValueError(f"ZAP block type {kind:#x}")


def _decode_micro(data: bytes, salt: int) -> dict[bytes, Value]:
    table: dict[bytes, Value] = {}
    places = set()
    for value, cd, raw in _MICRO_ENTRY.iter_unpack(data[64:]):
        name = raw.rstrip(b"\0")
        if name:
            places.add((zap_hash(name, salt), cd))
            table[name] = value
    if len(places) != len(table):
        raise ValueError("two names of a micro ZAP have the same hash and discriminator")
    return table


def _decode_fat(data: bytes) -> dict[bytes, Value]:
    head = _HEADER.unpack_from(data)
    table_block, table_blocks, shift, leaf_count, entry_count, salt = (*head[2:5], *head[8:11])
    at = table_block * BLOCK if table_blocks else BLOCK // 2
    pointers = struct.unpack_from(f"<{1 << shift}Q", data, at)
    table: dict[bytes, Value] = {}
    slots = Counter(pointers)
    first = {number: slot for slot, number in reversed(list(enumerate(pointers)))}
    for number in slots:
        block = data[number * BLOCK : (number + 1) * BLOCK]
        prefix, length = _read_leaf(block, salt, table)
        if (prefix << shift - length, 1 << shift - length) != (first[number], slots[number]):
            raise ValueError(f"leaf {number} is not where its prefix says")
    if len(slots) != leaf_count or len(table) != entry_count:
        raise ValueError("fat ZAP with wrong counts")
    return table


def _read_leaf(block: bytes, salt: int, table: dict[bytes, Value]) -> tuple[int, int]:
    """Put the entries of a leaf into `table`; gives its prefix and the prefix's length."""
    kind, _, prefix, magic, _, count, length, _, _ = _LEAF_HEADER.unpack_from(block)
    if kind != LEAF_TYPE or magic != LEAF_MAGIC:
        raise ValueError("not a ZAP leaf")
    found = 0
    for bucket, link in enumerate(struct.unpack_from(f"<{_BUCKETS}H", block, 48)):
        chunk = link
        while chunk != _END:
            entry = _ENTRY.unpack_from(block, _CHUNKS_AT + chunk * _CHUNK)
            name = _read_array(block, entry[3], entry[4])[:-1]
            key = entry[8]
            if key != zap_hash(name, salt) or (length and key >> 64 - length != prefix):
                raise ValueError(f"entry {name!r} is in the wrong leaf")
            if key >> 64 - _BUCKET_SHIFT - length & _BUCKETS - 1 != bucket:
                raise ValueError(f"entry {name!r} is in the wrong bucket")
            table[name] = _read_value(block, entry[1], entry[5], entry[6])
            found += 1
            chunk = entry[2]
    if found != count:
        raise ValueError(f"leaf with {found} entries says {count}")
    return prefix, length


def _read_array(block: bytes, link: int, size: int) -> bytes:
    parts = []
    for _ in range(_array_chunks(size)):
        kind, data, link = _ARRAY.unpack_from(block, _CHUNKS_AT + link * _CHUNK)
        if kind != _CHUNK_ARRAY:
            raise ValueError("an entry leads to a chunk that is no array")
        parts.append(data)
    return b"".join(parts)[:size]


def _read_value(block: bytes, width: int, link: int, count: int) -> Value:
    raw = _read_array(block, link, width * count)
    if width == 8 and count == 1:
        return int.from_bytes(raw, "big")
    if width == 2:
        return tuple(struct.unpack(f">{count}H", raw))
    return raw
