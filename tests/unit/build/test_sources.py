# SPDX-License-Identifier: BSD-2-Clause
"""Container images: layers over each other, configuration, archives, hostile input."""

from __future__ import annotations

import gzip
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from capstan.build.collect import BuildOptions, collect
from capstan.build.image import build_path
from capstan.build.rootfs import Tree
from capstan.build.sources import container, limits
from capstan.build.sources.config import ImageConfig
from capstan.build.sources.container import Loaded, parse
from capstan.build.sources.contents import Contents
from capstan.build.sources.plan import collect_container
from capstan.build.sources.streams import Damaged
from capstan.build.sources.users import find_user
from capstan.build.zfs.reader import Pool
from capstan.build.zfs.tree import Node
from capstan.build.zfs.writer import write_pool
from capstan.errors import BuildError, CapstanError, UsageError
from tests.lib.elfmaker import ET_EXEC, make_elf
from tests.lib.ocimaker import (
    INDEX,
    LAYER,
    MANIFEST,
    Layout,
    docker_archive,
    folder,
    hard,
    layer,
    link,
    member,
    oci_archive,
    sha256,
    squeeze,
)

SECOND = 10**9


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    monkeypatch.setenv("CAPSTAN_ROOT", str(root))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    for key in ("CAPSTAN_MAX_UNPACKED", "CAPSTAN_MAX_ENTRIES"):
        monkeypatch.delenv(key, raising=False)
    return root


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def load(text: str, root: Path) -> Loaded:
    source = parse(text)
    assert source is not None
    return container.load(source, Contents(root / "sources"))


def load_layers(layout: Layout, root: Path, *layers: bytes, **config: Any) -> Loaded:
    layout.image(layers, config)
    return load(f"oci:{layout.path}", root)


def shown(tree: Tree) -> dict[str, str]:
    """path -> type, mode and content in short."""
    rows = {}
    for path, node in tree.files():
        kind = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l"}.get(
            stat.S_IFMT(node.mode), "?"
        )
        rows[path] = f"{kind}{stat.S_IMODE(node.mode):o} {text_of(node)}".strip()
    return rows


def text_of(node: Node) -> str:
    if stat.S_ISLNK(node.mode):
        return os.fsdecode(node.target)
    data = node.source.read_bytes() if isinstance(node.source, Path) else node.source
    return (data or b"").decode(errors="replace")


# --- layers over each other --------------------------------------------------------------------


def test_attributes_and_types(layout: Layout, store: Path) -> None:
    members = [
        folder("./", mode=0o751, uid=7),
        folder("d", mode=0o1777, mtime=5),
        member("d/f", b"hello", mode=0o4755, uid=12, gid=70_000, mtime=1.25),
        link("d/l", "/../f", uid=3),
        member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("disk", type=tarfile.BLKTYPE, devmajor=259, devminor=1000),
        member("pipe", type=tarfile.FIFOTYPE),
        member(
            "cap", b"x", pax_headers={"SCHILY.xattr.user.a": "v\u00e9", "SCHILY.xattr.user.b": ""}
        ),
        member("n" * 255, b"long"),
        member("big/uid", b"", uid=2**31, gid=2**32 - 2),
    ]
    tree = load_layers(layout, store, layer(members)).tree
    assert (tree.root.mode, tree.root.uid) == (stat.S_IFDIR | 0o751, 7)
    file = tree.node_at("/d/f")
    assert (file.mode, file.uid, file.gid) == (stat.S_IFREG | 0o4755, 12, 70_000)
    assert (file.mtime_ns, text_of(file)) == (1_250_000_000, "hello")
    assert tree.node_at("/d").mode == stat.S_IFDIR | 0o1777
    assert (tree.node_at("/d/l").target, tree.node_at("/d/l").uid) == (b"/../f", 3)
    assert tree.node_at("/null").rdev == os.makedev(1, 3)
    assert tree.node_at("/disk").rdev == os.makedev(259, 1000)
    assert stat.S_ISFIFO(tree.node_at("/pipe").mode)
    assert tree.node_at("/cap").xattrs == {b"user.a": "v\u00e9".encode(), b"user.b": b""}
    assert (tree.node_at("/big/uid").uid, tree.node_at("/big/uid").gid) == (2**31, 2**32 - 2)
    assert stat.S_IMODE(tree.node_at("/big").mode) == 0o755  # nobody said anything about it


