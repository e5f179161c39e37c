# SPDX-License-Identifier: BSD-2-Clause
"""`base:`: the tree of an image in the store as the start of another one.

Beside an image that was built here the store keeps an index of its tree: every path with its
attributes, and for host files the place they came from and what tells a change. A base is put
together from those files again. Without an index (the image was pulled or loaded), or when one of
the files changed since, the tree is read out of the image's pool (`basepool`).
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import Any

from capstan.build import basepool
from capstan.build.rootfs import Facts, Tree
from capstan.build.zfs.tree import Node
from capstan.store import Store, StoredImage

INDEX = "tree.json"
VERSION = 1


def dump(tree: Tree) -> bytes:
    """The index of a finished tree."""
    rows: list[list[object]] = []
    first: dict[int, int] = {}
    for path, node in tree.files():
        same = first.setdefault(id(node), len(rows))
        if same != len(rows):
            rows.append([path, same])
            continue
        target = os.fsdecode(node.target)
        attributes = [node.mode, node.uid, node.gid, node.mtime_ns, node.rdev, target]
        rows.append([path, None, attributes, _dump_source(tree, node)])
        if node.xattrs:
            rows[-1].append(
                [
                    [os.fsdecode(name), base64.b64encode(value).decode()]
                    for name, value in sorted(node.xattrs.items())
                ]
            )
    return json.dumps({"version": VERSION, "nodes": rows}, separators=(",", ":")).encode()


def restore(tree: Tree, image: StoredImage, store: Store) -> None:
    """Put the tree of `image` into the empty `tree`.

    Raises:
        ImageError: the index is of no use, and the pool is damaged.
    """
    root = tree.root
    try:
        raw: Any = json.loads((image.disk.parent / INDEX).read_bytes())
        if raw["version"] != VERSION:
            raise _UselessError
        _restore_rows(tree, raw["nodes"])
    except (_UselessError, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        tree.root = root
        tree.facts.clear()
        basepool.restore(tree, image, store)


class _UselessError(Exception):
    """The index is of another version, or a file changed."""


def _dump_source(tree: Tree, node: Node) -> object:
    if isinstance(node.source, bytes):
        return base64.b64encode(node.source).decode()
    if node.source is None:
        return None
    host = os.fspath(node.source)
    return [host, *dataclasses.astuple(tree.facts[host])]


def _restore_rows(tree: Tree, rows: list[Any]) -> None:
    nodes: list[Node] = []
    for row in rows:
        if row[1] is not None:
            node = nodes[row[1]]
        else:
            mode, uid, gid, mtime_ns, rdev, target = row[2]
            node = Node(mode, uid, gid, mtime_ns, rdev=rdev)
            if stat.S_ISLNK(mode):
                node.target = os.fsencode(target)
            node.source = _restore_source(tree, row[3])
            if len(row) > 4:
                node.xattrs = {os.fsencode(n): base64.b64decode(v) for n, v in row[4]}
        nodes.append(node)
        if row[0] == "/":
            tree.root = node
            continue
        parent, _, last = row[0].rpartition("/")
        tree.node_at(parent).children[os.fsencode(last)] = node


def _restore_source(tree: Tree, source: Any) -> Path | bytes | None:
    if source is None:
        return None
    if isinstance(source, str):
        return base64.b64decode(source)
    host, *numbers = source
    facts = Facts(*numbers)
    if Facts.of(os.lstat(host)) != facts:
        raise _UselessError
    tree.facts[host] = facts
    return Path(host)
