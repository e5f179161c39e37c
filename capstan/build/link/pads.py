# SPDX-License-Identifier: BSD-2-Clause
"""Dead padding near a site: room for a jump that a short jump can reach.

Dead are nops and int3 that follow an instruction control does not go past (jmp, ret, hlt, ud2), as
far as nothing may jump there: alignment of loop heads inside a function, the space between two
functions. Each run is handed out from its beginning, so sites asked about in ascending order get
the lowest bytes in their reach, which wastes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from capstan.build.link import decode
from capstan.build.link.bounds import Function, Functions
from capstan.build.link.targets import Targets

REACH_BELOW, REACH_ABOVE = 126, 129
"""A short jump at s reaches [s - 126, s + 129]."""
LONG, SHORT = 5, 2


@dataclass(slots=True)
class Run:
    """Dead bytes [start, end); [start, free) is taken. `end` is an instruction's beginning."""

    start: int
    end: int
    free: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Bytes taken for a jump."""

    at: int
    size: int


class Pads:
    """Hands out dead bytes of one file."""

    def __init__(self, functions: Functions, targets: Targets) -> None:
        self.functions, self.targets = functions, targets
        self._runs: dict[int, Run] = {}
        self._read: set[int] = set()

    @property
    def touched(self) -> list[Run]:
        """The runs of which something was taken."""
        return [run for run in self._runs.values() if run.free > run.start]

    def take(self, site: int) -> list[Slot] | None:
        """The jumps from a site to its stub, last one long; None if there is no room."""
        runs = self._near(site, 2 * REACH_ABOVE)
        slot = self._slot(runs, site, LONG)
        if slot is not None:
            return [self._use(runs, slot)]
        for hop in self._slots(runs, site, SHORT):
            slot = self._slot(runs, hop.at, LONG, hop)
            if slot is not None:
                return [self._use(runs, hop), self._use(runs, slot)]
        return None

    def _slot(
        self, runs: list[Run], site: int, size: int, taken: Slot | None = None
    ) -> Slot | None:
        return next((s for s in self._slots(runs, site, size) if s != taken), None)

    @staticmethod
    def _slots(runs: list[Run], site: int, size: int) -> list[Slot]:
        """The first room of each run in reach of a short jump at `site`; not the jump itself."""
        found = []
        for run in runs:
            at = max(run.free, site - REACH_BELOW)
            is_itself = at <= site < run.end
            if at + size <= run.end and at <= site + REACH_ABOVE and not is_itself:
                found.append(Slot(at, size))
        return found

    @staticmethod
    def _use(runs: list[Run], slot: Slot) -> Slot:
        for run in runs:
            if run.start <= slot.at < run.end:
                run.free = slot.at + slot.size
        return slot

    def _near(self, site: int, reach: int) -> list[Run]:
        text = self.functions.obj.range_of(site)
        if text is None:
            return []
        at, high = max(text.start, site - reach), min(text.end, site + reach)
        while at < high:
            function = self.functions.around(at)
            if isinstance(function, str):
                at = self.functions.next_start(at, text.end)
                continue
            self._add(function)
            at = function.end
        low = site - reach
        return sorted((r for r in self._runs.values() if low <= r.start < high), key=_by_start)

    def _add(self, function: Function) -> None:
        """Find the runs of one function, once."""
        key = function.gap or function.start
        if key in self._read:
            return
        self._read.add(key)
        if self.functions.check(function, function.end) is not None:
            return
        insns, index = function.insns, 1
        while index < len(insns):
            if decode.is_end(insns[index - 1]):
                first = index
                while index < len(insns) and decode.is_nop(insns[index]):
                    index += 1
                if index > first:
                    end = insns[index - 1][0] + insns[index - 1][1]
                    self._add_run(insns[first][0], end, function)
            index += 1

    def _add_run(self, start: int, end: int, function: Function) -> None:
        if end - start < SHORT or start in self._runs or start < function.gap:
            return
        if not self.targets.entered(start, end, function):
            self._runs[start] = Run(start, end, start)


def _by_start(run: Run) -> int:
    return run.start
