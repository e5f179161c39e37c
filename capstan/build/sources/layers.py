# SPDX-License-Identifier: BSD-2-Clause
"""A layer as a list of rows, made once and remembered by the digest of its plain bytes.

A row is one entry of the archive with the content of a file replaced by its name in `Contents`.
The list is kept only when the whole layer was read and its digests were right.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from capstan import fs
from capstan.build.sources import limits
from capstan.build.sources.contents import Contents
from capstan.build.sources.limits import Meter
from capstan.build.sources.streams import Damaged, Hashed, Plain, Readable, damaged
from capstan.build.sources.tarball import Entry, TarReader, show

VERSION = 2
WHITEOUT, OPAQUE = b".wh.", b".wh..wh..opq"
_AUFS = b".wh..wh."  # what aufs keeps for itself


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image: where its bytes come from and what they must be."""

    name: str  # for messages
    open: Callable[[], Readable]
    digest: str | None = None
    size: int | None = None
    diff_id: str | None = None
    memo: str | None = None  # what the layer is remembered by, if not by its diff_id

    @property
    def known_as(self) -> str | None:
        """The name it is remembered by; None: not at all."""
        return self.memo or self.diff_id


@dataclass(slots=True)
class Row:
    """One entry; `mode` without file type is a hard link to `target`."""

    path: tuple[bytes, ...]
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    target: bytes
    rdev: int
    content: str
    xattrs: dict[bytes, bytes] | None


class Hidden(NamedTuple):
    """A whiteout: in front of which entry it stands, and what it hides of lower layers."""

    before: int
    path: tuple[bytes, ...]
    is_opaque: bool  # all that is in the directory, but not the directory


@dataclass(slots=True)
class Rows:
    """A layer: what it hides of the layers below, and what it adds."""

    entries: list[Row] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    unpacked: int = 0


def read_layer(layer: Layer, contents: Contents, meter: Meter) -> Rows:
    """The rows of a layer, remembered or unpacked now.

    Raises:
        BuildError: it is damaged, or asks for more than the limits.
    """
    name = layer.known_as
    rows = _load(name, contents) if name is not None else None
    if rows is None:
        rows = _unpack(layer, contents, meter)
        if name is not None:
            text = json.dumps(_dump(rows), separators=(",", ":"))
            fs.atomic_write(_place(name, contents), text.encode())
        return rows
    meter.more_bytes(rows.unpacked, layer.name)
    count = len(rows.entries) + len(rows.hidden)
    cost = sum(sum(map(len, row.path)) + len(row.target) for row in rows.entries)
    meter.more_entries(cost, layer.name, "in all", count)
    return rows


def is_remembered(diff_id: str, contents: Contents) -> bool:
    """Whether a layer was unpacked before, and all of its contents are there."""
    return _load(diff_id, contents) is not None


def _unpack(layer: Layer, contents: Contents, meter: Meter) -> Rows:
    rows = Rows()
    before = meter.unpacked
    try:
        raw = Hashed(layer.open(), layer.digest, layer.size)
        plain = Plain(raw, layer.diff_id, meter, layer.name)
        archive = TarReader(plain)
        for entry in archive.entries():
            meter.entry = shown = entry.shown
            path = _path(entry)
            cost = len(entry.name) + len(entry.target)
            cost += sum(len(key) + len(value) for key, value in entry.xattrs.items())
            meter.more_entries(cost, layer.name, shown)
            _sort(entry, path, rows, archive, contents)
        meter.entry = ""
        plain.finish()
    except Damaged as err:
        raise damaged(f"{meter.where}: {layer.name}", str(err)) from err
    rows.unpacked = meter.unpacked - before
    return rows


