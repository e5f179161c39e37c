# SPDX-License-Identifier: BSD-2-Clause
"""What goes into an image: a `Plan` from a program, a script or a Capstanfile.

Order, later ones over earlier ones: the tree of `base`, `packages`, `rootfs`, `files`,
`--include`; then the
program with its libraries, the libraries of all ELF files that were added, and the standard files
where nothing took their place.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capstan import capstanfile, proc
from capstan.build import base, elf, netuse, program
from capstan.build.closure import Closure
from capstan.build.rootfs import Tree, unreadable
from capstan.capstanfile import Capstanfile
from capstan.errors import BuildError, UsageError
from capstan.manifest import RunConfig, Step
from capstan.store import Store

if TYPE_CHECKING:
    from capstan.build.sources.container import Source

CAPSTANFILE = "Capstanfile"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the command line said about a build.

    With `reuse`, an image made earlier from the same files is taken instead of a new one, and files
    linked earlier are not linked again. An image that is given no name gets one, made from the
    name of the program or directory, unless it shall be `unnamed`.
    """

    name: str | None = None
    capstanfile: Path | None = None
    root: Path = Path("/")
    include: tuple[str, ...] = ()
    compress: bool = True
    link: bool = True
    reuse: bool = True
    unnamed: bool = False
    packages: tuple[str, ...] = ()  # of Debian
    source: Source | None = None  # a container image instead of a path


@dataclass(slots=True)
class Plan:
    """All that goes into an image, before a byte of it is written."""

    tree: Tree
    config: RunConfig
    name: str
    created: int
    nolink: tuple[str, ...] = ()
    history: tuple[Step, ...] = ()
    whole: bool = False  # the tree of a system, not what one program needs


def collect(path: Path, args: Sequence[str], options: BuildOptions) -> Plan:
    """The files and the configuration of the image for `path`.

    Raises:
        CapstanError: something is missing, damaged or misspelt.
    """
    if options.source is not None:
        from capstan.build.sources.plan import collect_container

        return collect_container(options.source, args, options)
    epoch = source_date_epoch()
    root = options.root.absolute()
    if not root.is_dir():
        raise UsageError(f"--root {options.root}: not a directory", hint="name an existing one")
    spec = _capstanfile(path, options)
    tree = Tree(root.resolve())
    parent = None
    if spec is not None:
        parent = _collect_capstanfile(tree, spec)
        argv, name = spec.cmdline, spec.folder.resolve().name
    else:
        add_packages(tree, options.packages)
        argv = (program_of(tree, path, options),)
        name = posixpath.basename(argv[0]).partition(".")[0]
    config = _config(spec, parent or RunConfig(()))
    _add_includes(tree, options.include)
    closure = Closure(tree, config.env)
    line = program.add_command(
        closure, argv, search_path=config.env.get("PATH"), workdir=config.workdir
    )
    tree.record("program", line[0])
    _close_included(tree, closure)
    tree.record("libraries", "of the files above", always=False)
    program.warn_python(tree, line[0])
    tree.add_standard()
    tree.make_dir(config.workdir)
    config = dataclasses.replace(config, argv=(*line, *args), network=_network(spec, tree))
    nolink = spec.nolink if spec is not None else ()
    return Plan(tree, config, name, tree.finish(epoch), nolink, tuple(tree.steps))


def source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH in seconds, None when it is not set."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise UsageError(f"SOURCE_DATE_EPOCH={text}: not a number of seconds", hint="unset it")
    return int(text)


def _capstanfile(path: Path, options: BuildOptions) -> Capstanfile | None:
    """The Capstanfile that `path` and `--file` mean, None when `path` is a program."""
    if options.capstanfile is not None:
        folder = path if path.is_dir() else None
        if folder is None:
            raise UsageError(f"{path}: with --file, name the directory it is about", hint="use .")
        return _with_packages(capstanfile.load(options.capstanfile, folder), options)
    if path.is_dir():
        if _means_package(path, options):
            return None
        if not (path / CAPSTANFILE).is_file():
            raise UsageError(
                f"{path} has no {CAPSTANFILE}",
                hint=f"write {path / CAPSTANFILE}, name another one with -f, or name a program",
            )
        return _with_packages(capstanfile.load(path / CAPSTANFILE), options)
    named = path.name.startswith(CAPSTANFILE) or path.suffix in {".yaml", ".yml"}
    if not named or not path.is_file():
        return None
    return _with_packages(capstanfile.load(path), options)


def _with_packages(spec: Capstanfile, options: BuildOptions) -> Capstanfile:
    """The Capstanfile with the packages of the command line."""
    return dataclasses.replace(spec, packages=(*spec.packages, *options.packages))


def _means_package(path: Path, options: BuildOptions) -> bool:
    """Is the program that of the first package, since nothing else was named?"""
    return bool(options.packages) and path == Path() and not (path / CAPSTANFILE).is_file()


def program_of(tree: Tree, path: Path, options: BuildOptions) -> str:
    """Where in the image the program is that the command line means.

    Raises:
        UsageError: there is none.
    """
    if not _means_package(path, options):
        return program.guest_path(tree, path)
    name = options.packages[0].partition("=")[0]
    for folder in ("/usr/bin", "/usr/sbin", "/usr/games"):
        if tree.find(f"{folder}/{name}") is not None:
            return f"{folder}/{name}"
    raise UsageError(
        f"the package {name} has no program called {name}",
        hint=f"name one: `dpkg -L {name}` or `apt-file list {name}` shows its files",
    )


