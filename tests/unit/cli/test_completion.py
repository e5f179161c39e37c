# SPDX-License-Identifier: BSD-2-Clause
"""TAB in the real shells, on a terminal; and what answering it loads."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from capstan.cli import completion_cmd
from capstan.cli import main as cli
from tests.unit.cli.test_main import HEAVY

TOP = Path(__file__).parents[3]
DEADLINE = 60.0

CASES = {
    "vers\t": "version",
    "help conf\t": "help config",
    "config sh\t": "config show",
    "run --entry\t": "run --entrypoint",
    "run --accel k\t": "run --accel kvm",
    "run --accel=k\t": "run --accel=kvm",
    "images --deb\t": "images --debug",
    "config get mem\t": "config get memory",
    "config set accel t\t": "config set accel tcg",
    "rmi my/im\t": "rmi my/image",
    "rmi my/image:1\t": "rmi my/image:1.5",
    "inspect pi\t": "inspect pinned:2",
    "inspect we\t": "inspect web-1",
    "stop we\t": "stop web-1",
    "logs -f we\t": "logs -f web-1",
    "run ./prog\t": "run ./program",
    "run prog\t": "run program",
    "run --env-file prog\t": "run --env-file program",
    "save -o prog\t": "save -o program",
    "nonsense x\t": "nonsense x",
}
"""What is typed, and the command that runs then."""

START = {
    "bash": (["--norc", "--noprofile", "-i"], "PS1='> '; source <(capstan completion bash)"),
    "zsh": (
        ["-f", "-i"],
        "PS1='> '; autoload -U compinit; compinit -u -D; source <(capstan completion zsh)",
    ),
    "fish": (["--no-config", "-i"], "capstan completion fish | source; function fish_prompt; end"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with images and an instance, a file, a `capstan` that prints its arguments."""
    store = tmp_path / "store" / "images"
    for name in ("my+image/latest", "my+image/1.5", "pinned/2"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).symlink_to("../../objects/" + "0" * 64)
    names = tmp_path / "store" / "instances" / "names"
    names.mkdir(parents=True)
    (names / "web-1").symlink_to("../" + "1" * 64)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    script = bin_ / "capstan"
    script.write_text(
        "#!/bin/sh\n"
        '[ -n "$_CAPSTAN_COMPLETE" ] || [ "$1" = completion ] || '
        '{ echo "RAN<$*>"; exit; }\n'
        f'exec {sys.executable} -m capstan "$@"\n'
    )
    script.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    (work / "program").touch()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(TOP))
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("TERM", "dumb")
    return tmp_path


def typed(shell: str, lines: list[str], begin: str) -> Iterator[str]:
    """What the last command of each line typed into an interactive shell was called with."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(shell, [shell, *START[shell][0]])
    try:
        yield ran(terminal, f"{begin}; capstan ready\r")
        for line in lines:
            yield ran(terminal, f"capstan {line}\r")
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)


def ran(terminal: int, line: str) -> str:
    """Type a line and wait for the arguments `capstan` prints."""
    os.write(terminal, line.encode())
    seen, end = "", time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536).decode(errors="replace")
        if found := re.search(r"RAN<([^>]*)>", seen):
            return found[1].strip()
    raise AssertionError(f"nothing ran after {line!r}: {seen!r}")


@pytest.mark.parametrize("shell", START)
def test_tab(shell: str, here: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell} (apt-get install {shell})")
    _, *commands = typed(shell, list(CASES), START[shell][1])
    assert dict(zip(CASES, commands, strict=True)) == CASES


@pytest.mark.parametrize("instruction", ["bash_complete", "tcsh_complete", "bash_source", "x"])
def test_wrong_questions_are_quiet(
    instruction: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COMP_WORDS", raising=False)
    monkeypatch.setenv(cli.COMPLETE, instruction)
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 1 and capsys.readouterr() == ("", "")


def test_a_damaged_settings_file_is_no_matter(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "config.toml").write_text("oh =")
    monkeypatch.setenv("CAPSTAN_CONFIG", str(here / "config.toml"))
    monkeypatch.setenv("COMP_WORDS", "capstan rmi p")
    assert completion_cmd.answer("bash_complete") == 0
    assert capsys.readouterr() == ("plain,pinned:2\n", "")


def test_tab_loads_little() -> None:
    ours = ("capstan.build.image", "capstan.run.machine")
    heavy = {*HEAVY, *ours} - {"platformdirs"}
    code = (
        "import sys\n"
        "from capstan.cli import completion_cmd\n"
        "assert completion_cmd.answer('bash_complete') == 0\n"
        f"print({heavy} & set(sys.modules), file=sys.stderr)\n"
    )
    for line in (
        "capstan ",
        "capstan rmi ",
        "capstan run --",
        "capstan config get ",
        "capstan stop ",
    ):
        environ = {**os.environ, "COMP_WORDS": line}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True
        )
        assert done.stderr == "set()\n", line
