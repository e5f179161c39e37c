# SPDX-License-Identifier: BSD-2-Clause
"""`capstan build`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from capstan import ui
from capstan.cli.flags import quiet_option
from capstan.cli.options import PROGRAM_ARGS, build_options

FROM_HELP = "Start from a container image: docker://HOST/NAME:TAG, oci:DIR, docker-archive:FILE."


@click.command(context_settings=PROGRAM_ARGS)
@click.option("-t", "--tag", "name", metavar="NAME[:TAG]", help="Name of the image.")
@click.option("--from", "source", metavar="SOURCE", help=FROM_HELP)
@click.option("--build-arg", multiple=True, metavar="NAME=VALUE", help="For a Dockerfile.")
@click.option("--target", "stage", metavar="STAGE", help="Stage of a Dockerfile to build.")
@build_options
@click.option("--no-cache", is_flag=True, help="Build and link again, even if nothing changed.")
@quiet_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[PATH] [ARGS]...")
def build(
    name: str | None,
    source: str | None,
    build_arg: tuple[str, ...],
    stage: str | None,
    capstanfile: Path | None,
    root: Path,
    include: tuple[str, ...],
    package: tuple[str, ...],
    no_compress: bool,
    no_link: bool,
    no_cache: bool,
    quiet: bool,
    words: tuple[str, ...],
) -> None:
    """Make an image from a program, a script, or a directory with a Capstanfile or Dockerfile.

    ARGS become part of the image's command line. With --from there is no PATH; ARGS replace the
    arguments (Cmd) of the container image. The name of the image is printed on stdout.
    """
    from capstan.build.image import BuildOptions, build_path
    from capstan.cli.sources import Wanted, opened

    start = time.monotonic()
    how = (not no_compress, not no_link, not no_cache)
    given = BuildOptions(name, capstanfile, root, include, *how, packages=package)
    path, args = (Path(words[0]), words[1:]) if words and not source else (Path(), words)
    wanted = Wanted(path, source, build_arg, stage)
    with opened(wanted, given) as options, ui.progress("Writing image", quiet=quiet) as bar:
        image = build_path(path, args, options, bar, None if quiet else warn)
    took = time.monotonic() - start
    size = image.disk.stat().st_blocks * 512
    if not quiet:
        ui.say(f"{image.ref}: {ui.size(size)}, {image.manifest.files} files, {took:.2f} s")
    click.echo(str(image.ref))


def warn(text: str) -> None:
    """Print a warning of a build."""
    ui.tell(f"warning: {text}")
