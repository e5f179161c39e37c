# SPDX-License-Identifier: BSD-2-Clause
"""Which function an address lies in, and what that is known from.

Trusted, in this order: Go's table, unwind tables, symbols with a size, and *gaps*: what lies
between two functions so known. A gap counts only if every byte of it decodes to instructions that
compilers emit (musl has neither unwind tables nor local symbols, and a quarter of its sites lie in
gaps). A data symbol is never code. No bounds, no patch: a patched byte of a table would be silent
corruption, a site that is missed only costs time.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from capstan.build.link import decode
from capstan.build.link.decode import Insn
from capstan.build.link.ehframe import Fde, Unwind
from capstan.build.link.gopclntab import go_functions
from capstan.build.link.objfile import STT_FUNC, STT_IFUNC, STT_NOTYPE, STT_OBJECT, ObjFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_GAP = 1 << 16


class Source(Enum):
    """How a function's bounds are known."""

    GO = "Go table"
    FDE = "unwind table"
    SYMBOL = "symbol"
    GAP = "gap"


@dataclass(slots=True, eq=False)
class Function:
    """One function, decoded as far as anybody asked: `insns` covers [start, known)."""

    obj: ObjFile
    start: int
    end: int
    source: Source
    fde: Fde | None = None
    gap: int = 0
    """Where a gap begins; the function may begin earlier, with a neighbour that runs into it."""
    insns: list[Insn] = field(default_factory=list)
    known: int = 0
    failed: int | None = None
    """The address that is no instruction."""

    def decode_to(self, limit: int) -> None:
        """Decode past `limit`, or to the end, or to what cannot be decoded."""
        self.known = self.known or self.start
        limit = min(limit, self.end)
        if self.failed is not None or self.known >= limit:
            return
        stop = min(limit + decode.LONGEST, self.end)
        more = decode.decode(self.obj.bytes_at(self.known, stop), self.known)
        self.insns += more
        self.known = more[-1][0] + more[-1][1] if more else self.known
        if self.known < limit:
            self.failed = self.known

    def index(self, vaddr: int) -> int | None:
        """The index of the instruction that begins at an address, None if none does."""
        self.decode_to(vaddr + 1)
        index = bisect_right(self.insns, vaddr, key=lambda i: i[0]) - 1
        return index if index >= 0 and self.insns[index][0] == vaddr else None

    def code(self, insn: Insn) -> bytes:
        """The bytes of an instruction."""
        return self.obj.bytes_at(insn[0], insn[0] + insn[1])


