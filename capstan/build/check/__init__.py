# SPDX-License-Identifier: BSD-2-Clause
"""Says before the first boot what an image lacks.

    report = check_path(path, args, options)    what a build would pack, without building it
    report = check_disk(disk, manifest)         an image, by what is in its pool
    report = check_plan(plan)                   an image that is about to be made
    lines = warnings_of(plan)                   the same in short, costing next to nothing

Everything is looked at inside of the image, as the program will see it (`view`). In this order:

    gather    -> a plan, also of a program that cannot be built
    loading   each program with its interpreter and libraries, as its own loader finds them
    symbols   versions and symbols between those files (`dynamic` reads them)
    calls     system calls and instructions, with the guest's table of calls
    files     what is likely to be opened

`binaries` gives files their `facts`: what follows from a file's content alone. Finding the system
calls means disassembling (`numbers`, with `trace` and `callers`), the C library's wrappers a graph
of its calls (`graph`), "on every run" the flow of control from `main` (`certain`); facts are
cached by content, so a libc costs a second once. Bounds of functions come from the linker.

No printing; findings are data (`report`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from capstan import paths, syscalls
from capstan.build.check import calls, files, gather, loading, symbols
from capstan.build.check.binaries import Binaries
from capstan.build.check.report import MEANING, Finding, Kind, Report, Severity
from capstan.build.check.view import View, of_disk, of_plan
from capstan.build.collect import BuildOptions, Plan
from capstan.manifest import ImageManifest

__all__ = [
    "MEANING",
    "Finding",
    "Kind",
    "Report",
    "Severity",
    "check_disk",
    "check_path",
    "check_plan",
    "warnings_of",
]

MAX_LINES = 8
"""So many warnings of a build are shown."""
FOLDER = "facts"
"""Where facts are kept, in the store's directory."""


def check_path(path: Path, args: Sequence[str], options: BuildOptions) -> Report:
    """What the image of a program, script, directory or Capstanfile would lack.

    Raises:
        CapstanError: there is no such file, or its Capstanfile is wrong.
    """
    gathered = gather.gather(path, args, options)
    view = of_plan(gathered.plan)
    if any(finding.kind is Kind.PROGRAM for finding in gathered.findings):
        return Report.of(view.program, gathered.findings)
    found = _findings(view, Binaries(view, cache_folder()), gathered.skipped)
    return Report.of(view.program, [*gathered.findings, *found])


def check_plan(plan: Plan, *, quick: bool = False) -> Report:
    """What an image will lack; `quick`: without looking into files that are not known yet.

    The tree is as collected: files that were linked already have no place on the host.
    """
    view = of_plan(plan)
    return Report.of(view.program, _findings(view, Binaries(view, cache_folder(), quick=quick)))


def check_disk(disk: Path, manifest: ImageManifest) -> Report:
    """What the image in the file `disk` lacks.

    Raises:
        ImageError: it is damaged.
    """
    originals = {row.linked_sha256: row.sha256 for row in manifest.linked}
    with of_disk(disk, manifest.config) as view:
        binaries = Binaries(view, cache_folder(), originals=originals)
        return Report.of(view.program, _findings(view, binaries))


def warnings_of(plan: Plan) -> list[str]:
    """What a build should warn of: errors and warnings, but for what collecting said before."""
    report = check_plan(plan, quick=True)
    lines = []
    for finding in report.of_severity(Severity.ERROR, Severity.WARNING):
        is_said = finding.kind is Kind.LIBRARY or (
            finding.kind is Kind.FILE and finding.severity is Severity.ERROR
        )
        if not is_said:
            lines.append(finding.line())
    if len(lines) > MAX_LINES:
        more = len(lines) - MAX_LINES
        lines[MAX_LINES:] = [f"{more} more warnings; `capstan check` shows all"]
    return lines


def cache_folder() -> Path:
    """Where facts are kept."""
    return paths.data_root() / FOLDER


def _findings(
    view: View, binaries: Binaries, skipped: Mapping[str, str] | None = None
) -> list[Finding]:
    programs = loading.load_all(view)
    found = [
        *loading.findings(view, programs, skipped or {}),
        *symbols.findings(programs, binaries.dynamic, view.config.env),
        *calls.findings(programs, binaries, syscalls.load()),
        *files.findings(view, programs, binaries),
    ]
    found += [
        Finding(Severity.WARNING, Kind.ELF, path, "content", f"could not be looked into: {reason}")
        for path, reason in binaries.problems.items()
    ]
    return found
