# SPDX-License-Identifier: BSD-2-Clause
"""The pure parts of the pool writer: checksums, tables, attributes, structures."""

from __future__ import annotations

import os
import random
import stat
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.build.zfs import layout, nvlist, sa, zap
from capstan.build.zfs.checksum import fletcher4, fletcher4_numpy, is_sealed, seal
from capstan.build.zfs.compress import lz4_compressor, store, unpack
from capstan.build.zfs.dmu import Space

KB = 1 << 10


def four_sums(data: bytes) -> tuple[int, ...]:
    """Fletcher4 as the definition has it."""
    sums = [0, 0, 0, 0]
    for (word,) in struct.iter_unpack("<I", data):
        for index in range(4):
            sums[index] += word if index == 0 else sums[index - 1]
    return tuple(value % (1 << 64) for value in sums)


@pytest.mark.parametrize("size", [0, 4, 512, 3068, 3072, 3076, 4096, 16 * KB, 128 * KB])
@pytest.mark.parametrize("kind", ["random", "ones"])
def test_fletcher4_is_the_definition(size: int, kind: str) -> None:
    data = os.urandom(size) if kind == "random" else b"\xff" * size
    assert fletcher4(data) == four_sums(data)
    assert fletcher4_numpy()(data) == four_sums(data)


@pytest.mark.parametrize("function", [fletcher4, fletcher4_numpy()])
def test_fletcher4_refuses_what_would_overflow(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match="over 128 KiB"):
        function(bytes(256 * KB))


def test_a_sealed_area_belongs_to_its_place() -> None:
    area = seal(os.urandom(KB), 4096)
    assert is_sealed(area, 4096)
    assert not is_sealed(area, 8192)
    assert not is_sealed(b"x" + area[1:], 4096)


@pytest.mark.parametrize("data", [b"text " * 4000, os.urandom(20_000), bytes(512), b"a" * 4096])
def test_compression_can_be_undone(data: bytes) -> None:
    for compressor in (store, lz4_compressor()):
        packed, kind = compressor(data)
        assert unpack(packed, kind, len(data)) == data
        assert kind == layout.COMPRESS_OFF or len(packed) % layout.SECTOR == 0


def test_compression_is_used_where_it_saves_an_eighth() -> None:
    pack = lz4_compressor()
    assert pack(bytes(16 * KB))[1] == layout.COMPRESS_LZ4
    assert pack(os.urandom(16 * KB))[1] == layout.COMPRESS_OFF
    assert pack(bytes(layout.SECTOR))[1] == layout.COMPRESS_OFF
    assert pack(os.urandom(120 * KB) + bytes(8 * KB))[1] == layout.COMPRESS_OFF


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"\0\0\xff\xff" + bytes(100), 15), (b"\0\0\0\x10" + b"\xff" * 16, 15), (b"", 16)],
)
def test_damaged_blocks_are_refused(data: bytes, kind: int) -> None:
    with pytest.raises(ValueError, match=r"compress|lz4"):
        unpack(data, kind, 4096)


def test_block_pointer_round_trip() -> None:
    packed = layout.pack_bp(0x123000, 8192, 131072, 15, (1, 2, 3, 2**64 - 1), 19, 1, 4, 77)
    bp = layout.unpack_bp(packed)
    assert bp == layout.BlockPointer(
        ((0x123000, 8192),), 8192, 131072, 15, 7, 19, 1, 4, 77, (1, 2, 3, 2**64 - 1)
    )
    assert layout.unpack_bp(layout.BP_HOLE) is None


def test_small_block_occupies_a_sector() -> None:
    bp = layout.unpack_bp(layout.pack_bp(0, 512, 512, 2, (0, 0, 0, 0), 19, 0, 4, 1))
    assert bp and (bp.asize, bp.psize) == (4096, 512)


def test_dnode_round_trip_with_spill() -> None:
    pointer = layout.pack_bp(4096, 512, 512, 2, (1, 2, 3, 4), 44, 0, 4, 1)
    dnode = layout.Dnode(
        19, 131072, 44, b"b" * 168, 2, 7, 4096, pointer, spill=pointer, indirect_shift=17
    )
    packed = dnode.pack()
    assert len(packed) == layout.DNODE_SIZE
    assert layout.Dnode.unpack(packed) == dnode


def test_dnode_refuses_a_bonus_that_would_reach_into_the_spill_pointer() -> None:
    with pytest.raises(ValueError, match="room"):
        layout.Dnode(19, bonus_kind=44, bonus=bytes(200), spill=layout.BP_HOLE).pack()


