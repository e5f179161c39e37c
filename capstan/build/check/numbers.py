# SPDX-License-Identifier: BSD-2-Clause
"""The system calls in a file's own text, each with its number as far as the text fixes it.

A function may get the number as an argument (`syscall` of libc, `__syscall_cp` of musl,
`syscall.Syscall` of Go): then its direct callers are looked at in its place, and theirs. What is
left without a number is kept as unknown; nothing is guessed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from capstan.build.check.callers import Callers
from capstan.build.check.trace import CALLEE_SAVED, Tracer
from capstan.build.link.bounds import Function, Functions
from capstan.build.link.sites import Hit, Verdict

MAX_NUMBER = 1 << 16
MAX_PLACES = 20_000
IMPORTS = {"syscall": "rdi"}
"""Functions of other files that take the number of a call, and the register it comes in."""


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: where (a `syscall`, or a call that passes the number), and in which function.

    `number` is None when it is not fixed by the text.
    """

    at: int
    number: int | None
    function: str


class Numbers:
    """Finds the system calls of one file."""

    def __init__(self, functions: Functions, callers: Callers) -> None:
        self.functions, self.callers = functions, callers
        saves = CALLEE_SAVED if functions.go is None else frozenset[str]()
        self._tracer = Tracer(callers.is_called, saves)
        self._todo: deque[tuple[Function, int, str]] = deque()
        self._followed: dict[tuple[int, str], bool] = {}
        self._calls: dict[tuple[int, int | None], Call] = {}

    def all(self, hits: list[Hit]) -> list[Call]:
        """The calls, by address; more than one at an address that several numbers come to."""
        for hit in hits:
            if hit.verdict is Verdict.SITE and hit.function is not None:
                index = hit.function.index(hit.at)
                assert index is not None
                self._todo.append((hit.function, index, "rax"))
        for name, register in IMPORTS.items():
            for function, index in self.callers.of_import(name):
                self._todo.append((function, index, register))
        for _ in range(MAX_PLACES):
            if not self._todo:
                break
            self._follow(*self._todo.popleft())
        for function, index, _ in self._todo:
            self._add(function, index, None)
        return sorted(self._calls.values(), key=lambda c: (c.at, c.number is None, c.number or 0))

    def _follow(self, function: Function, index: int, register: str) -> None:
        found = self._tracer.origins(function, index, register)
        for value in found.values:
            self._add(function, index, value if value < MAX_NUMBER else None)
        is_known = [self._pass_on(function, entry, place) for entry, place in found.entries]
        if found.is_partial or not all(is_known):
            self._add(function, index, None)

    def _pass_on(self, function: Function, entry: int, register: str) -> bool:
        """Ask the callers of a function; whether there are any."""
        key = (entry, register)
        if key not in self._followed:
            callers = list(self.callers.of(entry))
            is_function = entry == function.start or self.callers.is_called(entry)
            self._followed[key] = is_function and bool(callers)
            if self._followed[key]:
                self._todo.extend((f, i, register) for f, i in callers)
        return self._followed[key]

    def _add(self, function: Function, index: int, number: int | None) -> None:
        at = function.insns[index][0]
        self._calls[at, number] = Call(at, number, self.functions.name(at))
