# SPDX-License-Identifier: BSD-2-Clause
"""`capstan`: finds the command, runs it, and turns every failure into a message and an exit status.

Commands are loaded when they are called, so `capstan --help` loads none of them. This is the only
place that catches `CapstanError`; a traceback appears only with `--debug`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from capstan import __version__, ui
from capstan.errors import EXIT_TOOL, CapstanError

COMMANDS: dict[str, tuple[str, str]] = {
    "build": ("capstan.cli.build_cmds:build", "Make an image from a program or a Capstanfile."),
    "run": ("capstan.cli.run_cmds:run", "Run an image, a program or a Capstanfile."),
    "check": ("capstan.cli.check_cmd:check", "Say what an image lacks, before it is started."),
    "images": ("capstan.cli.image_cmds:images", "List the images of the local store."),
    "inspect": ("capstan.cli.inspect_cmd:inspect", "Show all that is known about an image."),
    "history": ("capstan.cli.image_cmds:history", "Show what an image was made of."),
    "tag": ("capstan.cli.image_cmds:tag", "Give an image another name."),
    "rmi": ("capstan.cli.image_cmds:rmi", "Remove images from the local store."),
    "save": ("capstan.cli.archive_cmds:save", "Write images to a tar archive."),
    "load": ("capstan.cli.archive_cmds:load", "Read images from a tar archive."),
    "export": ("capstan.cli.archive_cmds:export", "Write an image as a disk or tar of its files."),
    "image": ("capstan.cli.image_cmds:image_group", "The commands for images once more."),
    "system": ("capstan.cli.system_cmds:system", "Show, clean and check the local store."),
    "sdk": ("capstan.cli.sdk_cmd:sdk", "Show how to compile with libcapstan."),
    "syscalls": (
        "capstan.cli.syscalls_cmd:syscalls",
        "List the system calls the guest serves.",
    ),
    "doctor": ("capstan.cli.doctor:doctor", "Check that this machine can build and run images."),
}
"""name -> (module:attribute, first line of its help)"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as err:
            if err.name != module:
                raise
            raise CapstanError(f"this capstan has no command {cmd_name}") from err
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command `args` begin with, or an error that names a close one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean `capstan {close[0]}`?" if close else "`capstan --help` lists them"
            raise CapstanError(f"there is no command {args[0]}", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="capstan %(version)s")
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
def cli(debug: bool) -> None:
    """Run unmodified Linux programs as small virtual machines."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `argv` and exit with its status."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        status = cli.main(args, prog_name="capstan", standalone_mode=False)
        sys.stdout.flush()
    except Exception as err:
        if "--debug" in _leading(args):
            raise
        status = _report(err)
    except KeyboardInterrupt:
        status = 130
    sys.exit(status if isinstance(status, int) else 0)


def _leading(args: Sequence[str]) -> list[str]:
    """The options in front of the command."""
    leading = []
    for arg in args:
        if not arg.startswith("-"):
            break
        leading.append(arg)
    return leading


def _report(err: Exception) -> int:
    """Say what failed; the exit status."""
    if isinstance(err, CapstanError):
        _error(err.message, err.hint)
        return err.exit_code
    if isinstance(err, click.exceptions.Exit):
        return err.exit_code
    if isinstance(err, click.Abort):
        return 130
    if isinstance(err, click.ClickException):
        ctx = getattr(err, "ctx", None)
        command = ctx.command_path if ctx is not None else "capstan"
        _error(err.format_message().rstrip("."), f"`{command} --help` shows how to use it")
        return EXIT_TOOL
    if isinstance(err, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + 13
    _unexpected(err)
    return EXIT_TOOL


def _unexpected(err: Exception) -> None:
    if isinstance(err, OSError) and err.errno:
        where = f"{os.fsdecode(err.filename)}: " if err.filename is not None else ""
        _error(f"{where}{os.strerror(err.errno)}", "`capstan --debug ...` shows where it happened")
    else:
        _error(
            f"internal error: {err!r}", "run `capstan --debug ...` again and report the traceback"
        )


def _error(message: str, hint: str | None) -> None:
    ui.say(f"capstan: {message}")
    if hint:
        ui.say(f"  hint: {hint}")
