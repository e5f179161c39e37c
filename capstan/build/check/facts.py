# SPDX-License-Identifier: BSD-2-Clause
"""What follows from a file's content alone: the dear part of a check, kept by content.

    calls      system calls in its own text, or made through `syscall`
    exports    for a C library: the calls each of its functions can come to
    imports    functions of others that a program calls on every run
    opcodes    instructions that the guest cannot carry out as Linux does
    paths      literals that look like files; `libraries`: like libraries

A cache entry is made again when the file, this package or the linker's sources change.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import struct
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from capstan.build.check.dynamic import Dynamic
from capstan.build.check.numbers import IMPORTS, Call
from capstan.build.elf import ElfError
from capstan.build.link.decode import SYSCALL
from capstan.build.link.objfile import PF_X, PT_GNU_STACK, PT_NOTE, ObjFile

LIBC_START = "__libc_start_main"
NT_ABI_TAG, NT_PROPERTIES = 1, 5
ISA_NEEDED = 0xC0008002
MAX_LITERALS = 2000
MAX_OPCODES = 100

_PATH = re.compile(
    rb"(?<![\t\n\x20-\x7e])/(?:etc|usr|opt|srv|bin|sbin|lib|lib64|var/lib)/[\x21-\x7e]{1,250}(?=\0)"
)
_PATTERN = re.compile(r"[%*?<>$|;&`\"'\\(){}\[\],:=]|\.\.")
_SOURCE = re.compile(r"\.(?:go|s|S|c|cc|cpp|cxx|h|hh|hpp|rs)$")
_LIBRARY = re.compile(rb"(?<![\t\n\x20-\x7e])lib[\w+.-]{1,60}\.so(?:\.[\d.]{1,12})?(?=\0)")


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A system call: its number if the text fixes it, its function, whether every run makes it."""

    at: int
    number: int | None
    function: str
    is_certain: bool = False


@dataclass(frozen=True, slots=True)
class OddOpcode:
    """An instruction that does something else in the guest than on Linux."""

    at: int
    opcode: str
    function: str
    is_certain: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """See above."""

    calls: tuple[MadeCall, ...] = ()
    exports: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    imports: tuple[str, ...] = ()
    opcodes: tuple[OddOpcode, ...] = ()
    undecided: int = 0
    """Places that may be system calls but lie outside of trusted bounds."""
    paths: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    kernel: tuple[int, ...] = ()
    """The oldest kernel it runs on: system (0: Linux), major, minor, patch; empty: any."""
    level: int = 1
    """The x86-64 level it needs."""
    has_exec_stack: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Facts:
        """From the cache.

        Raises:
            TypeError, KeyError, AttributeError: these are no facts.
        """
        lists = {name: tuple(data[name]) for name in ("imports", "paths", "libraries", "kernel")}
        return Facts(
            **{
                **data,
                **lists,
                "calls": tuple(MadeCall(**row) for row in data["calls"]),
                "opcodes": tuple(OddOpcode(**row) for row in data["opcodes"]),
                "exports": {name: tuple(row) for name, row in data["exports"].items()},
            }
        )


def is_c_library(dynamic: Dynamic) -> bool:
    """Whether a library is (part of) a C library: nearly every system call is in it."""
    return LIBC_START in dynamic.defined or any(v.startswith("GLIBC_2.") for v in dynamic.versions)


def analyse(obj: ObjFile, dynamic: Dynamic, *, is_program: bool) -> Facts:
    """The facts about a file.

    Raises:
        ElfError: it is damaged.
    """
    from capstan.build.check.original import unlinked

    kernel, level = _notes(obj)
    stack = [segment for segment in obj.segments if segment.type == PT_GNU_STACK]
    facts = Facts(
        paths=_literals(obj, _PATH),
        libraries=_literals(obj, _LIBRARY),
        kernel=kernel,
        level=level,
        has_exec_stack=not stack or bool(stack[0].flags & PF_X),
    )
    return _with_code(unlinked(obj), dynamic, facts, is_program=is_program)


def _with_code(obj: ObjFile, dynamic: Dynamic, facts: Facts, *, is_program: bool) -> Facts:
    """The facts, with those that need the text disassembled."""
    from capstan.build.check import graph
    from capstan.build.check.callers import Callers
    from capstan.build.check.certain import Certain, Sure
    from capstan.build.check.numbers import Numbers
    from capstan.build.link.bounds import Functions
    from capstan.build.link.sites import Verdict, classify, privileged
    from capstan.build.link.targets import Targets

    has_hits = any(
        obj.data.find(SYSCALL, text.offset, text.offset + text.end - text.start) >= 0
        for text in obj.exec_ranges
    )
    functions = Functions(obj)
    callers = Callers(obj, functions, dynamic)
    hits = classify(obj, functions) if has_hits else []
    calls: list[Call] = []
    if has_hits or not dynamic.imports.isdisjoint(IMPORTS):
        calls = Numbers(functions, callers).all(hits)
    sure = Certain(callers, calls).of_program() if is_program else Sure()
    has_sites = any(hit.verdict is Verdict.SITE for hit in hits)
    opcodes = [
        OddOpcode(found.at, found.opcode, functions.name(found.at), found.opcode in sure.opcodes)
        for found in privileged(Targets(obj, functions), has_sites=has_sites)
        if not found.is_trap
    ]
    return dataclasses.replace(
        facts,
        calls=tuple(MadeCall(c.at, c.number, c.function, c.number in sure.numbers) for c in calls),
        exports=graph.reachable(callers, calls) if is_c_library(dynamic) else {},
        imports=tuple(sorted(sure.imports)),
        opcodes=tuple(opcodes[:MAX_OPCODES]),
        undecided=sum(hit.verdict is Verdict.UNDECIDED for hit in hits),
    )


