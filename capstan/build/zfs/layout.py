# SPDX-License-Identifier: BSD-2-Clause
"""Numbers and fixed structures of the format: block pointers, dnodes, object sets, uberblocks.

All of it little-endian. The source is "ZFS On-Disk Specification" (Sun, 2006) and, for what
came later, docs/zfs.md. Only the subset our pools use: one vdev, one copy of each block.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

ASHIFT = 12
SECTOR = 1 << ASHIFT
BLOCK_MAX = 128 << 10
LABEL_SIZE = 256 << 10
LABEL_NVLIST = 16 << 10  # the area's place in a label ...
LABEL_NVLIST_SIZE = 112 << 10
LABEL_BOOTENV = 8 << 10
LABEL_BOOTENV_SIZE = 8 << 10
LABEL_UBERBLOCKS = 128 << 10
UBERBLOCK_SIZE = SECTOR
UBERBLOCK_COUNT = (128 << 10) // UBERBLOCK_SIZE
DATA_START = 4 << 20  # byte of the image at which disk address 0 is
OVERHEAD = DATA_START + 2 * LABEL_SIZE

SPA_VERSION = 5000
UBERBLOCK_MAGIC = 0x00BAB10C
MMP_MAGIC = 0xA11CEA11

COMPRESS_OFF = 2
COMPRESS_LZ4 = 15
CHECKSUM_FLETCHER4 = 7

BP_SIZE = 128
BP_HOLE = bytes(BP_SIZE)
DNODE_SIZE = 512
DNODE_BLOCK = 16 << 10
DNODES_PER_BLOCK = DNODE_BLOCK // DNODE_SIZE
DIRECT_DNODE_BLOCKS = 3  # of an object set; more need an indirect block
INDIRECT_SHIFT = 17
BPS_PER_INDIRECT = (1 << INDIRECT_SHIFT) // BP_SIZE
SPILL_BP_OFFSET = DNODE_SIZE - BP_SIZE

BONUS_MAX = 320

DNODE_USED_BYTES = 1
DNODE_SPILL = 4


class Ot(IntEnum):
    """Object types ("sys/dmu.h")."""

    NONE = 0
    OBJECT_DIRECTORY = 1
    OBJECT_ARRAY = 2
    PACKED_NVLIST = 3
    PACKED_NVLIST_SIZE = 4
    BPOBJ = 5
    BPOBJ_HDR = 6
    SPACE_MAP_HEADER = 7
    SPACE_MAP = 8
    DNODE = 10
    OBJSET = 11
    DSL_DIR = 12
    DSL_DIR_CHILDREN = 13
    DSL_SNAP_NAMES = 14
    DSL_PROPS = 15
    DSL_DATASET = 16
    PLAIN_FILE = 19
    DIRECTORY = 20
    MASTER_NODE = 21
    DELETE_QUEUE = 22
    POOL_PROPS = 31
    NEXT_CLONES = 37
    SA = 44
    SA_MASTER = 45
    SA_REGISTRY = 46
    SA_LAYOUTS = 47
    DEADLIST = 50
    DEADLIST_HDR = 51
    DSL_CLONES = 52
    ZAP_METADATA = 0xC4


_BP = struct.Struct("<16Q")
_DNODE = struct.Struct("<8BHHB3xQQ32x")
_LITTLE_ENDIAN = 1 << 63


def align(value: int, unit: int) -> int:
    """`value` rounded up to a multiple of `unit`."""
    return -(-value // unit) * unit


def pack_bp(
    offset: int,
    psize: int,
    lsize: int,
    compression: int,
    sums: tuple[int, int, int, int],
    kind: int,
    level: int,
    birth: int,
    fill: int,
) -> bytes:
    """The 128 bytes of a block pointer; `offset` is the disk address in bytes."""
    asize = -(-psize // SECTOR) * (SECTOR >> 9)
    prop = (
        (lsize >> 9) - 1
        | (psize >> 9) - 1 << 16
        | compression << 32
        | CHECKSUM_FLETCHER4 << 40
        | kind << 48
        | level << 56
        | _LITTLE_ENDIAN
    )
    return _BP.pack(asize, offset >> 9, 0, 0, 0, 0, prop, 0, 0, 0, birth, fill, *sums)


@dataclass(frozen=True, slots=True)
class BlockPointer:
    """A block pointer as the reader sees it; sizes in bytes."""

    copies: tuple[tuple[int, int], ...]  # (disk address, allocated size)
    psize: int
    lsize: int
    compression: int
    checksum: int
    kind: int
    level: int
    birth: int
    fill: int
    sums: tuple[int, int, int, int]

    @property
    def asize(self) -> int:
        """Bytes allocated for all copies."""
        return sum(size for _, size in self.copies)


def unpack_bp(data: bytes) -> BlockPointer | None:
    """The block pointer in `data`, or None for a hole.

    Raises:
        ValueError: a kind of pointer our pools do not have.
    """
    words = _BP.unpack(data)
    prop = words[6]
    if prop >> 39 & 1 or (prop and not prop & _LITTLE_ENDIAN):
        raise ValueError("embedded or big-endian block pointer")
    copies = []
    for at in (0, 2, 4):
        size, offset = words[at], words[at + 1]
        if size >> 32 or offset >> 63:
            raise ValueError("gang block, or a block of another vdev")
        if size:
            copies.append((offset << 9, (size & 0xFFFFFF) << 9))
    if not copies:
        return None
    return BlockPointer(
        copies=tuple(copies),
        psize=(prop >> 16 & 0xFFFF) + 1 << 9,
        lsize=(prop & 0xFFFF) + 1 << 9,
        compression=prop >> 32 & 0x7F,
        checksum=prop >> 40 & 0xFF,
        kind=prop >> 48 & 0xFF,
        level=prop >> 56 & 0x1F,
        birth=words[10],
        fill=words[11],
        sums=words[12:16],
    )


@dataclass(slots=True)
class Dnode:
    """One object: its type, attributes (bonus) and the top of its tree of blocks."""

    kind: int
    block_size: int = 512
    bonus_kind: int = 0
    bonus: bytes = b""
    levels: int = 1
    max_block: int = 0
    used: int = 0  # bytes allocated, indirect and spill blocks included
    pointers: bytes = BP_HOLE
    spill: bytes = b""
    indirect_shift: int = INDIRECT_SHIFT
    flags: int = DNODE_USED_BYTES

    @property
    def pointer_room(self) -> int:
        """How many pointers the dnode has: system attributes want all the rest as bonus."""
        return 1 if self.bonus_kind == Ot.SA else 1 + (BONUS_MAX - len(self.bonus)) // BP_SIZE

    def pack(self) -> bytes:
        """The 512 bytes on disk."""
        count = len(self.pointers) // BP_SIZE
        head = _DNODE.pack(
            self.kind,
            self.indirect_shift,
            self.levels,
            count,
            self.bonus_kind,
            0,
            0,
            self.flags | (DNODE_SPILL if self.spill else 0),
            self.block_size >> 9,
            len(self.bonus),
            0,
            self.max_block,
            self.used,
        )
        body = head + self.pointers + self.bonus
        room = SPILL_BP_OFFSET if self.spill else DNODE_SIZE
        if len(body) > room:
            raise ValueError(f"dnode of {len(body)} bytes, room for {room}")
        return body + bytes(room - len(body)) + self.spill

    @classmethod
    def unpack(cls, data: bytes) -> Dnode:
        """The dnode in `data` (512 bytes); a free slot has kind 0.

        Raises:
            ValueError: a large dnode, or sizes that cannot be.
        """
        fields = _DNODE.unpack_from(data)
        kind, ishift, levels, count, bonus_kind, _, _, flags, sectors, bonus_len, extra = fields[
            :11
        ]
        bonus_at = 64 + count * BP_SIZE
        has_spill = bool(flags & DNODE_SPILL)
        room = SPILL_BP_OFFSET if has_spill else DNODE_SIZE
        if extra or (kind and not 1 <= count <= 3) or bonus_at + bonus_len > room:
            raise ValueError(f"dnode with {count} pointers, bonus {bonus_len}, {extra} extra slots")
        return cls(
            kind=kind,
            block_size=sectors << 9,
            bonus_kind=bonus_kind,
            bonus=data[bonus_at : bonus_at + bonus_len],
            levels=levels,
            max_block=fields[11],
            used=fields[12],
            pointers=data[64:bonus_at],
            spill=data[SPILL_BP_OFFSET:DNODE_SIZE] if has_spill else b"",
            indirect_shift=ishift,
            flags=flags & ~DNODE_SPILL,
        )


OBJSET_TYPE_META = 1
OBJSET_TYPE_ZFS = 2
_OBJSET_SIZES = {OBJSET_TYPE_META: 1 << 10, OBJSET_TYPE_ZFS: 2 << 10}


def pack_objset(kind: int, meta: Dnode) -> bytes:
    """An object set: its dnode array, an empty intent log, no user accounting yet."""
    head = meta.pack() + bytes(192) + struct.pack("<Q", kind)
    return head + bytes(_OBJSET_SIZES[kind] - len(head))


class ObjsetDisk(NamedTuple):
    """What an object set holds."""

    kind: int
    meta: Dnode  # the array of its objects' dnodes
    accounting: list[Dnode]  # who owns how much; a host that mounted the pool makes them


def unpack_objset(data: bytes) -> ObjsetDisk:
    """The object set in `data`."""
    (kind,) = struct.unpack_from("<Q", data, 704)
    others = (data[at : at + DNODE_SIZE] for at in range(1024, min(len(data), 2560), DNODE_SIZE))
    accounting = [Dnode.unpack(other) for other in others if other[0]]
    return ObjsetDisk(kind, Dnode.unpack(data[:DNODE_SIZE]), accounting)


@dataclass(frozen=True, slots=True)
class Uberblock:
    """The root of everything, one slot of a label's ring."""

    txg: int
    guid_sum: int
    time: int
    root: bytes  # block pointer of the MOS
    version: int = SPA_VERSION

    def pack(self) -> bytes:
        """One slot, not yet sealed."""
        head = struct.pack("<5Q", UBERBLOCK_MAGIC, self.version, self.txg, self.guid_sum, self.time)
        tail = struct.pack("<5Q", SPA_VERSION, MMP_MAGIC, 0, 0, 0)
        body = head + self.root + tail
        return body + bytes(UBERBLOCK_SIZE - len(body))

    @classmethod
    def unpack(cls, data: bytes) -> Uberblock | None:
        """The uberblock in a slot, or None if the slot is empty."""
        magic, version, txg, guid_sum, time = struct.unpack_from("<5Q", data)
        if magic != UBERBLOCK_MAGIC:
            return None
        return cls(txg, guid_sum, time, data[40 : 40 + BP_SIZE], version)