def _sort(
    entry: Entry, path: tuple[bytes, ...], rows: Rows, archive: TarReader, contents: Contents
) -> None:
    last = path[-1] if path else b""
    if any(part.startswith(WHITEOUT) for part in path[:-1]):
        return  # below a folder of aufs
    if last == OPAQUE:
        rows.hidden.append(Hidden(len(rows.entries), path[:-1], True))
    elif last.startswith(_AUFS):
        return
    elif last.startswith(WHITEOUT):
        hidden = last[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise Damaged(f"{entry.shown}: a whiteout of {show(hidden)!r}")
        rows.hidden.append(Hidden(len(rows.entries), (*path[:-1], hidden), False))
    else:
        if not path and not stat.S_ISDIR(entry.mode):
            raise Damaged(f"{entry.shown}: the root is no directory")
        content = ""
        if stat.S_ISREG(entry.mode) and entry.size:
            content = contents.put(archive.data(), entry.size, entry.parts)
        rows.entries.append(_row(entry, path, content))


def _row(entry: Entry, path: tuple[bytes, ...], content: str) -> Row:
    has_target = not stat.S_IFMT(entry.mode) or stat.S_ISLNK(entry.mode)
    if has_target and not 0 < len(entry.target) < limits.PATH_MAX:
        raise Damaged(f"{entry.shown}: a link of {len(entry.target)} bytes")
    return Row(
        path,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime_ns,
        entry.size,
        entry.target if has_target else b"",
        entry.rdev,
        content,
        entry.xattrs or None,
    )


def _path(entry: Entry) -> tuple[bytes, ...]:
    """The components of an entry's name, which cannot lead out of the tree."""
    if len(entry.name) > limits.PATH_MAX:
        raise Damaged(f"{entry.shown}: a path of {len(entry.name)} bytes")
    return parts_of(entry.name, entry.shown)


def parts_of(name: bytes, shown: str) -> tuple[bytes, ...]:
    """The components of a path in an archive.

    Raises:
        Damaged: `..` in it, or a component that is too long.
    """
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    for part in parts:
        if part == b"..":
            raise Damaged(f"{shown}: `..` in the path {show(name)}, which could lead outside")
        if len(part) > limits.NAME_MAX:
            raise Damaged(f"{shown}: a name of {len(part)} bytes, {limits.NAME_MAX} is the most")
    return parts


# --- remembering -------------------------------------------------------------------------------


def _place(name: str, contents: Contents) -> Path:
    return contents.layers / f"{name.replace(':', '-')}.json"


def _dump(rows: Rows) -> dict[str, object]:
    return {
        "version": VERSION,
        "unpacked": rows.unpacked,
        "hidden": [[row.before, _text(row.path), row.is_opaque] for row in rows.hidden],
        "entries": [_dump_row(row) for row in rows.entries],
    }


def _text(path: tuple[bytes, ...]) -> str:
    return os.fsdecode(b"/".join(path))


def _parts(text: str) -> tuple[bytes, ...]:
    return tuple(os.fsencode(text).split(b"/")) if text else ()


def _dump_row(row: Row) -> list[object]:
    xattrs = None
    if row.xattrs:
        pairs = sorted(row.xattrs.items())
        xattrs = [[os.fsdecode(key), base64.b64encode(value).decode()] for key, value in pairs]
    attributes = [row.mode, row.uid, row.gid, row.mtime_ns, row.size]
    return [
        _text(row.path),
        *attributes,
        os.fsdecode(row.target),
        row.rdev,
        row.content,
        xattrs,
    ]


def _load(name: str, contents: Contents) -> Rows | None:
    """What was remembered of a layer; None when it is not known or a content is missing."""
    try:
        raw: Any = json.loads(_place(name, contents).read_bytes())
        if raw["version"] != VERSION:
            return None
        rows = Rows([_load_row(row) for row in raw["entries"]], unpacked=int(raw["unpacked"]))
        rows.hidden = [Hidden(at, _parts(text), opaque) for at, text, opaque in raw["hidden"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    for row in rows.entries:
        if row.content and contents.facts(row.content, row.size) is None:
            return None
    return rows


def _load_row(raw: Any) -> Row:
    path, mode, uid, gid, mtime_ns, size, target, rdev, content, xattrs = raw
    return Row(
        _parts(path),
        mode,
        uid,
        gid,
        mtime_ns,
        size,
        os.fsencode(target),
        rdev,
        content,
        {os.fsencode(k): base64.b64decode(v) for k, v in xattrs} if xattrs else None,
    )
