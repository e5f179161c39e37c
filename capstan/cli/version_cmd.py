# SPDX-License-Identifier: BSD-2-Clause
"""`capstan version`."""

from __future__ import annotations

import platform

import click

from capstan import __version__, manifest, storeversion
from capstan.cli import render
from capstan.errors import MachineError


@click.command("version", short_help="Show the versions of capstan and its parts.")
@render.format_option
def version(layout: str) -> None:
    """Show the versions of capstan and of what it works with.

    An image runs when its format and its guest ABI are those shown here. A store of an older
    version is brought up to date by the first command that writes to it.
    """
    rows = [{"part": part, "version": text} for part, text in versions().items()]
    if layout == "table":
        render.show(rows, ("part", "version"), layout)
    else:
        render.show_one(versions(), layout)


def versions() -> dict[str, str | None]:
    """Each part and its version; None when it is not there."""
    from capstan.run import hostcaps

    qemu: str | None = None
    try:
        found = hostcaps.qemu_version(hostcaps.find_qemu())
        qemu = ".".join(str(number) for number in found)
    except MachineError:
        pass
    return {
        "capstan": __version__,
        "python": platform.python_version(),
        "qemu": qemu,
        "guest_abi": str(manifest.ABI),
        "image_format": str(manifest.FORMAT_VERSION),
        "store": str(storeversion.VERSION),
    }
