# SPDX-License-Identifier: BSD-2-Clause
"""`capstan sdk`."""

from __future__ import annotations

import shlex

import click

from capstan import paths


@click.command("sdk", short_help="Show how to compile with libcapstan.")
@click.option("--flags", "what", flag_value="flags", default=True, help="Compiler flags (default).")
@click.option("--include", "what", flag_value="include", help="The directory of the headers.")
@click.option("--lib", "what", flag_value="lib", help="The directory of the library.")
def sdk(what: str) -> None:
    """Show where libcapstan is, the library for what a program can ask of the guest itself.

    Compile with: gcc program.c $(capstan sdk). The program runs on Linux too, where
    capstan_version() is 0; `capstan build` puts the library into the image.
    """
    folder = paths.sdk()
    include, lib = str(folder / "include"), str(folder / "lib")
    flags = shlex.join([f"-I{include}", f"-L{lib}", f"-Wl,-rpath,{lib}", "-lcapstan"])
    click.echo({"include": include, "lib": lib}.get(what, flags))
