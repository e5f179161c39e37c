# SPDX-License-Identifier: BSD-2-Clause
"""When an image is made again and when not: every kind of change, settled and within a tick."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from capstan.build import image, reuse
from capstan.build.image import BuildOptions, build_path
from capstan.build.rootfs import Facts, Tree
from capstan.build.zfs.tree import Node
from capstan.errors import ImageError
from capstan.store import Store, StoredImage
from tests.lib import fakepool
from tests.lib.elfmaker import ET_EXEC, make_elf
from tests.lib.fakepool import FakePool

FILE = "cmdline: /p\nrootfs: tree\nfiles: {/etc/conf: conf}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private store, a kernel, and a folder to build."""
    (tmp_path / "k").write_bytes(make_elf(etype=ET_EXEC))
    work = tmp_path / "work"
    (work / "tree" / "data").mkdir(parents=True)
    (work / "tree" / "p").write_bytes(make_elf(etype=ET_EXEC))
    (work / "tree" / "p").chmod(0o755)
    for name in ("one", "two", "three"):
        (work / "tree" / "data" / name).write_text(name)
    (work / "conf").write_text("setting")
    (work / "Capstanfile").write_text(FILE)
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("CAPSTAN_KERNEL", str(tmp_path / "k"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return work


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    return fakepool.install(monkeypatch)


@pytest.fixture(params=["settled", "racy"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Files just written count as old, or as written within the last tick."""
    value = 0 if request.param == "settled" else 1 << 62
    monkeypatch.setattr(reuse, "SETTLED_FINE_NS", value)
    monkeypatch.setattr(reuse, "COARSE_NS", value)
    return str(request.param)


def build(here: Path, **options: object) -> StoredImage:
    return build_path(here, (), BuildOptions(name="x", **options))  # type: ignore[arg-type]


def same_size(here: Path) -> None:
    (here / "tree" / "data" / "one").write_text("eno")


def same_size_and_time(here: Path) -> None:
    path = here / "tree" / "data" / "one"
    old = path.stat()
    path.write_text("eno")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def other_file_same_facts(here: Path) -> None:
    path = here / "conf"
    old = path.stat()
    (here / "new").write_text("gnittes")
    os.utime(here / "new", ns=(old.st_atime_ns, old.st_mtime_ns))
    (here / "new").rename(path)


def relink(here: Path, *, symbolic: bool) -> None:
    path = here / "tree" / "data" / "one"
    path.unlink()
    if symbolic:
        path.symlink_to("two")
    else:
        path.hardlink_to(path.with_name("two"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda here: (here / "tree" / "data" / "four").write_text("4"),
    "deleted": lambda here: (here / "tree" / "data" / "two").unlink(),
    "directory deleted": lambda here: shutil.rmtree(here / "tree" / "data"),
    "renamed": lambda here: (here / "tree/data/two").rename(here / "tree/data/zwei"),
    "longer": lambda here: (here / "tree" / "data" / "one").write_text("longer"),
    "same size": same_size,
    "same size and time": same_size_and_time,
    "another file": other_file_same_facts,
    "mode": lambda here: (here / "tree" / "data" / "one").chmod(0o600),
    "now a link": lambda here: relink(here, symbolic=True),
    "hard link": lambda here: relink(here, symbolic=False),
    "Capstanfile": lambda here: (here / "Capstanfile").write_text(FILE + "memory: 1G\n"),
    "kernel": lambda here: (here.parent / "k").write_bytes(make_elf(etype=ET_EXEC, extra=b"new")),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_every_change_is_seen(kind: str, here: Path, pool: FakePool, clock: str) -> None:
    first = build(here)
    assert build(here).digest == first.digest and pool.calls == 1
    CHANGES[kind](here)
    changed = build(here)
    assert pool.calls == 2 and changed.digest != first.digest
    assert build(here).digest == changed.digest and pool.calls == 2


def test_a_change_within_a_tick_is_seen(
    here: Path, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is the same to `stat`: only its content tells."""
    monkeypatch.setattr(reuse, "SETTLED_FINE_NS", 1 << 62)
    monkeypatch.setattr(reuse, "COARSE_NS", 1 << 62)
    conf = here / "conf"
    real = Facts.of(conf.stat())
    first = build(here)
    conf.write_text("gnittes")
    whole = reuse._source_key

    def blind(tree: Tree, node: Node) -> bytes:
        if os.fspath(conf) in tree.facts:
            tree.facts[os.fspath(conf)] = real
        return whole(tree, node)

    monkeypatch.setattr(reuse, "_source_key", blind)
    assert build(here).digest != first.digest and pool.calls == 2


def test_racy_files_settle(here: Path, pool: FakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "SETTLED_FINE_NS", 1 << 62)
    monkeypatch.setattr(reuse, "COARSE_NS", 1 << 62)
    first = build(here)
    assert list(Store().cache.glob("*.racy"))
    monkeypatch.setattr(reuse, "SETTLED_FINE_NS", 0)
    monkeypatch.setattr(reuse, "COARSE_NS", 0)
    assert build(here).digest == first.digest
    read: list[object] = []
    monkeypatch.setattr(reuse, "_contents", read.append)
    assert build(here).digest == first.digest
    assert pool.calls == 1 and not read, "known by `stat` alone"


def test_without_the_cache(here: Path, pool: FakePool, clock: str) -> None:
    first = build(here)
    assert build(here, reuse=False).digest == first.digest and pool.calls == 2


def test_a_reused_image_gets_the_new_name(here: Path, pool: FakePool, clock: str) -> None:
    build_path(here, (), BuildOptions(name="x"))
    again = build_path(here, (), BuildOptions(name="x"))
    assert str(again.ref) == "x:latest" and pool.calls == 1
    Store().remove("x")
    with pytest.raises(ImageError):
        Store().open("x")
    assert str(build_path(here, (), BuildOptions(name="x")).ref) == "x:latest" and pool.calls == 2


def test_extended_attributes_count(here: Path) -> None:
    plan = image.collect(here, [], BuildOptions())
    plain = reuse.BuildKey.of(plan, [])
    plan.tree.node_at("/data/one").xattrs = {b"user.x": b"1"}
    assert reuse.BuildKey.of(plan, []).key != plain.key


def test_warnings_are_said_again(
    here: Path, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "warnings_of", lambda _: ["/p: careful"])
    said: list[str] = []
    for _ in range(2):
        build_path(here, (), BuildOptions(name="x"), notify=said.append)
    assert said == ["/p: careful"] * 2 and pool.calls == 1
    build_path(here, (), BuildOptions(name="x", unnamed=True), notify=said.append)
    assert len(said) == 2, "a run is not a build"


def test_the_cache_forgets_whole_entries(
    here: Path, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from capstan import store

    monkeypatch.setattr(reuse, "SETTLED_FINE_NS", 1 << 62)
    monkeypatch.setattr(reuse, "COARSE_NS", 1 << 62)
    monkeypatch.setattr(store, "CACHE_MAX", 1)
    for n in range(3):
        (here / "conf").write_text("x" * n)
        build(here)
    assert len(list(Store().cache.glob("*.racy"))) == 1 == len(Store()._links(Store().cache))
