# SPDX-License-Identifier: BSD-2-Clause
"""`capstan syscalls`."""

from __future__ import annotations

import dataclasses

import click

from capstan import syscalls as table
from capstan import ui
from capstan.cli import render
from capstan.errors import UsageError


@click.command("syscalls", short_help="List the system calls the guest serves.")
@click.option(
    "--format",
    "layout",
    metavar="FORMAT",
    default="table",
    help="Print a table (default), json, markdown, or a template such as '{{.name}}'.",
)
@click.option(
    "--level",
    "levels",
    type=click.Choice([level.value for level in table.Level]),
    multiple=True,
    help="Only calls of this level. May be repeated.",
)
@click.argument("names", metavar="[NAME...]", nargs=-1)
def syscalls(layout: str, levels: tuple[str, ...], names: tuple[str, ...]) -> None:
    """List the system calls of x86-64 Linux and how much of each the guest serves.

    full: as on Linux; partial: less what the note says; noop: accepted, without effect; absent:
    ENOSYS. With NAMEs (or numbers) only those.
    """
    rows = select(table.load(), levels, names)
    if layout == "json":
        click.echo(table.as_json(rows), nl=False)
    elif layout == "markdown":
        click.echo(table.as_markdown(rows), nl=False)
    elif layout != "table":
        records = [{**dataclasses.asdict(row), "level": row.level.value} for row in rows]
        render.show(records, (), layout)
    else:
        width = max((len(row.name) for row in rows), default=4)
        click.echo(f"{'NR':>3}  {'NAME':{width}}  LEVEL    NOTE")
        for row in rows:
            line = f"{row.number:3}  {row.name:{width}}  {row.level.value:7}  {row.note}"
            click.echo(line.rstrip())
        ui.say(table.summary(rows) or "none")


def select(
    rows: tuple[table.Syscall, ...], levels: tuple[str, ...], names: tuple[str, ...]
) -> list[table.Syscall]:
    """The rows of these levels and names; empty means all.

    Raises:
        UsageError: a name that no call has.
    """
    known = {key for row in rows for key in (row.name, str(row.number))}
    for name in names:
        if name not in known:
            raise UsageError(f"x86-64 Linux has no system call {name}")
    return [
        row
        for row in rows
        if (not levels or row.level.value in levels)
        and (not names or row.name in names or str(row.number) in names)
    ]
