# SPDX-License-Identifier: BSD-2-Clause
"""What `push` does: cutting and sending an image, signing it, writing it into the index."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capstan import ui
from capstan.cli.render import short_command
from capstan.errors import UsageError
from capstan.repo import index, keys, sign
from capstan.store import Store

if TYPE_CHECKING:
    from capstan.repo.names import Place, Reach
    from capstan.repo.push import Pushed
    from capstan.repo.registry import Repository
    from capstan.store import StoredImage

PASSWORD = "COSIGN_PASSWORD"
DESCRIPTION = "org.opencontainers.image.description"


def push_image(
    image: StoredImage,
    at: Place,
    reach: Reach,
    notes: Mapping[str, str],
    key: Path | None = None,
    *,
    quiet: bool = False,
) -> Pushed:
    """Push an image, signed when there is a private `key`; a bar is shown on a terminal."""
    from capstan.build.zfs.extents import file_extents
    from capstan.repo.push import PushRequest, push

    sign_it = signer(key) if key is not None else None
    with ui.progress(f"Pushing {image.ref or image.digest[:12]}", quiet=quiet) as bar:
        request = PushRequest(image, file_extents(image.disk), at, reach, notes, sign_it)
        return push(request, Store(), bar)


def signer(path: Path) -> Callable[[Repository, str], None]:
    """What signs a pushed manifest with the private key in `path`."""
    private = keys.load_private(path, password())
    return lambda target, digest: sign.sign(target, digest, private)


def password(*, confirm: bool = False) -> bytes:
    """The password of a private key, from the environment or a terminal.

    Raises:
        UsageError: neither.
    """
    given = os.environ.get(PASSWORD)
    if given is not None:
        return given.encode()
    if not sys.stdin.isatty():
        raise UsageError(
            "the private key has a password, and nobody is there to ask",
            hint=f"set {PASSWORD} (it may be empty)",
        )
    text = "Password of the private key"
    said: str = click.prompt(
        text, default="", hide_input=True, show_default=False, confirmation_prompt=confirm, err=True
    )
    return said.encode()


def add_to_index(
    image: StoredImage, at: Place, pushed: Pushed, reach: Reach, description: str
) -> None:
    """Write a pushed image into the index of the configured registry, or of its own namespace."""
    where = None if reach.registry else f"{at.host}/{at.repository}".rpartition("/")[0]
    entry = index.entry_of(
        at,
        index.place(reach, where),
        digest=pushed.digest,
        description=description,
        command=short_command(image.manifest.config.argv),
        size=pushed.bytes_all,
        created=image.manifest.created,
    )
    index.publish(reach, [entry], where)
