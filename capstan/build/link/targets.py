# SPDX-License-Identifier: BSD-2-Clause
"""Whether control may reach an address other than from the instruction before it.

Asked about the inside of a window of short instructions and about padding. The answer errs towards
yes: any bytes of program text that look like a jump, call or `lea` to the address count, whatever
they really are, and so does any word of the file that equals it (relocations: the addend). Also
looked at: symbols, functions, the entry point, the branches, jump tables and landing pads of the
function, short jumps of its neighbours.
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING

from capstan.build.link import decode
from capstan.build.link.bounds import Function, Functions
from capstan.build.link.objfile import ObjFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ET_EXEC = 2
MAX_TABLE = 4096
SHORT_JUMPS = frozenset([*range(0x70, 0x80), 0xE0, 0xE1, 0xE2, 0xE3, 0xEB])


class Targets:
    """Answers for one file; tables are made when first needed."""

    def __init__(self, obj: ObjFile, functions: Functions) -> None:
        self.obj, self.functions = obj, functions
        self._inside: dict[tuple[int, int], tuple[frozenset[int], bool]] = {}

    def entered(self, start: int, end: int, function: Function) -> bool:
        """Whether control may enter [start, end), which is inside or right behind `function`."""
        return start < end and (
            self._is_named(start, end)
            or self._is_marked(start, end)
            or self._from_inside(start, end, function)
            or self._by_short_jump(start, end, function)
        )

    def doubt(self, function: Function, index: int) -> str | None:
        """Why an instruction may be data, or part of another one, though it decodes.

        The straight line up to it must be led to, from before or by a branch: Go puts signatures
        behind a jump, and they decode. And no branch of the function may lead into the middle of an
        instruction of the line: then bytes before it were data, and decoding is out of step.
        """
        insns, first = function.insns, index
        while first > 0 and not decode.is_flow(insns[first - 1]):
            first -= 1
        end = insns[index][0] + insns[index][1]
        known, is_complete = self._of_function(function)
        is_led_to = first == 0 or not decode.is_end(insns[first - 1])
        if not is_led_to and not (is_complete and self.entered(insns[first][0], end, function)):
            return "nothing leads to it: perhaps data"
        starts = {insn[0] for insn in insns[first : index + 1]}
        for target in known:
            if insns[first][0] < target < end and target not in starts:
                return f"a branch leads into an instruction in front of it, at {target:#x}"
        return None

    def _is_named(self, start: int, end: int) -> bool:
        labels = self.functions.labels
        following = self.functions.unwind.next_start(start - 1)
        is_function = following is not None and following < end
        is_label = bool(((labels >= start) & (labels < end)).any())
        return is_function or is_label or start <= self.obj.entry < end

    def _from_inside(self, start: int, end: int, function: Function) -> bool:
        """Branches, jump tables, landing pads; yes if the function cannot be read to its end."""
        known, is_complete = self._of_function(function)
        return not is_complete or any(start <= target < end for target in known)

    def _is_marked(self, start: int, end: int) -> bool:
        for low, marks in self._marks:
            if low <= start < low + len(marks):
                return bool(marks[start - low : end - low].any())
        return True

    @cached_property
    def _marks(self) -> list[tuple[int, NDArray[np.bool_]]]:
        """Per executable range: which addresses a displacement leads to, or a word equals."""
        import numpy as np

        ranges = self.obj.exec_ranges
        marks = [(r.start, np.zeros(r.end - r.start, bool)) for r in ranges]
        for text in ranges:
            code = bytes(self.obj.data[text.offset : text.offset + text.end - text.start])
            places = _displacements(np.frombuffer(code, np.uint8))
            raw = np.frombuffer(code + bytes(4), np.uint8)
            words = sum(raw[places + i].astype(np.int64) << (8 * i) for i in range(4))
            words = ((words + (1 << 31)) & 0xFFFFFFFF) - (1 << 31) + places + (text.start + 4)
            _mark(marks, words)
        data = self.obj.data
        _mark(marks, np.frombuffer(data, "<u8", len(data) // 8).astype(np.int64))
        if self.obj.type == ET_EXEC:
            for shift in range(4):
                words = np.frombuffer(data, "<u4", (len(data) - shift) // 4, shift)
                _mark(marks, words.astype(np.int64))
        return marks

    def _by_short_jump(self, start: int, end: int, function: Function) -> bool:
        """Short jumps from outside of the function; those inside have been decoded."""
        text = self.obj.range_of(start)
        if text is None:
            return True
        below = range(max(text.start, start - 129), min(function.start, start))
        above = range(max(function.end, end), min(text.end, end + 128))
        for at in (*below, *above):
            code = self.obj.bytes_at(at, at + 2)
            if len(code) == 2 and code[0] in SHORT_JUMPS:
                distance = code[1] - 256 * (code[1] > 127)
                if start <= at + 2 + distance < end and self._may_be_jump(at):
                    return True
        return False

    def _may_be_jump(self, at: int) -> bool:
        """Whether an instruction may begin at an address; no only within trusted bounds."""
        function = self.functions.around(at)
        if isinstance(function, str) or self.functions.check(function, at) is not None:
            return True
        return function.index(at) is not None

    def _of_function(self, function: Function) -> tuple[frozenset[int], bool]:
        """The targets inside a function, and whether these are all."""
        key = (function.start, function.end)  # a gap may begin with its neighbour
        if key not in self._inside:
            self._inside[key] = self._read(function)
        return self._inside[key]

    def _read(self, function: Function) -> tuple[frozenset[int], bool]:
        """Direct branches, jump tables, landing pads."""
        function.decode_to(function.end)
        found = {t for i in function.insns if (t := decode.branch_target(i)) is not None}
        is_complete = function.failed is None
        if function.fde is not None:
            pads = self.functions.unwind.landing_pads(function.fde)
            is_complete = is_complete and pads is not None
            found |= pads or set()
        if any(decode.is_indirect_jump(insn) for insn in function.insns):
            for insn in function.insns:
                base = decode.rip_target(insn) if insn[2] == "lea" else None
                if base is not None and self.obj.range_of(base) is None:
                    found |= self._table(base, function)
        return frozenset(found), is_complete

    def _table(self, base: int, function: Function) -> set[int]:
        """A table of 32-bit distances from its beginning, as far as they stay in the function."""
        raw = self.obj.bytes_at(base, base + 4 * MAX_TABLE)
        found = set()
        for (distance,) in struct.iter_unpack("<i", raw[: len(raw) & -4]):
            if not function.start <= base + distance < function.end:
                break
            found.add(base + distance)
        return found


def _mark(marks: list[tuple[int, NDArray[np.bool_]]], words: NDArray[np.int64]) -> None:
    for low, mark in marks:
        inside = words[(words >= low) & (words < low + len(mark))]
        mark[inside - low] = True


def _displacements(code: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where a call, jump or `lea` may have its 32-bit displacement, whatever is an instruction."""
    import numpy as np

    before = np.concatenate((np.zeros(1, np.uint8), code))
    one, two = before[1:-4], before[:-5]
    found = (one == 0xE8) | (one == 0xE9)
    found |= (two == 0x0F) & (one & 0xF0 == 0x80)
    found |= (two == 0x8D) & (one & 0xC7 == 0x05)
    found |= (two == 0xC7) & (one == 0xF8)
    return np.flatnonzero(found) + 1
