# SPDX-License-Identifier: BSD-2-Clause
"""The ELF files of an image: their symbols and facts, each file read once."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path

from capstan.build.check import dynamic, facts
from capstan.build.check.dynamic import Dynamic
from capstan.build.check.facts import Facts, FactsCache
from capstan.build.check.view import View
from capstan.build.closure import Object
from capstan.build.elf import ElfError, Kind
from capstan.build.link.objfile import ObjFile


class Binaries:
    """Reads files of `view`. With `quick`, facts come from the cache or not at all.

    `originals` has for the digest of a linked file that of the original, which has the same facts.
    """

    def __init__(
        self,
        view: View,
        cache: Path | None,
        *,
        quick: bool = False,
        originals: Mapping[str, str] | None = None,
    ) -> None:
        self.view, self.quick, self.originals = view, quick, originals or {}
        self.problems: dict[str, str] = {}
        """Path -> why a file could not be looked into."""
        self._cache = FactsCache(cache)
        self._dynamics: dict[str, Dynamic] = {}
        self._facts: dict[str, Facts | None] = {}
        self._certain: dict[tuple[str, str], frozenset[int]] = {}

    def dynamic(self, obj: Object) -> Dynamic:
        """The file's dynamic symbols; none when it is damaged."""
        if obj.real not in self._dynamics:
            found = Dynamic()
            try:
                if obj.elf.dynamic:
                    found = dynamic.read(self._open(obj))
            except ElfError as err:
                self.problems[obj.path] = err.reason
            self._dynamics[obj.real] = found
        return self._dynamics[obj.real]

    def facts(self, obj: Object) -> Facts | None:
        """The facts about a file; None when it is damaged, or not known and `quick`."""
        if obj.real not in self._facts:
            self._facts[obj.real] = None
            try:
                self._facts[obj.real] = self._find_facts(obj)
            except ElfError as err:
                self.problems[obj.path] = err.reason
        return self._facts[obj.real]

    def certain_calls(self, obj: Object, function: str) -> frozenset[int]:
        """The calls that a function of a library makes each time; none when `quick`."""
        key = (obj.real, function)
        if key not in self._certain:
            self._certain[key] = frozenset()
            if not self.quick:
                try:
                    elf = self._open(obj)
                    self._certain[key] = facts.certain_calls(elf, self.dynamic(obj), function)
                except ElfError as err:
                    self.problems[obj.path] = err.reason
        return self._certain[key]

    def is_c_library(self, obj: Object) -> bool:
        """Whether a file is (part of) the C library."""
        return obj.elf.kind is not Kind.EXEC and facts.is_c_library(self.dynamic(obj))

    def _find_facts(self, obj: Object) -> Facts | None:
        symbols = self.dynamic(obj)
        digest = facts.digest_of(self._host(obj))
        digest = self.originals.get(digest, digest)
        found = self._cache.load(digest)
        if found is None and not self.quick:
            is_program = obj.parent is None and obj.elf.kind is not Kind.SHARED
            found = facts.analyse(self._open(obj), symbols, is_program=is_program)
            self._cache.store(digest, found)
        return found

    def _host(self, obj: Object) -> Path:
        found = self.view.tree.find(obj.real)
        if found is None or found.host is None:
            raise ElfError("not a regular file")
        return Path(found.host)

    def _open(self, obj: Object) -> ObjFile:
        path = self._host(obj)
        try:
            with path.open("rb") as file:
                return ObjFile(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as err:
            reason = os.strerror(err.errno or 0) if isinstance(err, OSError) else "empty"
            raise ElfError(f"cannot be read: {reason}") from err
