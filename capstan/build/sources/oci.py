# SPDX-License-Identifier: BSD-2-Clause
"""Container images in files: OCI layouts and archives, and what `docker save` writes.

A `Files` has the bytes, in a directory or in a tar archive; `read_oci` and `read_docker` find the
configuration and the layers of one image in it. Every document is checked against its digest and
size before it is parsed.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from capstan.build.sources import limits
from capstan.build.sources.layers import Layer
from capstan.build.sources.limits import Limits, Meter
from capstan.build.sources.streams import Damaged, Digest, Hashed, Head, Plain, Readable, decompress
from capstan.build.sources.tarball import TarReader
from capstan.errors import BuildError, UsageError
from capstan.oci import REF_NAME

INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
MANIFESTS = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
CONFIGS = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
}
PLATFORM = ("linux", "amd64")
MAX_DEPTH = 4
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Container:
    """A container image: its configuration and its layers, lowest first."""

    where: str
    config: dict[str, Any]
    layers: tuple[Layer, ...]
    tags: tuple[str, ...] = ()


class Files(Protocol):
    """Named files, in a directory or an archive."""

    where: str

    def open(self, name: str) -> Readable:
        """The bytes of a file; Damaged when there is none."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""


class Folder:
    """The files of a directory."""

    def __init__(self, path: Path) -> None:
        self.where = os.fspath(path)
        self._path = path

    def open(self, name: str) -> Readable:
        """The bytes of a regular file."""
        try:
            fd = os.open(self._path / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as err:
            raise Damaged(f"{name}: {os.strerror(err.errno or 0)}") from err
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Damaged(f"{name} is no regular file")
        return os.fdopen(fd, "rb")

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self._path / name).is_file()


@dataclass(slots=True)
class _Slice:
    """A part of an open file; each has a position of its own."""

    fd: int
    at: int
    left: int

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        data = os.pread(self.fd, min(size, self.left), self.at)
        self.at += len(data)
        self.left -= len(data)
        return data


