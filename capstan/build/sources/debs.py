# SPDX-License-Identifier: BSD-2-Clause
"""Debian packages that are not installed: chosen and downloaded by apt, unpacked like layers.

apt works with a state of its own: an empty list of installed packages, so that it names all that is
needed, and caches in a folder of the store; the machine's sources, keys and lists are used as they
are. The unpacked files are remembered by the SHA-256 of each package.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from capstan import fs, proc
from capstan.build.rootfs import ALIASES, Facts, Tree
from capstan.build.sources.contents import Contents
from capstan.build.sources.debian import (
    LEFT_OUT,
    Package,
    Wanted,
    closure,
    depends_of,
)
from capstan.build.sources.layers import Layer, Row, Rows, read_layer
from capstan.build.sources.limits import Limits, Meter
from capstan.build.sources.overlay import Overlay
from capstan.build.sources.streams import Damaged, damaged
from capstan.build.zfs.tree import Node
from capstan.errors import BuildError

LISTS = Path("/var/lib/apt/lists")
_TIMEOUT = 600.0


class Apt:
    """apt with caches and state in the folder `home`."""

    def __init__(self, home: Path) -> None:
        if shutil.which("apt-get") is None:
            raise BuildError(
                "packages that are not installed are downloaded by apt, which is not here",
                hint="install them, or name their files",
            )
        self._home, self.archives = home, home / "archives"
        own = home / "lists"
        self._lists = LISTS
        for folder in (self.archives / "partial", own / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        status = home / "status"
        status.touch()
        self._options = [
            *("-o", f"Dir::State::status={status}"),
            *("-o", f"Dir::Cache={home}"),
            *("-o", "Debug::NoLocking=1"),
            *("-o", "APT::Install-Recommends=false"),
            *("-o", "APT::Sandbox::User=root"),
        ]
        if not list(LISTS.glob("*_Packages*")):
            self._lists = own
            self._options += ["-o", f"Dir::State::lists={own}"]
            if not list(own.glob("*_Packages*")):
                self.run("apt-get", "-q", "update")

    def run(self, tool: str, *words: str, cwd: Path | None = None) -> str:
        """What an apt tool printed.

        Raises:
            BuildError: it failed; with its own words.
        """
        argv = [tool, *self._options, *words]
        env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        done = proc.run(argv, cwd=cwd, env=env, timeout=_TIMEOUT)
        if done.status != 0:
            lines = done.stderr.decode(errors="replace").splitlines()
            errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
            raise BuildError(
                f"{tool}: {'; '.join(errors)[:400] or f'status {done.status}'}",
                hint="is the name right? `apt-cache search WORD` finds packages, "
                "`apt-get update` refreshes the lists",
            )
        return done.stdout.decode(errors="replace")

    def choose(self, wanted: Sequence[Wanted]) -> dict[str, dict[str, str]]:
        """name -> fields of all packages that would be installed on an empty system.

        Remembered while the lists of packages are the same.
        """
        names = [f"{one.name}={one.version}" if one.version else one.name for one in wanted]
        lists = sorted(p for p in self._lists.glob("*_Packages*") if p.is_file())
        state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in lists]
        key = hashlib.sha256(repr((names, state)).encode()).hexdigest()
        place = self._home / f"choice-{key[:32]}.json"
        try:
            known: dict[str, dict[str, str]] = json.loads(place.read_bytes())
        except (OSError, ValueError):
            known = self._ask(names)
            fs.atomic_write(place, json.dumps(known).encode())
        return known

    def _ask(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        versions = []
        for line in self.run("apt-get", "-s", "-q", "-y", "install", *names).splitlines():
            words = line.split()
            if len(words) > 2 and words[0] == "Inst":
                versions.append(f"{words[1].partition(':')[0]}={words[2].strip('()')}")
        text = self.run("apt-cache", "show", "--no-all-versions", *versions)
        return {row["Package"]: row for row in map(_fields, text.split("\n\n")) if row}

    def fetch(self, row: dict[str, str]) -> Path:
        """The package file, downloaded unless it is there; its digest is right."""
        name = f"{row['Package']}_{row['Version'].replace(':', '%3a')}_{row['Architecture']}.deb"
        path = self.archives / name
        if not _has_digest(path, row["SHA256"]):
            with fs.temp_dir(self.archives) as folder:
                self.run(
                    "apt-get", "-q", "download", f"{row['Package']}={row['Version']}", cwd=folder
                )
                found = next(folder.glob("*.deb"), None)
                if found is None or not _has_digest(found, row["SHA256"]):
                    raise BuildError(
                        f"{name}: what was downloaded is not the package of the lists",
                        hint="`apt-get update`, then build again",
                    )
                fs.rename(found, path)
        return path


def add_downloaded(tree: Tree, wanted: Sequence[Wanted], contents: Contents) -> list[Package]:
    """Put packages that are not installed into the tree; which ones they are.

    Raises:
        BuildError: apt failed, or a package is damaged.
    """
    apt = Apt(contents.root / "apt")
    rows = apt.choose(wanted)
    known = {
        name: Package(
            name,
            row["Version"],
            depends_of(row.get("Pre-Depends", ""), row.get("Depends", "")),
            tuple(names[0] for names in depends_of(row.get("Provides", ""))),
            row.get("Essential") == "yes",
        )
        for name, row in rows.items()
    }
    chosen = closure([one.name for one in wanted], known)
    meter = Meter(Limits.from_settings(), "packages")
    overlay = Overlay(contents, meter, keep_links=True)
    for name in sorted(ALIASES & {"bin", "sbin", "lib", "lib64"}):
        target = f"usr/{name}".encode()
        overlay.root.children[name.encode()] = Node(stat.S_IFLNK | 0o777, target=target)
    for package in chosen:
        row = rows[package.name]
        path = apt.fetch(row)
        layer = _layer(path, row["SHA256"])
        try:
            overlay.apply(_kept(read_layer(layer, contents, meter)), path.name)
        except Damaged as err:
            raise damaged(path.name, str(err)) from err
    _merge(tree, overlay.finish(), contents)
    return chosen


def _fields(text: str) -> dict[str, str]:
    """The fields of one paragraph of `apt-cache show`."""
    pairs = (line.partition(": ") for line in text.splitlines() if not line.startswith(" "))
    return {name: value.strip() for name, colon, value in pairs if colon}


def _has_digest(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _layer(path: Path, sha256: str) -> Layer:
    return Layer(path.name, lambda: _Unpacked(path), memo=f"deb-{sha256}")


class _Unpacked:
    """The tar archive in a package, from dpkg-deb."""

    def __init__(self, path: Path) -> None:
        argv = ["dpkg-deb", "--fsys-tarfile", os.fspath(path)]
        self._child = proc.spawn(argv, stdout=proc.PIPE, stderr=proc.DEVNULL)

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        assert self._child.stdout is not None
        data = self._child.stdout.read(size)
        if not data and self._child.wait(_TIMEOUT) != 0:
            raise Damaged("dpkg-deb cannot unpack it")
        return data


def _kept(rows: Rows) -> Rows:
    """Without what stays behind; packages have no whiteouts."""
    return Rows([row for row in rows.entries if _is_kept(row)])


def _is_kept(row: Row) -> bool:
    return LEFT_OUT.match("/" + os.fsdecode(b"/".join(row.path))) is None


def _merge(tree: Tree, top: Node, contents: Contents) -> None:
    """Put the nodes below `top` into the tree; links of the tree on the way are followed."""
    for path, node in _walk(top):
        if stat.S_ISDIR(node.mode):
            made = tree.make_dir(path)
            made.mode, made.uid, made.gid = node.mode, node.uid, node.gid
        elif not (stat.S_ISLNK(node.mode) and path[1:] in ALIASES and tree.find(path)):
            tree.place(path, node)
            if isinstance(node.source, Path):
                host = os.fspath(node.source)
                tree.facts[host] = Facts.of(node.source.lstat())
                tree.digests[host] = contents.name_of(node.source)


def _walk(top: Node) -> Iterator[tuple[str, Node]]:
    """Every path below `top`, links first at each level, so that folders can go through them."""
    todo = [("", top)]
    while todo:
        path, node = todo.pop()
        below = sorted(node.children.items(), key=lambda pair: not stat.S_ISLNK(pair[1].mode))
        for name, child in below:
            at = f"{path}/{os.fsdecode(name)}"
            yield at, child
            if stat.S_ISDIR(child.mode):
                todo.append((at, child))
