# SPDX-License-Identifier: BSD-2-Clause
"""The store: names, content, what is swept, and many writers at once."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from capstan import manifest, ref, store
from capstan.errors import ImageError, UsageError
from capstan.manifest import ImageManifest, KernelInfo, PoolInfo, RunConfig
from capstan.store import Header, Store, StoredImage

KERNEL = b"\x7fELF kernel"


def put(
    where: Store, name: str | None, content: bytes = b"", key: str | None = None
) -> StoredImage:
    import hashlib

    sha = hashlib.sha256(KERNEL)
    description = ImageManifest(
        "n", 1, RunConfig(("/x",)), KernelInfo(sha.hexdigest(), len(KERNEL)), PoolInfo("p", 1, 2)
    )

    def write(out: BinaryIO) -> ImageManifest:
        text = description.to_json()
        head = Header(len(text), len(KERNEL), hashlib.sha256(text).digest(), sha.digest())
        for offset, data in (
            (manifest.HEADER_OFFSET, head.pack()),
            (manifest.MANIFEST_OFFSET, text),
            (manifest.KERNEL_OFFSET, KERNEL),
            (4 << 20, content),
        ):
            out.seek(offset)
            out.write(data)
        return description

    return where.put(write, name=ref.parse(name) if name else None, key=key)


@pytest.fixture
def place(tmp_path: Path) -> Store:
    return Store(tmp_path / "s")


def test_names_and_tags(place: Store) -> None:
    one, two = put(place, "a/b"), put(place, "c:v2", b"x")
    assert place.open("a/b") == one == place.open("a/b:latest")
    assert [str(i.ref) for i in place.list()] == ["a/b:latest", "c:v2"]
    assert two.kernel.read_bytes() == KERNEL
    assert place.find("none") is None and place.find("/etc") is None
    with pytest.raises(ImageError, match="no image c:latest"):
        place.open("c")
    with pytest.raises(UsageError, match="not the name"):
        place.open("../etc")


def test_remove(place: Store) -> None:
    image = put(place, "a", key="k")
    place.label(image, ref.parse("b"))
    place.remove("a")
    assert image.disk.exists()
    place.remove("b")
    assert not image.disk.exists() and place.cached_build("k") is None
    with pytest.raises(ImageError):
        place.remove("b")


def test_replaced_images_stay_for_a_while(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = put(place, "a", b"1")
    put(place, "a", b"2")
    assert old.disk.exists()
    monkeypatch.setattr(store, "GRACE", -1.0)
    put(place, "a", b"3")
    assert not old.disk.exists()


def test_cache_is_bounded(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CACHE_MAX", 2)
    for n in range(4):
        put(place, None, b"%d" % n, key=f"k{n}")
        os.utime(place.cache / f"k{n}", (n, n), follow_symlinks=False)
    put(place, "z", b"z", key="last")
    assert place.cached_build("k0") is None
    assert place.cached_build("last") is not None


def test_a_writer_that_raises_leaves_nothing(place: Store) -> None:
    def write(out: BinaryIO) -> ImageManifest:
        out.write(b"half")
        raise ValueError

    with pytest.raises(ValueError):
        place.put(write, name=ref.parse("a"))
    assert list(place.objects.iterdir()) == [] and place.find("a") is None


def test_temporary_directories_of_dead_builds_go(place: Store) -> None:
    put(place, "a")
    dead = place.objects / ".tmp-dead"
    dead.mkdir()
    os.utime(dead, (0, 0))
    fresh = place.objects / ".tmp-fresh"
    fresh.mkdir()
    put(place, "b")
    assert not dead.exists() and fresh.exists()


def test_parallel_builds(place: Store) -> None:
    failures: list[BaseException] = []
    end = time.monotonic() + 1.0

    def work(n: int) -> None:
        try:
            count = 0
            while time.monotonic() < end and count < 20:
                put(place, "same", b"%d" % (count % 3), key=f"k{count % 3}")
                put(place, f"own{n}", b"%d" % n)
                assert place.open("same").manifest.name == "n"
                count += 1
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(place.list()) == 5


def test_newer_images_are_refused() -> None:
    good = Header(1, 1, b"\0" * 32, b"\1" * 32).pack()
    assert Header.unpack(good, "x") == Header(1, 1, b"\0" * 32, b"\1" * 32)
    with pytest.raises(ImageError, match="format 2"):
        Header.unpack(good[:8] + b"\2" + good[9:], "x")
    with pytest.raises(ImageError, match="not a capstan image"):
        Header.unpack(b"", "x")
    with pytest.raises(ImageError, match="damaged"):
        Header.unpack(good[:24] + b"\xff" * 8 + good[32:], "x")


@pytest.mark.parametrize("text", ["a", "a:b", "a-b/c.d:V_1", "x" * 128])
def test_references(text: str) -> None:
    assert ref.try_parse(text) is not None


@pytest.mark.parametrize(
    "text",
    ["", "A", "a:", ":a", "a//b", "/a", "a/", "..", "a/../b", "a b", "a:-", "a+b", "x" * 129],
)
def test_bad_references(text: str) -> None:
    assert ref.try_parse(text) is None
