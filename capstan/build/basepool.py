# SPDX-License-Identifier: BSD-2-Clause
"""The tree of an image out of its pool, as the start of another image.

The contents of its files are unpacked once, into `unpacked/SHA256/OBJECT` of the store; they go
when the image goes. Programs that are linked in the image are linked in the tree, too, and are
left as they are (`Tree.linked`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from capstan import fs
from capstan.build.rootfs import Facts, Tree
from capstan.build.zfs.reader import Entry, Filesystem, Pool
from capstan.build.zfs.tree import Node
from capstan.errors import ImageError
from capstan.store import Store, StoredImage

_ALWAYS_FINE, _RATIO_MAX = 1 << 30, 1000


def restore(tree: Tree, image: StoredImage, store: Store) -> None:
    """Put the tree in the pool of `image` into the empty `tree`.

    Raises:
        ImageError: the pool is damaged.
    """
    with image.disk.open("rb") as disk:
        filesystem = Pool.open(disk, image.disk).filesystem()
        entries = list(filesystem.walk())
        folder = _unpack(filesystem, entries, store.unpacked / image.digest)
    nodes: dict[int, Node] = {}
    for path, entry in entries:
        node = nodes.get(entry.number)
        if node is None:
            node = nodes[entry.number] = _node(tree, entry, folder)
        if path == b"/":
            tree.root = node
            continue
        parent, _, name = path.rpartition(b"/")
        tree.node_at(os.fsdecode(parent)).children[name] = node
    _note_links(tree, image)


def _node(tree: Tree, entry: Entry, folder: Path) -> Node:
    facts = entry.attributes
    node = Node(facts.mode, facts.uid, facts.gid, facts.mtime_ns)
    node.xattrs = dict(facts.xattrs) or None
    if stat.S_ISREG(facts.mode):
        node.source = folder / str(entry.number)
        tree.facts[os.fspath(node.source)] = Facts.of(node.source.lstat())
    elif stat.S_ISLNK(facts.mode):
        node.target = facts.target
    elif stat.S_ISCHR(facts.mode) or stat.S_ISBLK(facts.mode):
        node.rdev = os.makedev(facts.rdev >> 20, facts.rdev & 0xFFFFF)
    return node


def _note_links(tree: Tree, image: StoredImage) -> None:
    """Tell the linker which files it is done with; their content has to be what it wrote."""
    for row in image.manifest.linked:
        try:
            node = tree.node_at(row.path)
        except KeyError:
            continue
        if isinstance(node.source, Path):
            with node.source.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == row.linked_sha256:
                    tree.linked[id(node)] = row


def _unpack(filesystem: Filesystem, entries: list[tuple[bytes, Entry]], place: Path) -> Path:
    """The directory `place` with the content of every regular file."""
    files = {e.number: e for _, e in entries if stat.S_ISREG(e.attributes.mode)}
    total = sum(e.attributes.size for e in files.values())
    if total > max(_ALWAYS_FINE, filesystem.objects.device.size * _RATIO_MAX):
        raise ImageError(f"{filesystem.objects.device.where}: {total} bytes of files: refused")
    if place.is_dir() and all(_size(place / str(n)) == e.attributes.size for n, e in files.items()):
        return place
    with fs.temp_dir(place.parent) as temp:
        for number, entry in files.items():
            with fs.create(temp / str(number)) as out:
                for block in filesystem.data(entry):
                    if block.count(0) == len(block):
                        out.seek(len(block), os.SEEK_CUR)
                    else:
                        out.write(block)
                out.truncate(entry.attributes.size)
        os.sync()  # one for all: a power cut must not leave a whole tree of empty files
        temp.chmod(0o755)
        if place.is_dir():
            fs.discard(place)
        try:
            fs.rename(temp, place)
        except OSError as err:
            if not place.is_dir():  # else another process was faster
                raise ImageError(f"{place}: {os.strerror(err.errno or 0)}") from err
    fs.sync_dir(place.parent)
    fs.sweep_temps(place.parent)
    return place


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return -1
