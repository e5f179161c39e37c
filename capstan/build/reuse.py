# SPDX-License-Identifier: BSD-2-Clause
"""Finds the image that was made from the same input before, without reading the input.

A host file stands for its content with its size, times and inode. One that was changed a moment
ago could be changed again within the same tick of the file system's clock, so such files (they are
called racy) count by content as well:

    cache/KEY                the image, when no file was racy
    cache/KEY.racy           else: which files were, when the image was made
    cache/KEY-DIGEST         and the image; DIGEST is that of their names and contents

A later build with the same KEY reads the files of KEY.racy only; when their contents are the same
and none is racy any more, it makes the link cache/KEY.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan import __version__, fs
from capstan.build.collect import Plan
from capstan.build.rootfs import Facts, Tree, unreadable
from capstan.build.zfs.tree import Node
from capstan.ref import ImageRef
from capstan.store import Store, StoredImage

FINE_NS, COARSE_NS = 10**7, 2 * 10**9
"""A clock whose times are no multiples of FINE_NS ticks at least that often; others every 2 s."""
SETTLED_FINE_NS = 10**8


@dataclass(frozen=True, slots=True)
class BuildKey:
    """What an image is made of: a digest over all that decides its bytes, and the racy files."""

    key: str
    racy: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, how: Sequence[object]) -> BuildKey:
        """The key of a plan; `how` is what else decides the image's bytes."""
        digest = hashlib.sha256()
        head = [__version__, _builder_stamp(), *how, plan.name, plan.created, list(plan.nolink)]
        config = dataclasses.asdict(plan.config)
        steps = [dataclasses.astuple(step) for step in plan.history]
        digest.update(json.dumps([head, config, steps], sort_keys=True).encode())
        now = time.time_ns()
        racy = []
        order: dict[int, int] = {}
        for path, node in plan.tree.files():
            same = order.setdefault(id(node), len(order))
            row = (same, path, node.mode, node.uid, node.gid, node.mtime_ns, node.rdev, node.target)
            digest.update(repr((row, sorted((node.xattrs or {}).items()))).encode())
            digest.update(_source_key(plan.tree, node))
            if isinstance(node.source, Path):
                host = os.fspath(node.source)
                if host not in plan.tree.digests and _is_racy(plan.tree.facts[host], now):
                    racy.append(host)
        return cls(digest.hexdigest(), tuple(sorted(set(racy))))

    def find(self, store: Store, name: ImageRef | None) -> StoredImage | None:
        """The image made from the same before; it is given `name`."""
        if not self.racy:
            image = store.reuse(self.key, name)
            if image is not None:
                return image
        files = self._recorded(store)
        if files is None or not set(self.racy) <= set(files):
            return None
        image = store.reuse(f"{self.key}-{_contents(files)}", name)
        if image is not None and not self.racy:
            store.remember(self.key, image)
        return image

    def to_store(self, store: Store) -> str:
        """The key to put the new image under, before its files are read."""
        if not self.racy:
            return self.key
        fs.atomic_write(self._record(store), json.dumps(self.racy).encode())
        return f"{self.key}-{_contents(self.racy)}"

    def _record(self, store: Store) -> Path:
        return store.cache / f"{self.key}.racy"

    def _recorded(self, store: Store) -> Sequence[str] | None:
        try:
            found = json.loads(self._record(store).read_bytes())
        except (OSError, ValueError):
            return None
        is_good = isinstance(found, list) and all(isinstance(path, str) for path in found)
        return found if is_good else None


def _is_racy(facts: Facts, now: int) -> bool:
    is_fine = facts.ctime_ns % FINE_NS != 0
    settled = SETTLED_FINE_NS if is_fine else COARSE_NS
    return any(0 <= now - changed < settled for changed in (facts.mtime_ns, facts.ctime_ns))


def _contents(files: Sequence[str]) -> str:
    total = hashlib.sha256()
    for path in files:
        total.update(os.fsencode(path) + b"\0")
        try:
            with Path(path).open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as err:
            raise unreadable(path, err) from err
    return total.hexdigest()


def _source_key(tree: Tree, node: Node) -> bytes:
    if isinstance(node.source, bytes):
        return hashlib.sha256(node.source).digest()
    if node.source is None:
        return b""
    host = os.fspath(node.source)
    known = tree.digests.get(host)
    if known is not None:
        return known.encode()
    return repr((host, tree.facts[host])).encode()


def _builder_stamp() -> int:
    """The newest change of the builder itself: an image of an older one is not reused."""
    here = Path(__file__).parent
    sources = [*here.glob("*.py"), *here.glob("*/*.py"), *here.parent.glob("*.py")]
    return max(source.stat().st_mtime_ns for source in sources)