def test_whiteouts_hide_only_lower_layers(layout: Layout, store: Path) -> None:
    first = [member("a", b"1"), member("b/x", b"2"), member("b/y", b"3"), folder("c"), member("k")]
    second = [
        member("a", b"new"),
        member(".wh.a"),  # of the lower layer, though it comes after
        member("b/z", b"4"),
        member("b/.wh..wh..opq"),
        member(".wh.c"),
        member(".wh.missing"),
        member("no/where/.wh.x"),
    ]
    tree = load_layers(layout, store, layer(first), layer(second)).tree
    names = set(shown(tree))
    assert names == {"/", "/a", "/b", "/b/z", "/k"}
    assert text_of(tree.node_at("/a")) == "new"


def test_whiteouts_leave_what_their_own_layer_has(layout: Layout, store: Path) -> None:
    first = [member("d/old", b"1"), member("d/e/old", b"2"), member("f", b"3"), member("g/x")]
    second = [
        member("d/new", b"4"),
        hard("kept", "f"),  # of a file that goes away in the same layer
        member(".wh.f"),
        member(".wh.d"),
        member("d/e/new", b"5"),
        member("g/.wh..wh..opq"),
        member("g/.wh..wh..opq"),
        member("h/.wh..wh..opq"),
    ]
    tree = load_layers(layout, store, layer(first), layer(second)).tree
    assert set(shown(tree)) == {"/", "/d", "/d/new", "/d/e", "/d/e/new", "/kept", "/g"}
    assert text_of(tree.node_at("/kept")) == "3"
    assert shown(load(f"oci:{layout.path}", store).tree) == shown(tree)


def test_replaced_types_and_merged_folders(layout: Layout, store: Path) -> None:
    first = [member("d/x", b"1"), member("f", b"2"), link("l", "d"), member("keep/in", b"3")]
    second = [
        member("d", b"file now"),
        folder("f"),
        member("f/in", b"4"),
        folder("l"),
        member("l/y", b"5"),
        folder("keep", mode=0o700, uid=9),
    ]
    tree = load_layers(layout, store, layer(first), layer(second)).tree
    rows = shown(tree)
    assert rows["/d"] == "f644 file now" and "/d/x" not in rows
    assert rows["/f/in"] == "f644 4" and rows["/l/y"] == "f644 5"
    assert rows["/keep"] == "d700" and rows["/keep/in"] == "f644 3"
    assert tree.node_at("/keep").uid == 9


def test_hard_links_within_and_across_layers(layout: Layout, store: Path) -> None:
    first = [member("a", b"1"), hard("b", "a"), hard("d/c", "./b"), link("s", "a"), hard("t", "s")]
    second = [hard("e", "/d/c"), member("a", b"changed")]
    tree = load_layers(layout, store, layer(first), layer(second)).tree
    assert tree.node_at("/b") is tree.node_at("/d/c") is tree.node_at("/e")
    assert tree.node_at("/a") is not tree.node_at("/b")
    assert tree.node_at("/t") is tree.node_at("/s")
    assert text_of(tree.node_at("/b")) == "1"


def test_parents_that_are_links_are_followed_inside(layout: Layout, store: Path) -> None:
    first = [folder("usr/lib"), link("lib", "usr/lib"), link("abs", "/../../usr"), link("up", "..")]
    second = [member("lib/x", b"1"), member("abs/y", b"2"), member("up/up/z", b"3")]
    tree = load_layers(layout, store, layer(first), layer(second)).tree
    rows = shown(tree)
    assert rows["/usr/lib/x"] == "f644 1" and rows["/usr/y"] == "f644 2" and rows["/z"] == "f644 3"
    assert rows["/lib"].startswith("l")


def test_equal_contents_are_kept_once_and_remembered(layout: Layout, store: Path) -> None:
    data = layer([member("a", b"same"), member("b", b"same"), member("big", b"\7" * (3 << 20))])
    tree = load_layers(layout, store, data).tree
    assert tree.node_at("/a").source == tree.node_at("/b").source
    blobs = layout.path / "blobs" / "sha256"
    (blobs / sha256(squeeze(data))[7:]).unlink()
    again = load(f"oci:{layout.path}", store).tree
    assert shown(again) == shown(tree)
    source = again.node_at("/big").source
    assert isinstance(source, Path)
    source.write_bytes(b"short")  # as a power cut may leave it: unpacked again, so missed now
    with pytest.raises(BuildError, match="No such file"):
        load(f"oci:{layout.path}", store)


