# SPDX-License-Identifier: BSD-2-Clause
"""The store: names, content, what is swept, and many writers at once."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from capstan import fs, ref, store, storeversion
from capstan.errors import ImageError, UsageError
from capstan.manifest import ImageManifest
from capstan.store import Header, Removed, Store
from tests.lib.stored import KERNEL, put, writer


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
    assert place.remove("a") == Removed((ref.parse("a"),), None)
    assert image.disk.exists()
    assert place.remove("b").digest == image.digest
    assert not image.disk.exists() and place.cached_build("k") is None
    with pytest.raises(ImageError):
        place.remove("b")


def test_ids(place: Store) -> None:
    one, two = put(place, "a"), put(place, None, b"x", key="k")
    assert place.open(one.digest) == place.open(one.digest[:4]) == one
    assert place.open(f"sha256:{two.digest[:12]}") == two and two.ref is None
    assert place.find(one.digest[:3]) is None and place.find("0" * 64) is None
    put(place, one.digest[:6], b"x")
    assert place.open(one.digest[:6]).digest == two.digest, "names come before IDs"


def test_an_id_that_several_images_have(place: Store) -> None:
    image = put(place, "a")
    twin = place.objects / (image.digest[:8] + "0" * 56)
    twin.mkdir()
    with pytest.raises(ImageError, match="2 images have an ID that begins so"):
        place.open(image.digest[:8])
    assert place.open(image.digest[:9]) == image


def test_registry_digests(place: Store) -> None:
    sha = "sha256:" + "12" * 32
    image = put(place, "localhost:5000/lib/app:v1")
    place.add_repo_digest(image, f"localhost:5000/lib/app@{sha}")
    place.add_repo_digest(image, f"localhost:5000/lib/app@{sha}")
    assert place.repo_digests(image) == [f"localhost:5000/lib/app@{sha}"]
    found = place.open(f"localhost:5000/lib/app@{sha}")
    assert (found.digest, str(found.ref)) == (image.digest, "localhost:5000/lib/app:v1")
    assert place.open(f"localhost:5000/lib/app:other@{sha}").digest == image.digest
    assert place.find(f"lib/app@{sha}") is None
    with pytest.raises(UsageError, match="no @sha256: digest"):
        place.add_repo_digest(image, "lib/app")


def test_a_name_that_is_only_a_digest(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "host.example/app@sha256:" + "ab" * 32
    image = put(place, name)
    monkeypatch.setattr(store, "GRACE", -1.0)
    put(place, "b", b"1")
    put(place, "b", b"2")
    assert place.open(name) == image and next(str(i.ref) for i in place.list()) == name
    assert place.repo_digests(image) == [name]
    place.remove(name)
    assert place.find(name) is None and not image.disk.exists()


def test_remove_by_id(place: Store) -> None:
    image = put(place, "a")
    place.label(image, ref.parse("b"))
    with pytest.raises(ImageError, match="several names: a:latest, b:latest"):
        place.remove(image.digest)
    removed = place.remove(image.digest[:8], force=True)
    assert list(map(str, removed.names)) == ["a:latest", "b:latest"]
    assert removed.digest == image.digest and place.digests() == []


def test_a_label_for_an_image_that_went(place: Store) -> None:
    image = put(place, "a")
    place.remove("a")
    for call in (
        lambda: place.label(image, ref.parse("b")),
        lambda: place.hold(image.digest, "x"),
        lambda: place.add_repo_digest(image, "a@sha256:" + "0" * 64),
    ):
        with pytest.raises(ImageError, match="not in the store"):
            call()
    assert place.find("b") is None


# --- what is in use ----------------------------------------------------------------------------


def test_held_images_stay(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put(place, "a")
    with place.hold(image.digest, "instance web"), place.hold(image.digest, "instance db"):
        with pytest.raises(ImageError, match=r"in use: instance (web|db), inst"):
            place.remove("a")
        assert place.remove("a", force=True) == Removed((ref.parse("a"),), None)
        monkeypatch.setattr(store, "GRACE", -1.0)
        put(place, "b", b"1")
        put(place, "b", b"2")
        assert image.disk.exists()
    put(place, "b", b"3")
    assert not image.disk.exists()


def test_a_hold_passes_to_a_child_and_ends_with_it(place: Store) -> None:
    image = put(place, "a")
    with place.hold(image.digest, "instance web") as hold:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(hold.fileno(),))
    try:
        assert place.owners(image.digest) == ["instance web"]
    finally:
        child.kill()
        child.wait()
    assert place.owners(image.digest) == []
    place.remove("a")


def test_a_pin_lasts_as_long_as_its_path(place: Store, tmp_path: Path) -> None:
    image = put(place, "a")
    folder = tmp_path / "instances" / "1"
    folder.mkdir(parents=True)
    place.pin(image.digest, "instance 1", folder)
    place.pin(image.digest, "instance 1", folder)
    assert place.owners(image.digest) == ["instance 1"]
    folder.rmdir()
    assert place.owners(image.digest) == []
    place.remove("a")


# --- what is damaged ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 600 << 10, None])
def test_damaged_images_are_told(place: Store, size: int | None) -> None:
    image = put(place, "a")
    put(place, "b", b"1")
    if size is None:
        image.disk.unlink()
    else:
        os.truncate(image.disk, size)
    found, damaged = place.scan()
    assert [str(i.ref) for i in found] == ["b:latest"]
    assert len(damaged) == 1 and "image a:latest is damaged" in damaged[0].message
    assert "capstan rmi a:latest" in str(damaged[0].hint)
    with pytest.raises(ImageError, match="image a:latest is damaged"):
        place.open("a")
    assert put(place, "a") == image == place.open("a"), "made again"
    os.truncate(image.disk, 0)
    assert place.remove("a").digest == image.digest


def test_a_kernel_that_is_not_the_one_named(place: Store) -> None:
    """Else a foreign image could put its kernel in the place of another's."""
    with pytest.raises(ImageError, match="not the one the manifest names"):
        place.put(writer(kernel=b"\x7fELF evil", told=KERNEL), name=ref.parse("a"))
    assert place.find("b") is None and not list(place.kernels.glob("*"))
    image = put(place, "b")
    image.kernel.write_bytes(b"cut")
    assert place.open("b").kernel.read_bytes() == KERNEL, "taken out again"


