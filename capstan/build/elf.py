# SPDX-License-Identifier: BSD-2-Clause
"""What an ELF file asks of its loader: type, interpreter, libraries, search paths.

A small reader of our own, because it is on the path of every `capstan run`: only the file header,
the program headers and the dynamic section are read, each access is checked against the file's
size, and a damaged file gives `ElfError` and nothing else. Facts: "System V ABI, chapter 5"; `man
5 elf`.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

Data = bytes | mmap.mmap

MAGIC = b"\x7fELF"
PAGE = 4096
MAX_SEGMENTS = 512
MAX_DYNAMIC = 1 << 16
MAX_STRINGS = 64 << 20
USER_END = 1 << 47

ET_EXEC, ET_DYN = 2, 3
EM_X86_64 = 62
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
PN_XNUM = 0xFFFF
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ = 0, 1, 5, 10
DT_SONAME, DT_RPATH, DT_RUNPATH, DT_FLAGS_1 = 14, 15, 29, 0x6FFFFFFB
DF_1_PIE = 0x08000000

_MACHINES = {3: "32-bit x86", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "S/390", 40: "ARM"}
_MACHINES |= {183: "AArch64", 243: "RISC-V", 258: "LoongArch"}
_TYPES = {1: "an object file (.o), not linked yet", 4: "a core dump"}


class ElfError(Exception):
    """Why a file cannot be used; `hint` says what to do. Callers add the file's name."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint or "the file is damaged: build or install it again"


class Kind(Enum):
    """How the kernel loads the file."""

    EXEC = "fixed address"
    PIE = "position-independent program"
    SHARED = "shared library"


@dataclass(frozen=True, slots=True)
class Elf:
    """The facts; strings are file-system strings. `rpath` and `runpath` are None when absent."""

    kind: Kind
    interp: str | None = None
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: str | None = None
    runpath: str | None = None
    dynamic: bool = False
    unwinds: bool = False
    """Names `pthread_exit`, `pthread_cancel` or `backtrace`, for which glibc opens libgcc_s."""


@dataclass(frozen=True, slots=True)
class _Segment:
    type: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int


def is_elf(head: bytes) -> bool:
    """Whether a file that begins with `head` claims to be ELF."""
    return head[:4] == MAGIC


