# SPDX-License-Identifier: BSD-2-Clause
"""Every setting of the tool: one table, and the only reader of `CAPSTAN_*` variables.

Precedence: what the command line gave, then the environment, then the project's file, then the
user's file, then the default; an empty variable counts as unset. The command line, the variables,
both files, `capstan config` and docs/settings.md know what stands in TABLE and nothing else.

A row is a setting that something reads. What decides which programs run on the host, where state
is kept or whom to trust has `project=False`: a file that came with somebody's source tree must not
set it, and is refused when it tries. `settings_files` finds, reads and changes the files.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from capstan import ui, units
from capstan.errors import UsageError

Value = str | int | float | tuple[str, ...] | Mapping[str, str]

CONFIG_VARIABLE = "CAPSTAN_CONFIG"
"""Names another user file; not a setting, since it says where settings are."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a setting takes: `parse` reads text, `toml` a value of a file in a folder.

    Both raise ValueError, or UsageError, for what is none; `expected` completes "expected ...".
    """

    expected: str
    parse: Callable[[str], Value]
    toml: Callable[[object, Path], Value]
    show: Callable[[Value], str] = str
    choices: tuple[str, ...] = ()


class Origin(Enum):
    """Where a value came from, first come first served."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    PROJECT = "project file"
    USER = "user file"
    DEFAULT = "default"


# --- kinds -------------------------------------------------------------------------------------


def _of_text(parse: Callable[[str], Value]) -> Callable[[object, Path], Value]:
    """The reader of a TOML string that `parse` understands."""

    def read(raw: object, _folder: Path) -> Value:
        if not isinstance(raw, str):
            raise ValueError
        return parse(raw)

    return read


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError
    return text


def _path(text: str) -> str:
    return _path_from(text, Path())


def _path_from(raw: object, folder: Path) -> str:
    if not isinstance(raw, str):
        raise ValueError
    try:
        return str((folder / Path(_text(raw)).expanduser()).absolute())
    except RuntimeError as err:  # ~ of somebody who is not there
        raise ValueError from err


def _list(text: str) -> tuple[str, ...]:
    return tuple(_text(part.strip()) for part in text.split(",")) if text.strip() else ()


def _list_from(raw: object, _folder: Path) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(item, str) for item in raw):
        raise ValueError
    return tuple(_text(item) for item in raw)


def _map(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in _list(text)]
    if any(not (name and equals and value) for name, equals, value in pairs):
        raise ValueError
    return {name: value for name, _, value in pairs}


def _map_from(raw: object, _folder: Path) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(item, str) for item in raw.values()):
        raise ValueError
    return {str(name): _text(item) for name, item in raw.items()}


def _paths(text: str) -> dict[str, str]:
    return _paths_from(_map(text), Path())


def _paths_from(raw: object, folder: Path) -> dict[str, str]:
    """Each value is one path or several with ":" between them."""
    items = _map_from(raw, folder).items()
    return {name: ":".join(_path_from(p, folder) for p in item.split(":")) for name, item in items}


def _show_list(value: Value) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _show_map(value: Value) -> str:
    items = value.items() if isinstance(value, Mapping) else ()
    return ",".join(f"{name}={item}" for name, item in items)


def one_of(*words: str) -> Kind:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    expected = f"{', '.join(words[:-1])} or {words[-1]}"
    return Kind(expected, parse, _of_text(parse), choices=words)


def whole(least: int) -> Kind:
    """A whole number, `least` or more."""

    def check(number: int) -> int:
        if number < least:
            raise ValueError
        return number

    def from_toml(raw: object, _folder: Path) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise ValueError
        return check(raw)

    return Kind(f"a whole number, {least} or more", lambda text: check(int(text)), from_toml)


