# SPDX-License-Identifier: BSD-2-Clause
"""Blocks and objects: where a block goes, how an object's tree of blocks is made.

    Space        gives out disk addresses, one after the other, within metaslabs
    BlockWriter  compresses, checksums and writes blocks; keeps the sums of its dataset
    BlockTable   the pointers of one object's blocks until its indirect blocks are written

The addresses rise in the order of the calls and nothing is given back: whatever is written
together lies together, and every metaslab is used from its start to one point.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from capstan.build.zfs.checksum import Fletcher
from capstan.build.zfs.compress import Compressor
from capstan.build.zfs.layout import (
    BP_HOLE,
    BP_SIZE,
    BPS_PER_INDIRECT,
    DATA_START,
    DNODE_BLOCK,
    DNODE_SIZE,
    DNODES_PER_BLOCK,
    INDIRECT_SHIFT,
    SECTOR,
    Dnode,
    Ot,
    align,
    pack_bp,
)
from capstan.errors import BuildError

_FLUSH = 1 << 20
Sums = tuple[int, int, int, int]
Packed = tuple[bytes, int, Sums]  # bytes on disk, compression, checksum


class Space:
    """A bump allocator over metaslabs of 2^shift bytes."""

    def __init__(self, shift: int) -> None:
        self.shift = shift
        self._next = 0
        self._ends: list[int] = []

    def take(self, size: int) -> int:
        """The disk address of `size` more bytes (a multiple of the sector)."""
        slab = 1 << self.shift
        start = self._next
        if start % slab + size > slab or start % slab == 0:
            start = align(start, slab)
            self._ends.append(start)
        self._next = start + size
        self._ends[-1] = self._next
        return start

    def keep_together(self, size: int) -> bool:
        """Make the next `size` bytes lie in one metaslab; whether that starts a new one."""
        slab = 1 << self.shift
        if self._next % slab + size > slab:
            self._next = align(self._next, slab)
        return self._next % slab == 0

    @property
    def end(self) -> int:
        """The first address not given out."""
        return self._next

    @property
    def slabs(self) -> list[tuple[int, int]]:
        """(start, end) of the used part of each metaslab."""
        return [(number << self.shift, end) for number, end in enumerate(self._ends)]


class Image:
    """The output file: collects neighbouring blocks into large writes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._parts: list[bytes] = []
        self._start = 0
        self._end = 0

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at a disk address; the rest of its last sector is zero."""
        if address != self._end or self._end - self._start >= _FLUSH:
            self.flush()
            self._start = self._end = address
        self._parts.append(data)
        rest = -len(data) % SECTOR
        if rest:
            self._parts.append(bytes(rest))
        self._end += len(data) + rest

    def flush(self) -> None:
        """Hand everything to the file."""
        if self._parts:
            self._put(DATA_START + self._start, b"".join(self._parts))
            self._parts.clear()
        self._start = self._end

    def write_label(self, offset: int, data: bytes) -> None:
        """Put `data` at a byte of the image, leaving out sectors that are zero."""
        self.flush()
        for at in range(0, len(data), SECTOR):
            sector = data[at : at + SECTOR]
            if any(sector):
                self._put(offset + at, sector)

    def set_size(self, size: int) -> None:
        """Make the file `size` bytes long."""
        self.flush()
        with _explained():
            self._out.truncate(size)
            self._out.flush()

    def _put(self, offset: int, data: bytes) -> None:
        with _explained():
            self._out.seek(offset)
            self._out.write(data)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise BuildError(
            f"cannot write the image: {err.strerror}",
            hint="make room on the disk (df) or choose another folder",
        ) from err


@dataclass(slots=True)
class Usage:
    """What the blocks of a dataset take; the three sums of the DSL."""

    allocated: int = 0
    compressed: int = 0
    uncompressed: int = 0

    def add(self, allocated: int, psize: int, lsize: int, kind: int, level: int) -> None:
        """Count one block; of metadata, OpenZFS takes the compressed size for both."""
        self.allocated += allocated
        self.compressed += psize
        self.uncompressed += lsize if kind == Ot.PLAIN_FILE and level == 0 else psize


@dataclass(slots=True)
class BlockWriter:
    """Writes the blocks of one dataset."""

    space: Space
    image: Image
    compress: Compressor
    fletcher: Fletcher
    birth: int
    usage: Usage = field(default_factory=Usage)

    def pack(self, block: bytes) -> Packed:
        """What goes to disk for `block`; touches nothing, so any thread may call it."""
        data, compression = self.compress(block)
        return data, compression, self.fletcher(data)

    def place(self, packed: Packed, size: int, kind: int, level: int = 0, fill: int = 1) -> bytes:
        """Write a packed block of `size` logical bytes; gives the pointer to it."""
        data, compression, sums = packed
        allocated = -(-len(data) // SECTOR) * SECTOR
        address = self.space.take(allocated)
        self.image.write(address, data)
        self.usage.add(allocated, len(data), size, kind, level)
        return pack_bp(address, len(data), size, compression, sums, kind, level, self.birth, fill)

    def put(self, block: bytes, kind: int, level: int = 0, fill: int = 1) -> bytes:
        """Write one block; gives the pointer to it."""
        return self.place(self.pack(block), len(block), kind, level, fill)


class BlockTable:
    """Pointers of the blocks of one object, holes left out."""

    def __init__(self) -> None:
        self.used = 0
        self._single = BP_HOLE  # the pointer of block 0, until there is a second one
        self._rows: dict[int, bytearray] = {}  # pointers in a level-1 block, by its number
        self._fills: dict[int, int] = {}

    def add(self, number: int, pointer: bytes, fill: int = 1) -> None:
        """Note block `number`; the numbers rise."""
        self.used += int.from_bytes(pointer[:3], "little") << 9
        chunk, index = divmod(number, BPS_PER_INDIRECT)
        self._fills[chunk] = self._fills.get(chunk, 0) + fill
        if number == 0:
            self._single = pointer
            return
        if not self._rows:
            self._rows[0] = bytearray(self._single)
        _append(self._rows, chunk, index, pointer)

    def finish(self, writer: BlockWriter, dnode: Dnode, blocks: int) -> int:
        """Write the indirect blocks and complete `dnode`, an object of `blocks` blocks.

        Gives the number of things in all blocks together.
        """
        rows, fills = self._rows or {0: bytearray(self._single)}, self._fills
        pointers = dnode.pointer_room
        count, levels = blocks, 1
        while count > pointers:
            above: dict[int, bytearray] = {}
            above_fills: dict[int, int] = {}
            for number, row in sorted(rows.items()):
                if not any(row):
                    continue
                block = bytes(row) + bytes((1 << INDIRECT_SHIFT) - len(row))
                pointer = writer.put(block, dnode.kind, levels, fills[number])
                self.used += int.from_bytes(pointer[:3], "little") << 9
                chunk, index = divmod(number, BPS_PER_INDIRECT)
                _append(above, chunk, index, pointer)
                above_fills[chunk] = above_fills.get(chunk, 0) + fills[number]
            rows, fills = above, above_fills
            count = -(-count // BPS_PER_INDIRECT)
            levels += 1
        dnode.levels = levels
        dnode.pointers = bytes(rows.get(0, b"")).ljust(pointers * BP_SIZE, b"\0")
        dnode.max_block = max(blocks - 1, 0)
        dnode.used += self.used
        return sum(fills.values())


def _append(rows: dict[int, bytearray], chunk: int, index: int, pointer: bytes) -> None:
    row = rows.setdefault(chunk, bytearray())
    row += bytes(index * BP_SIZE - len(row))
    row += pointer


def write_object(writer: BlockWriter, dnode: Dnode, data: bytes) -> Dnode:
    """Write `data`, whole blocks of the object's block size; gives the completed dnode."""
    table = BlockTable()
    size = dnode.block_size
    for number, at in enumerate(range(0, len(data), size)):
        table.add(number, writer.put(data[at : at + size], dnode.kind))
    table.finish(writer, dnode, len(data) // size)
    return dnode


def write_dnodes(writer: BlockWriter, dnodes: list[bytes]) -> tuple[Dnode, int]:
    """Write the array of an object set's dnodes (b"" = free; the first is the array's own).

    Gives the array's dnode and the number of objects.
    """
    table = BlockTable()
    free = bytes(DNODE_SIZE)
    blocks = range(0, len(dnodes), DNODES_PER_BLOCK)
    for number, at in enumerate(blocks):
        part = dnodes[at : at + DNODES_PER_BLOCK]
        block = b"".join(packed or free for packed in part).ljust(DNODE_BLOCK, b"\0")
        count = sum(map(bool, part))
        table.add(number, writer.put(block, Ot.DNODE, fill=count), count)
    meta = Dnode(Ot.DNODE, block_size=DNODE_BLOCK)
    count = table.finish(writer, meta, len(blocks))
    return meta, count
