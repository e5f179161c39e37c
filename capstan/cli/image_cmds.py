# SPDX-License-Identifier: BSD-2-Clause
"""`capstan images`, `inspect` and `rmi`."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path

import click

from capstan import ui
from capstan.cli.options import format_option
from capstan.errors import UsageError
from capstan.store import Store, StoredImage, read_manifest

COLUMNS = ("NAME", "TAG", "ID", "CREATED", "SIZE", "COMMAND")


@click.command()
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
def images(layout: str, quiet: bool) -> None:
    """List the images of the local store."""
    stored = Store().list()
    if quiet:
        for image in stored:
            click.echo(str(image.ref))
    elif layout == "json":
        click.echo(json.dumps([_record(image) for image in stored], indent=1))
    else:
        _table([_row(image) for image in stored])


@click.command()
@click.argument("image")
def inspect(image: str) -> None:
    """Show the manifest of IMAGE (a name, or a path to a disk file) as JSON."""
    if "/" in image and Path(image).is_file():
        record: dict[str, object] = {"disk": image}
        record |= dataclasses.asdict(read_manifest(Path(image)))
    else:
        record = _record(Store().open(image))
    click.echo(json.dumps(record, indent=1))


@click.command()
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rmi(names: tuple[str, ...], yes: bool) -> None:
    """Remove images from the local store."""
    store = Store()
    refs = [str(store.open(name).ref) for name in names]
    if not yes and not sys.stdin.isatty():
        raise UsageError("rmi asks before it removes", hint="add --yes")
    if not yes:
        click.confirm(f"Remove {', '.join(refs)}?", abort=True, err=True)
    for name in refs:
        store.remove(name)
        click.echo(name)


def _record(image: StoredImage) -> dict[str, object]:
    assert image.ref is not None
    return {
        "name": image.ref.name,
        "tag": image.ref.tag,
        "id": image.digest,
        "disk": str(image.disk),
        "disk_usage": image.disk.stat().st_blocks * 512,
        "manifest": dataclasses.asdict(image.manifest),
    }


def _row(image: StoredImage) -> tuple[str, ...]:
    assert image.ref is not None
    created = time.strftime("%Y-%m-%d", time.gmtime(image.manifest.created))
    size = ui.size(image.disk.stat().st_blocks * 512)
    program, *args = image.manifest.config.argv
    command = shlex.join([Path(program).name, *args])
    command = "".join(c if c.isprintable() else "?" for c in command)
    short = command if len(command) <= 40 else command[:39] + "…"
    return image.ref.name, image.ref.tag, image.digest[:12], created, size, short


def _table(rows: list[tuple[str, ...]]) -> None:
    rows = [COLUMNS, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
