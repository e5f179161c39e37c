# SPDX-License-Identifier: BSD-2-Clause
"""A stand-in for the pool writer: fast, deterministic, and it counts its calls."""

from __future__ import annotations

import hashlib
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from capstan.build.zfs.tree import Node


@dataclass
class Result:
    """What `write_pool` returns."""

    guid: int
    size: int
    files: int
    data_bytes: int


@dataclass
class FakePool:
    """The writer; `error` is raised half-way when set."""

    calls: int = 0
    error: Exception | None = None
    names: list[str] = field(default_factory=list)

    def write_pool(
        self,
        root: Node,
        out: BinaryIO,
        *,
        name: str,
        created: int,
        compress: bool = True,
        progress: object = None,
    ) -> Result:
        """Write a digest of the tree where the pool's data would be."""
        self.calls += 1
        self.names.append(name)
        digest = hashlib.sha256(repr((name, created, compress)).encode())
        count = 0
        todo = [("", root)]
        while todo:
            path, node = todo.pop()
            count += 1
            data = node.source.read_bytes() if isinstance(node.source, Path) else node.source
            digest.update(repr((path, node.mode, node.mtime_ns, node.target, data)).encode())
            todo += [(f"{path}/{key!r}", child) for key, child in sorted(node.children.items())]
        out.truncate(5 << 20)
        out.seek(4 << 20)
        out.write(digest.digest())
        if self.error is not None:
            raise self.error
        return Result(7, 5 << 20, count, 0)


def install(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    """Put the stand-in where `capstan.build.image` imports the writer from."""
    fake = FakePool()
    module = types.ModuleType("capstan.build.zfs.writer")
    module.write_pool = fake.write_pool  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "capstan.build.zfs.writer", module)
    return fake