def _collect_capstanfile(tree: Tree, spec: Capstanfile) -> RunConfig | None:
    """Put what the Capstanfile names into `tree`; the configuration of its base."""
    if spec.build:
        status = proc.run_visible(spec.build, cwd=spec.folder)
        if status != 0:
            raise BuildError(
                f"{spec.path}: build: `{' '.join(spec.build)}` ended with status {status}",
                hint=f"run it in {spec.folder} and mend what it says",
            )
    parent = None
    if spec.base is not None:
        store = Store()
        image = store.open(spec.base)
        base.restore(tree, image, store)
        tree.record("base", f"{image.title} {image.digest[:12]}")
        parent = image.manifest.config
    add_packages(tree, spec.packages)
    if spec.rootfs is not None:
        if not spec.rootfs.is_dir():
            raise BuildError(f"{spec.path}: rootfs: {spec.rootfs} is not a directory")
        tree.graft("/", os.fspath(spec.rootfs))
        tree.record("rootfs", spec.rootfs.name)
    for guest, host in spec.files.items():
        _add_file(tree, spec, guest, host)
        tree.record("files", guest)
    return parent


def add_packages(tree: Tree, names: Sequence[str]) -> None:
    """Put Debian packages with what they need into the tree."""
    if names:
        from capstan.build.sources.debian import add_packages as add
        from capstan.build.sources.plan import contents_of

        with contents_of(Store()) as contents:
            add(tree, names, contents)


def _add_file(tree: Tree, spec: Capstanfile, guest: str, host: str) -> None:
    beside = spec.folder / (Path(guest).name if host == "&" else host)
    if host == "&" and not posixpath.lexists(beside):
        host = guest
    elif not host.startswith("/"):
        if not beside.exists():
            raise BuildError(
                f"{spec.path}: files: {guest}: {beside} does not exist",
                hint="host paths are relative to the folder of the Capstanfile, or absolute",
            )
        tree.graft(guest, os.fspath(beside))
        return
    found = tree.find(host)
    if host == guest and found is not None and found.node is None:
        tree.add(host, recurse=True)
        _add_link_targets(tree, host)
    elif found is not None and found.host is not None:
        tree.graft(guest, found.host)
    else:
        raise BuildError(
            f"{spec.path}: files: {guest}: {tree.name(host)} does not exist",
            hint="host paths are relative to the Capstanfile, or absolute",
        )


def _add_includes(tree: Tree, patterns: tuple[str, ...]) -> None:
    """Add what the globs match, at its own place."""
    import glob

    for pattern in patterns:
        absolute = pattern if tree.host_root else posixpath.abspath(pattern)
        matches = glob.glob(  # noqa: PTH207
            absolute.lstrip("/"),
            root_dir=tree.host_root or "/",
            recursive=True,
            include_hidden=True,
        )
        if not matches:
            raise BuildError(
                f"--include {pattern}: no file matches",
                hint="quote the pattern and name files as they are under the root",
            )
        done = "//"
        for match in sorted(matches):
            if match.startswith(done):
                continue
            done = f"{match.rstrip('/')}/"
            tree.add(f"/{match}", recurse=True)
            _add_link_targets(tree, f"/{match}")
        tree.record("include", pattern)


def _add_link_targets(tree: Tree, top: str) -> None:
    """Add the files that links below `top` lead to outside of it."""
    found = tree.find(top)
    if found is None or found.node is None or not found.is_dir:
        return
    for path, node in list(tree.files(found.node, found.path)):
        if stat.S_ISLNK(node.mode) and tree.find(path, lower=False) is None:
            target = tree.find(path)
            if target is not None and target.is_file:
                tree.add(path)


def _close_included(tree: Tree, closure: Closure) -> None:
    """Add the libraries that the programs and libraries already in the tree need."""
    wanted = []
    for path, node in tree.files():
        if not stat.S_ISREG(node.mode) or not isinstance(node.source, Path):
            continue
        if not node.mode & 0o111 and ".so" not in path.rpartition("/")[2]:
            continue
        try:
            with node.source.open("rb") as file:
                if elf.is_elf(file.read(4)):
                    wanted.append(path)
        except OSError as err:
            raise unreadable(node.source, err) from err
    closure.add_plugins(wanted)


def _network(spec: Capstanfile | None, tree: Tree) -> bool:
    """Does the machine get a card without being asked?"""
    said = spec.network if spec is not None else None
    return netuse.uses_network(tree) if said is None else said


def _config(spec: Capstanfile | None, parent: RunConfig) -> RunConfig:
    """The configuration but for the command line; what is not said is as in the base image."""
    if spec is None:
        return parent
    return dataclasses.replace(
        parent,
        argv=spec.cmdline,
        fixed=None,
        env={**parent.env, **spec.env},
        workdir=spec.workdir or parent.workdir,
        memory=spec.memory or parent.memory,
        cpus=spec.cpus or parent.cpus,
        ports=spec.ports or parent.ports,
        volumes=spec.volumes or parent.volumes,
    )
