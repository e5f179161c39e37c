# SPDX-License-Identifier: BSD-2-Clause
"""A project from its files: found, read, merged, its names checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from capstan.compose import merge, read
from capstan.compose.extends import extended, read_file
from capstan.compose.interpolate import BadText, parse_env
from capstan.compose.model import DEFAULT_NETWORK, Network, Project, Service
from capstan.compose.tree import Node, Place
from capstan.errors import UsageError

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES = ("compose.override", "docker-compose.override")
TOP = ("name", "services", "networks", "volumes", "version", "configs", "secrets")


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line says; empty: as the Compose specification finds it."""

    files: tuple[Path, ...] = ()
    name: str | None = None
    folder: Path | None = None
    env_files: tuple[Path, ...] = ()
    profiles: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The files as one, before a service of them is looked at."""

    name: str
    root: Node
    files: tuple[Path, ...]
    folder: Path
    environ: dict[str, str]
    missing: dict[str, Place]


def _open(request: Request) -> _Opened:
    files = request.files or _listed(request.environ) or _search(Path.cwd())
    folder = (request.folder or files[0].parent).absolute()
    environ = {**_env_files(request, folder), **request.environ}
    missing: dict[str, Place] = {}
    environ.setdefault("COMPOSE_PROJECT_NAME", request.name or "")
    root = _merged(files, environ, missing)
    name = _name(request, environ, root, folder)
    return _Opened(name, root, files, folder, environ, missing)


def name_of(request: Request) -> str:
    """The project's name; the services may be wrong.

    Raises:
        UsageError: no file, or it is not YAML.
    """
    return check_name(request.name) if request.name else _open(request).name


def load(request: Request) -> Project:
    """The project.

    Raises:
        UsageError: no file, or something in one is wrong; FILE:LINE and the key are in front.
    """
    opened = _open(request)
    environ = opened.environ
    context = read.Context(opened.folder, environ)
    context.warnings += [
        f"{place}: the variable {text} is not set; it is empty"
        for text, place in opened.missing.items()
    ]
    project = _project(opened.name, opened.root, context, opened.files)
    wanted = request.profiles or tuple(
        p for p in environ.get("COMPOSE_PROFILES", "").split(",") if p
    )
    active = with_profiles(project.services, wanted)
    inactive = tuple(name for name in project.services if name not in active)
    return replace(project, services=active, inactive=inactive)


def _listed(environ: Mapping[str, str]) -> tuple[Path, ...]:
    listed = environ.get("COMPOSE_FILE", "")
    separator = environ.get("COMPOSE_PATH_SEPARATOR", os.pathsep)
    return tuple(Path(text) for text in listed.split(separator) if text)


def _search(start: Path) -> tuple[Path, ...]:
    """The Compose file of this directory or one above, and its override."""
    for folder in (start, *start.parents):
        for name in NAMES:
            if (folder / name).is_file():
                more = (folder / f"{o}{ending}" for o in OVERRIDES for ending in (".yaml", ".yml"))
                return (folder / name, *(path for path in more if path.is_file()))
    raise UsageError(
        f"no Compose file in {start} or above", hint=f"name it with -f, or write {NAMES[0]}"
    )


def _env_files(request: Request, folder: Path) -> dict[str, str]:
    """The variables of `.env`, or of the files that were named instead."""
    found: dict[str, str] = {}
    for path in request.env_files or (folder / ".env",):
        if not request.env_files and not path.is_file():
            continue
        try:
            text = path.read_text(errors="surrogateescape")
            entries = parse_env(text, request.environ)
        except OSError as err:
            raise UsageError(f"{path}: {err.strerror}", hint="check --env-file") from err
        except BadText as err:
            raise UsageError(f"{path}: {err}") from err
        found.update((k, v) for k, v in entries.items() if v is not None)
    return found


def _merged(files: Sequence[Path], environ: Mapping[str, str], missing: dict[str, Place]) -> Node:
    root: Node | None = None
    for path in files:
        node = extended(read_file(path, environ, missing), path, environ, missing)
        root = node if root is None else merge.merge(root, node)
    assert root is not None
    return merge.strip(root)


# --- the whole ---


def _name(request: Request, environ: Mapping[str, str], root: Node, folder: Path) -> str:
    given = request.name or environ.get("COMPOSE_PROJECT_NAME")
    if not given and "name" in root.pairs():
        given = root.pairs()["name"].text()
    if given:
        return check_name(given)
    plain = re.sub(r"[^a-z0-9_-]", "", folder.name.lower()).lstrip("_-")
    return check_name(plain or "default")


def check_name(name: str) -> str:
    """`name`, which can be a project's.

    Raises:
        UsageError: it cannot.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise UsageError(
            f"{name!r} cannot be the name of a project",
            hint="lower-case letters, digits, '-' and '_': `-p NAME`",
        )
    return name


