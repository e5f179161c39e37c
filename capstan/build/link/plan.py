# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of each site.

The `syscall` itself stays (classes A and W): a whole instruction before it becomes the jump, so no
branch can land in the middle of one and every address a program can see is an original one.

    A  the nearest instruction of five bytes or more before the site becomes `jmp stub`
    W  several short ones do, if nothing may enter between them and running them twice is harmless
    P  the `syscall` becomes a short jump to a `jmp stub` in dead padding
    restorer: rt_sigreturn, which unwinders know by its bytes; left: none of these is possible

Planning does not depend on the flavour or on where the stubs will be.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from capstan.build.link import decode, numbers
from capstan.build.link.bounds import Function
from capstan.build.link.decode import Insn
from capstan.build.link.objfile import ObjFile
from capstan.build.link.pads import Pads, Run, Slot
from capstan.build.link.sites import Hit, Privileged
from capstan.build.link.table import CELL_NUMBERS, Kind
from capstan.build.link.targets import Targets

JUMP = 5
MAX_BACK = 16
RESTORERS = (b"\x48\xc7\xc0\x0f\0\0\0", b"\xb8\x0f\0\0\0")
_MOVES = decode.words("mov movabs lea movzx movsx movsxd")


@dataclass(frozen=True, slots=True)
class Patch:
    """One site that becomes a jump.

    `copy` runs in the stub; the text changes in [start, start + overwritten).
    """

    kind: Kind
    site: int
    start: int
    overwritten: int
    copy: tuple[Insn, ...] = ()
    number: int | None = None
    hops: tuple[Slot, ...] = ()
    is_passed: bool = False
    """Some branch may go past the jump, to the `syscall`, which then traps as before."""

    @property
    def copied(self) -> int:
        """Bytes of program text in front of the stub's tail."""
        return self.site - self.start


@dataclass(frozen=True, slots=True)
class Kept:
    """A site that stays as it is, and why."""

    site: int
    kind: Kind
    reason: str


@dataclass(slots=True)
class Plan:
    """Everything that will change in a file's text."""

    patches: list[Patch] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    traps: list[Privileged] = field(default_factory=list)
    pads: list[Run] = field(default_factory=list)


def make_plan(targets: Targets, hits: list[Hit], privileged: list[Privileged]) -> Plan:
    """Decide about each site of `hits`, in ascending order."""
    plan = Plan(traps=[p for p in privileged if p.is_trap])
    obj = targets.obj
    pads = Pads(targets.functions, targets)
    for hit in hits:
        if hit.function is None:
            continue
        index = hit.function.index(hit.at)
        assert index is not None
        if is_restorer(obj, hit.at):
            plan.kept.append(
                Kept(hit.at, Kind.RESTORER, "unwinders know rt_sigreturn by its bytes")
            )
            continue
        doubt = targets.doubt(hit.function, index)
        if doubt is not None:
            plan.kept.append(Kept(hit.at, Kind.LEFT, doubt))
            continue
        patch = _patch(hit.function, index, targets, pads)
        if patch is not None:
            plan.patches.append(patch)
        else:
            reason = "no instruction to replace and no dead padding in reach"
            plan.kept.append(Kept(hit.at, Kind.LEFT, reason))
    plan.pads = pads.touched
    return plan


def _patch(function: Function, index: int, targets: Targets, pads: Pads) -> Patch | None:
    """The best way for one site.

    Link.md's order A, W, P, but a jump that some branch goes past (a retry loop that begins between
    the jump and the `syscall`) comes last: that branch would reach the `syscall` and trap.
    """
    ways = [_with_long(function, index, targets), _with_window(function, index, targets)]
    known = [way for way in ways if way is not None]
    after = function.insns[index][0] + 2
    for way in known:
        if not targets.entered(way.start + way.copy[0][1], after, function):
            return way
    padded = _with_pad(function, index, targets, pads)
    if padded is not None:
        return padded
    return replace(known[0], is_passed=True) if known else None


def is_restorer(obj: ObjFile, site: int) -> bool:
    """Whether a site is `mov $15,%rax; syscall`, byte for byte."""
    return any(obj.bytes_at(site - len(r), site) == r for r in RESTORERS)


def straight(function: Function, index: int) -> int:
    """The first index of the straight line that ends before instruction `index`."""
    insns, first = function.insns, index
    while first > 0 and index - first < MAX_BACK and not decode.is_flow(insns[first - 1]):
        first -= 1
    if first > 0 and decode.is_end(insns[first - 1]):
        while first < index and decode.is_nop(insns[first]):
            first += 1  # dead padding in front of a branch's target
    return first


def _number(function: Function, first: int, index: int, targets: Targets) -> int | None:
    """The number the stub is entered with, if there is an entry for it."""
    number = numbers.in_copy(function, first, index)
    if number is None:
        number = numbers.at_site(function, index, targets)
    return number if number is not None and 0 <= number < CELL_NUMBERS else None


def _with_long(function: Function, index: int, targets: Targets) -> Patch | None:
    """Class A."""
    insns = function.insns
    for i in range(index - 1, straight(function, index) - 1, -1):
        if insns[i][1] >= JUMP:
            copy = tuple(insns[i:index])
            number = _number(function, i, index, targets)
            return Patch(Kind.A, insns[index][0], insns[i][0], insns[i][1], copy, number)
    return None


def _with_window(function: Function, index: int, targets: Targets) -> Patch | None:
    """Class W."""
    insns, site = function.insns, function.insns[index][0]
    for i in range(index - 1, straight(function, index) - 1, -1):
        start = insns[i][0]
        last = next((k for k in range(i, index) if insns[k + 1][0] - start >= JUMP), None)
        if last is None or not _is_idempotent(function, insns[i : last + 1]):
            continue
        end = insns[last + 1][0]
        if not targets.entered(insns[i + 1][0], end, function):
            number = _number(function, i, index, targets)
            copy = tuple(insns[i:index])
            return Patch(Kind.W, site, start, end - start, copy, number)
    return None


def _is_idempotent(function: Function, window: list[Insn]) -> bool:
    """Whether it may be begun again at any point: only moves, nothing read is ever overwritten."""
    read: set[str] = set()
    for insn in window:
        name, ops = insn[2], [part.strip() for part in insn[3].split(",")]
        is_zero = name == "xor" and len(ops) == 2 and ops[0] == ops[1] and "[" not in ops[0]
        if name not in _MOVES and not is_zero:
            return False
        reads, writes, stores = decode.effects(function.code(insn), insn[0])
        if stores:
            return False
        if not is_zero:
            read |= reads
        if (writes - {"flags"}) & read:
            return False
    return True


def _with_pad(function: Function, index: int, targets: Targets, pads: Pads) -> Patch | None:
    """Class P."""
    site = function.insns[index][0]
    slots = pads.take(site)
    if slots is None:
        return None
    number = _number(function, index, index, targets)
    return Patch(Kind.P, site, site, 2, (), number, tuple(slots))