@pytest.mark.parametrize(
    ("bonus", "count"), [(0, 3), (24, 3), (64, 3), (65, 2), (256, 1), (320, 1)]
)
def test_pointers_follow_from_the_bonus(bonus: int, count: int) -> None:
    assert layout.Dnode(1, bonus_kind=7, bonus=bytes(bonus)).pointer_room == count


def test_nvlist_round_trip_and_bytes() -> None:
    values: nvlist.NvList = {
        "version": 5000,
        "name": "päol",
        "flag": True,
        "vdev_tree": {"id": 0, "children": [{"a": 1}, {"b": 2**64 - 1}]},
    }
    assert nvlist.decode(nvlist.encode(values)) == values
    assert nvlist.encode({"id": 7}).hex() == (
        "01010000" "0000000000000001"  # header, list version, unique names
        "00000020" "00000020"  # encoded and decoded size
        "00000002" "69640000" "00000008" "00000001" "0000000000000007"
        "0000000000000000"
    )  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0", b"\1\1\0\0" + b"\0" * 8 + b"\0\0\1\0" * 4])
def test_damaged_nvlist_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="name-value"):
        nvlist.decode(data)


names = st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name)
values = st.one_of(
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=40).map(tuple),
    st.binary(max_size=80).map(lambda text: text + b"\0"),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, values, max_size=60), st.integers(1, 2**64 - 1))
def test_zap_round_trip(entries: dict[bytes, zap.Value], salt: int) -> None:
    assert zap.decode(zap.encode(entries, salt).data) == entries


@pytest.mark.parametrize(
    ("count", "length", "block_size"),
    [
        (0, 8, 512),
        (7, 8, 512),
        (8, 8, 1024),
        (2047, 49, 128 * KB),
        (2048, 8, 16 * KB),
        (1, 50, 16 * KB),
        (30_000, 8, 16 * KB),
    ],
)
def test_zap_takes_the_smallest_form(count: int, length: int, block_size: int) -> None:
    entries: dict[bytes, zap.Value] = {
        b"%0*d" % (length, n): n % 16 << 60 | n for n in range(count)
    }
    table = zap.encode(entries, 12345)
    assert table.block_size == block_size
    assert zap.decode(table.data) == entries
    assert len(table.blocks) * block_size == len(table.data)


def test_zap_with_a_pointer_table_of_its_own() -> None:
    entries: dict[bytes, zap.Value] = {b"%d" % n: (n,) * 4000 for n in range(100)}
    table = zap.encode(entries, 99)
    blocks, shift = struct.unpack_from("<2Q", table.data, 24)
    assert blocks == (8 << shift) // zap.BLOCK > 0
    assert zap.decode(table.data) == entries


def test_names_with_the_same_hash_differ_in_their_discriminator() -> None:
    salt, seen = 3, dict[int, bytes]()
    rng, pair = random.Random(6), list[bytes]()
    for _ in range(100_000):
        name = rng.randbytes(12).hex().encode()
        key = zap.zap_hash(name, salt)
        if key in seen:
            pair = [seen[key], name]
            break
        seen[key] = name
    assert pair, "28 bits must collide among so many names"
    table = zap.encode({pair[0]: 1, pair[1]: 2}, salt)
    assert sorted(struct.unpack_from("<I", table.data, at)[0] for at in (72, 136)) == [0, 1]
    many: dict[bytes, zap.Value] = {b"%d" % n: n for n in range(3000)}
    assert zap.decode(zap.encode(many | {pair[0]: 1, pair[1]: 2}, salt).data)[pair[1]] == 2


def test_zap_hash_known_value() -> None:
    # The published check value of CRC-64/XZ, which uses this polynomial and inverts at the end.
    assert zap.zap_hash(b"", 0xFFF << 52) == 0xFFF << 52
    assert zap.zap_hash(b"123456789", 2**64 - 1) >> 36 == (~0x995DC9BBDF1939FA & 2**64 - 1) >> 36


@pytest.mark.parametrize("at", [0, 16 * KB + 24, 16 * KB + 60])
def test_damaged_zap_is_refused(at: int) -> None:
    entries: dict[bytes, zap.Value] = {b"n" * 60: 1, b"m" * 60: 2}
    data = bytearray(zap.encode(entries, 5).data)
    data[at : at + 1200] = b"\x55" * 1200
    with pytest.raises(ValueError, match=r"ZAP|leaf|entry|chunk"):
        zap.decode(bytes(data))


