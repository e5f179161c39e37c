# SPDX-License-Identifier: BSD-2-Clause
"""The symbols a file defines and refers to, with their versions, as its dynamic section says.

Section headers are not asked: the loader does not look at them either. References are those a
relocation uses. Facts: "System V ABI, chapter 5"; "ELF symbol versioning" (akkadia.org/drepper);
`man 5 elf`. Damage gives `ElfError`.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from capstan.build.elf import ElfError
from capstan.build.link.objfile import PT_DYNAMIC, ObjFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_STRSZ = 2, 4, 5, 6, 7, 8, 10
DT_JMPREL, DT_BIND_NOW, DT_FLAGS, DT_GNU_HASH = 23, 24, 30, 0x6FFFFEF5
DT_VERSYM, DT_FLAGS_1 = 0x6FFFFFF0, 0x6FFFFFFB
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = (0x6FFFFFFC + n for n in range(4))
DF_BIND_NOW, DF_1_NOW = 8, 1
VER_FLG_BASE, VER_FLG_WEAK = 1, 2
HIDDEN, FIRST_VERSION = 0x8000, 2
STB_LOCAL, STB_WEAK, STT_TLS = 0, 2, 6
SHN_ABS = 0xFFF1
MAX_SYMBOLS = 1 << 22
MAX_VERSIONS = 1 << 16
R_COPY, R_GLOB_DAT, R_JUMP_SLOT = 5, 6, 7


@dataclass(frozen=True, slots=True)
class Need:
    """A version that a file wants of a library."""

    library: str
    version: str
    is_weak: bool


@dataclass(frozen=True, slots=True)
class Reference:
    """An undefined symbol; `library` is the file its version should come from."""

    name: str
    version: str | None
    library: str | None
    is_weak: bool
    is_lazy: bool
    """Only functions, looked up at the first call unless the file is bound at start."""
    is_copied: bool = False
    """A variable of a library that the program has its own copy of."""


Definition = tuple[str | None, bool]
"""Its version, and whether references without a version may not use it."""


@dataclass(frozen=True, slots=True)
class Dynamic:
    """The dynamic symbols of one file."""

    references: tuple[Reference, ...] = ()
    defined: dict[str, tuple[Definition, ...]] = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    versions: frozenset[str] = frozenset()
    """The versions it defines; empty: it has none."""
    is_bound_now: bool = False
    slots: dict[int, str] = field(default_factory=dict)
    """Address of a pointer that the loader fills in -> the symbol it is for."""
    addresses: dict[str, int] = field(default_factory=dict)
    """Defined symbols with an address."""

    @property
    def imports(self) -> frozenset[str]:
        """The names it refers to."""
        return frozenset(reference.name for reference in self.references)


def read(obj: ObjFile) -> Dynamic:
    """The dynamic symbols of a file.

    Raises:
        ElfError: a table is damaged.
    """
    try:
        return _Reader(obj).all()
    except (struct.error, IndexError, ValueError) as err:
        raise ElfError(f"a table of the dynamic section is damaged ({err})") from err


class _Reader:
    """Reads the tables one after the other."""

    def __init__(self, obj: ObjFile) -> None:
        self.obj = obj
        self.tags = _tags(obj)
        self.strings = self._bytes(DT_STRTAB, self.tags.get(DT_STRSZ, 0))

    def all(self) -> Dynamic:
        import numpy as np

        if DT_SYMTAB not in self.tags or not self.strings:
            return Dynamic()
        needed, needs = self._needed()
        own = self._own_versions()
        now, lazy, slots = self._relocations()
        rows = self.symbols
        is_named = rows["name"] != 0
        is_used = np.zeros(len(rows), bool)
        is_used[now] = is_used[lazy] = True
        is_copied = np.zeros(len(rows), bool)
        is_copied[self.tables[0]["symbol"][self.tables[0]["type"] == R_COPY]] = True
        versions = self._versym()
        immediate = set(now.tolist())
        references = []
        wanted = is_named & is_used & ((rows["shndx"] == 0) | is_copied)
        for index in np.flatnonzero(wanted).tolist():
            version, library = needed.get(int(versions[index]) & ~HIDDEN, (None, None))
            references.append(
                Reference(
                    self._string(int(rows["name"][index])),
                    version,
                    library,
                    is_weak=int(rows["info"][index]) >> 4 == STB_WEAK,
                    is_lazy=index not in immediate,
                    is_copied=bool(is_copied[index]),
                )
            )
        defined, addresses = self._defined(versions, own)
        return Dynamic(
            references=tuple(references),
            defined=defined,
            needs=needs,
            versions=frozenset(own.values()),
            is_bound_now=self._is_bound_now(),
            slots={at: self._string(int(rows["name"][index])) for at, index in slots},
            addresses=addresses,
        )

    @cached_property
    def symbols(self) -> NDArray[np.void]:
        """The symbol table."""
        import numpy as np

        layout = [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2")]
        layout += [("value", "<u8"), ("size", "<u8")]
        return np.frombuffer(self._bytes(DT_SYMTAB, 24 * self._count()), np.dtype(layout))

    def _defined(
        self, versions: NDArray[np.uint16], own: dict[int, str]
    ) -> tuple[dict[str, tuple[Definition, ...]], dict[str, int]]:
        import numpy as np

        rows = self.symbols
        kind, value = rows["info"] & 15, rows["value"]
        has_value = (value != 0) | (rows["shndx"] == SHN_ABS) | (kind == STT_TLS)
        is_defined = (rows["shndx"] != 0) & (rows["info"] >> 4 != STB_LOCAL) & has_value
        found: dict[str, tuple[Definition, ...]] = {}
        addresses: dict[str, int] = {}
        chosen = np.flatnonzero(is_defined & (rows["name"] != 0))
        columns = (rows["name"][chosen], versions[chosen], value[chosen], kind[chosen])
        for at, version, address, sort in zip(*(c.tolist() for c in columns), strict=True):
            name = self._string(at)
            number = version & ~HIDDEN
            hidden = version & HIDDEN != 0 and number > FIRST_VERSION
            found[name] = (*found.get(name, ()), (own.get(number), hidden))
            if sort != STT_TLS and (not hidden or name not in addresses):
                addresses[name] = address
        return found, addresses

    def _relocations(
        self,
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64], list[tuple[int, int]]]:
        """Symbols that are looked up at start, those that may be later, and the pointers."""
        import numpy as np

        slots: list[tuple[int, int]] = []
        for rows in self.tables:
            if len(rows) and int(rows["symbol"].max()) >= len(self.symbols):
                raise ElfError("a relocation names a symbol that does not exist")
            named = rows[np.isin(rows["type"], (R_GLOB_DAT, R_JUMP_SLOT))]
            slots += zip(named["offset"].tolist(), named["symbol"].tolist(), strict=True)
        now, lazy = (np.unique(rows["symbol"]) for rows in self.tables)
        return now, lazy, slots

    @cached_property
    def tables(self) -> list[NDArray[np.void]]:
        """Relocations with a symbol: those done at start, and those that may be done later."""
        import numpy as np

        layout = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("add", "<i8")])
        found = []
        for tag, size in ((DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)):
            rows = np.frombuffer(self._bytes(tag, self.tags.get(size, 0) // 24 * 24), layout)
            found.append(rows[rows["symbol"] != 0])
        return found

    def _is_bound_now(self) -> bool:
        flags, more = self.tags.get(DT_FLAGS, 0), self.tags.get(DT_FLAGS_1, 0)
        return DT_BIND_NOW in self.tags or bool(flags & DF_BIND_NOW) or bool(more & DF_1_NOW)

    def _count(self) -> int:
        """How many symbols there are: only the hash tables say it."""
        if DT_HASH in self.tags:
            count: int = struct.unpack("<4xI", self._bytes(DT_HASH, 8))[0]
        else:
            # The GNU hash table has only defined symbols; relocations name the others.
            hashed = self._gnu_count() if DT_GNU_HASH in self.tags else 0
            count = max(hashed, self._named_count())
        if count > MAX_SYMBOLS:
            raise ElfError(f"its symbol table has {count} entries")
        return count

    def _named_count(self) -> int:
        return max(int(rows["symbol"].max()) + 1 if len(rows) else 0 for rows in self.tables)

    def _gnu_count(self) -> int:
        at = self.tags[DT_GNU_HASH]
        buckets, first, bloom, _ = struct.unpack("<IIII", self._at(at, 16))
        if max(buckets, bloom) > MAX_SYMBOLS:
            raise ElfError("its table of symbol hashes is damaged")
        table = at + 16 + 8 * bloom
        highest = max(struct.unpack(f"<{buckets}I", self._at(table, 4 * buckets)), default=0)
        if highest < first:
            return int(first)
        chain = table + 4 * buckets
        for index in range(highest, MAX_SYMBOLS):
            value: int = struct.unpack("<I", self._at(chain + 4 * (index - first), 4))[0]
            if value & 1:
                return index + 1
        raise ElfError("its table of symbol hashes has no end")

    # --- versions ------------------------------------------------------------------------------

    def _versym(self) -> NDArray[np.uint16]:
        import numpy as np

        count = len(self.symbols)
        if DT_VERSYM not in self.tags:
            return np.zeros(count, np.uint16)
        return np.frombuffer(self._bytes(DT_VERSYM, 2 * count), "<u2")

    def _needed(self) -> tuple[dict[int, tuple[str, str]], tuple[Need, ...]]:
        """Version number -> (name, library), and all versions that are wanted."""
        numbers: dict[int, tuple[str, str]] = {}
        needs: list[Need] = []
        at = self.tags.get(DT_VERNEED, 0)
        for _ in range(min(self.tags.get(DT_VERNEEDNUM, 0), MAX_VERSIONS) if at else 0):
            _, count, file, aux, step = struct.unpack("<HHIII", self._at(at, 16))
            library, where = self._string(file), at + aux
            for _ in range(count):
                _, flags, number, name, following = struct.unpack("<IHHII", self._at(where, 16))
                version = self._string(name)
                numbers[number & ~HIDDEN] = (version, library)
                needs.append(Need(library, version, bool(flags & VER_FLG_WEAK)))
                where += following
                if following == 0 or len(needs) > MAX_VERSIONS:
                    break
            at += step
            if step == 0 or len(needs) > MAX_VERSIONS:
                break
        return numbers, tuple(needs)

    def _own_versions(self) -> dict[int, str]:
        """Version number -> name; the base version, which stands for none, is left out."""
        found: dict[int, str] = {}
        at = self.tags.get(DT_VERDEF, 0)
        for _ in range(min(self.tags.get(DT_VERDEFNUM, 0), MAX_VERSIONS) if at else 0):
            _, flags, number, count, _, aux, step = struct.unpack("<HHHHIII", self._at(at, 20))
            if count and not flags & VER_FLG_BASE:
                (name,) = struct.unpack("<I", self._at(at + aux, 4))
                found[number & ~HIDDEN] = self._string(name)
            at += step
            if step == 0:
                break
        return found

    # --- bytes ---------------------------------------------------------------------------------

    def _bytes(self, tag: int, size: int) -> bytes:
        return self._at(self.tags[tag], size) if tag in self.tags and size else b""

    def _at(self, vaddr: int, size: int) -> bytes:
        raw = self.obj.bytes_at(vaddr, vaddr + size)
        if len(raw) != size:
            raise ElfError(f"a table of the dynamic section is cut off ({vaddr:#x})")
        return raw

    def _string(self, at: int) -> str:
        end = self.strings.find(b"\0", at)
        if end < 0:
            raise ElfError("a name lies outside of the string table")
        return os.fsdecode(self.strings[at:end])


def _tags(obj: ObjFile) -> dict[int, int]:
    """The dynamic section; of tags that come twice, the last."""
    found: dict[int, int] = {}
    for segment in obj.segments:
        if segment.type == PT_DYNAMIC:
            raw = bytes(obj.data[segment.offset : segment.offset + segment.filesz])
            for tag, value in struct.iter_unpack("<QQ", raw[: len(raw) & -16]):
                if tag == 0:
                    break
                found[tag] = value
            break
    return found
