# SPDX-License-Identifier: BSD-2-Clause
"""Checks a whole pool: every checksum, every sum, every name. Gives a list of what is wrong.

`zdb -bcc` checks checksums and space maps but none of the sums of the DSL, which OpenZFS
believes at import and later subtracts from; so they are counted again here. Only pools without
snapshots are understood, which is all that we write.
"""

from __future__ import annotations

import stat
import struct
from collections import Counter
from dataclasses import dataclass, field

from capstan.build.zfs.dmu import Usage
from capstan.build.zfs.layout import (
    ASHIFT,
    BP_HOLE,
    BP_SIZE,
    DNODE_SIZE,
    OVERHEAD,
    BlockPointer,
    Dnode,
    Ot,
    unpack_bp,
    unpack_objset,
)
from capstan.build.zfs.reader import Entry, Filesystem, ObjectSet, Pool
from capstan.errors import ImageError

_FREE = 1 << 15
_NOT_ALLOCATION = 1 << 63


def fsck(pool: Pool) -> list[str]:
    """What is wrong with `pool`; an empty list if nothing is."""
    check = _Check(pool)
    try:
        check.labels()
        check.mos()
        check.space_maps()
        check.directories()
        check.names()
    except (ImageError, ValueError, struct.error) as err:
        check.problems.append(f"cannot go on: {err}")
    return check.problems


@dataclass(frozen=True, slots=True)
class _DslDir:
    """The counted fields of a DSL directory."""

    head: int
    parent: int
    used: Usage
    breakdown: tuple[int, ...]

    @classmethod
    def unpack(cls, bonus: bytes) -> _DslDir:
        words = struct.unpack_from("<18Q", bonus)
        return cls(words[1], words[2], Usage(*words[5:8]), words[13:18])


