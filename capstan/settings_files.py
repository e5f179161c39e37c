# SPDX-License-Identifier: BSD-2-Clause
"""The files that settings come from: where they are, what is in them, how one is changed.

The user's file is `$XDG_CONFIG_HOME/capstan/config.toml`, or what CAPSTAN_CONFIG names. The
project's file is `capstan.toml` in the working directory or the nearest directory above it, up to
the top of the repository (where `.git` is), and never in the home directory itself or above it.
Both are TOML with the keys of `settings.TABLE`; one wrong key makes the file wrong, because a
setting that is passed over in silence is worse than a command that stops.

A project's file of another user is passed over with a warning: in a directory that all can write,
anybody could put one above one's own.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from capstan import fs, ui
from capstan.errors import UsageError
from capstan.settings import CONFIG_VARIABLE, SIZE, TABLE, Origin, Setting, Value, nearest

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

PROJECT_FILE = "capstan.toml"
MAX_SIZE = 1 << 20

TomlValue = str | int | float | list[str] | dict[str, str]
Stamp = tuple[int, int, int]


def user_file() -> Path:
    """The user's file, there or not."""
    given = os.environ.get(CONFIG_VARIABLE)
    if given:
        return Path(given).absolute()
    import platformdirs

    return Path(platformdirs.user_config_dir("capstan")) / "config.toml"


def project_file() -> Path | None:
    """The project's file for the working directory, None when there is none of ours."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return None
    home = Path(os.environ.get("HOME") or "/").resolve()
    for folder in (here, *here.parents):
        if folder in (home, folder.parent):
            return None
        path = folder / PROJECT_FILE
        if os.path.lexists(path):
            return path if _is_ours(path) else None
        if os.path.lexists(folder / ".git"):
            return None
    return None


@functools.cache
def _is_ours(path: Path) -> bool:
    """Whether no other user (but root) can have written the file; says so once when not."""
    try:
        link, status = path.lstat(), path.stat()
    except OSError:
        return True  # reading it says what is wrong
    owners = {link.st_uid, status.st_uid}
    if owners <= {0, os.geteuid()} and not status.st_mode & 0o002:
        return True
    ui.tell(f"{path} is ignored: another user owns it or can write to it")
    return False


def files() -> Iterator[tuple[Origin, Path]]:
    """The files there are, in order of precedence."""
    project = project_file()
    if project is not None:
        yield Origin.PROJECT, project
    user = user_file()
    if user.exists():
        yield Origin.USER, user


def read(path: Path, *, is_project: bool) -> Mapping[str, Value]:
    """The settings in a file.

    Raises:
        UsageError: it cannot be read, is not TOML, or has a key or value that is wrong.
    """
    try:
        status = path.stat()
        return _read(path, (status.st_mtime_ns, status.st_size, status.st_ino), is_project)
    except OSError as err:
        raise UsageError(f"{path}: {err.strerror}", hint="it holds settings of capstan") from err


@functools.lru_cache(maxsize=8)
def _read(path: Path, _stamp: Stamp, is_project: bool) -> Mapping[str, Value]:
    import tomllib

    with path.open("rb") as file:
        data = file.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise UsageError(f"{path}: too large for a file of settings", hint="1 MiB at most")
    try:
        text = data.decode()
        raw = tomllib.loads(text)
    except ValueError as err:
        raise UsageError(f"{path}: not TOML: {err}", hint='write KEY = "VALUE" lines') from err
    rows = {row.key: row for row in TABLE}
    values = {}
    for key, item in raw.items():
        where = f"{path}{_line(text, key)}"
        if key not in rows:
            raise UsageError(f"{where}: there is no setting {key}", hint=nearest(key))
        values[key] = _value(rows[key], item, path.parent, where, is_project=is_project)
    return values


def _value(row: Setting, raw: object, folder: Path, where: str, *, is_project: bool) -> Value:
    if is_project and not row.project:
        raise UsageError(
            f"{where}: a project's file cannot set {row.key}",
            hint=f"`capstan config set {row.key} ...` or {row.env} does",
        )
    try:
        return row.kind.toml(raw, folder)
    except (ValueError, UsageError) as err:
        problem = f"{where}: {raw!r} is no value of {row.key}"
        raise UsageError(problem, hint=f"expected {row.kind.expected}") from err


def _line(text: str, key: str) -> str:
    """`:N` for the line that sets `key`, empty when it is not plain to see."""
    found = re.search(
        rf"^[ \t]*(?:\[\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.\]]", text, re.MULTILINE
    )
    return f":{text.count(chr(10), 0, found.start()) + 1}" if found else ""


def put(path: Path, row: Setting, value: Value) -> bool:
    """Set the key of `row` in the user's file `path`; whether that changed it.

    Raises:
        UsageError: the file is not TOML, or cannot be written.
    """

    def edit(document: TOMLDocument) -> bool:
        raw = to_toml(row, value)
        if row.key in document and document[row.key] == raw:
            return False
        document[row.key] = raw
        return True

    return _change(path, edit)


def drop(path: Path, key: str) -> bool:
    """Take `key` out of the user's file `path`; whether it was there.

    Raises:
        UsageError: the file is not TOML, or cannot be written.
    """

    def edit(document: TOMLDocument) -> bool:
        return document.pop(key, None) is not None

    return path.exists() and _change(path, edit)


def _change(path: Path, edit: Callable[[TOMLDocument], bool]) -> bool:
    """Let `edit` change the file, under a lock and in one step; comments and order stay."""
    import tomlkit

    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fs.locked(path.parent):
            mode = _mode(path)
            document = _parse(path)
            if not edit(document):
                return False
            fs.atomic_write(path, tomlkit.dumps(document).encode(), mode)
    except OSError as err:
        raise UsageError(f"{path}: {err.strerror}", hint="it holds settings of capstan") from err
    return True


def _mode(path: Path) -> int:
    """The permissions of the file, which is there or can be made.

    Raises:
        UsageError: it is no file, but a device or a directory.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0o644
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path}: not a file", hint=f"name one in {CONFIG_VARIABLE}, or unset it")
    return stat.S_IMODE(status.st_mode)


def _parse(path: Path) -> TOMLDocument:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(path.read_text())
    except FileNotFoundError:
        return tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as err:
        raise UsageError(f"{path}: not TOML: {err}", hint="correct it with an editor") from err


def to_toml(row: Setting, value: Value) -> TomlValue:
    """`value` as TOML and JSON have it: sizes are text, all else is what it is."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return row.kind.show(value) if row.kind is SIZE else value