def test_layers_that_need_no_fetching(layout: Layout, store: Path) -> None:
    layers = [layer([member("a", b"1")]), layer([member("b", b"2")])]
    row = layout.image(layers)
    contents = Contents(store / "sources")
    manifest = (layout.path / "blobs" / row["digest"].replace(":", "/")).read_bytes()
    page = json.loads(manifest)
    config = (layout.path / "blobs" / page["config"]["digest"].replace(":", "/")).read_bytes()
    assert container.remembered(manifest, config, contents) == set()
    tree = load(f"oci:{layout.path}", store).tree
    both = {one["digest"] for one in page["layers"]}
    assert container.remembered(manifest, config, contents) == both
    source = tree.node_at("/a").source
    assert isinstance(source, Path)
    source.unlink()
    assert container.remembered(manifest, config, contents) == both - {sha256(squeeze(layers[0]))}
    assert container.remembered(b"[]", config, contents) == set()
    for path in contents.layers.iterdir():  # one that `load` would not take is not told, either
        path.write_text(path.read_text().replace('"unpacked"', '"packed"'))
    assert container.remembered(manifest, config, contents) == set()


def test_zeros_take_no_room(layout: Layout, store: Path) -> None:
    data = layer([member("zeros", bytes(32 << 20)), member("end", bytes(1 << 20) + b"x")])
    tree = load_layers(layout, store, data).tree
    for path, size in (("/zeros", 32 << 20), ("/end", (1 << 20) + 1)):
        source = tree.node_at(path).source
        assert isinstance(source, Path)
        assert source.stat().st_size == size and source.stat().st_blocks * 512 < 256 << 10


@pytest.mark.parametrize("pack", ["plain", "gzip", "gzip members", "zstd", "zstd frames"])
def test_compressions(layout: Layout, store: Path, pack: str) -> None:
    data = layer([member("a", os.urandom(1000)), member("b", b"text" * 100_000)])
    half = len(data) // 2
    zstd = zstandard.ZstdCompressor()
    packed = {
        "plain": lambda: data,
        "gzip": lambda: squeeze(data),
        "gzip members": lambda: squeeze(data[:half]) + squeeze(data[half:]),
        "zstd": lambda: zstd.compress(data),
        "zstd frames": lambda: (
            zstd.compress(data[:half])
            + b"\x50\x2a\x4d\x18\x04\0\0\0skip"
            + zstd.compress(data[half:])
        ),
    }[pack]()
    layout.put([layout.blob(packed, LAYER)], [sha256(data)])
    assert text_of(load(f"oci:{layout.path}", store).tree.node_at("/b")) == "text" * 100_000


# --- which image -------------------------------------------------------------------------------


def test_tags(layout: Layout, store: Path) -> None:
    layout.image([layer([member("one")])], tag="one")
    layout.image([layer([member("two")])], tag="example.org/x:two")
    assert "/two" in shown(load(f"oci:{layout.path}:two", store).tree)
    with pytest.raises(UsageError, match="no image three") as caught:
        load(f"oci:{layout.path}:three", store)
    assert caught.value.hint == "it has example.org/x:two, one"
    with pytest.raises(UsageError, match="2 images"):
        load(f"oci:{layout.path}", store)


def test_index_of_platforms(layout: Layout, store: Path) -> None:
    ours = layout.image([layer([member("amd64")])])
    other = layout.image([layer([member("arm64")])], architecture="arm64")
    for row, machine in ((ours, "amd64"), (other, "arm64")):
        row["platform"] = {"os": "linux", "architecture": machine}
    index = layout.document({"schemaVersion": 2, "manifests": [other, ours]}, INDEX)
    layout.manifests = [index]
    layout.save()
    assert "/amd64" in shown(load(f"oci:{layout.path}", store).tree)
    layout.manifests = [layout.document({"schemaVersion": 2, "manifests": [other]}, INDEX)]
    layout.save()
    with pytest.raises(BuildError, match="no image for linux/amd64, only linux/arm64"):
        load(f"oci:{layout.path}", store)


def test_archives(layout: Layout, store: Path, tmp_path: Path) -> None:
    layers = [layer([member("a", b"1")]), layer([member("b", b"2")]), layer([member("a", b"1")])]
    layout.image(layers, {"Cmd": ["/b"]})
    archive = oci_archive(tmp_path / "oci.tar", layout.path)
    loaded = load(f"oci-archive:{archive}", store)
    assert shown(loaded.tree)["/a"] == "f644 1" and loaded.config.cmd == ("/b",)
    saved = docker_archive(tmp_path / "saved.tar", layers, {}, ["localhost/x/y:1", "z:2"])
    for text in (f"docker-archive:{saved}", f"docker-archive:{saved}:x/y:1"):
        assert shown(load(text, store).tree) == shown(loaded.tree)
    assert load(f"docker-archive:{saved}:z:2", store).name == "z:2"
    packed = tmp_path / "saved.tar.gz"
    packed.write_bytes(gzip.compress(saved.read_bytes()))
    assert shown(load(f"docker-archive:{packed}", store).tree) == shown(loaded.tree)
    with pytest.raises(UsageError, match="no image q"):
        load(f"docker-archive:{saved}:q", store)


