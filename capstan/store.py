# SPDX-License-Identifier: BSD-2-Clause
"""The local store: images by content, names that point at them, and the kernels they carry.

    version                        of this layout (`storeversion`)
    objects/SHA256/disk.img        the image, named by the digest of its bytes
    objects/SHA256/manifest.json   a copy of the manifest inside, for people and scripts
    objects/SHA256/repos.json      the registry names it was pulled from or pushed to
    objects/SHA256/.holds/         who needs it (`holds`)
    images/NAME/TAG                link to an object ("/" in NAME is written "+")
    images/NAME/@sha256:DIGEST     the same for an image pulled by its registry digest
    cache/KEY[-MORE]               link to an object that was built from what KEY stands for
    cache/KEY.WORD                 what the builder wants to know about such builds
    sources/                       container images and packages, unpacked (`build/sources/`)
    kernels/SHA256.elf             a kernel taken out of an image, for QEMU's -kernel
    unpacked/SHA256/               the files of an image that is the base of others
    link/                          linked programs and libraries (`build.link.cache`)

Rules: nothing is changed in place. An image is written beside the others and renamed; a name is
replaced by one rename. Names change under the lock file; readers need no lock, because an object
nobody points at any more stays for `GRACE` seconds, and one that is held stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from capstan import fs, holds, paths, ref, storeversion
from capstan.errors import ImageError, UsageError
from capstan.holds import Hold
from capstan.imagefile import Header, read_kernel, read_manifest
from capstan.manifest import ImageManifest
from capstan.ref import ImageRef
from capstan.storenames import Names, add_repo, no_image, point, read_repos, target

__all__ = ["Header", "Hold", "Removed", "Store", "StoredImage", "WrongImage", "read_manifest"]

GRACE = 600.0
CACHE_MAX = 32
DISK = "disk.img"
MANIFEST = "manifest.json"
UNUSED = ".unused"

_ATTEMPTS = 4
_AGAIN = "`capstan build` or `capstan pull` it again, or `capstan rmi {}`"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image ready to run; `ref` is None when it has no name (a cached build)."""

    ref: ImageRef | None
    digest: str
    disk: Path
    manifest: ImageManifest
    kernel: Path

    @property
    def title(self) -> str:
        """What to call it: its name, or the beginning of its ID."""
        return str(self.ref) if self.ref is not None else self.digest[:12]


@dataclass(frozen=True, slots=True)
class Removed:
    """What `Store.remove` did: names that are gone, and the image's ID if it is gone, too."""

    names: tuple[ImageRef, ...]
    digest: str | None


class WrongImage(ImageError):
    """What was written is another image than the one that was wanted."""