def certain_calls(obj: ObjFile, dynamic: Dynamic, function: str) -> frozenset[int]:
    """The numbers of the calls that an exported function makes each time it is called."""
    from capstan.build.check.callers import Callers
    from capstan.build.check.certain import Certain
    from capstan.build.check.numbers import Numbers
    from capstan.build.check.original import unlinked
    from capstan.build.link.bounds import Functions
    from capstan.build.link.sites import classify

    start = dynamic.addresses.get(function)
    if start is None:
        return frozenset()
    obj = unlinked(obj)
    functions = Functions(obj)
    callers = Callers(obj, functions, dynamic)
    calls = Numbers(functions, callers).all(classify(obj, functions))
    return frozenset(Certain(callers, calls).of(start).numbers)


def _notes(obj: ObjFile) -> tuple[tuple[int, ...], int]:
    """The kernel it wants, and the level of x86-64."""
    kernel: tuple[int, ...] = ()
    level = 1
    for segment in obj.segments:
        if segment.type == PT_NOTE:
            raw = bytes(obj.data[segment.offset : segment.offset + segment.filesz])
            for kind, body in _gnu_notes(raw, 8 if segment.align == 8 else 4):
                if kind == NT_ABI_TAG and len(body) >= 16:
                    kernel = struct.unpack_from("<4I", body)
                elif kind == NT_PROPERTIES:
                    level = max(level, _level(body))
    return kernel, level


def _gnu_notes(raw: bytes, align: int) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at + 12 <= len(raw):
        names, size, kind = struct.unpack_from("<III", raw, at)
        body = at + 12 + (names + 3 & -4)
        body = (body + align - 1) & -align
        if raw[at + 12 : at + 12 + names] == b"GNU\0":
            found.append((kind, raw[body : body + size]))
        at = (body + size + align - 1) & -align
    return found


def _level(body: bytes) -> int:
    at = 0
    while at + 8 <= len(body):
        kind, size = struct.unpack_from("<II", body, at)
        if kind == ISA_NEEDED and size == 4 and at + 12 <= len(body):
            (bits,) = struct.unpack_from("<I", body, at + 8)
            return max((n for n in (1, 2, 3, 4) if bits & (1 << n - 1)), default=1)
        at += 8 + (size + 7 & -8)
    return 1


def _literals(obj: ObjFile, pattern: re.Pattern[bytes]) -> tuple[str, ...]:
    """The strings of a file's data that match and are no patterns."""
    found: set[str] = set()
    code = {(text.offset, text.offset + text.end - text.start) for text in obj.exec_ranges}
    for segment in obj.loads:
        start, end = segment.offset, segment.offset + segment.filesz
        for low, high in sorted(part for part in code if start <= part[0] < end):
            found.update(os.fsdecode(m[0]) for m in pattern.finditer(obj.data, start, low))
            start = high
        found.update(os.fsdecode(m[0]) for m in pattern.finditer(obj.data, start, end))
    plain = (t for t in found if not _PATTERN.search(t) and not _SOURCE.search(t))
    return tuple(sorted(plain)[:MAX_LITERALS])


# --- the cache ---------------------------------------------------------------------------------


class FactsCache:
    """Facts in files of one directory, which need not exist; without one nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def load(self, digest: str) -> Facts | None:
        """The facts about content with this digest, if they are known."""
        if self.folder is None:
            return None
        try:
            return Facts.from_json(json.loads(self._path(digest).read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def store(self, digest: str, facts: Facts) -> None:
        """Keep facts. Nothing is synced: an entry that is damaged is made again."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(facts.to_json(), separators=(",", ":"))
            with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False) as file:
                file.write(text)
            Path(file.name).replace(self._path(digest))
        except OSError:
            return

    def _path(self, digest: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{digest}-{version()}.json"


@lru_cache(maxsize=1)
def version() -> str:
    """Changes with the sources of the analysis and with the disassembler."""
    from capstan.build.link.cache import linker_version

    total = hashlib.sha256(linker_version().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        ElfError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise ElfError(f"cannot be read: {os.strerror(err.errno or 0)}") from err
