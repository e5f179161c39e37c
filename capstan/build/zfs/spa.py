# SPDX-License-Identifier: BSD-2-Clause
"""The pool around one file system: the MOS with its directories and datasets, and the labels.

No block of the MOS is compressed, so its size is known before it is written; that breaks the
circle between the space maps (which say what the MOS occupies) and the MOS (which holds them).
`mos_objects` is therefore called twice: once for the size, once for the bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from dataclasses import dataclass, field
from enum import IntEnum

from capstan.build.zfs import nvlist, zap
from capstan.build.zfs.checksum import seal
from capstan.build.zfs.dmu import Usage
from capstan.build.zfs.layout import (
    ASHIFT,
    BP_HOLE,
    COMPRESS_LZ4,
    DIRECT_DNODE_BLOCKS,
    DNODE_BLOCK,
    DNODES_PER_BLOCK,
    INDIRECT_SHIFT,
    LABEL_BOOTENV,
    LABEL_BOOTENV_SIZE,
    LABEL_NVLIST,
    LABEL_NVLIST_SIZE,
    LABEL_SIZE,
    LABEL_UBERBLOCKS,
    OVERHEAD,
    SECTOR,
    SPA_VERSION,
    UBERBLOCK_COUNT,
    UBERBLOCK_SIZE,
    Ot,
    Uberblock,
    align,
)

FEATURES = {
    "org.illumos:lz4_compress": "LZ4 compression algorithm support.",
}
FIRST_TXG = 1  # of the empty snapshot every file system descends from
BIRTH_TXG = 4  # of all that we write
LABEL_TXG = 8  # later than the births: an import reads the newest blocks again
SLABS_MAX = 16384  # metaslabs in use: their numbers fit one block
_SPACE_MAP_SHIFT = 14
_RUN_MAX = 1 << 15
_POOL_EXPORTED = 1
_DATASET_FLAGS = 4  # unique bytes are accurate
_DIR_FLAGS = 1  # the breakdown is in use


class Obj(IntEnum):
    """Object numbers in the MOS; the space maps follow."""

    DIRECTORY = 1
    CONFIG = 2
    FREE_BPOBJ = 3
    SYNC_BPLIST = 4
    FEATURES_READ = 5
    FEATURES_WRITE = 6
    FEATURE_TEXTS = 7
    POOL_PROPS = 8
    METASLABS = 9
    ROOT_DIR = 10
    ROOT_PROPS = 11
    ROOT_CHILDREN = 12
    MOS_DIR = 13
    MOS_PROPS = 14
    MOS_CHILDREN = 15
    FREE_DIR = 16
    FREE_PROPS = 17
    FREE_CHILDREN = 18
    ORIGIN_DIR = 19
    ORIGIN_PROPS = 20
    ORIGIN_CHILDREN = 21
    ORIGIN_CLONES = 22
    ORIGIN_HEAD = 23
    ORIGIN_HEAD_SNAPS = 24
    ORIGIN_HEAD_DEADLIST = 25
    ORIGIN_SNAP = 26
    ORIGIN_SNAP_DEADLIST = 27
    ORIGIN_SNAP_CLONES = 28
    HEAD = 29
    HEAD_SNAPS = 30
    HEAD_DEADLIST = 31
    SPACE_MAP_0 = 32


@dataclass(frozen=True, slots=True)
class Pool:
    """What the pool's own structures depend on."""

    name: str
    created: int
    seed: bytes  # all GUIDs derive from it
    slab_shift: int
    size: int  # bytes of the image
    slabs: list[tuple[int, int]]  # (start, end) of the used part of each metaslab in use
    head: bytes  # pointer to the file system
    head_usage: Usage
    mos_usage: Usage
    compress: bool

    def guid(self, what: str) -> int:
        """A number other than 0 that no other pool has."""
        digest = hashlib.sha256(self.seed + what.encode()).digest()
        return int.from_bytes(digest[:8], "little") | 1

    @property
    def asize(self) -> int:
        """Bytes of the vdev that may be allocated."""
        return self.size - OVERHEAD


@dataclass(frozen=True, slots=True)
class MosObject:
    """One object of the MOS: its content in whole blocks (none = a hole) and its bonus."""

    kind: int
    data: bytes = b""
    block_size: int = 512
    bonus_kind: int = 0
    bonus: bytes = b""
    indirect_shift: int = 17


