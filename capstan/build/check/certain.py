# SPDX-License-Identifier: BSD-2-Clause
"""What a program does on every run, whatever its input.

Something is certain in a function when control cannot get around all the places that do it: every
block that can be reached without them still leads to one. Loops are taken to end; a way into
`exit`, `abort` or a return does get around. A loop that nothing leads out of is one pass. Functions
that are certainly called are entered in turn. The start is `main`, which is what the entry code
hands to libc, or `main.main` of a Go program with symbols; where neither is found nothing is
certain.

Used to tell "the program makes this call" from "it can make this call". Bounded in depth and size;
at a bound the answer is "not certain".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from capstan.build.check.callers import Callers
from capstan.build.check.numbers import Call
from capstan.build.link import decode
from capstan.build.link.bounds import Function
from capstan.build.link.decode import Insn

MAX_DEPTH = 12
MAX_FUNCTIONS = 400
MAX_SIZE = 1 << 15
MAX_EVENTS = 400
TAIL_DEPTH = 4
ENTRY_BYTES = 192
ENTRY_HOPS = 3
NORETURN = decode.words(
    "exit _exit _Exit quick_exit abort pthread_exit thrd_exit longjmp siglongjmp _longjmp"
    " __longjmp_chk err errx verr verrx __assert_fail __assert_perror_fail __assert"
    " __stack_chk_fail __fortify_fail __chk_fail __cxa_throw __cxa_rethrow __cxa_bad_cast"
    " _ZSt9terminatev __libc_fatal"
)


@dataclass(slots=True)
class Sure:
    """Numbers of system calls, imported functions that are called, and odd instructions."""

    numbers: set[int] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    opcodes: set[str] = field(default_factory=set)


Event = tuple[str, str | int]
"""("number", 39), ("import", "exit"), ("function", its address), ("opcode", "int 0x80")"""


@dataclass(slots=True)
class _Block:
    """Instructions in a straight line, and where they lead; no way on: the end of the function."""

    insns: list[Insn] = field(default_factory=list)
    ways: list[int] = field(default_factory=list)


_OUT = -1
"""The block that stands for everything outside of a function, and for jumps to who knows where."""


class Certain:
    """Answers for one file, whose system calls are `calls`."""

    def __init__(self, callers: Callers, calls: Iterable[Call]) -> None:
        self.callers, self.obj, self.functions = callers, callers.obj, callers.functions
        numbers: dict[int, set[int | None]] = {}
        for call in calls:
            numbers.setdefault(call.at, set()).add(call.number)
        self._numbers = {at: found.pop() for at, found in numbers.items() if len(found) == 1}
        self._returns: dict[int, bool] = {}

    def of_program(self) -> Sure:
        """What is certain from `main` on; nothing when `main` is not found."""
        main = self._main()
        return self.of(main) if main is not None else Sure()

    def of(self, start: int) -> Sure:
        """What is certain once the function at `start` is entered."""
        sure = Sure()
        seen = {start}
        todo = deque([(start, 0)])
        while todo and len(seen) <= MAX_FUNCTIONS:
            address, depth = todo.popleft()
            for kind, what in self._certain_events(address):
                if kind == "function":
                    if what not in seen and depth < MAX_DEPTH:
                        seen.add(int(what))
                        todo.append((int(what), depth + 1))
                elif kind == "number":
                    sure.numbers.add(int(what))
                else:
                    (sure.imports if kind == "import" else sure.opcodes).add(str(what))
        return sure

    def _main(self) -> int | None:
        """What the entry code passes as the first argument of its first call; or Go's main."""
        if self.functions.go is not None:
            return self._symbol(b"main.main")
        at = self.obj.entry
        for _ in range(ENTRY_HOPS):
            first: int | None = None
            for insn in decode.decode(self.obj.bytes_at(at, at + ENTRY_BYTES), at):
                if insn[2] == "lea" and insn[3].startswith("rdi, [rip"):
                    first = decode.rip_target(insn)
                elif insn[2] == "mov" and insn[3].startswith(("rdi, 0x", "edi, 0x")):
                    first = int(insn[3].split(",")[1], 16)
                elif decode.word(insn) in {"call", "jmp"}:
                    target = decode.branch_target(insn)
                    break
            else:
                return None
            if first is not None and self.obj.range_of(first) is not None:
                return first
            if target is None:
                return None
            at = target
        return None

    def _symbol(self, name: bytes) -> int | None:
        """The address of a symbol."""
        symbols = self.obj.symbols
        for index, names in enumerate(symbols.names):
            at = names.find(b"\0" + name + b"\0")
            found = (symbols.table == index) & (symbols.name_at == at + 1)
            if at >= 0 and found.any():
                return int(symbols.value[found][0])
        return None

    # --- one function --------------------------------------------------------------------------

    def _certain_events(self, start: int) -> list[Event]:
        """What is certain in a function when it is entered."""
        blocks = self._blocks(start)
        if not blocks:
            return []
        ways = _with_ends({at: block.ways for at, block in blocks.items()}, start)
        back: dict[int, list[int]] = {}
        for at, nexts in ways.items():
            for way in nexts:
                back.setdefault(way, []).append(at)
        places: dict[Event, set[int]] = {}
        for at, block in blocks.items():
            for insn in block.insns:
                for event in self._events(insn):
                    places.setdefault(event, set()).add(at)
        path = set(_path(ways, start))
        wanted = [event for event, where in places.items() if not where.isdisjoint(path)]
        return [
            event
            for event in wanted[:MAX_EVENTS]
            if _reach(ways, {start}, places[event]) <= _reach(back, places[event], set())
        ]

    def _events(self, insn: Insn) -> Iterator[Event]:
        """What an instruction does."""
        number = self._numbers.get(insn[0])
        if number is not None:
            yield "number", number
        opcode = decode.privileged(insn)
        if opcode is not None:
            yield "opcode", opcode
        goal = self._goal(insn)
        if goal is not None:
            yield "import" if isinstance(goal, str) else "function", goal

    def _blocks(self, start: int) -> dict[int, _Block]:
        """The blocks of the function at `start`; none when its code cannot be followed."""
        function = self.functions.around(start)
        if isinstance(function, str) or function.end - start > MAX_SIZE:
            return {}
        if self.functions.check(function, start) is not None or function.index(start) is None:
            return {}
        function.decode_to(function.end)
        leaders = {t for i in function.insns if (t := decode.branch_target(i)) is not None}
        blocks = {_OUT: _Block()}
        todo = [start]
        while todo:
            at = todo.pop()
            if at not in blocks:
                index = function.index(at)
                if index is None:
                    return {}
                blocks[at] = self._block(function, index, leaders)
                todo += blocks[at].ways
        return blocks

    def _block(self, function: Function, index: int, leaders: set[int]) -> _Block:
        """The block that begins at an instruction."""
        block = _Block()
        for insn in function.insns[index:]:
            following = insn[0] + insn[1]
            if block.insns and insn[0] in leaders:
                block.ways.append(insn[0])
                break
            block.insns.append(insn)
            name = decode.word(insn)
            if name[0] == "j" or name in {"loop", "loope", "loopne"}:
                target = decode.branch_target(insn)
                is_inside = target is not None and function.start <= target < function.end
                block.ways.append(target if target is not None and is_inside else _OUT)
                if name != "jmp":
                    block.ways.append(following if following < function.end else _OUT)
                break
            if decode.is_end(insn) or (name == "call" and not self._comes_back(insn)):
                break
        else:
            block.ways.append(_OUT)
        return block

    def _goal(self, insn: Insn) -> str | int | None:
        """Where a call or jump leads: an imported function, or an address of ours."""
        if decode.word(insn) not in {"call", "jmp"}:
            return None
        goal = self.callers.called(insn)
        return self.callers.dynamic.addresses.get(goal, goal) if isinstance(goal, str) else goal

    def _comes_back(self, insn: Insn) -> bool:
        """Whether control may come back from a call."""
        goal = self._goal(insn)
        if isinstance(goal, str):
            return goal not in NORETURN
        return goal is None or self._returns_from(goal, 0)

    def _returns_from(self, start: int, depth: int) -> bool:
        """Whether a function has a return in it, or a jump to another that may have one."""
        if start not in self._returns:
            function = self.functions.around(start)
            if isinstance(function, str) or function.start != start or depth > TAIL_DEPTH:
                return True
            function.decode_to(function.end)
            self._returns[start] = function.failed is not None or any(
                self._is_return(function, insn, depth) for insn in function.insns
            )
        return self._returns[start]

    def _is_return(self, function: Function, insn: Insn, depth: int) -> bool:
        name = decode.word(insn)
        if name.startswith("ret"):
            return True
        if name != "jmp":
            return False
        goal = self._goal(insn)
        if isinstance(goal, str):
            return goal not in NORETURN
        if goal is not None and function.start <= goal < function.end:
            return False
        return goal is None or self._returns_from(goal, depth + 1)


