# SPDX-License-Identifier: BSD-2-Clause
"""One Compose file as nodes, each service merged onto the one it extends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from capstan.compose import merge, tree
from capstan.compose.interpolate import BadText, interpolate
from capstan.compose.tree import Node, Place
from capstan.errors import UsageError

MAX_EXTENDS = 10


def read_file(path: Path, environ: Mapping[str, str], missing: dict[str, Place]) -> Node:
    """The file as nodes, variables put in; those that have no value are noted in `missing`.

    Raises:
        UsageError: it cannot be read, or is no Compose file.
    """

    def put_in(text: str, place: Place) -> str:
        def note(name: str) -> None:
            missing.setdefault(name, place)

        try:
            return interpolate(text, environ, note)
        except BadText as err:
            raise UsageError(f"{place}: {err}") from err

    try:
        data = path.read_bytes()
    except OSError as err:
        raise UsageError(f"{path}: {err.strerror}", hint="check -f") from err
    return tree.parse(data, path, put_in)


def extended(root: Node, path: Path, environ: Mapping[str, str], missing: dict[str, Place]) -> Node:
    """`root` with each service that extends another one merged onto it."""
    services = root.pairs().get("services")
    if services is None or not isinstance(services.value, dict):
        return root
    done = {
        name: _resolve(name, root, path, environ, missing, 0)
        for name, node in services.value.items()
        if isinstance(node.value, dict)
    }
    services = Node({**services.value, **done}, services.key, services.place, services.mark)
    return Node({**root.pairs(), "services": services}, root.key, root.place)


def _resolve(
    name: str,
    root: Node,
    path: Path,
    environ: Mapping[str, str],
    missing: dict[str, Place],
    depth: int,
) -> Node:
    """The service `name` of `root`, with what it extends."""
    node = root.pairs()["services"].pairs()[name]
    extends = node.pairs().get("extends")
    if extends is None:
        return node
    if depth > MAX_EXTENDS:
        raise extends.complain("this goes round in a circle")
    file, other = _extends(extends)
    where, base_root = path, root
    if file is not None:
        where = path.parent / file
        base_root = read_file(where, environ, missing)
    bases = base_root.pairs().get("services")
    if bases is None or other not in bases.pairs():
        raise extends.complain(f"there is no service {other} in {where}")
    base = _resolve(other, base_root, where, environ, missing, depth + 1)
    kept = {
        k: v
        for k, v in base.pairs().items()
        if k not in ("depends_on", "links", "volumes_from", "extends")
    }
    base = _renamed(Node(kept, base.key, base.place), f"services.{other}", f"services.{name}")
    if file is not None:
        base = _moved(base, where.parent.absolute())
    return merge.merge(base, node)


def _extends(node: Node) -> tuple[str | None, str]:
    if isinstance(node.value, str):
        return None, node.value
    given = node.pairs("a service, or a mapping with service and file")
    if wrong := set(given) - {"file", "service"}:
        raise given[min(wrong)].complain("unknown key", hint="service, file")
    if "service" not in given:
        raise node.complain("the key service is missing")
    return (given["file"].text() if "file" in given else None), given["service"].text()


def _renamed(node: Node, old: str, new: str) -> Node:
    """`node` as a part of another service: keys are what merging goes by."""
    key = new + node.key[len(old) :] if node.key.startswith(old) else node.key
    value = node.value
    if isinstance(value, dict):
        value = {name: _renamed(item, old, new) for name, item in value.items()}
    elif isinstance(value, tuple):
        value = tuple(_renamed(item, old, new) for item in value)
    return Node(value, key, node.place, node.mark)


def _moved(service: Node, folder: Path) -> Node:
    """`service` with paths that start from `folder`, where its file is."""

    def path(node: Node) -> Node:
        text = node.value
        if not isinstance(text, str) or "://" in text or text.startswith(("/", "~")):
            return node
        return Node(str(folder / text), node.key, node.place)

    def bind(node: Node) -> Node:
        text = node.value
        is_path = isinstance(text, str) and text.startswith(".")
        return Node(f"{folder}/{text}", node.key, node.place) if is_path else node

    def each(node: Node, key: str, change: Callable[[Node], Node]) -> Node:
        """A text, the entry `key` of a mapping, or a list of these."""
        if isinstance(node.value, tuple):
            items = tuple(each(item, key, change) for item in node.value)
            return Node(items, node.key, node.place, node.mark)
        if isinstance(node.value, dict):
            changed = {k: change(v) if k == key else v for k, v in node.value.items()}
            return Node(changed, node.key, node.place, node.mark)
        return change(node)

    rules = {"build": ("context", path), "env_file": ("path", path), "volumes": ("source", bind)}
    moved = {k: each(v, *rules[k]) if k in rules else v for k, v in service.pairs().items()}
    return Node(moved, service.key, service.place, service.mark)