def mos_usage(objects: dict[int, MosObject]) -> Usage:
    """What the MOS takes on disk: its objects, their dnodes and the object set."""
    blocks = [DNODE_BLOCK] * -(-(max(objects) + 1) // DNODES_PER_BLOCK)
    if len(blocks) > DIRECT_DNODE_BLOCKS:
        blocks.append(1 << INDIRECT_SHIFT)
    blocks.append(1 << 10)
    for item in objects.values():
        blocks += [item.block_size] * (len(item.data) // item.block_size)
    allocated = sum(align(size, SECTOR) for size in blocks)
    return Usage(allocated, sum(blocks), sum(blocks))


def mos_objects(pool: Pool) -> dict[int, MosObject]:
    """All objects of the MOS by number."""
    space_maps = range(Obj.SPACE_MAP_0, Obj.SPACE_MAP_0 + len(pool.slabs))
    objects = _pool_objects(pool)
    objects |= _directories(pool)
    objects |= _datasets(pool)
    array_size = align(8 * len(space_maps), 512)
    objects[Obj.METASLABS] = MosObject(
        Ot.OBJECT_ARRAY,
        struct.pack(f"<{len(space_maps)}Q", *space_maps).ljust(array_size, b"\0"),
        block_size=array_size,
    )
    for number, (start, end) in zip(space_maps, pool.slabs, strict=True):
        objects[number] = _space_map(number, end - start)
    return objects


def _space_map(number: int, used: int) -> MosObject:
    """A metaslab of which the first `used` bytes are allocated."""
    entries = []
    sectors = used >> ASHIFT
    for at in range(0, sectors, _RUN_MAX):
        entries.append(at << 16 | min(_RUN_MAX, sectors - at) - 1)
    data = struct.pack(f"<{len(entries)}Q", *entries)
    return MosObject(
        Ot.SPACE_MAP,
        data.ljust(SECTOR, b"\0"),
        block_size=SECTOR,
        bonus_kind=Ot.SPACE_MAP_HEADER,
        bonus=struct.pack("<3Q", number, len(data), used),
        indirect_shift=_SPACE_MAP_SHIFT,
    )


def _zap(number: int, kind: int, entries: dict[bytes, zap.Value]) -> MosObject:
    table = zap.encode(entries, number << 32 | 1)
    return MosObject(kind, table.data, table.block_size)


def _pool_objects(pool: Pool) -> dict[int, MosObject]:
    directory: dict[bytes, zap.Value] = {
        b"root_dataset": Obj.ROOT_DIR,
        b"config": Obj.CONFIG,
        b"free_bpobj": Obj.FREE_BPOBJ,
        b"sync_bplist": Obj.SYNC_BPLIST,
        b"features_for_read": Obj.FEATURES_READ,
        b"features_for_write": Obj.FEATURES_WRITE,
        b"feature_descriptions": Obj.FEATURE_TEXTS,
        b"pool_props": Obj.POOL_PROPS,
        b"deflate": 1,
        b"creation_version": SPA_VERSION,
    }
    texts: dict[bytes, zap.Value] = {
        name.encode(): text.encode() + b"\0" for name, text in FEATURES.items()
    }
    counts: dict[bytes, zap.Value] = {name.encode(): 1 for name in FEATURES}
    config = nvlist.encode(_config(pool))
    objects: dict[int, MosObject] = {
        Obj.CONFIG: MosObject(
            Ot.PACKED_NVLIST,
            config.ljust(align(len(config), 16 << 10), b"\0"),
            block_size=16 << 10,
            bonus_kind=Ot.PACKED_NVLIST_SIZE,
            bonus=struct.pack("<Q", len(config)),
        )
    }
    for number in (Obj.FREE_BPOBJ, Obj.SYNC_BPLIST):
        objects[number] = MosObject(
            Ot.BPOBJ, block_size=128 << 10, bonus_kind=Ot.BPOBJ_HDR, bonus=bytes(48)
        )
    for number, kind, entries in (
        (Obj.DIRECTORY, Ot.OBJECT_DIRECTORY, directory),
        (Obj.FEATURES_READ, Ot.ZAP_METADATA, counts),
        (Obj.FEATURES_WRITE, Ot.ZAP_METADATA, {}),
        (Obj.FEATURE_TEXTS, Ot.ZAP_METADATA, texts),
        (Obj.POOL_PROPS, Ot.POOL_PROPS, {}),
    ):
        objects[number] = _zap(number, kind, entries)
    return objects


# (directory, its name, properties, children, head dataset, clones)
_DIRS = (
    (Obj.ROOT_DIR, "", Obj.ROOT_PROPS, Obj.ROOT_CHILDREN, Obj.HEAD, 0),
    (Obj.MOS_DIR, "$MOS", Obj.MOS_PROPS, Obj.MOS_CHILDREN, 0, 0),
    (Obj.FREE_DIR, "$FREE", Obj.FREE_PROPS, Obj.FREE_CHILDREN, 0, 0),
    (
        Obj.ORIGIN_DIR,
        "$ORIGIN",
        Obj.ORIGIN_PROPS,
        Obj.ORIGIN_CHILDREN,
        Obj.ORIGIN_HEAD,
        Obj.ORIGIN_CLONES,
    ),
)


def _directories(pool: Pool) -> dict[int, MosObject]:
    children: dict[bytes, zap.Value] = {name.encode(): obj for obj, name, *_ in _DIRS if name}
    head_props: dict[bytes, zap.Value] = {b"compression": COMPRESS_LZ4} if pool.compress else {}
    objects: dict[int, MosObject] = {}
    for number, name, props, kids, head, clones in _DIRS:
        is_root = not name
        own = pool.head_usage if is_root else pool.mos_usage if name == "$MOS" else Usage()
        below = pool.mos_usage if is_root else Usage()
        bonus = struct.pack(
            "<32Q",
            pool.created,
            head,
            0 if is_root else Obj.ROOT_DIR,
            Obj.ORIGIN_SNAP if is_root else 0,
            kids,
            own.allocated + below.allocated,
            own.compressed + below.compressed,
            own.uncompressed + below.uncompressed,
            0,
            0,
            props,
            0,
            _DIR_FLAGS,
            own.allocated,
            0,
            below.allocated,
            0,
            0,
            clones,
            *[0] * 13,
        )
        objects[number] = MosObject(Ot.DSL_DIR, bonus_kind=Ot.DSL_DIR, bonus=bonus)
        objects[props] = _zap(props, Ot.DSL_PROPS, head_props if is_root else {})
        objects[kids] = _zap(kids, Ot.DSL_DIR_CHILDREN, children if is_root else {})
    clones_map: dict[bytes, zap.Value] = {b"%x" % Obj.HEAD: Obj.HEAD}
    objects[Obj.ORIGIN_CLONES] = _zap(Obj.ORIGIN_CLONES, Ot.DSL_CLONES, clones_map)
    return objects


@dataclass(frozen=True, slots=True)
class _Dataset:
    directory: int
    deadlist: int
    previous: int = 0
    previous_txg: int = 0
    next: int = 0
    snapshots: int = 0
    children: int = 0
    clones: int = 0
    pointer: bytes = BP_HOLE
    usage: Usage = field(default_factory=Usage)

    def pack(self, created: int, guid: int) -> bytes:
        head = struct.pack(
            "<16Q",
            self.directory,
            self.previous,
            self.previous_txg,
            self.next,
            self.snapshots,
            self.children,
            created,
            FIRST_TXG,
            self.deadlist,
            self.usage.allocated,
            self.usage.compressed,
            self.usage.uncompressed,
            self.usage.allocated,
            guid >> 8,
            guid,
            _DATASET_FLAGS,
        )
        return head + self.pointer + struct.pack("<8Q", self.clones, *[0] * 7)


def _datasets(pool: Pool) -> dict[int, MosObject]:
    head = _Dataset(
        Obj.ROOT_DIR,
        Obj.HEAD_DEADLIST,
        previous=Obj.ORIGIN_SNAP,
        previous_txg=FIRST_TXG,
        snapshots=Obj.HEAD_SNAPS,
        pointer=pool.head,
        usage=pool.head_usage,
    )
    origin_head = _Dataset(
        Obj.ORIGIN_DIR,
        Obj.ORIGIN_HEAD_DEADLIST,
        previous=Obj.ORIGIN_SNAP,
        previous_txg=FIRST_TXG,
        snapshots=Obj.ORIGIN_HEAD_SNAPS,
    )
    origin = _Dataset(
        Obj.ORIGIN_DIR,
        Obj.ORIGIN_SNAP_DEADLIST,
        next=Obj.ORIGIN_HEAD,
        children=2,  # the head of $ORIGIN and the root file system
        clones=Obj.ORIGIN_SNAP_CLONES,
    )
    objects: dict[int, MosObject] = {}
    for number, dataset in (
        (Obj.HEAD, head),
        (Obj.ORIGIN_HEAD, origin_head),
        (Obj.ORIGIN_SNAP, origin),
    ):
        bonus = dataset.pack(pool.created, pool.guid(f"dataset {number}"))
        objects[number] = MosObject(Ot.DSL_DATASET, bonus_kind=Ot.DSL_DATASET, bonus=bonus)
        deadlist = dataset.deadlist
        objects[deadlist] = dataclasses.replace(
            _zap(deadlist, Ot.DEADLIST, {}), bonus_kind=Ot.DEADLIST_HDR, bonus=bytes(320)
        )
    names: tuple[tuple[int, int, dict[bytes, zap.Value]], ...] = (
        (Obj.HEAD_SNAPS, Ot.DSL_SNAP_NAMES, {}),
        (Obj.ORIGIN_HEAD_SNAPS, Ot.DSL_SNAP_NAMES, {b"$ORIGIN": Obj.ORIGIN_SNAP}),
        (Obj.ORIGIN_SNAP_CLONES, Ot.NEXT_CLONES, {b"%x" % Obj.HEAD: Obj.HEAD}),
    )
    objects |= {number: _zap(number, kind, entries) for number, kind, entries in names}
    return objects


def _vdev(pool: Pool) -> nvlist.NvList:
    return {
        "type": "file",
        "id": 0,
        "guid": pool.guid("vdev"),
        "path": f"/{pool.name}.img",
        "metaslab_array": int(Obj.METASLABS),
        "metaslab_shift": pool.slab_shift,
        "ashift": ASHIFT,
        "asize": pool.asize,
        "is_log": 0,
        "create_txg": BIRTH_TXG,
    }


def _config(pool: Pool) -> nvlist.NvList:
    """The configuration kept in the MOS: all top-level vdevs below a root."""
    guid = pool.guid("pool")
    return {
        **_common(pool),
        "vdev_tree": {"type": "root", "id": 0, "guid": guid, "children": [_vdev(pool)]},
        "features_for_read": _features(),
    }


def _label_config(pool: Pool) -> nvlist.NvList:
    guid = pool.guid("vdev")
    return {
        **_common(pool),
        "top_guid": guid,
        "guid": guid,
        "vdev_tree": _vdev(pool),
        "features_for_read": _features(),
    }


def _common(pool: Pool) -> nvlist.NvList:
    return {
        "version": SPA_VERSION,
        "name": pool.name,
        "state": _POOL_EXPORTED,
        "txg": LABEL_TXG,
        "pool_guid": pool.guid("pool"),
        "vdev_children": 1,
    }


def _features() -> nvlist.NvList:
    return dict.fromkeys(FEATURES, True)


def labels(pool: Pool, root: bytes) -> dict[int, bytes]:
    """The four labels by their byte in the image; `root` points to the MOS."""
    guids = pool.guid("pool") + pool.guid("vdev")
    uberblock = Uberblock(LABEL_TXG, guids % (1 << 64), pool.created, root).pack()
    config = nvlist.encode(_label_config(pool)).ljust(LABEL_NVLIST_SIZE, b"\0")
    slot = LABEL_UBERBLOCKS + LABEL_TXG % UBERBLOCK_COUNT * UBERBLOCK_SIZE
    areas = (
        (LABEL_BOOTENV, bytes(LABEL_BOOTENV_SIZE)),
        (LABEL_NVLIST, config),
        (slot, uberblock),
    )
    packed = {}
    for start in (0, LABEL_SIZE, pool.size - 2 * LABEL_SIZE, pool.size - LABEL_SIZE):
        label = bytearray(LABEL_SIZE)
        for at, area in areas:
            label[at : at + len(area)] = seal(area, start + at)
        packed[start] = bytes(label)
    return packed
