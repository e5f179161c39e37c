# SPDX-License-Identifier: BSD-2-Clause
"""The index of a namespace: one artifact HOST/NAMESPACE/index:latest that `capstan search` reads.

Its document stands in the manifest itself (a descriptor's "data"), so that one request is enough.
Any registry keeps it; nothing of the registry's own search is needed. It is a list that whoever
publishes keeps up, so it can be older than the images.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from capstan.errors import RepoError, UsageError
from capstan.oci import OCI_MANIFEST, Descriptor, dump
from capstan.repo import blobs, doc, names
from capstan.repo.answers import NotFound
from capstan.repo.doc import Doc
from capstan.repo.limits import MANIFEST_MAX
from capstan.repo.names import Place, Reach, open_repository
from capstan.repo.registry import EMPTY, EMPTY_TYPE, Repository, sha256

NAME = "index"
ARTIFACT = "application/vnd.capstan.index.v1+json"
_ENTRIES_MAX = 10_000
_INLINE_MAX = 2 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the index; `name` is without host and namespace."""

    name: str
    tag: str = "latest"
    digest: str = ""
    version: str = ""
    description: str = ""
    command: str = ""
    size: int = 0
    created: int = 0


def place(reach: Reach, where: str | None = None) -> Place:
    """Where the index is: of the configured registry, or of `where` (HOST[/NAMESPACE])."""
    from dataclasses import replace

    if where is not None:
        reach = replace(reach, registry=where)
    host, namespace = names.base(reach, "search")
    return Place(host, f"{namespace}{NAME}", "latest")


def read(reach: Reach, where: str | None = None) -> Sequence[Entry]:
    """All entries of an index.

    Raises:
        RepoError: there is none, or it is damaged.
    """
    at = place(reach, where)
    source = open_repository(at, reach)
    try:
        return _read(source)
    except NotFound as err:
        raise NotFound(
            f"{at.host}: there is no index ({at.repository})",
            hint="`capstan push --index` makes one; `capstan pull NAME` works without",
        ) from err
    finally:
        source.http.close()


def search(entries: Sequence[Entry], text: str) -> Sequence[Entry]:
    """The entries with all words of `text` in name or description; matching names first."""
    words = text.lower().split()
    found = [
        entry
        for entry in entries
        if all(word in f"{entry.name} {entry.description}".lower() for word in words)
    ]

    def order(entry: Entry) -> tuple[bool, bool, str, str]:
        name = entry.name.lower()
        is_far = not all(word in name for word in words)
        return name != text.lower(), is_far, entry.name, entry.tag

    return sorted(found, key=order)


def publish(reach: Reach, entries: Sequence[Entry], where: str | None = None) -> str:
    """Put `entries` into the index, in place of older ones of the same name and tag; its digest.

    Who publishes at the same time may be overwritten: one publisher a namespace.

    Raises:
        RepoError: the registry refuses.
    """
    target = open_repository(place(reach, where), reach, "pull,push")
    try:
        try:
            known = {(entry.name, entry.tag): entry for entry in _read(target)}
        except NotFound:
            known = {}
        known |= {(entry.name, entry.tag): entry for entry in entries}
        return _write(target, [known[key] for key in sorted(known)])
    finally:
        target.http.close()


def entry_of(at: Place, index: Place, **facts: object) -> Entry:
    """The entry for an image at `at` in the index `index`.

    Raises:
        UsageError: the image is not in the index's namespace.
    """
    namespace = index.repository.removesuffix(NAME)
    if at.host != index.host or not at.repository.startswith(namespace):
        raise UsageError(
            f"{at} is not in {index.host}/{namespace}, whose index this is",
            hint="push it there, or set registry to its namespace",
        )
    return Entry(at.repository.removeprefix(namespace), at.tag, **facts)  # type: ignore[arg-type]


def _read(source: Repository) -> list[Entry]:
    manifest = source.manifest("latest")
    layers = manifest.doc.children("layers", 1)
    if manifest.doc.text("artifactType", "") != ARTIFACT or not layers:
        raise RepoError(
            f"{source.full_name}: not an index of capstan's",
            hint="another artifact has its name: remove that, or use another namespace",
        )
    data = source.small_blob(doc.descriptor(layers[0]), MANIFEST_MAX)
    page = doc.parse(data, f"{source.full_name}: index")
    if page.number("version") != 1:
        raise page.error("an index of a newer version: update capstan")
    return [_entry(row) for row in page.children("images", _ENTRIES_MAX)]


def _entry(row: Doc) -> Entry:
    return Entry(
        name=row.text("name"),
        tag=row.text("tag", "latest"),
        digest=row.text("digest", ""),
        version=row.text("version", ""),
        description=row.text("description", ""),
        command=row.text("command", ""),
        size=row.number("size") if "size" in row.data else 0,
        created=row.number("created") if "created" in row.data else 0,
    )


def _write(target: Repository, entries: Sequence[Entry]) -> str:
    document = dump(
        {
            "version": 1,
            "published": int(time.time()),
            "images": [asdict(entry) for entry in entries],
        }
    )
    if len(document) > MANIFEST_MAX:
        raise RepoError(
            f"{target.full_name}: an index of {len(document)} bytes is too large",
            hint="use more than one namespace",
        )
    for blob in (document, EMPTY):
        if not target.has_blob(sha256(blob), len(blob)):
            blobs.upload(target, blob)
    inline = base64.b64encode(document).decode() if len(document) <= _INLINE_MAX else None
    layer = Descriptor(ARTIFACT, sha256(document), len(document), data=inline)
    empty = Descriptor(EMPTY_TYPE, sha256(EMPTY), len(EMPTY), data="e30=")
    manifest = dump(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ARTIFACT,
            "config": empty.to_json(),
            "layers": [layer.to_json()],
        }
    )
    return target.put_manifest("latest", manifest, OCI_MANIFEST)
