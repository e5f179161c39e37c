# SPDX-License-Identifier: BSD-2-Clause
"""Options that more than one command has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from capstan.cli import flags

F = TypeVar("F", bound=Callable[..., Any])

quiet_option = flags.quiet_option

PROGRAM_ARGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""Context settings of commands that end in a program's own arguments."""


def build_options(command: F) -> F:
    """The options that say what goes into an image."""
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
            click.option("--no-compress", is_flag=True, help="Store files uncompressed."),
            click.option("--no-link", is_flag=True, help="Leave system calls as traps (slow)."),
        )
    ):
        command = option(command)
    return command
