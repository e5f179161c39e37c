# SPDX-License-Identifier: BSD-2-Clause
"""`save` and `load`: what comes back, and what hostile or damaged archives get."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan import archive, fs, oci, ref, tarstream
from capstan.errors import ImageError
from capstan.store import Store
from tests.lib.stored import put


@pytest.fixture
def place(tmp_path: Path) -> Store:
    return Store(tmp_path / "s")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "t")


def saved(store: Store, *names: str) -> bytes:
    out = io.BytesIO()
    with fs.temp_dir(store.objects) as scratch:
        images = [(store.open(name), [ref.parse(name)]) for name in names]
        archive.save(images, out, scratch)
    return out.getvalue()


def load(store: Store, data: bytes) -> list[str]:
    return [str(image.ref) for image in archive.load(store, io.BytesIO(data), "x.tar")]


def files_of(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def packed(files: dict[str, bytes]) -> bytes:
    parts = [
        tarstream.header(name, len(data)) + data + tarstream.padding(len(data))
        for name, data in files.items()
    ]
    return b"".join(parts) + tarstream.END


def is_empty(store: Store) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return [path.name for path in store.objects.iterdir()] == [] and not store.list()
    return True


def test_there_and_back(place: Store, other: Store) -> None:
    one, two = put(place, "a", b"x" * 5000), put(place, "localhost:5000/b/c:v2", os.urandom(99999))
    data = saved(place, "a", "localhost:5000/b/c:v2")
    assert load(other, data) == ["a:latest", "localhost:5000/b/c:v2"]
    for image in (one, two):
        again = other.open(image.digest)
        assert again.disk.read_bytes() == image.disk.read_bytes()
        assert again.manifest == image.manifest
    assert other.open("a").disk.stat().st_blocks * 512 < 100 << 10, "holes stay holes"
    assert load(other, gzip.compress(data)) == ["a:latest", "localhost:5000/b/c:v2"]
    assert saved(other, "a", "localhost:5000/b/c:v2") == data, "the same bytes again"


def test_it_is_an_image_layout(place: Store) -> None:
    put(place, "a")
    files = files_of(saved(place, "a"))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    blob = files["blobs/sha256/" + entry["digest"].removeprefix("sha256:")]
    assert len(blob) == entry["size"] and json.loads(blob)["artifactType"] == oci.ARTIFACT
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]


def change_disk(files: dict[str, bytes], **told: str) -> dict[str, bytes]:
    """The archive with other things told of its disk, all digests right."""
    index = json.loads(files["index.json"])
    name = "blobs/sha256/" + index["manifests"][0]["digest"].removeprefix("sha256:")
    text = json.loads(files.pop(name))
    text["layers"][0]["annotations"] |= {key.replace("_", "."): v for key, v in told.items()}
    blob = json.dumps(text).encode()
    digest = hashlib.sha256(blob).hexdigest()
    index["manifests"][0] |= {"digest": f"sha256:{digest}", "size": len(blob)}
    return files | {f"blobs/sha256/{digest}": blob, "index.json": json.dumps(index).encode()}


def without_index(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != "index.json"}


def without_blobs(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if not name.startswith("blobs")}


BAD: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "outside": (lambda f: f | {"../../etc/passwd": b"x"}, "does not belong"),
    "absolute": (lambda f: f | {"/etc/passwd": b"x"}, "does not belong"),
    "no index": (without_index, "has no index.json"),
    "no blobs": (without_blobs, "lacks the blob"),
    "not JSON": (lambda f: f | {"index.json": b"\xff{"}, "not an archive of images"),
    "deep JSON": (lambda f: f | {"index.json": b"[" * 100000}, "not an archive of images"),
    "a list": (lambda f: f | {"index.json": b"[]"}, "not an archive of images"),
    "empty": (lambda f: f | {"index.json": b'{"manifests": []}'}, "holds no image"),
    "damaged blob": (
        lambda f: {k: (v[:-1] + b"!" if k.startswith("blobs") else v) for k, v in f.items()},
        "is damaged: it has another digest",
    ),
    "another disk": (lambda f: change_disk(f, capstan_disk_digest="sha256:" + "0" * 64), "as told"),
    "short": (lambda f: change_disk(f, capstan_disk_size="5000000"), "instead of|has more than"),
    "long": (lambda f: change_disk(f, capstan_disk_size="50000000"), "instead of"),
    "bomb": (lambda f: change_disk(f, capstan_disk_size=str(1 << 50)), "refused"),
    "no number": (lambda f: change_disk(f, capstan_disk_size="x"), "not an archive of images"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_archives(kind: str, place: Store, other: Store) -> None:
    put(place, "a", b"x" * 3000000)
    bend, message = BAD[kind]
    with pytest.raises(ImageError, match=message):
        load(other, packed(bend(files_of(saved(place, "a")))))
    assert is_empty(other)


def test_a_blob_that_expands_beyond_what_is_told(place: Store, other: Store) -> None:
    import zstandard

    put(place, "a")
    files = files_of(saved(place, "a"))
    bomb = zstandard.compress(bytes(300 << 20))
    index = json.loads(files["index.json"])
    name = "blobs/sha256/" + index["manifests"][0]["digest"].removeprefix("sha256:")
    text = json.loads(files.pop(name))
    digest = hashlib.sha256(bomb).hexdigest()
    text["layers"][0] |= {"digest": f"sha256:{digest}", "size": len(bomb)}
    blob = json.dumps(text).encode()
    top = hashlib.sha256(blob).hexdigest()
    index["manifests"][0]["digest"] = f"sha256:{top}"
    files |= {f"blobs/sha256/{digest}": bomb, f"blobs/sha256/{top}": blob}
    with pytest.raises(ImageError, match="has more than"):
        load(other, packed(files | {"index.json": json.dumps(index).encode()}))
    assert is_empty(other)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, b"S"])
def test_other_things_than_files(kind: bytes, other: Store) -> None:
    info = tarfile.TarInfo("index.json")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(ImageError, match="neither a file nor a directory"):
        load(other, info.tobuf() + tarstream.END)


def test_the_same_file_twice(place: Store, other: Store) -> None:
    put(place, "a")
    data = saved(place, "a")
    with pytest.raises(ImageError, match="comes twice"):
        load(other, data[: -len(tarstream.END)] + data)


def test_extended_headers_are_bounded(other: Store) -> None:
    huge = tarstream.header("x", 1 << 40)
    head = bytearray(huge[:156] + b"x" + huge[157:])
    head[148:156] = b"%06o\0 " % (sum(head) - sum(head[148:156]) + 8 * 0x20)
    with pytest.raises(ImageError, match="extended header of"):
        load(other, bytes(head))


@pytest.mark.parametrize("kind", [b"0", b"x", b"L"])
def test_sizes_below_zero(kind: bytes, other: Store) -> None:
    """They pass for octal numbers, and would be read without an end."""
    head = bytearray(tarstream.header("a", 0))
    head[124:136], head[156:157], head[148:156] = b"-0000001000\0", kind, b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(ImageError, match="no tar archive"):
        load(other, bytes(head) + bytes(10240))


def test_a_name_that_looks_like_an_id(place: Store, other: Store) -> None:
    """The archive's image is taken, not another one that is called like its digest."""
    digest = put(place, "a").digest
    data = saved(place, "a")
    stranger = put(other, "b", b"another")
    other.label(stranger, ref.ImageRef(digest))
    load(other, data)
    assert other.open("a").digest == digest != stranger.digest


