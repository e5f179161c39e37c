# SPDX-License-Identifier: BSD-2-Clause
"""`capstan check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from capstan import ui
from capstan.cli import render
from capstan.cli.options import make_build_options, need_a_build, source_options
from capstan.errors import UsageError

if TYPE_CHECKING:
    from capstan.build.check import Finding, Report

COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


@click.command("check", short_help="Say what an image lacks, before it is started.")
@render.format_option
@click.option("--json", "layout", flag_value="json", help="The same as --format json.")
@click.option("--notes", is_flag=True, help="Show notes too, not only errors and warnings.")
@source_options
@click.argument("target", metavar="PATH|IMAGE")
@click.pass_context
def check(ctx: click.Context, /, layout: str, notes: bool, target: str, **given: object) -> None:
    """Say what a program or an image lacks, before it is started.

    Looks for libraries, versions and symbols that are missing, system calls that the guest does
    not serve, and files that are likely to be opened and are not in the image. Takes what `capstan
    build` takes, or the name of an image. The status is 1 when it would not run.
    """
    report = make_report(target, given)
    if layout == "table":
        print_table(report, notes=notes)
    elif layout == "json":
        render.show_one(report.to_json(), layout)
    else:
        render.show(report.rows(), (), layout)
    ctx.exit(0 if report.runs else 1)


def make_report(target: str, given: dict[str, object]) -> Report:
    """The report on an image of that name, a disk file, or a program to be built.

    Raises:
        CapstanError: there is none of them, or it cannot be read.
    """
    from capstan.build import check as service
    from capstan.store import Store, read_manifest

    path = Path(target)
    is_name = "/" not in target and given["capstanfile"] is None
    image = Store().find(target) if is_name else None
    if image is None and not is_disk(path):
        return service.check_path(path, (), make_build_options(given))
    if need_a_build(given) or given["capstanfile"] is not None:
        raise UsageError(
            f"{target} is an image: these options need something to build",
            hint="give what it is built from",
        )
    if image is None:
        return service.check_disk(path, read_manifest(path))
    if path.exists():
        ui.tell(f"{target} is also a file here: taking the image, ./{target} is the file")
    return service.check_disk(image.disk, image.manifest)


def is_disk(path: Path) -> bool:
    """Whether a file is an image."""
    from capstan import manifest

    try:
        with path.open("rb") as file:
            file.seek(manifest.HEADER_OFFSET)
            return file.read(len(manifest.MAGIC)) == manifest.MAGIC
    except OSError:
        return False


def print_table(report: Report, *, notes: bool) -> None:
    """The findings, grouped by file, on stdout; the sum on stderr."""
    from capstan.build.check import Severity

    wanted = [s for s in Severity if notes or s is not Severity.NOTE]
    for name, group in report.by_object(wanted):
        click.echo(name)
        kinds = max(len(finding.kind.value) for finding in group)
        subjects = min(32, max(len(finding.subject) for finding in group))
        for index, finding in enumerate(group):
            following = group[index + 1].hint if index + 1 < len(group) else ""
            print_finding(finding, kinds, subjects, is_last=finding.hint != following)
    hidden = not notes and report.of_severity(Severity.NOTE)
    more = " (--notes shows them)" if hidden else ""
    verdict = "" if report.runs else "; it would not run"
    ui.say(f"{report.program}: {report.summary()}{more}{verdict}")


def print_finding(finding: Finding, kinds: int, subjects: int, *, is_last: bool) -> None:
    """One finding; its hint below the last that has it."""
    mark = click.style(f"{finding.severity.value:8}", fg=COLOURS[finding.severity.value])
    head = f"  {mark} {finding.kind.value:{kinds}}  {finding.subject:{subjects}}  {finding.detail}"
    click.echo(head)
    if finding.hint and is_last:
        click.echo(f"  {'':8} {'':{kinds}}  -> {finding.hint}")
