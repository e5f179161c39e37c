# SPDX-License-Identifier: BSD-2-Clause
"""An ELF file as the linker sees it: segments, sections, executable ranges, symbols.

`build/elf.py` checks the headers first; here every section that is used is checked against the
file's size and against the segment that maps it. Addresses are those of the file (no load bias).
Symbols are numpy arrays: node has 110,000 of them and most are never looked at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from capstan.build import elf
from capstan.build.elf import PAGE, Data, ElfError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PT_NULL, PT_LOAD, PT_DYNAMIC, PT_NOTE, PT_PHDR = 0, 1, 2, 4, 6
PT_GNU_EH_FRAME, PT_GNU_STACK, PT_GNU_PROPERTY = 0x6474E550, 0x6474E551, 0x6474E553
PT_PAX_FLAGS = 0x65041580
PF_X, PF_W, PF_R = 1, 2, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOBITS, SHT_DYNSYM = 1, 2, 3, 8, 11
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_IFUNC = 0, 1, 2, 10
DT_TEXTREL, DT_FLAGS, DF_TEXTREL = 22, 30, 4
SHN_XINDEX = 0xFFFF
MAX_SECTIONS = 1 << 16

PHDR = struct.Struct("<IIQQQQQQ")
SHDR = struct.Struct("<IIQQQQIIQQ")


@dataclass(frozen=True, slots=True)
class Segment:
    """One program header."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int

    def pack(self) -> bytes:
        """Its 56 bytes."""
        return PHDR.pack(
            self.type,
            self.flags,
            self.offset,
            self.vaddr,
            self.paddr,
            self.filesz,
            self.memsz,
            self.align,
        )


@dataclass(frozen=True, slots=True)
class Section:
    """One section header; `name_at` is its place in the section name table."""

    name: str
    name_at: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int

    def pack(self) -> bytes:
        """Its 64 bytes."""
        return SHDR.pack(
            self.name_at,
            self.type,
            self.flags,
            self.addr,
            self.offset,
            self.size,
            self.link,
            self.info,
            self.align,
            self.entsize,
        )


@dataclass(frozen=True, slots=True)
class Range:
    """Executable bytes: addresses [start, end), from `offset` of the file."""

    start: int
    end: int
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Symbols:
    """All symbols with an address: parallel arrays; `text_at` finds a name in `names`."""

    value: NDArray[np.uint64]
    size: NDArray[np.uint64]
    kind: NDArray[np.uint8]
    name_at: NDArray[np.uint32]
    table: NDArray[np.uint8]
    names: tuple[bytes, ...]


