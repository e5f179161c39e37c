# SPDX-License-Identifier: BSD-2-Clause
"""The documents that make frames an image: an OCI manifest and its configuration.

docs/registry.md describes them. The configuration is an OCI image configuration, so that other
tools can show it, with the key "capstan" for what we need.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capstan import __version__
from capstan.errors import ImageError, RepoError
from capstan.manifest import ImageManifest
from capstan.oci import ARTIFACT, OCI_MANIFEST, Descriptor, dump
from capstan.repo import doc
from capstan.repo.doc import Doc
from capstan.repo.frames import SECTOR, Run
from capstan.repo.limits import DISK_MAX, FRAME_MAX, PIECES_MAX
from capstan.repo.packing import KNOWN
from capstan.repo.registry import RawManifest, sha256

CONFIG = "application/vnd.oci.image.config.v1+json"
DOCUMENT_VERSION = 1
RUNS_MAX = 4_000_000
_URUNC = "com.urunc.unikernel."
_OCI = "org.opencontainers.image."


@dataclass(frozen=True, slots=True)
class Piece:
    """A frame of an artifact: where its content goes and which blob brings it."""

    content: str  # digest of the content
    size: int
    runs: tuple[Run, ...]
    blob: Descriptor


@dataclass(frozen=True, slots=True)
class Artifact:
    """An image as it is in a registry."""

    image: str  # digest of the disk file
    size: int
    manifest: ImageManifest
    pieces: tuple[Piece, ...]

    @property
    def blob_bytes(self) -> int:
        """Bytes of all different blobs."""
        return sum({piece.blob.digest: piece.blob.size for piece in self.pieces}.values())


def notes_of(image: ImageManifest, more: Mapping[str, str]) -> dict[str, str]:
    """The annotations of an image; `more` are the user's."""
    return {
        f"{_OCI}created": _time(image.created),
        f"{_OCI}title": image.name,
        f"{_URUNC}unikernelType": "capstan",
        f"{_URUNC}hypervisor": "qemu",
        f"{_URUNC}cmdline": " ".join(image.config.argv),
        f"{_URUNC}unikernelVersion": __version__,
        **more,
    }


def config_document(artifact: Artifact, notes: Mapping[str, str]) -> bytes:
    """The configuration blob."""
    run = artifact.manifest.config
    ports: dict[str, object] = {port: {} for port in run.ports}
    return dump(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": _time(artifact.manifest.created),
            "config": {
                "Cmd": list(run.argv),
                "Env": [f"{name}={value}" for name, value in sorted(run.env.items())],
                "WorkingDir": run.workdir,
                "Labels": dict(notes),
                **({"ExposedPorts": ports} if ports else {}),
            },
            "rootfs": {"type": "layers", "diff_ids": [piece.content for piece in artifact.pieces]},
            "capstan": {
                "version": DOCUMENT_VERSION,
                "image": artifact.image,
                "size": artifact.size,
                "manifest": dataclasses.asdict(artifact.manifest),
                "frames": [
                    {"size": piece.size, "runs": [list(run) for run in piece.runs]}
                    for piece in artifact.pieces
                ],
            },
        }
    )


def manifest_document(artifact: Artifact, config: bytes, notes: Mapping[str, str]) -> bytes:
    """The OCI manifest."""
    return dump(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ARTIFACT,
            "config": Descriptor(CONFIG, sha256(config), len(config)).to_json(),
            "layers": [piece.blob.to_json() for piece in artifact.pieces],
            "annotations": dict(notes),
        }
    )


def config_of(manifest: RawManifest, where: str) -> Descriptor:
    """The configuration of an image manifest.

    Raises:
        RepoError: it is not one of ours.
    """
    page = manifest.doc
    kind = page.text("artifactType", "")
    layers = page.children("layers", PIECES_MAX)
    ours = kind == ARTIFACT or (not kind and layers and layers[0].text("mediaType", "") in KNOWN)
    if not ours:
        raise RepoError(
            f"{where}: not an image of capstan's"
            + (f" but {kind}" if kind else ", but an ordinary container image"),
            hint=f"`capstan run docker://{where}` makes one of a container image",
        )
    return doc.descriptor(page.child("config"))


def parse(manifest: RawManifest, config: bytes, where: str) -> Artifact:
    """The artifact that a manifest and its configuration describe, all checked.

    Raises:
        RepoError: they do not fit together, or are of a newer version.
    """
    page = doc.parse(config, f"{where}: configuration")
    ours = page.child("capstan")
    version = ours.number("version")
    if version != DOCUMENT_VERSION:
        raise RepoError(
            f"{where}: format {version} of an image; this capstan knows {DOCUMENT_VERSION}",
            hint="update capstan, or push the image again with this version",
        )
    size = ours.number("size", DISK_MAX)
    rows = ours.children("frames", PIECES_MAX)
    layers = manifest.doc.children("layers", PIECES_MAX)
    contents = page.child("rootfs").list("diff_ids", PIECES_MAX)
    if not len(rows) == len(layers) == len(contents):
        raise ours.error(f"{len(rows)} frames, {len(layers)} layers, {len(contents)} diff_ids")
    pieces = tuple(
        _piece(row, layer, content, size)
        for row, layer, content in zip(rows, layers, contents, strict=True)
    )
    _check_places(pieces, ours)
    try:
        inside = ImageManifest.from_json(json.dumps(ours.child("manifest").data).encode(), where)
    except ImageError as err:
        raise ours.error(err.message) from err
    return Artifact(_digest(ours.text("image"), ours), size, inside, pieces)


def _piece(row: Doc, layer: Doc, content: object, disk_size: int) -> Piece:
    blob = doc.descriptor(layer, 2 * FRAME_MAX)
    if blob.media_type not in KNOWN:
        raise layer.error(f"a frame of the unknown type {blob.media_type[:80]!r}")
    size = row.number("size", FRAME_MAX)
    runs = row.pairs("runs", RUNS_MAX)
    for offset, length in runs:
        if offset % SECTOR or not length or offset + length > disk_size:
            raise row.error(f"a run of {length} bytes at {offset} in a disk of {disk_size}")
    if sum(length for _, length in runs) != size:
        raise row.error("the runs of a frame are not as long as it is")
    return Piece(_digest(content, row), size, runs, blob)


def _digest(value: object, page: Doc) -> str:
    checked = {"mediaType": "", "digest": value, "size": 0}
    return doc.descriptor(Doc(page.where, checked)).digest


def _check_places(pieces: Sequence[Piece], page: Doc) -> None:
    end = 0
    for offset, length in sorted(run for piece in pieces for run in piece.runs):
        if offset < end:
            raise page.error(f"two frames for byte {offset}")
        end = offset + length


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(seconds, 0)))
