# SPDX-License-Identifier: BSD-2-Clause
"""Settings: precedence as a matrix, what files may say, and files that are changed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from capstan import settings, settings_files
from capstan.errors import UsageError
from capstan.settings import Origin

SAMPLES: dict[str, tuple[str, str, str, str]] = {
    "a path": ("/a", "/b c", "/d", "/e"),
    "a size, like 256M or 2G": ("64M", "2G", "100K", "1025M"),
    "a whole number, 1 or more": ("1", "2", "33", "4"),
    "a list, like a,b": ("a", "b,c", "d,e,f", "g"),
    "a number from 0.1 to 3600": ("30", "0.5", "3600", "12.5"),
    "pairs with paths, like a=/b,c=/d:/e": ("a=/b", "a=/c:/b,d=/e f", "f/g=/g", "h=/i"),
    "text": ("one", "two 2", 'th"ree', "vier ü"),
}


def samples(row: settings.Setting) -> tuple[str, ...]:
    """Four values of a setting, as text."""
    return SAMPLES.get(row.kind.expected) or (row.kind.choices * 4)[:4]


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file, in a home with a project; the working directory is in the project."""
    for row in settings.TABLE:
        monkeypatch.delenv(row.env, raising=False)
    monkeypatch.delenv("CAPSTAN_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "cfg"))
    (tmp_path / "project" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "deep")
    settings_files._is_ours.cache_clear()
    return tmp_path / "cfg" / "capstan" / "config.toml"


def project(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "project" / "capstan.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("row", settings.TABLE, ids=lambda row: row.key)
def test_precedence(row: settings.Setting, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every subset of the places a setting can be given in: the first of them counts."""
    flag, variable, project_text, user_text = samples(row)
    project_file = user.parents[2] / "project" / "capstan.toml"
    for by_flag, by_env, by_project, by_user in product((False, True), repeat=4):
        if by_project and not row.project:
            continue
        for path, is_there, text in (
            (project_file, by_project, project_text),
            (user, by_user, user_text),
        ):
            path.unlink(missing_ok=True)
            if is_there:
                settings_files.put(path, row, settings.read_text(row, text, "test"))
        environ = {row.env: variable} if by_env else {row.env: ""}
        found = settings.lookup(row.key, flag if by_flag else None, environ)
        wanted = (
            (flag, Origin.FLAG, row.flag or row.key)
            if by_flag
            else (variable, Origin.ENVIRONMENT, row.env)
            if by_env
            else (project_text, Origin.PROJECT, str(project_file))
            if by_project
            else (user_text, Origin.USER, str(user))
            if by_user
            else (None, Origin.DEFAULT, "")
        )
        value = None if wanted[0] is None else settings.read_text(row, wanted[0], "test")
        value = row.default if wanted[0] is None else value
        assert (found.value, found.origin, found.where) == (value, *wanted[1:])


def test_variables_of_the_table_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSTAN_MEMORY", "64M")
    assert settings.get("memory") == "64M" and settings.get_int("memory") == 64 << 20
    monkeypatch.setenv("CAPSTAN_MEMORY", "much")
    with pytest.raises(UsageError, match="CAPSTAN_MEMORY: 'much' is no value of memory"):
        settings.get("memory")


def test_every_row_is_sound() -> None:
    assert len({row.key for row in settings.TABLE}) == len(settings.TABLE)
    for row in settings.TABLE:
        assert row.key.isidentifier() and row.key == row.key.lower()
        assert row.env == "CAPSTAN_" + row.key.upper()
        assert row.flag is None or row.flag.startswith("--")
        if row.default is not None:
            assert row.kind.parse(row.kind.show(row.default)) == row.default


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ('memmory = "1G"', r"config\.toml:1: there is no setting memmory", "did you mean memory?"),
        ("\n# x\nmemory = 3", r"config\.toml:3: 3 is no value of memory", "a size"),
        ('accel = "kwm"', "'kwm' is no value of accel", "auto, kvm or tcg"),
        ("cpus = 0", "0 is no value of cpus", "1 or more"),
        ("cpus = true", "True is no value of cpus", "1 or more"),
        ('[memory]\nx = "1G"', r"config\.toml:1: .* is no value of memory", "a size"),
        ("memory =", "not TOML", "KEY"),
        ("# " + "x" * (1 << 20), "too large", "1 MiB"),
    ],
)
def test_wrong_files(user: Path, text: str, problem: str, hint: str) -> None:
    user.parent.mkdir(parents=True)
    user.write_text(text)
    with pytest.raises(UsageError, match=problem) as caught:
        settings.get("root")
    assert hint in (caught.value.hint or "")


def test_files_that_cannot_be_read(user: Path) -> None:
    user.mkdir(parents=True)
    with pytest.raises(UsageError, match="Is a directory"):
        settings.get("root")
    user.rmdir()
    user.write_bytes(b'root = "\xff"')
    with pytest.raises(UsageError, match="not TOML"):
        settings.get("root")


@pytest.mark.parametrize("key", [row.key for row in settings.TABLE if not row.project])
def test_a_project_cannot_weaken_trust(tmp_path: Path, key: str) -> None:
    project(tmp_path, f'{key} = "x"')
    with pytest.raises(UsageError, match=f"capstan.toml:1: a project's file cannot set {key}"):
        settings.get("memory")


def test_what_runs_on_the_host_is_the_users() -> None:
    trusted = {"root", "kernel", "insecure_registries", "trust"}
    assert not [row.key for row in settings.TABLE if row.key in trusted and row.project]


def test_where_a_project_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project(tmp_path, 'memory = "64M"')
    assert settings_files.project_file() == path
    (tmp_path / "project" / "deep" / ".git").mkdir()
    assert settings_files.project_file() is None
    assert settings.get("root", "/absolute") == "/absolute"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "capstan.toml").write_text('memory = "65M"')
    assert settings_files.project_file() is None  # the home directory is no project
    path.unlink()
    monkeypatch.chdir(tmp_path / "project")
    assert settings_files.project_file() is None


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert settings_files.project_file() is None
    assert settings.get("root", "/absolute") == "/absolute"
    monkeypatch.chdir(tmp_path)


def test_a_file_of_somebody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, 'memory = "64M"')
    path.chmod(0o666)
    assert settings.get("memory") is None and settings.get("memory") is None
    assert capsys.readouterr().err.count(f"{path} is ignored") == 1
    if os.geteuid() == 0:
        settings_files._is_ours.cache_clear()
        path.chmod(0o644)
        os.chown(path, 12345, 12345)
        assert settings.get("memory") is None


def test_paths_in_files(user: Path, tmp_path: Path) -> None:
    user.parent.mkdir(parents=True)
    for text, wanted in (("~/s", tmp_path / "s"), ("s", user.parent / "s"), ("/s", Path("/s"))):
        user.write_text(f'root = "{text}"\ntrust = {{"a.example/b" = "{text}"}}')
        assert settings.get("root") == str(wanted)
        assert settings.get("trust") == f"a.example/b={wanted}"
        settings_files._read.cache_clear()
    with pytest.raises(UsageError, match="is no value of root"):
        settings.get("root", "~nobody-of-that-name/x")


def test_changes_keep_comments(user: Path) -> None:
    user.parent.mkdir(parents=True)
    user.write_text('# mine\nmemory = "64M" # little\n\nroot = "/x"\n')
    user.chmod(0o600)
    assert settings_files.put(user, settings.row("memory"), 128 << 20)
    assert not settings_files.put(user, settings.row("memory"), 128 << 20)
    assert user.read_text() == '# mine\nmemory = "128M" # little\n\nroot = "/x"\n'
    assert settings_files.put(user, settings.row("cpus"), 2)
    assert settings_files.drop(user, "root")
    assert not settings_files.drop(user, "root")
    assert user.read_text() == '# mine\nmemory = "128M" # little\n\ncpus = 2\n'
    assert user.stat().st_mode & 0o777 == 0o600 and list(user.parent.iterdir()) == [user]


def test_a_linked_file_stays_linked(user: Path, tmp_path: Path) -> None:
    user.parent.mkdir(parents=True)
    user.symlink_to(tmp_path / "dotfile")
    settings_files.put(user, settings.row("cpus"), 2)
    assert user.is_symlink() and (tmp_path / "dotfile").read_text() == "cpus = 2\n"
    user.write_text("cpus =")
    with pytest.raises(UsageError, match="not TOML"):
        settings_files.put(user, settings.row("cpus"), 3)


@pytest.mark.parametrize("row", settings.TABLE, ids=lambda row: row.key)
@effort(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_set_is_found(row: settings.Setting, user: Path, data: st.DataObject) -> None:
    """Any text that a setting takes comes back from the file as the value it stands for."""
    text = data.draw(st.sampled_from(samples(row)) | st.text(min_size=1, max_size=20))
    try:
        value = settings.read_text(row, text, "test")
    except UsageError:
        return
    user.unlink(missing_ok=True)
    settings_files.put(user, row, value)
    assert settings.lookup(row.key, environ={}).value == value


def test_only_files_are_changed(user: Path) -> None:
    """Not /dev/null, which a rename would replace."""
    user.parent.mkdir(parents=True)
    os.mkfifo(user)
    with pytest.raises(UsageError, match="not a file"):
        settings_files.put(user, settings.row("cpus"), 2)
    with pytest.raises(UsageError, match="not a file"):
        settings_files.drop(user, "cpus")
    assert user.is_fifo()


def test_changes_at_the_same_time(user: Path) -> None:
    rows = [row for row in settings.TABLE if samples(row)]

    def change(row: settings.Setting) -> None:
        for text in samples(row):
            settings_files.put(user, row, settings.read_text(row, text, "test"))

    with ThreadPoolExecutor(len(rows)) as pool:
        list(pool.map(change, rows))
    values = settings_files.read(user, is_project=False)
    assert values == {r.key: settings.read_text(r, samples(r)[-1], "test") for r in rows}
