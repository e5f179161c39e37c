# SPDX-License-Identifier: BSD-2-Clause
"""Makes the linked file: text edits, stubs, tables, headers.

The output is the input with a few bytes of text changed, the stubs in slack or behind the rest, a
new section name table and a new section header table at the end. Nothing moves. A file with an
overlay (a self-extractor's archive) gets no new sections: it is found by its distance from the end.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace

from capstan.build.link import stubs, table
from capstan.build.link.decode import INT3
from capstan.build.link.objfile import SHT_PROGBITS, ObjFile, Section
from capstan.build.link.place import Place, content_end, find_place, overlay, section_over
from capstan.build.link.plan import Patch, Plan
from capstan.build.link.table import Flavour, Kind, Row

SHN_LORESERVE = 0xFF00
TABLE_ALIGN = 16


@dataclass(frozen=True, slots=True)
class Written:
    """A linked file, and which of its bytes were meant to change: (file offset, length)."""

    data: bytes
    place: Place
    stubs: dict[int, int]
    """Site to stub address."""
    changed: list[tuple[int, int]]


def write(obj: ObjFile, plan: Plan, flavour: Flavour, hits: int) -> Written | str:
    """The linked file; or why it cannot be made."""
    if len(obj.sections) + 2 >= SHN_LORESERVE:
        return f"{len(obj.sections)} sections are too many"
    headers = obj.phoff + 56 * len(obj.segments)
    if any(obj.phoff < r.offset + r.end - r.start and r.offset < headers for r in obj.exec_ranges):
        return "its program headers lie in its text"
    code_size = sum(stubs.stub_size(flavour, p) for p in plan.patches)
    code_size = (code_size + TABLE_ALIGN - 1) & -TABLE_ALIGN
    places = len(plan.patches) + sum(len(p.hops) for p in plan.patches) + len(plan.traps)
    place = find_place(obj, code_size + table.table_size(places))
    if isinstance(place, str):
        return place
    where: dict[int, int] = {}
    try:
        code = _code(obj, plan, flavour, place.vaddr, where)
        edits = _edits(plan, where, flavour)
    except stubs.TooFar:
        return "its text is more than 2 GiB away from the stubs"
    block = _block(obj, plan, flavour, place, where, code)
    out = bytearray(obj.data[: len(obj.data) if overlay(obj) else content_end(obj)])
    changed = _apply(obj, out, edits)
    out += bytes(max(0, place.offset - len(out)))
    out[place.offset : place.offset + place.size] = block
    changed.append((place.offset, place.size))
    changed += _headers(obj, out, place)
    if obj.sections and not overlay(obj):
        sites = _site_section(obj, plan, flavour, place, where, hits)
        changed += _sections(obj, out, place, sites)
    elif obj.sections and place.grown is not None:
        at = obj.shoff + 64 * place.grown
        out[at : at + 64] = _grown(obj, place).pack()
        changed.append((at, 64))
    return Written(bytes(out), place, where, changed)


def _code(obj: ObjFile, plan: Plan, flavour: Flavour, at: int, where: dict[int, int]) -> bytes:
    """All stubs; fills `where`."""
    code = bytearray()
    for patch in plan.patches:
        where[patch.site] = at + len(code)
        code += stubs.stub(obj, patch, at + len(code), flavour)
    code += bytes([INT3]) * (-len(code) % TABLE_ALIGN)
    return bytes(code)


def _edits(plan: Plan, where: dict[int, int], flavour: Flavour) -> list[tuple[int, bytes]]:
    """What changes in the text: (address, bytes).

    Touched padding ends in int3, so that it decodes; traps are for the guest only: on Linux the
    original instruction does the right thing.
    """
    found = [(run.free, bytes([INT3]) * (run.end - run.free)) for run in plan.pads]
    for patch in plan.patches:
        found += stubs.edits(patch, where[patch.site])
    if flavour is Flavour.GUEST:
        found += [(trap.at, bytes([INT3])) for trap in plan.traps]
    return [(at, code) for at, code in found if code]


def _apply(obj: ObjFile, out: bytearray, edits: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    changed = []
    for at, code in edits:
        offset = obj.offset_of(at)
        assert offset is not None
        out[offset : offset + len(code)] = code
        changed.append((offset, len(code)))
    return changed


def places_of(plan: Plan, flavour: Flavour, where: dict[int, int]) -> list[table.Place]:
    """The guest's table for a plan."""
    found = []
    for patch in plan.patches:
        size = stubs.stub_size(flavour, patch)
        window = patch.overwritten if patch.kind is not Kind.P else 0
        at = where[patch.site]
        found.append(
            table.Place(at, patch.site, size, patch.kind, patch.copied, window, patch.number)
        )
        found += [table.Place(hop.at, patch.site, hop.size, Kind.HOP) for hop in patch.hops]
    found += [table.Place(t.at, t.at, t.size, Kind.TRAP) for t in plan.traps]
    return sorted(found, key=lambda p: p.at)


