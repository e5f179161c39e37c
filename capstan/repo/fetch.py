# SPDX-License-Identifier: BSD-2-Clause
"""An ordinary container image from a registry, as an OCI layout directory.

    oci-layout, index.json   what the directory is, and its one image
    blobs/sha256/HEX         manifest, configuration and layers, each checked

Docker's manifests are written as OCI ones; the digest they had in the registry stands in an
annotation. Blobs that are there already are kept, so a fetch that broke goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from capstan import fs, ui
from capstan.errors import RepoError
from capstan.oci import ARTIFACT, OCI_INDEX, OCI_MANIFEST, Descriptor, dump
from capstan.ref import ImageRef
from capstan.repo import doc, parallel
from capstan.repo.blobs import Downloads
from capstan.repo.limits import CONFIG_MAX
from capstan.repo.names import HUB, Place, Reach, open_repository
from capstan.repo.parallel import Meter
from capstan.repo.registry import DOCKER_LIST, DOCKER_MANIFEST, RawManifest, Repository, sha256
from capstan.ui import Advance

PLATFORM = "linux/amd64"
ORIGINAL = "dev.capstan.original-digest"
_LAYERS_MAX = 512
_LAYER_MAX = 64 << 30
_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_TYPES = {
    "application/vnd.docker.container.image.v1+json": _OCI_CONFIG,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{_OCI_LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar": _OCI_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{_OCI_LAYER}+zstd",
    _OCI_CONFIG: _OCI_CONFIG,
    _OCI_LAYER: _OCI_LAYER,
    f"{_OCI_LAYER}+gzip": f"{_OCI_LAYER}+gzip",
    f"{_OCI_LAYER}+zstd": f"{_OCI_LAYER}+zstd",
}
"""What an image may consist of, and the OCI name of it."""


def fetch_oci(
    ref: ImageRef,
    into: Path,
    reach: Reach,
    *,
    platform: str = PLATFORM,
    progress: Advance | None = None,
    have: Callable[[bytes, bytes], set[str]] | None = None,
) -> Path:
    """Load the container image `ref` into the OCI layout directory `into`; gives `into`.

    A name without a host is one of Docker Hub's. `have` is asked, by manifest and configuration,
    which layers are not needed: those are left out.

    Raises:
        RepoError: not there, not for this platform, or damaged.
    """
    place = hub_place(ref)
    source = open_repository(place, reach)
    try:
        manifest = source.manifest(place.reference)
        original = manifest.digest
        if manifest.media_type in (OCI_INDEX, DOCKER_LIST):
            manifest = source.manifest(_choose(manifest, platform, str(place)).digest)
        wanted, made = _convert(manifest, str(place))
        _check_room(into, wanted, str(place))
        downloads = _Blobs(into)
        meter = Meter(sum(one.size for one in wanted), progress, source.http.abort)
        if have is not None:
            downloads.load(source, wanted[0], meter)
            known = have(made, downloads.path(wanted[0]).read_bytes())
            wanted = [one for one in wanted if one.digest not in known]
        parallel.each(lambda one: downloads.load(source, one, meter), wanted, meter)
        downloads.finish(place, made, original)
    finally:
        source.http.close()
    return into


def hub_place(ref: ImageRef) -> Place:
    """Where a container image is, with Docker Hub's rules for short names."""
    host = ref.host or HUB
    is_official = host == HUB and "/" not in ref.name
    return Place(host, f"library/{ref.name}" if is_official else ref.name, ref.tag, ref.digest)


class _Blobs:
    """The blobs of an OCI layout."""

    def __init__(self, into: Path) -> None:
        self._into = into
        self._folder = into / "blobs" / "sha256"
        self._downloads = Downloads(into / ".downloads")

    def path(self, wanted: Descriptor) -> Path:
        """Where a blob is, or will be."""
        return self._folder / wanted.digest.removeprefix("sha256:")

    def load(self, source: Repository, wanted: Descriptor, meter: Meter) -> None:
        """Bring one blob."""
        place = self.path(wanted)
        if place.is_file() and place.stat().st_size == wanted.size:
            meter.advance(wanted.size)  # it got its name when it had been checked
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._downloads.get(source, wanted, meter.advance).replace(place)

    def finish(self, place: Place, manifest: bytes, original: str) -> None:
        """Write what makes the directory a layout; index.json is the last."""
        digest = sha256(manifest)
        fs.atomic_write(self._folder / digest.removeprefix("sha256:"), manifest)
        fs.atomic_write(self._into / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        notes = {
            "org.opencontainers.image.ref.name": place.tag or "latest",
            "io.containerd.image.name": str(place),
            ORIGINAL: original,
        }
        entry = Descriptor(OCI_MANIFEST, digest, len(manifest), notes).to_json()
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        fs.atomic_write(self._into / "index.json", dump(index))
        shutil.rmtree(self._into / ".downloads", ignore_errors=True)


def _choose(index: RawManifest, platform: str, where: str) -> Descriptor:
    """The image for `platform` (os/architecture) in an index."""
    system, _, machine = platform.partition("/")
    found = []
    for row in index.doc.children("manifests", 1000):
        entry = doc.descriptor(row)
        if entry.platform is not None and entry.media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
            found.append(f"{entry.platform[0]}/{entry.platform[1]}")
            if entry.platform[:2] == (system, machine):
                return entry
    known = ", ".join(sorted({one for one in found if "unknown" not in one})) or "none"
    raise RepoError(
        f"{where}: there is no image for {platform}", hint=f"there are images for: {known[:200]}"
    )


def _convert(manifest: RawManifest, where: str) -> tuple[Sequence[Descriptor], bytes]:
    """The blobs of an image, and its manifest as OCI writes it.

    Raises:
        RepoError: not a container image.
    """
    page = manifest.doc
    if page.text("artifactType", "") == ARTIFACT:
        raise RepoError(
            f"{where}: an image of capstan's, not a container image",
            hint=f"`capstan run {where}`, without docker://",
        )
    config = doc.descriptor(page.child("config"), CONFIG_MAX)
    layers = [doc.descriptor(row, _LAYER_MAX) for row in page.children("layers", _LAYERS_MAX)]
    for one in (config, *layers):
        if one.media_type not in _TYPES:
            raise RepoError(
                f"{where}: not a container image: it has a {one.media_type[:100]!r}",
                hint="name an image that docker or podman can run",
            )
    kept = [_renamed(one) for one in (config, *layers)]
    made = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": kept[0].to_json(),
        "layers": [one.to_json() for one in kept[1:]],
        "annotations": page.strings("annotations"),
    }
    different = {one.digest: one for one in kept}
    same = manifest.media_type == OCI_MANIFEST
    return list(different.values()), manifest.data if same else dump(made)


def _renamed(one: Descriptor) -> Descriptor:
    return Descriptor(_TYPES[one.media_type], one.digest, one.size, one.annotations)


def _check_room(into: Path, wanted: Sequence[Descriptor], where: str) -> None:
    into.mkdir(parents=True, exist_ok=True)
    needed, free = sum(one.size for one in wanted), shutil.disk_usage(into).free
    if needed > free:
        raise RepoError(
            f"{where}: {ui.size(needed)} to load, {ui.size(free)} are free",
            hint=f"make room on the disk of {into}",
        )
