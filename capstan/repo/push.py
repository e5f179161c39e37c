# SPDX-License-Identifier: BSD-2-Clause
"""`capstan push`: an image's frames, then its configuration, then its manifest, which is the end.

Nothing points at the blobs until the manifest is there, so a push that breaks leaves the tag as it
was. A frame the registry has is not sent, one another repository of it has is mounted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from capstan.errors import ImageError, RepoError
from capstan.extents import FileBlocks
from capstan.oci import OCI_MANIFEST, Descriptor
from capstan.repo import artifact, blobs, frames, local, packing, parallel
from capstan.repo.artifact import Artifact, Piece
from capstan.repo.limits import MANIFEST_MAX
from capstan.repo.names import Place, Reach, open_repository
from capstan.repo.parallel import Meter
from capstan.repo.registry import Repository, sha256
from capstan.store import Store, StoredImage
from capstan.ui import Advance


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What is pushed, and where to."""

    image: StoredImage
    files: Sequence[FileBlocks]
    place: Place
    reach: Reach
    annotations: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[Repository, str], None] | None = None  # before the tag is set, e.g. to sign


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push."""

    digest: str
    bytes_all: int  # of all blobs and the manifest
    bytes_sent: int


def push(request: PushRequest, store: Store, progress: Advance | None = None) -> Pushed:
    """Put an image into a registry.

    Raises:
        CapstanError: refused, or no connection; the tag is what it was.
    """
    image, place = request.image, request.place
    mounts = _mounts(store, image, place)
    target = open_repository(place, request.reach, "pull,push")
    target.scope += "".join(f" repository:{name}:pull" for name in mounts)
    try:
        parts = frames.cut(image.disk, request.files)
        meter = Meter(sum(frame.size for frame in parts), progress, target.http.abort)
        sender = _Sender(target, image, local.Frames(store), mounts, meter)
        pieces = sender.send(parts)
        done = Artifact(f"sha256:{image.digest}", _size(image), image.manifest, tuple(pieces))
        notes = artifact.notes_of(image.manifest, request.annotations)
        config = artifact.config_document(done, notes)
        sender.blob(config)
        manifest = artifact.manifest_document(done, config, notes)
        digest = sha256(manifest)
        if len(manifest) > MANIFEST_MAX:
            raise RepoError(
                f"{place}: an image of {len(pieces)} frames is too large for a registry",
                hint="keep large data out of the image",
            )
        if request.after is not None:
            target.put_manifest(digest, manifest, OCI_MANIFEST)
            request.after(target, digest)
        target.put_manifest(place.tag or digest, manifest, OCI_MANIFEST)
    finally:
        target.http.close()
    local.keep(image.disk, pieces)
    store.add_repo_digest(image, f"{place.host}/{place.repository}@{digest}")
    every = done.blob_bytes + len(config) + len(manifest)
    return Pushed(digest, every, sender.sent + len(manifest))


class _Sender:
    """Sends what the registry does not have."""

    def __init__(
        self,
        target: Repository,
        image: StoredImage,
        known: local.Frames,
        mounts: Sequence[str],
        meter: Meter,
    ) -> None:
        self._target, self._image, self._known = target, image, known
        self._mounts, self._meter = mounts, meter
        self.sent = 0

    def send(self, parts: Sequence[frames.Frame]) -> list[Piece]:
        """Make sure the registry has all frames."""
        found: dict[int, Piece] = {}
        fd = os.open(self._image.disk, os.O_RDONLY | os.O_CLOEXEC)

        def one(number: int) -> None:
            found[number] = self._frame(fd, parts[number])

        try:
            parallel.each(one, range(len(parts)), self._meter)
        except OSError as err:
            raise ImageError(f"{self._image.disk}: {err.strerror}") from err
        finally:
            os.close(fd)
        return [found[number] for number in range(len(parts))]

    def blob(self, data: bytes) -> Descriptor:
        """Send one blob unless it is there."""
        digest = sha256(data)
        if not self._target.has_blob(digest, len(data)):
            blobs.upload(self._target, data)
            self.sent += len(data)
        return Descriptor("", digest, len(data))

    def _is_there(self, blob: Descriptor) -> bool:
        """Whether the repository has the blob, or now has it from another one."""
        if self._target.has_blob(blob.digest, blob.size):
            return True
        return any(blobs.mount(self._target, blob.digest, name) for name in self._mounts)

    def _frame(self, fd: int, frame: frames.Frame) -> Piece:
        content = frames.read(fd, frame)
        digest = sha256(content)
        known = self._known.blob(digest)
        if known is None or not self._is_there(known):
            kind, blob = packing.pack(content, frame.blocks)
            sent = self.blob(blob)
            known = Descriptor(kind, sent.digest, sent.size)
        self._meter.advance(frame.size)
        return Piece(digest, frame.size, frame.runs, known)


def _mounts(store: Store, image: StoredImage, place: Place) -> list[str]:
    """Other repositories of the registry that have this image."""
    names = [known.partition("@")[0] for known in store.repo_digests(image)]
    prefix = f"{place.host}/"
    found = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return [name for name in found if name != place.repository]


def _size(image: StoredImage) -> int:
    return image.disk.stat().st_size