class ObjFile:
    """A program or library to be linked.

    Raises:
        ElfError: damaged, or not for x86-64.
    """

    def __init__(self, data: Data) -> None:
        elf.parse(data)
        self.data = data
        (self.type, self.entry, self.phoff, self.shoff) = struct.unpack_from("<16xH6xQQQ", data)
        phnum, shentsize, self.shnum, self.shstrndx = struct.unpack_from("<56xHHHH", data)
        self.segments = [
            Segment(*PHDR.unpack_from(data, self.phoff + 56 * i)) for i in range(phnum)
        ]
        self.loads = [s for s in self.segments if s.type == PT_LOAD]
        self.base = min(s.vaddr for s in self.loads) & -PAGE
        self.sections = self._read_sections(shentsize) if self.shoff else []

    def _read_sections(self, entsize: int) -> list[Section]:
        data, count, names_index = self.data, self.shnum, self.shstrndx
        if entsize != 64 or self.shoff + 64 > len(data):
            raise ElfError("damaged section header table")
        if count == 0 or names_index == SHN_XINDEX:
            first = SHDR.unpack_from(data, self.shoff)
            count = count or first[5]
            names_index = first[6] if names_index == SHN_XINDEX else names_index
        if not 0 < count <= MAX_SECTIONS or self.shoff + 64 * count > len(data):
            raise ElfError(f"damaged section header table ({count} sections)")
        self.shnum, self.shstrndx = count, names_index
        rows = [SHDR.unpack_from(data, self.shoff + 64 * i) for i in range(count)]
        for row in rows:
            if row[1] not in {0, SHT_NOBITS} and row[4] + row[5] > len(data):
                raise ElfError("a section ends after the file")
        if names_index >= count:
            raise ElfError("damaged section header table (no names)")
        at, size = rows[names_index][4], rows[names_index][5]
        names = bytes(data[at : at + size])
        return [Section(_name(names, row[0]), *row) for row in rows]

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((s for s in self.sections if s.name == name), None)

    def bytes_at(self, start: int, end: int) -> bytes:
        """What the file has at addresses [start, end); cut off where its segment's bytes end."""
        for seg in self.loads:
            if seg.vaddr <= start < seg.vaddr + seg.filesz:
                end = min(end, seg.vaddr + seg.filesz)
                return bytes(
                    self.data[start - seg.vaddr + seg.offset : end - seg.vaddr + seg.offset]
                )
        return b""

    def offset_of(self, vaddr: int) -> int | None:
        """Where in the file an address comes from."""
        for seg in self.loads:
            if seg.vaddr <= vaddr < seg.vaddr + seg.filesz:
                return vaddr - seg.vaddr + seg.offset
        return None

    @cached_property
    def exec_ranges(self) -> list[Range]:
        """Program text: executable sections, or whole segments where there are no sections."""
        segs = [s for s in self.loads if s.flags & PF_X and s.filesz]
        if not self.sections:
            return [Range(s.vaddr, s.vaddr + s.filesz, s.offset) for s in segs]
        found = []
        for sec in self.sections:
            wanted = SHF_ALLOC | SHF_EXECINSTR
            if sec.type == SHT_PROGBITS and sec.flags & wanted == wanted and sec.size:
                for seg in segs:
                    is_mapped = seg.vaddr <= sec.addr and (
                        sec.addr + sec.size <= seg.vaddr + seg.filesz
                    )
                    if is_mapped and sec.addr - seg.vaddr == sec.offset - seg.offset:
                        found.append(Range(sec.addr, sec.addr + sec.size, sec.offset))
                        break
        return _disjoint(found)

    def range_of(self, vaddr: int) -> Range | None:
        """The executable range an address lies in."""
        return next((r for r in self.exec_ranges if r.start <= vaddr < r.end), None)

    @cached_property
    def symbols(self) -> Symbols:
        """The defined symbols of .symtab and .dynsym."""
        import numpy as np

        layout = np.dtype(
            {
                "names": ["name", "info", "shndx", "value", "size"],
                "formats": ["<u4", "u1", "<u2", "<u8", "<u8"],
                "offsets": [0, 4, 6, 8, 16],
                "itemsize": 24,
            }
        )
        rows, tables = [np.empty(0, layout)], [np.empty(0, np.uint8)]
        names: list[bytes] = []
        for sec in self.sections:
            if sec.type in {SHT_SYMTAB, SHT_DYNSYM} and sec.entsize == 24:
                raw = self.data[sec.offset : sec.offset + sec.size - sec.size % 24]
                all_rows = np.frombuffer(raw, layout)
                row = all_rows[(all_rows["shndx"] != 0) & (all_rows["value"] != 0)]
                row = row[(row["info"] & 15) != 6]  # thread-local: an offset, no address
                rows.append(row)
                tables.append(np.full(len(row), len(names), np.uint8))
                names.append(self._strings(sec.link))
        every = np.concatenate(rows)
        kind = (every["info"] & 15).astype(np.uint8)
        return Symbols(
            every["value"].astype(np.uint64),
            every["size"].astype(np.uint64),
            kind,
            every["name"].astype(np.uint32),
            np.concatenate(tables),
            tuple(names),
        )

    def _strings(self, index: int) -> bytes:
        if not 0 < index < len(self.sections):
            return b""
        sec = self.sections[index]
        return bytes(self.data[sec.offset : sec.offset + sec.size])

    @cached_property
    def has_text_relocations(self) -> bool:
        """Whether the loader writes into program text."""
        for seg in self.segments:
            if seg.type == PT_DYNAMIC:
                end = min(seg.offset + seg.filesz, len(self.data))
                for at in range(seg.offset, end - 15, 16):
                    tag, value = struct.unpack_from("<QQ", self.data, at)
                    if tag == 0:
                        break
                    if tag == DT_TEXTREL or (tag == DT_FLAGS and value & DF_TEXTREL):
                        return True
        return False


def _disjoint(ranges: list[Range]) -> list[Range]:
    """Sorted, and without what a range shares with the one before it (damaged files only)."""
    found: list[Range] = []
    for r in sorted(ranges, key=lambda r: (r.start, r.end)):
        past = max(0, found[-1].end - r.start) if found else 0
        if r.start + past < r.end:
            found.append(Range(r.start + past, r.end, r.offset + past))
    return found


def _name(names: bytes, at: int) -> str:
    end = names.find(b"\0", at)
    return names[at : end if end >= 0 else len(names)].decode(errors="replace")
