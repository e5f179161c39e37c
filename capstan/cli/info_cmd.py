# SPDX-License-Identifier: BSD-2-Clause
"""`capstan info`, which the first Capstan had: what a file is."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from capstan import manifest, ui
from capstan.errors import ImageError
from capstan.manifest import ImageManifest
from capstan.store import Store, read_manifest

# The first bytes of other tools' disk images, at their offsets.
FOREIGN = (
    ("QCOW2", 0, b"QFI\xfb"),
    ("VMDK", 0, b"KDMV"),
    ("VMDK", 0, b"COWD"),
    ("VDI", 0x40, b"\x7f\x10\xda\xbe"),
    ("VHDX", 0, b"vhdxfile"),
    ("VHD", 0, b"conectix"),
)


@click.command("info", short_help="Say what a file or an image is.")
@click.argument("name", metavar="FILE|IMAGE")
def info(name: str) -> None:
    """Say what a disk file, or an image of the store, is: its program, ports and size.

    `capstan inspect` shows all of it as JSON.
    """
    path = Path(name)
    if path.is_file():
        click.echo(describe(path, probe(path)))
        return
    image = Store().open(name)
    click.echo(describe(image.disk, image.manifest))


def probe(path: Path) -> ImageManifest:
    """The manifest of an image file.

    Raises:
        ImageError: it is no image of capstan's; the message says what it is.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
            file.seek(manifest.HEADER_OFFSET)
            ours = file.read(len(manifest.MAGIC)) == manifest.MAGIC
    except OSError as err:
        raise ImageError(f"{path}: {err.strerror}") from err
    if ours:
        return read_manifest(path)
    for kind, at, magic in FOREIGN:
        if head[at : at + len(magic)] == magic:
            raise ImageError(
                f"{path} is a {kind} disk",
                hint=f"qemu-img convert -O raw {path} disk.img, if capstan made it",
            )
    raise ImageError(f"{path} is not a runnable image", hint="`capstan build` makes one")


def describe(disk: Path, described: ImageManifest) -> str:
    """The line about an image."""
    config = described.config
    parts = [
        f"{disk}: capstan image {described.name}",
        ui.size(disk.stat().st_size),
        f"{described.files} files",
        f"runs {shlex.join(config.argv)}",
    ]
    if config.ports:
        parts.append(f"ports {', '.join(config.ports)}")
    return ", ".join(parts)
