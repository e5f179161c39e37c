# SPDX-License-Identifier: BSD-2-Clause
"""Words of the OCI image specification (1.1) that archives and registries share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
ARTIFACT = "application/vnd.capstan.image.v1"
"""What an image of ours is."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of a blob or of another manifest (OCI image spec, "descriptor")."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None  # the content itself, base64
    platform: tuple[str, str, str] | None = None  # os, architecture, variant

    def to_json(self) -> dict[str, object]:
        """The object that stands in a manifest."""
        value: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.data is not None:
            value["data"] = self.data
        return value


def dump(value: Mapping[str, object]) -> bytes:
    """The canonical bytes of a document."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
