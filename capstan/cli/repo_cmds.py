# SPDX-License-Identifier: BSD-2-Clause
"""`capstan push`, `pull`, `search`, `login` and `logout`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capstan import ref, ui
from capstan.cli import reach as settings
from capstan.cli.flags import quiet_option
from capstan.cli.render import format_option, plain, show
from capstan.errors import UsageError
from capstan.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGN_HELP = "Sign it with this private key (cosign.key; password: COSIGN_PASSWORD)."
VERIFY_HELP = "Refuse an image that KEY (default: the keys of the setting trust) did not sign."


@click.command()
@click.option("--annotation", multiple=True, metavar="KEY=VALUE", help="Add an annotation.")
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEY", help=SIGN_HELP)
@click.option("--index", is_flag=True, help="Write the image into the registry's index, too.")
@click.option("--description", default="", metavar="TEXT", help="What the index says about it.")
@settings.tls_option
@quiet_option
@click.argument("image")
@click.argument("destination", required=False)
def push(
    annotation: Sequence[str],
    key: Path | None,
    index: bool,
    description: str,
    tls_verify: bool,
    quiet: bool,
    image: str,
    destination: str | None,
) -> None:
    """Put IMAGE into a registry, as DESTINATION or under its own name.

    A name without a host goes to the configured registry. Only what the registry does not have is
    sent. The digest of the manifest is printed on stdout.
    """
    from capstan.cli import publish
    from capstan.repo.names import locate

    reach, stored = settings.reach(tls_verify), Store().open(image)
    place = locate(ref.parse(destination or str(stored.ref or image)), reach)
    notes = dict(_pair(text) for text in annotation)
    if description:
        notes.setdefault(publish.DESCRIPTION, description)
    done = publish.push_image(stored, place, reach, notes, key, quiet=quiet)
    if index:
        publish.add_to_index(stored, place, done, reach, description)
    if not quiet:
        sent = ui.size(done.bytes_sent)
        ui.say(f"{place}: {ui.size(done.bytes_all)}, of which {sent} were sent")
    click.echo(done.digest)


@click.command()
@click.option("--verify", is_flag=False, flag_value="", metavar="[KEY]", help=VERIFY_HELP)
@settings.tls_option
@quiet_option
@click.argument("names", metavar="IMAGE...", nargs=-1, required=True)
def pull(verify: str | None, tls_verify: bool, quiet: bool, names: tuple[str, ...]) -> None:
    """Bring images from a registry into the local store.

    A name without a host is looked for in the configured registry. What the store has of an image
    is not loaded again, and a pull that broke goes on where it was. The names are printed on
    stdout.
    """
    from capstan.cli.resolve import pull_image

    reach = settings.reach(tls_verify)
    keys = None if verify is None else [Path(verify)] if verify else []
    for name in names:
        done = pull_image(ref.parse(name), reach, keys, quiet=quiet)
        if not quiet:
            got = ui.size(done.bytes_received)
            ui.say(f"{name}: {ui.size(done.bytes_all)}, of which {got} were received")
            ui.say(f"digest: {done.digest}")
        click.echo(str(done.image.ref))


@click.command()
@click.option("--registry", metavar="HOST[/NAMESPACE]", help="Look there.")
@format_option
@settings.tls_option
@click.argument("text", default="")
def search(registry: str | None, layout: str, tls_verify: bool, text: str) -> None:
    """List the images of a registry's index whose name or description has all words of TEXT."""
    from capstan.repo import index

    found = index.search(index.read(settings.reach(tls_verify), registry), text)
    rows = [dataclasses.asdict(entry) for entry in found]
    show(rows, ("name", "tag", "version", "size", "description"), layout, cell=_cell)


@click.command()
@click.option("-u", "--username", metavar="NAME", help="Name of the account.")
@click.option("-p", "--password", metavar="PASSWORD", help="Password (others may see it).")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@settings.tls_option
@click.argument("host", metavar="HOST[:PORT]", required=False)
def login(
    username: str | None,
    password: str | None,
    password_stdin: bool,
    tls_verify: bool,
    host: str | None,
) -> None:
    """Check name and password with a registry and keep them where Docker does."""
    from capstan.repo.login import login as service

    reach = settings.reach(tls_verify)
    host = _host(host, reach.registry)
    user, secret = _ask(host, username, password, password_stdin)
    where = service(host, user, secret, reach)
    ui.say(f"logged in to {host}; kept in {where}")


@click.command()
@click.argument("host", metavar="HOST[:PORT]", required=False)
def logout(host: str | None) -> None:
    """Forget name and password for a registry."""
    from capstan.repo.login import logout as service

    reach = settings.reach()
    host = _host(host, reach.registry)
    for line in service(host, reach):
        ui.say(line)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--annotation {text!r} is not KEY=VALUE")
    return key, value


def _cell(key: str, value: object) -> str:
    if key == "size":
        return ui.size(value) if isinstance(value, int) and value else ""
    return plain(value)


def _host(host: str | None, registry: str | None) -> str:
    given = host or (registry or "").partition("/")[0]
    if not given:
        raise UsageError("which registry?", hint="name one: `capstan login HOST[:PORT]`")
    parsed = ref.try_parse(f"{given}/x")
    if "/" in given or ((parsed is None or not parsed.host) and not ref.try_parse(f"{given}:1/x")):
        raise UsageError(f"{given!r} is not HOST[:PORT]", hint="without https:// and without path")
    return given


def _ask(host: str, user: str | None, password: str | None, from_stdin: bool) -> tuple[str, str]:
    """Name and password, asked for on a terminal."""
    if from_stdin:
        if password is not None or user is None:
            raise UsageError(
                "--password-stdin needs -u and excludes -p", hint="... | capstan login -u NAME HOST"
            )
        return user, sys.stdin.readline().rstrip("\r\n")
    if (user is None or password is None) and not sys.stdin.isatty():
        raise UsageError(
            "login asks for name and password", hint="give -u NAME --password-stdin in scripts"
        )
    name = user if user is not None else click.prompt(f"Name at {host}", err=True)
    if password is None:
        password = click.prompt("Password", hide_input=True, err=True)
    return str(name), str(password)
