# SPDX-License-Identifier: BSD-2-Clause
"""Makes layers, OCI layouts and docker archives, good ones and hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
REF_NAME = "org.opencontainers.image.ref.name"

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", **attributes: Any) -> Member:
    """One entry; `type` and the other attributes as in `TarInfo`."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, 1_600_000_000
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **attributes: Any) -> Member:
    """A directory."""
    return member(name, **{"type": tarfile.DIRTYPE, "mode": 0o755, **attributes})


def link(name: str, target: str, **attributes: Any) -> Member:
    """A symbolic link."""
    return member(name, type=tarfile.SYMTYPE, linkname=target, **attributes)


def hard(name: str, target: str) -> Member:
    """A hard link."""
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def layer(members: Iterable[Member], format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha256(data: bytes) -> str:
    """The digest as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def squeeze(data: bytes) -> bytes:
    """gzip, always the same bytes."""
    return gzip.compress(data, 1, mtime=0)


class Layout:
    """An OCI layout that is made up step by step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.manifests: list[dict[str, Any]] = []

    def blob(self, data: bytes, kind: str, **more: Any) -> dict[str, Any]:
        """Store a blob; its descriptor."""
        digest = sha256(data)
        (self.path / "blobs" / digest.replace(":", "/")).write_bytes(data)
        return {"mediaType": kind, "digest": digest, "size": len(data), **more}

    def document(self, value: object, kind: str, **more: Any) -> dict[str, Any]:
        """Store JSON; its descriptor."""
        return self.blob(json.dumps(value).encode(), kind, **more)

    def image(
        self,
        layers: Iterable[bytes],
        config: Mapping[str, Any] | None = None,
        tag: str = "latest",
        **top: Any,
    ) -> dict[str, Any]:
        """Add an image of plain layers, which are compressed here."""
        plain = list(layers)
        rows = [self.blob(squeeze(data), LAYER) for data in plain]
        return self.put(rows, [sha256(data) for data in plain], config, tag, **top)

    def put(
        self,
        rows: list[dict[str, Any]],
        diff_ids: list[str],
        config: Mapping[str, Any] | None = None,
        tag: str = "latest",
        **top: Any,
    ) -> dict[str, Any]:
        """Add an image whose layers are blobs already."""
        document = {
            "architecture": "amd64",
            "os": "linux",
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            **top,
        }
        described = self.document(document, CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": rows}
        found = self.document(manifest, MANIFEST, annotations={REF_NAME: tag})
        self.manifests.append(found)
        self.save()
        return found

    def save(self) -> None:
        """Write the index."""
        index = {"schemaVersion": 2, "manifests": self.manifests}
        (self.path / "index.json").write_text(json.dumps(index))


def docker_archive(
    path: Path, layers: Iterable[bytes], config: Mapping[str, Any], tags: list[str]
) -> Path:
    """What `docker save` writes; an old one, with links between layers that are the same."""
    plain = list(layers)
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [sha256(data) for data in plain]},
    }
    text = json.dumps(document).encode()
    name = f"{hashlib.sha256(text).hexdigest()}.json"
    members = [member(name, text)]
    places: dict[bytes, str] = {}
    names = []
    for number, data in enumerate(plain):
        at = f"{number:064x}/layer.tar"
        names.append(at)
        if data in places:
            members.append(link(at, f"../{places[data]}"))
        else:
            places[data] = at
            members.append(member(at, data))
    rows = [{"Config": name, "RepoTags": tags, "Layers": names}]
    members.append(member("manifest.json", json.dumps(rows).encode()))
    path.write_bytes(layer(members, tarfile.USTAR_FORMAT))
    return path


def oci_archive(path: Path, layout: Path) -> Path:
    """A layout as one tar archive."""
    with tarfile.open(path, "w") as archive:
        archive.add(layout, arcname=".")
    return path
