# SPDX-License-Identifier: BSD-2-Clause
"""Users of an image: names become numbers by the image's own /etc/passwd and /etc/group."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from capstan.build.rootfs import Tree
from capstan.errors import ImageError, UsageError

TABLE_MAX = 4 << 20
GROUPS_MAX = 32


@dataclass(frozen=True, slots=True)
class User:
    """Who a program runs as: user, group, further groups; and the home directory."""

    ids: tuple[int, ...]
    home: str


def tables_of_tree(tree: Tree) -> tuple[str, str]:
    """The text of /etc/passwd and /etc/group; empty where there is none."""
    return _table(tree, "/etc/passwd"), _table(tree, "/etc/group")


def _table(tree: Tree, path: str) -> str:
    found = tree.find(path)
    source = found.node.source if found is not None and found.node is not None else None
    if found is None or not stat.S_ISREG(found.mode) or source is None:
        return ""
    if isinstance(source, Path):
        with source.open("rb") as file:
            source = file.read(TABLE_MAX)
    return source[:TABLE_MAX].decode("utf-8", "surrogateescape")


def tables_of_disk(disk: Path) -> tuple[str, str]:
    """The text of /etc/passwd and /etc/group in an image file.

    Raises:
        ImageError: it is damaged.
    """
    from capstan.build.zfs.reader import Pool

    try:
        with disk.open("rb") as file:
            filesystem = Pool.open(file, disk).filesystem()
            etc, _ = filesystem.names(filesystem.root).get(b"etc", (0, 0))
            names = filesystem.names(etc) if etc else {}
            texts = []
            for name in (b"passwd", b"group"):
                number, kind = names.get(name, (0, 0))
                data = filesystem.data(filesystem.entry(number)) if kind == 8 else iter(())
                texts.append(b"".join(data)[:TABLE_MAX].decode("utf-8", "surrogateescape"))
    except OSError as err:
        raise ImageError(f"{disk}: {os.strerror(err.errno or 0)}") from err
    return texts[0], texts[1]


def find_user(text: str, passwd: str, group: str) -> User:
    """The user `NAME|UID[:GROUP|GID]` means in an image with these tables.

    A number needs no entry; its group is then that of its entry, or 0. Further groups are those
    that list the user, unless a group was named.

    Raises:
        UsageError: there is no such user or group.
    """
    name, colon, group_name = text.partition(":")
    users, groups = _rows(passwd, 7), _rows(group, 4)
    entry = next((row for row in users if row[0] == name), None)
    number = _number(name)
    if entry is None and number is not None:
        entry = next((row for row in users if _number(row[2]) == number), None)
    if entry is None and number is None:
        known = ", ".join(row[0] for row in users[:12])
        raise UsageError(
            f"there is no user {name!r} in the image",
            hint=f"its /etc/passwd has {known}; or give a number" if known else "give a number",
        )
    uid = number if entry is None else _number(entry[2])
    if uid is None:
        raise _no_number(name)
    if colon and group_name:
        return User((uid, _group(group_name, groups)), entry[5] if entry is not None else "/")
    if entry is None:
        return User((uid, 0), "/")
    gid = _number(entry[3])
    if gid is None:
        raise _no_number(name)
    members = (row for row in groups if entry[0] in row[3].split(","))
    more = {number for row in members if (number := _number(row[2])) is not None} - {gid}
    return User((uid, gid, *sorted(more)[:GROUPS_MAX]), entry[5] or "/")


def _no_number(name: str) -> UsageError:
    """The error for a row that would else mean root."""
    return UsageError(
        f"the user {name!r} has no valid number in the image's /etc/passwd", hint="give a number"
    )


def _group(name: str, groups: list[list[str]]) -> int:
    for row in groups:
        if row[0] == name and (number := _number(row[2])) is not None:
            return number
    found = _number(name)
    if found is None:
        raise UsageError(f"there is no group {name!r} in the image", hint="give a number")
    return found


def _rows(text: str, columns: int) -> list[list[str]]:
    rows = (line.split(":") for line in text.split("\n"))
    return [row for row in rows if len(row) == columns and row[0]]


def _number(text: str) -> int | None:
    plain = text.isascii() and text.isdigit() and len(text) <= 10
    return int(text) if plain and int(text) < 2**32 - 1 else None