class _Seekable:
    """A plain file as a stream whose `skip` costs nothing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, size: int, /) -> bytes:
        return self._file.read(size)

    def skip(self, size: int) -> None:
        if self._file.tell() + size > self.size:
            raise Damaged("the archive ends early")
        self._file.seek(size, io.SEEK_CUR)

    def tell(self) -> int:
        return self._file.tell()


class Archive:
    """The files in a tar archive, plain or compressed (then unpacked into `scratch` first)."""

    def __init__(self, path: Path, scratch: Path, allowed: Limits) -> None:
        self.where = os.fspath(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as err:
            reason = os.strerror(err.errno or 0)
            raise BuildError(f"{path}: {reason}", hint="check the name") from err
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise BuildError(f"{path} is no regular file", hint="name an archive of an image")
        self._file: BinaryIO = _plain_file(os.fdopen(fd, "rb"), scratch, allowed, self.where)
        self._meter = Meter(allowed, self.where)
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._index()

    def open(self, name: str) -> Readable:
        """The bytes of a file in the archive, links followed."""
        place = self._places.get(self._follow(name))
        if place is None:
            raise Damaged(f"there is no {name} in the archive")
        return _Slice(self._file.fileno(), *place)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._follow(name) in self._places

    def _follow(self, name: str) -> str:
        name = posixpath.normpath(name)
        for _ in range(8):
            target = self._links.get(name)
            if target is None:
                return name
            name = target
        raise Damaged(f"{name}: links in the archive form a loop")

    def _index(self) -> None:
        stream = _Seekable(self._file)
        for entry in TarReader(stream).entries():
            self._meter.more_entries(len(entry.name) + len(entry.target), "archive", entry.shown)
            name = posixpath.normpath(os.fsdecode(entry.name).lstrip("/"))
            target = os.fsdecode(entry.target)
            self._places.pop(name, None)
            self._links.pop(name, None)
            if stat.S_ISREG(entry.mode) and entry.parts is None:
                self._places[name] = (stream.tell(), entry.size)
            elif stat.S_ISLNK(entry.mode):
                self._links[name] = posixpath.normpath(
                    posixpath.join(posixpath.dirname(name), target)
                )
            elif not stat.S_IFMT(entry.mode):
                self._links[name] = posixpath.normpath(target.lstrip("/"))


def _plain_file(file: BinaryIO, scratch: Path, allowed: Limits, where: str) -> BinaryIO:
    """The archive itself, or an unnamed file with what it unpacks to."""
    import tempfile

    is_plain = isinstance(decompress(file), Head)
    file.seek(0)
    if is_plain:
        return file
    plain = Plain(Hashed(file, None, None), None, Meter(allowed, where), "archive")
    fd, name = tempfile.mkstemp(dir=scratch)
    Path(name).unlink()
    unpacked = os.fdopen(fd, "w+b")
    while data := plain.read(1 << 20):
        unpacked.write(data)
    unpacked.seek(0)
    return unpacked


# --- documents ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Descriptor:
    """What a document says of another one."""

    kind: str
    digest: str
    size: int
    platform: tuple[str, str] | None = None
    name: str = ""

    @property
    def path(self) -> str:
        algorithm, _, value = self.digest.partition(":")
        return f"blobs/{algorithm}/{value}"

    @classmethod
    def of(cls, raw: Any, what: str) -> _Descriptor:
        try:
            kind, digest, size = raw["mediaType"], raw["digest"], raw["size"]
            platform, notes = raw.get("platform"), raw.get("annotations") or {}
            where = (platform["os"], platform["architecture"]) if platform else None
            good = isinstance(kind, str) and isinstance(digest, str) and type(size) is int
            if not good or size < 0 or not re.fullmatch(r"[a-z0-9]+:[0-9a-f]+", digest):
                raise ValueError
            return cls(kind, digest, size, where, str(notes.get(REF_NAME, "")))
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise Damaged(f"{what}: a descriptor is damaged") from err


def _document(stream: Hashed, name: str, most: int) -> dict[str, Any]:
    """The JSON object in a stream."""
    text = b""
    while len(text) <= most and (data := stream.read(most + 1 - len(text))):
        text += data
    if len(text) > most:
        raise Damaged(f"{name}: larger than {most >> 20} MiB")
    stream.finish()
    try:
        raw: Any = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise Damaged(f"{name}: not JSON") from err
    if not isinstance(raw, dict):
        raise Damaged(f"{name}: not a JSON object")
    return raw


def _fetch(files: Files, what: _Descriptor, most: int = limits.DOCUMENT_MAX) -> dict[str, Any]:
    name = what.path
    if what.size > most:
        raise Damaged(f"{name}: {what.size} bytes, {most} is the most")
    return _document(Hashed(files.open(name), what.digest, what.size), name, most)


def _list(raw: Mapping[str, Any], key: str, name: str) -> list[Any]:
    value = raw.get(key)
    if not isinstance(value, list):
        raise Damaged(f"{name}: no list {key}")
    return value


def _strings(raw: Any, name: str) -> list[str]:
    if not isinstance(raw, list) or not all(isinstance(item, str) for item in raw):
        raise Damaged(f"{name}: not a list of strings")
    return raw


# --- OCI ---------------------------------------------------------------------------------------


def read_oci(files: Files, tag: str) -> Container:
    """The image in an OCI layout.

    Raises:
        Damaged: it is damaged.
        UsageError: there is none with this tag, or several and no tag.
    """
    if not files.has("index.json"):
        raise Damaged("there is no index.json: not an OCI layout")
    index = _document(Hashed(files.open("index.json"), None, None), "index.json", 4 << 20)
    manifests = [
        _Descriptor.of(raw, "index.json") for raw in _list(index, "manifests", "index.json")
    ]
    found = _choose(files, manifests, tag)
    for _ in range(MAX_DEPTH):
        if found.kind not in INDEXES:
            break
        inner = _fetch(files, found)
        rows = [_Descriptor.of(raw, found.path) for raw in _list(inner, "manifests", found.path)]
        found = _for_platform(rows, found.path)
    if found.kind not in MANIFESTS:
        raise Damaged(f"{found.path}: {found.kind} is no image manifest")
    return _from_manifest(files, found, tuple(row.name for row in manifests if row.name))


def _choose(files: Files, manifests: Sequence[_Descriptor], tag: str) -> _Descriptor:
    tags = sorted({row.name for row in manifests if row.name})
    listed = f"it has {', '.join(tags[:20])}" if tags else "its images have no tags"
    if tag:
        for row in manifests:
            if tag in (row.name, row.name.rpartition(":")[2], row.digest):
                return row
        raise UsageError(f"{files.where} has no image {tag}", hint=listed)
    if len(manifests) > 1 and not tags:
        return _for_platform(manifests, "index.json")
    if len(manifests) != 1:
        raise UsageError(f"{files.where} has {len(manifests)} images: name one", hint=listed)
    return manifests[0]


def _for_platform(rows: Sequence[_Descriptor], name: str) -> _Descriptor:
    for row in rows:
        if row.platform == PLATFORM:
            return row
    if len(rows) == 1 and rows[0].platform is None:
        return rows[0]
    have = sorted({"/".join(row.platform) for row in rows if row.platform})
    raise Damaged(f"{name}: no image for linux/amd64, only {', '.join(have[:10]) or 'others'}")


def _from_manifest(files: Files, found: _Descriptor, tags: tuple[str, ...]) -> Container:
    manifest = _fetch(files, found)
    if manifest.get("schemaVersion") != 2:
        raise Damaged(f"{found.path}: a manifest of schema {manifest.get('schemaVersion')!r}")
    config = _Descriptor.of(manifest.get("config"), found.path)
    if config.kind not in CONFIGS:
        raise Damaged(f"{config.kind}: an artifact, not a container image")
    document = _fetch(files, config, limits.CONFIG_MAX)
    rows = [_Descriptor.of(raw, found.path) for raw in _list(manifest, "layers", found.path)]
    ids = _diff_ids(document, len(rows))
    layers = []
    for row, diff_id in zip(rows, ids, strict=True):
        if "encrypted" in row.kind or ".tar" not in row.kind:
            raise Damaged(f"a layer of type {row.kind} cannot be read")
        layers.append(_layer(files, row.path, row.digest, row.size, diff_id))
    return Container(files.where, document, tuple(layers), tags)


def layers_of(manifest: bytes, config: bytes) -> list[tuple[str, str]]:
    """(digest, diff_id) of each layer, by an image's manifest and configuration.

    Raises:
        Damaged: they are damaged, or do not fit.
    """
    page = _document(Hashed(io.BytesIO(manifest), None, None), "manifest", limits.DOCUMENT_MAX)
    rows = [_Descriptor.of(raw, "manifest") for raw in _list(page, "layers", "manifest")]
    document = _document(Hashed(io.BytesIO(config), None, None), "config", limits.CONFIG_MAX)
    ids = _diff_ids(document, len(rows))
    for diff_id in ids:
        Digest(diff_id)
    return [(row.digest, diff_id) for row, diff_id in zip(rows, ids, strict=True)]


def _layer(files: Files, name: str, digest: str | None, size: int | None, diff_id: str) -> Layer:
    short = (digest or diff_id).partition(":")[2][:12]
    return Layer(f"layer {short}", lambda: files.open(name), digest, size, diff_id)


def _diff_ids(config: Mapping[str, Any], count: int) -> list[str]:
    system, machine = config.get("os", "linux"), config.get("architecture", "amd64")
    if (system, machine) != PLATFORM:
        raise Damaged(f"an image for {system}/{machine}, not linux/amd64")
    rootfs = config.get("rootfs")
    ids = _strings(rootfs.get("diff_ids") if isinstance(rootfs, dict) else None, "rootfs.diff_ids")
    if len(ids) != count:
        raise Damaged(f"{count} layers, but {len(ids)} in the configuration")
    if count > limits.LAYERS_MAX:
        raise Damaged(f"{count} layers, {limits.LAYERS_MAX} is the most")
    return ids


# --- docker save -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Saved:
    """One image of a docker archive."""

    config: str
    layers: list[str]
    tags: list[str] = field(default_factory=list)


def read_docker(files: Files, tag: str) -> Container:
    """The image in an archive of `docker save`.

    Raises:
        Damaged: it is damaged.
        UsageError: there is none with this name, or several and no name.
    """
    if not files.has("manifest.json"):
        raise Damaged("there is no manifest.json: not an archive of `docker save`")
    stream = Hashed(files.open("manifest.json"), None, None)
    images = _saved(stream)
    found = _choose_saved(files, images, tag)
    value = posixpath.basename(found.config).removesuffix(".json")
    digest = f"sha256:{value}" if _HEX.fullmatch(value) else None
    config = Hashed(files.open(found.config), digest, None)
    document = _document(config, found.config, limits.CONFIG_MAX)
    ids = _diff_ids(document, len(found.layers))
    layers = [
        _layer(files, name, None, None, diff_id)
        for name, diff_id in zip(found.layers, ids, strict=True)
    ]
    return Container(files.where, document, tuple(layers), tuple(found.tags))


def _saved(stream: Hashed) -> list[_Saved]:
    text = b""
    while len(text) <= limits.DOCUMENT_MAX and (data := stream.read(1 << 16)):
        text += data
    try:
        if len(text) > limits.DOCUMENT_MAX:
            raise Damaged(f"manifest.json: larger than {limits.DOCUMENT_MAX >> 20} MiB")
        raw: Any = json.loads(text)
        return [
            _Saved(
                str(row["Config"]),
                _strings(row["Layers"], "Layers"),
                _strings(row.get("RepoTags") or [], "RepoTags"),
            )
            for row in raw
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise Damaged("manifest.json is damaged") from err


def _choose_saved(files: Files, images: Sequence[_Saved], tag: str) -> _Saved:
    tags = [name for image in images for name in image.tags]
    if tag:
        for image in images:
            if any(f"/{name}".endswith((f"/{tag}", f"/{tag}:latest")) for name in image.tags):
                return image
        raise UsageError(
            f"{files.where} has no image {tag}", hint=f"it has {', '.join(tags[:20]) or 'no names'}"
        )
    if len(images) != 1:
        raise UsageError(
            f"{files.where} has {len(images)} images: name one",
            hint=f"docker-archive:FILE:NAME with one of {', '.join(tags[:20])}",
        )
    return images[0]
