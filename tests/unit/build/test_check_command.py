# SPDX-License-Identifier: BSD-2-Clause
"""`capstan check` on the command line: statuses, tables, JSON, what TARGET may be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capstan.build.image import BuildOptions, build_path
from capstan.cli import main as cli
from tests.lib.elfmaker import ET_EXEC, make_elf

LD = "/lib64/ld-linux-x86-64.so.2"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private store, a kernel, and a root with a good and a bad program."""
    (tmp_path / "kernel.elf").write_bytes(make_elf(etype=ET_EXEC))
    for name, data in (
        (LD, make_elf(soname="ld-linux-x86-64.so.2")),
        ("/good", make_elf(interp=LD)),
        ("/bad", make_elf(interp=LD, needed=["libone.so", "libtwo.so"])),
        ("/lib/libold.so", make_elf(machine=3)),
    ):
        place = tmp_path / "root" / name.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o755)
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("CAPSTAN_KERNEL", str(tmp_path / "kernel.elf"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "root"


def capstan(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_good_program(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan("check", "--root", str(root), "/good") == 0
    out, err = capsys.readouterr()
    assert not out and "note" in err and "--notes shows them" in err and "would not" not in err
    assert capstan("check", "--notes", "--root", str(root), "/good") == 0
    out, err = capsys.readouterr()
    assert out.startswith("/good\n  note ") and "--notes" not in err


def test_a_bad_program(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan("check", "--root", str(root), "/bad") == 1
    out, err = capsys.readouterr()
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("  error")] == [
        ["error", "library", "libone.so"],
        ["error", "library", "libtwo.so"],
    ]
    assert out.count("-> install its package") == 1
    assert "2 errors" in err and "it would not run" in err


@pytest.mark.parametrize("option", ["--json", "--format=json"])
def test_json(root: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan("check", option, "--root", str(root), "/bad") == 1
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert record["program"] == "/bad" and record["runs"] is False and not err
    assert record["findings"][0] == {
        "severity": "error",
        "kind": "library",
        "object": "/bad",
        "subject": "libone.so",
        "detail": "not found",
        "hint": record["findings"][0]["hint"],
    }
    assert {row["severity"] for row in record["findings"]} == {"error", "note"}


def test_images_and_disk_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = build_path(Path("/good"), (), BuildOptions(name="some:1", root=root))
    for target in ("some:1", str(image.disk)):
        assert capstan("check", "--json", target) == 0
        assert json.loads(capsys.readouterr().out)["program"] == "/good"
        assert capstan("check", "--root", str(root), target) == 125
        assert "is an image: these options" in capsys.readouterr().err
    Path("some:1").write_bytes(b"a file of that name")
    assert capstan("check", "some:1") == 0
    assert "some:1 is also a file here" in capsys.readouterr().err
    assert capstan("check", "./some:1") == 1
    assert "not an ELF file" in capsys.readouterr().out


def test_a_capstanfile(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root.parent / "app"
    folder.mkdir()
    (folder / "Capstanfile").write_text("cmdline: /bad\n")
    assert capstan("check", "--root", str(root), str(folder)) == 1
    (folder / "Other").write_text("cmdline: /good\n")
    assert capstan("check", "--root", str(root), "-f", str(folder / "Other"), str(folder)) == 0
    (folder / "Capstanfile").write_text("cmdlin: /bad\n")
    assert capstan("check", "--root", str(root), str(folder)) == 125
    assert "cmdlin: unknown key" in capsys.readouterr().err


def test_there_is_nothing_of_that_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan("check", "no-such-thing") == 125
    assert "no-such-thing does not exist" in capsys.readouterr().err
    assert capstan("check") == 125
    assert capstan("check", "--no-link", "no-such-thing") == 125
    assert "--no-link" in capsys.readouterr().err
