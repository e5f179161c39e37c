# SPDX-License-Identifier: BSD-2-Clause
"""`capstan build`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from capstan import ui
from capstan.cli.flags import quiet_option
from capstan.cli.options import PROGRAM_ARGS, build_options


@click.command(context_settings=PROGRAM_ARGS)
@click.option("-t", "--tag", "name", metavar="NAME[:TAG]", help="Name of the image.")
@build_options
@click.option("--no-cache", is_flag=True, help="Build and link again, even if nothing changed.")
@quiet_option
@click.argument("path", type=click.Path(path_type=Path, readable=False), default=Path())
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def build(
    name: str | None,
    capstanfile: Path | None,
    root: Path,
    include: tuple[str, ...],
    no_compress: bool,
    no_link: bool,
    no_cache: bool,
    quiet: bool,
    path: Path,
    args: tuple[str, ...],
) -> None:
    """Make an image from a program, a script, or a directory with a Capstanfile.

    ARGS become part of the image's command line. The name of the image is printed on stdout.
    """
    from capstan.build.image import BuildOptions, build_path

    start = time.monotonic()
    how = (not no_compress, not no_link, not no_cache)
    options = BuildOptions(name, capstanfile, root, include, *how)
    with ui.progress("Writing image", quiet=quiet) as bar:
        image = build_path(path, args, options, bar, None if quiet else warn)
    took = time.monotonic() - start
    size = image.disk.stat().st_blocks * 512
    if not quiet:
        ui.say(f"{image.ref}: {ui.size(size)}, {image.manifest.files} files, {took:.2f} s")
    click.echo(str(image.ref))


def warn(text: str) -> None:
    """Print a warning of a build."""
    ui.say(f"capstan: warning: {text}")
