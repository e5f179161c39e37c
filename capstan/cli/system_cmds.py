# SPDX-License-Identifier: BSD-2-Clause
"""`capstan system`: what takes room, what can go, what is damaged."""

from __future__ import annotations

import dataclasses
import sys
import time

import click

from capstan import ui
from capstan.cli import render
from capstan.errors import ImageError

PRUNE_TEXT = "Remove images without a name, kernels of no image and leftovers"
PRUNE_ALL = "Remove ALL images no instance uses, and everything that can be made again"


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
    rows = [dataclasses.asdict(row) for row in upkeep.usage(store)]
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
    """Remove what is not needed: images without a name, kernels of no image, leftovers.

    With --all also the images with names that no instance uses, and all linked files.
    """
    from capstan import upkeep
    from capstan.cli.image_cmds import show_removed
    from capstan.store import Store

    if not yes and sys.stdin.isatty():
        click.confirm(f"{PRUNE_ALL if everything else PRUNE_TEXT}?", abort=True, err=True)
    done = upkeep.prune(Store(), everything=everything)
    for removed in done.images:
        show_removed(removed)
    click.echo(f"Total reclaimed space: {ui.size(done.size)}")


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
        raise ImageError(f"{len(findings)} things are wrong in {store.root}")
    ui.say(f"{store.root}: {len(store.digests())} images, {time.monotonic() - start:.1f} s: good")


def _cell(key: str, value: object) -> str:
    if key in ("size", "reclaimable"):
        return ui.size(int(str(value)))
    return render.plain(value)[:12] if key == "id" else render.plain(value)
