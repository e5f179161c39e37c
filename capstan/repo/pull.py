# SPDX-License-Identifier: BSD-2-Clause
"""`capstan pull`: frames from the registry or from local images, put together and checked.

The image is in the store only when the digest of the whole disk file is the one that the
configuration states. What has arrived of a pull that breaks stays in the downloads.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from capstan import ui
from capstan.errors import ImageError, RepoError
from capstan.manifest import ImageManifest
from capstan.oci import ARTIFACT, OCI_INDEX
from capstan.ref import ImageRef
from capstan.repo import artifact, frames, local, packing, parallel
from capstan.repo.artifact import Artifact, Piece
from capstan.repo.blobs import Downloads
from capstan.repo.limits import CONFIG_MAX
from capstan.repo.names import Place, Reach, open_repository
from capstan.repo.parallel import Meter
from capstan.repo.registry import DOCKER_LIST, RawManifest, Repository, lies, short
from capstan.store import Store, StoredImage, WrongImage, read_manifest
from capstan.ui import Advance

Verify = Callable[[Repository, str], None]
"""Refuses, by raising, a manifest digest that is not signed as it must be."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What is pulled; `name` is what it is called here."""

    place: Place
    name: ImageRef
    reach: Reach
    verify: Verify | None = None


@dataclass(frozen=True, slots=True)
class Pulled:
    """What became of a pull."""

    image: StoredImage
    digest: str
    bytes_all: int
    bytes_received: int


def pull(request: PullRequest, store: Store, progress: Advance | None = None) -> Pulled:
    """Bring an image into the store.

    Raises:
        CapstanError: not there, not to be trusted, or damaged; the store is as it was.
    """
    place = request.place
    source = open_repository(place, request.reach)
    try:
        manifest = source.manifest(place.reference)
        if manifest.media_type in (OCI_INDEX, DOCKER_LIST):
            manifest = _ours(source, manifest)
        if request.verify is not None:
            request.verify(source, manifest.digest)
        config = source.small_blob(artifact.config_of(manifest, str(place)), CONFIG_MAX)
        wanted = artifact.parse(manifest, config, str(place))
        loader = _Loader(source, store, wanted, progress)
        image = loader.image(request.name)
    finally:
        source.http.close()
    store.add_repo_digest(image, f"{place.host}/{place.repository}@{manifest.digest}")
    return Pulled(image, manifest.digest, wanted.blob_bytes, loader.received)


def _ours(source: Repository, index: RawManifest) -> RawManifest:
    """Our image in an index that has several things."""
    for entry in index.doc.children("manifests", 1000):
        if entry.text("artifactType", "") == ARTIFACT:
            return source.manifest(entry.text("digest"))
    raise RepoError(
        f"{source.full_name}: an index without an image of capstan's",
        hint=f"`capstan run docker://{source.full_name}` makes one of a container image",
    )


class _Loader:
    """Puts one image together."""

    def __init__(
        self, source: Repository, store: Store, wanted: Artifact, progress: Advance | None
    ) -> None:
        self._source, self._store, self._wanted = source, store, wanted
        self._digest = wanted.image.removeprefix("sha256:")
        self._downloads = Downloads(store.root / "downloads")
        self._known = local.Frames(store)
        self._meter = Meter(wanted.blob_bytes, progress, source.http.abort)
        self.received = 0

    def image(self, name: ImageRef) -> StoredImage:
        """The image in the store, known as `name`."""
        here = self._stored()
        if here is not None and here.manifest == self._wanted.manifest:
            self._forget()  # of a pull that was killed at its end
            return self._store.label(here, name)
        self._check_room()
        self._downloads.clean()
        notes = {local.NOTE: local.note(self._wanted.pieces)}
        try:
            image = self._store.put(self._write, name=name, notes=notes, expect=self._digest)
        except WrongImage as err:
            how = "the frames make another image than stated"
            raise lies(self._source.full_name, "image", how) from err
        except OSError as err:
            raise RepoError(
                f"{self._source.full_name}: the image cannot be written: {err.strerror}",
                hint=f"the store is {self._store.root} (CAPSTAN_ROOT): check its disk",
            ) from err
        self._forget()
        return image

    def _forget(self) -> None:
        for piece in self._wanted.pieces:
            self._downloads.forget(piece.blob.digest)

    def _stored(self) -> StoredImage | None:
        try:
            here = self._store.find(self._digest)
        except ImageError:  # damaged: the pull repairs it
            return None
        return here if here is not None and here.digest == self._digest else None

    def _write(self, out: BinaryIO) -> ImageManifest:
        out.truncate(self._wanted.size)
        fd = out.fileno()
        by_blob: dict[str, list[Piece]] = {}
        for piece in self._wanted.pieces:
            by_blob.setdefault(piece.blob.digest, []).append(piece)

        def one(pieces: list[Piece]) -> None:
            content = self._content(pieces[0])
            for piece in pieces:
                if (piece.content, piece.size) != (pieces[0].content, pieces[0].size):
                    raise self._lies(piece, "stands for two different frames")
                frames.write(fd, piece.runs, content)

        parallel.each(one, by_blob.values(), self._meter)
        with contextlib.suppress(ImageError):
            if read_manifest(Path(f"/proc/self/fd/{fd}")) == self._wanted.manifest:
                return self._wanted.manifest
        raise lies(self._source.full_name, "image", "its manifest is not the one announced")

    def _content(self, piece: Piece) -> bytes:
        """The content of a frame, checked."""
        here = self._known.content(piece.content, piece.size)
        if here is not None:
            self._meter.advance(piece.blob.size)
            return here
        blob = self._downloads.read(self._source, piece.blob, self._advance)
        where = f"{self._source.full_name}: blob {short(piece.blob.digest)}"
        for is_exact in (False, True):
            content = packing.unpack(piece.blob.media_type, blob, piece.size, where, is_exact)
            if hashlib.sha256(content).hexdigest() == piece.content.removeprefix("sha256:"):
                return content
        self._downloads.forget(piece.blob.digest)
        raise self._lies(piece, "unpacks to something else than stated")

    def _advance(self, count: int) -> None:
        self._meter.advance(count)
        self.received += count

    def _lies(self, piece: Piece, how: str) -> RepoError:
        return lies(self._source.full_name, f"blob {short(piece.blob.digest)}", how)

    def _check_room(self) -> None:
        needed = sum(piece.size for piece in self._wanted.pieces) + self._wanted.blob_bytes
        self._store.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._store.root).free
        if needed > free:
            raise RepoError(
                f"{self._source.full_name}: the image needs {ui.size(needed)}, "
                f"{ui.size(free)} are free",
                hint=f"make room on the disk of {self._store.root} (CAPSTAN_ROOT)",
            )
