# SPDX-License-Identifier: BSD-2-Clause
"""The parts of capstan/repo: credentials, challenges, documents, frames, keys, index, fetch."""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan import ref
from capstan.errors import RepoError, UsageError
from capstan.extents import Block
from capstan.repo import doc, frames, index, keys, lz4ref, packing, sign
from capstan.repo.answers import Backoff, Transient
from capstan.repo.auth import parse_challenge
from capstan.repo.credentials import Credentials, Keyring
from capstan.repo.fetch import fetch_oci, hub_place
from capstan.repo.limits import Patience
from capstan.repo.names import open_repository
from capstan.store import Store
from tests.lib.registry import INDEX, MANIFEST, Registry, digest_of
from tests.lib.repokit import hasty, make_image, noise, place, push_image


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as made:
        yield made


# --- credentials -------------------------------------------------------------------------------


def config(home: Path, value: object) -> Keyring:
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker" / "config.json").write_text(json.dumps(value))
    return Keyring({}, home)


def encoded(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_credentials_of_docker_and_podman(tmp_path: Path) -> None:
    ring = config(tmp_path, {"auths": {"https://r.example/v1/": encoded("a:b:c")}, "x": 1})
    assert ring.find("r.example") == Credentials("a", "b:c")
    assert ring.find("r.example:5000") is None and ring.find("example") is None
    auth = tmp_path / ".config" / "containers" / "auth.json"
    auth.parent.mkdir(parents=True)
    auth.write_text(
        json.dumps({"auths": {"q.example/team": encoded("t:1"), "q.example": encoded("q:2")}})
    )
    assert ring.find("q.example", "team/app") == Credentials("t", "1")
    assert ring.find("q.example", "other") == Credentials("q", "2")
    ring.store("q.example", Credentials("new", "3"))
    kept = json.loads(ring.config.read_text())
    assert kept["x"] == 1 and kept["auths"]["q.example"] == encoded("new:3")
    assert ring.find("q.example") == Credentials("new", "3")
    assert ring.erase("q.example") == [str(ring.config)] and ring.others("q.example") == auth
    hub = config(tmp_path, {"auths": {"https://index.docker.io/v1/": {"identitytoken": "T"}}})
    assert hub.find("docker.io") == Credentials("", "", "T")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths":{"h":{"auth":"%%"}}}', "[" * 100_000])
def test_damaged_credentials_are_named(tmp_path: Path, text: str) -> None:
    ring = config(tmp_path, {})
    ring.config.write_text(text)
    with pytest.raises(RepoError) as caught:
        ring.find("h")
    assert str(ring.config) in caught.value.message


def test_credential_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        '#!/bin/sh\nread -r line; f="$HELPER_DIR/kept"\ncase $1 in\n'
        'store) echo "$line" > "$f";;\nerase) rm "$f";;\n'
        'get) [ -e "$f" ] && cat "$f" && exit; echo "credentials not found in native keychain";'
        " exit 1;;\nesac\n"
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HELPER_DIR", str(tmp_path))
    ring = config(tmp_path, {"credHelpers": {"h:1": "test", "gone": "none"}})
    assert ring.find("h:1") is None
    assert ring.store("h:1", Credentials("u", "p")) == "docker-credential-test"
    assert ring.find("h:1") == Credentials("u", "p") and "auths" not in ring.config.read_text()
    assert ring.erase("h:1") == ["docker-credential-test"]
    with pytest.raises(RepoError, match="docker-credential-none"):
        ring.find("gone")
    for name in ("../evil", "a b", ""):
        broken = config(tmp_path, {"credHelpers": {"h": name}, "credsStore": ""})
        if name:
            with pytest.raises(RepoError, match="no name of a credential helper"):
                broken.find("h")


def test_challenges() -> None:
    text = 'Bearer realm="https://a/t?x=\\"1\\"",service="s, t",scope=repository:x:pull'
    text += ', Basic realm="b"'
    found = parse_challenge(text)
    assert found["bearer"]["realm"] == 'https://a/t?x="1"'
    assert found["bearer"]["service"] == "s, t"
    assert found["bearer"]["scope"] == "repository:x:pull" and found["basic"] == {"realm": "b"}
    assert parse_challenge("") == {} and "negotiate" in parse_challenge("Negotiate")


@given(st.text(max_size=80))
def test_any_challenge_is_read(text: str) -> None:
    parse_challenge(text)


# --- documents, pauses -------------------------------------------------------------------------


def test_documents_name_what_is_wrong() -> None:
    page = doc.parse(b'{"a":1,"b":"x","c":[{}],"d":{"e":2},"p":[[1,true]]}', "where")
    assert page.number("a") == 1 and page.text("b") == "x" and page.child("d").number("e") == 2
    for wrong in (
        lambda: page.text("a"),
        lambda: page.number("b"),
        lambda: page.child("c"),
        lambda: page.list("c", 0),
        lambda: page.strings("d"),
        lambda: page.pairs("p", 9),
        lambda: doc.descriptor(page),
    ):
        with pytest.raises(RepoError, match=r"^where: "):
            wrong()


def test_pauses_grow_and_end() -> None:
    slept: list[float] = []
    backoff = Backoff(Patience(tries=4, pause=1, pause_max=3), slept.append, lambda: 0.5)
    with pytest.raises(Transient):
        for _ in range(9):
            backoff.wait(Transient("x"))
    assert slept == [1, 2, 3]
    backoff = Backoff(Patience(tries=4), slept.append, lambda: 0.5)
    backoff.wait(Transient("x", retry_after=7))
    assert slept[-1] == 7
    with pytest.raises(Transient):
        backoff.wait(Transient("x", retry_after=1e6))
    endless = Backoff(Patience(tries_max=5), slept.append, lambda: 0.0)
    with pytest.raises(Transient):
        for _ in range(9):
            endless.progress()
            endless.wait(Transient("x"))


# --- frames ------------------------------------------------------------------------------------


def test_frames_cover_the_disk_once(tmp_path: Path) -> None:
    files = [noise(1, 2_500_000), *(noise(n, 4_000 * n) for n in range(2, 30)), b"\0" * 9000]
    image, extents = make_image(Store(tmp_path), "x", files)
    parts = frames.cut(image.disk, extents)
    copy = tmp_path / "copy"
    with image.disk.open("rb") as disk, copy.open("w+b") as out:
        out.truncate(image.disk.stat().st_size)
        for frame in parts:
            content = frames.read(disk.fileno(), frame)
            kind, blob = packing.pack(content, frame.blocks)
            assert packing.unpack(kind, blob, frame.size, "x") == content
            frames.write(out.fileno(), frame.runs, content)
    assert copy.read_bytes() == image.disk.read_bytes()
    runs = sorted(run for frame in parts for run in frame.runs)
    assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(runs))
    assert {frame.kind for frame in parts} == {"data", "meta", "kernel"}


def test_frames_do_not_depend_on_their_place(tmp_path: Path) -> None:
    files = [noise(n, 20_000) for n in range(60)] + [noise(99, 3_000_000)]
    one, first = make_image(Store(tmp_path / "1"), "x", files)
    two, second = make_image(Store(tmp_path / "2"), "x", [noise(1000, 50_000), *files])

    def contents(disk: Path, extents: object) -> set[bytes]:
        with disk.open("rb") as file:
            parts = frames.cut(disk, extents)  # type: ignore[arg-type]
            return {frames.read(file.fileno(), part) for part in parts if part.kind == "data"}

    old, new = contents(one.disk, first), contents(two.disk, second)
    assert sum(map(len, new - old)) < 700_000 and len(old & new) >= len(old) - 1


def test_real_pool(tmp_path: Path) -> None:
    import stat

    from capstan.build.zfs.extents import file_extents
    from capstan.build.zfs.tree import Node
    from capstan.build.zfs.writer import write_pool

    contents = {b"a": b"text " * 9000, b"b": noise(7, 300_000), b"c": b"", b"d": b"x"}
    nodes = {name: Node(stat.S_IFREG | 0o644, source=data) for name, data in contents.items()}
    disk = tmp_path / "disk.img"
    with disk.open("w+b") as out:
        write_pool(Node(stat.S_IFDIR | 0o755, children=nodes), out, name="p", created=1)
    found = file_extents(disk)
    assert [sum(block.logical for block in blocks) for blocks in found] == [
        45056,
        393216,
        512,
    ]
    assert found[0][0].is_lz4 and not found[1][0].is_lz4
    with disk.open("rb") as file:
        parts = [part for part in frames.cut(disk, found) if part.kind == "data"]
        contents_of = [frames.read(file.fileno(), part) for part in parts]
    for part, content in zip(parts, contents_of, strict=True):
        kind, blob = packing.pack(content, part.blocks)
        assert kind == (packing.LZ4 if any(b.is_lz4 for b in part.blocks) else packing.RAW)
        for is_exact in (False, True):
            assert packing.unpack(kind, blob, part.size, "x", is_exact) == content


def test_lz4_that_cannot_be_done_again_stays() -> None:
    import lz4.block

    text = b"".join(b"%d " % (n * n % 977) for n in range(2000))
    text = text[: len(text) // 512 * 512]
    for mode in ("default", "high_compression"):
        packed = lz4.block.compress(text, mode=mode, store_size=False)
        stored = (len(packed).to_bytes(4, "big") + packed).ljust(8192, b"\0")
        block = Block(0, 8192, len(text), True)
        kind, blob = packing.pack(stored, [block])
        assert kind == (packing.LZ4 if mode == "default" else packing.RAW)
        assert packing.unpack(kind, blob, 8192, "x") == stored
    kind, _ = packing.pack(b"\0\0\1\0" + noise(1, 8188), [block])
    assert kind == packing.RAW


def test_frames_that_lie() -> None:
    for plain in (b"", b"CAPLZ4\0\1", b"CAPLZ4\0\1" + b"\xff" * 4, b"x" * 100):
        with pytest.raises(RepoError, match="unpacks"):
            packing.unpack(packing.LZ4, packing._zstd(plain), 4096, "x")
    row = (1).to_bytes(2, "little") + (8).to_bytes(2, "little") + bytes(2)
    whole = b"CAPLZ4\0\1" + (1).to_bytes(4, "little") + row + bytes(4096)
    assert packing.unpack(packing.LZ4, packing._zstd(whole), 4096, "x") == bytes(4096)
    with pytest.raises(RepoError, match="unpacks"):
        packing.unpack(packing.LZ4, packing._zstd(whole + b"x"), 4096, "x")
    with pytest.raises(RepoError, match="unpacks"):
        packing.unpack(packing.LZ4, packing._zstd(whole), 8192, "x")
    with pytest.raises(RepoError, match="damaged"):
        packing.unpack(packing.LZ4, b"garbage" * 9, 4096, "x")


@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(1, 60)), max_size=30))
def test_our_lz4_is_the_librarys(parts: list[tuple[bytes, int]]) -> None:
    import lz4.block

    data = b"".join(part * times for part, times in parts)
    packed = lz4ref.compress(data)
    assert packed == lz4.block.compress(data, store_size=False)
    assert lz4.block.decompress(packed, uncompressed_size=len(data)) == data


