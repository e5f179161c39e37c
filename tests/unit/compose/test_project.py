# SPDX-License-Identifier: BSD-2-Clause
"""Compose files: what is understood, and what is refused by file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.compose import project
from capstan.compose.model import Attachment, Condition, Health, Mount, Port, Probe, Project
from capstan.compose.project import Request
from capstan.errors import UsageError


def load(tmp_path: Path, *texts: str, **request: object) -> Project:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"c{number}.yaml")
        files[-1].write_text(text)
    environ = request.pop("environ", {})
    assert isinstance(environ, dict)
    return project.load(Request(files=tuple(files), environ=environ, **request))  # type: ignore[arg-type]


def service(text: str) -> str:
    return "services:\n  a:\n    image: x\n" + "".join(f"    {line}\n" for line in text.split("\n"))


def test_a_whole_project(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    found = load(
        tmp_path,
        """
name: shop
x-base: &base
  restart: unless-stopped
  environment: {MODE: prod}
services:
  web:
    <<: *base
    image: nginx
    ports:
      - "8080:80"
      - 3000
      - "127.0.0.1:5353:53/udp"
      - {target: 9, published: 19, host_ip: 127.0.0.1}
    depends_on: {app: {condition: service_healthy, restart: true}}
    networks: {front: , back: {aliases: [www], ipv4_address: 10.5.0.9}}
    extra_hosts: ["up:10.1.2.3", "host=host-gateway"]
  app:
    build: {context: app, dockerfile: Capstanfile.prod}
    command: serve "two words"
    entrypoint: [/bin/app]
    healthcheck: {test: "curl -f http://localhost:8000/ok || exit 1", interval: 1m30s, retries: 3}
    depends_on: [db]
    deploy: {resources: {limits: {memory: 1gb, cpus: "2"}}, replicas: 1}
    networks: [back]
    labels: {a.b: c}
    stop_grace_period: 500ms
  db:
    image: redis
    x-capstan-health: tcp://:6379
    networks: [back]