def test_a_file_larger_than_the_disk(other: Store) -> None:
    with pytest.raises(ImageError, match=r"more than .* has"):
        load(other, tarstream.header("index.json", 1 << 60))


@pytest.mark.parametrize("cut", [0, 1, 511, 600, 5000, -1025])
def test_cut_archives(cut: int, place: Store, other: Store) -> None:
    put(place, "a", os.urandom(20000))
    data = saved(place, "a")
    for whole in (data, gzip.compress(data)):
        with pytest.raises(ImageError, match=r"x\.tar: "):
            load(other, whole[:cut] if cut >= 0 else whole[: len(whole) // 2])
    assert is_empty(other)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_damage_is_told(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Never another exception, never a half image; what loads is what was saved."""
    top = tmp_path_factory.mktemp("f")
    place, other = Store(top / "s"), Store(top / "t")
    image = put(place, "a", b"content")
    good = bytearray(saved(place, "a"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ImageError):
        load(other, bytes(good))
    for loaded in other.list():
        assert loaded.digest == image.digest
        assert hashlib.sha256(loaded.disk.read_bytes()).hexdigest() == image.digest
    assert not list(other.objects.glob(".tmp-*"))


@given(name=st.text("abc/.-", min_size=1, max_size=100), size=st.integers(0, 2**40))
def test_headers_are_those_of_tar(name: str, size: int) -> None:
    info = tarfile.TarInfo.frombuf(tarstream.header(name, size), "utf-8", "strict")
    assert (info.name, info.size, info.isreg()) == (name.rstrip("/") or name, size, True) or (
        name.endswith("/")
    )


def test_container_images_are_told_apart(other: Store, tmp_path: Path) -> None:
    """Their archives look alike; the hint says which command takes them."""
    blob = b'{"layers": [], "config": {}}'
    digest = hashlib.sha256(blob).hexdigest()
    index = json.dumps({"manifests": [{"digest": f"sha256:{digest}", "size": len(blob)}]})
    oci = {"index.json": index.encode(), f"blobs/sha256/{digest}": blob}
    docker = {f"{digest}.json": b"{}", "manifest.json": b"[]", "x/layer.tar": b""}
    for files in (oci, docker):
        with pytest.raises(ImageError) as caught:
            load(other, packed(files))
        assert "build --from" in str(caught.value.hint)
