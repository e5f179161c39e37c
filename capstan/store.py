# SPDX-License-Identifier: BSD-2-Clause
"""The local store: images by content, names that point at them, and the kernels they carry.

    objects/SHA256/disk.img        the image, named by the digest of its bytes
    objects/SHA256/manifest.json   a copy of the manifest inside, for people and scripts
    images/NAME/TAG                link to an object ("/" in NAME is written "+")
    cache/KEY                      link to an object: what `capstan run PROGRAM` built
    kernels/SHA256.elf             a kernel taken out of an image, for QEMU's -kernel

Rules: nothing is changed in place. An image is written beside the others and renamed; a name is
replaced by one rename. Names change under the lock file; readers need no lock, because an object
nobody points at any more stays for `GRACE` seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from capstan import fs, manifest, paths, ref
from capstan.errors import ImageError
from capstan.manifest import ImageManifest
from capstan.ref import ImageRef

GRACE = 600.0
CACHE_MAX = 32
STALE_TEMP = 86_400.0
DISK = "disk.img"
MANIFEST = "manifest.json"
UNUSED = ".unused"

_HEADER = struct.Struct("<8sIIQQQQ32s32s")


@dataclass(frozen=True, slots=True)
class Header:
    """The image header: where manifest and kernel are, and what they hash to."""

    manifest_size: int
    kernel_size: int
    manifest_sha256: bytes
    kernel_sha256: bytes

    def pack(self) -> bytes:
        """The bytes at `HEADER_OFFSET`."""
        data = _HEADER.pack(
            manifest.MAGIC,
            manifest.FORMAT_VERSION,
            manifest.ABI,
            manifest.MANIFEST_OFFSET,
            self.manifest_size,
            manifest.KERNEL_OFFSET,
            self.kernel_size,
            self.manifest_sha256,
            self.kernel_sha256,
        )
        return data.ljust(manifest.HEADER_SIZE, b"\0")

    @classmethod
    def unpack(cls, data: bytes, where: str) -> Header:
        """The header in `data`; `where` names the image in errors.

        Raises:
            ImageError: no image, a damaged one, or one of another version.
        """
        if len(data) < _HEADER.size or data[:8] != manifest.MAGIC:
            raise ImageError(f"{where}: not a capstan image", hint="name a disk.img of the store")
        _, version, abi, m_at, m_size, k_at, k_size, m_sha, k_sha = _HEADER.unpack_from(data)
        if (version, abi) != (manifest.FORMAT_VERSION, manifest.ABI):
            raise ImageError(
                f"{where}: image format {version} with ABI {abi}, "
                f"but this capstan knows format {manifest.FORMAT_VERSION} with ABI {manifest.ABI}",
                hint="build the image again with this version of capstan",
            )
        places = (manifest.MANIFEST_OFFSET, manifest.KERNEL_OFFSET)
        fits = m_size <= manifest.MANIFEST_MAX and k_size <= manifest.KERNEL_MAX
        if (m_at, k_at) != places or not fits:
            raise ImageError(f"{where}: damaged image header", hint="build or pull it again")
        return cls(m_size, k_size, m_sha, k_sha)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image ready to run; `ref` is None when it has no name (a cached build)."""

    ref: ImageRef | None
    digest: str
    disk: Path
    manifest: ImageManifest
    kernel: Path


def read_manifest(disk: Path) -> ImageManifest:
    """The manifest inside the image file `disk`.

    Raises:
        ImageError: it cannot be read or is damaged.
    """
    data, header = _read_part(disk, manifest.MANIFEST_OFFSET, lambda h: h.manifest_size)
    if hashlib.sha256(data).digest() != header.manifest_sha256:
        raise ImageError(f"{disk}: the manifest is damaged", hint="build or pull it again")
    return ImageManifest.from_json(data, str(disk))


def read_kernel(disk: Path) -> bytes:
    """The kernel inside the image file `disk`.

    Raises:
        ImageError: it cannot be read or is damaged.
    """
    data, header = _read_part(disk, manifest.KERNEL_OFFSET, lambda h: h.kernel_size)
    if hashlib.sha256(data).digest() != header.kernel_sha256:
        raise ImageError(f"{disk}: the kernel is damaged", hint="build or pull it again")
    return data


def _read_part(disk: Path, at: int, size: Callable[[Header], int]) -> tuple[bytes, Header]:
    try:
        with disk.open("rb") as file:
            file.seek(manifest.HEADER_OFFSET)
            header = Header.unpack(file.read(manifest.HEADER_SIZE), str(disk))
            file.seek(at)
            return file.read(size(header)), header
    except OSError as err:
        raise ImageError(f"{disk}: {os.strerror(err.errno or 0)}") from err


