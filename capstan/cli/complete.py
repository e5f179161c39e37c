# SPDX-License-Identifier: BSD-2-Clause
"""What the shells complete that is not in the command line's own tables: names of images, settings.

Each function is a click `shell_complete=`: it answers within what a person waits for, and with
nothing rather than with an error. `attach` finds the parameters of a command that take such names
by what its help calls them, so a command need not say it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from capstan.errors import CapstanError

Items = list[CompletionItem[str]]


def settings_keys(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """The settings."""
    from capstan import settings

    return [
        CompletionItem(row.key, help=row.help)
        for row in settings.TABLE
        if row.key.startswith(incomplete)
    ]


def settings_values(ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """The values of the setting the command names, when they are few."""
    from capstan import settings

    try:
        row = settings.row(str(ctx.params.get("key")))
    except CapstanError:
        return []
    if row.kind is settings.PATH:
        return files(ctx, _param, incomplete)
    return starting(row.kind.choices, incomplete)


def images(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """The images of the local store; `:latest` is left out unless it has been begun."""
    from capstan.store import Store

    try:
        found = Store().all_names()
    except (CapstanError, OSError):
        return []
    names = dict.fromkeys(sorted(str(ref) for refs in found.values() for ref in refs))
    short = dict.fromkeys(name.removesuffix(":latest") for name in names)
    return starting(short if ":" not in incomplete else names, incomplete)


def images_or_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """The images of the local store, and files."""
    found = [] if incomplete.startswith((".", "/", "~")) else images(ctx, param, incomplete)
    return [*found, CompletionItem(incomplete, type="file")]


def instances(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """The instances, running or not, by name."""
    from capstan import paths
    from capstan.run.records import Places

    try:
        found = Places(paths.data_root()).all_names()
    except (CapstanError, OSError):
        return []
    return starting(sorted(found.values()), incomplete)


def things(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Whatever a name can stand for: an instance, an image, a file."""
    found = instances(ctx, param, incomplete)
    return [*found, *images_or_files(ctx, param, incomplete)]


def starting(words: Iterable[str], incomplete: str) -> Items:
    """The words that begin so."""
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Files."""
    return [CompletionItem(incomplete, type="file")]


def attach(command: click.Command) -> None:
    """Complete the parameters of `command` that take names of images, instances or files."""
    for param in command.params:
        own = param._custom_shell_complete is not None or isinstance(param.type, click.Choice)
        if not own:
            words = set(re.findall(r"[A-Z_]+", param.metavar or (param.name or "").upper()))
            param._custom_shell_complete = _named(words)


def _named(words: set[str]) -> Callable[[click.Context, click.Parameter, str], Items] | None:
    """What completes a parameter that the help calls so: `IMAGE|FILE...`, `NAME[:TAG]`."""
    has_files = bool(words & {"PATH", "PROGRAM", "DIR", "FILE", "CAPSTANFILE"})
    if {"IMAGE", "INSTANCE"} <= words:
        return things
    if "IMAGE" in words:
        return images_or_files if has_files else images
    if "INSTANCE" in words:
        return instances
    if words == {"NAME", "TAG"}:
        return images
    return files if has_files else None
