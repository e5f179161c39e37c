# SPDX-License-Identifier: BSD-2-Clause
"""`capstan doctor`: is everything here that capstan needs?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from capstan.cli import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capstan.run.checkup import Finding

COLOURS = {"ok": "green", "optional": "yellow", "missing": "red"}


@click.command("doctor", short_help="Check what this machine can do.")
@render.format_option
@click.pass_context
def doctor(ctx: click.Context, layout: str) -> None:
    """Check QEMU, KVM (by starting a guest), the store, the settings and the optional tools.

    The status is 1 when something is missing that `capstan run` needs.
    """
    import dataclasses

    from capstan.run.checkup import Level, examine

    findings = list(examine())
    if layout == "table":
        show(findings)
    else:
        rows = [{**dataclasses.asdict(row), "level": row.level.value} for row in findings]
        render.show(rows, (), layout)
    ctx.exit(1 if any(row.level is Level.BAD for row in findings) else 0)


def show(findings: Sequence[Finding]) -> None:
    """Print the findings, each with its advice below."""
    width = max(len(row.name) for row in findings)
    for row in findings:
        mark = click.style(f"{row.level.value:8}", fg=COLOURS[row.level.value])
        click.echo(f"{mark} {row.name:{width}}  {row.text}")
        if row.advice:
            click.echo(f"{'':8} {'':{width}}  -> {row.advice}")
