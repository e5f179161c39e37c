# SPDX-License-Identifier: BSD-2-Clause
"""`capstan`: finds the command, runs it, and turns every failure into a message and an exit status.

Commands are loaded when they are called, so `capstan --help` loads none of them, and TAB loads the
one it is about. This is the only place that catches `CapstanError`; a traceback appears only with
`--debug`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from capstan import __version__, ui
from capstan.cli import flags
from capstan.errors import EXIT_TOOL, CapstanError

COMPLETE = "_CAPSTAN_COMPLETE"
"""The variable through which a shell asks what to complete."""

COMMANDS: dict[str, tuple[str, str]] = {
    "build": ("capstan.cli.build_cmds:build", "Make an image from a program or a Capstanfile."),
    "run": ("capstan.cli.run_cmds:run", "Run an image, a program or a Capstanfile."),
    "create": ("capstan.cli.run_cmds:create", "Make an instance without starting it."),
    "ps": ("capstan.cli.instance_cmds:ps", "List instances."),
    "logs": ("capstan.cli.watch_cmds:logs_command", "Show the output of an instance."),
    "start": ("capstan.cli.instance_cmds:start", "Start instances that do not run."),
    "stop": ("capstan.cli.instance_cmds:stop", "Stop instances."),
    "restart": ("capstan.cli.instance_cmds:restart", "Stop instances and start them again."),
    "kill": ("capstan.cli.instance_cmds:kill", "Send a signal to instances."),
    "pause": ("capstan.cli.instance_cmds:pause", "Stop the CPUs of instances."),
    "unpause": ("capstan.cli.instance_cmds:unpause", "Let paused instances go on."),
    "wait": ("capstan.cli.instance_cmds:wait", "Wait for the end of instances."),
    "attach": ("capstan.cli.watch_cmds:attach", "Show the output of an instance from now on."),
    "stats": ("capstan.cli.watch_cmds:stats", "Show what instances use of the host."),
    "top": ("capstan.cli.watch_cmds:top", "Show the threads in an instance."),
    "port": ("capstan.cli.instance_cmds:port", "Show the published ports of an instance."),
    "rename": ("capstan.cli.instance_cmds:rename", "Give an instance another name."),
    "rm": ("capstan.cli.instance_cmds:rm", "Remove instances."),
    "events": ("capstan.cli.watch_cmds:events", "Show what happens to instances."),
    "instances": ("capstan.cli.instance_cmds:instances", "List all instances (ps -a)."),
    "delete": ("capstan.cli.instance_cmds:rm", "Remove instances (rm)."),
    "info": ("capstan.cli.info_cmd:info", "Say what a file or an image is."),
    "check": ("capstan.cli.check_cmd:check", "Say what an image lacks, before it is started."),
    "images": ("capstan.cli.image_cmds:images", "List the images of the local store."),
    "inspect": (
        "capstan.cli.inspect_cmd:inspect",
        "Show all that is known about an instance or image.",
    ),
    "history": ("capstan.cli.image_cmds:history", "Show what an image was made of."),
    "tag": ("capstan.cli.image_cmds:tag", "Give an image another name."),
    "rmi": ("capstan.cli.image_cmds:rmi", "Remove images from the local store."),
    "save": ("capstan.cli.archive_cmds:save", "Write images to a tar archive."),
    "load": ("capstan.cli.archive_cmds:load", "Read images from a tar archive."),
    "export": ("capstan.cli.archive_cmds:export", "Write an image as a disk or tar of its files."),
    "image": ("capstan.cli.image_cmds:image_group", "The commands for images once more."),
    "system": ("capstan.cli.system_cmds:system", "Show, clean and check the local store."),
    "pull": ("capstan.cli.repo_cmds:pull", "Bring images from a registry into the local store."),
    "push": ("capstan.cli.repo_cmds:push", "Put an image into a registry."),
    "search": ("capstan.cli.repo_cmds:search", "List the images of a registry's index."),
    "login": ("capstan.cli.repo_cmds:login", "Keep name and password for a registry."),
    "logout": ("capstan.cli.repo_cmds:logout", "Forget name and password for a registry."),
    "key": ("capstan.cli.key_cmds:key", "Make keys that images are signed with."),
    "compose": (
        "capstan.cli.compose_cmds:compose",
        "Run several machines from a Compose file.",
    ),
    "sdk": ("capstan.cli.sdk_cmd:sdk", "Show how to compile with libcapstan."),
    "syscalls": (
        "capstan.cli.syscalls_cmd:syscalls",
        "List the system calls the guest serves.",
    ),
    "doctor": ("capstan.cli.doctor:doctor", "Check that this machine can build and run images."),
    "config": ("capstan.cli.config_cmds:config", "Show and change settings."),
    "completion": ("capstan.cli.completion_cmd:completion", "Print what a shell's TAB needs."),
    "version": ("capstan.cli.version_cmd:version", "Show the versions of capstan and its parts."),
    "help": ("capstan.cli.help_cmd:help_", "Show the help of a command."),
}
"""name -> (module:attribute, first line of its help)"""

SECTIONS = {
    "Images": "build check images inspect history tag rmi save load export image",
    "Instances": (
        "run create ps logs attach start stop restart kill pause unpause wait rm rename port top "
        "stats events where"
    ),
    "Registry": "pull push search login logout key",
    "Several together": "compose",
    "This machine": "system config doctor syscalls sdk completion version help",
    "Names of the first Capstan": "instances info delete",
}
"""The order of `capstan --help`; a command in none of them comes last."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the sections."""
        return [name for names in sections().values() for name in names]

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
        return flags.equip(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command `args` begin with, or an error that names a close one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            if ctx.resilient_parsing:
                return None, None, args
            raise unknown(args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        width = max(map(len, COMMANDS))
        for title, names in sections().items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), COMMANDS[name][1]) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """The commands or options that begin so, without importing any."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        names = (name for name in self.list_commands(ctx) if name.startswith(incomplete))
        return [CompletionItem(name, help=COMMANDS[name][1]) for name in names]


def sections() -> dict[str, tuple[str, ...]]:
    """The sections of the help with the commands there are; none is left out."""
    every = {title: names.split() for title, names in SECTIONS.items()}
    placed = {name for names in every.values() for name in names}
    every["Others"] = [name for name in COMMANDS if name not in placed]
    found = {t: tuple(name for name in names if name in COMMANDS) for t, names in every.items()}
    return {title: names for title, names in found.items() if names}


def unknown(name: str) -> CapstanError:
    """The error for a command that is not there."""
    import difflib

    close = difflib.get_close_matches(name, COMMANDS, 1)
    hint = f"did you mean `capstan {close[0]}`?" if close else "`capstan --help` lists them"
    return CapstanError(f"there is no command {name}", hint=hint)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`capstan COMMAND --help` and `man capstan-COMMAND` say more of each.",
)
@click.version_option(__version__, message="capstan %(version)s")
def cli() -> None:
    """Run unmodified Linux programs as small virtual machines."""


flags.equip(cli)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line `argv` and exit with its status."""
    args = list(sys.argv[1:] if argv is None else argv)
    ui.set_level(ui.Level.NORMAL)
    _open_streams()
    if asked := os.environ.get(COMPLETE):
        from capstan.cli import completion_cmd

        sys.exit(completion_cmd.answer(asked))
    try:
        status = _run(args)
    except Exception as err:
        if ui.level() is ui.Level.DEBUG:
            _trace(err)
        status = _report(err)
    except KeyboardInterrupt:
        status = 130
    _drain_streams()
    sys.exit(status)