def number(least: float, most: float) -> Kind:
    """A number in a range; whole or not."""

    def check(value: float) -> float:
        if not least <= value <= most:
            raise ValueError
        return value

    def from_toml(raw: object, _folder: Path) -> float:
        if not isinstance(raw, int | float) or isinstance(raw, bool):
            raise ValueError
        return check(float(raw))

    return Kind(
        f"a number from {least:g} to {most:g}",
        lambda text: check(float(text)),
        from_toml,
        lambda value: f"{value:g}",
    )


TEXT = Kind("text", _text, _of_text(_text))
PATH = Kind("a path", _path, _path_from)
LIST = Kind("a list, like a,b", _list, _list_from, _show_list)
PATHS = Kind("pairs with paths, like a=/b,c=/d:/e", _paths, _paths_from, _show_map)
SIZE = Kind(
    "a size, like 256M or 2G",
    units.parse_size,
    _of_text(units.parse_size),
    lambda value: units.format_size(value) if isinstance(value, int) else str(value),
)


# --- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: how a setting is called in each place it can be given, and what it takes.

    `default` None: `unset` says in words what happens then.
    """

    key: str
    env: str
    flag: str | None
    help: str
    kind: Kind = TEXT
    default: Value | None = None
    unset: str = "not set"
    project: bool = False


TABLE: tuple[Setting, ...] = (
    Setting(
        "root",
        "CAPSTAN_ROOT",
        None,
        "directory of the local store",
        kind=PATH,
        unset="the user's data directory",
    ),
    Setting(
        "kernel",
        "CAPSTAN_KERNEL",
        None,
        "guest kernel to put into images",
        kind=PATH,
        unset="the kernel capstan comes with",
    ),
    Setting(
        "accel",
        "CAPSTAN_ACCEL",
        "--accel",
        "what executes the guest: KVM, QEMU's emulator, or the best that works",
        kind=one_of("auto", "kvm", "tcg"),
        default="auto",
        project=True,
    ),
    Setting(
        "machine",
        "CAPSTAN_MACHINE",
        "--machine",
        "QEMU's machine: devices on MMIO (fastest start) or on PCI",
        kind=one_of("microvm", "q35"),
        default="microvm",
        project=True,
    ),
    Setting(
        "memory",
        "CAPSTAN_MEMORY",
        "--memory",
        "memory of a machine, in place of what its image says",
        kind=SIZE,
        unset="what the image says",
        project=True,
    ),
    Setting(
        "cpus",
        "CAPSTAN_CPUS",
        "--cpus",
        "number of CPUs of a machine, in place of what its image says",
        kind=whole(1),
        unset="what the image says",
        project=True,
    ),
    Setting(
        "color",
        "CAPSTAN_COLOR",
        "--color",
        "whether output is coloured; NO_COLOR in the environment means never",
        kind=one_of("auto", "always", "never"),
        default="auto",
        project=True,
    ),
    Setting(
        "log_size",
        "CAPSTAN_LOG_SIZE",
        "--log-opt max-size=SIZE",
        "size at which the log of an instance in the background goes on in another file",
        kind=SIZE,
        default=10 << 20,
        project=True,
    ),
    Setting(
        "log_files",
        "CAPSTAN_LOG_FILES",
        "--log-opt max-file=N",
        "number of files of such a log; the oldest goes",
        kind=whole(1),
        default=3,
        project=True,
    ),
    Setting(
        "registry",
        "CAPSTAN_REGISTRY",
        None,
        "registry of names without a host: HOST[:PORT][/NAMESPACE]",
        project=True,
    ),
    Setting(
        "insecure_registries",
        "CAPSTAN_INSECURE_REGISTRIES",
        None,
        "hosts whose certificates are not checked, or that have none: HOST[:PORT]",
        kind=LIST,
        unset="none",
    ),
    Setting(
        "trust",
        "CAPSTAN_TRUST",
        None,
        "what must be signed, by which public keys: HOST[/NAMESPACE]=FILE[:FILE]",
        kind=PATHS,
        unset="nothing",
    ),
    Setting(
        "registry_timeout",
        "CAPSTAN_REGISTRY_TIMEOUT",
        None,
        "seconds a registry may be silent",
        kind=number(0.1, 3600),
        default=30.0,
    ),
    Setting(
        "registry_tries",
        "CAPSTAN_REGISTRY_TRIES",
        None,
        "tries of each request to a registry",
        kind=whole(1),
        default=5,
    ),
    Setting(
        "max_unpacked",
        "CAPSTAN_MAX_UNPACKED",
        None,
        "most a container image may unpack to",
        kind=SIZE,
        default=16 << 30,
    ),
    Setting(
        "max_entries",
        "CAPSTAN_MAX_ENTRIES",
        None,
        "most files a container image may have",
        kind=whole(1),
        default=500_000,
    ),
)

_ROWS = {row.key: row for row in TABLE}


# --- reading -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """The value of a setting (None: nobody set it), and who says so: a flag, a variable, a file."""

    setting: Setting
    value: Value | None
    origin: Origin
    where: str = ""

    @property
    def text(self) -> str | None:
        """The value as one would write it on a command line."""
        return None if self.value is None else self.setting.kind.show(self.value)


def row(key: str) -> Setting:
    """The row of `key`, written with - or _.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    found = _ROWS.get(key.replace("-", "_"))
    if found is None:
        raise UsageError(f"there is no setting {key}", hint=nearest(key))
    return found


