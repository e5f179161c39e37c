# SPDX-License-Identifier: BSD-2-Clause
"""`capstan save`, `load` and `export`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import click

from capstan import fs, ui
from capstan.errors import CapstanError, UsageError
from capstan.ref import ImageRef
from capstan.store import Store, StoredImage

_STDIO = Path("-")
_FILE = click.Path(path_type=Path)
OUTPUT = click.option(
    "-o", "--output", type=_FILE, default=_STDIO, metavar="FILE", help="Write to this file."
)


@click.command()
@OUTPUT
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
def save(output: Path, names: tuple[str, ...]) -> None:
    """Write images to a tar archive (on stdout unless -o says where), for `capstan load`.

    The archive is an OCI image layout. An image given by its ID is saved without a name.
    """
    from capstan import archive

    store = Store()
    chosen: dict[str, tuple[StoredImage, list[ImageRef]]] = {}
    for name in names:
        image = store.open(name)
        _, refs = chosen.setdefault(image.digest, (image, []))
        if image.ref is not None and not image.digest.startswith(name.removeprefix("sha256:")):
            refs.append(image.ref)
    with contextlib.ExitStack() as stack:
        for digest in chosen:
            stack.enter_context(store.hold(digest, "capstan save"))
        scratch = stack.enter_context(fs.temp_dir(store.objects))
        out = stack.enter_context(_output(output))
        with ui.progress("Saving") as bar:
            archive.save(list(chosen.values()), out, scratch, bar)


@click.command()
@click.option(
    "-i", "--input", "source", type=_FILE, default=_STDIO, metavar="FILE", help="Read this file."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def load(source: Path, quiet: bool) -> None:
    """Read images from an archive of `capstan save` (stdin unless -i names a file).

    Every byte is checked against its digest before the store knows the image.
    """
    from capstan import archive

    with _input(source) as stream, ui.progress("Loading", quiet=quiet) as bar:
        where = "standard input" if source == _STDIO else str(source)
        loaded = archive.load(Store(), stream, where, bar)
    for image in loaded if not quiet else ():
        named = f"image: {image.ref}" if image.ref else f"image ID: sha256:{image.digest}"
        click.echo(f"Loaded {named}")


@click.command()
@OUTPUT
@click.option(
    "--format",
    "layout",
    type=click.Choice(["raw", "qcow2", "tar"]),
    default="raw",
    help="The disk (raw), the same as QCOW2 (qcow2), the files in it (tar).",
)
@click.argument("image")
def export(output: Path, layout: str, image: str) -> None:
    """Write IMAGE as a disk or a tar archive for other tools (on stdout unless -o says where)."""
    from capstan.build import export as service

    store = Store()
    stored = store.open(image)
    plain = output != _STDIO and (output.is_file() or not output.exists())
    with store.hold(stored.digest, "capstan export"), ui.progress("Exporting") as bar:
        if layout == "qcow2":
            if not plain:
                raise UsageError("--format qcow2 is written to a file only", hint="add -o FILE")
            with _explained(output):
                service.to_qcow2(stored, output)
        elif layout == "raw" and plain:
            with _explained(output):
                service.to_raw_file(stored, output, bar)
        else:
            write = service.to_tar if layout == "tar" else service.to_raw_stream
            with _output(output) as out:
                write(stored, out, bar)


@contextlib.contextmanager
def _output(path: Path) -> Iterator[BinaryIO]:
    """Where an archive goes: a new file that is complete or not there, a device, or stdout."""
    if path == _STDIO:
        if sys.stdout.isatty():
            raise UsageError("an archive does not belong on a terminal", hint="add -o FILE")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    is_device = path.exists() and not path.is_file()
    with _explained(path), path.open("wb") if is_device else fs.atomic_file(path) as out:
        yield out


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of the system as ours, with the name the user gave."""
    try:
        yield
    except OSError as err:
        reason = os.strerror(err.errno or 0)
        raise CapstanError(f"{path}: {reason}", hint="check the place given with -o") from err


@contextlib.contextmanager
def _input(path: Path) -> Iterator[BinaryIO]:
    if path == _STDIO:
        if sys.stdin.isatty():
            raise UsageError("no archive to load", hint="`capstan load -i FILE`")
        yield sys.stdin.buffer
    else:
        try:
            stream = path.open("rb")
        except OSError as err:
            reason = os.strerror(err.errno or 0)
            raise CapstanError(f"{path}: {reason}", hint="name an archive of save") from err
        with stream:
            yield stream
