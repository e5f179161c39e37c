# SPDX-License-Identifier: BSD-2-Clause
"""Versions and symbols: does each library have what the files loaded with it ask of it?

glibc checks versions at start, for all libraries (`_dl_check_all_versions`), and symbols in the
order of loading; musl knows no versions and binds everything at start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from capstan.build.check.dynamic import Dynamic, Reference
from capstan.build.check.loading import Programs, Scope
from capstan.build.check.report import Finding, Kind, Severity
from capstan.build.closure import Object

MAX_NAMES = 4
NEWER = "build it on a system as old as the image's libraries, or take newer ones (--root)"
OTHER_BUILD = "the library is of another version than the one it was linked with"

Read = Callable[[Object], Dynamic]


def findings(programs: Programs, read: Read, env: Mapping[str, str]) -> Iterator[Finding]:
    """What is missing between the files of an image."""
    seen: set[str] = set()
    bound_now = bool(env.get("LD_BIND_NOW"))
    starts = [programs.main, *programs.others]
    for scope in starts:
        severity = Severity.ERROR if scope is programs.main else Severity.WARNING
        check = _Check([scope], read, severity, bound_now=bound_now)
        for obj in scope.objects:
            if obj.real not in seen:
                seen.add(obj.real)
                yield from check.object(obj)
    for scope in programs.opened:
        for obj in scope.objects:
            if obj.real not in seen:
                seen.add(obj.real)
                yield from _of_opened(obj, scope, starts, read)


def _of_opened(obj: Object, scope: Scope, starts: list[Scope], read: Read) -> Iterator[Finding]:
    """For a library that some program opens: it is fine when one of the programs fits."""
    least: list[Finding] | None = None
    for start in starts:
        check = _Check([scope, start], read, Severity.WARNING, bound_now=False)
        found = list(check.object(obj))
        if not found:
            return
        if least is None or len(found) < len(least):
            least = found
    yield from least or ()


class _Check:
    """Checks files against the scopes they are loaded into."""

    def __init__(
        self, scopes: list[Scope], read: Read, severity: Severity, *, bound_now: bool
    ) -> None:
        self.scopes, self.read, self.severity, self.bound_now = scopes, read, severity, bound_now
        self.objects = list(dict.fromkeys(obj for scope in scopes for obj in scope.objects))
        self.is_musl = scopes[0].is_musl
        self.is_complete = not any(scope.missing for scope in scopes)
        self.missing = {name for scope in scopes for name, _ in scope.missing}

    def object(self, obj: Object) -> Iterator[Finding]:
        """What one file asks for in vain."""
        dynamic = self.read(obj)
        lacking: set[tuple[str, str]] = set()
        if not self.is_musl:
            for finding, key in self._versions(obj, dynamic):
                lacking.add(key)
                yield finding
        yield from self._symbols(obj, dynamic, lacking)

    def _versions(self, obj: Object, dynamic: Dynamic) -> Iterator[tuple[Finding, tuple[str, str]]]:
        for need in dynamic.needs:
            library = self._named(need.library)
            if library is None:
                continue
            has = self.read(library).versions
            if need.version in has:
                continue
            users = [r.name for r in dynamic.references if r.version == need.version]
            detail = f"{library.path} has no version {need.version}"
            same = _newest(has, need.version)
            detail += f", its newest is {same}" if same else ""
            detail += f" (for {_some(users)})" if users else ""
            severity = self.severity
            if need.is_weak:
                severity = Severity.NOTE
            elif not has:  # glibc only says so
                severity = Severity.NOTE
                detail = f"{library.path} has no versions at all, {need.version} was expected"
            finding = Finding(severity, Kind.VERSION, obj.path, need.version, detail, NEWER)
            yield finding, (need.library, need.version)

    def _named(self, name: str) -> Object | None:
        return next((s.names[name] for s in self.scopes if name in s.names), None)

    def _symbols(
        self, obj: Object, dynamic: Dynamic, lacking: set[tuple[str, str]]
    ) -> Iterator[Finding]:
        wanted: defaultdict[Severity, list[Reference]] = defaultdict(list)
        for reference in dynamic.references:
            if self._is_explained(reference, lacking) or self._is_defined(obj, reference):
                continue
            if reference.is_weak:
                continue
            eager = self.bound_now or dynamic.is_bound_now or self.is_musl or not reference.is_lazy
            wanted[self.severity if eager else Severity.WARNING].append(reference)
        for severity, references in wanted.items():
            for reference in references[:MAX_NAMES]:
                yield Finding(
                    severity,
                    Kind.SYMBOL,
                    obj.path,
                    _full(reference),
                    self._where(reference, len(references)),
                    OTHER_BUILD,
                )

    @staticmethod
    def _where(reference: Reference, count: int) -> str:
        place = (
            f"{reference.library} has no such symbol" if reference.library else "defined nowhere"
        )
        more = f" (one of {count} such symbols)" if count > MAX_NAMES else ""
        return place + more

    def _is_explained(self, reference: Reference, lacking: set[tuple[str, str]]) -> bool:
        """Whether the symbol is missing because of something that is reported already."""
        if reference.library is not None and reference.version is not None:
            if reference.library in self.missing:
                return True
            return (reference.library, reference.version) in lacking
        return not self.is_complete

    def _is_defined(self, user: Object, reference: Reference) -> bool:
        for obj in self.objects:
            if obj is user and reference.is_copied:
                continue
            for version, hidden in self.read(obj).defined.get(reference.name, ()):
                if self.is_musl or reference.version is None:
                    if not hidden:
                        return True
                elif version == reference.version or (version is None and not hidden):
                    return True
        return False


def _full(reference: Reference) -> str:
    return f"{reference.name}@{reference.version}" if reference.version else reference.name


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return f"{shown} and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else shown


def _newest(versions: frozenset[str], wanted: str) -> str | None:
    """The highest version of the same family (`GLIBC_2.36` for `GLIBC_2.99`)."""
    family = wanted.rpartition("_")[0] + "_"
    same = [v for v in versions if v.startswith(family) and v[len(family) :][:1].isdigit()]
    return max(same, key=_numbers, default=None)


def _numbers(version: str) -> list[int]:
    parts = version.rpartition("_")[2].split(".")
    return [int(part) if part.isdigit() else 0 for part in parts]