def test_an_image_that_is_not_the_expected_one(place: Store) -> None:
    with pytest.raises(ImageError, match="not 000000000000 as told"):
        place.put(writer(), name=ref.parse("a"), expect="0" * 64)
    assert place.digests() == [] and place.list() == []


# --- versions ----------------------------------------------------------------------------------


def test_a_store_without_version_is_brought_up_to_date(place: Store) -> None:
    image = put(place, "a")
    (place.root / "version").unlink()
    assert place.open("a") == image and not (place.root / "version").exists()
    put(place, "b", b"1")
    assert (place.root / "version").read_text() == "1\n"


@pytest.mark.parametrize(("text", "message"), [("2\n", "has version 2"), ("x", "damaged")])
def test_a_store_we_do_not_know(place: Store, text: str, message: str) -> None:
    image = put(place, "a")
    (place.root / "version").write_text(text)
    before = sorted(path for path in place.root.rglob("*"))
    for call in (
        lambda: place.open("a"),
        place.list,
        lambda: place.remove("a"),
        lambda: put(place, "b"),
        lambda: place.hold(image.digest, "x"),
    ):
        with pytest.raises(ImageError, match=message):
            call()
    assert sorted(path for path in place.root.rglob("*")) == before


def test_steps_of_an_upgrade_are_done_once(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, "a")
    done: list[int] = []
    steps = (lambda _: done.append(0), lambda _: done.append(1), lambda _: done.append(2))
    monkeypatch.setattr(storeversion, "VERSION", 3)
    monkeypatch.setattr(storeversion, "STEPS", steps)
    put(place, "b")
    put(place, "b")
    assert done == [1, 2] and storeversion.read(place.root) == 3


# --- what goes by itself -----------------------------------------------------------------------


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


def test_temporary_files_of_dead_processes_go(place: Store) -> None:
    put(place, "a")
    dead = [place.objects / ".tmp-dead", place.images / "a" / ".tmp-x", place.root / ".tmp-y"]
    for path in dead:
        path.mkdir()
        (path / "part").touch()
    with fs.temp_dir(place.objects) as alive:
        put(place, "b")
        assert alive.is_dir() and not any(path.exists() for path in dead)


def test_parallel_builds(place: Store) -> None:
    failures: list[BaseException] = []
    end = time.monotonic() + 1.0

    def sweep() -> None:
        while time.monotonic() < end:
            fs.sweep_temps(place.objects)

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
    threads.append(threading.Thread(target=sweep))
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


@pytest.mark.parametrize(
    "text", ["a", "a:b", "a-b/c.d:V_1", "x" * 128, "h." * 63 + "h/" + "x" * 126]
)
def test_references(text: str) -> None:
    assert ref.try_parse(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "a:",
        ":a",
        "a//b",
        "/a",
        "a/",
        "..",
        "a/../b",
        "a b",
        "a:-",
        "a+b",
        "x" * 129,
        "h." * 64 + "h/" + "x" * 126,
    ],
)
def test_bad_references(text: str) -> None:
    assert ref.try_parse(text) is None
