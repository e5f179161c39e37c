# SPDX-License-Identifier: BSD-2-Clause
"""The files a program needs to start: interpreter and libraries, as its own loader finds them.

glibc (`man 8 ld.so`): DT_RPATH of the object and of those that needed it (unless the object has a
DT_RUNPATH), LD_LIBRARY_PATH, DT_RUNPATH, /etc/ld.so.cache, the default directories. musl:
LD_LIBRARY_PATH, the run path of the object and of those that needed it, /etc/ld-musl-x86_64.path.
A library that is already there under its name or soname is not searched again; objects are visited
breadth first.

Variants for newer processors (`glibc-hwcaps/`) come in addition to the library every processor can
use.
"""

from __future__ import annotations

import os
import posixpath
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan import paths
from capstan.build import elf
from capstan.build.elf import Elf, ElfError, Kind
from capstan.build.rootfs import Found, Tree, unreadable
from capstan.errors import BuildError

HWCAPS = ("x86-64-v4", "x86-64-v3", "x86-64-v2")
GLIBC_CACHE = "/etc/ld.so.cache"
GLIBC_CONF = "/etc/ld.so.conf"
GLIBC_DIRS = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
LIB_TOKENS = ("lib/x86_64-linux-gnu", "lib64", "lib")
MUSL_PATH_FILE = "/etc/ld-musl-x86_64.path"
MUSL_DIRS = ("/lib", "/usr/local/lib", "/usr/lib")
MUSL_OWN = ("libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet.")
MAX_CONF_DEPTH = 8
CACHE_MAGIC = b"glibc-ld.so.cache1.1"
CACHE_X86_64 = 0x0300


@dataclass(frozen=True, slots=True, eq=False)
class Object:
    """One file the loader maps: the path it is opened by, and who needed it."""

    path: str
    real: str
    elf: Elf
    parent: Object | None = None

    @property
    def origin(self) -> str:
        """What `$ORIGIN` stands for: the program's real directory, a library's as it was opened."""
        return posixpath.dirname(self.path if self.parent else self.real)


