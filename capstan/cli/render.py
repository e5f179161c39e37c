# SPDX-License-Identifier: BSD-2-Clause
"""Listings: `--format table`, `json`, or a template such as `{{.Name}} {{.Tag}}`.

A row is a mapping from keys to values; the keys are those of the JSON form. In a template
`{{.name}}` stands for a value (case and `_` do not count, `{{.config.argv}}` goes down),
`{{json .}}` and `{{json .name}}` for its JSON, `\\n` and `\\t` for line feed and tab.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeVar

import click

from capstan.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
Row = Mapping[str, object]
Cell = Callable[[str, object], str]

_FIELD = re.compile(r"\{\{\s*(json\s+)?\.([A-Za-z0-9_.]*)\s*\}\}")
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


def format_option(command: F) -> F:
    """`--format table|json|TEMPLATE`."""
    text = "Print a table (default), json, or a template such as '{{.name}}'."
    option = click.option("--format", "layout", metavar="FORMAT", default="table", help=text)
    return option(command)


def show(
    rows: Sequence[Row],
    columns: Sequence[str],
    layout: str,
    *,
    cell: Cell | None = None,
) -> None:
    """Print `rows` on stdout as `layout` says.

    `columns` are the keys a table shows; `cell` turns a value into its text in a table.

    Raises:
        UsageError: `layout` is none of the three, or names a key no row has.
    """
    if layout == "table":
        _table(rows, columns, cell or (lambda _key, value: plain(value)))
    elif layout == "json":
        click.echo(json.dumps([dict(row) for row in rows], indent=1, default=str))
    else:
        parts = parse_template(layout)
        for row in rows:
            click.echo(fill(parts, row))


def show_one(row: Row, layout: str) -> None:
    """Print one record: as JSON unless `layout` is a template."""
    if layout in ("table", "json"):
        click.echo(json.dumps(dict(row), indent=1, default=str))
    else:
        click.echo(fill(parse_template(layout), row))


def parse_template(layout: str) -> list[str | tuple[bool, tuple[str, ...]]]:
    """The template's texts and fields; a field is (as JSON?, its path).

    Raises:
        UsageError: not a template.
    """
    parts: list[str | tuple[bool, tuple[str, ...]]] = []
    end = 0
    for found in _FIELD.finditer(layout):
        parts.append(_text(layout[end : found.start()]))
        path = tuple(part for part in found[2].lower().split(".") if part)
        parts.append((bool(found[1]), path))
        end = found.end()
    parts.append(_text(layout[end:]))
    if len(parts) == 1 or any(isinstance(part, str) and "{{" in part for part in parts):
        raise UsageError(
            f"--format {layout!r} is no format", hint="table, json, or a template: '{{.name}}'"
        )
    return parts


def fill(parts: Sequence[str | tuple[bool, tuple[str, ...]]], row: Row) -> str:
    """The line a template makes of `row`.

    Raises:
        UsageError: a field the row does not have.
    """
    line = ""
    for part in parts:
        if isinstance(part, str):
            line += part
            continue
        as_json, path = part
        value = _field(row, path)
        line += json.dumps(value, default=str) if as_json else plain(value)
    return line


def plain(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value, default=str)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value)
    return str(value)


def short_command(argv: Sequence[str]) -> str:
    """A command line as listings show it: without the program's directory."""
    return shlex.join([PurePath(argv[0]).name, *argv[1:]])


def _field(row: Row, path: Sequence[str]) -> object:
    value: object = dict(row)
    for key in path:
        keys = {_bare(str(k)): k for k in value} if isinstance(value, Mapping) else {}
        if _bare(key) not in keys:
            known = ", ".join(str(k) for k in row)
            raise UsageError(
                f"--format: there is no field .{'.'.join(path)}", hint=f"one of {known}"
            )
        assert isinstance(value, Mapping)
        value = value[keys[_bare(key)]]
    return value


def _bare(key: str) -> str:
    """A key as it is compared: `RepoDigests` means `repo_digests`."""
    return key.lower().replace("_", "")


def _text(text: str) -> str:
    return re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], text)


def _table(rows: Sequence[Row], columns: Sequence[str], cell: Cell) -> None:
    lines = [tuple(key.replace("_", " ").upper() for key in columns)]
    lines += [tuple(_printable(cell(key, row.get(key))) for key in columns) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        text = "  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True))
        click.echo(text.rstrip())


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
