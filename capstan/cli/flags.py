# SPDX-License-Identifier: BSD-2-Clause
"""The flags that every command takes, in front of its name and behind: -q, -v, --debug, --color.

`equip` adds them to a command and to those in it. A command that has a flag of the same name keeps
its own: `capstan images -q` prints names only. They are not in each command's help, only in that
of `capstan` itself, but they are completed like all others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from capstan import ui
from capstan.cli import complete
from capstan.errors import CapstanError, UsageError

F = TypeVar("F", bound=Callable[..., Any])

EPILOG = "-q, -v, --debug and --color are for every command: `capstan --help`."


class QuietInHelp(click.Option):
    """An option that a command's help does not list."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Nothing, below the top."""
        return super().get_help_record(ctx) if ctx.parent is None else None


def _quiet(_ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    if value:
        _set(ui.Level.QUIET)
    return ui.level() is ui.Level.QUIET


def _verbose(_ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    if value:
        _set(ui.Level.VERBOSE)
    return ui.level() >= ui.Level.VERBOSE


def _debug(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        _set(ui.Level.DEBUG)


def _set(wanted: ui.Level) -> None:
    levels = {wanted, ui.level()}
    if ui.Level.QUIET in levels and max(levels) >= ui.Level.VERBOSE:
        raise UsageError("-q goes with neither -v nor --debug", hint="give one of them")
    ui.set_level(max(wanted, ui.level()) if wanted is not ui.Level.QUIET else wanted)


def _color(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if (value is not None or ctx.parent is None) and not ctx.resilient_parsing:
        ctx.color = wants_color(value)
        ui.set_color(ctx.color)


def wants_color(given: str | None) -> bool | None:
    """Whether output is coloured; None: when it goes to a terminal.

    NO_COLOR counts as a variable does: more than the files, less than CAPSTAN_COLOR.
    """
    from capstan import settings

    try:
        found = settings.lookup("color", given)
    except CapstanError:  # a command that needs settings says so, others work without
        return None
    of_caller = found.origin in (settings.Origin.FLAG, settings.Origin.ENVIRONMENT)
    if os.environ.get("NO_COLOR") and not of_caller:
        return False
    return {"always": True, "never": False}.get(str(found.value))


def _options() -> list[click.Option]:
    eager: dict[str, Any] = {"expose_value": False, "is_eager": True}
    flag: dict[str, Any] = {**eager, "is_flag": True}
    return [
        QuietInHelp(["-q", "--quiet"], **flag, callback=_quiet, help=QUIET_HELP),
        QuietInHelp(["-v", "--verbose"], **flag, callback=_verbose, help="Say more."),
        QuietInHelp(["--debug"], **flag, callback=_debug, help="Show where a failure happened."),
        QuietInHelp(
            ["--color"],
            **eager,
            callback=_color,
            type=click.Choice(["auto", "always", "never"]),
            help="Colour the output (auto: on a terminal, unless NO_COLOR is set).",
        ),
    ]


QUIET_HELP = "Print only errors and results."


def quiet_option(command: F) -> F:
    """`-q` as a parameter of the command: also true when it stands in front."""
    return click.option("-q", "--quiet", is_flag=True, callback=_quiet, help=QUIET_HELP)(command)


def verbose_option(text: str) -> Callable[[F], F]:
    """`-v` as a parameter of the command, for one that has more to show; `text` is its help."""
    return click.option("-v", "--verbose", is_flag=True, callback=_verbose, help=text)


def equip(command: click.Command) -> click.Command:
    """Give `command`, and the commands in it, the flags it does not have; gives it back."""
    if any(isinstance(param, QuietInHelp) for param in command.params):
        return command
    taken = {text for param in command.params for text in (*param.opts, *param.secondary_opts)}
    for option in _options():
        option.opts = [text for text in option.opts if text not in taken]
        if option.name not in {param.name for param in command.params} and option.opts:
            command.params.append(option)
    complete.attach(command)
    command.epilog = command.epilog or EPILOG
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            equip(inner)
    return command
