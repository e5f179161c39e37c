# SPDX-License-Identifier: BSD-2-Clause
"""Where functions begin and end according to the unwind tables.

`.eh_frame_hdr` is a sorted table of all FDEs, so finding the one around an address costs a binary
search and one FDE; only files without it are read from end to end. Facts: "Linux Standard Base,
Core, 10.6 and 10.7" (`.eh_frame`, `.eh_frame_hdr`), "Itanium C++ ABI: exception handling tables"
(LSDA). What cannot be read is no bound: nothing here raises on damage.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capstan.build.elf import Data
from capstan.build.link.objfile import PT_GNU_EH_FRAME, ObjFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OMIT = 0xFF
INDIRECT = 0x80
PCREL, DATAREL = 0x10, 0x30
ULEB, SLEB = 0x01, 0x09
MAX_LSDA = 1 << 20

_FIXED = {0: "<Q", 2: "<H", 3: "<I", 4: "<Q", 10: "<h", 11: "<i", 12: "<q"}


class _Damaged(Exception):
    """An encoding nobody uses, or bytes that end too early."""


@dataclass(frozen=True, slots=True)
class Fde:
    """One function: addresses [start, end), its exception table, whether it is a signal frame.

    The unwind table of a signal frame begins one byte early, in the middle of padding.
    """

    start: int
    end: int
    lsda: int | None = None
    is_signal: bool = False


@dataclass(frozen=True, slots=True)
class _Cie:
    pc_encoding: int
    lsda_encoding: int
    has_augmentation: bool
    is_signal: bool = False


class _Reader:
    """Reads encoded pointers at file offset `at`; `bias` makes addresses of offsets."""

    def __init__(self, data: Data, at: int, bias: int, datarel: int = 0) -> None:
        self.data, self.at, self.bias, self.datarel = data, at, bias, datarel

    def fixed(self, layout: str) -> int:
        try:
            value: int = struct.unpack_from(layout, self.data, self.at)[0]
        except struct.error:
            raise _Damaged from None
        self.at += struct.calcsize(layout)
        return value

    def leb(self, *, signed: bool = False) -> int:
        value = shift = 0
        while shift < 70:
            byte = self.fixed("<B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value - (1 << shift) if signed and byte & 0x40 else value
        raise _Damaged

    def pointer(self, encoding: int) -> int:
        here = self.at + self.bias
        low = encoding & 15
        if low in {ULEB, SLEB}:
            value = self.leb(signed=low == SLEB)
        elif low in _FIXED:
            value = self.fixed(_FIXED[low])
        else:
            raise _Damaged
        if value == 0:
            return 0
        base = {0: 0, PCREL: here, DATAREL: self.datarel}.get(encoding & 0x70)
        if base is None or encoding & INDIRECT:
            raise _Damaged
        return (value + base) & ((1 << 64) - 1)


class Unwind:
    """The FDEs of a file. `starts` is sorted and parallel to their addresses."""

    starts: NDArray[np.uint64]
    _where: NDArray[np.uint64]

    def __init__(self, obj: ObjFile) -> None:
        self.obj = obj
        self._cies: dict[int, _Cie] = {}
        self._fdes: dict[int, Fde | None] = {}
        try:
            self.starts, self._where = self._from_header()
        except _Damaged:
            self.starts, self._where = self._from_end_to_end()

    def __len__(self) -> int:
        return len(self.starts)

    def around(self, vaddr: int) -> Fde | None:
        """The function an address lies in."""
        fde = self.before(vaddr)
        return fde if fde is not None and vaddr < fde.end else None

    def before(self, vaddr: int) -> Fde | None:
        """The last function that begins at or before an address."""
        index = int(self.starts.searchsorted(vaddr, "right")) - 1
        return self.fde(index) if index >= 0 else None

    def next_start(self, vaddr: int) -> int | None:
        """Where the next function after an address begins."""
        index = int(self.starts.searchsorted(vaddr, "right"))
        return int(self.starts[index]) if index < len(self.starts) else None

    def fde(self, index: int) -> Fde | None:
        """The FDE with that index; None if it cannot be read."""
        if index not in self._fdes:
            try:
                self._fdes[index] = self._read(int(self._where[index]))
            except _Damaged:
                self._fdes[index] = None
        return self._fdes[index]

    def _reader(self, vaddr: int, datarel: int = 0) -> _Reader:
        offset = self.obj.offset_of(vaddr)
        if offset is None:
            raise _Damaged
        return _Reader(self.obj.data, offset, vaddr - offset, datarel)

    def _from_header(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        import numpy as np

        segment = next((s for s in self.obj.segments if s.type == PT_GNU_EH_FRAME), None)
        if segment is None or segment.filesz < 12:
            raise _Damaged
        reader = self._reader(segment.vaddr, segment.vaddr)
        version, frame, count, table = (reader.fixed("<B") for _ in range(4))
        if version != 1 or OMIT in {frame, count, table} or table != DATAREL | 11:
            raise _Damaged
        reader.pointer(frame)
        length = reader.pointer(count)
        raw = bytes(self.obj.data[reader.at : reader.at + 8 * length])
        pairs = np.frombuffer(raw[: len(raw) & -8], "<i4").reshape(-1, 2).astype(np.int64)
        rows: NDArray[np.uint64] = (pairs + segment.vaddr).astype(np.uint64)
        starts = np.ascontiguousarray(rows[:, 0])
        if len(rows) != length or (len(starts) > 1 and bool((starts[1:] < starts[:-1]).any())):
            raise _Damaged
        return starts, np.ascontiguousarray(rows[:, 1])

    def _from_end_to_end(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        import numpy as np

        found: list[tuple[int, int]] = []
        section = self.obj.section(".eh_frame")
        if section is not None and section.addr:
            at, end = section.addr, section.addr + section.size
            try:
                while at + 8 <= end:
                    reader = self._reader(at)
                    length = reader.fixed("<I")
                    if length in {0, 0xFFFFFFFF}:
                        break
                    if reader.fixed("<I"):
                        found.append((self._read(at).start, at))
                    at += 4 + length
            except _Damaged:
                pass
        found.sort()
        starts, where = zip(*found, strict=True) if found else ((), ())
        return np.array(starts, np.uint64), np.array(where, np.uint64)

    def _read(self, vaddr: int) -> Fde:
        reader = self._reader(vaddr)
        length = reader.fixed("<I")
        if length in {0, 0xFFFFFFFF}:
            raise _Damaged
        here = reader.at + reader.bias
        distance = reader.fixed("<I")
        if distance == 0:
            raise _Damaged
        cie = self._cie(here - distance)
        start = reader.pointer(cie.pc_encoding)
        end = start + reader.pointer(cie.pc_encoding & 15)
        lsda = None
        if cie.has_augmentation:
            reader.leb()
            if cie.lsda_encoding != OMIT:
                lsda = reader.pointer(cie.lsda_encoding) or None
        return Fde(start, end, lsda, cie.is_signal)

    def _cie(self, vaddr: int) -> _Cie:
        if vaddr not in self._cies:
            self._cies[vaddr] = self._read_cie(self._reader(vaddr))
        return self._cies[vaddr]

    def _read_cie(self, reader: _Reader) -> _Cie:
        reader.fixed("<I")
        if reader.fixed("<I") != 0:
            raise _Damaged
        version = reader.fixed("<B")
        text = b""
        while (byte := reader.fixed("<B")) and len(text) < 16:
            text += bytes([byte])
        reader.leb()
        reader.leb(signed=True)
        reader.fixed("<B") if version == 1 else reader.leb()
        if not text.startswith(b"z"):
            if text:
                raise _Damaged
            return _Cie(0, OMIT, has_augmentation=False)
        reader.leb()
        pc, lsda = 0, OMIT
        for letter in text[1:]:
            if letter == ord("R"):
                pc = reader.fixed("<B")
            elif letter == ord("L"):
                lsda = reader.fixed("<B")
            elif letter == ord("P"):
                reader.pointer(reader.fixed("<B") & 15)
            elif letter not in b"SB":
                raise _Damaged
        return _Cie(pc, lsda, has_augmentation=True, is_signal=b"S" in text)

    def landing_pads(self, fde: Fde) -> set[int] | None:
        """Where exceptions enter a function; None if its exception table cannot be read."""
        if fde.lsda is None:
            return set()
        try:
            return self._pads(self._reader(fde.lsda), fde.start)
        except _Damaged:
            return None

    @staticmethod
    def _pads(reader: _Reader, base: int) -> set[int]:
        encoding = reader.fixed("<B")
        if encoding != OMIT:
            base = reader.pointer(encoding)
        if reader.fixed("<B") != OMIT:
            reader.leb()
        encoding = reader.fixed("<B")
        size = reader.leb()
        end = reader.at + size
        pads = set()
        if size > MAX_LSDA:
            raise _Damaged
        while reader.at < end:
            reader.pointer(encoding & 15)
            reader.pointer(encoding & 15)
            pad = reader.pointer(encoding & 15)
            reader.leb()
            if pad:
                pads.add(base + pad)
        return pads
