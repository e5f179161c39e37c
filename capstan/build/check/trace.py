# SPDX-License-Identifier: BSD-2-Clause
"""Where the value in a register comes from, followed backwards through one function.

All direct ways to an instruction are followed, branches included. A place on the stack is followed
like a register, past calls too, as long as nothing takes its address. What comes out are the
constants, the places where the value was there when the function was entered, and whether some way
could not be followed (a value from memory or from a call, a block only a jump table leads to).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from capstan.build.link import decode
from capstan.build.link.bounds import Function
from capstan.build.link.decode import Insn

MAX_STATES = 4096
MAX_FUNCTION = 1 << 18
CALLEE_SAVED = frozenset({"rbx", "rbp", "r12", "r13", "r14", "r15"})

_REGISTERS = frozenset(
    {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16))}
)
_WIDE = re.compile(r"r[a-ds][xip]|r[bs]p|e[a-ds][xip]|e[bs]p|r\d+d?")
_PLAIN = decode.words(
    "mov movabs lea xor and or add sub cmp test movzx movsx movsxd shl shr sar not neg nop endbr64"
    " cdqe"
)
"""Instructions that write nothing but their first operand (`cdqe`: widens, for small numbers)."""
_COMPARE_EXCHANGE = decode.words("cmpxchg cmpxchg8b cmpxchg16b")
_NUMBER = re.compile(r"-?(?:0x[0-9a-f]+|\d+)")
_SLOT = re.compile(r"(?:[dq]word ptr )?\[(rsp|rbp)(?: ([+-]) (0x[0-9a-f]+|\d+))?\]")
_OFFSET = re.compile(r"\[(\w+)(?: ([+-]) (0x[0-9a-f]+|\d+))?\]")


_Step = tuple[str | None, int, bool]
"""(place, plus, whether a call was passed), or (None, constant, ...)."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Where a value may come from. `entries`: (address of the entry, register)."""

    values: frozenset[int] = frozenset()
    entries: frozenset[tuple[int, str]] = frozenset()
    is_partial: bool = False


class Tracer:
    """Follows values; `saves` are the registers that calls keep.

    `is_entry` tells whether a function begins at an address inside of what the bounds call one.
    """

    def __init__(
        self, is_entry: Callable[[int], bool], saves: frozenset[str] = CALLEE_SAVED
    ) -> None:
        self.is_entry, self.saves = is_entry, saves
        self._branches: dict[tuple[int, int], dict[int, list[int]]] = {}

    def origins(self, function: Function, index: int, register: str) -> Origins:
        """Where `register` gets its value before instruction `index`."""
        if function.end - function.start > MAX_FUNCTION:
            return Origins(is_partial=True)
        branches = self._branches_of(function)
        values: set[int] = set()
        entries: set[tuple[int, str]] = set()
        is_partial = False
        todo = [(index, register, 0, False)]
        seen = set(todo)
        while todo and len(seen) < MAX_STATES:
            at, place, plus, passed = todo.pop()
            ways = self._before(function, branches, at)
            if not ways or at == 0:
                first = _skip_padding(function, at)
                if first != at and first in branches:
                    continue  # padding in front of a label: nobody comes this way
                if place in _REGISTERS and not plus:
                    entries.add((function.insns[first][0], place))
                else:
                    is_partial = True
            for i, step in self._steps(function, ways, place, passed=passed):
                if step is None:
                    is_partial = True
                elif step[0] is None:
                    values.add((step[1] + plus) & 0xFFFFFFFF)
                else:
                    state = (i, step[0], plus + step[1], step[2])
                    if state not in seen:
                        seen.add(state)
                        todo.append(state)
        return Origins(frozenset(values), frozenset(entries), is_partial or bool(todo))

    def _branches_of(self, function: Function) -> dict[int, list[int]]:
        """Index of an instruction -> those of the direct branches to it."""
        key = (function.start, function.end)
        found = self._branches.get(key)
        if found is None:
            function.decode_to(function.end)
            found = {}
            for i, insn in enumerate(function.insns):
                target = decode.branch_target(insn) if decode.word(insn)[0] == "j" else None
                if target is not None and function.start <= target < function.end:
                    goal = function.index(target)
                    if goal is not None:
                        found.setdefault(goal, []).append(i)
            self._branches[key] = found
        return found

    def _before(self, function: Function, branches: dict[int, list[int]], at: int) -> list[int]:
        """The instructions after which instruction `at` may be the next."""
        ways = list(branches.get(at, ()))
        last = function.insns[at - 1] if at > 0 else None
        if last is None or decode.is_end(last) or last[2] == "int3":
            return ways
        if decode.is_nop(last) and self._is_behind_call(function, at):
            return ways
        return [*ways, at - 1]

    def _is_behind_call(self, function: Function, at: int) -> bool:
        """Whether a function begins here, and the padding before it follows a call for ever."""
        before = at - 1
        while before >= 0 and decode.is_nop(function.insns[before]):
            before -= 1
        is_call = before >= 0 and decode.word(function.insns[before]) == "call"
        return is_call and self.is_entry(function.insns[at][0])

    def _steps(
        self, function: Function, ways: list[int], place: str, *, passed: bool
    ) -> Iterator[tuple[int, _Step | None]]:
        """One step back on each way; two where a conditional move may leave the value."""
        for i in ways:
            insn = function.insns[i]
            if insn[2].startswith("cmov") and _writes(function, insn, place):
                yield i, (place, 0, passed)
            yield i, self._through(function, i, place, passed=passed)

    def _through(self, function: Function, i: int, place: str, *, passed: bool) -> _Step | None:
        """What holds the value before instruction `i`; None if that cannot be told."""
        insn = function.insns[i]
        if decode.word(insn) == "call":
            if place in _REGISTERS and place not in self.saves:
                return None
            return place, 0, True
        if decode.is_flow(insn):
            lost = {"rax", "rcx", "r11"} if insn[2] == "syscall" else ()
            return None if place in lost else (place, 0, passed)
        if not _writes(function, insn, place):
            return None if _moves_base(function, insn, place) else (place, 0, passed)
        step = _source(insn, place)
        if step is None or (passed and place not in _REGISTERS and _leaks(function, place)):
            return None
        return (*step, passed)


