# SPDX-License-Identifier: BSD-2-Clause
"""Layers one over the other: rows become nodes, whiteouts hide what is below.

OCI image specification, "Image Layer Filesystem Changeset": a whiteout hides only what lower
layers have, wherever it stands in its own; a directory over a directory changes its attributes;
anything else replaces what was there. A folder on the way may be a link, which is followed inside
of the tree, where its root is `/`.
"""

from __future__ import annotations

import os
import stat

from capstan.build.rootfs import MAX_LINKS, UNSET
from capstan.build.sources.contents import Contents
from capstan.build.sources.layers import Hidden, Row, Rows, parts_of
from capstan.build.sources.limits import PATH_MAX, Meter
from capstan.build.sources.streams import Damaged
from capstan.build.sources.tarball import show
from capstan.build.zfs.tree import Node

Path = tuple[bytes, ...]


class Overlay:
    """The tree of an image while its layers are put together.

    With `keep_links` a directory does not replace a link to one: as dpkg does it, since packages
    have `/lib` where the system has a link to `usr/lib`.

    Raises everywhere:
        Damaged: an entry has no possible place, or a hard link leads nowhere.
        BuildError: the tree needs more than the limits.
    """

    def __init__(self, contents: Contents, meter: Meter, *, keep_links: bool = False) -> None:
        self._keep_links = keep_links
        self.root = _new_folder()
        self.root.mode = stat.S_IFDIR | 0o555  # unless a layer says more, as podman has it
        self._contents = contents
        self._meter = meter
        self._layer = ""
        # What this layer made: (directory, name); the value keeps the directory's id its own.
        self._made: dict[tuple[int, bytes], Node] = {}

    def apply(self, rows: Rows, layer: str) -> None:
        """Put a layer over the tree."""
        self._layer = layer
        self._made.clear()
        hidden = iter([*rows.hidden, Hidden(len(rows.entries) + 1, (), False)])
        whiteout = next(hidden)
        for number, row in enumerate([*rows.entries, None]):
            while whiteout.before == number:
                self._hide(whiteout)
                whiteout = next(hidden)
            if row is None:
                return
            if not stat.S_IFMT(row.mode):
                self._link(row)
            elif not row.path:
                _set_attributes(self.root, row)
            else:
                self._place(row)

    def _hide(self, whiteout: Hidden) -> None:
        """Take away what lower layers have at a place; what this layer made there stays."""
        folder = self._walk(whiteout.path if whiteout.is_opaque else whiteout.path[:-1], make=False)
        if folder is None:
            return
        if whiteout.is_opaque:
            self._purge(folder)
            return
        name = whiteout.path[-1]
        if (id(folder), name) not in self._made:
            folder.children.pop(name, None)
        elif name in folder.children:
            self._purge(folder.children[name])

    def _purge(self, folder: Node) -> None:
        todo = [folder]
        while todo:
            here = todo.pop()
            self._meter.more_metadata(len(here.children), self._layer)
            for name, node in list(here.children.items()):
                if (id(here), name) in self._made:
                    todo.append(node)
                else:
                    del here.children[name]

    def _make(self, parent: Node, name: bytes, node: Node) -> None:
        """Put a node into a directory, as something of this layer."""
        parent.children[name] = node
        self._made[id(parent), name] = parent

    def finish(self) -> Node:
        """The root; every path in the tree is one that can be opened."""
        todo = [(0, 0, self.root)]
        while todo:
            length, depth, node = todo.pop()
            self._meter.more_metadata(length, self._layer)
            if length > PATH_MAX:
                raise Damaged(f"a path of more than {PATH_MAX} bytes comes together in the tree")
            for name, child in node.children.items():
                todo.append((length + 1 + len(name), depth + 1, child))
        return self.root

    def _place(self, row: Row) -> None:
        parent = self._folder(row.path[:-1])
        name = row.path[-1]
        old = parent.children.get(name)
        if stat.S_ISDIR(row.mode) and old is not None and stat.S_ISDIR(old.mode):
            _set_attributes(old, row)
            self._make(parent, name, old)
            return
        is_kept = self._keep_links and old is not None and stat.S_ISLNK(old.mode)
        if is_kept and stat.S_ISDIR(row.mode) and self._walk(row.path, make=True) is not None:
            return
        node = Node(row.mode, rdev=row.rdev, target=row.target)
        _set_attributes(node, row)
        if stat.S_ISREG(row.mode):
            node.source = self._contents.path(row.content) if row.content else b""
        self._make(parent, name, node)

    def _link(self, row: Row) -> None:
        """A further name of a file that is there already."""
        shown = show(b"/".join(row.path))
        to = parts_of(row.target, shown)
        parent = self._walk(to[:-1], make=False) if to else None
        node = parent.children.get(to[-1]) if parent is not None else None
        if node is None or not row.path:
            raise Damaged(f"{shown}: a hard link to {show(row.target)}, which does not exist")
        if stat.S_ISDIR(node.mode):
            raise Damaged(f"{shown}: a hard link to the directory {show(row.target)}")
        folder = self._folder(row.path[:-1])
        if folder is parent and row.path[-1] == to[-1]:
            raise Damaged(f"{shown}: a hard link to itself")
        self._make(folder, row.path[-1], node)
        # As other tools do it: what the link's header says holds for the file, by all its names.
        mode = row.mode if not stat.S_ISLNK(node.mode) else 0o777
        node.mode = stat.S_IFMT(node.mode) | mode
        node.uid, node.gid, node.mtime_ns = row.uid, row.gid, row.mtime_ns
        if row.xattrs:
            node.xattrs = {**(node.xattrs or {}), **row.xattrs}

    def _folder(self, path: Path) -> Node:
        """The directory `path`, made when it is missing."""
        node = self._walk(path, make=True)
        if node is None:
            raise Damaged(f"{show(b'/'.join(path))} is no directory, but has entries")
        return node

    def _walk(self, path: Path, *, make: bool) -> Node | None:
        """The directory `path` leads to, links followed; None when there is none."""
        stack = [self.root]
        todo = list(reversed(path))
        links = 0
        while todo:
            name = todo.pop()
            if name == b"..":
                del stack[max(1, len(stack) - 1) :]
                continue
            here = stack[-1]
            node = here.children.get(name)
            if node is None:
                if not make:
                    return None
                self._meter.more_entries(len(name), self._layer, show(b"/".join(path)))
                node = here.children[name] = _new_folder()
            if make and (id(here), name) not in self._made:
                self._made[id(here), name] = here
            if stat.S_ISLNK(node.mode):
                links += 1
                if links > MAX_LINKS:
                    raise Damaged(f"{show(b'/'.join(path))}: symbolic links form a loop")
                target = os.fsencode(node.target)
                self._meter.more_metadata(len(target), self._layer)
                if target.startswith(b"/"):
                    del stack[1:]
                todo += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
                continue
            if not stat.S_ISDIR(node.mode):
                return None
            stack.append(node)
        return stack[-1]


def _set_attributes(node: Node, row: Row) -> None:
    node.mode, node.uid, node.gid, node.mtime_ns = row.mode, row.uid, row.gid, row.mtime_ns
    node.xattrs = row.xattrs


def _new_folder() -> Node:
    return Node(stat.S_IFDIR | 0o755, mtime_ns=UNSET)
