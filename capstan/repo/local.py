# SPDX-License-Identifier: BSD-2-Clause
"""What this machine knows of frames: a note beside each image that was pushed or pulled.

    objects/SHA256/frames.json   the frames of the image and the blobs they are in registries

With it a pull takes what another image has from its disk file, and a push packs only what no
registry has yet. A note that is missing or wrong costs time, nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from capstan import fs
from capstan.errors import RepoError
from capstan.oci import Descriptor, dump
from capstan.repo import doc, frames
from capstan.repo.artifact import Piece
from capstan.repo.frames import Run
from capstan.repo.limits import FRAME_MAX, PIECES_MAX
from capstan.store import DISK, Store

NOTE = "frames.json"


def note(pieces: Sequence[Piece]) -> bytes:
    """The note about an image with these frames."""
    rows = [
        {"content": p.content, "runs": [list(run) for run in p.runs], "blob": p.blob.to_json()}
        for p in pieces
    ]
    return dump({"frames": rows})


def keep(disk: Path, pieces: Sequence[Piece]) -> None:
    """Write the note beside an image; not being able to is no failure."""
    with contextlib.suppress(OSError):
        fs.atomic_write(disk.with_name(NOTE), note(pieces))


class Frames:
    """All frames of all images of a store."""

    def __init__(self, store: Store) -> None:
        self._places: dict[str, tuple[Path, tuple[Run, ...]]] = {}
        self._blobs: dict[str, Descriptor] = {}
        for path in sorted(store.objects.glob(f"*/{NOTE}")):
            with contextlib.suppress(OSError, RepoError, TypeError, ValueError):
                self._add(path)

    def blob(self, content: str) -> Descriptor | None:
        """The blob that a frame was the last time."""
        return self._blobs.get(content)

    def content(self, digest: str, size: int) -> bytes | None:
        """The content of a frame from a local image, when one still has it."""
        disk, runs = self._places.get(digest, (None, ()))
        if disk is None or sum(length for _, length in runs) != size or size > FRAME_MAX:
            return None
        try:
            fd = os.open(disk, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = frames.read(fd, frames.Frame("", runs))
        except OSError:
            return None
        finally:
            os.close(fd)
        return data if "sha256:" + hashlib.sha256(data).hexdigest() == digest else None

    def _add(self, path: Path) -> None:
        page = doc.parse(path.read_bytes(), str(path))
        for row in page.children("frames", PIECES_MAX):
            content = row.text("content")
            self._places[content] = (path.with_name(DISK), row.pairs("runs", 1 << 22))
            self._blobs[content] = doc.descriptor(row.child("blob"))