def _block(
    obj: ObjFile, plan: Plan, flavour: Flavour, place: Place, where: dict[int, int], code: bytes
) -> bytes:
    """The stubs, the table and the trailer, as long as the room for them."""
    places = places_of(plan, flavour, where)
    rows = table.pack_places(places, obj.base)
    end = place.vaddr + place.size
    trailer_at = end - table.TRAILER.size
    table_at = trailer_at - len(rows)
    kinds = [kept.kind for kept in plan.kept]
    trailer = table.Trailer(
        flavour=flavour,
        self=trailer_at - obj.base,
        table=table_at - obj.base,
        places=len(places),
        low=places[0].at - obj.base,
        high=max(p.at + p.size for p in places) - obj.base,
        stubs=place.vaddr - obj.base,
        linked=len(plan.patches),
        restorers=kinds.count(Kind.RESTORER),
        left=kinds.count(Kind.LEFT),
        traps=len(plan.traps),
    )
    gap = bytes([INT3]) * (table_at - place.vaddr - len(code))
    return code + gap + rows + table.pack_trailer(trailer, rows)


def _headers(obj: ObjFile, out: bytearray, place: Place) -> list[tuple[int, int]]:
    """Write the program headers."""
    raw = b"".join(seg.pack() for seg in place.segments)
    out[obj.phoff : obj.phoff + len(raw)] = raw
    struct.pack_into("<H", out, 56, len(place.segments))
    return [(obj.phoff, len(raw)), (56, 2)]


def _grown(obj: ObjFile, place: Place) -> Section:
    assert place.grown is not None
    section = obj.sections[place.grown]
    return replace(section, size=place.vaddr + place.size - section.addr)


def _site_section(
    obj: ObjFile, plan: Plan, flavour: Flavour, place: Place, where: dict[int, int], hits: int
) -> bytes:
    rows = [Row(0, k.site, k.site, k.kind) for k in plan.kept]
    for patch in plan.patches:
        rows.append(_row(patch, where[patch.site], flavour))
        rows += [Row(h.at, h.at, patch.site, Kind.HOP, 0, h.size, h.size) for h in patch.hops]
    rows += [Row(t.at, t.at, t.at, Kind.TRAP, 0, t.size, 1) for t in plan.traps]
    digest = hashlib.sha256(obj.data).digest()
    trailer = place.vaddr + place.size - table.TRAILER.size
    return table.pack_sites(rows, flavour=flavour, digest=digest, trailer=trailer, hits=hits)


def _row(patch: Patch, at: int, flavour: Flavour) -> Row:
    size = stubs.stub_size(flavour, patch)
    return Row(
        *(at, patch.start, patch.site, patch.kind),
        *(patch.copied, size, patch.overwritten, patch.number),
    )


def _sections(obj: ObjFile, out: bytearray, place: Place, sites: bytes) -> list[tuple[int, int]]:
    """Append `.capstan.sites`, a section name table and a section header table."""
    start = len(out)
    old = obj.sections[obj.shstrndx]
    names = bytes(obj.data[old.offset : old.offset + old.size])
    stubs_name = len(names)
    names += table.SECTION_STUBS.encode() + b"\0"
    sites_name = len(names)
    names += table.SECTION_SITES.encode() + b"\0"
    sites_at = _append(out, sites)
    names_at = _append(out, names)
    sections = list(obj.sections)
    sections[obj.shstrndx] = replace(old, offset=names_at, size=len(names))
    if place.is_slack and place.grown is not None:
        sections[place.grown] = _grown(obj, place)
    else:
        sections.append(section_over(place, stubs_name))
    sections.append(
        Section("", sites_name, SHT_PROGBITS, 0, 0, sites_at, len(sites), 0, 0, TABLE_ALIGN, 0)
    )
    at = _append(out, b"".join(section.pack() for section in sections))
    struct.pack_into("<Q", out, 40, at)
    struct.pack_into("<H", out, 60, len(sections))
    return [(start, len(out) - start), (40, 8), (60, 2)]


def _append(out: bytearray, data: bytes) -> int:
    out += bytes(-len(out) % TABLE_ALIGN)
    at = len(out)
    out += data
    return at