class Closure:
    """Adds a program and all its loader will open to a tree."""

    def __init__(self, tree: Tree, env: Mapping[str, str] | None = None) -> None:
        self.tree = tree
        self.env = env or {}
        self._program: Object | None = None
        self._loaded: dict[str, Object] = {}
        self._musl = False
        self._missing: list[tuple[str, str]] = []
        self._rejected: dict[str, str] = {}
        self._elves: dict[str, Elf] = {}
        self._cache: dict[str, list[str]] | None = None
        self._conf: list[str] | None = None
        self._musl_dirs: tuple[str, ...] | None = None

    def add_program(self, path: str) -> Elf:
        """Add the ELF program `path` with its interpreter and libraries; the facts about it.

        Raises:
            BuildError: it, its interpreter or a library is missing or cannot be used.
        """
        found = self.tree.add(path)
        if found.is_dir:
            raise BuildError(f"{self.tree.name(path)} is a directory, not a program")
        facts = self._facts(found, path)
        if facts.kind is Kind.SHARED:
            raise BuildError(
                f"{self.tree.name(path)} is a shared library, not a program",
                hint="give the program that uses it",
            )
        self._program = Object(path, found.path, facts)
        if facts.interp is not None:
            self._add_interp(facts.interp, path)
            self._close(self._program)
            self._add_loader_files()
        elif facts.needed:
            raise BuildError(
                f"{self.tree.name(path)} needs libraries but names no interpreter",
                hint="link it with the compiler driver (gcc, not ld)",
            )
        self._raise_missing(path)
        return facts

    def add_plugins(self, paths: Sequence[str]) -> None:
        """Add what files that are already in the tree need once they are opened or started.

        Nothing here is fatal: what is missing becomes a warning of the tree, unless the tree has a
        file of that name (the program may open it before).
        """
        for path in paths:
            self._add_plugin(path)
        if not self._missing:
            return
        present = {path.rpartition("/")[2] for path, _ in self.tree.files()}
        users: dict[str, list[str]] = {}
        for name, path in self._missing:
            if name not in present:
                users.setdefault(name, []).append(path)
        self._missing.clear()
        for name, needed_by in users.items():
            more = f" and {len(needed_by) - 1} more" if len(needed_by) > 1 else ""
            self.tree.warnings.append(f"{name}, which {needed_by[0]}{more} needs, was not found")

    def _add_plugin(self, path: str) -> None:
        try:
            found = self.tree.find(path, lower=False)
            if found is None or not found.is_file:
                return
            facts = self._facts(found, path)
            if facts.interp is not None:
                other = Closure(self.tree, self.env)
                other._elves, other._cache, other._conf = self._elves, self._cache, self._conf
                other.add_program(path)
            elif facts.needed:
                self._close(Object(path, found.path, facts, self._program))
        except BuildError as err:
            self.tree.warnings.append(err.message)

    # --- the loader's rules --------------------------------------------------------------------

    def _close(self, start: Object) -> None:
        preload = self.env.get("LD_PRELOAD", "") if start is self._program else ""
        extra = tuple(preload.replace(":", " ").split())
        queue = [start]
        for obj in queue:
            for name in (*extra, *obj.elf.needed) if obj is start else obj.elf.needed:
                if self._have(name):
                    continue
                found = self._search(obj, name) or self._own_library(obj, name)
                if not found:
                    self._missing.append((name, obj.path))
                    continue
                self._loaded[name] = found[0]
                for lib in found:
                    queue.append(lib)
                    self.tree.add(lib.path)
                    if lib.elf.soname:
                        self._loaded.setdefault(lib.elf.soname, lib)

    def _have(self, name: str) -> bool:
        return name in self._loaded or (self._musl and name.startswith(MUSL_OWN))

    def _search(self, obj: Object, name: str) -> list[Object]:
        """The library `name` for `obj` and then its hwcaps variants; empty when there is none."""
        if "/" in name:
            return self._try(obj, self._expand(obj, name))
        hits: list[Object] = []
        for folder in self._early_dirs(obj):
            hits = self._try_dir(obj, folder, name, hits)
        if hits and not hits[0].path.count("/glibc-hwcaps/"):
            return hits
        if self._musl:
            for folder in self._musl_search():
                hits = self._try_dir(obj, folder, name, hits)
            return hits
        for path in self._cached(name):
            if "/glibc-hwcaps/" in path or not hits or "/glibc-hwcaps/" in hits[-1].path:
                hits += self._try(obj, [path])
        for folder in GLIBC_DIRS:
            hits = self._try_dir(obj, folder, name, hits)
        if not hits:
            for folder in self._conf_dirs():
                hits = self._try_dir(obj, folder, name, hits)
            if hits:
                self.tree.warnings.append(
                    f"{hits[0].path} is in {GLIBC_CONF} but not in {GLIBC_CACHE}, so the program "
                    f"will not find it: run `ldconfig -r {self.tree.host_root or '/'}`"
                )
        return sorted(hits, key=lambda o: "/glibc-hwcaps/" in o.path)

    def _own_library(self, obj: Object, name: str) -> list[Object]:
        """libcapstan, in no directory of the host, put where every loader looks; or nothing."""
        if name != paths.LIBCAPSTAN:
            return []
        guest = f"/usr/lib/{paths.LIBCAPSTAN}"
        self.tree.graft(guest, os.fspath(paths.sdk() / "lib" / paths.LIBCAPSTAN))
        return self._try(obj, [guest])

    def _early_dirs(self, obj: Object) -> list[str]:
        """The directories searched before the system's."""
        own = self.env.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
        env_dirs = [d for folder in own if folder for d in self._expand(obj, folder)]
        chain: list[Object] = []
        at: Object | None = obj
        while at is not None:
            chain.append(at)
            at = at.parent
        if self._program is not None and self._program not in chain:
            chain.append(self._program)
        if self._musl:
            lists = ((o, o.elf.rpath if o.elf.runpath is None else o.elf.runpath) for o in chain)
            return env_dirs + self._path_lists(lists)
        rpaths = ((o, o.elf.rpath) for o in chain if o.elf.runpath is None)
        inherited = [] if obj.elf.runpath is not None else self._path_lists(rpaths)
        return inherited + env_dirs + self._path_lists([(obj, obj.elf.runpath)])

    def _path_lists(self, lists: Iterable[tuple[Object, str | None]]) -> list[str]:
        return [
            folder
            for obj, text in lists
            for entry in (text or "").split(":")
            if entry
            for folder in self._expand(obj, entry)
        ]

    def _expand(self, obj: Object, text: str) -> list[str]:
        """`text` with the loader's tokens replaced; more than one where distributions differ."""
        for token, value in (("ORIGIN", obj.origin), ("PLATFORM", "x86_64")):
            text = text.replace("${" + token + "}", value).replace("$" + token, value)
        if "$LIB" not in text and "${LIB}" not in text:
            return [text]
        return [text.replace("${LIB}", lib).replace("$LIB", lib) for lib in LIB_TOKENS]

    def _try_dir(self, obj: Object, folder: str, name: str, hits: list[Object]) -> list[Object]:
        """`hits`, with the library and its variants in `folder` when there was none before."""
        if any("/glibc-hwcaps/" not in hit.path for hit in hits):
            return hits
        folder = folder.rstrip("/")
        paths = [f"{folder}/{name}"]
        if not self._musl:
            paths += [f"{folder}/glibc-hwcaps/{cap}/{name}" for cap in HWCAPS]
        return hits + self._try(obj, paths)

    def _try(self, obj: Object, paths: list[str]) -> list[Object]:
        """The usable libraries among `paths`; the loader skips those of another machine."""
        hits = []
        for path in paths:
            found = self.tree.find(path)
            if found is None or not found.is_file:
                continue
            try:
                hits.append(Object(path, found.path, self._parse(found), obj))
            except ElfError as err:
                name = posixpath.basename(path)
                self._rejected.setdefault(name, f"{path}: {err.reason}")
        return hits

    def _add_interp(self, interp: str, path: str) -> None:
        found = self.tree.find(interp)
        if found is None:
            raise BuildError(
                f"{self.tree.name(path)}: its interpreter {self.tree.name(interp)} does not exist",
                hint="install the C library the program was made for, or name its root by --root",
            )
        loader = Object(interp, found.path, self._facts(found, interp))
        self.tree.add(interp)
        base = posixpath.basename(interp)
        self._musl = base.startswith("ld-musl")
        self._loaded.setdefault(base, loader)
        if loader.elf.soname:
            self._loaded.setdefault(loader.elf.soname, loader)

    def _add_loader_files(self) -> None:
        """Add what the loader and libc open by themselves."""
        extra = [MUSL_PATH_FILE] if self._musl else [GLIBC_CACHE]
        if not self._musl and self._program is not None and "libgcc_s.so.1" not in self._loaded:
            objects = {o.path: o for o in (self._program, *self._loaded.values())}.values()
            if any(o.elf.unwinds and o.elf.soname != "libc.so.6" for o in objects):
                extra += [lib.path for lib in self._search(self._program, "libgcc_s.so.1")]
        for path in extra:
            if self.tree.find(path) is not None:
                self.tree.add(path)

    # --- the loader's files --------------------------------------------------------------------

    def _cached(self, name: str) -> list[str]:
        """The paths ld.so.cache has for `name`."""
        if self._cache is None:
            self._cache = parse_cache(self._read(GLIBC_CACHE))
        return self._cache.get(name, [])

    def _conf_dirs(self) -> list[str]:
        """The directories of ld.so.conf, files it includes in place."""
        if self._conf is None:
            self._conf = []
            self._read_conf(GLIBC_CONF, 0)
        return self._conf

    def _read_conf(self, path: str, depth: int) -> None:
        assert self._conf is not None
        for raw in os.fsdecode(self._read(path)).splitlines():
            line = raw.split("#", 1)[0].strip()
            if line.startswith("include") and line[7:8].isspace():
                for pattern in line[7:].split():
                    if depth < MAX_CONF_DEPTH:
                        for included in self._glob(path, pattern):
                            self._read_conf(included, depth + 1)
            elif line.startswith("/"):
                self._conf.append(line.split("=", 1)[0])

    def _glob(self, conf: str, pattern: str) -> list[str]:
        import fnmatch

        here = posixpath.dirname(conf)
        folder, base = posixpath.split(posixpath.join(here, pattern))
        return [f"{folder}/{n}" for n in self.tree.children(folder) if fnmatch.fnmatch(n, base)]

    def _musl_search(self) -> tuple[str, ...]:
        if self._musl_dirs is None:
            text = os.fsdecode(self._read(MUSL_PATH_FILE))
            listed = [d for d in text.replace("\n", ":").split(":") if d]
            self._musl_dirs = tuple(listed) or MUSL_DIRS
        return self._musl_dirs

    def _read(self, path: str) -> bytes:
        """A configuration file of the image; empty when it does not exist."""
        found = self.tree.find(path)
        if found is None or found.is_dir:
            return b""
        if found.node is not None and isinstance(found.node.source, bytes):
            return found.node.source
        if found.host is None:
            return b""
        try:
            with Path(found.host).open("rb") as file:
                return file.read()
        except OSError as err:
            raise unreadable(found.host, err) from err

    # --- ELF files -----------------------------------------------------------------------------

    def _facts(self, found: Found, path: str) -> Elf:
        if not found.is_file:
            raise BuildError(f"{self.tree.name(path)} is not a regular file")
        try:
            return self._parse(found)
        except ElfError as err:
            raise BuildError(f"{self.tree.name(path)}: {err.reason}", hint=err.hint) from err

    def _parse(self, found: Found) -> Elf:
        assert found.host is not None
        if found.host not in self._elves:
            try:
                self._elves[found.host] = elf.load(found.host)
            except OSError as err:
                raise unreadable(found.host, err) from err
        return self._elves[found.host]

    def _raise_missing(self, path: str) -> None:
        if not self._missing:
            return
        missing, self._missing = self._missing, []
        lines = [
            f"{self.tree.name(path)}: library {name} was not found"
            + (f" (needed by {self.tree.name(user)})" if user != path else "")
            for name, user in missing[:5]
        ]
        if len(missing) > len(lines):
            lines.append(f"and {len(missing) - len(lines)} more")
        lines += [f"skipped {self._rejected[n]}" for n, _ in missing if n in self._rejected]
        raise BuildError(
            "\n  ".join(lines),
            hint="install its package, or name its directory in LD_LIBRARY_PATH (`env:`)",
        )


def parse_cache(data: bytes) -> dict[str, list[str]]:
    """The x86-64 libraries of an ld.so.cache by name; none when it is damaged.

    glibc, "sysdeps/generic/dl-cache.h": 48-byte header, 24-byte entries {flags, key, value, ...},
    and string offsets counted from the header.
    """
    base = data.find(CACHE_MAGIC)
    libs: dict[str, list[str]] = {}
    if base < 0 or len(data) < base + 48:
        return libs
    (count,) = struct.unpack_from("<I", data, base + 20)
    if base + 48 + 24 * count > len(data):
        return libs
    end = base + 48 + 24 * count
    for flags, key, value in struct.iter_unpack("<III12x", data[base + 48 : end]):
        if flags & 0xFF00 == CACHE_X86_64:
            name, path = _text(data, base + key), _text(data, base + value)
            if name and path.startswith("/"):
                libs.setdefault(name, []).append(path)
    return libs


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at) if at < len(data) else -1
    return os.fsdecode(data[at:end]) if end >= 0 else ""
