# SPDX-License-Identifier: BSD-2-Clause
"""`capstan images`, `tag`, `rmi` and `history`, and the group `capstan image` with all of its kind.

An image without a name is one that `capstan run PROGRAM` built, or one whose name went to a newer
image; both go by themselves after a while.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from capstan import ref, ui, upkeep
from capstan.cli import render
from capstan.errors import CapstanError, UsageError
from capstan.store import Store, StoredImage

if TYPE_CHECKING:
    from capstan.store import Removed

FILTERS = ("reference", "dangling", "before", "since")
_COMMAND_MAX = 40


@click.command()
@render.format_option
@click.option("-a", "--all", "everything", is_flag=True, help="Also images without a name.")
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@click.option("--no-trunc", is_flag=True, help="Print whole IDs and commands.")
@click.option("--digests", is_flag=True, help="Show the digests registries know the images by.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help=f"Only some, by {', '.join(FILTERS)}.",
)
@click.argument("pattern", metavar="[NAME[:TAG]]", required=False)
def images(
    layout: str,
    everything: bool,
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    filters: tuple[str, ...],
    pattern: str | None,
) -> None:
    """List the images of the local store, or those whose name matches (* and ? allowed)."""
    wanted = [_parse_filter(text) for text in filters]
    wanted += [("reference", pattern)] if pattern is not None else []
    stored = _select(wanted, everything=everything)
    if quiet:
        ids = dict.fromkeys(_id(image.digest, no_trunc=no_trunc) for image in stored)
        click.echo("".join(f"{text}\n" for text in ids), nl=False)
        return
    columns = ["repository", "tag", *(["digest"] if digests else []), "id"]
    columns += ["created", "size", "command"]
    rows = [image_record(image) for image in stored]
    render.show(rows, columns, layout, cell=_cell(no_trunc=no_trunc))


@click.command()
@click.argument("image")
@click.argument("name", metavar="NAME[:TAG]")
def tag(image: str, name: str) -> None:
    """Give IMAGE another name, which may already be another image's."""
    target = ref.parse(name)
    if target.digest:
        raise UsageError(f"{name}: a digest cannot be given", hint="give a name and a tag")
    store = Store()
    store.label(store.open(image), target)


@click.command()
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Also with several names, or in use.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rmi(names: tuple[str, ...], force: bool, yes: bool) -> None:
    """Remove names, and the images that have no other.

    With an ID the image goes with its names (several need --force). What an instance uses stays.
    On a terminal it asks before it removes.
    """
    if not (yes or force) and sys.stdin.isatty():
        click.confirm(f"Remove {', '.join(names)}?", abort=True, err=True)
    failed = []
    for name in names:
        try:
            show_removed(Store().remove(name, force=force))
        except CapstanError as err:
            failed.append(err)
    for first in failed[:-1]:
        ui.error(f"capstan: {first.message}")
    if failed:
        raise failed[-1]


@click.command()
@render.format_option
@click.option("--no-trunc", is_flag=True, help="Print all of a long line.")
@click.argument("image")
def history(layout: str, no_trunc: bool, image: str) -> None:
    """Show what IMAGE was made of, the last step first."""
    stored = Store().open(image)
    rows = [dataclasses.asdict(step) for step in reversed(stored.manifest.history)]
    if not rows:
        ui.tell(f"{stored.title} was made by a capstan that kept no history")
    render.show(rows, ("kind", "detail", "files", "size"), layout, cell=_cell(no_trunc=no_trunc))


# --- shared with other commands ----------------------------------------------------------------


def image_record(image: StoredImage) -> dict[str, object]:
    """An image as JSON and templates show it."""
    name = image.ref
    digests = Store().repo_digests(image)
    own = [text for text in digests if name and text.startswith(f"{name.repository}@")]
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(image.manifest.created))
    return {
        "name": name.repository if name else "",
        "repository": name.repository if name else "",
        "tag": name.tag if name else "",
        "id": image.digest,
        "digest": (own or digests or [""])[-1].rpartition("@")[2],
        "repo_digests": list(digests),
        "created": created,
        "size": image.disk.stat().st_blocks * 512,
        "command": shlex.join(image.manifest.config.argv),
        "disk": str(image.disk),
        "disk_usage": image.disk.stat().st_blocks * 512,
        "manifest": dataclasses.asdict(image.manifest),
    }