class Store:
    """The store in the directory `root`, which is made when something is put into it."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or paths.data_root()
        self.objects = self.root / "objects"
        self.images = self.root / "images"
        self.cache = self.root / "cache"
        self.link_cache = self.root / "link"

    def find(self, name: str) -> StoredImage | None:
        """The image called `name`, None when there is none or `name` cannot be one's name."""
        parsed = ref.try_parse(name)
        if parsed is None or not self._link(parsed).is_symlink():
            return None
        return self._load(self._link(parsed), parsed)

    def open(self, name: str) -> StoredImage:
        """The image called `name`.

        Raises:
            UsageError: `name` is not `name[:tag]`.
            ImageError: there is none, or it is damaged.
        """
        parsed = ref.parse(name)
        image = self.find(name)
        if image is None:
            raise ImageError(
                f"there is no image {parsed}",
                hint="`capstan images` lists them; `capstan build -t NAME PATH` makes one",
            )
        return image

    def list(self) -> Sequence[StoredImage]:
        """All named images, by name; damaged ones are left out (`open` says what they lack)."""
        found = []
        for parsed, link in sorted(self._names()):
            with contextlib.suppress(ImageError):
                found.append(self._load(link, parsed))
        return found

    def remove(self, name: str) -> None:
        """Forget the name, and the image with it when nothing else points at it.

        Raises:
            ImageError: there is none of that name.
        """
        parsed = ref.parse(name)
        with self._locked():
            link = self._link(parsed)
            if not link.is_symlink():
                raise ImageError(f"there is no image {parsed}", hint="`capstan images` lists them")
            digest = link.readlink().name
            link.unlink()
            for path in self._links(self.cache):
                if path.readlink().name == digest:
                    path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                link.parent.rmdir()
            self._sweep(at_once=digest)

    def cached_build(self, key: str) -> StoredImage | None:
        """The image an earlier `put` stored under the content key `key`."""
        link = self.cache / key
        if not link.is_symlink():
            return None
        try:
            image = self._load(link, None)
        except ImageError:
            return None
        with contextlib.suppress(OSError):
            os.utime(link, follow_symlinks=False)
        return image

    def put(
        self,
        write: Callable[[BinaryIO], ImageManifest],
        *,
        name: ImageRef | None = None,
        key: str | None = None,
        notes: Mapping[str, bytes] | None = None,
    ) -> StoredImage:
        """The new image that `write` makes, known by `name` and by the content key `key`.

        `notes` are kept as files beside it. When `write` raises, nothing is left behind.
        """
        with fs.temp_dir(self.objects) as temp:
            with (temp / DISK).open("w+b") as out:
                description = write(out)
                out.flush()
                os.fsync(out.fileno())
                out.seek(0)
                digest = hashlib.file_digest(out, "sha256").hexdigest()
            for note, data in {MANIFEST: description.to_json(), **(notes or {})}.items():
                (temp / note).write_bytes(data)
            temp.chmod(0o755)
            with self._locked():
                self._publish(temp, digest, name, key)
        place = self.objects / digest
        kernel = self._kernel(place / DISK, description)
        return StoredImage(name, digest, place / DISK, description, kernel)

    def label(self, image: StoredImage, name: ImageRef) -> StoredImage:
        """Give a stored image another name."""
        with self._locked():
            self._point(self._link(name), image.digest)
        return StoredImage(name, image.digest, image.disk, image.manifest, image.kernel)

    # --- inside --------------------------------------------------------------------------------

    def _publish(self, temp: Path, digest: str, name: ImageRef | None, key: str | None) -> None:
        place = self.objects / digest
        if (place / DISK).is_file():
            for note in temp.iterdir():
                if note.name != DISK:
                    note.replace(place / note.name)
        else:
            temp.rename(place)
            fs.sync_dir(self.objects)
        if name is not None:
            self._point(self._link(name), digest)
        if key is not None:
            self._point(self.cache / key, digest)
        self._sweep()

    def _point(self, link: Path, digest: str) -> None:
        up = "/".join([".."] * len(link.parent.relative_to(self.root).parts))
        fs.atomic_symlink(link, f"{up}/objects/{digest}")

    def _link(self, name: ImageRef) -> Path:
        return self.images / name.repository.replace("/", "+") / name.tag

    def _names(self) -> Iterator[tuple[ImageRef, Path]]:
        for link in self.images.glob("*/*"):
            if link.is_symlink():
                parsed = ref.try_parse(f"{link.parent.name.replace('+', '/')}:{link.name}")
                if parsed is not None:
                    yield parsed, link

    def _links(self, folder: Path) -> Sequence[Path]:
        return [path for path in folder.glob("*") if path.is_symlink()]

    def _load(self, link: Path, name: ImageRef | None) -> StoredImage:
        try:
            digest = link.readlink().name
        except OSError as err:
            raise ImageError(f"{name or link.name}: removed a moment ago") from err
        disk = self.objects / digest / DISK
        description = read_manifest(disk)
        return StoredImage(name, digest, disk, description, self._kernel(disk, description))

    def _kernel(self, disk: Path, description: ImageManifest) -> Path:
        """The image's kernel as a file of its own, taken out once."""
        path = self.root / "kernels" / f"{description.kernel.sha256}.elf"
        if not path.is_file():
            fs.atomic_write(path, read_kernel(disk))
        return path

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return fs.locked(self.root / "lock")

    def _sweep(self, at_once: str | None = None) -> None:
        """Remove what nothing points at; `at_once` without the grace period. The lock is held."""
        import shutil

        by_age = sorted(self._links(self.cache), key=lambda p: p.lstat().st_mtime, reverse=True)
        for old in by_age[CACHE_MAX:]:
            old.unlink(missing_ok=True)
        used = {link.readlink().name for link in by_age[:CACHE_MAX]}
        used.update(link.readlink().name for _, link in self._names())
        now = time.time()
        for place in self.objects.glob("*"):
            if place.name.startswith(fs.TEMP_PREFIX):
                dead = _is_stale(place, now)
            else:
                dead = place.name not in used and (place.name == at_once or _unused(place, now))
            if place.name in used:
                (place / UNUSED).unlink(missing_ok=True)
            if dead:
                shutil.rmtree(place, ignore_errors=True)


def _is_stale(temp: Path, now: float) -> bool:
    """Whether a temporary directory was left behind; those of running builds come and go."""
    try:
        return now - temp.stat().st_mtime > STALE_TEMP
    except FileNotFoundError:
        return False


def _unused(place: Path, now: float) -> bool:
    """Whether the object has been without a name for the grace period; the first look starts it."""
    mark = place / UNUSED
    if not mark.exists():
        with contextlib.suppress(OSError):
            mark.touch()
        return False
    return now - mark.stat().st_mtime > GRACE
