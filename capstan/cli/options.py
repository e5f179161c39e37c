# SPDX-License-Identifier: BSD-2-Clause
"""Options that more than one command has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capstan.errors import UsageError

if TYPE_CHECKING:
    from capstan.build.collect import BuildOptions

F = TypeVar("F", bound=Callable[..., Any])

PROGRAM_ARGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""Context settings of commands that end in a program's own arguments."""


def _time(_ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    from capstan.cli import times

    return times.parse(param.opts[0], value)


def _tail(_ctx: click.Context, _param: click.Parameter, value: str) -> int | None:
    if value != "all" and not value.isdecimal():
        raise UsageError(f"--tail {value!r}: not a number and not all")
    return None if value == "all" else int(value)


SINCE = click.option(
    "--since",
    metavar="TIME",
    callback=_time,
    help="From then on: 10m, or 2026-11-21T14:00:00.",
)
UNTIL = click.option("--until", metavar="TIME", callback=_time, help="Up to then.")
TAIL = click.option(
    "-n",
    "--tail",
    default="all",
    metavar="N",
    callback=_tail,
    help="Only the last N lines of an instance.",
)


def source_options(command: F) -> F:
    """The options that say where the files of an image come from."""
    for option in reversed(
        (
            click.option(
                "-f",
                "--file",
                "capstanfile",
                type=click.Path(path_type=Path, readable=False),
                metavar="CAPSTANFILE",
                help="Use this Capstanfile; PATH is the directory it is about.",
            ),
            click.option(
                "--root",
                type=click.Path(path_type=Path, readable=False),
                default=Path("/"),
                metavar="DIR",
                help="Take the program and its libraries from this root directory.",
            ),
            click.option(
                "--include",
                multiple=True,
                metavar="GLOB",
                help="Add files and directories, with the libraries they need. May be repeated.",
            ),
            click.option(
                "--package",
                multiple=True,
                metavar="NAME[=VERSION]",
                help="Add a Debian package with what it needs. May be repeated.",
            ),
        )
    ):
        command = option(command)
    return command


def build_options(command: F) -> F:
    """The same and those that say how the image is made of them."""
    link = click.option("--no-link", is_flag=True, help="Leave system calls as traps (slow).")
    compress = click.option("--no-compress", is_flag=True, help="Store files uncompressed.")
    return source_options(compress(link(command)))


def need_a_build(given: Mapping[str, object]) -> bool:
    """Whether some of these options mean nothing for an image that is there."""
    flags = ("include", "package", "no_compress", "no_link")
    return any(given.get(name) for name in flags) or given["root"] != Path("/")


def make_build_options(given: Mapping[str, object]) -> BuildOptions:
    """What to build an image with; `check` has not all of the options."""
    from capstan.build.collect import BuildOptions

    capstanfile, root, include = (given[key] for key in ("capstanfile", "root", "include"))
    packages = given["package"]
    assert isinstance(packages, tuple)
    assert isinstance(root, Path) and isinstance(include, tuple)
    assert capstanfile is None or isinstance(capstanfile, Path)
    compress, link = not given.get("no_compress"), not given.get("no_link")
    return BuildOptions(None, capstanfile, root, include, compress, link, packages=packages)