class Store:
    """The store in the directory `root`, which is made when something is put into it."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or paths.data_root()
        self.objects = self.root / "objects"
        self._names = Names(self.root)
        self.images = self._names.folder
        self.cache = self.root / "cache"
        self.kernels = self.root / "kernels"
        self.link_cache = self.root / "link"
        self.unpacked = self.root / "unpacked"
        self.sources = self.root / "sources"

    # --- looking -------------------------------------------------------------------------------

    def find(self, name: str, *, ids: bool = True) -> StoredImage | None:
        """The image `name` stands for: a name, a name with a registry digest, or an ID.

        None when there is none, or `name` cannot be one's name. Names come before IDs (left out
        without `ids`), of which the first four digits or more are enough.

        Raises:
            ImageError: it is damaged, or several images have an ID that begins so.
        """
        storeversion.read(self.root)
        for attempt in range(_ATTEMPTS):
            found = self._names.find(name, ids=ids)
            if found is None:
                return None
            try:
                return self._load(*found)
            except ImageError:  # damaged, or replaced while it was read
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    def open(self, name: str) -> StoredImage:
        """The image `name` stands for.

        Raises:
            UsageError: `name` cannot be the name of an image.
            ImageError: there is none, it is damaged, or several have such an ID.
        """
        image = self.find(name)
        if image is None:
            raise no_image(name)
        return image

    def list(self) -> Sequence[StoredImage]:
        """All named images, by name; damaged ones are left out (`scan` has them)."""
        return self.scan()[0]

    def scan(self, *, unnamed: bool = False) -> tuple[Sequence[StoredImage], Sequence[ImageError]]:
        """All named images by name, and what is wrong with the damaged ones.

        With `unnamed` also those without a name, after the others.
        """
        storeversion.read(self.root)
        found: list[StoredImage] = []
        damaged: list[ImageError] = []
        todo: list[tuple[str, ImageRef | None]] = []
        for parsed, link in sorted(self._names.links()):
            with contextlib.suppress(OSError):
                todo.append((link.readlink().name, parsed))
        if unnamed:
            named = {digest for digest, _ in todo}
            todo += [(digest, None) for digest in self.digests() if digest not in named]
        for digest, name in todo:
            try:
                found.append(self._load(digest, name))
            except ImageError as err:
                still = target(self._names.link(name)) if name is not None else digest
                if still == digest and (name or (self.objects / digest).is_dir()):
                    damaged.append(err)  # else it was removed meanwhile
        return found, damaged

    def names(self, digest: str) -> Sequence[ImageRef]:
        """The names of the image with the ID `digest`, sorted."""
        return self._names.of(digest)

    def all_names(self) -> Mapping[str, Sequence[ImageRef]]:
        """The names of every image that has any, by its ID."""
        return self._names.by_digest()

    def digests(self) -> Sequence[str]:
        """The IDs of all images, with and without names."""
        return sorted(path.name for path in self.objects.glob("[0-9a-f]*"))

    def repo_digests(self, image: StoredImage) -> Sequence[str]:
        """The registry names ("host/name@sha256:...") the image was pulled from or pushed to."""
        return read_repos(self.objects / image.digest)

    # --- names ---------------------------------------------------------------------------------

    def label(self, image: StoredImage, name: ImageRef) -> StoredImage:
        """Give a stored image another name.

        Raises:
            ImageError: it was removed meanwhile.
        """
        with self._locked():
            self._object(image.digest)
            self._name(name, image.digest)
        return replace(image, ref=name)

    def add_repo_digest(self, image: StoredImage, repo_digest: str) -> None:
        """Remember that a registry knows the image as `repo_digest`: "host/name@sha256:...".

        Raises:
            ImageError: it was removed meanwhile.
            UsageError: that is no such name.
        """
        name = ref.parse(repo_digest)
        if not name.digest:
            raise UsageError(f"{repo_digest} has no @sha256: digest")
        with self._locked():
            add_repo(self._object(image.digest), name)

    def remove(self, name: str, *, force: bool = False) -> Removed:
        """Forget the name, and the image with it when it has no other.

        With an ID the image and all its names go; more than one name needs `force`. An image that
        is held stays; with `force` it loses its name and goes when nobody holds it any more.

        Raises:
            ImageError: there is none of that name, or it is in use.
        """
        with self._locked():
            digest, doomed = self._names.doomed(name, force=force)
            users = holds.owners(self.objects / digest)
            last = set(self.names(digest)) <= set(doomed)
            if users and last and not force:
                raise ImageError(
                    f"{name} is in use: {', '.join(users)}",
                    hint="remove that first, or use --force to take only the name away",
                )
            for parsed in doomed:
                self._names.forget(parsed)
            if not last:
                return Removed(tuple(doomed), None)
            self._uncache(digest)
            if not users:
                self._discard(self.objects / digest)
                self._discard(self.unpacked / digest)
        self._clean()
        return Removed(tuple(doomed), None if users else digest)

    def prune(self, *, named: bool) -> Sequence[Removed]:
        """Remove all images without a name, with `named` also the others; held ones stay.

        Kernels of no image go as well.
        """
        removed = []
        with self._locked():
            known = self.all_names()
            for digest in self.digests():
                names = known.get(digest, ())
                if (names and not named) or holds.owners(self.objects / digest):
                    continue
                for name in names:
                    self._names.forget(name)
                self._uncache(digest)
                self._discard(self.objects / digest)
                self._discard(self.unpacked / digest)
                removed.append(Removed(tuple(names), digest))
            for path in self.unused_kernels():
                fs.unlink(path)
        self._clean()
        return removed

    def unused_kernels(self) -> Sequence[Path]:
        """The kernels of no image; none if an image cannot be read."""
        used = set()
        for digest in self.digests():
            try:
                used.add(read_manifest(self.objects / digest / DISK).kernel.sha256)
            except ImageError:
                return ()
        return [path for path in self.kernels.glob("*.elf") if path.stem not in used]

    # --- keeping -------------------------------------------------------------------------------

    def hold(self, digest: str, owner: str) -> Hold:
        """Keep an image while the result is open, or a process that inherited its descriptor runs.

        `owner` ("instance web") is named to those who want to remove the image.

        Raises:
            ImageError: there is no such image.
        """
        with self._locked():
            return holds.hold(self._object(digest), owner)

    def pin(self, digest: str, owner: str, path: Path) -> None:
        """Keep an image as long as `path` exists, such as the directory of a stopped instance.

        Raises:
            ImageError: there is no such image.
        """
        with self._locked():
            holds.pin(self._object(digest), owner, path)

    def owners(self, digest: str) -> Sequence[str]:
        """Who holds the image."""
        if not (self.objects / digest / holds.FOLDER).is_dir():
            return []
        with self._locked():
            return holds.owners(self.objects / digest)

    # --- making --------------------------------------------------------------------------------

    def cached_build(self, key: str) -> StoredImage | None:
        """The image an earlier `put` stored under the content key `key`."""
        storeversion.read(self.root)
        link = self.cache / key
        digest = target(link)
        if digest is None:
            return None
        try:
            image = self._load(digest, None)
        except ImageError:
            return None
        with contextlib.suppress(OSError):
            os.utime(link, follow_symlinks=False)
        return image

    def reuse(self, key: str, name: ImageRef | None) -> StoredImage | None:
        """What `cached_build` gives, now also known as `name`."""
        image = self.cached_build(key)
        if image is None or name is None:
            return image
        with contextlib.suppress(ImageError):
            return self.label(image, name)
        return None  # removed a moment ago

    def remember(self, key: str, image: StoredImage) -> None:
        """Let `cached_build` find an image under one more key."""
        with self._locked(), contextlib.suppress(ImageError):
            self._object(image.digest)
            point(self.root, self.cache / key, image.digest)

    def put(
        self,
        write: Callable[[BinaryIO], ImageManifest],
        *,
        name: ImageRef | None = None,
        key: str | None = None,
        notes: Mapping[str, bytes] | None = None,
        expect: str | None = None,
    ) -> StoredImage:
        """The new image that `write` makes, known by `name` and by the content key `key`.

        `notes` are kept as files beside it. When `write` raises, nothing is left behind.

        Raises:
            WrongImage: `expect` is given and not the ID of what was written.
        """
        with self._locked():
            pass  # a store of another version is told, or brought up to date, before the work
        with fs.temp_dir(self.objects) as temp:
            with fs.create(temp / DISK) as out:
                description = write(out)
                out.flush()
                fs.sync(out, temp / DISK)
                out.seek(0)
                digest = hashlib.file_digest(out, "sha256").hexdigest()
            if expect is not None and digest != expect:
                raise WrongImage(f"the image has the ID {digest[:12]}, not {expect[:12]} as told")
            for note, data in {MANIFEST: description.to_json(), **(notes or {})}.items():
                fs.atomic_write(temp / note, data)
            temp.chmod(0o755)
            with self._locked():
                self._publish(temp, digest, name, key)
                image = self._load(digest, name)
        self._clean()
        return image

    # --- inside --------------------------------------------------------------------------------

    def _publish(self, temp: Path, digest: str, name: ImageRef | None, key: str | None) -> None:
        """Make the finished directory `temp` the object `digest`. The lock is held."""
        place = self.objects / digest
        if place.is_dir():
            for note in temp.iterdir():  # the disk, too: the one that is there may be damaged
                fs.rename(note, place / note.name)
            fs.sync_dir(place)
        else:
            fs.rename(temp, place)
            fs.sync_dir(self.objects)
        if name is not None:
            self._name(name, digest)
        if key is not None:
            point(self.root, self.cache / key, digest)
        self._sweep()

    def _name(self, name: ImageRef, digest: str) -> None:
        self._names.give(name, digest)
        with contextlib.suppress(OSError):
            (self.objects / digest / UNUSED).unlink(missing_ok=True)

    def _uncache(self, digest: str) -> None:
        for path in self._links(self.cache):
            if target(path) == digest:
                fs.unlink(path)

    def _links(self, folder: Path) -> Sequence[Path]:
        return [path for path in folder.glob("*") if path.is_symlink()]

    def _load(self, digest: str, name: ImageRef | None) -> StoredImage:
        disk = self.objects / digest / DISK
        title = f"image {name or digest[:12]}"
        hint = _AGAIN.format(name or digest[:12])
        try:
            description = read_manifest(disk)
            size = disk.stat().st_size
            kernel = self._kernel(disk, description)
        except ImageError as err:
            raise ImageError(f"{title} is damaged: {err.message}", hint=hint) from err
        except FileNotFoundError as err:
            raise ImageError(f"{title} is damaged: {disk} is gone", hint=hint) from err
        if size < description.pool.size:
            raise ImageError(
                f"{title} is damaged: {disk} has {size} of {description.pool.size} bytes", hint=hint
            )
        return StoredImage(name, digest, disk, description, kernel)

    def _object(self, digest: str) -> Path:
        """The place of an object that is there. The lock is held."""
        place = self.objects / digest
        if not (place / DISK).is_file():
            raise ImageError(
                f"image {digest[:12]} is not in the store (any more)",
                hint="`capstan images -a` lists what there is",
            )
        return place

    def _kernel(self, disk: Path, description: ImageManifest) -> Path:
        """The image's kernel as a file of its own, taken out once."""
        path = self.kernels / f"{description.kernel.sha256}.elf"
        if not path.is_file() or path.stat().st_size != description.kernel.size:
            fs.atomic_write(path, read_kernel(disk, description.kernel.sha256))
        return path

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with fs.locked(self.root / "lock"):
            storeversion.upgrade(self.root)
            yield

    def _sweep(self) -> None:
        """Take away what nothing points at; `_clean` removes it from the disk. The lock is held."""
        by_age = sorted(self._links(self.cache), key=lambda p: p.lstat().st_mtime, reverse=True)
        for old in by_age[CACHE_MAX:]:
            fs.unlink(old)
        keys = {link.name.partition("-")[0] for link in by_age[:CACHE_MAX]}
        for note in self.cache.glob("[0-9a-f]*.*"):
            if note.name.partition(".")[0] not in keys:
                fs.unlink(note)
        used = set(map(target, by_age[:CACHE_MAX]))
        used.update(target(link) for _, link in self._names.links())
        now = time.time()
        for place in self.objects.glob("[0-9a-f]*"):
            if place.name in used:
                (place / UNUSED).unlink(missing_ok=True)
            elif _unused(place, now) and not holds.owners(place):
                self._discard(place)
        for folder in self.unpacked.glob("[0-9a-f]*"):
            if not (self.objects / folder.name).is_dir():
                self._discard(folder)

    def _discard(self, place: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            fs.discard(place)

    def _clean(self) -> None:
        """Remove what `_discard` and dead processes left. No lock is needed."""
        places = list(self.objects.glob("[0-9a-f]*"))
        folders = [self.root, self.objects, self.cache, self.kernels, self.unpacked, *places]
        folders += [place / holds.FOLDER for place in places]
        for folder in (*folders, *self.images.glob("*")):
            fs.sweep_temps(folder)


def _unused(place: Path, now: float) -> bool:
    """Whether the object has been without a name for the grace period; the first look starts it."""
    mark = place / UNUSED
    if not mark.exists():
        with contextlib.suppress(OSError):
            mark.touch()
        return False
    return now - mark.stat().st_mtime > GRACE
