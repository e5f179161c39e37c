# SPDX-License-Identifier: BSD-2-Clause
"""The file system: from a tree of nodes to the object set with directories, inodes and files.

Two steps: `plan` checks the tree and gives every inode its object number; `write_filesystem`
writes, once the files' data is on disk, everything else in one run: indirect blocks,
directories, inodes, the object set.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from capstan.build.zfs import sa, zap
from capstan.build.zfs.dmu import BlockTable, BlockWriter, write_dnodes, write_object
from capstan.build.zfs.files import Content
from capstan.build.zfs.layout import (
    OBJSET_TYPE_ZFS,
    Dnode,
    Ot,
    align,
    pack_objset,
)
from capstan.build.zfs.tree import Node
from capstan.errors import BuildError

MASTER_OBJECT = 1
_SA_MASTER, _REGISTRY, _LAYOUTS, _DELETE_QUEUE, _ROOT = 2, 3, 4, 5, 6
ZPL_VERSION = 5
NAME_MAX = 255
TARGET_MAX = 4095
_SALT = 0x9E3779B97F4A7C15


@dataclass(slots=True)
class Inode:
    """One object of the file system."""

    node: Node
    number: int
    name: bytes
    parent: Inode | None
    links: int = 0
    content: Content | None = None
    entries: list[tuple[bytes, Inode]] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Where the inode is, for messages."""
        names = []
        inode: Inode | None = self
        while inode and inode.parent:
            names.append(os.fsdecode(inode.name))
            inode = inode.parent
        return "/" + "/".join(reversed(names))


def plan(root: Node) -> list[Inode]:
    """All inodes in the order of their numbers: level by level, each directory sorted by name.

    Raises:
        BuildError: a name, type or link that cannot be in an image.
    """
    if not stat.S_ISDIR(root.mode):
        raise BuildError("the root of the file system is not a directory")
    top = Inode(root, _ROOT, b"", None, links=2)
    inodes, known = [top], {id(root): top}
    for inode in inodes:  # grows meanwhile
        for name, node in sorted(inode.node.children.items()):
            child = known.get(id(node))
            if child is None:
                child = Inode(node, _ROOT + len(inodes), name, inode)
                _check(child)
                known[id(node)] = child
                inodes.append(child)
                if stat.S_ISDIR(node.mode):
                    child.links = 1
                    inode.links += 1
            elif stat.S_ISDIR(node.mode):
                raise BuildError(f"{child.path}: a directory cannot be in two places")
            child.links += 1
            _check_name(name, inode)
            inode.entries.append((name, child))
    return inodes


def _check_name(name: bytes, directory: Inode) -> None:
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise BuildError(f"{directory.path}: {name!r} is not a possible file name")
    if len(name) > NAME_MAX:
        raise BuildError(
            f"{directory.path}: the name {os.fsdecode(name[:40])}... is over {NAME_MAX} bytes"
        )


