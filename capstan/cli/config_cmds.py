# SPDX-License-Identifier: BSD-2-Clause
"""`capstan config`: show settings, where they come from, and change the user's file."""

from __future__ import annotations

import copy

import click

from capstan import settings, settings_files, ui
from capstan.cli import complete, render
from capstan.errors import UsageError


@click.group("config", short_help="Show and change settings.")
def config() -> None:
    """Show and change settings.

    A setting comes from a flag, else from its variable, else from the project's file (capstan.toml
    here or above), else from the user's file, else it has a default. docs/settings.md lists all.
    """


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@render.format_option
@click.argument("keys", metavar="[KEY]...", nargs=-1, shell_complete=complete.settings_keys)
def show(origin: bool, layout: str, keys: tuple[str, ...]) -> None:
    """Show the settings as they are here: their names and values."""
    rows = [settings.row(key) for key in keys] if keys else settings.TABLE
    columns = ("setting", "value", "origin", "where") if origin else ("setting", "value")
    render.show([record(row) for row in rows], columns, layout, cell=cell)


@config.command("get")
@click.argument("key", shell_complete=complete.settings_keys)
@click.pass_context
def get(ctx: click.Context, key: str) -> None:
    """Print the value of one setting; the status is 1 when it has none."""
    value = settings.get(settings.row(key).key)
    if value is None:
        ctx.exit(1)
    click.echo(value)


@config.command("set")
@click.argument("key", shell_complete=complete.settings_keys)
@click.argument("value", shell_complete=complete.settings_values)
def set_(key: str, value: str) -> None:
    """Set KEY in the user's file; lists are a,b and pairs are a=b,c=d."""
    row = settings.row(key)
    path = settings_files.user_file()
    settings_files.put(path, row, settings.read_text(row, value, "config set"))
    warn_overridden(row)


@config.command("unset")
@click.argument("key", shell_complete=complete.settings_keys)
def unset(key: str) -> None:
    """Take KEY out of the user's file, whether or not it is a setting capstan knows."""
    path = settings_files.user_file()
    name = key if settings_files.drop(path, key) else key.replace("-", "_")
    if name != key and not settings_files.drop(path, name):
        ui.tell(f"{path} does not set {key}")


@config.command("path")
@click.option("--project", is_flag=True, help="The project's file instead.")
def path_(project: bool) -> None:
    """Print the path of the user's file, which need not be there."""
    if not project:
        click.echo(str(settings_files.user_file()))
        return
    found = settings_files.project_file()
    if found is None:
        raise UsageError(
            f"no {settings_files.PROJECT_FILE} here or above", hint="`capstan config path`"
        )
    click.echo(str(found))


def record(row: settings.Setting) -> dict[str, object]:
    """What `config show` says of a setting."""
    found = settings.lookup(row.key)
    value = None if found.value is None else settings_files.to_toml(row, found.value)
    return {
        "setting": row.key,
        "value": value,
        "origin": found.origin.value,
        "where": found.where or (row.unset if value is None else ""),
        "variable": row.env,
        "flag": row.flag,
        "help": row.help,
    }


def cell(key: str, value: object) -> str:
    """The text of a table's cell."""
    return "-" if value is None and key == "value" else render.plain(value)


def warn_overridden(row: settings.Setting) -> None:
    """Say when something else than the file decides."""
    found = settings.lookup(row.key)
    if found.origin in (settings.Origin.ENVIRONMENT, settings.Origin.PROJECT):
        ui.tell(f"here {found.where} sets {row.key} to {found.text} all the same")


first_name = copy.copy(show)
first_name.short_help = "The same as show, by its name in the first Capstan."
config.add_command(first_name, "print")
