# SPDX-License-Identifier: BSD-2-Clause
"""Looking after the store: what takes room, what can go, what is damaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from capstan import fs, storeversion
from capstan.errors import CapstanError, ImageError
from capstan.imagefile import read_kernel, read_manifest
from capstan.manifest import ImageManifest
from capstan.store import DISK, MANIFEST, Removed, Store

LINK_CACHE_MAX = 1 << 30
FACTS_MAX = 64 << 20
FACTS = "facts"
FOLDERS = {
    "unpacked bases": "unpacked",
    "container layers": "sources",
    "downloads": "downloads",
    "check cache": FACTS,
}
"""What can be made or fetched again: kind -> folder of the store."""
INDEX_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Usage:
    """One kind of thing in the store: how many, how many in use, bytes, bytes that could go."""

    kind: str
    total: int
    active: int
    size: int
    reclaimable: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What `prune` removed."""

    images: Sequence[Removed]
    size: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one thing in the store, and what to do about it."""

    what: str
    problem: str
    hint: str


# --- room --------------------------------------------------------------------------------------


def disk_usage(path: Path) -> int:
    """The bytes a file or a directory takes on the disk."""
    total = 0
    with contextlib.suppress(OSError):
        status = path.lstat()
        total = status.st_blocks * 512
        if path.is_dir() and not path.is_symlink():
            total += sum(disk_usage(entry) for entry in path.iterdir())
    return total


def usage(store: Store) -> Sequence[Usage]:
    """What takes room, by kind."""
    storeversion.read(store.root)
    names = store.all_names()
    digests = store.digests()
    linked = list(_entries(store.link_cache / "objects"))
    kernels, unused = list(_entries(store.kernels)), store.unused_kernels()
    size = sum(map(disk_usage, linked)) + disk_usage(store.link_cache / "index")
    return (
        _objects(store, "images", [digest for digest in digests if digest in names]),
        _objects(store, "build cache", [digest for digest in digests if digest not in names]),
        Usage("linked files", sum(p.suffix == ".json" for p in linked), 0, size, size),
        *(_folder(kind, store.root / name) for kind, name in FOLDERS.items()),
        Usage(
            "kernels",
            len(kernels),
            len(kernels) - len(unused),
            sum(map(disk_usage, kernels)),
            sum(map(disk_usage, unused)),
        ),
    )


def _folder(kind: str, folder: Path) -> Usage:
    size = sum(map(disk_usage, _entries(folder)))
    layers = folder / "layers"
    count = len(list(_entries(layers if layers.is_dir() else folder)))
    return Usage(kind, count, 0, size, size)


def _objects(store: Store, kind: str, digests: Sequence[str]) -> Usage:
    sizes = {digest: disk_usage(store.objects / digest) for digest in digests}
    held = {digest for digest in digests if store.owners(digest)}
    free = sum(size for digest, size in sizes.items() if digest not in held)
    return Usage(kind, len(digests), len(held), sum(sizes.values()), free)


def _entries(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*") if not path.name.startswith(fs.TEMP_PREFIX))


def prune(store: Store, *, everything: bool) -> Pruned:
    """Remove what is not needed: images without a name, kernels of no image, leftovers.

    With `everything` also the images with names that nobody holds, and what can be made again.
    """
    before = disk_usage(store.root)
    removed = store.prune(named=everything)
    trim_links(store.link_cache, 0 if everything else LINK_CACHE_MAX)
    fs.sweep_temps(store.sources / "tmp")
    for name in FOLDERS.values() if everything else ():
        with contextlib.suppress(FileNotFoundError):
            fs.discard(store.root / name)
    fs.sweep_temps(store.root)
    _trim(store.root / FACTS, FACTS_MAX)
    return Pruned(removed, max(0, before - disk_usage(store.root)))


def trim_links(cache: Path, limit: int = LINK_CACHE_MAX) -> None:
    """Remove the linked files that were not used for the longest time, down to `limit` bytes."""
    _trim(cache / "objects", limit)
    fs.sweep_temps(cache / "index")
    index = list(_entries(cache / "index"))
    if len(index) > INDEX_MAX or not limit:
        for path in index:
            fs.unlink(path)


def _trim(folder: Path, limit: int) -> None:
    """Remove what was not used for the longest time, NAME and NAME.json together."""
    fs.sweep_temps(folder)
    groups: dict[str, list[tuple[Path, os.stat_result]]] = {}
    for path in _entries(folder):
        with contextlib.suppress(FileNotFoundError):
            groups.setdefault(path.name.removesuffix(".json"), []).append((path, path.stat()))
    room = limit
    for group in sorted(groups.values(), key=_last_use, reverse=True):
        room -= sum(status.st_blocks * 512 for _, status in group)
        if room < 0:
            for path, _ in sorted(group, reverse=True):  # the report first: it says "complete"
                fs.unlink(path)


def _last_use(group: Sequence[tuple[Path, os.stat_result]]) -> float:
    return max(status.st_mtime for _, status in group)


# --- health ------------------------------------------------------------------------------------


def check(store: Store, *, deep: bool = False) -> Sequence[Finding]:
    """What is wrong in the store; with `deep` every byte of every image is read."""
    try:
        version = storeversion.read(store.root)
    except ImageError as err:
        return (Finding("the store", err.message, err.hint or ""),)
    findings = [*_check_names(store), *_check_kernels(store)]
    names = store.all_names()
    for digest in store.digests():
        name = str(names[digest][0]) if digest in names else digest[:12]
        findings += _check_object(store.objects / digest, name, deep=deep)
    if version == 0 and store.objects.is_dir():
        hint = "the next command that writes brings it up to date"
        findings.append(Finding("the store", "its layout is that of version 0", hint))
    return findings


def _check_names(store: Store) -> Iterator[Finding]:
    for link in sorted(store.images.glob("*/*")):
        where = str(link.relative_to(store.root))
        if link.name.startswith(fs.TEMP_PREFIX):
            continue
        if not link.is_symlink():
            yield Finding(where, "is no link to an image", f"remove {link}")
        elif not link.exists():
            name = where.removeprefix("images/").replace("+", "/")
            name = f"{name.rpartition('/')[0]}:{link.name}".replace(":@", "@")
            hint = f"`capstan build` or `capstan pull` it again, or `capstan rmi {name}`"
            yield Finding(f"image {name}", "its file is gone", hint)


def _check_kernels(store: Store) -> Iterator[Finding]:
    for path in sorted(_entries(store.kernels)):
        try:
            same = _digest(path) == path.stem
        except OSError:
            same = False
        if not same:
            yield Finding(str(path), "is not the kernel its name says", f"remove {path}")


def _check_object(place: Path, name: str, *, deep: bool) -> Iterator[Finding]:
    title = f"image {name}"
    hint = f"`capstan build` or `capstan pull` it again, or `capstan rmi {name}`"
    try:
        description = read_manifest(place / DISK)
        size = (place / DISK).stat().st_size
        if size < description.pool.size:
            raise ImageError(f"the disk has {size} of {description.pool.size} bytes")
        read_kernel(place / DISK, description.kernel.sha256)
        if deep and _digest(place / DISK) != place.name:
            hint = f"`capstan rmi -f {name}`, then build or pull it again"
            raise ImageError("the disk changed since it was made: its digest is another one")
    except CapstanError as err:
        yield Finding(title, err.message, hint)
        return
    except OSError as err:
        yield Finding(title, os.strerror(err.errno or 0), hint)
        return
    try:
        where = place / MANIFEST
        same = ImageManifest.from_json(where.read_bytes(), str(where)) == description
    except (OSError, ImageError):
        same = False
    if not same:
        yield Finding(title, f"{MANIFEST} beside it is not the manifest inside", hint)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
