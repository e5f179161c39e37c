# SPDX-License-Identifier: BSD-2-Clause
"""The commands about images, in process, on a store of small images."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from capstan import ref
from capstan.cli import main as cli
from capstan.store import Store
from tests.lib.stored import put

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with two images, one of them with two names, and one without a name."""
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    place = Store()
    one = put(place, "localhost:5000/lib/web:v1", b"1", created=100)
    place.label(one, ref.parse("web"))
    place.add_repo_digest(one, "localhost:5000/lib/web@sha256:" + "ab" * 32)
    put(place, "db", b"2", created=200)
    put(place, None, b"3", key="k", created=300)
    return place


def capstan(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def lines(capsys: Output, *args: str) -> list[str]:
    assert capstan(*args) == 0
    return capsys.readouterr().out.splitlines()


def names(capsys: Output, *args: str) -> list[str]:
    return lines(capsys, "images", "--format", "{{.Repository}}:{{.tag}}", *args)


def test_images(capsys: Output) -> None:
    table = lines(capsys, "images")
    assert table[0].split() == ["REPOSITORY", "TAG", "ID", "CREATED", "SIZE", "COMMAND"]
    assert table[1].startswith("db") and table[1].endswith("x 'an arg'")
    assert len(table) == 4 and len(lines(capsys, "images", "-a")) == 5
    assert lines(capsys, "images", "-a")[-1].startswith("<none> ")


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["web"], ["web:latest"]),
        (["*web"], ["localhost:5000/lib/web:v1", "web:latest"]),
        (["*:v?"], ["localhost:5000/lib/web:v1"]),
        (["nothing"], []),
        (["-f", "reference=d*"], ["db:latest"]),
        (["-f", "dangling=true"], [":"]),
        (["-f", "since=web"], ["db:latest"]),
        (["-f", "before=db", "web"], ["web:latest"]),
    ],
)
def test_images_filtered(args: list[str], found: list[str], capsys: Output) -> None:
    assert sorted(names(capsys, *args)) == sorted(found)


@pytest.mark.parametrize("text", ["colour=red", "reference", "dangling=maybe", "=x"])
def test_bad_filters(text: str, capsys: Output) -> None:
    assert capstan("images", "-f", text) == 125
    assert "there is no such filter" in capsys.readouterr().err


def test_ids_and_digests(capsys: Output, store: Store) -> None:
    ids = lines(capsys, "images", "-q")
    assert sorted(ids) == sorted({image.digest[:12] for image in store.list()})
    assert lines(capsys, "images", "-q", "--no-trunc", "db") == [
        f"sha256:{store.open('db').digest}"
    ]
    assert "ab" * 32 in lines(capsys, "images", "--digests", "*:v1")[1]
    (record,) = json.loads("\n".join(lines(capsys, "images", "db", "--format", "json")))
    assert record["id"] == store.open("db").digest and record["created"] == "1970-01-01T00:03:20Z"


def test_damaged_images_are_one_line_each(capsys: Output, store: Store) -> None:
    store.open("db").disk.write_bytes(b"")
    assert capstan("images", "-q") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert len(err.splitlines()) == 1 and "image db:latest is damaged" in err
    assert "capstan rmi db:latest" in err
    assert capstan("rmi", "db") == 0 and capstan("images") == 0
    assert "damaged" not in capsys.readouterr().err


def test_tag(capsys: Output, store: Store) -> None:
    assert capstan("tag", "db", "host.example/db:v2") == 0
    assert store.open("host.example/db:v2").digest == store.open("db").digest
    assert capstan("tag", "db", "web") == 0
    assert store.open("web").digest == store.open("db").digest, "taken from the other image"
    assert capstan("tag", "db", "x@sha256:" + "0" * 64) == 125
    assert capstan("tag", "none", "x") == 125
    assert "no image none:latest" in capsys.readouterr().err


def test_rmi(capsys: Output, store: Store) -> None:
    web, db = store.open("web").digest, store.open("db").digest
    assert lines(capsys, "rmi", "web") == ["Untagged: web:latest"]
    assert capstan("rmi", "none", db[:8], "nothing") == 125
    out, err = capsys.readouterr()
    assert out.splitlines() == ["Untagged: db:latest", f"Deleted: sha256:{db}"]
    assert "no image none:latest" in err and "no image nothing:latest" in err
    store.label(store.open(web), ref.parse("again"))
    assert capstan("rmi", web) == 125 and "several names" in capsys.readouterr().err
    assert lines(capsys, "rmi", "-f", web)[-1] == f"Deleted: sha256:{web}"


def test_rmi_of_what_an_instance_uses(capsys: Output, store: Store, tmp_path: Path) -> None:
    digest = store.open("db").digest
    store.pin(digest, "instance happy", tmp_path)
    assert capstan("rmi", "db") == 125
    assert "db is in use: instance happy" in capsys.readouterr().err
    assert lines(capsys, "rmi", "-f", "db") == ["Untagged: db:latest"]
    assert store.open(digest).ref is None


