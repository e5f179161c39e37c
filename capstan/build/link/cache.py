# SPDX-License-Identifier: BSD-2-Clause
"""Remembers what linking a file gave, by the file's content.

    objects/DIGEST-FLAVOUR-LINKER.json    the report
    objects/DIGEST-FLAVOUR-LINKER         the linked file, if it differs from the original
    index/KEY                             the digest of a file last seen with this stat

DIGEST is the SHA-256 of the original, LINKER a digest of the linker's own sources and of the
disassembler's version: a changed linker never sees old results. The index spares reading a file of
100 MB just to find that it is known: a file's device, inode, size and times stand for its content,
unless it was written so recently that a second write could have left them the same.

Everything is written under a temporary name and renamed, the report last; any number of processes
may use one cache. Nothing is forced to disk, since a damaged entry is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from capstan import fs
from capstan.build.elf import Data
from capstan.build.link.report import LinkReport, LinkResult
from capstan.build.link.table import Flavour

SETTLED_NS = 2_000_000_000


class LinkCache:
    """A cache in one directory, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.objects, self.index = folder / "objects", folder / "index"

    def known_digest(self, stat: os.stat_result) -> str | None:
        """The digest of a file with this stat, if it was seen before."""
        try:
            text = (self.index / _key(stat)).read_text()
        except (OSError, UnicodeDecodeError):
            return None
        return text if len(text) == 64 else None

    def learn(self, stat: os.stat_result, digest: str) -> None:
        """Remember the digest of a file that was read after `stat`."""
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_NS:
            fs.atomic_write(self.index / _key(stat), digest.encode(), durable=False)

    def load(self, digest: str, flavour: Flavour) -> LinkResult | None:
        """What linking gave; None if it is not known."""
        path = self._path(digest, flavour)
        try:
            report = LinkReport.from_json(json.loads(path.with_suffix(".json").read_bytes()))
            data = path.read_bytes() if report.linked_digest else None
        except (OSError, ValueError, TypeError, KeyError):
            return None
        if data is not None and hashlib.sha256(data).hexdigest() != report.linked_digest:
            return None
        if report.digest != digest:
            return None
        with contextlib.suppress(OSError):
            os.utime(path.with_suffix(".json"))  # what is used least goes first when room is short
        return LinkResult(data, report)

    def store(self, result: LinkResult, flavour: Flavour) -> None:
        """Keep a result."""
        path = self._path(result.report.digest, flavour)
        if result.data is not None:
            fs.atomic_write(path, result.data, durable=False)
        text = json.dumps(result.report.to_json(), indent=1)
        fs.atomic_write(path.with_suffix(".json"), text.encode(), durable=False)

    def _path(self, digest: str, flavour: Flavour) -> Path:
        return self.objects / f"{digest}-{flavour.text}-{linker_version()}"


@lru_cache(maxsize=1)
def linker_version() -> str:
    """Changes with the linker's sources and the disassembler."""
    total = hashlib.sha256(version("capstone").encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


def digest_of(data: Data) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _key(stat: os.stat_result) -> str:
    facts = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return hashlib.sha256(repr(facts).encode()).hexdigest()
