# SPDX-License-Identifier: BSD-2-Clause
"""Links the programs and libraries of a tree (`capstan.build.link`) on their way into an image.

The host's files stay as they are: the tree gets the linked bytes in their place. What cannot be
linked goes in as it is; its system calls trap, which works and costs more.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.build.elf import ElfError
from capstan.build.rootfs import Tree, unreadable
from capstan.errors import BuildError
from capstan.manifest import LinkedFile

if TYPE_CHECKING:
    from capstan.build.link import LinkResult
    from capstan.build.zfs.tree import Node

ELF_X86_64 = (b"\x7fELF\x02\x01", b"\x3e\x00")  # at 0 and 18: 64-bit little-endian, EM_X86_64
LOADABLE = (b"\x02\x00", b"\x03\x00")  # at 16: ET_EXEC, ET_DYN

Notify = Callable[[str], None]


def link_tree(
    tree: Tree, cache: Path | None, nolink: Sequence[str] = (), notify: Notify | None = None
) -> tuple[LinkedFile, ...]:
    """Put linked bytes in the place of every file that has system calls; which files these are.

    `cache` is a directory to remember results in, None for not remembering. Files that match a glob
    of `nolink` (a path in the image) stay as they are.

    Raises:
        BuildError: a file cannot be read.
    """
    from capstan.build.link import link_file

    linked = []
    for path, node in _candidates(tree, nolink):
        assert node.source is not None
        if id(node) in tree.linked:
            linked.append(dataclasses.replace(tree.linked[id(node)], path=path))
            continue
        try:
            result = link_file(node.source, cache=cache)
        except ElfError:
            continue  # the loader refuses it too; `capstan check` names it
        except BuildError as err:
            if notify is not None:
                notify(f"{path} is not linked, its system calls are slow: {err.message}")
            continue
        except OSError as err:
            raise unreadable(str(node.source), err) from err
        if result.data is not None:
            node.source = result.data
            linked.append(_row(path, result))
        elif result.report.reason and result.report.sites and notify is not None:
            notify(f"{path} is not linked, its system calls are slow: {result.report.reason}")
    return tuple(linked)


def linked_before(tree: Tree) -> tuple[LinkedFile, ...]:
    """The files of a base image that are linked in it."""
    rows = {id(node): path for path, node in tree.files() if id(node) in tree.linked}
    return tuple(dataclasses.replace(tree.linked[key], path=path) for key, path in rows.items())


def _candidates(tree: Tree, nolink: Sequence[str]) -> Iterator[tuple[str, Node]]:
    """The loadable x86-64 ELF files, each once."""
    seen = set()
    for path, node in tree.files():
        if not stat.S_ISREG(node.mode) or node.source is None or id(node) in seen:
            continue
        seen.add(id(node))
        head = _head(node.source)
        is_elf = (head[:6], head[18:20]) == ELF_X86_64 and head[16:18] in LOADABLE
        if is_elf and not any(fnmatch.fnmatchcase(path, glob) for glob in nolink):
            yield path, node


def _head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:20]
    try:
        with source.open("rb", buffering=0) as file:
            return file.read(20)
    except OSError as err:
        raise unreadable(str(source), err) from err


def _row(path: str, result: LinkResult) -> LinkedFile:
    report = result.report
    assert report.linked_digest is not None
    left = len(report.left) + len(report.undecided)
    return LinkedFile(path, report.digest, report.linked_digest, report.sites, left)