# --- keys, signatures --------------------------------------------------------------------------


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capstan.repo.keys._COST", 1024)
    private, public = keys.generate(b"pass")
    (tmp_path / "k").write_bytes(private)
    (tmp_path / "p").write_bytes(public)
    key, shown = keys.load_private(tmp_path / "k", b"pass"), keys.load_public(tmp_path / "p")
    text = keys.sign(key, b"data")
    assert keys.is_signed(shown, b"data", text) and not keys.is_signed(shown, b"Data", text)
    assert not keys.is_signed(shown, b"data", "%%") and not keys.is_signed(shown, b"data", "")
    with pytest.raises(RepoError, match="password is wrong"):
        keys.load_private(tmp_path / "k", b"other")
    with pytest.raises(RepoError, match="not a private key"):
        keys.load_private(tmp_path / "p", b"")
    with pytest.raises(RepoError, match="not a public key"):
        keys.load_public(tmp_path / "k")
    with pytest.raises(UsageError, match="cannot read"):
        keys.load_public(tmp_path / "none")


def test_signatures(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capstan.repo.keys._COST", 1024)
    pairs = [keys.generate(b"") for _ in range(3)]
    for number, (private, public) in enumerate(pairs):
        (tmp_path / f"{number}.key").write_bytes(private)
        (tmp_path / f"{number}.pub").write_bytes(public)
    store, reach = Store(tmp_path / "s"), hasty(tmp_path, registry=registry.host)
    one = push_image(store, make_image(store, "app", [b"1"]), "app", reach).digest
    two = push_image(store, make_image(store, "app:2", [b"2"]), "app:2", reach).digest
    source = open_repository(place("app", reach), reach, "pull,push")
    trusted = [keys.load_public(tmp_path / f"{n}.pub") for n in range(3)]
    with pytest.raises(RepoError, match="it is not signed"):
        sign.verify(source, one, trusted, "rule")
    for number in (0, 1, 0):
        sign.sign(source, one, keys.load_private(tmp_path / f"{number}.key", b""))
    layers = registry.document("app", sign.tag_of(one))["layers"]
    assert len(layers) == 2 and all(sign.ANNOTATION in layer["annotations"] for layer in layers)
    sign.verify(source, one, trusted[:1], "rule")
    sign.verify(source, one, trusted[1:2], "rule")
    with pytest.raises(RepoError, match="not by a trusted key"):
        sign.verify(source, one, trusted[2:], "rule")
    kind, data = registry.manifests["app", sign.tag_of(one)]
    registry.put_manifest("app", sign.tag_of(two), data, kind)  # a signature moved elsewhere
    with pytest.raises(RepoError, match="one of another image"):
        sign.verify(source, two, trusted, "rule")
    policy = sign.parse_policy(
        f"{registry.host}={tmp_path}/0.pub,{registry.host}/x={tmp_path}/2.pub"
    )
    sign.check(source, one, policy, None)
    with pytest.raises(RepoError):
        sign.check(source, two, policy, None)
    sign.check(source, two, sign.parse_policy("elsewhere=k"), None)
    with pytest.raises(RepoError, match="no key"):
        sign.check(source, two, sign.parse_policy(""), [])


def test_policy() -> None:
    policy = sign.parse_policy("h=a, h/team=b:c,*=d")
    assert policy.keys_for("h/team/app") == ("h/team", (Path("b"), Path("c")))
    assert policy.keys_for("h/teams") == ("h", (Path("a"),))
    assert policy.keys_for("i/x")[0] == "*"
    with pytest.raises(UsageError, match="trust"):
        sign.parse_policy("just-a-name")


# --- index, container images -------------------------------------------------------------------


def test_index_in_one_request(registry: Registry, tmp_path: Path) -> None:
    reach = hasty(tmp_path, registry=f"{registry.host}/team")
    with pytest.raises(RepoError, match="no index"):
        index.read(reach)
    rows = [index.Entry("redis", description="key value store"), index.Entry("node", "20")]
    index.publish(reach, rows)
    index.publish(
        reach, [index.Entry("redis", description="Key-value store"), index.Entry("keydb")]
    )
    registry.log.clear()
    entries = index.read(reach)
    assert len(registry.log) == 1 and len(entries) == 3
    assert [entry.name for entry in index.search(entries, "KEY")] == ["keydb", "redis"]
    assert index.search(entries, "nothing") == []
    registry.put_manifest("team/index", "latest", b'{"schemaVersion":2,"layers":[]}', MANIFEST)
    with pytest.raises(RepoError, match="not an index"):
        index.read(reach)
    at = index.place(reach)
    with pytest.raises(UsageError, match="whose index"):
        index.entry_of(place(f"{registry.host}/other/x", reach), at)


def container(registry: Registry, kind: str, config: str, layer: str) -> str:
    """An image of two layers in the registry; its digest."""
    blobs = [json.dumps({"config": {}}).encode(), noise(1, 70_000), noise(2, 5_000)]
    types = (config, layer, layer)
    rows = [
        {"mediaType": name, "digest": registry.put_blob("c", data), "size": len(data)}
        for name, data in zip(types, blobs, strict=True)
    ]
    made = {"schemaVersion": 2, "mediaType": kind, "config": rows[0], "layers": rows[1:]}
    return registry.put_manifest("c", "latest", json.dumps(made).encode(), kind)


DOCKER = "application/vnd.docker."


def test_fetch(registry: Registry, tmp_path: Path) -> None:
    kind = f"{DOCKER}distribution.manifest.v2+json"
    digest = container(
        registry, kind, f"{DOCKER}container.image.v1+json", f"{DOCKER}image.rootfs.diff.tar.gzip"
    )
    platforms = [("linux", "arm64", "sha256:" + "0" * 64), ("linux", "amd64", digest)]
    entries = [
        {
            "mediaType": kind,
            "digest": one,
            "size": 1,
            "platform": {"os": system, "architecture": machine},
        }
        for system, machine, one in platforms
    ]
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    registry.put_manifest("c", "list", json.dumps(listed).encode(), INDEX)
    reach, into = hasty(tmp_path), tmp_path / "oci"
    fetch_oci(ref.parse(f"{registry.host}/c:list"), into, reach)
    entry = json.loads((into / "index.json").read_text())["manifests"][0]
    data = (into / "blobs" / "sha256" / entry["digest"][7:]).read_bytes()
    assert digest_of(data) == entry["digest"] and b"docker" not in data
    layers = json.loads(data)["layers"]
    assert layers[0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    for row in layers:
        assert (
            digest_of((into / "blobs" / "sha256" / row["digest"][7:]).read_bytes()) == row["digest"]
        )
    assert sorted(path.name for path in into.iterdir()) == ["blobs", "index.json", "oci-layout"]
    registry.log.clear()
    fetch_oci(ref.parse(f"{registry.host}/c:list"), into, reach)
    assert not registry.requests("GET", "/blobs/")
    with pytest.raises(RepoError, match="no image for linux/riscv64") as caught:
        fetch_oci(ref.parse(f"{registry.host}/c:list"), into, reach, platform="linux/riscv64")
    assert "linux/amd64" in str(caught.value.hint)


def test_fetch_refuses_what_is_no_container(registry: Registry, tmp_path: Path) -> None:
    store, reach = Store(tmp_path / "s"), hasty(tmp_path)
    push_image(store, make_image(store, "x", [b"1"]), f"{registry.host}/x", reach)
    with pytest.raises(RepoError, match="an image of capstan's"):
        fetch_oci(ref.parse(f"{registry.host}/x"), tmp_path / "o", reach)
    container(registry, MANIFEST, "application/vnd.example+json", "application/x-thing")
    with pytest.raises(RepoError, match="not a container image"):
        fetch_oci(ref.parse(f"{registry.host}/c"), tmp_path / "o", reach)
    assert str(hub_place(ref.parse("redis"))) == "docker.io/library/redis:latest"
    assert str(hub_place(ref.parse("team/redis:7"))) == "docker.io/team/redis:7"