def _skip_padding(function: Function, index: int) -> int:
    """The first instruction from `index` that does something."""
    while index < len(function.insns) - 1 and decode.is_nop(function.insns[index]):
        index += 1
    return index


def _writes(function: Function, insn: Insn, place: str) -> bool:
    """Whether an instruction changes a register or a place on the stack."""
    target = insn[3].split(",", 1)[0].strip()
    if place not in _REGISTERS:
        return "[" in target and _slot(target) == place and insn[2] not in {"cmp", "test", "push"}
    if decode.word(insn) in _PLAIN:
        return "[" not in target and decode.full_register(target) == place
    if decode.word(insn) in _COMPARE_EXCHANGE and place in {"rax", "rdx"}:
        return True  # capstone does not name what these write
    return place in decode.effects(function.code(insn), insn[0])[1]


def _moves_base(function: Function, insn: Insn, place: str) -> bool:
    """Whether a place on the stack would have another name in front of this instruction."""
    if place in _REGISTERS:
        return False
    base = place[1:4]
    if decode.word(insn) in _PLAIN:
        target = insn[3].split(",", 1)[0].strip()
        return "[" not in target and decode.full_register(target) == base
    return base in decode.effects(function.code(insn), insn[0])[1]


def _source(insn: Insn, place: str) -> tuple[str | None, int] | None:
    """What an instruction sets a place to: (another place, plus) or (None, constant)."""
    name, ops = insn[2], [part.strip() for part in insn[3].split(",")]
    if len(ops) != 2 or (place in _REGISTERS and not _WIDE.fullmatch(ops[0])):
        return None
    if name in {"xor", "sub"} and ops[0] == ops[1]:
        return None, 0
    if name in {"mov", "movabs", "movsxd"} or name.startswith("cmov"):
        if _NUMBER.fullmatch(ops[1]):
            return None, int(ops[1], 0)
        found = decode.full_register(ops[1]) if _WIDE.fullmatch(ops[1]) else _slot(ops[1])
        return (found, 0) if found is not None else None
    return _sum(ops[1]) if name == "lea" else None


def _sum(operand: str) -> tuple[str, int] | None:
    """The register and the distance in an address."""
    found = _OFFSET.fullmatch(operand.removeprefix("qword ptr ").removeprefix("dword ptr "))
    if found is None or not _WIDE.fullmatch(found[1]) or found[1] == "rip":
        return None
    plus = int(found[3] or "0", 0)
    return decode.full_register(found[1]), -plus if found[2] == "-" else plus


def _slot(operand: str) -> str | None:
    """A place on the stack by a name that is always the same."""
    found = _SLOT.fullmatch(operand)
    return f"[{found[1]}{found[2] or ''}{int(found[3] or '0', 0)}]" if found else None


def _leaks(function: Function, slot: str) -> bool:
    """Whether anything in the function takes the address of a place on the stack."""
    function.decode_to(function.end)
    for insn in function.insns:
        if insn[2] == "lea" and not insn[3].startswith("rbp,"):
            operand = insn[3].split(",", 1)[1].strip()
            if _slot(operand.removeprefix("qword ptr ").removeprefix("dword ptr ")) == slot:
                return True
    return False
