# SPDX-License-Identifier: BSD-2-Clause
"""What a check looks at: the tree of an image as the program will see it, and nothing beside.

The tree comes from a plan (the files are where the build takes them from) or from an image's pool
(then what is worth reading is unpacked into a temporary directory). `host` is the root the image's
files come from; it only answers whether something exists there.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.build import elf
from capstan.build.collect import Plan
from capstan.build.rootfs import Found, Tree, unreadable
from capstan.build.zfs.tree import Node
from capstan.errors import BuildError, ImageError
from capstan.manifest import RunConfig

if TYPE_CHECKING:
    from capstan.build.zfs.reader import Entry, Filesystem

MAX_TEXT = 1 << 20
"""Larger files are never read as text."""


class ImageTree(Tree):
    """A finished tree: nothing below it, nothing can be added."""

    def __init__(self, root: Node) -> None:
        super().__init__(Path("/"))
        self.root = root

    def find(self, path: str, *, lower: bool = False) -> Found | None:
        """What `path` leads to inside of the image."""
        return super().find(path, lower=False)

    def add(self, path: str, *, recurse: bool = False) -> Found:
        """What `path` leads to; it is there already."""
        found = self.find(path)
        if found is None:
            raise BuildError(f"{path} does not exist")
        return found


@dataclass(frozen=True, slots=True)
class View:
    """An image before its program starts."""

    tree: ImageTree
    config: RunConfig
    host: Tree

    @property
    def program(self) -> str:
        """The path of the program."""
        first = self.config.argv[0] if self.config.argv else "/"
        return first if first.startswith("/") else f"{self.config.workdir.rstrip('/')}/{first}"

    def has(self, path: str) -> bool:
        """Whether something is at `path`."""
        try:
            return self.tree.find(path) is not None
        except BuildError:
            return False

    def on_host(self, path: str) -> bool:
        """Whether something is at `path` where the image's files come from."""
        try:
            return self.host.find(path) is not None
        except BuildError:
            return False

    def text(self, path: str) -> str | None:
        """The text of a small file; None when there is none."""
        try:
            found = self.tree.find(path)
        except BuildError:
            return None
        if found is None or found.node is None or not stat.S_ISREG(found.mode):
            return None
        return os.fsdecode(content(found.node)[:MAX_TEXT])

    def candidates(self) -> Iterator[tuple[str, Node]]:
        """The regular files that may be programs or libraries, hard links once."""
        seen: set[int] = set()
        for path, node in self.tree.files():
            if is_candidate(path, node.mode) and id(node) not in seen:
                seen.add(id(node))
                yield path, node


def is_candidate(path: str, mode: int) -> bool:
    """Whether a file may be a program, a script or a library."""
    name = path.rpartition("/")[2]
    return stat.S_ISREG(mode) and (mode & 0o111 != 0 or ".so" in name)


def content(node: Node, limit: int = MAX_TEXT) -> bytes:
    """The first bytes of a regular file.

    Raises:
        BuildError: it cannot be read.
    """
    if isinstance(node.source, bytes):
        return node.source[:limit]
    if node.source is None:
        return b""
    try:
        with node.source.open("rb") as file:
            return file.read(limit)
    except OSError as err:
        raise unreadable(node.source, err) from err


def of_plan(plan: Plan) -> View:
    """The image that a plan will become."""
    host = Tree(Path(plan.tree.host_root or "/") if plan.tree.has_lower else None)
    return View(ImageTree(plan.tree.root), plan.config, host)


@contextmanager
def of_disk(disk: Path, config: RunConfig) -> Iterator[View]:
    """The image in a disk file; `config` is its manifest's.

    Raises:
        ImageError: it is damaged.
    """
    from capstan.build.zfs.reader import Pool

    with tempfile.TemporaryDirectory(prefix="capstan-check-") as scratch:
        try:
            with disk.open("rb") as file:
                root = _Unpacker(Pool.open(file, disk).filesystem(), Path(scratch)).tree()
        except OSError as err:
            raise ImageError(f"{disk}: {os.strerror(err.errno or 0)}") from err
        yield View(ImageTree(root), config, Tree(Path("/")))


class _Unpacker:
    """Makes the tree of a pool; ELF files become files, other files that are read stay bytes."""

    def __init__(self, filesystem: Filesystem, scratch: Path) -> None:
        self.filesystem, self.scratch = filesystem, scratch

    def tree(self) -> Node:
        nodes: dict[bytes, Node] = {}
        by_number: dict[int, Node] = {}
        for path, entry in self.filesystem.walk():
            node = by_number.get(entry.number)
            if node is None:
                node = by_number[entry.number] = self._node(os.fsdecode(path), entry)
            nodes[path] = node
            if path != b"/":
                parent, _, name = path.rpartition(b"/")
                nodes[parent or b"/"].children[name] = node
        return nodes[b"/"]

    def _node(self, path: str, entry: Entry) -> Node:
        mode = entry.attributes.mode
        node = Node(mode)
        if stat.S_ISLNK(mode):
            node.target = entry.attributes.target
        elif is_candidate(path, mode):
            node.source = self._unpack(entry)
        elif stat.S_ISREG(mode) and path.startswith("/etc/"):
            node.source = b"".join(self.filesystem.data(entry))[:MAX_TEXT]
        return node

    def _unpack(self, entry: Entry) -> Path | bytes:
        blocks = self.filesystem.data(entry)
        first = next(blocks, b"")
        if not elf.is_elf(first):
            return first
        place = self.scratch / str(entry.number)
        with place.open("wb") as out:
            out.write(first)
            for block in blocks:
                out.write(block)
        return place
