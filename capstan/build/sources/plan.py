# SPDX-License-Identifier: BSD-2-Clause
"""The plan of an image made from a container image: its whole tree, and how it is started."""

from __future__ import annotations

import dataclasses
import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

from capstan.build import elf
from capstan.build.collect import BuildOptions, Plan, source_date_epoch
from capstan.build.rootfs import Found, Tree
from capstan.build.sources.container import Loaded, Source, load
from capstan.build.sources.contents import Contents
from capstan.errors import BuildError, UsageError
from capstan.manifest import RunConfig, Step
from capstan.store import Store

STEPS_MAX, STEP_MAX = 100, 200
_SHELL = re.compile(r"(ba|da|a|z|k|mk|yash)?sh(-static)?|busybox")


def collect_container(source: Source, args: Sequence[str], options: BuildOptions) -> Plan:
    """The files and the configuration of the image for a container image; `args` replace its Cmd.

    Raises:
        CapstanError: it is damaged, does not exist, or asks for more than the limits.
    """
    beside = options.include or options.packages or options.capstanfile is not None
    if beside or options.root != Path("/"):
        raise UsageError(
            f"{source}: --file, --root, --include and --package are not for container images",
            hint="build it with -t NAME first, then name it as `base:` in a Capstanfile",
        )
    epoch = source_date_epoch()
    with contents_of(Store()) as contents:
        loaded = load(source, contents)
    config = loaded.config.run_config(loaded.tree, tuple(args))
    _add_folders(loaded.tree, config)
    for text in loaded.config.ignored:
        loaded.tree.warnings.append(f"{source}: {text} is not supported and ignored")
    _warn(loaded.tree, config, source)
    # As in a container; looking through a whole system for network code would only find it.
    config = dataclasses.replace(config, network=True)
    created = loaded.tree.finish(epoch)
    return Plan(loaded.tree, config, loaded.name, created, history=_history(loaded), whole=True)


def _add_folders(tree: Tree, config: RunConfig) -> None:
    """Make the directories that a container is given when it starts."""
    for path in (config.workdir, *config.volumes):
        try:
            tree.make_dir(path)
        except BuildError as err:
            tree.warnings.append(err.message)


def contents_of(store: Store) -> Contents:
    """Where a store keeps the files of container images."""
    return Contents(store.sources)


def _history(loaded: Loaded) -> tuple[Step, ...]:
    """What the image was made of, by its own words; the newest steps if there are many."""
    sizes = [facts.size for facts in loaded.tree.facts.values()]
    steps = [Step("layer", text[:STEP_MAX]) for text in loaded.history[-STEPS_MAX:]]
    return (*steps, Step("container", loaded.title, len(sizes), sum(sizes)))


def _warn(tree: Tree, config: RunConfig, source: Source) -> None:
    """Say now what would fail at the start."""
    if not config.argv:
        tree.warnings.append(
            f"{source} has no Entrypoint and no Cmd: `capstan run` needs --entrypoint or arguments"
        )
        return
    name = config.argv[0]
    try:
        found = find_program(tree, name, config)
        kind = _kind(found)
    except BuildError as err:
        tree.warnings.append(err.message)
        return
    if found is None:
        tree.warnings.append(f"the program {name} is not in the image")
    elif kind == "":
        tree.warnings.append(f"{found.path} is no x86-64 program and no script: it cannot be run")
    elif _SHELL.fullmatch(posixpath.basename(kind)):
        subject = f"the entrypoint {name} is a script for a shell"
        if posixpath.basename(kind) == posixpath.basename(found.path):
            subject = f"the entrypoint is a shell ({' '.join(config.argv)[:80]})"
        tree.warnings.append(
            f"{subject}, and shells cannot start other programs here yet: it works only as far as "
            "it uses built-in commands and ends in `exec`; `capstan run --entrypoint PROGRAM` "
            "starts a program without it"
        )


def find_program(tree: Tree, name: str, config: RunConfig) -> Found | None:
    """The file that the command `name` means, None when there is none."""
    if "/" in name:
        return tree.find(posixpath.join(config.workdir, name))
    path = tree.search(name, config.env.get("PATH", ""))
    return tree.find(path) if path is not None else None


def _kind(found: Found | None) -> str:
    """The program that executes a file: its interpreter or itself; nothing if it cannot be."""
    if found is None or not found.is_file or found.host is None:
        return ""
    with Path(found.host).open("rb") as file:
        head = file.read(256)
    if head.startswith(b"#!"):
        words = os.fsdecode(head[2:].split(b"\n", 1)[0]).split()
        if words and posixpath.basename(words[0]) == "env" and len(words) > 1:
            words = words[1:]
        return words[0] if words else ""
    is_ours = elf.is_elf(head) and head[4:6] == b"\x02\x01" and head[18:20] == b"\x3e\x00"
    return found.path if is_ours else ""