def _drain_streams() -> None:
    """Empty stdout and stderr; the interpreter would try again at its end, and end with 120."""
    for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def _run(args: list[str]) -> int:
    """Run a command; its exit status. `cli.main` is not used: it makes a closed pipe status 1."""
    status: object = 0
    try:
        with cli.make_context("capstan", args) as ctx:
            status = cli.invoke(ctx)
    except click.exceptions.Exit as end:
        status = end.exit_code
    if sys.stdout is not None:
        sys.stdout.flush()
    return status if isinstance(status, int) else 0


def _open_streams() -> None:
    """Open what of stdin, stdout and stderr is closed: a file must not become one of them."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _trace(err: Exception) -> None:
    """Print where `err` was raised, when that is news."""
    if not isinstance(err, (click.ClickException, click.exceptions.Exit, click.Abort)):
        import traceback

        ui.error("".join(traceback.format_exception(err)).rstrip())


def _report(err: Exception) -> int:
    """Say what failed; the exit status."""
    if isinstance(err, CapstanError):
        _error(err.message, err.hint)
        return err.exit_code
    if isinstance(err, click.Abort):
        return 130
    if isinstance(err, click.ClickException):
        return _usage(err)
    if isinstance(err, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + 13
    _unexpected(err)
    return EXIT_TOOL


def _usage(err: click.ClickException) -> int:
    """Say what is wrong with the command line; a group alone is its help."""
    if isinstance(err, click.exceptions.NoArgsIsHelpError):
        click.echo(err.format_message())
        return 0
    ctx = getattr(err, "ctx", None)
    command = ctx.command_path if ctx is not None else "capstan"
    _error(err.format_message().rstrip("."), f"`{command} --help` shows how to use it")
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
    ui.error(f"capstan: {message}")
    if hint:
        ui.error(f"  hint: {hint}")
