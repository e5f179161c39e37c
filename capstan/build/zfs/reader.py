# SPDX-License-Identifier: BSD-2-Clause
"""Reads pools of our subset: labels, objects, directories, files. For tests and `image ls`.

Everything read from the image is checked against its checksum. `fsck.py` builds on this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from capstan.build.zfs import nvlist, sa, zap
from capstan.build.zfs.checksum import fletcher4_numpy, is_sealed
from capstan.build.zfs.compress import unpack
from capstan.build.zfs.layout import (
    BP_SIZE,
    CHECKSUM_FLETCHER4,
    DATA_START,
    DNODE_SIZE,
    DNODES_PER_BLOCK,
    LABEL_BOOTENV,
    LABEL_BOOTENV_SIZE,
    LABEL_NVLIST,
    LABEL_NVLIST_SIZE,
    LABEL_SIZE,
    LABEL_UBERBLOCKS,
    UBERBLOCK_COUNT,
    UBERBLOCK_SIZE,
    BlockPointer,
    Dnode,
    Ot,
    Uberblock,
    unpack_bp,
    unpack_objset,
)
from capstan.errors import ImageError

_DIRENT_OBJECT = (1 << 48) - 1
_HEAD_DATASET_AT, _DATASET_BP_AT = 8, 128


class Device:
    """The image file as a vdev."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self.where = where
        self._file = file
        self._size = file.seek(0, os.SEEK_END) // LABEL_SIZE * LABEL_SIZE
        self._fletcher = fletcher4_numpy()

    @property
    def size(self) -> int:
        """Bytes of the vdev, labels included."""
        return self._size

    def error(self, what: str) -> ImageError:
        """The failure `what` of this image."""
        return ImageError(f"{self.where}: {what}", hint="build or pull the image again")

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from a byte of the image."""
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise self.error(f"ends before byte {offset + size}")
        return data

    def block(self, pointer: BlockPointer) -> bytes:
        """The logical block a pointer leads to.

        Raises:
            ImageError: wrong checksum or damaged data.
        """
        address = pointer.copies[0][0]
        data = self.read(DATA_START + address, pointer.psize)
        if pointer.checksum != CHECKSUM_FLETCHER4 or self._fletcher(data) != pointer.sums:
            raise self.error(f"wrong checksum of the block at {address:#x}")
        try:
            return unpack(data, pointer.compression, pointer.lsize)
        except ValueError as err:
            raise self.error(f"block at {address:#x}: {err}") from err

    def labels(self) -> Iterator[tuple[int, nvlist.NvList, Uberblock]]:
        """(start, configuration, newest uberblock) of each of the four labels.

        Raises:
            ImageError: a label is damaged.
        """
        for start in (0, LABEL_SIZE, self._size - 2 * LABEL_SIZE, self._size - LABEL_SIZE):
            label = self.read(start, LABEL_SIZE)
            for at, size in (
                (LABEL_BOOTENV, LABEL_BOOTENV_SIZE),
                (LABEL_NVLIST, LABEL_NVLIST_SIZE),
            ):
                if not is_sealed(label[at : at + size], start + at):
                    raise self.error(f"label at {start:#x} is damaged")
            try:
                config = nvlist.decode(label[LABEL_NVLIST:LABEL_UBERBLOCKS])
            except ValueError as err:
                raise self.error(f"label at {start:#x}: {err}") from err
            yield start, config, self._newest(label, start)

    def _newest(self, label: bytes, start: int) -> Uberblock:
        best: Uberblock | None = None
        for slot in range(UBERBLOCK_COUNT):
            at = LABEL_UBERBLOCKS + slot * UBERBLOCK_SIZE
            area = label[at : at + UBERBLOCK_SIZE]
            uberblock = Uberblock.unpack(area)
            if uberblock and is_sealed(area, start + at) and (not best or uberblock.txg > best.txg):
                best = uberblock
        if not best:
            raise self.error(f"no valid uberblock in the label at {start:#x}")
        return best


@dataclass(frozen=True, slots=True)
class ObjectSet:
    """A set of objects found by number."""

    device: Device
    meta: Dnode

    @classmethod
    def at(cls, device: Device, pointer: bytes) -> ObjectSet:
        """The object set a pointer leads to."""
        bp = unpack_bp(pointer)
        if bp is None:
            raise device.error("no object set where there should be one")
        return cls(device, unpack_objset(device.block(bp)).meta)

    def dnode(self, number: int) -> Dnode:
        """Object `number`.

        Raises:
            ImageError: there is none.
        """
        block = self.block(self.meta, number // DNODES_PER_BLOCK)
        at = number % DNODES_PER_BLOCK * DNODE_SIZE
        dnode = Dnode.unpack(block[at : at + DNODE_SIZE])
        if not dnode.kind:
            raise self.device.error(f"object {number} is missing")
        return dnode

    def block(self, dnode: Dnode, number: int) -> bytes:
        """Block `number` of an object; zeros for a hole."""
        pointers = dnode.pointers
        per_block = 1 << dnode.indirect_shift - 7
        for level in range(dnode.levels - 1, -1, -1):
            index = number // per_block**level
            index = index if level == dnode.levels - 1 else index % per_block
            bp = unpack_bp(pointers[index * BP_SIZE : (index + 1) * BP_SIZE])
            if bp is None:
                return bytes(dnode.block_size)
            pointers = self.device.block(bp)
        return pointers

    def content(self, dnode: Dnode) -> Iterator[bytes]:
        """All blocks of an object in order."""
        for number in range(dnode.max_block + 1):
            yield self.block(dnode, number)

    def table(self, number: int) -> dict[bytes, zap.Value]:
        """The ZAP in object `number`."""
        try:
            return zap.decode(b"".join(self.content(self.dnode(number))))
        except ValueError as err:
            raise self.device.error(f"object {number}: {err}") from err

    def number(self, table: dict[bytes, zap.Value], name: str) -> int:
        """The entry `name` of a table as an object number."""
        value = table.get(name.encode())
        if not isinstance(value, int):
            raise self.device.error(f"no {name} where there should be one")
        return value


@dataclass(frozen=True, slots=True)
class Entry:
    """An inode with its number."""

    number: int
    dnode: Dnode
    attributes: sa.Attributes


class Filesystem:
    """The file system of an object set."""

    def __init__(self, objects: ObjectSet) -> None:
        self.objects = objects
        master = objects.table(1)
        self.root = objects.number(master, "ROOT")
        attributes = objects.table(objects.number(master, "SA_ATTRS"))
        layouts = objects.table(objects.number(attributes, "LAYOUTS"))
        self._layouts = {
            int(name): list(order) for name, order in layouts.items() if isinstance(order, tuple)
        }

    def entry(self, number: int) -> Entry:
        """The inode `number`."""
        dnode = self.objects.dnode(number)
        pointer = unpack_bp(dnode.spill) if dnode.spill else None
        spill = self.objects.device.block(pointer) if pointer else b""
        try:
            return Entry(number, dnode, sa.Attributes.unpack(dnode.bonus, spill, self._layouts))
        except ValueError as err:
            raise self.objects.device.error(f"object {number}: {err}") from err

    def names(self, directory: int) -> dict[bytes, tuple[int, int]]:
        """name -> (object, file type) of a directory."""
        found = {}
        for name, value in self.objects.table(directory).items():
            if not isinstance(value, int):
                raise self.objects.device.error(f"bad entry in directory {directory}")
            found[name] = (value & _DIRENT_OBJECT, value >> 60)
        return found

    def walk(self) -> Iterator[tuple[bytes, Entry]]:
        """(path, inode) of everything, the root first; each directory before what is in it.

        Raises:
            ImageError: damaged, or a directory is in two places.
        """
        waiting = [(b"/", self.root)]
        seen: set[int] = set()
        while waiting:
            path, number = waiting.pop()
            entry = self.entry(number)
            yield path, entry
            if stat.S_ISDIR(entry.attributes.mode):
                if number in seen:
                    raise self.objects.device.error(f"directory {number} is in two places")
                seen.add(number)
                for name, (child, _) in sorted(self.names(number).items(), reverse=True):
                    waiting.append((path.rstrip(b"/") + b"/" + name, child))

    def data(self, entry: Entry) -> Iterator[bytes]:
        """The content of a regular file, block by block."""
        left = entry.attributes.size
        if left:
            for block in self.objects.content(entry.dnode):
                yield block[:left]
                left = max(left - len(block), 0)


@dataclass(frozen=True, slots=True)
class Pool:
    """An open pool."""

    device: Device
    config: nvlist.NvList
    uberblock: Uberblock
    mos: ObjectSet

    @classmethod
    def open(cls, file: BinaryIO, where: Path | str) -> Pool:
        """The pool in an image file; `where` names it in errors.

        Raises:
            ImageError: damaged.
        """
        device = Device(file, os.fspath(where))
        _, config, uberblock = max(device.labels(), key=lambda label: label[2].txg)
        return cls(device, config, uberblock, ObjectSet.at(device, uberblock.root))

    def filesystem(self) -> Filesystem:
        """The root file system."""
        directory = self.mos.dnode(self.mos.number(self.mos.table(1), "root_dataset"))
        head = int.from_bytes(directory.bonus[_HEAD_DATASET_AT:][:8], "little")
        dataset = self.mos.dnode(head)
        if dataset.kind != Ot.DSL_DATASET:
            raise self.device.error("the root file system is missing")
        pointer = dataset.bonus[_DATASET_BP_AT : _DATASET_BP_AT + BP_SIZE]
        return Filesystem(ObjectSet.at(self.device, pointer))