ORDERS = {
    number: [sa._ATTRIBUTES[name][0] for name in order] for number, order in sa.LAYOUTS.items()
}


@pytest.mark.parametrize(
    ("mode", "target", "rdev"),
    [
        (stat.S_IFREG | 0o644, b"", 0),
        (stat.S_IFDIR | 0o1777, b"", 0),
        (stat.S_IFREG | 0o604, b"", 0),
        (stat.S_IFCHR | 0o666, b"", 1 << 20 | 3),
        *((stat.S_IFLNK | 0o777, b"t" * size, 0) for size in (1, 8, 144, 145, 4095)),
    ],
)
@pytest.mark.parametrize("mtime", [0, 1_700_000_000_123_456_789, -5])
def test_attributes_round_trip(mode: int, target: bytes, rdev: int, mtime: int) -> None:
    attributes = sa.Attributes(mode, len(target), 1000, 100, 6, 2, 4, mtime, rdev, target)
    bonus, spill = attributes.pack()
    assert len(bonus) <= (192 if spill else 320)
    assert bool(spill) == (len(target) > 144)
    assert sa.Attributes.unpack(bonus, spill, ORDERS) == attributes


def test_attributes_stand_where_grub_looks() -> None:
    attributes = sa.Attributes(stat.S_IFLNK | 0o777, 3, 0, 0, 6, 9, 4, 7 * 10**9 + 8, target=b"abc")
    bonus, _ = attributes.pack()
    at = (struct.unpack_from("<H", bonus, 4)[0] >> 10) * 8
    body = bonus[at:]
    fixed = [struct.unpack_from("<Q", body, offset)[0] for offset in (0, 8, 40, 72, 80, 120)]
    assert fixed == [stat.S_IFLNK | 0o777, 3, 6, 7, 8, 9]
    assert body[160:163] == b"abc"


@pytest.mark.parametrize(
    ("mode", "masks"),
    [  # as OpenZFS 2.3.2 writes them
        (stat.S_IFDIR | 0o755, (0x1E01FF, 0x1200A9, 0x1200A9)),
        (stat.S_IFREG | 0o644, (0x1E019F, 0x120089, 0x120089)),
        (stat.S_IFLNK | 0o777, (0x1E01BF, 0x1200AF, 0x1200AF)),
    ],
)
def test_acl_as_openzfs_writes_it(mode: int, masks: tuple[int, int, int]) -> None:
    who = (0x1000, 0x2040, 0x4000)
    wanted = [(0, flags, mask) for flags, mask in zip(who, masks, strict=True)]
    assert list(struct.iter_unpack("<HHI", sa.acl_of_mode(mode))) == wanted


def granted(mode: int, principals: set[int], right: int) -> bool:
    """Evaluate the ACL as RFC 7530 says: the first entry that names the right decides."""
    for kind, who, mask in struct.iter_unpack("<HHI", sa.acl_of_mode(stat.S_IFREG | mode)):
        if mask & right and who in principals:
            return bool(kind == 0)
    return False


def test_acl_grants_exactly_what_the_mode_does() -> None:
    owner, group, everyone = 0x1000, 0x2040, 0x4000
    askers = ((6, {owner, group, everyone}), (6, {owner, everyone}), (3, {group, everyone}))
    for mode in range(0o1000):
        for shift, principals in (*askers, (0, {everyone})):
            for bit, right in ((4, 1), (2, 2), (1, 0x20)):
                assert granted(mode, principals, right) == bool(mode >> shift & bit), oct(mode)


def test_registry_has_the_numbers_of_the_format() -> None:
    registry = sa.registry()
    assert len(registry) == 22
    assert registry[b"ZPL_DACL_ACES"] == 0x40013
    assert registry[b"ZPL_SCANSTAMP"] == 0x20030012
    assert sa.layouts()[b"2"] == (5, 6, 4, 12, 13, 7, 11, 0, 1, 2, 3, 8, 16, 19)


def test_space_never_crosses_a_metaslab() -> None:
    space = Space(20)
    for _ in range(100):
        address = space.take(96 * KB)
        assert address >> 20 == address + 96 * KB - 1 >> 20
    assert [start >> 20 for start, _ in space.slabs] == list(range(10))
    assert space.keep_together(1 << 20)
    assert space.take(1 << 20) == 10 << 20
    assert space.slabs[-1] == (10 << 20, 11 << 20)
