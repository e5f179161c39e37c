# SPDX-License-Identifier: BSD-2-Clause
"""What the images of a store are called: names, IDs, and the digests registries know them by.

    images/NAME/TAG                link to an object ("/" in NAME is written "+")
    images/NAME/@sha256:DIGEST     the same for an image pulled by its registry digest
    objects/SHA256/repos.json      the registry names it was pulled from or pushed to

Whoever changes something holds the lock of the store.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from capstan import fs, ref
from capstan.errors import ImageError
from capstan.ref import ImageRef

REPOS = "repos.json"

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


class Names:
    """The names of the store in the directory `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = root / "images"
        self._objects = root / "objects"

    def link(self, name: ImageRef) -> Path:
        """The place of a name; its digest counts only when it has no tag."""
        tag = name.tag or f"@{name.digest}"
        return self.folder / name.repository.replace("/", "+") / tag

    def links(self) -> Iterator[tuple[ImageRef, Path]]:
        """Every name with its link."""
        for link in self.folder.glob("*/*"):
            if link.is_symlink():
                parsed = read_link(link)
                if parsed is not None:
                    yield parsed, link

    def of(self, digest: str) -> Sequence[ImageRef]:
        """The names of the image with the ID `digest`, sorted."""
        return sorted(name for name, link in self.links() if target(link) == digest)

    def by_digest(self) -> Mapping[str, Sequence[ImageRef]]:
        """The names of every image that has any, by its ID."""
        found: dict[str, list[ImageRef]] = {}
        for name, link in sorted(self.links()):
            digest = target(link)
            if digest is not None:
                found.setdefault(digest, []).append(name)
        return found

    def find(self, text: str, *, ids: bool = True) -> tuple[str, ImageRef | None] | None:
        """The ID of the image that `text` stands for, and what to call it.

        Raises:
            ImageError: several images have an ID that begins so.
        """
        parsed = ref.try_parse(text)
        digest = self.find_name(parsed) if parsed is not None else None
        if digest is None and ids:
            digest = self.find_id(text)
        if digest is None:
            return None
        if parsed is not None and target(self.link(parsed)) == digest:
            return digest, parsed
        return digest, next(iter(self.of(digest)), None)

    def find_name(self, name: ImageRef) -> str | None:
        """The object of a name; with a digest the one a registry knows by it."""
        digest = target(self.link(name))
        if not name.digest:
            return digest
        entry = f"{name.repository}@{name.digest}"
        first = [digest] if digest is not None else []
        others = sorted(path.name for path in self._objects.glob("[0-9a-f]*"))
        for candidate in first + others:
            if entry in read_repos(self._objects / candidate):
                return candidate
        return None

    def find_id(self, text: str) -> str | None:
        """The only object whose ID begins with `text`.

        Raises:
            ImageError: there are several.
        """
        matched = _ID.fullmatch(text)
        if matched is None:
            return None
        found = sorted(path.name for path in self._objects.glob(f"{matched[1]}*"))
        if len(found) > 1:
            raise ImageError(
                f"{text}: {len(found)} images have an ID that begins so",
                hint=f"one of {', '.join(digest[:16] for digest in found[:4])}",
            )
        return found[0] if found else None

    def doomed(self, text: str, *, force: bool) -> tuple[str, Sequence[ImageRef]]:
        """The object `text` stands for, and the names that go when `text` is removed.

        Raises:
            ImageError: there is none, or an ID has several names and `force` is not given.
        """
        parsed = ref.try_parse(text)
        digest = self.find_name(parsed) if parsed is not None else None
        if parsed is not None and digest is not None and target(self.link(parsed)) is not None:
            return digest, [ImageRef(parsed.name, parsed.tag, parsed.host, _only_digest(parsed))]
        digest = digest or self.find_id(text)
        if digest is None:
            raise no_image(text)
        names = self.of(digest)
        if len(names) > 1 and not force:
            raise ImageError(
                f"{text} has several names: {', '.join(map(str, names))}",
                hint="remove them one by one, or all of them with --force",
            )
        return digest, names

    def give(self, name: ImageRef, digest: str) -> None:
        """Let `name` stand for the object `digest`, whatever it stood for."""
        if name.digest:
            add_repo(self._objects / digest, name)
        if target(self.link(name)) != digest:
            point(self._root, self.link(name), digest)

    def forget(self, name: ImageRef) -> None:
        """Remove a name."""
        link = self.link(name)
        fs.unlink(link)
        with contextlib.suppress(OSError):
            link.parent.rmdir()


def target(link: Path) -> str | None:
    """The object a link points at, None when it is gone."""
    try:
        return link.readlink().name
    except OSError:
        return None


def point(root: Path, link: Path, digest: str) -> None:
    """Make `link`, below `root`, a link to the object `digest`."""
    up = "/".join([".."] * len(link.parent.relative_to(root).parts))
    fs.atomic_symlink(link, f"{up}/objects/{digest}")


def read_link(link: Path) -> ImageRef | None:
    """The name a link stands for."""
    repository = link.parent.name.replace("+", "/")
    mark = "" if link.name.startswith("@") else ":"
    return ref.try_parse(f"{repository}{mark}{link.name}")


def read_repos(place: Path) -> Sequence[str]:
    """The registry names of the object in `place`."""
    try:
        raw: Any = json.loads((place / REPOS).read_bytes())
    except (OSError, ValueError):
        return []
    return [str(entry) for entry in raw] if isinstance(raw, list) else []


def add_repo(place: Path, name: ImageRef) -> None:
    """Add the registry name `name`, which has a digest, to the object in `place`."""
    known = read_repos(place)
    entry = f"{name.repository}@{name.digest}"
    if entry not in known:
        fs.atomic_write(place / REPOS, json.dumps([*known, entry], indent=1).encode())


def no_image(text: str) -> ImageError:
    """The error for a name or ID of no image; UsageError when it cannot be one."""
    parsed = text if _ID.fullmatch(text) else ref.parse(text)
    return ImageError(
        f"there is no image {parsed}",
        hint="`capstan images` lists them; `capstan build -t NAME PATH` makes one",
    )


def _only_digest(name: ImageRef) -> str:
    return "" if name.tag else name.digest
