# SPDX-License-Identifier: BSD-2-Clause
"""`capstan help`."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from capstan.errors import UsageError


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The commands, and those in the group that was begun."""
    words = ctx.params.get("words") or ()
    assert isinstance(words, tuple)
    try:
        found = find(ctx.find_root(), words)
    except UsageError:
        return []
    if not isinstance(found.command, click.Group):
        return []
    return [
        item
        for item in found.command.shell_complete(found, incomplete)
        if not item.value.startswith("-")
    ]


@click.command("help", short_help="Show the help of a command.")
@click.argument("words", metavar="[COMMAND]...", nargs=-1, shell_complete=_complete)
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command: the same as `capstan COMMAND --help`."""
    click.echo(find(ctx.find_root(), words).get_help())


def find(ctx: click.Context, words: tuple[str, ...]) -> click.Context:
    """The context of the command that `words` name.

    Raises:
        UsageError: there is none.
    """
    for done, word in enumerate(words):
        group = ctx.command
        command = group.get_command(ctx, word) if isinstance(group, click.Group) else None
        if command is None:
            path = " ".join(("capstan", *words[: done + 1]))
            raise UsageError(f"there is no command `{path}`", hint="`capstan help` lists them")
        ctx = click.Context(command, info_name=word, parent=ctx)
    return ctx
