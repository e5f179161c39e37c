# SPDX-License-Identifier: BSD-2-Clause
"""YAML text as nodes that know where they stand and what they are called.

Scalars are text, as written (`yes`, `1.10` and `22:22` stay text); `<<` is resolved, variables
are put in. Two nodes compare equal when they mean the same, wherever they stand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from capstan import yamlfile
from capstan.errors import UsageError

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    YamlNode = ScalarNode | SequenceNode | MappingNode

NULL = "tag:yaml.org,2002:null"
MERGE = "tag:yaml.org,2002:merge"
MARKS = ("!reset", "!override")
MAX_NODES = 50_000  # aliases of aliases grow without end
MAX_DEPTH = 40
TRUE = ("true", "yes", "on", "y")
FALSE = ("false", "no", "off", "n")

Interpolate = Callable[[str, "Place"], str]


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file."""

    path: Path
    line: int

    def __str__(self) -> str:
        """FILE:LINE."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file: text, None, a tuple of nodes or a mapping; `key` is its full name.

    `mark` is `!reset` or `!override`, which say how `merge` takes it.
    """

    value: str | tuple[Node, ...] | dict[str, Node] | None
    key: str = dataclasses.field(compare=False)
    place: Place = dataclasses.field(compare=False)
    mark: str = ""

    def error(self, expected: str, *, hint: str | None = None) -> UsageError:
        """An error that says what this should have been."""
        return self.complain(f"expected {expected}", hint=hint)

    def complain(self, text: str, *, hint: str | None = None) -> UsageError:
        """An error about this node."""
        what = f"{self.key}: " if self.key else ""
        return UsageError(f"{self.place}: {what}{text}", hint=hint)

    def text(self, expected: str = "a string") -> str:
        """The scalar as it is written."""
        if not isinstance(self.value, str):
            raise self.error(expected)
        if "\0" in self.value:
            raise self.error(f"{expected} without NUL bytes")
        return self.value

    def items(self, expected: str = "a list") -> tuple[Node, ...]:
        """The members of a list."""
        if not isinstance(self.value, tuple):
            raise self.error(expected)
        return self.value

    def pairs(self, expected: str = "a mapping") -> dict[str, Node]:
        """The members of a mapping; nothing at all is an empty one."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error(expected)
        return self.value

    def flag(self) -> bool:
        """True or false."""
        text = self.text("true or false").lower()
        if text not in (*TRUE, *FALSE):
            raise self.error("true or false")
        return text in TRUE

    def texts(self, expected: str = "a list of strings") -> tuple[str, ...]:
        """A list of strings; a string alone is a list of one."""
        if isinstance(self.value, str):
            return (self.text(expected),)
        return tuple(node.text(expected) for node in self.items(expected))


def parse(data: bytes, path: Path, interpolate: Interpolate) -> Node:
    """The mapping in `data`.

    Raises:
        UsageError: not YAML, no mapping, a key twice, or grown beyond measure.
    """
    root = yamlfile.document(data, path, "Compose file")
    if root is None:
        raise UsageError(f"{path}: empty", hint="add at least `services:` with one service")
    node = _Builder(path, interpolate).build(cast("YamlNode", root), "", 0)
    if not isinstance(node.value, dict):
        raise node.error("`key: value` lines, such as `services:`")
    return node


class _Builder:
    """YAML's nodes to ours."""

    def __init__(self, path: Path, interpolate: Interpolate) -> None:
        self._path = path
        self._interpolate = interpolate
        self._left = MAX_NODES

    def build(self, node: YamlNode, key: str, depth: int) -> Node:
        place = self._place(node)
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise UsageError(f"{place}: {key}: too large or nested too deeply")
        mark = node.tag if node.tag in MARKS else ""
        if not mark and not str(node.tag).startswith("tag:yaml.org"):
            raise UsageError(f"{place}: {key}: unknown tag {node.tag}", hint=" or ".join(MARKS))
        if node.id == "sequence":
            return Node(tuple(self.build(n, key, depth + 1) for n in node.value), key, place, mark)
        if node.id == "mapping":
            return Node(self._mapping(cast("MappingNode", node), key, depth), key, place, mark)
        text = str(node.value)
        if node.tag == NULL or (mark == "!reset" and text in ("", "null", "~")):
            return Node(None, key, place, mark)
        return Node(self._interpolate(text, place) if "$" in text else text, key, place, mark)

    def _mapping(self, node: MappingNode, key: str, depth: int) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for name_node, value in node.value:
            if name_node.tag == MERGE:
                for source in self._merged(value):
                    found = self._mapping(source, key, depth + 1)
                    merged.update((k, v) for k, v in found.items() if k not in merged)
                continue
            name = self._name(name_node, key)
            under = f"{key}.{name}" if key else name
            if name in own:
                raise UsageError(f"{self._place(name_node)}: {under}: expected this key only once")
            own[name] = self.build(value, under, depth + 1)
        return {**merged, **own}

    def _merged(self, value: YamlNode) -> Iterator[MappingNode]:
        sources = value.value if value.id == "sequence" else [value]
        for source in sources:
            self._left -= 1
            if source.id != "mapping" or self._left < 0:
                raise UsageError(f"{self._place(value)}: <<: expected a mapping or a list of them")
            yield cast("MappingNode", source)

    def _name(self, node: YamlNode, key: str) -> str:
        if node.id != "scalar" or not isinstance(node.value, str) or "\0" in node.value:
            raise UsageError(f"{self._place(node)}: {key}: expected a string as key")
        return node.value

    def _place(self, node: YamlNode) -> Place:
        return Place(self._path, node.start_mark.line + 1)
