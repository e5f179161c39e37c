# SPDX-License-Identifier: BSD-2-Clause
"""JSON from a registry, read with suspicion: every access says what was expected where."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capstan.errors import RepoError
from capstan.oci import Descriptor
from capstan.repo.limits import JSON_DEPTH

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Doc:
    """A JSON object; `where` names it in errors."""

    where: str
    data: Mapping[str, object]

    def error(self, what: str) -> RepoError:
        """The failure `what` of this document."""
        return RepoError(
            f"{self.where}: {what}",
            hint="the registry sent something that cannot be used: push it again, or tell the "
            "registry's administrator",
        )

    def text(self, key: str, default: str | None = None) -> str:
        """The string `key`."""
        value = self.data.get(key, default)
        if not isinstance(value, str):
            raise self.error(f"{key!r} is missing or no text")
        return value

    def number(self, key: str, most: int = 1 << 62) -> int:
        """The whole number `key`, 0 to `most`."""
        value = self.data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise self.error(f"{key!r} is no number from 0 to {most}")
        return value

    def child(self, key: str) -> Doc:
        """The object `key`."""
        value = self.data.get(key)
        if not isinstance(value, dict):
            raise self.error(f"{key!r} is missing or no object")
        return Doc(self.where, value)

    def children(self, key: str, most: int) -> Sequence[Doc]:
        """The objects in the list `key`; none when it is missing."""
        return [self._object(key, item) for item in self.list(key, most)]

    def list(self, key: str, most: int) -> Sequence[object]:
        """The list `key`; empty when it is missing."""
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(f"{key!r} is no list")
        if len(value) > most:
            raise self.error(f"{key!r} has {len(value)} entries, at most {most} are allowed")
        return value

    def pairs(self, key: str, most: int) -> tuple[tuple[int, int], ...]:
        """The pairs of whole numbers in the list `key`."""
        found = []
        for item in self.list(key, most):
            if not (isinstance(item, list) and len(item) == 2):
                raise self.error(f"{key!r} has an entry that is no pair")
            first, second = item
            if not (_is_count(first) and _is_count(second)):
                raise self.error(f"{key!r} has an entry that is no pair of numbers")
            found.append((int(first), int(second)))
        return tuple(found)

    def strings(self, key: str) -> dict[str, str]:
        """The object `key` whose values are all text; empty when it is missing."""
        value = self.data.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.error(f"{key!r} is no object of texts")
        return dict(value)

    def _object(self, key: str, item: object) -> Doc:
        if not isinstance(item, dict):
            raise self.error(f"{key!r} has an entry that is no object")
        return Doc(self.where, item)


def parse(data: bytes, where: str) -> Doc:
    """The JSON object in `data`.

    Raises:
        RepoError: it is none, or nested too deeply.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise Doc(where, {}).error("not a JSON document") from err
    if not isinstance(value, dict):
        raise Doc(where, {}).error("not a JSON object")
    if _depth(value) > JSON_DEPTH:
        raise Doc(where, {}).error(f"nested more than {JSON_DEPTH} levels deep")
    return Doc(where, value)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _depth(value: object) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        deepest = max(deepest, depth)
        if depth > JSON_DEPTH:
            break
        inside = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting += [(child, depth + 1) for child in inside if isinstance(child, dict | list)]
    return deepest


def descriptor(doc: Doc, size_max: int = 1 << 40) -> Descriptor:
    """The descriptor `doc` is.

    Raises:
        RepoError: it is none, or has a digest that is not SHA-256.
    """
    digest = doc.text("digest")
    if not _DIGEST.fullmatch(digest):
        raise doc.error(f"{digest[:80]!r} is no SHA-256 digest")
    data = doc.data.get("data")
    platform = None
    if isinstance(doc.data.get("platform"), dict):
        place = doc.child("platform")
        platform = (place.text("os", ""), place.text("architecture", ""), place.text("variant", ""))
    return Descriptor(
        media_type=doc.text("mediaType"),
        digest=digest,
        size=doc.number("size", size_max),
        annotations=doc.strings("annotations"),
        data=data if isinstance(data, str) else None,
        platform=platform,
    )
