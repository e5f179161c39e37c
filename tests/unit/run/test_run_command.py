# SPDX-License-Identifier: BSD-2-Clause
"""`capstan run` and `capstan doctor` as commands: what options become, what is refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from capstan.cli.doctor import doctor
from capstan.cli.run_cmds import run
from capstan.errors import UsageError
from capstan.manifest import ImageManifest, KernelInfo, PoolInfo, RunConfig
from capstan.run import checkup
from capstan.run.checkup import Finding, Level
from capstan.run.spec import Accel, MachineType, RunSpec
from capstan.store import Store
from tests.lib.boot import fake_host

CONFIG = RunConfig(argv=("/bin/tool",), ports=("80:80",), volumes=("v:/v",))
MANIFEST = ImageManifest("tool", 0, CONFIG, KernelInfo("", 0), PoolInfo("p", 1, 1))
IMAGE = SimpleNamespace(
    ref=None, digest="", disk=Path("/disk"), kernel=Path("/kernel"), manifest=MANIFEST
)


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunSpec]:
    """The runs the command started; each ends with status 42."""
    seen: list[RunSpec] = []

    def start(spec: RunSpec, say: object, keeper: object) -> int:
        seen.append(spec)
        return 42

    monkeypatch.setattr("capstan.build.image.resolve_or_build", lambda *_: IMAGE)
    monkeypatch.setattr("capstan.run.start", start)
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fake_host(tmp_path)
    return seen


def invoke(line: str) -> Result:
    return CliRunner().invoke(run, shlex.split(line))


def test_options_arrive(specs: list[RunSpec]) -> None:
    line = "-m 64M -c 2 -e A=1 -w /w --accel tcg --machine microvm --name n --strace --timeout 1.5"
    result = invoke(f"{line} --grace 2 --loglevel 4 --gdb-port 1234 ./tool -m arg")
    assert result.exit_code == 42
    assert "volumes v:/v: not supported yet" in result.stderr
    (spec,) = specs
    assert spec.argv == ("/bin/tool", "-m", "arg")
    assert (spec.memory, spec.cpus, spec.workdir, spec.name) == (64 << 20, 2, "/w", "n")
    assert (spec.accel, spec.machine, spec.gdb) == (Accel.TCG, MachineType.MICROVM, "1234")
    assert (spec.strace, spec.timeout, spec.grace, spec.loglevel) == (True, 1.5, 2.0, 4)
    assert spec.env["A"] == "1"


def test_an_image_is_loaded_once(specs: list[RunSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def find(_store: Store, name: str) -> object:
        seen.append(name)
        return IMAGE

    monkeypatch.setattr(Store, "find", find)
    assert invoke("tool").exit_code == 42
    assert seen == ["tool"] and len(specs) == 1


def test_verbose_asks_the_kernel_to_talk(specs: list[RunSpec]) -> None:
    invoke("-v ./tool")
    assert specs[0].verbose and specs[0].loglevel == 3


def test_network_arrives(specs: list[RunSpec]) -> None:
    invoke("-p 8080:80 -P --dns 1.1.1.1 --pcap f ./tool")
    card = specs[0].net
    assert card is not None
    assert [(f.host, f.guest) for f in card.forwards] == [(8080, 80), (80, 80)]
    assert (card.dns, card.pcap) == (("1.1.1.1",), Path("f"))
    invoke("--net none ./tool")
    assert specs[1].net is None


@pytest.mark.parametrize("machine", list(MachineType))
def test_machine_arrives(specs: list[RunSpec], machine: MachineType) -> None:
    invoke(f"--machine {machine.value} ./tool")
    assert specs[0].machine is machine


def test_machine_is_one_we_know(specs: list[RunSpec]) -> None:
    result = invoke("--machine virt ./tool")
    assert result.exit_code == 2 and "'q35'" in result.stderr
    assert not specs


@pytest.mark.parametrize(
    "line", ["-m x t", "--name a/b t", "--timeout 0 t", "--cpus 99 t", "-w x t"]
)
def test_bad_values(specs: list[RunSpec], line: str) -> None:
    assert isinstance(invoke(line).exception, UsageError)
    assert not specs


@pytest.mark.parametrize("line", ["--volume v:/v t", "--accel x t", ""])
def test_what_is_not_offered_is_refused(specs: list[RunSpec], line: str) -> None:
    assert invoke(line).exit_code == 2
    assert not specs


def test_dry_run_prints_the_line(specs: list[RunSpec], tmp_path: Path) -> None:
    result = invoke("--accel tcg --dry-run ./tool")
    assert result.exit_code == 0 and not specs
    words = shlex.split(result.stdout)
    assert words[0] == str(tmp_path / "qemu-system-x86_64")
    assert words[words.index("-kernel") + 1] == "/kernel"


@pytest.mark.parametrize(("level", "status"), [(Level.OK, 0), (Level.OPTIONAL, 0), (Level.BAD, 1)])
def test_doctor(monkeypatch: pytest.MonkeyPatch, level: Level, status: int) -> None:
    finding = Finding("qemu", level, "text", "do this")
    monkeypatch.setattr(checkup, "examine", lambda: [finding])
    shown = CliRunner().invoke(doctor, [])
    assert shown.exit_code == status and "-> do this" in shown.stdout
    listed = CliRunner().invoke(doctor, ["--format", "json"])
    assert json.loads(listed.stdout)[0]["level"] == level.value
    assert listed.exit_code == status


def test_doctor_without_qemu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = {row.name: row for row in checkup.examine()}
    assert findings["qemu"].level is Level.BAD and "install" in findings["qemu"].advice
