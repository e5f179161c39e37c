# SPDX-License-Identifier: BSD-2-Clause
"""`capstan system`: what takes room, what can go, what is damaged."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from typing import TYPE_CHECKING

import click

from capstan import ui
from capstan.cli import render
from capstan.errors import ImageError

if TYPE_CHECKING:
    from capstan import upkeep
    from capstan.store import Store

PRUNE_TEXT = "Remove instances that ended, images without a name and leftovers"
PRUNE_ALL = "Remove instances that ended and ALL images that no other instance uses"


@click.group()
def system() -> None:
    """Look after the local store."""


@system.command()
@render.format_option
@click.option("-v", "--verbose", is_flag=True, help="Show every image.")
def df(layout: str, verbose: bool) -> None:
    """Show what takes room in the store, and how much of it can go."""
    from capstan import upkeep
    from capstan.store import Store

    store = Store()
    rows = [dataclasses.asdict(row) for row in (*upkeep.usage(store), _instances(store))]
    columns = ("kind", "total", "active", "size", "reclaimable")
    render.show(rows, columns, layout, cell=_cell)
    if verbose:
        known = store.all_names()
        rows = [
            {
                "id": digest,
                "names": [str(name) for name in known.get(digest, ())],
                "size": upkeep.disk_usage(store.objects / digest),
                "used_by": list(store.owners(digest)),
            }
            for digest in store.digests()
        ]
        click.echo()
        render.show(rows, ("id", "names", "size", "used_by"), layout, cell=_cell)


@system.command()
@click.option("-a", "--all", "everything", is_flag=True, help="All images no instance uses, too.")
@click.option("-f", "--force", "-y", "--yes", "yes", is_flag=True, help="Do not ask.")
def prune(everything: bool, yes: bool) -> None:
    """Remove what is not needed: instances that ended, images without a name, leftovers.

    With --all also the images with names that no instance uses, and what can be made or fetched
    again: linked files, unpacked images and layers.
    """
    from capstan import upkeep
    from capstan.cli.image_cmds import show_removed
    from capstan.store import Store

    if not yes and sys.stdin.isatty():
        click.confirm(f"{PRUNE_ALL if everything else PRUNE_TEXT}?", abort=True, err=True)
    store = Store()
    freed = _prune_instances(store)
    done = upkeep.prune(store, everything=everything)
    for removed in done.images:
        show_removed(removed)
    click.echo(f"Total reclaimed space: {ui.size(done.size + freed)}")


@system.command()
@render.format_option
@click.option("--deep", is_flag=True, help="Read every byte of every image.")
def check(layout: str, deep: bool) -> None:
    """Look for damage in the store; the status is 125 when there is any."""
    from capstan import upkeep
    from capstan.store import Store

    start = time.monotonic()
    store = Store()
    findings = upkeep.check(store, deep=deep)
    if findings or layout != "table":
        rows = [dataclasses.asdict(finding) for finding in findings]
        render.show(rows, ("what", "problem", "hint"), layout)
    if findings:
        many = "1 thing is" if len(findings) == 1 else f"{len(findings)} things are"
        raise ImageError(f"{many} wrong in {store.root}")
    ui.say(f"{store.root}: {len(store.digests())} images, {time.monotonic() - start:.1f} s: good")


def _instances(store: Store) -> upkeep.Usage:
    """What instances take; those that ended can go."""
    from capstan import upkeep
    from capstan.run.instances import Instances

    every = Instances(store.root).list()
    sizes = {instance.id: upkeep.disk_usage(instance.folder.path) for instance in every}
    active = [instance.id for instance in every if instance.is_active]
    free = sum(size for name, size in sizes.items() if name not in active)
    return upkeep.Usage("instances", len(every), len(active), sum(sizes.values()), free)


def _prune_instances(store: Store) -> int:
    """Remove the instances that ended, as Docker does; the bytes that are free now."""
    from capstan import upkeep
    from capstan.errors import CapstanError
    from capstan.run.instances import Instances

    freed = 0
    for instance in Instances(store.root).list():
        size = upkeep.disk_usage(instance.folder.path)
        with contextlib.suppress(CapstanError):  # it was started or removed a moment ago
            if not instance.is_active:
                name = instance.name
                instance.remove()
                click.echo(f"Removed: {name}")
                freed += size
    return freed


def _cell(key: str, value: object) -> str:
    if key in ("size", "reclaimable"):
        return ui.size(int(str(value)))
    return render.plain(value)[:12] if key == "id" else render.plain(value)
