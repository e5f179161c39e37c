# SPDX-License-Identifier: BSD-2-Clause
"""`capstan doctor`: is everything here that `capstan run` needs?"""

from __future__ import annotations

import click


@click.command("doctor", short_help="Check what this machine can do.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table")
@click.pass_context
def doctor(ctx: click.Context, style: str) -> None:
    """Check QEMU, KVM (by starting a guest) and the optional tools.

    The status is 1 when `capstan run` would not work.
    """
    import dataclasses
    import json

    from capstan.run.checkup import Level, examine

    findings = list(examine())
    if style == "json":
        rows = [{**dataclasses.asdict(row), "level": row.level.value} for row in findings]
        click.echo(json.dumps(rows, indent=1))
    else:
        width = max(len(row.name) for row in findings)
        colours = {Level.OK: "green", Level.OPTIONAL: "yellow", Level.BAD: "red"}
        for row in findings:
            mark = click.style(f"{row.level.value:8}", fg=colours[row.level])
            click.echo(f"{mark} {row.name:{width}}  {row.text}")
            if row.advice:
                click.echo(f"{'':8} {'':{width}}  -> {row.advice}")
    ctx.exit(1 if any(row.level is Level.BAD for row in findings) else 0)
