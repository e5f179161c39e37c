# SPDX-License-Identifier: BSD-2-Clause
"""Reads a linked file back and proves what link.md promises of it.

Nothing here uses the writer's bookkeeping but the plan: places come from the file's own table,
stubs are decoded, and every byte of the file that differs must have a reason.
"""

from __future__ import annotations

import zlib
from itertools import pairwise

from capstan.build.link import decode, table
from capstan.build.link.decode import SYSCALL, Insn
from capstan.build.link.objfile import PF_X, ObjFile
from capstan.build.link.plan import Patch, Plan
from capstan.build.link.table import CELLS, TRAILER, Flavour, Kind, Place, Trailer


class VerifyError(Exception):
    """The linked file is not what it should be: a mistake of the linker."""


def find_trailer(obj: ObjFile) -> tuple[Trailer, int] | None:
    """The trailer of a linked file and its address; None for a file that is not linked."""
    for seg in obj.loads:
        if seg.flags & PF_X and seg.filesz >= TRAILER.size:
            at = seg.vaddr + seg.filesz - TRAILER.size
            trailer = table.unpack_trailer(obj.bytes_at(at, at + TRAILER.size))
            if trailer is not None and trailer.self == at - obj.base:
                return trailer, at
    return None


def read_places(obj: ObjFile) -> tuple[Trailer, list[Place]] | None:
    """The guest's view of a linked file: its trailer and its places.

    Raises:
        VerifyError: the check sum is wrong.
    """
    found = find_trailer(obj)
    if found is None:
        return None
    trailer, at = found
    rows = obj.bytes_at(obj.base + trailer.table, at)
    raw = obj.bytes_at(at, at + TRAILER.size)
    if len(rows) != trailer.places * table.PLACE.size:
        raise VerifyError("the table of places has another size than the trailer says")
    if zlib.crc32(rows + raw[:-4]) != table.check_sum(raw):
        raise VerifyError("the check sum of the table of places is wrong")
    return trailer, table.unpack_places(rows, obj.base)


def verify(obj: ObjFile, linked: bytes, plan: Plan, flavour: Flavour) -> None:
    """Check a linked file against the original.

    Raises:
        VerifyError: something is wrong with it.
    """
    new = ObjFile(linked)
    found = read_places(new)
    if found is None:
        raise VerifyError("the trailer cannot be found")
    trailer, places = found
    if places != sorted(places, key=lambda p: p.at) or len(places) != trailer.places:
        raise VerifyError("the places are not sorted")
    for one, other in pairwise(places):
        if one.at + one.size > other.at:
            raise VerifyError(f"places overlap at {other.at:#x}")
    by_site = {p.site: p for p in places if p.kind in {Kind.A, Kind.W, Kind.P}}
    if not len(by_site) == len(plan.patches) == trailer.linked:
        raise VerifyError("sites are missing in the table")
    traps = [p.at for p in places if p.kind is Kind.TRAP]
    if traps != [trap.at for trap in plan.traps]:
        raise VerifyError("traps are missing in the table")
    if flavour is Flavour.GUEST and any(new.bytes_at(at, at + 1) != b"\xcc" for at in traps):
        raise VerifyError("a trap is not written")
    for patch in plan.patches:
        _check_way_in(new, patch, by_site[patch.site])
        _check_stub(obj, new, patch, by_site[patch.site], flavour)
    _check_bytes(obj, new, plan, flavour)


def _check_way_in(new: ObjFile, patch: Patch, place: Place) -> None:
    """From the text to the stub, through the hops."""
    at = patch.start
    for _ in range(3):
        code = new.bytes_at(at, at + 5)
        insns = decode.decode(code, at)
        target = decode.branch_target(insns[0]) if insns else None
        if target is None or insns[0][2] != "jmp":
            raise VerifyError(f"no jump at {at:#x}")
        if target == place.at:
            return
        at = target
    raise VerifyError(f"the jump at {patch.start:#x} does not lead to its stub at {place.at:#x}")


