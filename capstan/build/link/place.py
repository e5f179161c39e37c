# SPDX-License-Identifier: BSD-2-Clause
"""Where in a file the stubs go, and what that does to its headers.

Slack first: the zero bytes between the end of the executable segment and the end of its last page
(or pages, if nothing follows). Else one more segment behind everything else, in memory and in the
file; its program header replaces one that programs can do without. Either way the segment
then ends at a page's end, with the trailer in its last bytes. Never both in one file. Addresses of
what was there do not change; the header table does not move (AT_PHDR).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from capstan.build.elf import PAGE
from capstan.build.link.objfile import (
    PF_R,
    PF_W,
    PF_X,
    PT_GNU_PROPERTY,
    PT_LOAD,
    PT_NOTE,
    PT_NULL,
    PT_PAX_FLAGS,
    PT_PHDR,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHT_NOBITS,
    ObjFile,
    Section,
    Segment,
)

ALIGN = 16
MAX_EXTENT = 1 << 31
NOTE_BUILD_ID = b"\x03\0\0\0GNU\0"
MAX_TAIL_PADDING = PAGE


@dataclass(frozen=True, slots=True)
class Place:
    """Room for `size` bytes at an address and file offset, and the headers that make it so."""

    vaddr: int
    offset: int
    size: int
    segments: tuple[Segment, ...]
    grown: int | None = None
    """In slack: the index of the section that grows over the stubs."""
    is_slack: bool = False


def overlay(obj: ObjFile) -> int:
    """Bytes at the end of a file that nothing in its headers covers."""
    ends = [obj.phoff + 56 * len(obj.segments), obj.shoff + 64 * len(obj.sections)]
    ends += [s.offset + s.filesz for s in obj.segments]
    ends += [s.offset + s.size for s in obj.sections if s.type not in {0, SHT_NOBITS}]
    end = max(end for end in ends if end <= len(obj.data))
    rest = len(obj.data) - end
    is_padding = rest <= MAX_TAIL_PADDING and not any(obj.data[end : len(obj.data)])
    return 0 if is_padding else rest


def find_place(obj: ObjFile, size: int) -> Place | str:
    """Room for `size` bytes of stubs and tables; or why there is none."""
    for seg in obj.loads:
        if seg.flags & PF_X and not seg.flags & PF_W:
            place = _slack(obj, seg, size)
            if place is not None:
                return place
    if overlay(obj):
        return f"{overlay(obj)} bytes follow the ELF file, and a new segment would move their end"
    return _segment(obj, size)


def _slack(obj: ObjFile, seg: Segment, size: int) -> Place | None:
    start = (seg.vaddr + seg.filesz + ALIGN - 1) & -ALIGN
    end = (start + size + PAGE - 1) & -PAGE
    following = [s.vaddr & -PAGE for s in obj.loads if s.vaddr > seg.vaddr]
    if seg.filesz != seg.memsz or end > min(following, default=end):
        return None
    low, high = seg.offset + seg.filesz, end - seg.vaddr + seg.offset
    if high > len(obj.data) or any(obj.data[low:high]) or _is_used(obj, low, high):
        return None
    grown = _last_exec_section(obj, seg)
    if obj.sections and grown is None:
        return None
    bigger = replace(seg, filesz=end - seg.vaddr, memsz=end - seg.vaddr)
    segments = tuple(bigger if s is seg else s for s in obj.segments)
    room = end - start
    return Place(start, start - seg.vaddr + seg.offset, room, segments, grown, is_slack=True)


def _is_used(obj: ObjFile, low: int, high: int) -> bool:
    """Whether anything claims bytes [low, high) of the file."""
    parts = [(s.offset, s.filesz) for s in obj.segments]
    parts += [(s.offset, s.size) for s in obj.sections if s.type not in {0, SHT_NOBITS}]
    parts += [(obj.phoff, 56 * len(obj.segments)), (obj.shoff, 64 * len(obj.sections))]
    return any(size and at < high and at + size > low for at, size in parts)


def _last_exec_section(obj: ObjFile, seg: Segment) -> int | None:
    """The section at the end of a segment, if it is program text."""
    inside = [
        (s.addr + s.size, index)
        for index, s in enumerate(obj.sections)
        if s.flags & SHF_ALLOC and seg.vaddr <= s.addr < seg.vaddr + seg.memsz and s.size
    ]
    if not inside:
        return None
    end, index = max(inside)
    sec = obj.sections[index]
    is_text = sec.flags & SHF_EXECINSTR and sec.type != SHT_NOBITS
    return index if is_text and end == seg.vaddr + seg.filesz else None


def _segment(obj: ObjFile, size: int) -> Place | str:
    vaddr = max(s.vaddr + s.memsz for s in obj.loads)
    vaddr = (vaddr + PAGE - 1) & -PAGE
    end = content_end(obj)
    offset = (end + PAGE - 1) & -PAGE
    room = (size + PAGE - 1) & -PAGE
    if vaddr + room - obj.base > MAX_EXTENT:
        return "it takes more than 2 GiB of memory"
    new = Segment(PT_LOAD, PF_R | PF_X, offset, vaddr, vaddr, room, room, PAGE)
    segments = _with(obj, new)
    if segments is None:
        return "no program header can be replaced by one for the stubs"
    return Place(vaddr, offset, room, segments)


def content_end(obj: ObjFile) -> int:
    """Where the file would end without a section header table at its end, which is made anew."""
    size = 64 * len(obj.sections)
    tail = len(obj.data) - obj.shoff - size
    if not obj.sections or not 0 <= tail <= MAX_TAIL_PADDING:
        return len(obj.data)
    return len(obj.data) if _is_used_but_table(obj) else obj.shoff


def _is_used_but_table(obj: ObjFile) -> bool:
    parts = [(s.offset, s.filesz) for s in obj.segments]
    parts += [(s.offset, s.size) for s in obj.sections if s.type not in {0, SHT_NOBITS}]
    return any(size and at + size > obj.shoff for at, size in parts)


def _with(obj: ObjFile, new: Segment) -> tuple[Segment, ...] | None:
    """The program headers with one more PT_LOAD: after the last one, in place of another header."""
    victim = _victim(obj)
    if victim is None:
        old = _longer_table(obj)
    else:
        old = [seg for index, seg in enumerate(obj.segments) if index != victim]
    if not old:
        return None
    last = max(i for i, s in enumerate(old) if s.type == PT_LOAD)
    return (*old[: last + 1], new, *old[last + 1 :])


def _victim(obj: ObjFile) -> int | None:
    """The header that is missed least. Never PT_GNU_STACK: without it the stack is executable."""
    for wanted in (PT_GNU_PROPERTY, PT_PAX_FLAGS, PT_NULL):
        for index, seg in enumerate(obj.segments):
            if seg.type == wanted:
                return index
    if _longer_table(obj):
        return None
    notes = [(i, s) for i, s in enumerate(obj.segments) if s.type == PT_NOTE]
    for index, seg in notes:
        raw = bytes(obj.data[seg.offset : seg.offset + min(seg.filesz, PAGE)])
        if NOTE_BUILD_ID not in raw:
            return index
    return notes[0][0] if notes else None


def _longer_table(obj: ObjFile) -> list[Segment]:
    """The program headers with room for one more in the zero bytes behind them; empty: no room.

    The table must stay mapped (AT_PHDR): the segment it is in may grow, if nothing but the table is
    at its end.
    """
    low = obj.phoff + 56 * len(obj.segments)
    high = low + 56
    sections = [(s.offset, s.size) for s in obj.sections if s.type not in {0, SHT_NOBITS}]
    parts = sections + [(s.offset, s.filesz) for s in obj.segments if s.type != PT_LOAD]
    is_used = any(size and at < high and at + size > low for at, size in parts)
    if not obj.sections or is_used or any(obj.data[low:high]):
        return []
    found, is_mapped = [], False
    for seg in obj.segments:
        grown = seg
        if seg.type == PT_PHDR:
            grown = replace(seg, filesz=seg.filesz + 56, memsz=seg.memsz + 56)
        elif seg.type == PT_LOAD and seg.offset <= obj.phoff < seg.offset + seg.filesz:
            is_mapped = True
            if seg.offset + seg.filesz < high:
                size = high - seg.offset
                behind = [s.vaddr & -PAGE for s in obj.loads if s.vaddr > seg.vaddr]
                is_mapped = seg.filesz == seg.memsz and all(seg.vaddr + size <= b for b in behind)
                grown = replace(seg, filesz=size, memsz=size)
        found.append(grown)
    return found if is_mapped else []


def section_over(place: Place, name_at: int) -> Section:
    """The header that covers a new segment; without one `strip` would empty it."""
    flags = SHF_ALLOC | SHF_EXECINSTR
    return Section("", name_at, 1, flags, place.vaddr, place.offset, place.size, 0, 0, ALIGN, 0)
