# SPDX-License-Identifier: BSD-2-Clause
"""Images as one tar stream: `capstan save` and `capstan load`.

The stream is an OCI image layout (image-spec 1.1, "image layout"): blobs under their digests, an
OCI manifest per image with an artifact type of ours, one layer: the disk, compressed with zstd.
Tools that copy layouts take it. `index.json` names each image once per name it had.

Nothing in a stream is trusted: every blob has to hash to its name and the disk to the digest its
layer tells before the image is known to the store, and what is no file of a layout is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from capstan import fs, ref, tarstream, ui
from capstan.errors import ImageError
from capstan.imagefile import read_manifest
from capstan.manifest import ImageManifest
from capstan.oci import ARTIFACT, OCI_INDEX, OCI_MANIFEST, REF_NAME, Descriptor, dump
from capstan.ref import ImageRef
from capstan.store import Store, StoredImage

CONFIG = "application/vnd.capstan.config.v1+json"
DISK_ZSTD = "application/vnd.capstan.disk.v1+zstd"
DISK_SIZE, DISK_DIGEST = "capstan.disk.size", "capstan.disk.digest"

_BLOB = re.compile(r"(?:\./)?blobs/sha256/([0-9a-f]{64})")
_TEXTS = {"index.json", "oci-layout", "manifest.json", "repositories"}
_TEXT_MAX = 4 << 20
_CHUNK = 1 << 20
_PIECE = 64 << 10
_BLOCK = 4096
_ZEROS = bytes(_BLOCK)
_ALWAYS_FINE, _RATIO_MAX = 1 << 30, 1000
_LEVEL = 3
_ONLY_OURS = (
    "`capstan load` takes what `capstan save` wrote; a container image is built with "
    "`capstan build --from oci-archive:FILE` or `docker-archive:FILE`"
)


# --- saving ------------------------------------------------------------------------------------


def save(
    images: Sequence[tuple[StoredImage, Sequence[ImageRef]]],
    out: BinaryIO,
    scratch: Path,
    progress: ui.Advance | None = None,
) -> None:
    """Write the images, each with the names it shall have, to `out`.

    The compressed disks are kept in `scratch` meanwhile, since a tar tells sizes first.
    """
    index: list[Mapping[str, object]] = []
    done: set[str] = set()
    total = sum(image.disk.stat().st_size for image, _ in images)
    counter = ui.Counter(total, progress)
    _file(out, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    for image, names in images:
        entry = _save_image(image, out, scratch, done, counter)
        for name in names or (None,):
            named = {REF_NAME: str(name)} if name is not None else {}
            index.append({**entry, "artifactType": ARTIFACT, "annotations": named})
    text = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index}
    _file(out, "index.json", dump(text))
    out.write(tarstream.END)
    out.flush()


def _save_image(
    image: StoredImage, out: BinaryIO, scratch: Path, done: set[str], counter: ui.Counter
) -> dict[str, object]:
    config = _blob(out, CONFIG, image.manifest.to_json(), done)
    packed = scratch / f"{image.digest}.zst"
    with fs.create(packed) as file:
        disk = _compress(image, file, counter)
        if disk.digest not in done:
            out.write(tarstream.header(_place(disk.digest), disk.size))
            file.seek(0)
            while data := file.read(_CHUNK):
                out.write(data)
            out.write(tarstream.padding(disk.size))
            done.add(disk.digest)
    packed.unlink()
    text = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": ARTIFACT,
        "config": config.to_json(),
        "layers": [disk.to_json()],
    }
    return _blob(out, OCI_MANIFEST, dump(text), done).to_json()


def _compress(image: StoredImage, out: BinaryIO, counter: ui.Counter) -> Descriptor:
    import zstandard

    digest = hashlib.sha256()
    size = done = 0
    packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False).compressobj()
    with image.disk.open("rb") as file:
        while True:
            data = file.read(_CHUNK)
            piece = packer.compress(data) if data else packer.flush()
            digest.update(piece)
            size += len(piece)
            out.write(piece)
            if not data:
                told = {DISK_SIZE: str(done), DISK_DIGEST: f"sha256:{image.digest}"}
                return Descriptor(DISK_ZSTD, f"sha256:{digest.hexdigest()}", size, told)
            done += len(data)
            counter.advance(len(data))


def _blob(out: BinaryIO, media_type: str, data: bytes, done: set[str]) -> Descriptor:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if digest not in done:
        _file(out, _place(digest), data)
        done.add(digest)
    return Descriptor(media_type, digest, len(data))


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _file(out: BinaryIO, name: str, data: bytes) -> None:
    out.write(tarstream.header(name, len(data)) + data + tarstream.padding(len(data)))


# --- loading -----------------------------------------------------------------------------------


def load(
    store: Store, source: BinaryIO, where: str, progress: ui.Advance | None = None
) -> Sequence[StoredImage]:
    """Put the images of a stream into the store; `where` names it in errors.

    Raises:
        ImageError: damaged, not what `save` writes, or too large for the disk. Images that came
            before the damage may be in the store, each of them whole.
    """
    try:
        with fs.temp_dir(store.objects) as scratch:
            _spool(tarstream.unzipped(source), scratch, where)
            return [
                _load_image(store, scratch, entry, where, progress)
                for entry in _entries(scratch, where)
            ]
    except tarstream.TarError as err:
        raise ImageError(f"{where}: {err}", hint=err.hint) from err
    except OSError as err:
        raise ImageError(
            f"{where}: cannot be loaded: {os.strerror(err.errno or 0)}",
            hint=f"the store is {store.root} (CAPSTAN_ROOT): check its disk",
        ) from err
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise ImageError(
            f"{where}: not an archive of images ({err!r})",
            hint=_ONLY_OURS,
        ) from err


def _spool(source: tarstream.Source, scratch: Path, where: str) -> None:
    """Keep the files of the stream under their digests (or names), each of them checked."""
    for member in tarstream.members(source):
        name = member.name.removeprefix("./")
        blob = _BLOB.fullmatch(name)
        if blob is None and name not in _TEXTS:
            raise tarstream.TarError(
                f"{name!r} does not belong into an archive of images", hint=_ONLY_OURS
            )
        place = scratch / (blob[1] if blob else name)
        if place.exists():
            raise tarstream.TarError(f"{name} comes twice")
        free = os.statvfs(scratch)
        if member.size > free.f_bavail * free.f_frsize:
            raise ImageError(
                f"{where}: {name} takes {member.size} bytes, more than {scratch.parent} has",
                hint="`capstan system df` shows what can be removed",
            )
        digest = hashlib.sha256()
        with fs.create(place) as out:
            for data in member.chunks():
                digest.update(data)
                out.write(data)
        if blob and digest.hexdigest() != blob[1]:
            raise tarstream.TarError(f"blob {blob[1][:12]} is damaged: it has another digest")


def _entries(scratch: Path, where: str) -> Iterator[Mapping[str, Any]]:
    """The images in the index, each name of one image an entry."""
    if not (scratch / "index.json").exists():
        raise ImageError(f"{where}: has no index.json", hint=_ONLY_OURS)
    index = _read(scratch, "index.json")
    entries = index["manifests"]
    if not entries:
        raise ImageError(f"{where}: holds no image")
    yield from entries


def _load_image(
    store: Store, scratch: Path, entry: Mapping[str, Any], where: str, progress: ui.Advance | None
) -> StoredImage:
    text = entry.get("annotations", {}).get(REF_NAME)
    name = ref.parse(str(text)) if text is not None else None
    description = _read(scratch, _digest(entry))
    layers = description["layers"]
    if description.get("artifactType") != ARTIFACT or len(layers) != 1:
        kind = description.get("artifactType") or "a container image"
        raise ImageError(
            f"{where}: {text or 'the image'} is no image of capstan but {kind}", hint=_ONLY_OURS
        )
    told = layers[0]["annotations"]
    digest = str(told[DISK_DIGEST]).removeprefix("sha256:")
    known = None
    if re.fullmatch("[0-9a-f]{64}", digest):
        with contextlib.suppress(ImageError):  # a damaged one is put in place again
            known = store.find(digest)
    # 64 digits may also be somebody's name for another image.
    if known is not None and known.digest == digest:
        return store.label(known, name) if name is not None else replace(known, ref=None)
    packed = scratch / _digest(layers[0])
    size = int(told[DISK_SIZE])
    if size > max(_ALWAYS_FINE, packed.stat().st_size * _RATIO_MAX):
        raise ImageError(f"{where}: a disk of {size} bytes from {packed.stat().st_size}: refused")

    def write(out: BinaryIO) -> ImageManifest:
        expand(packed, out, size, progress)
        out.flush()
        return read_manifest(Path(out.name))

    return store.put(write, name=name, expect=digest)


def expand(packed: Path, out: BinaryIO, size: int, progress: ui.Advance | None = None) -> None:
    """Write the disk in `packed` to the empty file `out`, with holes where it has zeros.

    Raises:
        TarError: it is damaged or has not `size` bytes.
    """
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    counter = ui.Counter(size, progress)
    done = 0
    try:
        with packed.open("rb") as file:
            for data in unpacker.read_to_iter(file, read_size=_CHUNK, write_size=_PIECE):
                done += len(data)
                if done > size:
                    raise tarstream.TarError(f"the disk has more than {size} bytes")
                _write_sparse(out, data)
                counter.advance(len(data))
    except zstandard.ZstdError as err:
        raise tarstream.TarError(f"the disk is damaged: {err}") from err
    if done != size:
        raise tarstream.TarError(f"the disk has {done} instead of {size} bytes")
    out.truncate(size)


def _write_sparse(out: BinaryIO, data: bytes) -> None:
    """Write `data`, but only move on where it has blocks of zeros."""
    if data.count(0) < _BLOCK:
        out.write(data)
        return
    start = 0
    for at in range(0, len(data), _BLOCK):
        size = min(_BLOCK, len(data) - at)
        if data[at : at + size] == _ZEROS[:size]:
            out.write(data[start:at])
            out.seek(size, os.SEEK_CUR)
            start = at + size
    out.write(data[start:])


def _digest(entry: Mapping[str, Any]) -> str:
    digest = str(entry["digest"])
    if not re.fullmatch("sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"digest {digest}")
    return digest.removeprefix("sha256:")


def _read(scratch: Path, name: str) -> Any:
    try:
        with (scratch / name).open("rb") as file:
            data = file.read(_TEXT_MAX + 1)
    except FileNotFoundError as err:
        raise tarstream.TarError(f"lacks the blob {name[:12]}") from err
    if len(data) > _TEXT_MAX:
        raise tarstream.TarError(f"{name[:12]} is larger than {_TEXT_MAX} bytes")
    return json.loads(data)
