# SPDX-License-Identifier: BSD-2-Clause
"""`capstan compose` on the command line: what is printed, what is refused, what is removed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from capstan.cli import compose_images
from capstan.cli.compose_cmds import compose
from capstan.cli.compose_images import ServiceImages
from capstan.compose import plan
from capstan.compose.engine import Engine, UpOptions
from capstan.compose.project import Request, load
from capstan.compose.state import Keeper
from capstan.errors import UsageError
from capstan.manifest import ImageManifest, KernelInfo, PoolInfo, RunConfig
from capstan.run.instances import Instances
from capstan.run.lan import Lan
from capstan.store import StoredImage

TEXT = """
name: shop
services:
  web: {image: nginx, depends_on: [db], ports: ["8080:80"], x-capstan-health: "tcp://:80"}
  db: {image: redis, command: [--port, "1"]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compose.yaml").write_text(TEXT)
    return tmp_path


def call(*args: str) -> Result:
    return CliRunner().invoke(compose, list(args))


class FakeImages:
    """One image for all, which is only a place in the store."""

    def __init__(self, root: Path, letter: str) -> None:
        self.digest = letter * 64
        place = root / "objects" / self.digest
        place.mkdir(parents=True, exist_ok=True)
        (place / "disk.img").touch()

    def find(self, _project: object, _service: object) -> StoredImage:
        config = RunConfig(("/bin/x",))
        manifest = ImageManifest("x", 0, config, KernelInfo("k", 1), PoolInfo("p", 1, 1))
        return StoredImage(None, self.digest, Path("/d"), manifest, Path("/k"))


def up(folder: Path, digest: str = "d", **options: Any) -> list[str]:
    """Makes the instances and starts none; what was said."""
    said: list[str] = []
    project = load(Request(files=(folder / "compose.yaml",)))
    engine = Engine(folder / "root", said.append)
    engine.up(project, FakeImages(folder / "root", digest), UpOptions(no_start=True, **options))
    return said


def test_config() -> None:
    done = call("config", "--services")
    assert (done.exit_code, done.stdout) == (0, "web\ndb\n")
    assert call("config", "--images").stdout == "nginx\nredis\n"
    assert call("config", "-q").stdout == ""
    shown = json.loads(call("config", "--format", "json").stdout)
    assert shown["services"]["db"]["command"] == ["--port", "1"]


def test_up_makes_what_is_missing_or_has_changed(folder: Path) -> None:
    assert up(folder) == ["shop-db-1: created", "shop-web-1: created"]
    instances = Instances(folder / "root")
    first = {name: instances.get(f"shop-{name}-1").id for name in ("db", "web")}
    web = instances.get("shop-web-1")
    assert web.labels[plan.DEPENDS_ON] == "db:service_started"
    (card,) = web.spec.lans
    assert isinstance(card, Lan) and card.ip.startswith("10.89.0.")
    assert {line.split("\t")[1] for line in web.spec.hosts} >= {"web", "db", "shop-db-1"}
    assert up(folder) == []
    (folder / "compose.yaml").write_text(TEXT.replace("--port", "--portt"))
    assert up(folder) == ["shop-db-1: removed", "shop-db-1: created"]
    assert instances.get("shop-web-1").id == first["web"] != instances.get("shop-db-1").id
    assert instances.get("shop-web-1").spec.lans == (card,)
    assert len(up(folder, "e")) == 4
    assert up(folder, "f", no_recreate=True) == []


def test_orphans(folder: Path) -> None:
    up(folder)
    (folder / "compose.yaml").write_text("name: shop\nservices: {db: {image: redis}}")
    said = "\n".join(up(folder, no_recreate=True))
    assert "shop-web-1: not in the file any more" in said
    up(folder, no_recreate=True, remove_orphans=True)
    assert [i.name for i in Instances(folder / "root").list()] == ["shop-db-1"]


def test_new_names_are_not_known_to_old_machines(folder: Path) -> None:
    up(folder)
    (folder / "compose.yaml").write_text(TEXT + "  new: {image: x}\n")
    said = up(folder)
    assert [line for line in said if "does not know their names" in line] and len(said) == 3


def test_listing_and_down(folder: Path) -> None:
    up(folder)
    rows = json.loads(call("ps", "-a", "--format", "json").stdout)
    assert [row["service"] for row in rows] == ["db", "web"]
    assert call("ps").stdout.splitlines()[1:] == []
    assert call("ps", "-a", "--services").stdout == "db\nweb\n"
    assert json.loads(call("ls", "--format", "json").stdout)[0]["status"] == "0 of 2 running"
    assert call("ps", "-a", "gone").exit_code != 0
    (folder / "compose.yaml").write_text("name: shop\nservices: {a: {devices: [x]}}")
    assert call("down").exit_code == 0
    assert not Instances(folder / "root").list()
    assert not list((folder / "root" / "compose").iterdir())


def test_ctrl_c_before_it_is_up_stops_what_was_chosen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(folder)
    (folder / "compose.yaml").write_text(TEXT + "  new: {image: x}\n")
    stopped: list[list[str]] = []
    monkeypatch.setattr(Engine, "up", lambda *_: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(Engine, "stop", lambda _self, _name, chosen, _t: stopped.append(chosen))
    for args in (("db",), ("web",), ("--no-deps", "web"), ("new",), ()):
        assert call("up", *args).exit_code == 130
    assert stopped == [["db"], ["db", "web"], ["web"], ["db", "web"]]


def test_down_without_state_finds_instances(folder: Path) -> None:
    up(folder)
    keeper = Keeper(folder / "root", "shop")
    with keeper.locked():
        keeper.forget()
    assert call("-p", "shop", "down").exit_code == 0
    assert not Instances(folder / "root").list()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("exec", "web", "sh"), "compose has no command exec"),
        (("upp",), "compose has no command upp"),
        (("up", "--force-recreate", "--no-recreate"), "exclude each other"),
        (("up", "-d", "--abort-on-container-exit"), "exclude each other"),
        (("up", "nobody"), "there is no service nobody"),
        (("up", "--exit-code-from", "wbe"), "--exit-code-from wbe: it would not be started"),
        (("up", "--exit-code-from", "web", "db"), "it would not be started"),
        (("-f", "none.yaml", "config"), "none.yaml: No such file"),
        (("-p", "Upper", "ps"), "cannot be the name of a project"),
        (("logs", "--tail", "x"), "not a number and not all"),
    ],
)
def test_what_is_refused(args: tuple[str, ...], message: str) -> None:
    done = call(*args)
    assert isinstance(done.exception, UsageError) and message in done.exception.message


def test_the_first_capstan_s_compose_builds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    from capstan.build import image

    def build_path(path: Path, _args: object, options: Any, *_more: object) -> object:
        seen.extend((path, options.name))
        raise UsageError("seen")

    monkeypatch.setattr(image, "build_path", build_path)
    (folder / "app").mkdir()
    (folder / "app" / "Capstanfile").write_text("cmdline: /bin/x")
    call("myimage", "app")
    assert seen == [Path("app"), "myimage"]


def test_images_that_shall_not_be_built(folder: Path) -> None:
    (folder / "compose.yaml").write_text("services: {a: {build: .}}")
    project = load(Request(files=(folder / "compose.yaml",)))
    with pytest.raises(UsageError, match="it is not to be built"):
        ServiceImages(build=False).find(project, project.services["a"])
    (folder / "compose.yaml").write_text("services: {a: {build: {context: ., dockerfile: D}}}")
    project = load(Request(files=(folder / "compose.yaml",)))
    with pytest.raises(UsageError, match="D is not a file"):
        compose_images.ServiceImages(quiet=True).find(project, project.services["a"])
