# SPDX-License-Identifier: BSD-2-Clause
"""Commands that list instances and change their state, with Docker's names."""

from __future__ import annotations

import click

from capstan import ui
from capstan.cli import instance_rows
from capstan.cli.render import format_option, show
from capstan.errors import UsageError

NAMES = click.argument("names", metavar="INSTANCE...", nargs=-1, required=True)
NAME = click.argument("name", metavar="INSTANCE")
TIMEOUT = click.option(
    "-t",
    "--time",
    "--timeout",
    "timeout",
    type=float,
    metavar="SEC",
    help="Time from the signal to the end.",
)
FILTER_HELP = "Only some, by name, id, label, status, exited (a status), ancestor (an image)."


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@click.option("-q", "--quiet", is_flag=True, help="Print only IDs.")
@click.option("--no-trunc", is_flag=True, help="Show IDs and commands in full.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help=FILTER_HELP)
@format_option
def ps(
    everything: bool, quiet: bool, no_trunc: bool, filters: tuple[str, ...], layout: str
) -> None:
    """List instances: those that run, or all."""
    instances = instance_rows.opened()
    rows = instance_rows.rows(instances, filters, everything=everything, full=no_trunc)
    if quiet:
        for row in rows:
            click.echo(row["id"])
    else:
        show(rows, instance_rows.COLUMNS, layout)


@click.command("instances")
@format_option
def instances(layout: str) -> None:
    """List all instances: the same as `ps -a`."""
    rows = instance_rows.rows(instance_rows.opened(), (), everything=True, full=False)
    show(rows, instance_rows.COLUMNS, layout)


@click.command()
@click.option("-a", "--attach", is_flag=True, help="Show its output and end with its status.")
@NAMES
@click.pass_context
def start(ctx: click.Context, attach: bool, names: tuple[str, ...]) -> None:
    """Start instances that do not run; returns when their programs run."""
    if not attach:
        instance_rows.each(names, lambda instance: instance.start(ui.tell))
        return
    if len(names) > 1:
        raise UsageError("start -a: attaches to one instance", hint="name one")
    from capstan.run.attach import attach_started

    instance = instance_rows.opened().get(names[0])
    ctx.exit(attach_started(instance, ui.tell))


@click.command()
@TIMEOUT
@NAMES
def stop(timeout: float | None, names: tuple[str, ...]) -> None:
    """Stop instances: their stop signal, and when the time is over the end of the machine."""
    instance_rows.each(names, lambda instance: instance.stop(timeout))


@click.command()
@TIMEOUT
@NAMES
def restart(timeout: float | None, names: tuple[str, ...]) -> None:
    """Stop instances and start them again."""
    instance_rows.each(names, lambda instance: instance.restart(timeout, ui.tell))


@click.command()
@click.option(
    "-s",
    "--signal",
    "text",
    default="KILL",
    metavar="SIGNAL",
    help="Its name or number (default: KILL).",
)
@NAMES
def kill(text: str, names: tuple[str, ...]) -> None:
    """Send a signal to the programs of instances; KILL ends the machine at once."""
    from capstan.run.spec import find_signal

    number = find_signal(text)
    instance_rows.each(names, lambda instance: instance.kill(number))


@click.command()
@NAMES
def pause(names: tuple[str, ...]) -> None:
    """Stop the CPUs of instances."""
    instance_rows.each(names, lambda instance: instance.pause())


@click.command()
@NAMES
def unpause(names: tuple[str, ...]) -> None:
    """Let paused instances go on."""
    instance_rows.each(names, lambda instance: instance.unpause())


@click.command()
@NAMES
def wait(names: tuple[str, ...]) -> None:
    """Wait until instances have ended; prints their exit statuses."""
    instances = instance_rows.opened()
    for instance in [instances.get(name) for name in names]:
        click.echo(instance.wait())


@click.command()
@NAME
@click.argument("new", metavar="NEW")
def rename(name: str, new: str) -> None:
    """Give an instance another name."""
    instance_rows.opened().get(name).rename(new)


@click.command()
@click.option("-f", "--force", is_flag=True, help="Also those that run: end them.")
@NAMES
def rm(force: bool, names: tuple[str, ...]) -> None:
    """Remove instances that do not run, with their logs."""
    instance_rows.each(names, lambda instance: instance.remove(force=force))


@click.command()
@NAME
@click.argument("wanted", metavar="[PORT[/udp]]", required=False)
def port(name: str, wanted: str | None) -> None:
    """Show where the ports of an instance are published."""
    found = instance_rows.ports(instance_rows.opened().get(name).spec)
    chosen = found
    if wanted is not None:
        number, _, protocol = wanted.partition("/")
        key = (number, protocol or "tcp")
        chosen = [p for p in found if (str(p["guest"]), p["protocol"]) == key]
        if not chosen:
            raise UsageError(f"{name} does not publish port {wanted}", hint=f"capstan port {name}")
    for p in chosen:
        where = f"{p['address']}:{p['host']}"
        click.echo(where if wanted is not None else f"{p['guest']}/{p['protocol']} -> {where}")