def show_removed(removed: Removed) -> None:
    """Print what a removal did, as Docker does."""
    for name in removed.names:
        click.echo(f"Untagged: {name}")
    if removed.digest is not None:
        click.echo(f"Deleted: sha256:{removed.digest}")


# --- inside ------------------------------------------------------------------------------------


def _select(wanted: Sequence[tuple[str, str]], *, everything: bool) -> list[StoredImage]:
    """The images all filters let through; damaged ones are named on stderr."""
    unnamed = everything or any(key == "dangling" for key, _ in wanted)
    found, damaged = Store().scan(unnamed=unnamed)
    for err in damaged:
        ui.error(f"capstan: {err.message}; {err.hint}")
    kept = list(found)
    for key, value in wanted:
        if key == "reference":
            kept = [image for image in kept if _matches(image, value)]
        elif key == "dangling":
            kept = [image for image in kept if (image.ref is None) == (value == "true")]
        else:
            limit = Store().open(value).manifest.created
            sign = 1 if key == "since" else -1
            kept = [image for image in kept if (image.manifest.created - limit) * sign > 0]
    return kept


def _matches(image: StoredImage, pattern: str) -> bool:
    if image.ref is None:
        return False
    last = pattern.rpartition("/")[2]
    text = str(image.ref) if ":" in last or "@" in last else image.ref.repository
    return fnmatch.fnmatchcase(text, pattern)


def _parse_filter(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    good = key in FILTERS and value
    if not good or (key == "dangling" and value not in ("true", "false")):
        raise UsageError(
            f"--filter {text}: there is no such filter",
            hint="reference=PATTERN, dangling=true|false, before=IMAGE, since=IMAGE",
        )
    return key, value


def _id(digest: str, *, no_trunc: bool) -> str:
    return f"sha256:{digest}" if no_trunc else digest[:12]


def _cell(*, no_trunc: bool) -> render.Cell:
    def cell(key: str, value: object) -> str:
        text = render.plain(value)
        if key == "id":
            return _id(text, no_trunc=no_trunc)
        if key == "size":
            return ui.size(int(text))
        if key == "created":
            return text[:10]
        if key == "command":
            text = render.short_command(shlex.split(text)) if not no_trunc else text
        if key in ("repository", "tag", "digest"):
            return text or "<none>"
        short = len(text) <= _COMMAND_MAX or no_trunc
        return text if short else f"{text[: _COMMAND_MAX - 1]}…"

    return cell


# --- the group ---------------------------------------------------------------------------------


WORDS = {
    "ls": "images",
    "rm": "rmi",
    "build": "build",
    "history": "history",
    "inspect": "inspect",
    "load": "load",
    "pull": "pull",
    "push": "push",
    "save": "save",
    "tag": "tag",
}


class _ImageGroup(click.Group):
    """`capstan image ls` and its like: other names for commands of the top level."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The words, in the order of the table, whose commands there are."""
        from capstan.cli.main import COMMANDS

        return [*(word for word, name in WORDS.items() if name in COMMANDS), *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of the top level a word stands for."""
        from capstan.cli.main import cli

        assert isinstance(cli, click.Group)
        name = WORDS.get(cmd_name)
        return cli.get_command(ctx, name) if name is not None else self.commands.get(cmd_name)


@click.group("image", cls=_ImageGroup)
def image_group() -> None:
    """The commands for images once more, as `capstan image ls`, `rm`, `inspect`..."""


@image_group.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="All images no instance uses.")
@click.option("-f", "--force", "-y", "--yes", "yes", is_flag=True, help="Do not ask.")
def prune(everything: bool, yes: bool) -> None:
    """Remove images without a name; with --all also those with names that no instance uses."""
    what = "ALL images that no instance uses" if everything else "images without a name"
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove {what}?", abort=True, err=True)
    store = Store()
    before = sum(row.size for row in upkeep.usage(store))
    for removed in store.prune(named=everything):
        show_removed(removed)
    freed = before - sum(row.size for row in upkeep.usage(store))
    click.echo(f"Total reclaimed space: {ui.size(max(0, freed))}")