def test_names_of_sources(tmp_path: Path) -> None:
    assert parse("hello") is None and parse("docker:x") is None and parse("/oci:x") is None
    docker = parse("docker://registry.example.com:5000/team/redis:7")
    assert docker is not None and docker.name == "redis:7"
    (tmp_path / "with:colon").mkdir()
    found = parse(f"oci:{tmp_path}/with:colon")
    assert found is not None and (found.place, found.tag) == (f"{tmp_path}/with:colon", "")
    found = parse(f"oci:{tmp_path}:v1")
    assert found is not None and (found.place, found.tag) == (str(tmp_path), "v1")
    with pytest.raises(UsageError, match="names no file"):
        parse("oci:")


# --- configuration -----------------------------------------------------------------------------


def test_configuration(layout: Layout, store: Path) -> None:
    passwd = b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n"
    files = [
        member("etc/passwd", passwd),
        member("etc/group", b"web:x:34:\nlog:x:40:adm,web\n"),
        member("bin/server", make_elf(etype=ET_EXEC), mode=0o755),
    ]
    config = {
        "Entrypoint": ["/bin/server"],
        "Cmd": ["-p", "80"],
        "Env": ["A=1", "B=x=y", "PATH=/bin"],
        "ExposedPorts": {"443/tcp": {}, "80": {}, "53/udp": {}},
        "Volumes": {"/data": {}, "/var/log/x": {}},
        "User": "web",
        "WorkingDir": "srv/app",
        "StopSignal": "quit",
        "Labels": {"a": "b"},
    }
    layout.image([layer(files)], config)
    source = parse(f"oci:{layout.path}")
    assert source is not None
    plan = collect_container(source, (), BuildOptions())
    run = plan.config
    assert (run.argv, run.fixed) == (("/bin/server", "-p", "80"), 1)
    assert run.env == {"PATH": "/bin", "A": "1", "B": "x=y", "HOME": "/srv"}
    assert run.ports == ("53/udp", "80", "443") and run.volumes == ("/data", "/var/log/x")
    assert (run.user, run.ids) == ("web", (33, 34, 40))
    assert (run.workdir, run.stop_signal, run.labels) == ("/srv/app", "SIGQUIT", {"a": "b"})
    assert {"/srv/app", "/data", "/var/log/x"} <= {path for path, _ in plan.tree.files()}
    assert plan.tree.warnings == [] and run.network
    assert collect_container(source, ("-v",), BuildOptions()).config.argv == ("/bin/server", "-v")


def test_what_no_machine_can_do_is_left_out(layout: Layout) -> None:
    files = [member("x", make_elf(etype=ET_EXEC), mode=0o755)]
    config = {
        "Cmd": ["/x"],
        "StopSignal": "SIGRTMIN+3",
        "ExposedPorts": {"5000/sctp": {}, "5000/udp": {}},
    }
    layout.image([layer(files)], config, history=7)
    source = parse(f"oci:{layout.path}")
    assert source is not None
    plan = collect_container(source, (), BuildOptions())
    assert plan.config.stop_signal == "" and plan.config.ports == ("5000/udp",)
    assert plan.tree.warnings == [
        f"{source}: StopSignal SIGRTMIN+3 is not supported and ignored",
        f"{source}: ExposedPorts 5000/sctp is not supported and ignored",
    ]


@pytest.mark.parametrize(
    ("files", "config", "warning"),
    [
        ([], {}, "no Entrypoint and no Cmd"),
        ([], {"Cmd": ["/nope"]}, "the program /nope is not in the image"),
        ([member("x", b"text", mode=0o755)], {"Cmd": ["/x"]}, "no x86-64 program"),
        (
            [member("go", b"#!/bin/sh -e\n", mode=0o755)],
            {"Entrypoint": ["/go"]},
            "the entrypoint /go is a script for a shell",
        ),
        (
            [member("go", b"#!/usr/bin/env bash\n", mode=0o755)],
            {"Entrypoint": ["/go"]},
            "the entrypoint /go is a script for a shell",
        ),
        (
            [member("bin/dash", make_elf(etype=ET_EXEC), mode=0o755), link("bin/sh", "dash")],
            {"Cmd": ["sh", "-c", "nginx -g x"]},
            r"the entrypoint is a shell \(sh -c nginx -g x\)",
        ),
    ],
)
def test_what_will_not_run_is_said(
    layout: Layout, files: list[Any], config: dict[str, Any], warning: str
) -> None:
    layout.image([layer([folder("etc"), *files])], config)
    source = parse(f"oci:{layout.path}")
    assert source is not None
    plan = collect_container(source, (), BuildOptions())
    (found,) = plan.tree.warnings
    with pytest.raises(BuildError, match=warning):
        raise BuildError(found)


