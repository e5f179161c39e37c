# SPDX-License-Identifier: BSD-2-Clause
"""What takes room in the store, what goes, and whether damage is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from capstan import ref, upkeep
from capstan.store import Store
from tests.lib.stored import put


@pytest.fixture
def place(tmp_path: Path) -> Store:
    return Store(tmp_path / "s")


def linked(store: Store, name: str, size: int, when: int) -> None:
    folder = store.link_cache / "objects"
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in ((folder / name, os.urandom(size)), (folder / f"{name}.json", b"{}")):
        path.write_bytes(data)
        os.utime(path, (when, when))


def links(store: Store) -> list[str]:
    return sorted(path.name for path in (store.link_cache / "objects").iterdir())


def test_usage(place: Store) -> None:
    assert {row.total for row in upkeep.usage(place)} == {0} and not place.root.exists()
    one = put(place, "a", os.urandom(50000))
    place.label(one, ref.parse("b"))
    put(place, None, b"2", key="k")
    linked(place, "x", 9000, 1)
    with place.hold(one.digest, "instance web"):
        rows = {row.kind: row for row in upkeep.usage(place)}
    images, cache = rows["images"], rows["build cache"]
    assert (images.total, images.active, images.reclaimable) == (1, 1, 0) and images.size > 50000
    assert (cache.total, cache.active) == (1, 0) and 0 < cache.reclaimable == cache.size
    assert rows["linked files"].total == 1 and rows["linked files"].reclaimable >= 9000
    assert (rows["kernels"].total, rows["kernels"].active) == (1, 1)


def test_prune(place: Store) -> None:
    named, nameless = put(place, "a", b"1"), put(place, None, os.urandom(99999), key="k")
    linked(place, "x", 10, 1)
    (place.kernels / f"{'0' * 64}.elf").write_bytes(b"of no image")
    done = upkeep.prune(place, everything=False)
    assert [(removed.names, removed.digest) for removed in done.images] == [((), nameless.digest)]
    assert done.size > 99999 and place.cached_build("k") is None
    assert [path.name for path in place.kernels.iterdir()] == [named.kernel.name]
    assert place.list() and links(place) == ["x", "x.json"]
    assert upkeep.check(place, deep=True) == []


def test_prune_everything_but_what_is_held(place: Store, tmp_path: Path) -> None:
    used, free = put(place, "used", b"1"), put(place, "free", b"2")
    place.pin(used.digest, "instance 1", tmp_path)
    linked(place, "x", 10, 1)
    done = upkeep.prune(place, everything=True)
    assert [removed.digest for removed in done.images] == [free.digest]
    assert [str(image.ref) for image in place.list()] == ["used:latest"]
    assert links(place) == [] and upkeep.check(place, deep=True) == []


def test_the_cache_of_links_is_bounded(place: Store) -> None:
    for n in range(4):
        linked(place, f"f{n}", 4096, n)
    upkeep.trim_links(place.link_cache, 5 * 4096)
    assert links(place) == ["f2", "f2.json", "f3", "f3.json"]


def cut(path: Path) -> None:
    os.truncate(path, 600 << 10)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4 << 20)
        file.write(b"!")


DAMAGE: dict[str, tuple[Callable[[Store, Path], object], str]] = {
    "cut": (lambda _, disk: cut(disk), "image a:latest"),
    "gone": (lambda _, disk: disk.unlink(), "image a:latest"),
    "other bytes": (lambda _, disk: flip(disk), "image a:latest"),
    "manifest": (lambda _, disk: disk.with_name("manifest.json").unlink(), "image a:latest"),
    "object": (lambda s, disk: disk.parent.rename(s.root / "elsewhere"), "image a:latest"),
    "kernel": (lambda s, _: next(s.kernels.iterdir()).write_bytes(b"x"), ".elf"),
    "no link": (lambda s, _: (s.images / "a" / "file").touch(), "images/a/file"),
    "version": (lambda s, _: (s.root / "version").write_text("99"), "the store"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found(kind: str, place: Store) -> None:
    image = put(place, "a", b"12345")
    assert upkeep.check(place, deep=True) == []
    bend, what = DAMAGE[kind]
    bend(place, image.disk)
    (finding,) = upkeep.check(place, deep=True)
    assert what in finding.what and finding.hint