class Functions:
    """All that is known about where functions are in one file."""

    def __init__(self, obj: ObjFile) -> None:
        self.obj = obj
        self.go = go_functions(obj)
        self.unwind = Unwind(obj)
        self._found: dict[tuple[int, int], Function] = {}
        self._split_symbols()

    def _split_symbols(self) -> None:
        import numpy as np

        symbols = self.obj.symbols
        in_text = np.zeros(len(symbols.value), bool)
        for text in self.obj.exec_ranges:
            in_text |= (symbols.value >= text.start) & (symbols.value < text.end)
        is_code = in_text & np.isin(symbols.kind, (STT_FUNC, STT_IFUNC, STT_NOTYPE))
        is_function = is_code & (symbols.kind != STT_NOTYPE)
        sized = is_code & (symbols.size > 0)
        self.sym_start, self.sym_end = symbols.value[sized], (symbols.value + symbols.size)[sized]
        data = in_text & (symbols.kind == STT_OBJECT) & (symbols.size > 0)
        self.data_start, self.data_end = symbols.value[data], (symbols.value + symbols.size)[data]
        self.labels = np.unique(symbols.value[in_text])
        """Every address with a name."""
        self.entries = np.unique(symbols.value[is_function])
        """Every address that a function symbol says is an instruction."""

    def name(self, vaddr: int) -> str:
        """The symbol an address lies in or follows, with offset; empty without symbols."""
        symbols = self.obj.symbols
        is_code = (symbols.kind == STT_FUNC) | (symbols.kind == STT_IFUNC)
        text = self.obj.range_of(vaddr)
        if text is None:
            return ""
        before = is_code & (symbols.value <= vaddr) & (symbols.value >= text.start)
        if not before.any():
            return ""
        index = int(symbols.value[before].argmax())
        index = int(before.nonzero()[0][index])
        names, at = symbols.names[symbols.table[index]], int(symbols.name_at[index])
        name = names[at : names.find(b"\0", at)].decode(errors="replace")
        offset = vaddr - int(symbols.value[index])
        return f"{name}+{offset:#x}" if offset else name

    def around(self, vaddr: int) -> Function | str:
        """The function an address lies in, or why none is trusted."""
        text = self.obj.range_of(vaddr)
        if text is None:
            return "outside of program text"
        if _last_around(self.data_start, self.data_end, vaddr) is not None:
            return "in a data object"
        if self.go is not None and self.go[0] <= vaddr < self.go[-1]:
            index = int(self.go.searchsorted(vaddr, "right"))
            return self._keep(int(self.go[index - 1]), int(self.go[index]), Source.GO)
        fde = self.unwind.around(vaddr)
        if fde is not None and text.start <= fde.start and fde.end <= text.end:
            early = 1 if fde.is_signal and fde.start not in self.entries else 0
            return self._keep(fde.start + early, fde.end, Source.FDE, fde)
        symbol = _last_around(self.sym_start, self.sym_end, vaddr)
        if symbol is not None and symbol[1] <= text.end:
            return self._keep(*symbol, Source.SYMBOL)
        return self._gap(vaddr, text.start, text.end)

    def next_start(self, vaddr: int, end: int) -> int:
        """Where the first known function after an address begins; at most `end`."""
        starts = [end]
        following = self.unwind.next_start(vaddr)
        starts += [following] if following is not None else []
        for array in (self.sym_start, self.entries, self.data_start):
            after = array[array > vaddr]
            starts += [int(after.min())] if len(after) else []
        return min(starts)

    def _gap(self, vaddr: int, low: int, high: int) -> Function | str:
        start, lead = self._gap_start(vaddr, low)
        end = self.next_start(vaddr, high)
        if (start, end) == (low, high):
            return "nothing in its section has known bounds"
        if end - start > MAX_GAP:
            return f"in a gap of {end - start} bytes between known functions"
        function = self._keep(lead if lead is not None else start, end, Source.GAP)
        function.gap = start
        return function

    def _gap_start(self, vaddr: int, low: int) -> tuple[int, int | None]:
        """Where the gap begins, and the function that runs into it (no symbol between)."""
        start, lead = low, None
        before = self.unwind.before(vaddr)
        if before is not None and start < before.end <= vaddr:
            start, lead = before.end, before.start
        ends = (self.sym_end <= vaddr) & (self.sym_end > start)
        if ends.any():
            start = int(self.sym_end[ends].max())
            lead = int(self.sym_start[ends & (self.sym_end == start)].max())
        entries = self.entries[(self.entries <= vaddr) & (self.entries >= start)]
        if len(entries):
            return int(entries.max()), None
        return start, lead

    def _keep(self, start: int, end: int, source: Source, fde: Fde | None = None) -> Function:
        found = self._found.get((start, end))
        if found is None:
            found = self._found[start, end] = Function(self.obj, start, end, source, fde)
        return found

    def check(self, function: Function, limit: int) -> str | None:
        """Why a function, decoded up to `limit`, is not to be trusted."""
        is_gap = function.source is Source.GAP
        function.decode_to(function.end if is_gap else limit)
        if function.failed is not None and (is_gap or function.failed <= limit):
            return f"no instruction at {function.failed:#x}"
        if is_gap:
            if function.index(function.gap) is None:
                return f"the function before it does not end at {function.gap:#x}"
            for insn in function.insns:
                if insn[0] >= function.gap and decode.is_data_like(insn):
                    return f"`{insn[2]} {insn[3]}` at {insn[0]:#x} looks like data"
        last = min(limit, function.end - 1)
        inside = (self.entries > function.start) & (self.entries <= last)
        for entry in self.entries[inside]:
            if function.index(int(entry)) is None:
                return f"a function symbol at {int(entry):#x} is inside an instruction"
        return None


def _last_around(
    starts: NDArray[np.uint64], ends: NDArray[np.uint64], vaddr: int
) -> tuple[int, int] | None:
    """Of the intervals an address lies in, the one that begins last."""
    inside = (starts <= vaddr) & (ends > vaddr)
    if not inside.any():
        return None
    start = int(starts[inside].max())
    return start, int(ends[inside & (starts == start)].max())