def _project(name: str, root: Node, context: read.Context, files: tuple[Path, ...]) -> Project:
    top = root.pairs()
    for key, node in top.items():
        if key == "include":
            raise node.complain("not supported", hint="name the other file with a second -f")
        if key not in TOP and not key.startswith("x-"):
            raise node.complain("unknown key", hint=f"known keys: {', '.join(TOP)}")
    if not top.get("services") or not top["services"].pairs():
        raise root.complain("no services", hint="add `services:` with one service")
    context.shared = {
        kind: top[kind].pairs() if kind in top else {} for kind in ("configs", "secrets")
    }
    services = {n: read.service(n, node, context) for n, node in top["services"].pairs().items()}
    networks = {
        n: read.network(n, node, context)
        for n, node in (top["networks"].pairs() if "networks" in top else {}).items()
    }
    networks.setdefault(DEFAULT_NETWORK, Network(DEFAULT_NETWORK))
    _check_names(top["services"], services, networks)
    volumes = tuple(top["volumes"].pairs()) if "volumes" in top else ()
    warnings = tuple(context.warnings)
    return Project(name, context.folder, files, services, networks, volumes, warnings)


def _check_names(
    node: Node, services: Mapping[str, Service], networks: Mapping[str, Network]
) -> None:
    """Nothing, if all services and networks that are spoken of are there."""
    for name, service in services.items():
        place = node.pairs()[name]
        others = [d.service for d in service.depends_on if d.required]
        for other in (*others, *(target for target, _ in service.links)):
            if other not in services:
                raise place.complain(f"there is no service {other}")
        for attached in service.networks:
            if attached.network not in networks:
                raise place.complain(
                    f"there is no network {attached.network}", hint="add it to `networks:`"
                )
    order(services, node)


def order(services: Mapping[str, Service], node: Node | None = None) -> list[str]:
    """The services, each after those it depends on.

    Raises:
        UsageError: they go round in a circle.
    """
    done: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done or name not in services:
            return
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            where = f"{node.place}: " if node is not None else ""
            raise UsageError(f"{where}depends_on goes round in a circle: {circle}")
        path.append(name)
        for other in needs(services[name]):
            visit(other)
        path.pop()
        done.append(name)

    for name in services:
        visit(name)
    return done


def needs(service: Service) -> list[str]:
    """The services that `service` depends on."""
    return [d.service for d in service.depends_on] + [target for target, _ in service.links]


def with_profiles(services: Mapping[str, Service], wanted: Sequence[str]) -> dict[str, Service]:
    """The services without a profile, and those with one that is wanted (`*`: all)."""
    return {
        name: service
        for name, service in services.items()
        if not service.profiles or "*" in wanted or set(service.profiles) & set(wanted)
    }


def select(project: Project, names: Sequence[str], *, with_needs: bool = True) -> list[str]:
    """`names` (none: all services) and what they depend on, in the order to start them.

    Raises:
        UsageError: there is no such service.
    """
    for name in names:
        if name not in project.services:
            known = ", ".join(project.services)
            raise UsageError(f"there is no service {name}", hint=f"{project.name} has {known}")
    wanted = set(names or project.services)
    while with_needs:
        more = {o for n in wanted for o in needs(project.services[n]) if o in project.services}
        if more <= wanted:
            break
        wanted |= more
    return [name for name in order(project.services) if name in wanted]