def _check(inode: Inode) -> None:
    node = inode.node
    kind = stat.S_IFMT(node.mode)
    if kind == stat.S_IFREG:
        inode.content = Content(node.source)
    elif kind == stat.S_IFLNK:
        target = os.fsencode(node.target)
        if not target or b"\0" in target or len(target) > TARGET_MAX:
            raise BuildError(f"{inode.path}: a symlink of {len(target)} bytes is not possible")
    elif kind == stat.S_IFSOCK:
        raise BuildError(
            f"{inode.path} is a socket", hint="remove it; programs make their sockets themselves"
        )
    elif kind not in (stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
        raise BuildError(f"{inode.path}: file type {kind:#o} is unknown")
    if node.children and kind != stat.S_IFDIR:
        raise BuildError(f"{inode.path} is not a directory but has entries")


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A written file system: the pointer to its object set, and its number of objects."""

    pointer: bytes
    objects: int


def write_filesystem(inodes: list[Inode], writer: BlockWriter) -> Filesystem:
    """Write all but the files' data, which is there already."""
    dnodes = [Dnode(Ot.PLAIN_FILE, bonus_kind=Ot.SA) for _ in inodes]
    for inode, dnode in zip(inodes, dnodes, strict=True):
        if inode.content:
            _finish_file(inode.content, dnode, writer)
    for inode, dnode in zip(inodes, dnodes, strict=True):
        if stat.S_ISDIR(inode.node.mode):
            dnode.kind = Ot.DIRECTORY
            _write_directory(inode, dnode, writer)
        _set_attributes(inode, dnode, writer)
    packed = [b"", *_system_objects(writer), *(dnode.pack() for dnode in dnodes)]
    meta, count = write_dnodes(writer, packed)
    objset = pack_objset(OBJSET_TYPE_ZFS, meta)
    return Filesystem(writer.put(objset, Ot.OBJSET, fill=count), count)


def _finish_file(content: Content, dnode: Dnode, writer: BlockWriter) -> None:
    dnode.block_size = content.block_size
    table = content.table or BlockTable()
    table.finish(writer, dnode, content.blocks)
    content.table = None


def _write_directory(inode: Inode, dnode: Dnode, writer: BlockWriter) -> None:
    entries: dict[bytes, zap.Value] = {
        name: child.number | stat.S_IFMT(child.node.mode) >> 12 << 60
        for name, child in inode.entries
    }
    try:
        table = zap.encode(entries, _salt(inode.number))
    except ValueError as err:
        raise BuildError(f"{inode.path}: {err}") from err
    dnode.block_size = table.block_size
    write_object(writer, dnode, table.data)


def _salt(number: int) -> int:
    return number * _SALT % (1 << 64) | 1


def _set_attributes(inode: Inode, dnode: Dnode, writer: BlockWriter) -> None:
    node = inode.node
    size, target, rdev = 0, b"", 0
    if inode.content:
        size = inode.content.size
    elif stat.S_ISDIR(node.mode):
        size = len(inode.entries) + 2
    elif stat.S_ISLNK(node.mode):
        target = os.fsencode(node.target)
        size = len(target)
    elif not stat.S_ISFIFO(node.mode):
        rdev = os.major(node.rdev) << 20 | os.minor(node.rdev)
    attributes = sa.Attributes(
        mode=node.mode,
        size=size,
        uid=node.uid,
        gid=node.gid,
        parent=inode.parent.number if inode.parent else inode.number,
        links=inode.links,
        generation=writer.birth,
        mtime_ns=node.mtime_ns,
        rdev=rdev,
        target=target,
        xattrs=node.xattrs or {},
    )
    try:
        dnode.bonus, spill = attributes.pack()
    except ValueError as err:
        raise BuildError(f"{inode.path}: {err}") from err
    if spill:
        block = spill.ljust(align(len(spill), 512), b"\0")
        before = writer.usage.allocated
        dnode.spill = writer.put(block, Ot.SA)
        dnode.used += writer.usage.allocated - before


def _system_objects(writer: BlockWriter) -> list[bytes]:
    """Objects 1 to 5, which lead to the root directory and explain the attributes."""
    master: dict[bytes, zap.Value] = {
        b"ROOT": _ROOT,
        b"DELETE_QUEUE": _DELETE_QUEUE,
        b"SA_ATTRS": _SA_MASTER,
        b"VERSION": ZPL_VERSION,
        b"normalization": 0,
        b"utf8only": 0,
        b"casesensitivity": 0,
    }
    tables: list[tuple[int, dict[bytes, zap.Value]]] = [
        (Ot.MASTER_NODE, master),
        (Ot.SA_MASTER, {b"REGISTRY": _REGISTRY, b"LAYOUTS": _LAYOUTS}),
        (Ot.SA_REGISTRY, dict(sa.registry())),
        (Ot.SA_LAYOUTS, dict(sa.layouts())),
        (Ot.DELETE_QUEUE, {}),
    ]
    packed = []
    for number, (kind, entries) in enumerate(tables, MASTER_OBJECT):
        table = zap.encode(entries, _salt(number))
        dnode = Dnode(kind, block_size=table.block_size)
        packed.append(write_object(writer, dnode, table.data).pack())
    return packed
