# SPDX-License-Identifier: BSD-2-Clause
"""What each program of an image loads, found as its own loader will, inside of the image only.

The rules are `build/closure.py`'s. Here nothing is added and nothing raises: what is missing is
kept, all of it.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from capstan.build import elf
from capstan.build.check.report import Finding, Kind, Severity
from capstan.build.check.view import View, content
from capstan.build.closure import Closure, Object
from capstan.build.elf import ElfError
from capstan.build.rootfs import Tree
from capstan.errors import BuildError

INSTALL = "install its package, or add its directory to LD_LIBRARY_PATH (`env:`)"


@dataclass(slots=True)
class Scope:
    """A program with all it loads, or a library that is opened later with all it brings.

    `objects` are in the order the loader searches them for symbols; `names` has each of them under
    the names it is asked for.
    """

    path: str
    objects: list[Object]
    names: dict[str, Object]
    missing: list[tuple[str, str]] = field(default_factory=list)
    """(library, path of the file that needs it)"""
    skipped: dict[str, str] = field(default_factory=dict)
    """Library -> why a file of that name was passed over."""
    is_musl: bool = False
    interpreter: str | None = None
    has_interpreter: bool = True
    problem: BuildError | None = None
    """Why the file cannot be loaded at all."""


class Loader(Closure):
    """The loader of one program."""

    def __init__(self, tree: Tree, env: Mapping[str, str], other: Loader | None = None) -> None:
        super().__init__(tree, env)
        self._no_interpreter = False
        if other is not None:
            self._elves, self._cache, self._conf = other._elves, other._cache, other._conf

    def start(self, path: str) -> Scope:
        """What starting the program `path` loads."""
        scope = Scope(path, [], {})
        try:
            scope.interpreter = self.add_program(path).interp
        except BuildError as err:
            scope.problem = err
        if self._program is not None:
            loaded = [obj for obj in self._loaded.values() if obj is not self._program]
            scope.objects = list(dict.fromkeys([self._program, *loaded]))
        scope.names = self._loaded
        scope.missing, scope.skipped = self._missing, self._rejected
        scope.is_musl, scope.has_interpreter = self._musl, not self._no_interpreter
        return scope

    def open(self, path: str) -> Scope:
        """What opening the library `path` loads in addition."""
        child = Loader(self.tree, self.env, self)
        child._program, child._musl, child._loaded = self._program, self._musl, dict(self._loaded)
        scope = Scope(path, [], child._loaded, child._missing, child._rejected, self._musl)
        try:
            found = self.tree.find(path)
            if found is None:
                raise BuildError(f"{path} does not exist")
            first = Object(path, found.path, child._facts(found, path), self._program)
            child._close(first)
        except BuildError as err:
            scope.problem = err
            return scope
        before = set(self._loaded.values())
        added = [obj for obj in child._loaded.values() if obj not in before]
        scope.objects = list(dict.fromkeys([first, *added]))
        return scope

    def _raise_missing(self, path: str) -> None:
        """Keep what is missing."""

    def _own_library(self, obj: Object, name: str) -> list[Object]:
        """A finished image gets no library of ours."""
        return []

    def _add_interp(self, interp: str, path: str) -> None:
        try:
            super()._add_interp(interp, path)
        except BuildError:
            self._no_interpreter = True
            self._musl = posixpath.basename(interp).startswith("ld-musl")

    def _add_loader_files(self) -> None:
        """`ld.so.cache` and `libgcc_s` are looked at elsewhere."""


@dataclass(slots=True)
class Programs:
    """All that an image can load: the program, other programs, libraries nobody needs."""

    main: Scope
    others: list[Scope]
    opened: list[Scope]
    scripts: list[tuple[str, str]]
    """(script, interpreter)"""

    def scopes(self) -> Iterator[Scope]:
        """All of them, the program first."""
        yield self.main
        yield from self.others
        yield from self.opened

    def objects(self) -> Iterator[tuple[Scope, Object]]:
        """Each file once, with the first scope that loads it."""
        seen: set[str] = set()
        for scope in self.scopes():
            for obj in scope.objects:
                if obj.real not in seen:
                    seen.add(obj.real)
                    yield scope, obj


def load_all(view: View) -> Programs:
    """Everything in the image, loaded."""
    tree, env = view.tree, view.config.env
    loader = Loader(tree, env)
    main = loader.start(view.program)
    taken = {obj.real for obj in main.objects} | {_real(tree, view.program)}
    others: list[Scope] = []
    scripts: list[tuple[str, str]] = []
    libraries: list[str] = []
    for path, node in view.candidates():
        head = content(node, 4)
        if head[:2] == b"#!" and node.mode & 0o111:
            words = content(node, 256)[2:].split(b"\n", 1)[0].split()
            if words:
                scripts.append((path, words[0].decode(errors="replace")))
        elif elf.is_elf(head) and path not in taken:
            kind = _kind(tree, loader, path)
            has_so = ".so" in path.rpartition("/")[2]
            if kind is elf.Kind.SHARED or (has_so and kind is elf.Kind.PIE):
                libraries.append(path)
            elif node.mode & stat.S_IXUSR and not has_so:
                others.append(Loader(tree, env, loader).start(path))
    taken |= {obj.real for scope in others for obj in scope.objects}
    opened = [loader.open(path) for path in libraries if path not in taken]
    return Programs(main, others, opened, scripts)


def _kind(tree: Tree, loader: Loader, path: str) -> elf.Kind | None:
    """What an ELF file of the image is; None when it cannot be used here."""
    try:
        found = tree.find(path)
        return loader._parse(found).kind if found is not None and found.is_file else None
    except (ElfError, BuildError):
        return None


def _real(tree: Tree, path: str) -> str:
    try:
        found = tree.find(path)
    except BuildError:
        return path
    return found.path if found is not None else path


def findings(view: View, programs: Programs, skipped: Mapping[str, str]) -> Iterator[Finding]:
    """What cannot be loaded; `skipped`: files that were passed over while collecting."""
    main = programs.main
    yield from _of_program(main, Severity.ERROR, skipped)
    for scope in programs.others:
        yield from _of_program(scope, Severity.WARNING, skipped)
    names = {path.rpartition("/")[2] for path, _ in view.candidates()}
    for scope in programs.opened:
        # Its program may have opened a library of that name before.
        missing = [row for row in scope.missing if row[0] not in names]
        yield from _of_libraries(scope, missing, Severity.WARNING, skipped)
    for script, interpreter in programs.scripts:
        if not view.has(interpreter):
            yield Finding(
                Severity.NOTE,
                Kind.INTERPRETER,
                script,
                interpreter,
                "the interpreter of this script is not in the image",
                _add(view, interpreter),
            )


def _of_program(scope: Scope, severity: Severity, skipped: Mapping[str, str]) -> Iterator[Finding]:
    if scope.problem is not None:
        reason = scope.problem.message.removeprefix(f"{scope.path}: ")
        hint = scope.problem.hint or ""
        yield Finding(
            severity, Kind.PROGRAM, scope.path, posixpath.basename(scope.path), reason, hint
        )
    if scope.interpreter is not None and not scope.has_interpreter:
        yield Finding(
            severity,
            Kind.INTERPRETER,
            scope.path,
            scope.interpreter,
            "its interpreter is not in the image",
            "install the C library the program was made for, or name its root by --root",
        )
    yield from _of_libraries(scope, scope.missing, severity, skipped)


def _of_libraries(
    scope: Scope,
    missing: list[tuple[str, str]],
    severity: Severity,
    skipped: Mapping[str, str],
) -> Iterator[Finding]:
    for name, user in missing:
        why = scope.skipped.get(name) or skipped.get(name)
        detail = f"not found; passed over {why}" if why else "not found"
        yield Finding(severity, Kind.LIBRARY, user, name, detail, INSTALL)


def _add(view: View, path: str) -> str:
    return f"add `{path}: {path}` to `files:`" if view.on_host(path) else ""
