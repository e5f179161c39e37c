# SPDX-License-Identifier: BSD-2-Clause
"""-q, -v, --debug and --color, in front of every command and behind; help and version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from capstan import proc, settings, ui
from capstan.cli import flags
from capstan.cli import main as cli
from tests.unit.cli.test_main import capstan

NAMES = ("--quiet", "--verbose", "--debug", "--color")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No colour, and no store."""
    for name in ("NO_COLOR", "CAPSTAN_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its path."""
    ctx = click.Context(cli.cli, info_name="capstan")

    def walk(path: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            assert command is not None
            yield f"{path} {name}".strip(), command
            if isinstance(command, click.Group):
                yield from walk(f"{path} {name}", command)

    yield from walk("", cli.cli)


ALL = dict(commands())
DOCKERS = {
    "-a": {"all", "attach"},
    "-e": {"env"},
    "-f": {"file", "filter", "force", "follow", "format", "yes"},
    "-i": {"input", "interactive"},
    "-p": {"publish", "password", "project-name"},
    "-t": {"tag", "tty", "timeout", "time", "timestamps"},
    "-u": {"user", "username"},
    "-y": {"force", "yes"},
}
"""The short options that mean several things, as they do there."""


@pytest.mark.parametrize("name", ALL)
def test_every_command_takes_them(name: str) -> None:
    command = ALL[name]
    opts = [text for param in command.params for text in param.opts]
    assert set(NAMES) <= set(opts)
    assert len(opts) == len(set(opts)), f"{name}: an option means two things"


@pytest.mark.parametrize("name", ALL)
def test_help_texts_are_sentences(name: str) -> None:
    """So that the options of different commands read alike."""
    for param in ALL[name].params:
        text = param.help or "" if isinstance(param, click.Option) else "A."
        first = text[:1]
        assert first and (first.isupper() or not first.isalpha()), f"{param.opts}: {text!r}"
        assert text.endswith((".", ")")), f"{param.opts}: {text!r}"


def test_options_mean_the_same_everywhere() -> None:
    """A short option that several commands have is the same long one, but for Docker's own."""
    seen: dict[str, set[str]] = {}
    for command in ALL.values():
        for param in command.params:
            long = {opt[2:] for opt in param.opts if opt.startswith("--")}
            for opt in param.opts:
                if len(opt) == 2 and isinstance(param, click.Option):
                    seen.setdefault(opt, set()).update(long)
    many = {opt: names for opt, names in seen.items() if len(names) > 1}
    assert not {opt: names for opt, names in many.items() if not names <= DOCKERS.get(opt, set())}


def test_every_command_has_a_section() -> None:
    placed = [name for names in cli.sections().values() for name in names]
    assert sorted(placed) == sorted(cli.COMMANDS) and "Others" not in cli.sections()


@pytest.mark.parametrize("where", ["front", "behind"])
@pytest.mark.parametrize(
    ("flag", "level"),
    [("-q", "QUIET"), ("-v", "VERBOSE"), ("--debug", "DEBUG"), ("--verbose", "VERBOSE")],
)
def test_levels(where: str, flag: str, level: str) -> None:
    args = [flag, "config", "path"] if where == "front" else ["config", "path", flag]
    assert capstan(*args) == 0
    assert ui.level() is ui.Level[level]


def test_levels_do_not_stay() -> None:
    assert capstan("-q", "config", "path") == 0
    assert capstan("config", "path") == 0
    assert ui.level() is ui.Level.NORMAL
    assert capstan("-v", "config", "path", "--debug") == 0
    assert ui.level() is ui.Level.DEBUG


@pytest.mark.parametrize("args", [["-q", "config", "path", "-v"], ["-v", "-q", "version"]])
def test_quiet_and_verbose(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan(*args) == 125
    assert "-q goes with neither" in capsys.readouterr().err


def test_quiet_says_only_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan("syscalls", "read") == 0
    assert "1 full" in capsys.readouterr().err
    assert capstan("syscalls", "-q", "read") == 0
    out, err = capsys.readouterr()
    assert "read" in out and not err
    assert capstan("-q", "rmi", "-y", "none") == 125
    assert "no image none" in capsys.readouterr().err


def test_quiet_of_a_command_is_its_own() -> None:
    """`images -q` prints names only, it is not the -q of all commands."""
    command = cli.cli.get_command(click.Context(cli.cli), "images")
    assert command is not None
    (quiet,) = (param for param in command.params if "-q" in param.opts)
    assert not isinstance(quiet, flags.QuietInHelp)
    assert capstan("images", "-q") == 0
    assert ui.level() is ui.Level.NORMAL


def test_verbose_shows_what_decides_and_what_is_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(f'root = "{tmp_path}/other"\n')
    monkeypatch.setenv("CAPSTAN_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("CAPSTAN_ROOT")
    assert capstan("images", "-v") == 0
    err = capsys.readouterr().err
    assert err == f"capstan: root is {tmp_path}/other, from {tmp_path}/config.toml\n"
    proc.run(["true", "a b"])
    assert capsys.readouterr().err == "capstan: starts true 'a b'\n"


@pytest.mark.parametrize("words", [[], ["config"]])
def test_a_group_alone_is_its_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan(*words) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: {' '.join(['capstan', *words])} ") and not err


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan("rmi", "-y", "none", "--debug") == 125
    out, err = capsys.readouterr()
    assert not out and err.startswith("Traceback") and "\ncapstan: there is no image none" in err
    assert capstan("rmi", "-y", "none") == 125
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "variable", "no_color", "wanted"),
    [
        (None, "", "", None),
        (None, "", "1", False),
        (None, "always", "1", True),
        ("always", "never", "1", True),
        ("auto", "never", "1", None),
        ("never", "always", "", False),
        (None, "never", "", False),
    ],
)
def test_color(
    given: str | None,
    variable: str,
    no_color: str,
    wanted: bool | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAPSTAN_COLOR", variable)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert flags.wants_color(given) is wanted


def test_color_reaches_the_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool | None] = []
    monkeypatch.setattr(ui, "set_color", seen.append)
    for args in ["--color", "never"], []:
        assert capstan("config", "path", *args) == 0
        assert capstan(*args, "config", "path") == 0
    assert seen == [None, False, False, None, None]


def test_color_reaches_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def coloured() -> None:
        click.secho("text", fg="red")

    flags.equip(coloured)
    for args, wanted in (["--color", "always"], "\x1b[31mtext\x1b[0m\n"), ([], "text\n"):
        coloured.main(args, standalone_mode=False)
        assert capsys.readouterr().out == wanted
    with pytest.raises(click.BadParameter):
        coloured.main(["--color", "blue"], standalone_mode=False)


def test_help_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["build"], ["config", "set"], []):
        assert capstan("help", *words) == 0
        by_help = capsys.readouterr().out
        assert capstan(*words, "--help") == 0
        assert capsys.readouterr().out == by_help
        assert ("Show where a failure" in by_help) == (not words)
    assert capstan("help", "config", "sett") == 125
    assert "no command `capstan config sett`" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert capstan("version", "--format", "json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["image_format"] == "1" and record["capstan"]
    assert capstan("version", "--format", "{{.capstan}}") == 0
    assert capsys.readouterr().out == f"{record['capstan']}\n"


def test_config_show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSTAN_MEMORY", "64")
    assert capstan("config", "show", "--origin", "memory") == 0
    assert capsys.readouterr().out.split()[4:] == ["memory", "64M", "environment", "CAPSTAN_MEMORY"]
    assert capstan("config", "print", "--format", "json") == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["setting"] for record in records] == [row.key for row in settings.TABLE]
    assert capstan("config", "show", "memmory") == 125
    assert "did you mean memory?" in capsys.readouterr().err


def test_config_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "config.toml"
    monkeypatch.setenv("CAPSTAN_CONFIG", str(path))
    assert capstan("config", "get", "memory") == 1
    assert capstan("config", "set", "memory", "1G") == 0
    assert capstan("config", "set", "cpus", "two") == 125
    assert capsys.readouterr() == (
        "",
        "capstan: config set: 'two' is no value of cpus\n"
        "  hint: expected a whole number, 1 or more\n",
    )
    assert path.read_text() == 'memory = "1G"\n'
    assert capstan("config", "get", "memory") == 0
    assert capsys.readouterr().out == "1G\n"
    monkeypatch.setenv("CAPSTAN_MEMORY", "64M")
    assert capstan("config", "set", "memory", "2G") == 0
    assert "CAPSTAN_MEMORY sets memory to 64M all the same" in capsys.readouterr().err
    assert capstan("config", "path") == 0
    assert capsys.readouterr().out == f"{path}\n"


def test_config_repairs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A key that no capstan knows stops commands, and `config unset` takes it out."""
    path = tmp_path / "config.toml"
    path.write_text("# kept\nwrong-key = 1\n")
    monkeypatch.setenv("CAPSTAN_CONFIG", str(path))
    assert capstan("config", "show") == 125
    assert f"{path}:2: there is no setting wrong-key" in capsys.readouterr().err
    assert capstan("config", "unset", "wrong-key") == 0
    assert path.read_text() == "# kept\n"
    assert capstan("config", "unset", "wrong-key") == 0
    assert "does not set wrong-key" in capsys.readouterr().err
