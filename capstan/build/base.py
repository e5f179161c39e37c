# SPDX-License-Identifier: BSD-2-Clause
"""`base:`: the tree of an image in the store as the start of another one.

Beside each image the store keeps an index of its tree: every path with its attributes, and for
host files the place they came from and what tells a change. A base is put together from those
files again; when one of them changed, the build is refused, since the result would not be what the
base's name says.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import Any

from capstan.build.rootfs import Facts, Tree, unreadable
from capstan.build.zfs.tree import Node
from capstan.errors import BuildError
from capstan.store import StoredImage

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
    return json.dumps({"version": VERSION, "nodes": rows}, separators=(",", ":")).encode()


def restore(tree: Tree, image: StoredImage) -> None:
    """Put the tree of `image` into the empty `tree`.

    Raises:
        BuildError: the index is missing or damaged, or a file changed since the image was built.
    """
    name = str(image.ref)
    index = image.disk.parent / INDEX
    hint = f"build {name} again on this machine"
    try:
        raw: Any = json.loads(index.read_bytes())
        if raw["version"] != VERSION:
            raise BuildError(f"base image {name}: its index is of another version", hint=hint)
        _restore_rows(tree, raw["nodes"], name)
    except FileNotFoundError as err:
        raise BuildError(f"base image {name} has no index of its files", hint=hint) from err
    except OSError as err:
        raise unreadable(index, err) from err
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as err:
        raise BuildError(f"base image {name}: {index} is damaged ({err!r})", hint=hint) from err


def _dump_source(tree: Tree, node: Node) -> object:
    if isinstance(node.source, bytes):
        return base64.b64encode(node.source).decode()
    if node.source is None:
        return None
    host = os.fspath(node.source)
    return [host, *dataclasses.astuple(tree.facts[host])]


def _restore_rows(tree: Tree, rows: list[Any], name: str) -> None:
    nodes: list[Node] = []
    for row in rows:
        if row[1] is not None:
            node = nodes[row[1]]
        else:
            mode, uid, gid, mtime_ns, rdev, target = row[2]
            node = Node(mode, uid, gid, mtime_ns, rdev=rdev)
            if stat.S_ISLNK(mode):
                node.target = os.fsencode(target)
            node.source = _restore_source(tree, row[3], name)
        nodes.append(node)
        if row[0] == "/":
            tree.root = node
            continue
        parent, _, last = row[0].rpartition("/")
        tree.node_at(parent).children[os.fsencode(last)] = node


def _restore_source(tree: Tree, source: Any, name: str) -> Path | bytes | None:
    if source is None:
        return None
    if isinstance(source, str):
        return base64.b64decode(source)
    host, *numbers = source
    facts = Facts(*numbers)
    try:
        now = Facts.of(os.lstat(host))
    except OSError as err:
        raise _changed(name, host) from err
    if now != facts:
        raise _changed(name, host)
    tree.facts[host] = facts
    return Path(host)


def _changed(name: str, host: str) -> BuildError:
    return BuildError(
        f"base image {name}: {host} changed since it was built", hint=f"build {name} again"
    )