def _check_stub(obj: ObjFile, new: ObjFile, patch: Patch, place: Place, flavour: Flavour) -> None:
    """A stub is the original instructions, then the tail."""
    code = new.bytes_at(place.at, place.at + place.size)
    insns = decode.decode(code, place.at)
    if len(code) != place.size or not insns or insns[-1][0] + insns[-1][1] != place.at + place.size:
        raise VerifyError(f"the stub at {place.at:#x} does not decode")
    original = decode.decode(obj.bytes_at(patch.start, patch.site), patch.start)
    copies, rest = insns[: len(original)], insns[len(original) :]
    for was, now in zip(original, copies, strict=True):
        is_there = was[0] - patch.start == now[0] - place.at
        if not is_there or not _is_copy(obj, was, new, now):
            raise VerifyError(f"the copy of {was[0]:#x} at {now[0]:#x} is another instruction")
    if patch.copied != place.copied or rest[0][0] != place.at + place.copied:
        raise VerifyError(f"the tail of the stub at {place.at:#x} is not where the table says")
    _check_tail(rest, patch, flavour)


def _is_copy(obj: ObjFile, was: Insn, new: ObjFile, now: Insn) -> bool:
    """The same bytes, or the same but for a displacement that leads to the same address."""
    before = obj.bytes_at(was[0], was[0] + was[1])
    after = new.bytes_at(now[0], now[0] + now[1])
    target = decode.rip_target(was)
    if target is None:
        return before == after
    at = decode.displacement_at(before, was)
    is_same = before[:at] == after[:at] and before[at + 4 :] == after[at + 4 :]
    return is_same and target == decode.rip_target(now)


def _check_tail(rest: list[Insn], patch: Patch, flavour: Flavour) -> None:
    at = rest[0][0]
    names = [insn[2] for insn in rest]
    back = patch.site + 2
    if flavour is Flavour.NATIVE_PC:
        wanted = ["syscall", "jmp"] if patch.kind is Kind.P else ["jmp"]
        goal = back if patch.kind is Kind.P else patch.site
        good = names == wanted and decode.branch_target(rest[-1]) == goal
    elif flavour is Flavour.NATIVE_ABI:
        good = names == ["syscall", "or", "lea", "jmp"] and rest[3][3] == "rcx"
        good = good and decode.rip_target(rest[2]) == back and rest[2][3].startswith("rcx")
    else:
        cell = CELLS + 8 * (0 if patch.number is None else 1 + patch.number)
        operand = f"[{cell:#x}]" in rest[-1][3] or f"[-{(1 << 64) - cell:#x}]" in rest[-1][3]
        good = names == ["lea", "jmp"] and operand and rest[0][3].startswith("rcx")
        good = good and decode.rip_target(rest[0]) == back
    if not good:
        raise VerifyError(f"the tail at {at:#x} is wrong: {rest}")


def _check_bytes(obj: ObjFile, new: ObjFile, plan: Plan, flavour: Flavour) -> None:
    """Every byte of the original that changed is a header, a window, padding, a trap or slack."""
    allowed = [(40, 48), (56, 58), (60, 62), (obj.phoff, obj.phoff + 56 * len(new.segments))]
    if obj.shoff:
        allowed.append((obj.shoff, obj.shoff + 64 * len(obj.sections)))
    text = [(p.start, p.start + p.overwritten) for p in plan.patches]
    text += [(run.start, run.end) for run in plan.pads]
    if flavour is Flavour.GUEST:
        text += [(trap.at, trap.at + 1) for trap in plan.traps]
    for start, end in text:
        offset = obj.offset_of(start)
        if offset is None:
            raise VerifyError(f"{start:#x} is not in the file")
        allowed.append((offset, offset + end - start))
    for patch in plan.patches:
        kept = new.bytes_at(patch.site, patch.site + 2)
        if patch.kind is not Kind.P and kept != SYSCALL:
            raise VerifyError(f"the system call at {patch.site:#x} is gone")
    allowed += _slack(obj, new)
    at = 0
    for low, high in [*sorted(allowed), (len(obj.data), len(obj.data))]:
        end = min(low, len(obj.data))
        if end > at and bytes(obj.data[at:end]) != bytes(new.data[at:end]):
            raise VerifyError(f"bytes between {at:#x} and {end:#x} of the file changed")
        at = max(at, high)


def _slack(obj: ObjFile, new: ObjFile) -> list[tuple[int, int]]:
    """Where a segment grew over zero bytes."""
    found = []
    if len(obj.loads) == len(new.loads):
        for old, seg in zip(obj.loads, new.loads, strict=True):
            if seg.filesz > old.filesz:
                low, high = old.offset + old.filesz, seg.offset + seg.filesz
                if any(obj.data[low:high]):
                    raise VerifyError(f"the slack at {low:#x} was not empty")
                found.append((low, high))
    return found
