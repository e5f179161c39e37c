# SPDX-License-Identifier: BSD-2-Clause
"""One repository of a registry: manifests and blobs (OCI Distribution 1.1).

What comes is checked before it is returned: a manifest against the digest that was asked for or
that the registry states, a blob's presence against its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from capstan.errors import RepoError
from capstan.oci import OCI_INDEX, OCI_MANIFEST, Descriptor
from capstan.repo import doc
from capstan.repo.answers import Answer, NotFound, clean
from capstan.repo.http import Http, Request
from capstan.repo.limits import ERROR_MAX, MANIFEST_MAX

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


def sha256(data: bytes) -> str:
    """The digest of `data` as manifests write it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def short(digest: str) -> str:
    """A digest for messages."""
    return digest.removeprefix("sha256:")[:12]


@dataclass(frozen=True, slots=True)
class RawManifest:
    """A manifest as it came, checked against its digest."""

    data: bytes
    media_type: str
    digest: str
    doc: doc.Doc


class Repository:
    """The repository `name` of the registry behind `http`."""

    def __init__(self, http: Http, name: str, scope: str = "pull") -> None:
        self.http = http
        self.name = name
        self.scope = f"repository:{name}:{scope}"

    @property
    def full_name(self) -> str:
        """HOST/NAME."""
        return f"{self.http.access.host}/{self.name}"

    def request(self, method: str, rest: str, what: str, **more: object) -> Request:
        """A request for something in this repository."""
        target = f"/v2/{self.name}/{rest}"
        return Request(method, target, f"{self.name}: {what}", scope=self.scope, **more)  # type: ignore[arg-type]

    # --- manifests -----------------------------------------------------------------------------

    def manifest(self, reference: str, types: Sequence[str] = MANIFESTS) -> RawManifest:
        """The manifest with a tag or digest.

        Raises:
            NotFound: there is none.
            RepoError: another failure, or it is not what it should be.
        """
        what = f"manifest {reference if reference[:7] != 'sha256:' else short(reference)}"
        headers = {"Accept": ", ".join(types)}
        request = self.request("GET", f"manifests/{reference}", what, headers=headers)
        answer = self.http.fetch(request, MANIFEST_MAX)
        return self._checked(answer, reference, what, types)

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> str:
        """Store a manifest under a tag or digest; its digest."""
        headers = {"Content-Type": media_type}
        request = self.request(
            "PUT", f"manifests/{reference}", reference, headers=headers, body=data, ok=(201, 200)
        )
        answer = self.http.fetch(request, ERROR_MAX)
        digest = sha256(data)
        stated = answer.headers.get("docker-content-digest", digest)
        if stated != digest:
            raise self._lies(f"manifest {reference}", f"stored as {clean(stated)}, sent {digest}")
        return digest

    # --- blobs ---------------------------------------------------------------------------------

    def has_blob(self, digest: str, size: int) -> bool:
        """Whether the registry has the blob."""
        request = self.request("HEAD", f"blobs/{digest}", f"blob {short(digest)}")
        try:
            answer = self.http.fetch(request, 0)
        except NotFound:
            return False
        return int(answer.headers.get("content-length") or size) == size

    def small_blob(self, wanted: Descriptor, limit: int) -> bytes:
        """A blob read into memory; its content may stand in the descriptor.

        Raises:
            RepoError: not to be had, or not what the descriptor says.
        """
        what = f"blob {short(wanted.digest)}"
        if wanted.size > limit:
            raise self._lies(what, f"{wanted.size} bytes, at most {limit} are allowed")
        inline = _inline(wanted)
        if inline is not None:
            return inline
        answer = self.http.fetch(self.request("GET", f"blobs/{wanted.digest}", what), wanted.size)
        if len(answer.body) != wanted.size or sha256(answer.body) != wanted.digest:
            raise self._lies(what, "its content is not that of its digest")
        return answer.body

    # --- inside --------------------------------------------------------------------------------

    def _checked(
        self, answer: Answer, reference: str, what: str, types: Sequence[str]
    ) -> RawManifest:
        digest = sha256(answer.body)
        stated = answer.headers.get("docker-content-digest")
        if reference.startswith("sha256:") and digest != reference:
            raise self._lies(what, f"its content has the digest {short(digest)}")
        if stated is not None and stated != digest and stated.startswith("sha256:"):
            raise self._lies(what, f"stated digest {clean(stated)}, content {digest}")
        page = doc.parse(answer.body, f"{self.full_name}: {what}")
        sent = answer.headers.get("content-type", "").partition(";")[0].strip()
        kind = page.text("mediaType", sent)
        if kind not in types:
            raise RepoError(
                f"{self.full_name}: {what}: it is a {clean(kind) or 'document without a type'}",
                hint="this is not an image capstan can use here",
            )
        if page.number("schemaVersion", 9) != 2:
            raise page.error("schemaVersion is not 2")
        return RawManifest(answer.body, kind, digest, page)

    def _lies(self, what: str, how: str) -> RepoError:
        return lies(self.full_name, what, how)


def lies(where: str, what: str, how: str) -> RepoError:
    """The error for a registry that sends something else than it says."""
    return RepoError(
        f"{where}: {what}: {how}",
        hint="nothing of it was used. The registry or something in between is broken: "
        "try again, or push the image again",
    )


def _inline(wanted: Descriptor) -> bytes | None:
    """The content that stands in the descriptor itself, when it is right."""
    if wanted.data is None:
        return None
    import base64
    import binascii

    try:
        data = base64.b64decode(wanted.data, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) == wanted.size and sha256(data) == wanted.digest else None
