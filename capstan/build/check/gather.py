# SPDX-License-Identifier: BSD-2-Clause
"""Collects an image for a check: as the build does, but what is missing does not end it."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan.build import collect, program
from capstan.build.check.report import Finding, Kind, Severity
from capstan.build.closure import Closure
from capstan.build.collect import BuildOptions, Plan
from capstan.build.rootfs import Tree
from capstan.errors import BuildError, UsageError
from capstan.manifest import RunConfig


@dataclass(frozen=True, slots=True)
class Gathered:
    """A plan that may lack files, what was seen on the way, and files that were passed over."""

    plan: Plan
    findings: tuple[Finding, ...]
    skipped: dict[str, str]


class PatientClosure(Closure):
    """Adds what is there."""

    def _raise_missing(self, path: str) -> None:
        self._missing.clear()

    def _add_interp(self, interp: str, path: str) -> None:
        if self.tree.find(interp) is not None:
            super()._add_interp(interp, path)
        else:
            self._musl = "/ld-musl" in interp

    def _add_plugin(self, path: str) -> None:
        super()._add_plugin(path)
        self._missing.clear()


def gather(path: Path, args: Sequence[str], options: BuildOptions) -> Gathered:
    """The files of the image for `path`, as far as they are there.

    Raises:
        CapstanError: the Capstanfile is wrong, or names files that do not exist.
    """
    epoch = collect.source_date_epoch()
    root = options.root.absolute()
    if not root.is_dir():
        raise UsageError(f"--root {options.root}: not a directory", hint="name an existing one")
    spec = collect._capstanfile(path, options)
    tree = Tree(root.resolve())
    parent = None
    if spec is not None:
        parent = collect._collect_capstanfile(tree, spec)
        argv, title = spec.cmdline, spec.folder.resolve().name
    else:
        collect.add_packages(tree, options.packages)
        argv, title = (collect.program_of(tree, path, options),), path.stem
    config = collect._config(spec, parent or RunConfig(()))
    collect._add_includes(tree, options.include)
    closure = PatientClosure(tree, config.env)
    findings: list[Finding] = []
    line = tuple(argv)
    try:
        line = program.add_command(
            closure, argv, search_path=config.env.get("PATH"), workdir=config.workdir
        )
    except BuildError as err:
        reason = err.message.removeprefix(f"{tree.name(argv[0])}: ")
        hint = err.hint or ""
        name = posixpath.basename(argv[0])
        findings.append(Finding(Severity.ERROR, Kind.PROGRAM, argv[0], name, reason, hint))
    before = len(tree.warnings)
    collect._close_included(tree, closure)
    del tree.warnings[before:]
    for text in tree.warnings:
        findings.append(Finding(Severity.WARNING, Kind.LIBRARY, line[0], "search path", text))
    tree.add_standard()
    tree.make_dir(config.workdir)
    network = collect._network(spec, tree)
    config = dataclasses.replace(config, argv=(*line, *args), network=network)
    nolink = spec.nolink if spec is not None else ()
    plan = Plan(tree, config, title, tree.finish(epoch), nolink)
    return Gathered(plan, tuple(findings), dict(closure._rejected))