def test_rmi_asks_on_a_terminal(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, status in (("n\n", 130), ("y\n", 0)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert capstan("rmi", "db") == status
    assert "Remove db?" in capsys.readouterr().err


def test_inspect(capsys: Output, store: Store) -> None:
    record = json.loads("\n".join(lines(capsys, "inspect", "web")))
    assert record["names"] == ["localhost:5000/lib/web:v1", "web:latest"]
    assert record["repo_digests"] == ["localhost:5000/lib/web@sha256:" + "ab" * 32]
    both = json.loads("\n".join(lines(capsys, "inspect", "web", store.open("db").digest[:5])))
    assert [item["name"] for item in both] == ["web", "db"]
    assert lines(capsys, "inspect", "db", "web", "--format", "{{.Name}}") == ["db", "web"]
    found = lines(capsys, "inspect", "-f", "{{json .RepoDigests}}", "web")
    assert json.loads(found[0]) == record["repo_digests"]
    assert capstan("inspect", "none", "--type", "image") == 125
    assert "no image none" in capsys.readouterr().err


def test_history_of_an_old_image(capsys: Output) -> None:
    assert capstan("history", "db") == 0
    assert "kept no history" in capsys.readouterr().err


def test_save_and_load(capsys: Output, store: Store, tmp_path: Path) -> None:
    digest = store.open("web").digest
    assert capstan("save", "-o", "x.tar", "web", "localhost:5000/lib/web:v1", digest[:9], "db") == 0
    assert capstan("rmi", "-f", digest, "db") == 0
    capsys.readouterr()
    assert lines(capsys, "load", "-i", "x.tar") == [
        "Loaded image: web:latest",
        "Loaded image: localhost:5000/lib/web:v1",
        "Loaded image: db:latest",
    ]
    assert store.open("web").digest == digest
    store.open("web").disk.write_bytes(b"damaged")
    assert capstan("load", "-q", "-i", "x.tar") == 0 == capstan("system", "check", "--deep")
    capsys.readouterr()
    assert capstan("save", "-o", "y.tar", digest) == 0
    assert lines(capsys, "load", "-i", "y.tar") == [f"Loaded image ID: sha256:{digest}"]
    assert capstan("save", "-o", "z.tar", "web", "none") == 125 and not Path("z.tar").exists()
    Path("cut.tar").write_bytes(Path("x.tar").read_bytes()[:9999])
    assert capstan("load", "-i", "cut.tar") == 125
    assert "cut.tar: ends" in capsys.readouterr().err
    assert not list(store.objects.glob(".tmp-*"))


def test_export_raw(capsys: Output, store: Store) -> None:
    assert capstan("export", "db", "-o", "x.img") == 0
    assert Path("x.img").read_bytes() == store.open("db").disk.read_bytes()
    assert Path("x.img").stat().st_blocks * 512 < 100 << 10
    assert capstan("export", "db", "--format", "tar", "-o", "x.tar") == 125
    assert not Path("x.tar").exists(), "there is no pool in it"
    assert capstan("export", "db", "--format", "qcow2") == 125
    assert "add -o FILE" in capsys.readouterr().err


def test_places_that_cannot_be_written_or_read(capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    for args in (
        ["save", "-o", "dir", "db"],
        ["save", "-o", "/dev/full", "db"],
        ["export", "-o", "dir", "db"],
        ["export", "-o", "/proc/x", "db"],
        ["load", "-i", "none.tar"],
        ["load", "-i", "dir"],
    ):
        assert capstan(*args) == 125
        err = capsys.readouterr().err
        assert args[2] in err and "internal" not in err and "--debug" not in err


def test_export_to_another_file_system(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EXDEV, "other device")

    monkeypatch.setattr(os, "copy_file_range", refused)
    assert capstan("export", "db", "-o", "x.img") == 0
    assert Path("x.img").read_bytes() == store.open("db").disk.read_bytes()


def test_export_without_qemu_img(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert capstan("export", "db", "--format", "qcow2", "-o", "x") == 125
    assert "apt install qemu-utils" in capsys.readouterr().err


def test_system(capsys: Output, store: Store) -> None:
    kinds = lines(capsys, "system", "df", "--format", "{{.kind}}")
    assert kinds[:2] == ["images", "build cache"] and kinds[-2:] == ["kernels", "instances"]
    assert {"linked files", "unpacked bases", "container layers", "downloads"} < set(kinds)
    assert capstan("system", "check", "--deep") == 0
    unnamed = next(d for d in store.digests() if not store.names(d))
    assert lines(capsys, "system", "prune", "--force")[0] == f"Deleted: sha256:{unnamed}"
    store.open("db").disk.write_bytes(b"")
    assert capstan("system", "check") == 125
    out, err = capsys.readouterr()
    assert "image db:latest" in out and "1 thing is wrong" in err
    assert capstan("rmi", "db") == 0
    assert lines(capsys, "system", "prune", "-a", "-f")[-1].startswith("Total reclaimed space: ")
    assert store.digests() == []


def test_the_group(capsys: Output) -> None:
    assert lines(capsys, "image", "ls", "-q") == lines(capsys, "images", "-q")
    assert capstan("image", "rm", "db") == 0
    capsys.readouterr()
    assert len(lines(capsys, "image", "prune", "-f")) == 2
    assert lines(capsys, "image", "prune", "-a", "-f")[-1].startswith("Total reclaimed space: ")
    assert names(capsys, "-a") == []
    assert capstan("image", "nonsense") == 125


def test_prune_takes_instances_that_ended(
    capsys: Output, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They pin their images: without them the image can go, too."""

    class Fake:
        def __init__(self, name: str, active: bool) -> None:
            self.id = self.name = name
            self.is_active = active
            self.folder = SimpleNamespace(path=tmp_path / name)
            self.folder.path.mkdir()
            store.pin(store.open(name).digest, f"instance {name}", self.folder.path)

        def remove(self) -> None:
            self.folder.path.rmdir()

    every = [Fake("web", True), Fake("db", False)]
    monkeypatch.setattr(
        "capstan.run.instances.Instances", lambda _: SimpleNamespace(list=lambda: every)
    )
    assert "instances" in lines(capsys, "system", "df")[-1]
    out = lines(capsys, "system", "prune", "-a", "-f")
    assert "Removed: db" in out and "Untagged: db:latest" in out
    assert {str(image.ref) for image in store.list()} == {"web:latest", "localhost:5000/lib/web:v1"}
