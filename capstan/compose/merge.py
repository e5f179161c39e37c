# SPDX-License-Identifier: BSD-2-Clause
"""Several Compose files as one: the later one wins, as the Compose specification says (13).

Mappings are merged key by key, lists are put together, single values are replaced; `command`,
`entrypoint` and `healthcheck.test` are replaced whole. Lists that stand for mappings (such as
`environment`) are merged as mappings. `!override` replaces, `!reset` takes away.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from capstan.compose.tree import Node

_REPLACED = re.compile(r"services\..+\.(command|entrypoint|healthcheck\.test)")
_BY_NAME = re.compile(
    r"services\..+\.(environment|labels|annotations|sysctls|extra_hosts|build\.args"
    r"|build\.labels|deploy\.labels)|networks\.[^.]+\.labels|volumes\.[^.]+\.labels"
)
_SETS = re.compile(r"services\..+\.(depends_on|networks)")
_LISTS = re.compile(r"services\.[^.]+\.(env_file|dns|dns_search|tmpfs|profiles)")
_BY_TARGET = re.compile(r"services\..+\.(volumes|configs|secrets|devices)")


def merge(base: Node, over: Node) -> Node:
    """`base` with what `over` says on top of it."""
    if over.mark or _REPLACED.fullmatch(over.key):
        return _plain(over)
    if isinstance(base.value, dict) and over.value is None and over.key:
        return base
    shape = _shape(over.key)
    base, over = shape(base), shape(over)
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        return _mappings(base, over)
    if isinstance(base.value, tuple) and isinstance(over.value, tuple):
        return _lists(base, over)
    return over


def strip(node: Node) -> Node:
    """`node` without what is marked `!reset`, and without marks."""
    if isinstance(node.value, dict):
        kept = {k: strip(v) for k, v in node.value.items() if v.mark != "!reset"}
        return Node(kept, node.key, node.place)
    if isinstance(node.value, tuple):
        return Node(tuple(strip(item) for item in node.value), node.key, node.place)
    return Node(node.value, node.key, node.place)


def _plain(node: Node) -> Node:
    return node if node.mark == "!reset" else Node(node.value, node.key, node.place)


def _mappings(base: Node, over: Node) -> Node:
    assert isinstance(base.value, dict) and isinstance(over.value, dict)
    both = dict(base.value)
    for name, value in over.value.items():
        both[name] = merge(both[name], value) if name in both else _plain(value)
    return Node({k: v for k, v in both.items() if v.mark != "!reset"}, over.key, over.place)


def _lists(base: Node, over: Node) -> Node:
    assert isinstance(base.value, tuple) and isinstance(over.value, tuple)
    if _BY_TARGET.fullmatch(over.key):
        new = {_target(item) for item in over.value}
        kept = tuple(item for item in base.value if _target(item) not in new)
    else:
        kept = tuple(item for item in base.value if item not in over.value)
    return Node(kept + over.value, over.key, over.place)


def _target(node: Node) -> str:
    """The path in the guest that an entry of `volumes` is about."""
    if isinstance(node.value, dict):
        target = node.value.get("target") or node.value.get("source")
        return str(target.value) if target is not None else ""
    parts = str(node.value).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _shape(key: str) -> Callable[[Node], Node]:
    if _BY_NAME.fullmatch(key):
        return by_name
    if _SETS.fullmatch(key):
        return as_set
    return _as_list if _LISTS.fullmatch(key) else (lambda node: node)


def by_name(node: Node) -> Node:
    """A list of NAME=VALUE as a mapping; a bare NAME has the value None."""
    if not isinstance(node.value, tuple):
        return node
    found: dict[str, Node] = {}
    for item in node.value:
        text = item.text("NAME=VALUE")
        separator = ":" if node.key.endswith("extra_hosts") and "=" not in text else "="
        name, equals, value = text.partition(separator)
        found[name] = Node(value if equals else None, f"{node.key}.{name}", item.place)
    return Node(found, node.key, node.place)


def as_set(node: Node) -> Node:
    """A list of names as a mapping from them to nothing."""
    if not isinstance(node.value, tuple):
        return node
    found = {
        item.text("a name"): Node(None, f"{node.key}.{item.value}", item.place)
        for item in node.value
    }
    return Node(found, node.key, node.place)


def _as_list(node: Node) -> Node:
    if isinstance(node.value, str):
        return Node((node,), node.key, node.place)
    return node