@pytest.mark.parametrize(
    "config",
    [
        {"Cmd": "text"},
        {"Entrypoint": [1]},
        {"Env": ["NOVALUE"]},
        {"Env": ["A=\0"]},
        {"ExposedPorts": {"70000/tcp": {}}},
        {"ExposedPorts": {"x": {}}},
        {"ExposedPorts": ["80"]},
        {"StopSignal": "SIGNOPE"},
        {"Volumes": "x"},
        {"Labels": {"a": 1}},
        {"User": 7},
        {"WorkingDir": ["x"]},
    ],
)
def test_wrong_configuration_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(Damaged, match="config"):
        ImageConfig.parse({"config": config})


def test_users() -> None:
    passwd = "root:x:0:0:r:/root:/bin/sh\nweb:x:33:34::/srv:\nbad\n7up:x:70:70::/seven:\n"
    group = "web:x:34:\nlog:x:40:adm,web\nops:x:50:web\n"
    assert find_user("web", passwd, group).ids == (33, 34, 40, 50)
    assert find_user("33", passwd, group).ids == (33, 34, 40, 50)
    assert find_user("web:log", passwd, group).ids == (33, 40)
    assert find_user("1000", passwd, group) == find_user("1000:0", passwd, group)
    assert find_user("1000:2000", "", "").ids == (1000, 2000)
    assert find_user("7up", passwd, group).home == "/seven"
    for bad in ("nobody", "web:nope", "4294967295", "-1", ""):
        with pytest.raises(UsageError, match="there is no"):
            find_user(bad, passwd, group)
    for row in ("app:x:99999999999:1::/:\n", "app:x:-1:1::/:\n", "app:x:5:x::/:\n"):
        with pytest.raises(UsageError, match="no valid number"):  # else it would be root
            find_user("app", row, group)


# --- extended attributes in the pool -----------------------------------------------------------


def test_attributes_reach_the_pool(layout: Layout, store: Path, tmp_path: Path) -> None:
    long = "/x" * 100
    big = {"SCHILY.xattr.user.big": "v" * 40_000}
    caps = {"SCHILY.xattr.security.capability": "\1\0\0\2\0\4"}
    members = [
        member("cap", b"x", pax_headers=caps),
        link("short", "cap", pax_headers=caps),
        link("long", long, pax_headers=caps),
        folder("dir", pax_headers=big),
        member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, pax_headers=caps),
    ]
    tree = load_layers(layout, store, layer(members)).tree
    tree.finish(None)
    with (tmp_path / "disk.img").open("w+b") as out:
        write_pool(tree.root, out, name="p", created=1)
        filesystem = Pool.open(out, "p").filesystem()
        found = {path: entry.attributes for path, entry in filesystem.walk()}
    for path in (b"/cap", b"/short", b"/long", b"/null"):
        assert found[path].xattrs == {b"security.capability": b"\1\0\0\2\0\4"}
    assert found[b"/dir"].xattrs == {b"user.big": b"v" * 40_000}
    assert found[b"/long"].target == long.encode() and found[b"/short"].target == b"cap"
    assert found[b"/null"].rdev == 1 << 20 | 3


# --- hostile archives --------------------------------------------------------------------------


