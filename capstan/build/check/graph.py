# SPDX-License-Identifier: BSD-2-Clause
"""Which system calls each exported function of a C library can come to.

Direct calls and jumps between all functions are followed; calls through pointers are not (what a
program passes in is its own code, and is looked at there). A call that a quarter of all functions
can come to (`mmap`, by way of `malloc` and `abort`) says nothing about any of them: it counts
only for those whose own body has it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable

from capstan.build.check.callers import Callers
from capstan.build.check.numbers import Call
from capstan.build.link import decode
from capstan.build.link.bounds import Function
from capstan.build.link.sites import every_function

MAX_TEXT = 16 << 20
FEW = 4
SHARE = 4


def reachable(callers: Callers, calls: Iterable[Call]) -> dict[str, tuple[int, ...]]:
    """Exported function -> the numbers of the calls it can come to; empty for very large files."""
    size = sum(text.end - text.start for text in callers.obj.exec_ranges)
    known = [call for call in calls if call.number is not None]
    if size > MAX_TEXT or not known:
        return {}
    return _Graph(callers, known).exports(known)


class _Graph:
    """Pieces of text that begin where something may be called, and who leads to whom."""

    def __init__(self, callers: Callers, calls: list[Call]) -> None:
        self.callers, self.names = callers, callers.dynamic.addresses
        functions = self._functions(calls)
        flow = [i for f in functions for i in f.insns if i[2] == "call" or _is_jump(i[2])]
        starts = {max(function.start, function.gap) for function in functions}
        starts.update(self.names.values())
        starts.update(t for i in flow if i[2] == "call" and (t := decode.branch_target(i)))
        self.starts = sorted(starts)
        self.users: defaultdict[int, set[int]] = defaultdict(set)
        for insn in flow:
            goal = callers.called(insn)
            goal = self.names.get(goal) if isinstance(goal, str) else goal
            if goal is not None:
                self._connect(insn[0], goal)
        for function in functions:
            self._fall_through(function)

    def _functions(self, calls: list[Call]) -> list[Function]:
        """All functions within trusted bounds, decoded."""
        functions = self.callers.functions
        found = list(every_function(self.callers.obj, functions))
        found += [f for call in calls if not isinstance(f := functions.around(call.at), str)]
        for function in found:
            function.decode_to(function.end)
        return list({id(function): function for function in found}.values())

    def _piece(self, at: int) -> int:
        return self.starts[max(0, bisect_right(self.starts, at) - 1)]

    def _connect(self, at: int, goal: int) -> None:
        """Note that the piece around an address leads to the one around another."""
        here, there = self._piece(at), self._piece(goal)
        if here != there:
            self.users[there].add(here)

    def _fall_through(self, function: Function) -> None:
        """Connect pieces that control reaches by going on."""
        low = bisect_right(self.starts, function.start)
        high = bisect_right(self.starts, function.end)
        for start in self.starts[low:high]:
            index = bisect_left(function.insns, start, key=lambda insn: insn[0])
            last = function.insns[index - 1] if index else None
            is_next = last is not None and last[0] + last[1] == start
            if last and is_next and not decode.is_end(last) and not decode.is_nop(last):
                self._connect(last[0], start)

    def exports(self, calls: list[Call]) -> dict[str, tuple[int, ...]]:
        own: defaultdict[int, set[int]] = defaultdict(set)
        for call in calls:
            if call.number is not None:
                own[self._piece(call.at)].add(call.number)
        reach: defaultdict[int, set[int]] = defaultdict(set)
        for number in {n for numbers in own.values() for n in numbers}:
            todo = [piece for piece, numbers in own.items() if number in numbers]
            seen = set(todo)
            for piece in todo:
                reach[piece].add(number)
                todo += (new := self.users[piece] - seen)
                seen |= new
        by_name = {name: reach[at] for name, at in self.names.items() if reach.get(at)}
        count = Counter(n for numbers in by_name.values() for n in numbers)
        enough = max(FEW, len(by_name) // SHARE)
        found = {}
        for name, numbers in by_name.items():
            kept = {n for n in numbers if count[n] < enough} | own.get(self.names[name], set())
            if kept:
                found[name] = tuple(sorted(kept))
        return found


def _is_jump(mnemonic: str) -> bool:
    return mnemonic[0] == "j" or mnemonic.endswith((" jmp", " call"))
