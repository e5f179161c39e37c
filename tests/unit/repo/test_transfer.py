# SPDX-License-Identifier: BSD-2-Clause
"""Push and pull against a registry in memory: sharing, resuming, credentials, lies."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from capstan.errors import RepoError, UsageError
from capstan.repo import blobs
from capstan.repo.answers import Denied, Stopped
from capstan.repo.limits import CHUNK, Patience
from capstan.repo.names import open_repository
from capstan.store import Store
from tests.lib import lies
from tests.lib.registry import INDEX, MANIFEST, Handler, Registry, digest_of
from tests.lib.repokit import hasty, make_image, noise, place, pull_image, push_image, snapshot

FILES = [noise(1, 3 << 20), *(noise(n, 30_000) for n in range(2, 42)), b"text " * 50_000]


@pytest.fixture(autouse=True)
def fast_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capstan.repo.packing.LEVEL", 1)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as made:
        yield made


@pytest.fixture
def here(tmp_path: Path) -> Store:
    return Store(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Store:
    return Store(tmp_path / "there")


def test_round_trip(registry: Registry, here: Store, there: Store, tmp_path: Path) -> None:
    reach = hasty(tmp_path, registry=f"{registry.host}/team")
    image = make_image(here, "app:v1", FILES)
    pushed = push_image(here, image, "app:v1", reach)
    assert here.repo_digests(image[0]) == [f"{registry.host}/team/app@{pushed.digest}"]
    done = pull_image(there, "app:v1", reach)
    assert done.image.disk.read_bytes() == image[0].disk.read_bytes()
    assert done.digest == pushed.digest and done.bytes_received == done.bytes_all
    assert there.open("app:v1").digest == image[0].digest
    assert done.image.disk.stat().st_blocks <= image[0].disk.stat().st_blocks
    assert not list((there.root / "downloads").iterdir())
    manifest = registry.document("team/app", "v1")
    left = manifest["layers"][0]["digest"].replace(":", "-")
    (there.root / "downloads" / left).touch()  # a pull was killed when all was done
    again = pull_image(there, f"{registry.host}/team/app@{pushed.digest}", reach)
    assert again.bytes_received == 0 and again.image.digest == image[0].digest
    assert not list((there.root / "downloads").iterdir())
    assert manifest["artifactType"] == "application/vnd.capstan.image.v1"
    assert manifest["annotations"]["com.urunc.unikernel.unikernelType"] == "capstan"


def test_second_push_sends_nothing(registry: Registry, here: Store, tmp_path: Path) -> None:
    reach = hasty(tmp_path, registry=registry.host)
    image = make_image(here, "app", FILES)
    first = push_image(here, image, "app", reach)
    registry.log.clear()
    assert push_image(here, image, "app", reach).bytes_sent < 20_000
    assert not registry.requests("POST", "uploads")
    push_image(here, image, "other/app", reach)
    frames = len(registry.document("app", "latest")["layers"])
    mounted = registry.requests("POST", "mount=")
    assert mounted == frames and first.bytes_sent == first.bytes_all


def test_versions_share_frames(
    registry: Registry, here: Store, there: Store, tmp_path: Path
) -> None:
    reach = hasty(tmp_path, registry=registry.host)
    push_image(here, make_image(here, "app:1", FILES), "app:1", reach)
    first = pull_image(there, "app:1", reach)
    grown = [FILES[0], FILES[1] + noise(99, 9_000), *FILES[2:]]
    second = push_image(here, make_image(here, "app:2", grown), "app:2", reach)
    assert second.bytes_sent < 0.2 * first.bytes_all
    done = pull_image(there, "app:2", reach)
    assert done.bytes_received < 0.2 * done.bytes_all
    changed = [FILES[0][:1_500_000] + b"!" + FILES[0][1_500_001:], *FILES[1:]]
    third = push_image(here, make_image(here, "app:3", changed), "app:3", reach)
    assert third.bytes_sent < 0.4 * first.bytes_all  # one of three pieces


def test_a_cut_pull_goes_on(registry: Registry, here: Store, there: Store, tmp_path: Path) -> None:
    reach = hasty(tmp_path, registry=registry.host)
    pushed = push_image(here, make_image(here, "app", FILES), "app", reach)
    registry.fault = lies.cut_after(1_700_000)
    assert pull_image(there, "app", reach).bytes_received == pushed.bytes_all - _documents(registry)
    assert max(registry.sent.values()) <= 1 << 21
    assert all(
        registry.sent[d] == len(registry.blobs["app", d])
        for d in registry.sent
        if not registry.blobs["app", d].startswith(b"{")
    )


def _documents(registry: Registry) -> int:
    _kind, data = registry.manifests["app", "latest"]
    return len(data) + int(registry.document("app", "latest")["config"]["size"])


def test_a_damaged_part_is_loaded_again(
    registry: Registry, here: Store, there: Store, tmp_path: Path
) -> None:
    reach = hasty(tmp_path, registry=registry.host)
    push_image(here, make_image(here, "app", FILES), "app", reach)
    layer = registry.document("app", "latest")["layers"][3]
    part = there.root / "downloads" / (layer["digest"].replace(":", "-") + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"not what it was" * 10)
    pull_image(there, "app", reach)
    assert there.find("app") is not None


@pytest.mark.parametrize("name", lies.NETWORK)
def test_a_lying_registry(
    name: str, registry: Registry, here: Store, there: Store, tmp_path: Path
) -> None:
    reach = hasty(tmp_path, registry=registry.host)
    make_image(there, "old", [b"old"])
    push_image(here, make_image(here, "app", FILES[:3]), "app", reach)
    before = snapshot(there.root)
    registry.fault, text = lies.NETWORK[name]
    start = time.monotonic()
    with pytest.raises(RepoError) as caught:
        pull_image(there, "app", reach)
    assert time.monotonic() - start < 8
    assert text in caught.value.message + (caught.value.hint or ""), caught.value.message
    assert registry.host in caught.value.message and caught.value.hint
    assert caught.value.message.isprintable()
    assert snapshot(there.root) == before
    registry.fault = None
    pull_image(there, "app", reach)


@pytest.mark.parametrize("name", lies.TAMPER)
def test_an_image_that_is_not_what_it_says(
    name: str, registry: Registry, here: Store, there: Store, tmp_path: Path
) -> None:
    reach = hasty(tmp_path, registry=registry.host)
    make_image(there, "old", [b"old"])
    push_image(here, make_image(here, "app", FILES[:3]), "app", reach)
    before = snapshot(there.root)
    edit, text = lies.TAMPER[name]
    lies.change(registry, "app", edit)
    with pytest.raises(RepoError) as caught:
        pull_image(there, "app", reach)
    assert text in caught.value.message and caught.value.hint, caught.value.message
    assert snapshot(there.root) == before


def test_bomb_and_container(registry: Registry, here: Store, there: Store, tmp_path: Path) -> None:
    reach = hasty(tmp_path, registry=registry.host)
    push_image(here, make_image(here, "app", FILES[:3]), "app", reach)
    lies.bomb(registry, "app")
    with pytest.raises(RepoError, match="unpacks to"):
        pull_image(there, "app", reach)
    lies.container(registry, "app")
    with pytest.raises(RepoError, match="without an image of capstan's") as caught:
        pull_image(there, "app", reach)
    assert "docker://" in str(caught.value.hint)


def test_short_outage_is_waited_for(
    registry: Registry, here: Store, there: Store, tmp_path: Path
) -> None:
    reach = hasty(tmp_path, registry=registry.host)
    push_image(here, make_image(here, "app", FILES[:3]), "app", reach)
    seen: dict[str, int] = {}

    def fault(request: Handler) -> bool:
        seen[request.path] = seen.get(request.path, 0) + 1
        if seen[request.path] > 1:
            return False
        request.error(503 if len(seen) % 2 else 429, "later", Retry_After="0")
        return True

    registry.fault = fault
    pull_image(there, "app", reach)


def test_through_a_proxy(
    registry: Registry, here: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://u%20x:p@127.0.0.1:{registry.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    name = "registry.invalid:5000"
    reach = hasty(tmp_path, registry=name, insecure=[name])
    push_image(here, make_image(here, "app", FILES[:2]), "app", reach)
    assert registry.log[0][1].startswith(f"http://{name}/v2/")
    assert "proxy-authorization" in registry.log[0][2]
    assert ("app", "latest") in registry.manifests


def test_an_index_with_an_image_of_ours(
    registry: Registry, here: Store, there: Store, tmp_path: Path
) -> None:
    reach = hasty(tmp_path, registry=registry.host)
    pushed = push_image(here, make_image(here, "app", FILES[:2]), "app", reach)
    other = {"mediaType": MANIFEST, "digest": "sha256:" + "0" * 64, "size": 3}
    ours = {"mediaType": MANIFEST, "digest": pushed.digest, "size": 3}
    ours["artifactType"] = "application/vnd.capstan.image.v1"
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [other, ours]}
    registry.put_manifest("app", "both", json.dumps(index).encode(), INDEX)
    assert pull_image(there, "app:both", reach).digest == pushed.digest


def test_a_library_that_packs_otherwise(
    registry: Registry, here: Store, there: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lz4.block

    from capstan.repo import packing

    reach = hasty(tmp_path, registry=registry.host)
    texts = [b"".join(b"%d " % (n * n % m) for n in range(8000))[: 50 << 9] for m in (977, 991)]
    image = make_image(here, "app", texts, lz4=True)
    push_image(here, image, "app", reach)
    types = {layer["mediaType"] for layer in registry.document("app", "latest")["layers"]}
    assert types == {packing.RAW, packing.LZ4}

    def other(data: bytes) -> bytes:
        packed: bytes = lz4.block.compress(data, mode="high_compression", store_size=False)
        return packed

    monkeypatch.setattr(packing, "_library", lambda: other)
    done = pull_image(there, "app", reach)
    assert done.image.disk.read_bytes() == image[0].disk.read_bytes()
    (here.objects / image[0].digest / "frames.json").unlink()
    push_image(here, image, "raw", reach)  # who has that library sends what anybody can unpack
    types = {layer["mediaType"] for layer in registry.document("raw", "latest")["layers"]}
    assert types == {packing.RAW}


def test_an_interrupted_pull_ends_at_once(
    registry: Registry, here: Store, there: Store, tmp_path: Path
) -> None:
    patient = Patience(connect=2, silence=60, tries=9, pause=30)
    reach = hasty(tmp_path, registry=registry.host, patience=patient)
    push_image(here, make_image(here, "app", FILES), "app", reach)
    before = snapshot(there.root)

    def stall(request: Handler, data: bytes) -> None:
        if not fired:
            fired.append(1)
            main = threading.main_thread().ident or 0
            threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
        request.registry.stopping.wait(30)

    fired: list[int] = []
    registry.fault = lies.on_blob(stall)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        pull_image(there, "app", reach)
    assert time.monotonic() - start < 5
    after = snapshot(there.root)
    after.pop("version", None)  # the store itself has been made
    assert after == before


def test_an_interrupt_reaches_the_token_server(registry: Registry, tmp_path: Path) -> None:
    with Registry() as tokens:
        challenge = f'Bearer realm="{tokens.url}/token",service="s"'
        asked = threading.Event()

        def stall(request: Handler) -> bool:
            asked.set()
            return request.registry.stopping.wait(30)

        def fault(request: Handler) -> bool:
            request.error(401, "x", WWW_Authenticate=challenge)
            return True

        registry.fault, tokens.fault = fault, stall
        patient = Patience(connect=2, silence=60, tries=9, pause=30)
        reach = hasty(tmp_path, registry=registry.host, patience=patient)
        source = open_repository(place("app", reach), reach)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(source.manifest, "latest")
            assert asked.wait(10)
            start = time.monotonic()
            source.http.abort()
            with pytest.raises(Stopped):
                answer.result()
        assert time.monotonic() - start < 5


# --- credentials -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_login_push_pull(kind: str, here: Store, there: Store, tmp_path: Path) -> None:
    from capstan.repo.login import login, logout

    with Registry(auth=kind) as registry:
        reach = hasty(tmp_path, registry=registry.host)
        image = make_image(here, "app", FILES[:4])
        with pytest.raises(Denied) as denied:
            push_image(here, image, "app", reach)
        assert f"capstan login {registry.host}" in str(denied.value.hint)
        with pytest.raises(RepoError, match="refused"):
            login(registry.host, "anna", "wrong", reach)
        config = tmp_path / ".docker" / "config.json"
        assert not config.exists()
        login(registry.host, "anna", "secret", reach)
        assert config.stat().st_mode & 0o777 == 0o600
        push_image(here, image, "app", reach)
        push_image(here, image, "b/app", reach)
        pull_image(there, "app", reach)
        assert logout(registry.host, reach)[0].startswith("removed")
        assert logout(registry.host, reach) == [f"not logged in to {registry.host}"]
        assert json.loads(config.read_text()) == {"auths": {}}


def test_a_token_is_renewed(here: Store, tmp_path: Path) -> None:
    from capstan.repo.login import login

    with Registry(auth="bearer") as registry:
        reach = hasty(tmp_path, registry=registry.host)
        login(registry.host, "anna", "secret", reach)
        seen = 0

        def fault(request: Handler) -> bool:
            nonlocal seen
            seen += 1
            if seen % 25 == 0:  # the registry was started again
                request.registry.tokens.clear()
            return False

        registry.fault = fault
        push_image(here, make_image(here, "app", FILES), "app", reach)
        assert registry.requests("GET", "/token") >= 3


def test_credentials_do_not_follow_to_another_host(
    here: Store, there: Store, tmp_path: Path
) -> None:
    from capstan.repo.login import login

    with Registry(auth="basic") as registry, Registry() as other:
        reach = hasty(tmp_path, registry=registry.host)
        login(registry.host, "anna", "secret", reach)
        push_image(here, make_image(here, "app", FILES[:3]), "app", reach)
        other.blobs.update(registry.blobs)
        registry.fault = lies.on_blob(
            lambda request, _: request.answer(307, Location=f"{other.url}{request.path}")
        )
        pull_image(there, "app", reach)
        assert other.log and not any("authorization" in headers for *_, headers in other.log)


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "gopher://x/", "", "http://192.0.2.1/t"])
def test_a_token_from_nowhere(realm: str, registry: Registry, there: Store, tmp_path: Path) -> None:
    def fault(request: Handler) -> bool:
        request.error(401, "x", WWW_Authenticate=f'Bearer realm="{realm}",service="s"')
        return True

    registry.fault = fault
    reach = hasty(tmp_path, registry=registry.host)
    with pytest.raises(RepoError):
        pull_image(there, "app", reach)


# --- uploads, names ----------------------------------------------------------------------------


def test_a_large_blob_goes_in_chunks(registry: Registry, tmp_path: Path) -> None:
    data = noise(5, 2 * CHUNK + 1000)
    target = open_repository(place(f"{registry.host}/big", hasty(tmp_path)), hasty(tmp_path))
    broken: list[int] = []

    def fault(request: Handler) -> bool:
        if request.command == "PATCH" and not broken:
            broken.append(1)
            number = request.path.partition("?")[0].rpartition("/")[2]
            request.registry.uploads[number] = request.body[:1000]  # it took only a part
            request.close_connection = True
            return True
        return False

    registry.fault = fault
    blobs.upload(target, data)
    assert registry.blobs["big", digest_of(data)] == data and registry.requests("PATCH", "big") == 2


def test_upload_to_nowhere(registry: Registry, tmp_path: Path) -> None:
    target = open_repository(place(f"{registry.host}/x", hasty(tmp_path)), hasty(tmp_path))
    for location in ("", "file:///etc/passwd"):

        def fault(request: Handler, location: str = location) -> bool:
            if request.command == "POST":
                request.answer(202, Location=location)
            return request.command == "POST"

        registry.fault = fault
        with pytest.raises(RepoError, match=r"Location|upload at"):
            blobs.upload(target, b"data")


def test_short_names_need_a_registry(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no registry") as caught:
        place("redis", hasty(tmp_path))
    assert "config set registry" in str(caught.value.hint)
    assert "capstan build" in str(caught.value.hint)
    full = place("redis", hasty(tmp_path, registry="localhost:5000/team"))
    assert str(full) == "localhost:5000/team/redis:latest"
    with pytest.raises(UsageError, match="not HOST"):
        place("redis", hasty(tmp_path, registry="https://example.com"))