HOSTILE: dict[str, tuple[Callable[[], list[Any]], str]] = {
    "dots": (lambda: [member("../outside", b"x")], r"`\.\.` in the path \.\./outside"),
    "dots inside": (lambda: [member("a/../../outside")], r"`\.\.` in the path"),
    "absolute dots": (lambda: [member("/../x")], r"`\.\.` in the path"),
    "hard link outside": (lambda: [hard("a", "../../etc/shadow")], r"`\.\.` in the path"),
    "hard link to a file of ours": (lambda: [hard("a", "/etc/hostname")], "which does not exist"),
    "hard link to a directory": (lambda: [folder("d"), hard("a", "d")], "hard link to the dir"),
    "hard link to itself": (lambda: [member("a"), hard("a", "a")], "hard link to itself"),
    "hard link to nothing": (lambda: [hard("a", "a")], "which does not exist"),
    "hard link loop": (lambda: [hard("a", "b"), hard("b", "a")], "which does not exist"),
    "hard link through a link": (
        lambda: [link("s", "/etc"), hard("a", "s/hostname")],
        "which does not exist",
    ),
    "link loop": (lambda: [link("a", "b"), link("b", "a"), member("a/x")], "links form a loop"),
    "link to itself": (lambda: [link("a", "a/a"), member("a/x")], "links form a loop"),
    "entries below a file": (lambda: [member("a"), member("a/x")], "no directory"),
    "whiteout of dots": (lambda: [member("d/.wh...")], "a whiteout of"),
    "whiteout of nothing": (lambda: [member(".wh.")], "a whiteout of"),
    "root is a file": (lambda: [member("./", type=tarfile.REGTYPE)], "the root is no directory"),
    "long name": (lambda: [member("n" * 256)], "a name of 256 bytes"),
    "long path": (lambda: [member("/".join(["n" * 250] * 17))], "a path of 42"),
    "deep path": (lambda: [member("/".join(["d"] * 2100))], "a path of 4199 bytes"),
    "long target": (lambda: [link("a", "x" * 4096)], "a link of 4096 bytes"),
    "empty target": (lambda: [link("a", "")], "a link of 0 bytes"),
    "pax with NUL": (lambda: [member("a", pax_headers={"path": "b\0c"})], "NUL"),
    "unknown type": (lambda: [member("a", type=b"Z")], "type 'Z' of entry is unknown"),
    "large attributes": (
        lambda: [member("a", pax_headers={"SCHILY.xattr.user.a": "v" * 50_000})],
        "extended attributes of",
    ),
    "large header": (
        lambda: [member("a", pax_headers={"comment": "v" * (1 << 20)})],
        "an extended header of",
    ),
    "impossible owner": (lambda: [member("a", pax_headers={"uid": "4294967295"})], "uid"),
    "negative owner": (lambda: [member("a", pax_headers={"gid": "-1"})], "no number"),
    "strange time": (lambda: [member("a", pax_headers={"mtime": "soon"})], "no number"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_entries(layout: Layout, store: Path, tmp_path: Path, case: str) -> None:
    make, message = HOSTILE[case]
    with pytest.raises(BuildError, match=message) as caught:
        load_layers(layout, store, layer([folder("ok"), *make()]))
    assert str(layout.path) in caught.value.message and "layer " in caught.value.message
    assert {path.name for path in tmp_path.iterdir()} <= {"layout", "store"}


def test_links_cannot_make_endless_work(layout: Layout, store: Path) -> None:
    deep = "/".join(["d" * 20] * 150)
    up = "/".join([".."] * 150)
    links = [link(f"l{n}", f"{deep}/{up}/l{n - 1}" if n else deep) for n in range(60)]
    with pytest.raises(BuildError, match="links form a loop"):
        load_layers(layout, store, layer([folder(deep), *links, member("l59/x")]))
    layout.manifests.clear()
    tree = load_layers(layout, store, layer([folder(deep), *links, member("l30/x")])).tree
    assert f"/{deep}/x" in shown(tree)


def test_joined_paths_are_bounded(layout: Layout, store: Path) -> None:
    deep = "/".join(["d" * 20] * 150)
    entries = [folder(deep), link("s", deep), member(f"s/{deep}/x", b"")]
    with pytest.raises(BuildError, match="more than 4096 bytes comes together"):
        load_layers(layout, store, layer(entries))


def test_duplicates_the_last_one_counts(layout: Layout, store: Path) -> None:
    entries = [member("a", b"1"), link("a", "/etc"), member("a/x", b"2"), member("a", b"3")]
    tree = load_layers(layout, store, layer([folder("etc"), *entries])).tree
    assert shown(tree)["/a"] == "f644 3" and shown(tree)["/etc/x"] == "f644 2"


def test_bomb_of_bytes(
    layout: Layout, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAPSTAN_MAX_UNPACKED", "8M")
    data = layer([member("ok"), member("bomb", bytes(32 << 20))])
    for packed in (squeeze(data), zstandard.ZstdCompressor().compress(data), data):
        layout.manifests.clear()
        layout.put([layout.blob(packed, LAYER)], [sha256(data)])
        with pytest.raises(BuildError, match="bomb: more than 8M unpacked") as caught:
            load(f"oci:{layout.path}", store)
        assert "CAPSTAN_MAX_UNPACKED=16M" in str(caught.value.hint)
        assert not [path for path in (store / "sources").rglob("*") if path.is_file()]


def test_bomb_of_entries(layout: Layout, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSTAN_MAX_ENTRIES", "100")
    with pytest.raises(BuildError, match="f100: more than 100 files") as caught:
        load_layers(layout, store, layer([member(f"f{n}") for n in range(101)]))
    assert "CAPSTAN_MAX_ENTRIES=400" in str(caught.value.hint)
    layout.manifests.clear()
    deep = [member(f"{n}/" + "d/" * 30 + "f") for n in range(10)]
    with pytest.raises(BuildError, match="more than 100 files"):
        load_layers(layout, store, layer(deep))


def test_limits_hold_for_remembered_layers(
    layout: Layout, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_layers(layout, store, layer([member("a", b"x" * (1 << 21)), member("b")]))
    monkeypatch.setenv("CAPSTAN_MAX_UNPACKED", "1M")
    with pytest.raises(BuildError, match="more than 1M unpacked"):
        load(f"oci:{layout.path}", store)
    monkeypatch.setenv("CAPSTAN_MAX_UNPACKED", "much")
    with pytest.raises(UsageError, match="is no value of max_unpacked"):
        load(f"oci:{layout.path}", store)


def test_sparse_bomb(layout: Layout, store: Path) -> None:
    huge = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "huge",
        "GNU.sparse.realsize": str(1 << 50),
    }
    data = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    with pytest.raises(BuildError, match="huge: 1125899906842624 bytes"):
        load_layers(layout, store, layer([member("s", data, pax_headers=huge)]))
    for text in (b"2\n0\n1\n0\n1\n", b"1\n5\n", b"1\n9999999999\n1\n", b"70000\n", b"x\n"):
        layout.manifests.clear()
        pax = {**huge, "GNU.sparse.realsize": "100"}
        with pytest.raises(BuildError, match=r"sparse file|no number|overlap"):
            load_layers(
                layout, store, layer([member("s", text.ljust(512, b"\0") + b"xx", pax_headers=pax)])
            )


def test_damaged_streams(layout: Layout, store: Path) -> None:
    data = layer([member("a", os.urandom(5000))])
    packed, zstd = squeeze(data), zstandard.ZstdCompressor().compress(data)
    cases = {
        packed[:-20]: "ends early",
        packed + b"garbage": "not gzip follows",
        packed + bytes(8): "not gzip follows",
        packed[:-5] + b"\0" + packed[-4:]: "damaged gzip",
        zstd[:-20]: "digest|ends",
        zstd + b"garbage": "damaged zstd",
        data[:3000]: "digest|ends",
        b"BZh91AY": "compressed with bzip2",
        b"\xfd7zXZ\0\0": "compressed with xz",
        b"not a tar archive" * 100: "wrong checksum",
        data[:512]: "ends",
        b"": "digest",
    }
    for blob, message in cases.items():
        layout.manifests.clear()
        layout.put([layout.blob(blob, LAYER)], [sha256(data)])
        with pytest.raises(BuildError, match=message):
            load(f"oci:{layout.path}", store)
    assert not list((store / "sources" / "layers").glob("*.json"))


def test_zstd_window_is_bounded(layout: Layout, store: Path) -> None:
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x01\0\0"
    layout.put([layout.blob(frame, LAYER)], [sha256(b"")])
    with pytest.raises(BuildError, match="damaged zstd"):
        load(f"oci:{layout.path}", store)


def test_wrong_digests_and_sizes(layout: Layout, store: Path) -> None:
    data = layer([member("a", b"good")])
    other = layer([member("a", b"evil")])
    row = layout.blob(squeeze(data), LAYER)
    blob = layout.path / "blobs" / row["digest"].replace(":", "/")
    layout.put([row], [sha256(data)])
    for bytes_, message in (
        (squeeze(other), "does not have the digest|longer than|cut off"),
        (squeeze(data)[:-1], "ends early"),
        (squeeze(data) + b"\x1f", "not gzip|longer"),
    ):
        blob.write_bytes(bytes_)
        with pytest.raises(BuildError, match=message):
            load(f"oci:{layout.path}", store)
    blob.write_bytes(squeeze(data))
    layout.manifests.clear()
    layout.put([row], [sha256(other)])
    with pytest.raises(BuildError, match="unpacked, it does not have the digest"):
        load(f"oci:{layout.path}", store)


def _edit(layout: Layout, change: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((layout.path / "index.json").read_text())
    place = layout.path / "blobs" / index["manifests"][0]["digest"].replace(":", "/")
    manifest = json.loads(place.read_text())
    change(manifest)
    layout.manifests = [layout.document(manifest, MANIFEST)]
    layout.save()


DOCUMENTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "path as digest": (
        lambda m: m["layers"][0].update(digest="sha256:../../../etc/passwd"),
        "descriptor is damaged",
    ),
    "other algorithm": (lambda m: m["layers"][0].update(digest="md5:0000"), "No such|not a digest"),
    "negative size": (lambda m: m["layers"][0].update(size=-1), "descriptor is damaged"),
    "text as size": (lambda m: m["layers"][0].update(size="1"), "descriptor is damaged"),
    "no layers": (lambda m: m.pop("layers"), "no list layers"),
    "encrypted": (
        lambda m: m["layers"][0].update(mediaType=LAYER + "+encrypted"),
        "cannot be read",
    ),
    "artifact": (lambda m: m["config"].update(mediaType="application/x"), "an artifact"),
    "too many layers": (lambda m: m.update(layers=m["layers"] * 3), "3 layers, but 1"),
    "missing layer": (lambda m: m["layers"][0].update(digest=sha256(b"?")), "No such file"),
    "schema 1": (lambda m: m.update(schemaVersion=1), "schema 1"),
    "huge config": (lambda m: m["config"].update(size=1 << 40), "is the most"),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_hostile_manifests(layout: Layout, store: Path, case: str) -> None:
    layout.image([layer([member("a")])])
    change, message = DOCUMENTS[case]
    _edit(layout, lambda manifest: change(manifest) and None)
    with pytest.raises(BuildError, match=message):
        load(f"oci:{layout.path}", store)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 100_000, "not JSON"),
        (b"{" + b" " * (5 << 20) + b"}", "larger than 4 MiB"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list manifests"),
        (b'{"manifests":[{}]}', "descriptor is damaged"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_hostile_indexes(layout: Layout, store: Path, text: bytes, message: str) -> None:
    (layout.path / "index.json").write_bytes(text)
    with pytest.raises(BuildError, match=message):
        load(f"oci:{layout.path}", store)


def test_index_loop_and_fifo(layout: Layout, store: Path) -> None:
    row = layout.image([layer([member("a")])])
    for _ in range(6):
        row = layout.document({"schemaVersion": 2, "manifests": [row]}, INDEX)
    layout.manifests = [row]
    layout.save()
    with pytest.raises(BuildError, match="is no image manifest"):
        load(f"oci:{layout.path}", store)
    place = layout.path / "blobs" / row["digest"].replace(":", "/")
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(BuildError, match="no regular file"):
        load(f"oci:{layout.path}", store)


def test_hostile_docker_archive(store: Path, tmp_path: Path) -> None:
    loop = [link("manifest.json", "m2"), link("m2", "manifest.json")]
    rows = json.dumps([{"Config": "../../etc/passwd", "Layers": []}]).encode()
    for members, message in (
        (loop, "form a loop"),
        ([link("manifest.json", "/etc/passwd")], "no manifest.json|no /etc/passwd"),
        ([member("manifest.json", rows)], "there is no ../../etc/passwd in the archive"),
        ([member("manifest.json", b"[1]")], "manifest.json is damaged"),
        ([member("x")], "no manifest.json"),
    ):
        path = tmp_path / "saved.tar"
        path.write_bytes(layer(members))
        with pytest.raises(CapstanError, match=message):
            load(f"docker-archive:{path}", store)
    with pytest.raises(CapstanError, match=r"no regular file|a directory"):
        load(f"docker-archive:{tmp_path}", store)
    with pytest.raises(UsageError, match="does not exist"):
        load(f"docker-archive:{tmp_path}/nope", store)


def test_limit_numbers_are_sane() -> None:
    assert limits.XATTRS_MAX < 1 << 16
    assert limits.Limits().entries * 1024 <= limits.Limits().metadata


def test_a_container_image_as_base(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(make_elf(etype=ET_EXEC))
    monkeypatch.setenv("CAPSTAN_KERNEL", str(kernel))
    files = [member("app", make_elf(etype=ET_EXEC), mode=0o755), member("note", b"x", uid=7)]
    config = {"Cmd": ["/app"], "User": "5:6", "StopSignal": "INT", "Labels": {"a": "b"}}
    layout.image([layer(files)], config)
    source = parse(f"oci:{layout.path}")
    image = build_path(Path(), (), BuildOptions(name="base", source=source))
    assert image.manifest.config.argv == ("/app",)
    (tmp_path / "Capstanfile").write_text("base: base\ncmdline: /app -x\n")
    plan = collect(tmp_path, (), BuildOptions())
    run = plan.config
    assert (run.argv, run.fixed, run.ids) == (("/app", "-x"), None, (5, 6))
    assert (run.stop_signal, run.labels) == ("SIGINT", {"a": "b"})
    assert plan.tree.node_at("/note").uid == 7
    again = build_path(Path(), (), BuildOptions(name="base", source=source))
    assert again.digest == image.digest