networks: {front: {internal: true}, back: {ipam: {config: [{subnet: 10.5.0.0/24}]}}}
volumes: {data: }
""",
    )
    assert found.name == "shop" and project.order(found.services) == ["db", "app", "web"]
    web, app, db = (found.services[name] for name in ("web", "app", "db"))
    assert web.ports == (
        Port("80", "8080"),
        Port("3000"),
        Port("53", "5353", "127.0.0.1", "udp"),
        Port("9", "19", "127.0.0.1"),
    )
    assert str(web.ports[1]) == "0:3000/tcp"
    assert web.restart == "always" and web.environment == {"MODE": "prod"}
    assert web.networks == (Attachment("front"), Attachment("back", ("www",), "10.5.0.9"))
    assert web.depends_on[0].condition is Condition.HEALTHY and web.depends_on[0].restart
    assert web.extra_hosts == ("up=10.1.2.3", "host=10.0.2.2")
    assert app.build is not None
    assert (app.build.context, app.build.file) == (tmp_path / "app", "Capstanfile.prod")
    assert app.command == ("serve", "two words") and app.entrypoint == ("/bin/app",)
    assert app.health == Health(Probe.HTTP, 8000, "/ok", interval=90.0, retries=3)
    assert (app.memory, app.cpus, app.stop_grace) == (1 << 30, 2, 0.5)
    assert db.health == Health(Probe.TCP, 6379)
    assert found.networks["front"].internal and found.networks["back"].subnet == "10.5.0.0/24"
    assert found.volumes == ("data",) and not found.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "c0.yaml: empty"),
        ("- a", "c0.yaml:1: expected `key: value` lines"),
        ("a: [", "c0.yaml:1: not valid YAML"),
        ("services: {}", "no services"),
        ("serivces: {a: {image: x}}", "c0.yaml:1: serivces: unknown key"),
        ("services: {a: {}}", "services.a: neither image nor build"),
        ("services:\n  a:\n    imag: x", "c0.yaml:3: services.a.imag: unknown key"),
        ("services: {a: {image: x}, a: {image: y}}", "services.a: expected this key only once"),
        ("include: [b.yaml]\nservices: {a: {image: x}}", "c0.yaml:1: include: not supported"),
        (service("ports: [80:80:80:80]"), "c0.yaml:4: services.a.ports: port"),
        (service("ports: [0]"), "services.a.ports: port"),
        (service("ports: ['[::1]:80:80']"), "services.a.ports: port"),
        (service("ports: [{published: 80}]"), "target is missing"),
        (service("volumes: ['./x:/y']"), "services.a.volumes: ./x is not a file or directory"),
        (service("volumes: ['/dev/null:/y']"), "services.a.volumes: /dev/null is not a file"),
        (service("volumes: ['x:y']"), "'y' is not an absolute path"),
        (service("volumes: [{type: bind, src: x, target: /y}]"), "volumes.src: unknown key"),
        (service("devices: [/dev/kvm]"), "services.a.devices: not supported"),
        (service("secrets: [a]"), "services.a.secrets: there is no a"),
        ("configs: {c: {}}\n" + service("configs: [c]"), "configs.c: expected one of file"),
        ("secrets: {c: {external: true}}\n" + service("secrets: [c]"), "external: not supported"),
        (service("network_mode: host"), "services.a.network_mode: host: not supported"),
        (service("network_mode: none\nports: [80]"), "ports need a network"),
        (service("networks: [n]"), "services.a: there is no network n"),
        (service("depends_on: [b]"), "services.a: there is no service b"),
        (service("depends_on: [a]"), "round in a circle: a -> a"),
        (service("depends_on: {a: {condition: soon}}"), "expected service_started"),
        (service("mem_limit: 1k"), "services.a.mem_limit: expected a size"),
        (service("cpus: 99"), "services.a.cpus: expected a number of CPUs"),
        (service("restart: maybe"), "services.a.restart: expected no, always"),
        (service("command: 'a \"b'"), "matching quotes"),
        (service("environment: [' A=1']"), "expected NAME=VALUE"),
        (service("env_file: none.env"), "services.a.env_file:"),
        (service("deploy: {replicas: 2}"), "one instance of each service"),
        (service("platform: linux/arm64"), "services.a.platform: not supported"),
        (service("healthcheck: {test: [CMD, redis-cli, ping]}"), "redis-cli cannot be run"),
        (service("healthcheck: {tst: x}"), "services.a.healthcheck.tst: unknown key"),
        (service("x-capstan-health: udp://:1"), "is not tcp://:PORT"),
        (service("x-capstan-health: tcp://elsewhere:1"), "is not tcp://:PORT"),
        (service("x-capstan-helth: tcp://:1"), "unknown key"),
        (service("image: $"), "expected this key only once"),
        ("services: {a: {image: $}}", "`$` without a name"),
        ("services: {a: {image: '${A'}}", "without `}`"),
        ("services: {a: {image: '${A:?set it}'}}", "c0.yaml:1: A: set it"),
        ("services: {a.b: {image: x}, '-': {image: y}}", "cannot be a service"),
        ("services: {a: {extends: b}}", "there is no service b"),
        ("services: {a: {extends: b}, b: {extends: a}}", "round in a circle"),
        ("name: UPPER\nservices: {a: {image: x}}", "'UPPER' cannot be the name of a project"),
        ("services: {a: !what {image: x}}", "unknown tag !what"),
        ("networks: {n: {external: true}}\nservices: {a: {image: x}}", "belong to one project"),
        (
            "networks: {n: {ipam: {config: [{subnet: 10.0.2.0/24}]}}}\nservices: {a: {image: x}}",
            "networks.n.ipam.config.subnet: expected a subnet",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert message in caught.value.message, caught.value.message


def test_the_hint_names_the_check_to_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, service('healthcheck: {test: ["CMD", "redis-cli", "ping"]}'))
    assert caught.value.hint == "add `x-capstan-health: tcp://:6379`"


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ('["CMD", "curl", "-f", "http://localhost"]', Health(Probe.HTTP, 80, "/")),
        ('["CMD-SHELL", "wget -q -O- http://127.0.0.1:81/a?b=c || exit 1"]',
         Health(Probe.HTTP, 81, "/a?b=c")),
        ("curl -sf http://localhost:8000/x > /dev/null 2>&1 || exit 1",
         Health(Probe.HTTP, 8000, "/x")),
        ("nc -z localhost 5432", Health(Probe.TCP, 5432)),
        ('["NONE"]', None),
    ],
)  # fmt: skip
def test_commands_that_ask_a_port(tmp_path: Path, test: str, expected: Health | None) -> None:
    found = load(tmp_path, service(f"healthcheck:\n  test: {test}"))
    assert found.services["a"].health == expected


def test_our_own_check_comes_first(tmp_path: Path) -> None:
    text = 'healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 3s}\nx-capstan-health: '
    found = load(tmp_path, service(text + "tcp://:1"))
    assert found.services["a"].health == Health(Probe.TCP, 1, interval=3.0)
    found = load(tmp_path, service(text + "{test: http://:8/h, retries: 2}"))
    assert found.services["a"].health == Health(Probe.HTTP, 8, "/h", interval=3.0, retries=2)


def test_what_is_not_given_is_warned_about(tmp_path: Path) -> None:
    mounts = "volumes: [data:/d, /anon, './c0.yaml:/x:ro', './c0.yaml:/y']"
    text = f"{mounts}\ncpus: 1.5\ncap_add: [X]\nuser: '0'"
    warnings = "\n".join(load(tmp_path, service(text)).warnings)
    for part in (
        "c0.yaml:4: services.a.volumes: data: no volumes",
        "c0.yaml:4: services.a.volumes: the volume: no volumes",
        "services.a.volumes: ./c0.yaml is copied: what is written to /y",
        "c0.yaml:5: services.a.cpus: a machine has whole CPUs: 2",
        "c0.yaml:6: services.a.cap_add:",
    ):
        assert part in warnings
    assert "user" not in warnings and "/x" not in warnings


def test_variables_and_their_files(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        'A=file # comment\nB=\'$A\'\nexport C="x\\n${A}"\nD=\n# no\nPORT=81\nM="one\ntwo"\n'
    )
    (tmp_path / "s.env").write_text("E=${A}\nF\nG=g\n")
    text = service(
        "env_file: [s.env, {path: no.env, required: false}]\n"
        "environment: {X: '$A', Y: '${B}', Z: '$$A', C: , D: '${D:-${A}}', U: '${U}', M: '${M}',"
        " V: '${A:+set}', G: own}\nports: ['${PORT}:80']"
    )
    found = load(tmp_path, text, environ={"A": "shell", "F": "f"})
    assert found.services["a"].environment == {
        "E": "shell",
        "F": "f",
        "G": "own",
        "X": "shell",
        "Y": "$A",
        "Z": "$A",
        "C": "x\nshell",
        "D": "shell",
        "U": "",
        "M": "one\ntwo",
        "V": "set",
    }
    assert found.services["a"].ports == (Port("80", "81"),)
    assert [w for w in found.warnings if "variable U is not set" in w]


def test_several_files(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        service("command: one\nports: [80]\nenvironment: [A=1, B=2]\ncap_add: [X]\nmem_limit: 64m"),
        "services:\n  a:\n    command: [two, x]\n    ports: ['81', '80']\n    environment: {B: 3}\n"
        "    cap_add: !reset []\n    mem_limit: !reset null\n  b: {image: y}\n",
    )
    first = found.services["a"]
    assert first.command == ("two", "x") and first.environment == {"A": "1", "B": "3"}
    assert {port.guest for port in first.ports} == {"80", "81"} and len(first.ports) == 2
    assert first.memory is None and not found.warnings and "b" in found.services
    replaced = load(tmp_path, service("ports: [80]"), "services: {a: {ports: !override ['90']}}")
    assert replaced.services["a"].ports == (Port("90"),)


def test_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "services: {base: {image: b, environment: [A=1, B=1], depends_on: [z], command: c}}"
    )
    found = load(
        tmp_path,
        "services:\n  a:\n    extends: {file: base.yaml, service: base}\n    environment: {B: 2}\n"
        "  b: {extends: a, image: other}",
    )
    assert found.services["a"].environment == {"A": "1", "B": "2"}
    assert found.services["a"].image == "b" and not found.services["a"].depends_on
    assert found.services["b"].image == "other" and found.services["b"].command == ("c",)


def test_extended_paths_start_from_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    (folder / "src").mkdir(parents=True)
    (folder / "v.env").write_text("V=1")
    (folder / "base.yaml").write_text(
        "services: {base: {build: {context: src}, env_file: [v.env], "
        "volumes: ['./v.env:/v:ro', {type: bind, source: ./src, target: /s, read_only: true}]}}"
    )
    text = "services: {a: {extends: {file: other/base.yaml, service: base}}}"
    found = load(tmp_path, text).services["a"]
    assert found.build is not None and found.build.context == folder / "src"
    assert found.environment == {"V": "1"}
    assert [m.source and m.source.resolve() for m in found.mounts] == [
        folder / "v.env",
        folder / "src",
    ]


def test_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "My.App"
    (folder / "sub").mkdir(parents=True)
    (folder / "compose.yaml").write_text("services: {a: {image: x}}")
    (folder / "compose.override.yaml").write_text("services: {a: {image: y}}")
    monkeypatch.chdir(folder / "sub")
    found = project.load(Request())
    assert found.name == "myapp" and found.services["a"].image == "y"
    assert project.load(Request(name="given")).name == "given"
    environ = {"COMPOSE_PROJECT_NAME": "env", "COMPOSE_FILE": str(folder / "compose.yaml")}
    by_environment = project.load(Request(environ=environ))
    assert by_environment.name == "env" and by_environment.services["a"].image == "x"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no Compose file"):
        project.load(Request())


def test_profiles_and_selection(tmp_path: Path) -> None:
    text = """
