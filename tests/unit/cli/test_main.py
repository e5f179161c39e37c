# SPDX-License-Identifier: BSD-2-Clause
"""The command line in process: exit statuses, messages, and what goes where."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from capstan.cli import main as cli
from tests.lib import fakepool
from tests.lib.elfmaker import ET_EXEC, make_elf

TOP = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private store, a kernel, a program to pack."""
    (tmp_path / "k").write_bytes(make_elf(etype=ET_EXEC))
    (tmp_path / "hello").write_bytes(make_elf(etype=ET_EXEC))
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("CAPSTAN_KERNEL", str(tmp_path / "k"))
    monkeypatch.chdir(tmp_path)
    fakepool.install(monkeypatch)
    return tmp_path


def capstan(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_build_images_inspect_rmi(capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan("build", "-t", "x:1", "hello", "-t", "arg") == 0
    out, err = capsys.readouterr()
    assert out == "x:1\n" and err.startswith("x:1: ") and " s\n" in err
    assert capstan("images") == 0
    assert "hello -t arg" in capsys.readouterr().out
    assert capstan("images", "--format", "json") == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["name"] == "x" and record["tag"] == "1"
    assert capstan("inspect", "x:1") == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["config"]["argv"][1:] == ["-t", "arg"]
    assert capstan("inspect", record["disk"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "x:1"
    assert capstan("history", "x:1") == 0
    assert "program" in capsys.readouterr().out
    assert capstan("rmi", "x:1") == 0
    assert capstan("inspect", "x:1") == 125


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bild"], "did you mean `capstan build`?"),
        (["build", "none/such"], "does not exist"),
        (["build", "--nonsense"], "nonsense"),
        (["build", "-t", "BAD NAME", "hello"], "not the name of an image"),
        (["build", "--root", "/none", "hello"], "--root /none: not a directory"),
        (["inspect"], "--help"),
        (["rmi", "-y", "none"], "no image none:latest"),
    ],
)
def test_failures(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan(*args) == 125
    out, err = capsys.readouterr()
    assert not out and err.startswith("capstan: ") and message in err
    assert "Traceback" not in err


def test_unexpected_errors_have_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("capstan.build.image.build_path", broken)
    assert capstan("build", "hello") == 125
    assert "internal error: RuntimeError('oops')" in capsys.readouterr().err
    assert capstan("--debug", "build", "hello") == 125
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("config path >/dev/full", 125, "No space left on device"),
        ("--help >/dev/full", 125, "No space left on device"),
        ("config path >&-", 0, ""),
        ("config path <&- >&- 2>&-", 0, ""),
        ("rmi -y none 2>/dev/full", 125, ""),
        ("rmi -y none 2>&-", 125, ""),
        ("syscalls | :; exit ${PIPESTATUS[0]}", 141, ""),
    ],
)
def test_streams_that_cannot_be_written(words: str, status: int, message: str) -> None:
    line = f"{sys.executable} -m capstan {words}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=TOP, check=False
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr and bool(message) == bool(done.stderr)


HEAVY = {
    *("numpy", "rich", "yaml", "asyncio", "platformdirs", "tomlkit", "lz4", "capstone", "elftools"),
    *(
        "httpcore",
        "nacl",
        "cryptography",
        "urllib3",
        "http.client",
        "ssl",
        "email",
        "multiprocessing",
    ),
}
"""What no command may import before it knows that it needs it."""


def imported(code: str) -> set[str]:
    """The heavy modules there are when `code` has run in an interpreter of its own."""
    script = f"import sys, contextlib\n{code}\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=TOP
    )
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_help_imports_no_command() -> None:
    code = (
        "from capstan.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "ours = {name for name in sys.modules if name.startswith('capstan.cli.')}\n"
        "assert ours == {f'capstan.cli.{name}' for name in ('main', 'flags', 'complete')}, ours\n"
        "assert 'capstan.settings' not in sys.modules\n"
    )
    assert imported(code) == set()


def test_commands_import_little() -> None:
    """Importing the commands, for their help or for TAB, imports no library but click."""
    code = (
        "from capstan.cli import main\n"
        "for name in main.COMMANDS:\n"
        "    main.cli.get_command(None, name)\n"
    )
    assert imported(code) == set()


@pytest.mark.parametrize(
    "line", ["images", "images --format json", "ps -a", "config path", "inspect none", "system df"]
)
def test_listings_import_little(line: str) -> None:
    if line.split(maxsplit=1)[0] not in cli.COMMANDS:
        pytest.skip(f"this capstan has no command {line.split(maxsplit=1)[0]}")
    code = (
        "from capstan.cli.main import main\n"
        f"with contextlib.suppress(SystemExit): main({line.split()!r})\n"
    )
    assert imported(code) <= {"platformdirs"}


@pytest.mark.perf
def test_help_is_fast() -> None:
    times = []
    for _ in range(5):
        start = time.monotonic()
        command = [sys.executable, "-m", "capstan", "--help"]
        subprocess.run(command, capture_output=True, check=True, cwd=TOP)
        times.append(time.monotonic() - start)
    print(f"capstan --help: {min(times) * 1000:.0f} ms")
