# SPDX-License-Identifier: BSD-2-Clause
"""Container images, Dockerfiles and packages on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capstan import proc, ref
from capstan.build.collect import BuildOptions
from capstan.build.sources import dockerfile
from capstan.build.sources.container import Source, Transport
from capstan.cli import main, sources
from capstan.cli.sources import Wanted, looks_like_source, opened, wanted_by
from capstan.errors import BuildError, UsageError
from tests.lib.ocimaker import Layout, layer, member


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main.main(list(args))
    return int(ended.value.code or 0)


def test_what_is_a_source() -> None:
    for text in ("docker://x", "oci:x", "oci-archive:x:y", "docker-archive:x"):
        assert looks_like_source(text) and wanted_by(text).source == text
    for text in ("redis", "redis:7", "registry.example.com:5000/x", "./oci:x"):
        assert not looks_like_source(text) and wanted_by(text).source is None


def test_a_layout_is_opened_as_it_is(here: Path) -> None:
    Layout(here / "l").image([layer([member("a")])])
    with opened(Wanted(source="oci:l"), BuildOptions()) as options:
        assert options.source == Source(Transport.OCI, "l")
    with (
        pytest.raises(UsageError, match="names no container image"),
        opened(Wanted(source="redis:7"), BuildOptions()),
    ):
        pass


def test_folders_with_a_dockerfile(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[dockerfile.Dockerfile] = []

    def build(what: dockerfile.Dockerfile, into: Path) -> Source:
        assert into.is_dir()
        built.append(what)
        return Source(Transport.OCI, str(into))

    monkeypatch.setattr(dockerfile, "build", build)
    (here / "Dockerfile").write_text("FROM scratch\n")
    (here / "app.containerfile").write_text("FROM scratch\n")
    with opened(Wanted(Path(), None, ("A=1",), "last"), BuildOptions()) as options:
        assert options.source is not None
    assert built == [dockerfile.Dockerfile(Path("Dockerfile"), Path(), ("A=1",), "last")]
    named = BuildOptions(capstanfile=Path("app.containerfile"))
    with opened(Wanted(), named) as options:
        assert options.source is not None and options.capstanfile is None
    assert built[1].path == Path("app.containerfile")
    (here / "Capstanfile").write_text("cmdline: x\n")
    with opened(Wanted(), BuildOptions()) as options:
        assert options.source is None
    with (
        pytest.raises(UsageError, match="--build-arg is for a Dockerfile"),
        opened(Wanted(build_args=("A=1",)), BuildOptions()),
    ):
        pass
    left = list((here / "store/sources/tmp").iterdir())
    assert left == []


def test_without_buildah(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.setenv("PATH", str(here))
    assert status("build", ".") == 125
    err = capsys.readouterr().err
    assert "Dockerfile: Dockerfiles are built by buildah, which is not installed" in err
    assert "apt-get install buildah" in err


def test_the_two_calls_of_buildah(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(argv: list[str], **more: object) -> int:
        calls.append(argv)
        if "--iidfile" in argv:
            Path(argv[argv.index("--iidfile") + 1]).write_text("sha256:abc\n")
        return 0

    monkeypatch.setattr(proc, "run_visible", run)
    monkeypatch.setattr(dockerfile.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.delenv("BUILDAH_ISOLATION", raising=False)
    what = dockerfile.Dockerfile(here / "Dockerfile", here, ("A=1", "B=2"), "last")
    source = dockerfile.build(what, here)
    assert calls[0][:4] == ["buildah", "bud", "--isolation", "chroot"]
    words = " ".join(calls[0])
    assert "--build-arg A=1 --build-arg B=2 --target last" in words
    assert calls[0][-1] == os.fspath(here)
    assert calls[1] == ["buildah", "push", "--quiet", "abc", f"oci:{here}/layout:built"]
    assert str(source) == str(here / "Dockerfile") and source.tag == "built"
    monkeypatch.setattr(proc, "run_visible", lambda argv: 3)
    with pytest.raises(BuildError, match="buildah ended with status 3"):
        dockerfile.build(what, here)


def test_what_does_not_go_with_a_container_image(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Layout(here / "l").image([layer([member("a")])])
    assert status("build", "--from", "oci:l", "--package", "jq") == 125
    assert "--package are not for container images" in capsys.readouterr().err
    assert status("run", "--include", "/etc/motd", "oci:l") == 125
    assert "--include" in capsys.readouterr().err
    assert status("run", "oci:missing") == 125
    assert "missing does not exist" in capsys.readouterr().err


def test_a_fetched_image_keeps_its_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: ref.ImageRef, into: Path, reach: object, **more: object) -> Path:
        Layout(into).image([layer([member("a")])])
        return into

    monkeypatch.setattr("capstan.repo.fetch.fetch_oci", fetch)
    wanted = Wanted(source="docker://registry.example.com/team/app:2")
    with opened(wanted, BuildOptions()) as options:
        found = options.source
        assert found is not None and Path(found.place).is_dir()
        assert (found.name, str(found)) == ("app:2", wanted.source)
    assert not Path(found.place).exists()
    assert sources.SCHEMES[0] == "docker:"