services:
  a: {image: x, depends_on: [b]}
  b: {image: x}
  c: {image: x, profiles: [debug]}
  d: {image: x}
"""
    assert set(load(tmp_path, text).services) == {"a", "b", "d"}
    assert "c" in load(tmp_path, text, profiles=("debug",)).services
    found = load(tmp_path, text)
    assert project.select(found, []) == ["b", "a", "d"]
    assert project.select(found, ["a"]) == ["b", "a"]
    assert project.select(found, ["a"], with_needs=False) == ["a"]
    with pytest.raises(UsageError, match="there is no service zz"):
        project.select(found, ["zz"])


def test_aliases_of_aliases_end(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(UsageError, match="too large or nested too deeply"):
        load(tmp_path, "\n".join(f"x-{line}" for line in lines) + "\nservices: {a: {image: x}}")


def test_files_and_texts_are_copied(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    top = "configs: {c: {content: 'a $$b'}, d: {file: f}}\nsecrets: {s: {environment: S}}\n"
    text = "configs: [c, {source: d, target: /etc/d}]\nsecrets: [s]\nvolumes: ['./f:/v:ro']"
    found = load(tmp_path, top + service(text), environ={"S": "secret"})
    assert found.services["a"].mounts == (
        Mount(None, "/c", "a $b"),
        Mount(tmp_path / "f", "/etc/d"),
        Mount(None, "/run/secrets/s", "secret", "S"),
        Mount(tmp_path / "f", "/v"),
    )


def test_the_name_is_had_of_a_wrong_file_too(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: n\nservices: {a: {devices: [x]}}")
    files = (tmp_path / "c.yaml",)
    assert project.name_of(Request(files=files)) == "n"
    assert project.name_of(Request(files=files, name="p")) == "p"
    assert project.name_of(Request(name="p")) == "p"
