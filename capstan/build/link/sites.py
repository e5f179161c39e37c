# SPDX-License-Identifier: BSD-2-Clause
"""Which of the bytes `0f 05` are system calls, and where privileged instructions are.

Bytes first (a search runs at memory speed), then the disassembly of the enclosing function only.
Most hits in big programs are immediates, displacements or tables of a cipher.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from capstan.build.link import decode
from capstan.build.link.bounds import Function, Functions
from capstan.build.link.decode import LONGEST, SYSCALL
from capstan.build.link.objfile import ObjFile
from capstan.build.link.targets import Targets

FULL_SCAN = 2 << 20
"""Up to this much text, all of it is decoded to find privileged instructions of one byte."""

RARE = re.compile(
    rb"\xcd\x80"  # int 0x80
    rb"|\x0f\x34"  # sysenter
    rb"|\x0f\x01\xf8"  # swapgs
    rb"|\xf3[\x40-\x4f]?\x0f\xae[\xd8-\xdf]"  # wrgsbase
)
HALT_TAIL = re.compile(rb"\xf4(?=\xeb|\xe9|\xc3|\x0f\x0b)")
"""`hlt` as compilers leave it in big files: in front of a jump back, a ret or ud2."""


class Verdict(Enum):
    """What a hit is."""

    SITE = "site"
    FALSE = "inside of another instruction"
    DATA = "data"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Hit:
    """One `0f 05`: its address, what it is, why it is undecided, its function when decided."""

    at: int
    verdict: Verdict
    reason: str = ""
    function: Function | None = None


@dataclass(frozen=True, slots=True)
class Privileged:
    """An instruction that Linux answers with a signal, or that the guest cannot carry out."""

    at: int
    size: int
    opcode: str
    is_trap: bool
    """The linker makes it trap in the guest as it does on Linux."""


def find_hits(obj: ObjFile, pattern: re.Pattern[bytes]) -> Iterator[int]:
    """The addresses in program text where the pattern matches."""
    for text in obj.exec_ranges:
        end = text.offset + text.end - text.start
        for match in pattern.finditer(obj.data, text.offset, end):
            yield match.start() - text.offset + text.start


def classify(obj: ObjFile, functions: Functions) -> list[Hit]:
    """A verdict for each hit, by address."""
    pattern = re.compile(re.escape(SYSCALL))
    return [_judge(functions, at) for at in find_hits(obj, pattern)]


def _judge(functions: Functions, at: int) -> Hit:
    function = functions.around(at)
    if isinstance(function, str):
        verdict = Verdict.DATA if function.startswith("in a data") else Verdict.UNDECIDED
        return Hit(at, verdict, function)
    index = function.index(at)
    problem = functions.check(function, at)
    if problem is not None:
        return Hit(at, Verdict.UNDECIDED, problem)
    if index is not None and function.insns[index][2] == "syscall":
        return Hit(at, Verdict.SITE, "", function)
    return Hit(at, Verdict.FALSE)


def privileged(targets: Targets, *, has_sites: bool) -> list[Privileged]:
    """Privileged instructions within trusted bounds that something leads to, by address.

    `int 0x80`, `wrgsbase` and their like are looked for everywhere. Those of one byte would need
    all text decoded: only files with system calls are asked for them (libc, ld.so, static
    programs: that is where `abort` is), the big ones only for `hlt` as compilers leave it.
    """
    obj, functions = targets.obj, targets.functions
    found = {p.at: p for at in find_hits(obj, RARE) if (p := _privileged_at(targets, at))}
    if has_sites:
        size = sum(text.end - text.start for text in obj.exec_ranges)
        if size <= FULL_SCAN:
            for function in every_function(obj, functions):
                found |= {p.at: p for p in _in_function(targets, function)}
        else:
            tails = find_hits(obj, HALT_TAIL)
            found |= {p.at: p for at in tails if (p := _privileged_at(targets, at))}
    return [found[at] for at in sorted(found)]


def _privileged_at(targets: Targets, at: int) -> Privileged | None:
    function = targets.functions.around(at)
    if isinstance(function, str) or targets.functions.check(function, at) is not None:
        return None
    index = function.index(at)
    return _as_privileged(targets, function, index) if index is not None else None


def _as_privileged(targets: Targets, function: Function, index: int) -> Privileged | None:
    insn = function.insns[index]
    opcode = decode.privileged(insn)
    if opcode is None or targets.doubt(function, index) is not None:
        return None
    return Privileged(insn[0], insn[1], opcode, decode.traps(insn))


def _in_function(targets: Targets, function: Function) -> Iterator[Privileged]:
    function.decode_to(function.end)
    names = {insn[2] for insn in function.insns}
    if not any(decode.may_be_privileged(name) for name in names):
        return
    last = function.insns[-1][0]
    if targets.functions.check(function, last) is not None:
        return
    for index, insn in enumerate(function.insns):
        if insn[0] >= function.gap and decode.may_be_privileged(insn[2]):
            found = _as_privileged(targets, function, index)
            if found is not None:
                yield found


def every_function(obj: ObjFile, functions: Functions) -> Iterator[Function]:
    """All functions and the gaps between them, as far as bounds are trusted."""
    for text in obj.exec_ranges:
        at = text.start
        while at < text.end:
            following = functions.unwind.next_start(at - 1)
            if following is not None and at < following <= at + LONGEST:
                at = following  # padding
            function = functions.around(at)
            if isinstance(function, str) or function.end <= at:
                at = functions.next_start(at, text.end)
                continue
            yield function
            at = function.end
