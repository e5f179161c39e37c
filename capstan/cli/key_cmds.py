# SPDX-License-Identifier: BSD-2-Clause
"""`capstan key`."""

from __future__ import annotations

from pathlib import Path

import click

from capstan import fs, ui
from capstan.errors import UsageError


@click.group()
def key() -> None:
    """Make keys that images are signed with, in cosign's format."""


@key.command()
@click.option(
    "-o", "--output", default="cosign", metavar="PREFIX", help="Write PREFIX.key and PREFIX.pub."
)
def generate(output: str) -> None:
    """Make a key pair.

    The private key is encrypted with the password in COSIGN_PASSWORD, or with one asked for. Sign
    with `push --sign PREFIX.key`; give PREFIX.pub to those who pull.
    """
    from capstan.cli.publish import password
    from capstan.repo import keys

    private, public = Path(f"{output}.key"), Path(f"{output}.pub")
    for path in (private, public):
        if path.exists():
            raise UsageError(f"{path} exists", hint="another --output, or remove it")
    secret, shown = keys.generate(password(confirm=True))
    fs.atomic_write(private, secret, mode=0o600)
    fs.atomic_write(public, shown)
    ui.say(f"private key: {private} (keep it), public key: {public} (give it away)")
    click.echo(str(public))