@dataclass(slots=True)
class _Check:
    pool: Pool
    problems: list[str] = field(default_factory=list)
    _claimed: bytearray = field(default_factory=bytearray)  # one byte for each sector
    _objects: dict[int, Dnode] = field(default_factory=dict)  # of the MOS
    _mos_usage: Usage = field(default_factory=Usage)
    _datasets: dict[int, Usage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._claimed = bytearray(self.pool.device.size - OVERHEAD >> ASHIFT)

    def _expect(self, found: object, wanted: object, what: str) -> None:
        if found != wanted:
            self.problems.append(f"{what}: {found} instead of {wanted}")

    def labels(self) -> None:
        """All four labels say the same, and the sum of the GUIDs is right."""
        for start, config, uberblock in self.pool.device.labels():
            self._expect(config, self.pool.config, f"configuration in the label at {start:#x}")
            self._expect(uberblock, self.pool.uberblock, f"uberblock in the label at {start:#x}")
        guids = [self.pool.config["pool_guid"], self.pool.config["guid"]]
        total = sum(guid for guid in guids if isinstance(guid, int)) % (1 << 64)
        self._expect(self.pool.uberblock.guid_sum, total, "sum of the GUIDs")

    def mos(self) -> None:
        """Every block of the MOS and of the datasets in it."""
        self._objects = self._object_set(self.pool.uberblock.root, self._mos_usage, "MOS")
        for number, dnode in self._objects.items():
            if dnode.kind == Ot.DSL_DATASET:
                self._dataset(number, dnode.bonus)

    def _dataset(self, number: int, bonus: bytes) -> None:
        pointer = bonus[128 : 128 + BP_SIZE]
        usage = self._datasets[number] = Usage()
        if pointer != BP_HOLE:
            self._object_set(pointer, usage, f"dataset {number}")
        sums = struct.unpack_from("<4Q", bonus, 72)
        self._expect(Usage(*sums[:3]), usage, f"sums of dataset {number}")
        self._expect(sums[3], usage.allocated, f"unique bytes of dataset {number}")

    def _object_set(self, pointer: bytes, usage: Usage, where: str) -> dict[int, Dnode]:
        """Walk all objects of a set, adding up what they take."""
        bp = unpack_bp(pointer)
        if bp is None:
            raise self.pool.device.error(f"{where} is missing")
        self._claim(bp, usage, where)
        _, meta, accounting = unpack_objset(self.pool.device.block(bp))
        objects = ObjectSet(self.pool.device, meta)
        found: dict[int, Dnode] = {}
        per_block = objects.meta.block_size // DNODE_SIZE
        fill = self._object(objects.meta, usage, f"{where} object 0")
        for number, block in enumerate(objects.content(objects.meta)):
            for index in range(per_block):
                dnode = Dnode.unpack(block[index * DNODE_SIZE : (index + 1) * DNODE_SIZE])
                if dnode.kind:
                    found[number * per_block + index] = dnode
        for number, dnode in [*found.items(), *enumerate(accounting)]:
            self._object(dnode, usage, f"{where} object {number}")
        self._expect(fill, len(found), f"{where}: objects counted by the dnode blocks")
        self._expect(bp.fill, len(found), f"{where}: objects counted by the object set")
        return found

    def _object(self, dnode: Dnode, usage: Usage, where: str) -> int:
        """Walk the blocks of one object; gives its fill."""
        before = usage.allocated
        self._expect(len(dnode.pointers) // BP_SIZE, dnode.pointer_room, f"{where}: pointers")
        fill = self._tree(dnode, dnode.pointers, dnode.levels - 1, usage, where)
        spill = unpack_bp(dnode.spill) if dnode.spill else None
        if spill:
            self.pool.device.block(spill)
            self._claim(spill, usage, where)
        self._expect(dnode.used, usage.allocated - before, f"{where}: bytes used")
        return fill

    def _tree(self, dnode: Dnode, pointers: bytes, level: int, usage: Usage, where: str) -> int:
        total = 0
        size = dnode.block_size if level == 0 else 1 << dnode.indirect_shift
        for at in range(0, len(pointers), BP_SIZE):
            bp = unpack_bp(pointers[at : at + BP_SIZE])
            if bp is None:
                continue
            self._claim(bp, usage, where)
            block = self.pool.device.block(bp)
            self._expect((bp.level, bp.kind, bp.lsize), (level, dnode.kind, size), where)
            fill = 1
            if level:
                fill = self._tree(dnode, block, level - 1, usage, where)
            elif dnode.kind == Ot.DNODE:
                kinds = (block[at] for at in range(0, len(block), DNODE_SIZE))
                fill = sum(map(bool, kinds))
            self._expect(bp.fill, fill, f"{where}: fill of a level {level} block")
            total += fill
        return total

    def _claim(self, bp: BlockPointer, usage: Usage, where: str) -> None:
        usage.add(bp.asize, bp.psize, bp.lsize, bp.kind, bp.level)
        if bp.birth > self.pool.uberblock.txg:
            self.problems.append(f"{where}: a block is from the future")
        for address, size in bp.copies:
            start, end = address >> ASHIFT, address + size >> ASHIFT
            if end > len(self._claimed):
                raise self.pool.device.error(f"{where}: a block is beyond the end")
            if any(self._claimed[start:end]):
                self.problems.append(f"{where}: the block at {address:#x} belongs to two")
            self._claimed[start:end] = b"\1" * (end - start)

    def space_maps(self) -> None:
        """The space maps say allocated exactly where blocks are."""
        tree = self.pool.config["vdev_tree"]
        assert isinstance(tree, dict)
        shift, array = tree["metaslab_shift"], tree["metaslab_array"]
        assert isinstance(shift, int) and isinstance(array, int)
        words = b"".join(self.pool.mos.content(self.pool.mos.dnode(array)))
        for slab, (number,) in enumerate(struct.iter_unpack("<Q", words)):
            sectors = 1 << shift - ASHIFT
            claimed = bytes(self._claimed[slab * sectors : (slab + 1) * sectors])
            mapped = self._space_map(number, sectors) if number else bytes(len(claimed))
            if mapped[: len(claimed)] != claimed:
                lost = sum(a > b for a, b in zip(mapped, claimed, strict=False))
                unsafe = sum(a < b for a, b in zip(mapped, claimed, strict=False))
                self.problems.append(
                    f"metaslab {slab}: {lost} sectors leaked, {unsafe} in use but free"
                )

    def _space_map(self, number: int, sectors: int) -> bytes:
        dnode = self.pool.mos.dnode(number)
        own, length, allocated = struct.unpack_from("<3Q", dnode.bonus)
        self._expect(own, number, f"space map {number}: own number")
        data = b"".join(self.pool.mos.content(dnode))[:length]
        state = bytearray(sectors)
        for (word,) in struct.iter_unpack("<Q", data):
            if word & _NOT_ALLOCATION:
                continue
            start, run = word >> 16 & (1 << 47) - 1, (word & 0x7FFF) + 1
            is_free = bool(word & _FREE)
            if state[start : start + run] != bytes([is_free]) * run:
                self.problems.append(f"space map {number}: sector {start} taken or freed twice")
            state[start : start + run] = bytes([not is_free]) * run
        self._expect(allocated, sum(state) << ASHIFT, f"space map {number}: allocated")
        return bytes(state)

    def directories(self) -> None:
        """The sums of the DSL directories: what is their own and what is below them."""
        dirs = {
            number: _DslDir.unpack(dnode.bonus)
            for number, dnode in self._objects.items()
            if dnode.kind == Ot.DSL_DIR
        }
        root = self.pool.mos.number(self.pool.mos.table(1), "root_dataset")
        children = struct.unpack_from("<Q", self._objects[root].bonus, 32)[0]
        mos = self.pool.mos.number(self.pool.mos.table(children), "$MOS")
        for number, directory in dirs.items():
            own = self._datasets.get(directory.head, Usage())
            own = self._mos_usage if number == mos else own
            below = [item.used for item in dirs.values() if item.parent == number]
            total = _sum([own, *below])
            self._expect(directory.used, total, f"sums of directory {number}")
            breakdown = (own.allocated, 0, _sum(below).allocated, 0, 0)
            self._expect(directory.breakdown, breakdown, f"breakdown of directory {number}")

    def names(self) -> None:
        """Directories, links and sizes of the file system."""
        files = self.pool.filesystem()
        links: Counter[int] = Counter()
        entries: dict[int, Entry] = {}
        waiting = [files.root]
        entries[files.root] = files.entry(files.root)
        while waiting:
            number = waiting.pop()
            names = files.names(number)
            size = entries[number].attributes.size
            self._expect(size, len(names) + 2, f"size of directory {number}")
            links[number] += 1 if number != files.root else 2
            for name, (child, kind) in names.items():
                links[child] += 1
                if child not in entries:
                    entries[child] = files.entry(child)
                    self._inode(entries[child], number)
                    if stat.S_ISDIR(entries[child].attributes.mode):
                        waiting.append(child)
                        links[number] += 1
                elif stat.S_ISDIR(entries[child].attributes.mode):
                    self.problems.append(f"directory {child} is in two places")
                mode = entries[child].attributes.mode
                self._expect(kind, stat.S_IFMT(mode) >> 12, f"type of the entry {name!r}")
        for number, entry in entries.items():
            self._expect(entry.attributes.links, links[number], f"links of inode {number}")
        self._orphans(files, set(entries))

    def _inode(self, entry: Entry, directory: int) -> None:
        where = f"inode {entry.number}"
        attributes, dnode = entry.attributes, entry.dnode
        kind = stat.S_IFMT(attributes.mode)
        wanted = Ot.DIRECTORY if kind == stat.S_IFDIR else Ot.PLAIN_FILE
        self._expect(dnode.kind, wanted, f"{where}: object type")
        if kind == stat.S_IFDIR:
            self._expect(attributes.parent, directory, f"{where}: parent")
        elif kind == stat.S_IFLNK:
            self._expect(attributes.size, len(attributes.target), f"{where}: size")
        elif kind == stat.S_IFREG:
            room = (dnode.max_block + 1) * dnode.block_size
            self._expect(attributes.size <= room, True, f"{where}: room for its size")

    def _orphans(self, files: Filesystem, known: set[int]) -> None:
        meta = files.objects.meta
        for number, block in enumerate(files.objects.content(meta)):
            for index in range(0, len(block), DNODE_SIZE):
                kind = block[index]
                inode = (number * meta.block_size + index) // DNODE_SIZE
                if kind in (Ot.PLAIN_FILE, Ot.DIRECTORY) and inode not in known:
                    self.problems.append(f"inode {inode} has no name")


def _sum(usages: list[Usage]) -> Usage:
    return Usage(
        sum(usage.allocated for usage in usages),
        sum(usage.compressed for usage in usages),
        sum(usage.uncompressed for usage in usages),
    )
