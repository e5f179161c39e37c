# SPDX-License-Identifier: BSD-2-Clause
"""Options and manifest become a run; a run becomes the guest's parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.errors import UsageError
from capstan.manifest import ImageManifest, KernelInfo, PoolInfo, RunConfig
from capstan.run import names, params, spec
from capstan.run.spec import RunOptions, RunSpec

MANIFEST = ImageManifest(
    name="lib/tool:1.0",
    created=0,
    config=RunConfig(argv=("/bin/tool", "-x"), env={"A": "1", "B": "2"}, workdir="/srv", cpus=2),
    kernel=KernelInfo("", 0),
    pool=PoolInfo("p", 1, 1),
)


def plan(**options: object) -> RunSpec:
    made = RunOptions(**options)  # type: ignore[arg-type]
    return spec.plan(MANIFEST, Path("/disk"), Path("/kernel"), made, {"HOSTVAR": "h"})


def test_manifest_decides_what_nobody_overrides() -> None:
    run = plan()
    assert run.argv == ("/bin/tool", "-x")
    assert (run.workdir, run.cpus, run.memory, run.name) == ("/srv", 2, 256 << 20, "tool")
    assert run.env["A"] == "1" and run.env["HOME"] == "/root" and "PATH" in run.env


def test_options_override() -> None:
    run = plan(args=("y",), env=("A=9", "HOSTVAR", "UNSET", "E="), workdir="/w", memory=64 << 20)
    assert run.argv == ("/bin/tool", "-x", "y")
    assert run.env["A"] == "9" and run.env["HOSTVAR"] == "h" and run.env["E"] == ""
    assert "UNSET" not in run.env
    assert (run.workdir, run.memory) == ("/w", 64 << 20)


def test_entrypoint_replaces_the_command() -> None:
    assert plan(entrypoint="/bin/sh", args=("-c", "x")).argv == ("/bin/sh", "-c", "x")


@pytest.mark.parametrize(
    "options",
    [{"memory": 1 << 20}, {"cpus": 0}, {"cpus": 99}, {"workdir": "rel"}, {"env": ("=x",)}],
)
def test_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        plan(**options)


def test_env_file(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(b"# comment\nA=1\r\n\nB=x y\nC\n")
    assert spec.read_env_file(path) == ("A=1", "B=x y", "C")
    with pytest.raises(UsageError):
        spec.read_env_file(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "-x", "a b", "x" * 64, "a/b"])
def test_bad_names(name: str) -> None:
    with pytest.raises(UsageError):
        names.check(name)


def test_names_from_images() -> None:
    long = "x" * 70
    assert next(names.after(f"lib/{long}:1")) == f"{long[:56]}-1"
    assert names.base(f"lib/{long}:1", names.HOST_MAX) == long[:63]
    assert names.base("lib/_a b@sha256:0") == "a-b" and names.base("/") == "capstan"


RUN = RunSpec(Path("/d"), Path("/k"), ("a", "b c", "", "\udcff"), {"X": "1=2"}, name="host")


def test_parameter_block() -> None:
    terminal = params.Terminal("012", True, 24, 80)
    seed = bytes(range(32))
    assert params.build(RUN, terminal, seed, 7).split(b"\0") == [
        b"capstan-params=1",
        b"arg=a",
        b"arg=b c",
        b"arg=",
        b"arg=\xff",
        b"env=X=1=2",
        b"cwd=/",
        b"hostname=host",
        b"tty=012",
        b"merge=1",
        b"winsize=24x80",
        b"seed=" + seed.hex().encode(),
        b"time=7",
        b"irq-pulse=1",
        b"",
    ]


def test_parameters_that_are_off_are_not_there() -> None:
    blob = params.build(RUN, params.Terminal(), bytes(32), 0)
    assert not any(key in blob for key in (b"tty=", b"merge=", b"winsize=", b"strace=", b"level="))


@pytest.mark.parametrize(
    ("argv", "env"),
    [(("a\0b",), {}), (("a",), {"X": "\0"}), (("a",), {"": "x"}), (("x" * (3 << 20),), {})],
)
def test_parameters_refused(argv: tuple[str, ...], env: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        params.build(RunSpec(Path(), Path(), argv, env), params.Terminal(), bytes(32), 0)