def load(path: str | Path) -> Elf:
    """The facts of the file `path`.

    Raises:
        ElfError: it is not a usable ELF file.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size < 64:
            return parse(file.read(64))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return parse(data)


def parse(data: Data) -> Elf:
    """The facts of an x86-64 program or shared library.

    Raises:
        ElfError: truncated, damaged, or made for something else.
    """
    etype, phoff, phnum = _header(data)
    segments = [_segment(data, phoff + 56 * i) for i in range(phnum)]
    _check_loads(data, [s for s in segments if s.type == PT_LOAD])
    interp = dynamic = None
    for seg in segments:
        if seg.type == PT_INTERP and interp is None:
            interp = _interp(data, seg)
        elif seg.type == PT_DYNAMIC and dynamic is None:
            dynamic = seg
    if dynamic is None:
        return Elf(Kind.EXEC if etype == ET_EXEC else Kind.PIE, interp)
    return _with_dynamic(data, etype, interp, segments, dynamic)


def _header(data: Data) -> tuple[int, int, int]:
    """The type, and place and number of the program headers."""
    size = len(data)
    if size == 0:
        raise ElfError("the file is empty")
    if data[:4] != MAGIC:
        raise ElfError("not an ELF file", "give an x86-64 Linux program")
    if size < 20:
        raise ElfError(f"truncated: {size} bytes are no ELF header")
    if data[4] not in {1, 2} or data[5] not in {1, 2}:
        raise ElfError("damaged ELF header (class or byte order)")
    byteorder = "<" if data[5] == 1 else ">"
    etype, machine = struct.unpack_from(byteorder + "HH", data, 16)
    if machine != EM_X86_64:
        name = _MACHINES.get(machine, f"machine number {machine}")
        raise ElfError(f"made for {name}, not for x86-64", "build it for x86-64 Linux")
    if data[4] != 2 or data[5] != 1:
        raise ElfError("not a 64-bit little-endian file (x32?)", "build it for x86-64 Linux")
    if size < 64:
        raise ElfError(f"truncated: {size} bytes are no ELF header")
    if etype not in {ET_EXEC, ET_DYN}:
        what = _TYPES.get(etype, f"an ELF file of type {etype}")
        raise ElfError(f"{what}, not a program", "give a linked program")
    phoff, phentsize, phnum = struct.unpack_from("<32xQ14xHH", data)
    if phnum == 0:
        raise ElfError("no program headers, so nothing can be loaded")
    if phentsize != 56:
        raise ElfError(f"program headers of {phentsize} bytes instead of 56")
    if phnum == PN_XNUM or phnum > MAX_SEGMENTS:
        raise ElfError(f"{phnum} program headers (at most {MAX_SEGMENTS})")
    if phoff + 56 * phnum > size:
        raise ElfError(f"truncated: program headers end after the file ({size} bytes)")
    return etype, phoff, phnum


def _segment(data: Data, at: int) -> _Segment:
    ptype, offset, vaddr, filesz, memsz = struct.unpack_from("<I4xQQ8xQQ", data, at)
    return _Segment(ptype, offset, vaddr, filesz, memsz)


def _check_loads(data: Data, loads: list[_Segment]) -> None:
    if not loads:
        raise ElfError("no loadable segment")
    end = 0
    for seg in loads:
        if seg.filesz and seg.offset + seg.filesz > len(data):
            raise ElfError(
                f"truncated: a segment ends at byte {seg.offset + seg.filesz}, "
                f"the file at {len(data)}"
            )
        if seg.filesz > seg.memsz:
            raise ElfError("a segment is larger in the file than in memory")
        if seg.vaddr + seg.memsz > USER_END:
            raise ElfError(f"a segment lies outside of user memory ({seg.vaddr:#x})")
        if seg.memsz and (seg.offset - seg.vaddr) % PAGE:
            raise ElfError(f"a segment is not aligned to pages ({seg.vaddr:#x})")
        if seg.memsz and seg.vaddr < end:
            raise ElfError(f"segments overlap or are not sorted ({seg.vaddr:#x})")
        end = max(end, seg.vaddr + seg.memsz)


def _interp(data: Data, seg: _Segment) -> str:
    if not 2 <= seg.filesz <= PAGE or seg.offset + seg.filesz > len(data):
        raise ElfError("damaged interpreter path")
    raw = bytes(data[seg.offset : seg.offset + seg.filesz])
    path = raw.split(b"\0", 1)[0]
    if raw[-1] != 0 or not path.startswith(b"/"):
        raise ElfError("damaged interpreter path")
    return os.fsdecode(path)


def _with_dynamic(
    data: Data, etype: int, interp: str | None, segments: list[_Segment], dynamic: _Segment
) -> Elf:
    tags: dict[int, int] = {}
    needed: list[int] = []
    for tag, value in _dynamic(data, dynamic):
        if tag == DT_NEEDED:
            needed.append(value)
        else:
            tags[tag] = value
    strings = _strings(data, segments, tags) if needed or _has_strings(tags) else b""

    def text(tag: int) -> str | None:
        return _string(strings, tags[tag]) if tag in tags else None

    is_program = interp is not None or tags.get(DT_FLAGS_1, 0) & DF_1_PIE or not needed
    pie = Kind.PIE if is_program else Kind.SHARED
    return Elf(
        kind=Kind.EXEC if etype == ET_EXEC else pie,
        interp=interp,
        needed=tuple(_string(strings, at) for at in needed),
        soname=text(DT_SONAME),
        rpath=text(DT_RPATH),
        runpath=text(DT_RUNPATH),
        dynamic=True,
        unwinds=any(n in strings for n in (b"\0pthread_exit", b"\0pthread_cancel", b"\0backtrace")),
    )


def _has_strings(tags: dict[int, int]) -> bool:
    return any(tag in tags for tag in (DT_SONAME, DT_RPATH, DT_RUNPATH))


def _dynamic(data: Data, seg: _Segment) -> Iterator[tuple[int, int]]:
    if seg.offset + seg.filesz > len(data) or seg.filesz > 16 * MAX_DYNAMIC:
        raise ElfError("truncated: the dynamic section ends after the file")
    usable = seg.filesz - seg.filesz % 16
    for tag, value in struct.iter_unpack("<qQ", data[seg.offset : seg.offset + usable]):
        if tag == DT_NULL:
            return
        yield tag, value
    raise ElfError("the dynamic section has no end")


def _strings(data: Data, segments: list[_Segment], tags: dict[int, int]) -> bytes:
    """The dynamic string table; its address has to lie in the file part of a loadable segment."""
    if DT_STRTAB not in tags or DT_STRSZ not in tags:
        raise ElfError("the dynamic section has no string table")
    start, size = tags[DT_STRTAB], tags[DT_STRSZ]
    for seg in segments:
        if seg.type == PT_LOAD and seg.vaddr <= start < seg.vaddr + seg.filesz:
            if start + size > seg.vaddr + seg.filesz or size > MAX_STRINGS:
                break
            offset = start - seg.vaddr + seg.offset
            return bytes(data[offset : offset + size])
    raise ElfError("the string table lies outside of the file")


def _string(strings: bytes, at: int) -> str:
    end = strings.find(b"\0", at) if at < len(strings) else -1
    if end < 0:
        raise ElfError("a name lies outside of the string table")
    return os.fsdecode(strings[at:end])