def nearest(key: str) -> str:
    """A hint that names the setting most like `key`."""
    import difflib

    close = difflib.get_close_matches(key.replace("-", "_"), _ROWS, 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(_ROWS)}"


def read_text(setting: Setting, text: str, where: str) -> Value:
    """The value that `text`, given in the place `where`, stands for.

    Raises:
        UsageError: none that the setting takes.
    """
    try:
        return setting.kind.parse(text)
    except (ValueError, UsageError) as err:
        problem = f"{where}: {text!r} is no value of {setting.key}"
        raise UsageError(problem, hint=f"expected {setting.kind.expected}") from err


def lookup(key: str, given: str | None = None, environ: Mapping[str, str] | None = None) -> Found:
    """What the setting `key` is and where that comes from; `given` is the command line's text.

    Raises:
        UsageError: a value is wrong, or a file cannot be used.
    """
    setting = _ROWS[key]
    if given:
        where = setting.flag or key
        return Found(setting, read_text(setting, given, where), Origin.FLAG, where)
    text = (os.environ if environ is None else environ).get(setting.env)
    if text:
        value = read_text(setting, text, setting.env)
        return Found(setting, value, Origin.ENVIRONMENT, setting.env)
    from capstan import settings_files

    for origin, path in settings_files.files():
        values = settings_files.read(path, is_project=origin is Origin.PROJECT)
        if key in values:
            found = Found(setting, values[key], origin, str(path))
            _tell(key, found.text or "", found.where)
            return found
    return Found(setting, setting.default, Origin.DEFAULT)


@functools.cache
def _tell(key: str, text: str, where: str) -> None:
    """Say once, to those who want to know, that a file decided."""
    ui.detail(f"{key} is {text}, from {where}")


def get(key: str, given: str | None = None, environ: Mapping[str, str] | None = None) -> str | None:
    """The value of the setting `key` as text, None when nobody set it and there is no default."""
    return lookup(key, given, environ).text


def get_int(key: str, given: str | None = None) -> int | None:
    """The value of a setting that is a number or a size in bytes."""
    value = lookup(key, given).value
    assert value is None or isinstance(value, int)
    return value


def get_float(key: str, given: str | None = None) -> float | None:
    """The value of a setting that is a number."""
    value = lookup(key, given).value
    assert value is None or isinstance(value, int | float)
    return value


def get_list(key: str, given: str | None = None) -> tuple[str, ...]:
    """The value of a setting that is a list."""
    value = lookup(key, given).value
    assert value is None or isinstance(value, tuple)
    return value or ()
