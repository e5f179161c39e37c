# SPDX-License-Identifier: BSD-2-Clause
"""`capstan inspect`: everything that is known about one thing, as JSON.

`FINDERS` is the place for further kinds of things: what a name stands for is looked up in its
order.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from capstan.cli import render
from capstan.cli.image_cmds import image_record
from capstan.errors import CapstanError
from capstan.store import Store, read_manifest

Record = Mapping[str, object]
FORMAT_HELP = "JSON (default), or a template such as '{{.id}}'."


def find_image(name: str) -> Record | None:
    """An image of the store, or a disk file."""
    if "/" in name and Path(name).is_file():
        return {"disk": name, **dataclasses.asdict(read_manifest(Path(name)))}
    store = Store()
    image = store.find(name)
    if image is None:
        return None
    record = image_record(image)
    record["names"] = [str(parsed) for parsed in store.names(image.digest)]
    record["used_by"] = list(store.owners(image.digest))
    return record


def find_instance(name: str) -> Record | None:
    """An instance, by name or ID."""
    from capstan.cli.instance_rows import details, opened

    instance = opened().find(name)
    return None if instance is None else details(instance)


FINDERS: dict[str, Callable[[str], Record | None]] = {
    "instance": find_instance,
    "image": find_image,
}
"""kind -> what it finds under a name, None when there is nothing of that name"""


@click.command()
@click.option("-f", "--format", "layout", metavar="FORMAT", default="table", help=FORMAT_HELP)
@click.option("--type", "kind", type=click.Choice(list(FINDERS)), help="Only things of this kind.")
@click.argument("names", metavar="INSTANCE|IMAGE|FILE...", nargs=-1, required=True)
def inspect(layout: str, kind: str | None, names: tuple[str, ...]) -> None:
    """Show all that is known about instances and images, as JSON.

    NAME is the name or ID of an instance or an image, or a path to a disk file.

    One name gives a record, several give a list.
    """
    records = [_find(name, kind) for name in names]
    if len(records) == 1 or layout not in ("table", "json"):
        for record in records:
            render.show_one(record, layout)
    else:
        click.echo(json.dumps([dict(record) for record in records], indent=1, default=str))


def _find(name: str, kind: str | None) -> Record:
    for known, find in FINDERS.items():
        if kind in (None, known):
            record = find(name)
            if record is not None:
                return record
    kinds = kind or " or ".join(FINDERS)
    raise CapstanError(
        f"there is no {kinds} {name}", hint="`capstan ps -a` and `capstan images` list them"
    )
