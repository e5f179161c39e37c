# SPDX-License-Identifier: BSD-2-Clause
"""The input of the pool writer: a tree of inodes, made by the other parts of the build."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Node:
    """One inode; the same object in two places of the tree is a hard link."""

    mode: int  # st_mode, with the S_IFMT bits
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    source: Path | bytes | None = None  # content of a regular file; a path is streamed
    target: str | bytes = ""  # of a symlink
    rdev: int = 0  # of a device node, as os.makedev() gives it
    children: dict[bytes, Node] = field(default_factory=dict)  # of a directory
    xattrs: dict[bytes, bytes] | None = None  # extended attributes, names with their namespace
