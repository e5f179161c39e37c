# SPDX-License-Identifier: BSD-2-Clause
"""What a service becomes: addresses, names, labels; its text again; its place among others."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from capstan.compose import engine, health, logs, members, plan, project, show, state
from capstan.compose.members import Member
from capstan.compose.model import Health, Port, Probe, Project
from capstan.compose.project import Request
from capstan.errors import MachineError, UsageError
from capstan.run import logs as run_logs
from capstan.run.lan import Segment

TEXT = """
name: shop
services:
  web:
    image: nginx
    command: ["-g", "a $$b"]
    ports: ["8080:80", "53/udp"]
    networks: {front: , back: {aliases: [www]}}
    depends_on: {app: {condition: service_healthy}}
    labels: {a: b}
  app:
    image: app
    entrypoint: [/bin/app, --x]
    environment: {A: "$$1"}
    networks: [back]
    links: ["db:database"]
    x-capstan-health: http://:8000/h
    container_name: the-app
    deploy: {resources: {limits: {memory: 64m, cpus: 2}}}
  db: {image: redis, networks: [back], hostname: data}
  alone: {image: x, network_mode: none}
networks: {front: , back: {internal: true}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    (tmp_path / "c.yaml").write_text(TEXT)
    return project.load(Request(files=(tmp_path / "c.yaml",)))


@pytest.fixture
def nets(shop: Project) -> state.State:
    segments = iter([Segment("239.192.0.1", 61000), Segment("239.192.0.2", 61001)])
    return state.allocate(shop, state.State(), segments)


def test_a_run(shop: Project, nets: state.State) -> None:
    web = plan.options(shop, shop.services["web"], nets, ("8080:80",))
    assert (web.args, web.entrypoint, web.net.net) == (("-g", "a $b"), None, "user")
    assert [card.segment.port for card in web.lans] == [61000, 61001]
    assert web.net.publish == ("8080:80",)
    app = plan.options(shop, shop.services["app"], nets, ())
    assert (app.args, app.entrypoint, app.env) == (("--x",), "/bin/app", ("A=$1",))
    assert (app.net.net, app.memory, app.cpus) == ("none", 64 << 20, 2)
    assert plan.options(shop, shop.services["alone"], nets, ()).lans == ()


def test_names_are_those_of_shared_networks(shop: Project, nets: state.State) -> None:
    back = nets.networks["back"].members
    names = dict(text.split("=") for text in plan.hosts(shop, shop.services["app"], nets))
    assert names == {
        "web": back["web"],
        "www": back["web"],
        "shop-web-1": back["web"],
        "app": back["app"],
        "the-app": back["app"],
        "db": back["db"],
        "data": back["db"],
        "shop-db-1": back["db"],
        "database": back["db"],
    }
    assert plan.hosts(shop, shop.services["alone"], nets) == ()


def test_ports_need_a_way_outside(shop: Project, nets: state.State) -> None:
    with pytest.raises(UsageError, match="internal network"):
        plan.options(shop, shop.services["db"], nets, ("1:1",))


def test_labels(shop: Project, nets: state.State) -> None:
    web = plan.labels(shop, shop.services["web"], nets, "d")
    assert web["a"] == "b" and web[plan.PROJECT] == "shop" and web[plan.SERVICE] == "web"
    assert web[plan.DEPENDS_ON] == "app:service_healthy"
    app = plan.labels(shop, shop.services["app"], nets, "d")
    assert health.parse(app[plan.HEALTH]) == Health(Probe.HTTP, 8000, "/h")


def test_the_hash_is_about_the_machine(tmp_path: Path, shop: Project, nets: state.State) -> None:
    def hashed(text: str, digest: str = "d") -> str:
        (tmp_path / "d.yaml").write_text(text)
        other = project.load(Request(files=(tmp_path / "d.yaml",)))
        return plan.config_hash(other.services["web"], nets, digest)

    same = hashed(TEXT)
    assert same == hashed(TEXT.replace("service_healthy", "service_started"))
    assert same == hashed("x-y: 1\n" + TEXT)
    changes = (("8080", "8081"), ("a: b", "a: c"), ("-g", "-h"), ("image: nginx", "image: n"))
    others = {hashed(TEXT.replace(*change)) for change in changes}
    assert len({same, hashed(TEXT, "e"), *others}) == 6


@pytest.mark.parametrize("layout", ["yaml", "json"])
def test_config_is_read_again(tmp_path: Path, shop: Project, layout: str) -> None:
    (tmp_path / "again.yaml").write_text(show.text(shop, layout))
    again = project.load(Request(files=(tmp_path / "again.yaml",)))
    assert again.services == shop.services and again.networks == shop.networks


def test_config_shows_json(shop: Project) -> None:
    assert json.loads(show.text(shop, "json"))["services"]["web"]["image"] == "nginx"


def test_free_ports_are_found() -> None:
    (text,) = engine._published(Port("80", address="127.0.0.1"))
    host = int(text.split(":")[1])
    assert host > 0 and text.endswith(":80/tcp")
    assert len(engine._published(Port("80-82"))) == 3
    assert engine._published(Port("80", "81")) == ["81:80/tcp"]


def test_what_is_waited_for_must_have_a_check(tmp_path: Path) -> None:
    text = (
        "services:\n  a: {image: x, depends_on: {b: {condition: service_healthy}}}\n  b: {image: x}"
    )
    (tmp_path / "c.yaml").write_text(text)
    found = project.load(Request(files=(tmp_path / "c.yaml",)))
    with pytest.raises(MachineError, match="a waits until b is healthy, but it has no check"):
        engine._check_conditions(found, ["a", "b"])


# --- members ---


def member(name: str, *needs: str) -> Member:
    labels = {plan.DEPENDS_ON: ",".join(f"{need}:service_started" for need in needs)}
    return Member(name, cast("Any", None), labels)


def test_order_and_back() -> None:
    found = [member("web", "app", "gone"), member("db"), member("app", "db"), member("x", "x")]
    assert [m.service for m in members.in_order(found)] == ["db", "app", "web", "x"]
    done: list[str] = []
    lock = threading.Lock()

    def act(one: Member) -> None:
        with lock:
            done.append(one.service)
        if one.service == "app":
            raise MachineError("no")

    with pytest.raises(MachineError, match="no"):
        members.backwards(found, act)
    assert set(done) == {"web", "db", "app", "x"}
    assert done.index("web") < done.index("app") < done.index("db")


def test_circles_in_labels_do_no_harm() -> None:
    found = [member("a", "b"), member("b", "a")]
    assert len(members.in_order(found)) == 2
    done: list[str] = []
    members.backwards(found, lambda one: done.append(one.service))
    assert sorted(done) == ["a", "b"]


# --- logs ---


def source(folder: Path, name: str) -> tuple[logs.Source, run_logs.Writer]:
    folder.mkdir()
    return (
        logs.Source(member(name), name, run_logs.Reader(folder)),
        run_logs.Writer(folder, 1 << 20, 3),
    )


def test_lines_are_whole(tmp_path: Path) -> None:
    one, writer = source(tmp_path / "a", "a")
    writer.write("stdout", b"hel")
    writer.write("stderr", b"oops\n")
    assert [line.text for line in one.lines()] == [b"oops"]
    writer.write("stdout", b"lo\nlast")
    assert [line.text for line in one.lines()] == [b"hello"]
    assert [line.text for line in one.lines(flush=True)] == [b"last"]
    writer.close()


def test_lines_of_several_by_time(tmp_path: Path) -> None:
    one, first = source(tmp_path / "a", "a")
    two, second = source(tmp_path / "b", "b")
    begin = 0.0
    for number in range(3):
        for writer, name in ((first, "a"), (second, "b")):
            writer.write("stdout", f"{name}{number}\n".encode())
            time.sleep(0.002)
        if number == 0:
            begin = time.time()
    found = logs.present([one, two], None, None)
    assert [line.text for line in found] == [b"a0", b"b0", b"a1", b"b1", b"a2", b"b2"]
    for each in (one, two):
        each.reader = run_logs.Reader(tmp_path / each.name)
    assert [line.text for line in logs.present([one, two], begin, 1)] == [b"a2", b"b2"]
    for writer in (first, second):
        writer.close()
