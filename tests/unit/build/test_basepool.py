# SPDX-License-Identifier: BSD-2-Clause
"""An image without an index (pulled or loaded) as the base of another one."""

from __future__ import annotations

import io
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from capstan import archive, fs, ref, upkeep
from capstan.build import base, image
from capstan.build.image import BuildOptions, Plan, build_path
from capstan.build.rootfs import Tree
from capstan.build.zfs.reader import Filesystem, Pool
from capstan.errors import ImageError
from capstan.store import Store, StoredImage
from tests.lib.elfmaker import ET_EXEC, make_elf


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private store, a kernel, and a folder with a base and what is built on it."""
    (tmp_path / "k").write_bytes(make_elf(etype=ET_EXEC))
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("CAPSTAN_KERNEL", str(tmp_path / "k"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    tree = tmp_path / "low" / "tree"
    (tree / "data").mkdir(parents=True)
    (tree / "p").write_bytes(make_elf(etype=ET_EXEC))
    (tree / "p").chmod(0o755)
    (tree / "data" / "big").write_bytes(os.urandom(200_000) + bytes(400_000) + b"end")
    (tree / "data" / "same").hardlink_to(tree / "data" / "big")
    (tree / "data" / "link").symlink_to("../p")
    (tree / "data" / "empty").touch(0o600)
    (tmp_path / "low" / "Capstanfile").write_text("cmdline: /p\nrootfs: tree\nmemory: 1G\n")
    (tmp_path / "high").mkdir()
    (tmp_path / "high" / "x").write_text("x")
    (tmp_path / "high" / "Capstanfile").write_text(
        "cmdline: /p -x\nbase: low\nfiles: {/data/x: x}\n"
    )
    return tmp_path


def with_xattrs(path: str, tree: Tree) -> Tree:
    tree.node_at(path).xattrs = {b"user.x": b"\0\xff"}
    return tree


def loaded(here: Path) -> StoredImage:
    """The base as it comes from elsewhere; nothing of its sources is left."""
    real = image.collect

    def collect(*args: Any) -> Plan:
        plan = real(*args)
        with_xattrs("/data/big", plan.tree)
        return plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image, "collect", collect)
        low = build_path(here / "low", (), BuildOptions(name="low"))
    out = io.BytesIO()
    with fs.temp_dir(Store().objects) as scratch:
        archive.save([(low, [ref.parse("low")])], out, scratch)
    Store().remove("low")
    shutil.rmtree(here / "low")
    out.seek(0)
    (again,) = archive.load(Store(), out, "low.tar")
    assert not (again.disk.parent / base.INDEX).exists()
    return again


def content_of(stored: StoredImage) -> dict[str, object]:
    with stored.disk.open("rb") as disk:
        tree: Filesystem = Pool.open(disk, stored.disk).filesystem()
        return {
            os.fsdecode(path): (
                entry.attributes.mode,
                entry.attributes.mtime_ns,
                entry.attributes.links,
                entry.attributes.target,
                dict(entry.attributes.xattrs),
                b"".join(tree.data(entry)) if stat.S_ISREG(entry.attributes.mode) else b"",
            )
            for path, entry in tree.walk()
        }


def test_its_files_are_those_of_its_pool(here: Path) -> None:
    below = content_of(loaded(here))
    assert "b'user.x': b'\\x00\\xff'" in repr(below["/data/same"])
    high = build_path(here / "high", (), BuildOptions(name="high"))
    above = content_of(high)
    assert set(above) == {*below, "/data/x"}
    assert {k: v for k, v in above.items() if k in below and k != "/data"} == {
        k: v for k, v in below.items() if k != "/data"
    }
    assert high.manifest.config.memory == 1 << 30
    assert high.manifest.history[0].kind == "base" and high.manifest.history[0].files == 8


def test_it_is_unpacked_once_and_goes_with_its_image(here: Path) -> None:
    low = loaded(here)
    build_path(here / "high", (), BuildOptions(name="high"))
    folder = Store().unpacked / low.digest
    times = {path.name: path.stat().st_ctime_ns for path in folder.iterdir()}
    assert len(times) == 8, "each file once, hard links too"
    build_path(here / "high", (), BuildOptions(name="other"))
    assert {path.name: path.stat().st_ctime_ns for path in folder.iterdir()} == times
    rows = {row.kind: row for row in upkeep.usage(Store())}
    assert rows["unpacked bases"].total == 1 and rows["unpacked bases"].size > 200_000
    Store().remove("low")
    assert not folder.exists() and upkeep.check(Store(), deep=True) == []


def test_a_damaged_copy_is_made_again(here: Path) -> None:
    low = loaded(here)
    first = build_path(here / "high", (), BuildOptions(name="high"))
    for path in (Store().unpacked / low.digest).iterdir():
        path.write_bytes(b"")
    again = build_path(here / "high", (), BuildOptions(name="high", reuse=False))
    assert again.digest == first.digest


def test_linked_programs_stay_as_they_are(here: Path) -> None:
    """A real program, linked in the base."""
    true = shutil.which("true")
    assert true is not None
    low = build_path(Path(true), (), BuildOptions(name="low"))
    assert low.manifest.linked
    (low.disk.parent / base.INDEX).unlink()
    (here / "high" / "Capstanfile").write_text(f"cmdline: {true}\nbase: low\n")
    said: list[str] = []
    for link in (True, False):
        options = BuildOptions(name="high", link=link)
        high = build_path(here / "high", (), options, None, said.append)
        assert high.manifest.linked == low.manifest.linked
    assert not said


def test_a_bomb_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(here)
    monkeypatch.setattr("capstan.build.basepool._ALWAYS_FINE", 1000)
    monkeypatch.setattr("capstan.build.basepool._RATIO_MAX", 0)
    with pytest.raises(ImageError, match="bytes of files: refused"):
        build_path(here / "high", (), BuildOptions(name="high"))


def test_nothing_of_a_failed_index_stays(here: Path) -> None:
    low = loaded(here)
    host = here / "high" / "x"
    facts = [1, 2, 3, 4, 5]
    rows = (
        f'[["/", null, [16877,0,0,0,0,""], null], ["/x", null, [33188,0,0,0,0,""], ["{host}", *]]]'
    )
    (low.disk.parent / base.INDEX).write_text(
        f'{{"version": 1, "nodes": {rows.replace("*", str(facts)[1:-1])}}}'
    )
    tree = Tree(Path("/"))
    base.restore(tree, low, Store())
    assert str(host) not in tree.facts and "x" not in {path for path, _ in tree.files()}