Ways = dict[int, list[int]]


def _reach(ways: Ways, starts: set[int], avoid: set[int]) -> set[int]:
    """What can be reached without entering `avoid`."""
    seen = starts - avoid
    todo = list(seen)
    for at in todo:
        for way in ways.get(at, ()):
            if way not in avoid and way not in seen:
                seen.add(way)
                todo.append(way)
    return seen


def _with_ends(ways: Ways, start: int) -> Ways:
    """The same, but loops that nothing leads out of end after one pass."""
    back: Ways = {}
    for at, nexts in ways.items():
        for way in nexts:
            back.setdefault(way, []).append(at)
    ending = _reach(back, {at for at, nexts in ways.items() if not nexts}, set())
    if start in ending and ways.keys() <= ending:
        return ways
    found = {at: list(nexts) for at, nexts in ways.items()}
    above: set[int] = set()
    done: set[int] = set()
    todo = [(start, False)]
    while todo:
        at, is_left = todo.pop()
        if is_left:
            above.discard(at)
            done.add(at)
        elif at not in done and at not in above:
            above.add(at)
            todo.append((at, True))
            if at not in ending and not above.isdisjoint(ways[at]):
                found[at].append(_OUT)
            todo += [(way, False) for way in ways[at]]
    return found


def _path(ways: Ways, start: int) -> list[int]:
    """A shortest way to an end; what is certain lies on it."""
    came: dict[int, int] = {}
    todo = [start]
    for at in todo:
        if not ways.get(at):
            path = [at]
            while path[-1] != start:
                path.append(came[path[-1]])
            return path
        for way in ways[at]:
            if way not in came and way != start:
                came[way] = at
                todo.append(way)
    return []
