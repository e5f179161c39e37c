# SPDX-License-Identifier: BSD-2-Clause
"""Who calls what in one file: direct calls, calls through the PLT and through pointers of the GOT.

Found as bytes (a call is `e8` and a distance), then believed only where the linker's bounds say
that an instruction begins. Conditional jumps from one function into another are not looked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from capstan.build.check.dynamic import Dynamic
from capstan.build.link import decode
from capstan.build.link.bounds import Function, Functions
from capstan.build.link.decode import Insn
from capstan.build.link.objfile import ObjFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENDBR64 = b"\xf3\x0f\x1e\xfa"
BND = b"\xf2"
JMP_RIP = b"\xff\x25"


class Callers:
    """Calls and jumps between functions of a file."""

    def __init__(self, obj: ObjFile, functions: Functions, dynamic: Dynamic) -> None:
        self.obj, self.functions, self.dynamic = obj, functions, dynamic
        self._stubs: dict[int, str | None] = {}

    def of(self, target: int) -> Iterator[tuple[Function, int]]:
        """(function, index of the instruction) of each direct call and jump to an address."""
        places, targets = self._direct
        low, high = targets.searchsorted((target, target + 1))
        yield from self._believed(places[low:high].tolist())

    def is_called(self, address: int) -> bool:
        """Whether a function begins at an address: something calls it, or jumps from elsewhere."""
        for function, index in self.of(address):
            if decode.word(function.insns[index]) == "call":
                return True
            if not function.start <= address < function.end:
                return True
        return False

    def of_import(self, name: str) -> Iterator[tuple[Function, int]]:
        """(function, index of the instruction) of each call of an imported function."""
        slots = [at for at, symbol in self.dynamic.slots.items() if symbol == name]
        places, targets = self._through_slots
        for slot in slots:
            low, high = targets.searchsorted((slot, slot + 1))
            for at in places[low:high].tolist():
                yield from self._believed([at, at - 1])
                for stub in (at, at - 1, at - 4, at - 5):
                    if self.name_at(stub) == name:
                        yield from self.of(stub)

    def name_at(self, address: int) -> str | None:
        """The function that the PLT entry at an address leads to."""
        if address not in self._stubs:
            self._stubs[address] = self._read_stub(address)
        return self._stubs[address]

    def called(self, insn: Insn) -> str | int | None:
        """What a call or jump leads to: a name (through PLT or GOT) or an address of the file."""
        target = decode.branch_target(insn)
        if target is not None:
            return self.name_at(target) or target
        if "[rip" in insn[3]:
            slot = decode.rip_target(insn)
            return self.dynamic.slots.get(slot) if slot is not None else None
        return None

    def _believed(self, places: list[int]) -> Iterator[tuple[Function, int]]:
        for at in places:
            function = self.functions.around(at)
            if isinstance(function, str) or self.functions.check(function, at) is not None:
                continue
            index = function.index(at)
            if index is not None and decode.word(function.insns[index]) in {"call", "jmp"}:
                yield function, index

    def _read_stub(self, address: int) -> str | None:
        code = self.obj.bytes_at(address, address + 11)
        at = len(ENDBR64) if code.startswith(ENDBR64) else 0
        at += code[at : at + 1] == BND
        if code[at : at + 2] != JMP_RIP or len(code) < at + 6:
            return None
        (distance,) = struct.unpack_from("<i", code, at + 2)
        return self.dynamic.slots.get(address + at + 6 + distance)

    @cached_property
    def _direct(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of calls and jumps, and what they would lead to, sorted by the latter."""
        import numpy as np

        calls, short = self._scan(b"\xe8", 1, 4), self._scan(b"\xeb", 1, 1)
        jumps = self._scan(b"\xe9", 1, 4)
        places, targets = (np.concatenate(part) for part in zip(calls, jumps, short, strict=True))
        order = np.argsort(targets, kind="stable")
        return places[order], targets[order]

    @cached_property
    def _through_slots(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of calls and jumps through pointers, and the pointers, sorted by the latter."""
        import numpy as np

        calls, jumps = self._scan(b"\xff\x15", 2, 4), self._scan(b"\xff\x25", 2, 4)
        places, targets = (np.concatenate(part) for part in zip(calls, jumps, strict=True))
        order = np.argsort(targets, kind="stable")
        return places[order], targets[order]

    def _scan(
        self, opcode: bytes, length: int, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of an opcode, and where the distance of `width` bytes behind it leads."""
        import numpy as np

        places, targets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for text in self.obj.exec_ranges:
            size = text.end - text.start
            raw = np.frombuffer(bytes(self.obj.data[text.offset : text.offset + size]), np.uint8)
            count = size - length - width + 1
            if count <= 0:
                continue
            found = np.ones(count, bool)
            for distance, byte in enumerate(opcode):
                found &= raw[distance : distance + count] == byte
            at = np.flatnonzero(found)
            value = np.zeros(len(at), np.int64)
            for i in range(width):
                value |= raw[at + length + i].astype(np.int64) << (8 * i)
            half = 1 << (8 * width - 1)
            value = (value ^ half) - half
            places.append(at + text.start)
            targets.append(at + text.start + length + width + value)
        return np.concatenate(places), np.concatenate(targets)
