# SPDX-License-Identifier: BSD-2-Clause
"""The Capstanfile: YAML text in, `Capstanfile` out; every error says file, line and key.

The keys of the first Capstan keep their meaning: `cmdline`, `base`, `build` (one command, split at
white space, no shell), `files` (guest: host; `&` in the host's name stands for the last part of
the guest's), `rootfs` (a directory merged whole, default ROOTFS). Scalars are taken as they are
written, so `yes`, `1.10` and `22:22` stay text.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from capstan import yamlfile
from capstan.errors import UsageError

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    YamlNode = ScalarNode | SequenceNode | MappingNode

MEMORY_MIN = 4 << 20
CPUS_MAX = 8
DEFAULT_ROOTFS = "ROOTFS"
NOT_YET = {"rpm-base": "download the package and name its files in `files:` or `rootfs:`"}

_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,9})([KMG]?)(?:i?B)?", re.IGNORECASE)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+~:-]+)?")
_ENV_NAME = re.compile(r"[^=\0\s]+")


@dataclass(frozen=True, slots=True)
class Capstanfile:
    """A checked Capstanfile; `folder` is what relative host paths start from."""

    path: Path
    folder: Path
    cmdline: tuple[str, ...]
    base: str | None = None
    packages: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    rootfs: Path | None = None
    build: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    workdir: str | None = None
    memory: int | None = None
    cpus: int | None = None
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    nolink: tuple[str, ...] = ()
    network: bool | None = None


def parse_size(text: str) -> int | None:
    """The bytes that "256M" or "1G" stand for (a bare number counts MiB), or None."""
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) * _UNITS[match[2].upper()] if match else None


def load(path: Path, folder: Path | None = None) -> Capstanfile:
    """The Capstanfile `path`.

    Raises:
        UsageError: it cannot be read, or something in it is wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(yamlfile.MAX_SIZE + 1)
    except OSError as err:
        raise UsageError(f"{path}: {os.strerror(err.errno or 0)}") from err
    return parse(data, path, (folder or path.parent).absolute())


def parse(data: bytes, path: Path, folder: Path) -> Capstanfile:
    """The Capstanfile in `data`; `path` names it in errors.

    Raises:
        UsageError: not YAML, an unknown key, a key twice, or a value of the wrong kind.
    """
    keys = _top(data, path)
    given = {name: _READERS[name](value) for name, value in keys.items()}
    if not given.get("cmdline"):
        raise UsageError(
            f"{path}: the key cmdline is missing",
            hint="add the program to run, such as `cmdline: /app/server --port 80`",
        )
    rootfs = given.pop("rootfs", None)
    if rootfs is not None:
        given["rootfs"] = folder / rootfs
        if not given["rootfs"].is_dir() and "build" not in given:
            raise keys["rootfs"].error(f"an existing directory, not {rootfs}")
    elif (folder / DEFAULT_ROOTFS).is_dir():
        given["rootfs"] = folder / DEFAULT_ROOTFS
    return Capstanfile(path=path, folder=folder, **given)


@dataclass(frozen=True, slots=True)
class _Value:
    """A YAML node with its place, for errors."""

    path: Path
    key: str
    node: YamlNode

    def error(self, expected: str) -> UsageError:
        line = self.node.start_mark.line + 1
        return UsageError(f"{self.path}:{line}: {self.key}: expected {expected}")

    def text(self, expected: str = "a string") -> str:
        """The scalar as it is written."""
        if self.node.id != "scalar" or self.node.tag == "tag:yaml.org,2002:null":
            raise self.error(expected)
        value = str(self.node.value)
        if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise self.error(f"{expected} without NUL bytes and surrogates")
        return value

    def items(self, expected: str) -> Iterator[_Value]:
        """The members of a list."""
        if self.node.id != "sequence":
            raise self.error(expected)
        for node in self.node.value:
            yield _Value(self.path, self.key, node)

    def pairs(self, expected: str) -> Iterator[tuple[_Value, _Value]]:
        """The pairs of a mapping; no key may come twice."""
        if self.node.id != "mapping":
            raise self.error(expected)
        seen: set[str] = set()
        for key, node in self.node.value:
            name = _Value(self.path, self.key, key).text("a string as key")
            under = f"{self.key}: {name}" if self.key else name
            if name in seen:
                raise _Value(self.path, under, key).error("this key only once")
            seen.add(name)
            yield _Value(self.path, under, key), _Value(self.path, under, node)


def _top(data: bytes, path: Path) -> dict[str, _Value]:
    """The top-level keys and their values; all names are known."""
    node = yamlfile.document(data, path, "Capstanfile")
    if node is None:
        raise UsageError(f"{path}: empty", hint="add at least `cmdline: PROGRAM`")
    top = _Value(path, "", cast("YamlNode", node))
    if top.node.id != "mapping":
        first = node.start_mark.line + 1
        raise UsageError(f"{path}:{first}: expected `key: value` lines, such as `cmdline: PROGRAM`")
    keys: dict[str, _Value] = {}
    for key, value in top.pairs("a mapping"):
        name = str(key.node.value)
        if name not in _READERS:
            raise _unknown(path, key.node.start_mark.line + 1, name)
        keys[name] = value
    return keys


def _unknown(path: Path, line: int, name: str) -> UsageError:
    import difflib

    if name in NOT_YET:
        return UsageError(f"{path}:{line}: {name}: not supported", hint=NOT_YET[name])
    close = difflib.get_close_matches(name, _READERS, 1)
    hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(_READERS)}"
    return UsageError(f"{path}:{line}: {name}: unknown key", hint=hint)


# --- one reader for each key -------------------------------------------------------------------


def _cmdline(value: _Value) -> tuple[str, ...]:
    expected = "a command line or a list of strings"
    if value.node.id == "sequence":
        words = tuple(item.text("a list of strings") for item in value.items(expected))
    else:
        try:
            words = tuple(shlex.split(value.text(expected)))
        except ValueError as err:
            raise value.error(f"a command line with matching quotes ({err})") from err
    if not words or not words[0]:
        raise value.error(expected)
    return words


def _build(value: _Value) -> tuple[str, ...]:
    expected = "a command or a list of strings"
    if value.node.id == "sequence":
        words = tuple(item.text("a list of strings") for item in value.items(expected))
    else:
        words = tuple(value.text(expected).split())
    if not words:
        raise value.error(expected)
    return words


def _files(value: _Value) -> dict[str, str]:
    files: dict[str, str] = {}
    for key, node in value.pairs("a mapping of guest paths to host paths"):
        guest = _guest_path(key, str(key.node.value))
        host = node.text("a host path")
        if not host:
            raise node.error("a host path")
        if guest in files:
            raise key.error(f"{guest} only once")
        files[guest] = host if host == "&" else host.replace("&", posixpath.basename(guest))
    return files


def _guest_path(value: _Value, text: str) -> str:
    path = posixpath.normpath("/" + text.lstrip("/"))
    if not text or ".." in text.split("/"):
        raise value.error("an absolute path in the image, without `..`")
    return path


def _env(value: _Value) -> dict[str, str]:
    expected = "a mapping, or a list of NAME=VALUE"
    env: dict[str, str] = {}
    if value.node.id == "sequence":
        for item in value.items(expected):
            name, equals, text = item.text("NAME=VALUE").partition("=")
            if not equals or not _ENV_NAME.fullmatch(name):
                raise item.error("NAME=VALUE")
            env[name] = text
        return env
    for key, node in value.pairs(expected):
        name = str(key.node.value)
        if not _ENV_NAME.fullmatch(name):
            raise key.error("a name without `=` and blanks")
        env[name] = node.text("a string")
    return env


def _workdir(value: _Value) -> str:
    text = value.text("an absolute path")
    if not text.startswith("/"):
        raise value.error("an absolute path")
    return _guest_path(value, text)


def _memory(value: _Value) -> int:
    expected = f"a size of at least {MEMORY_MIN >> 20}M, such as 256M or 1G"
    size = parse_size(value.text(expected))
    if size is None or size < MEMORY_MIN:
        raise value.error(expected)
    return size


def _cpus(value: _Value) -> int:
    expected = f"a number from 1 to {CPUS_MAX}"
    text = value.text(expected)
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= CPUS_MAX:
        raise value.error(expected)
    return int(text)


def _network(value: _Value) -> bool:
    text = value.text("user or none")
    if text not in ("user", "none"):
        raise value.error("user or none")
    return text == "user"


def _list(value: _Value) -> tuple[str, ...]:
    items = tuple(item.text("a list of strings") for item in value.items("a list of strings"))
    if not all(items):
        raise value.error("a list of strings, none of them empty")
    return items


def _packages(value: _Value) -> tuple[str, ...]:
    expected = "a list of Debian packages, NAME or NAME=VERSION"
    names = tuple(item.text(expected) for item in value.items(expected))
    for name, item in zip(names, value.items(expected), strict=True):
        if not _PACKAGE.fullmatch(name):
            raise item.error(expected)
    if not names:
        raise value.error(expected)
    return names


def _text(value: _Value) -> str:
    text = value.text()
    if not text:
        raise value.error("a string")
    return text


_READERS: dict[str, Callable[[_Value], Any]] = {
    "cmdline": _cmdline,
    "base": _text,
    "packages": _packages,
    "files": _files,
    "rootfs": _text,
    "build": _build,
    "env": _env,
    "workdir": _workdir,
    "memory": _memory,
    "cpus": _cpus,
    "ports": _list,
    "volumes": _list,
    "nolink": _list,
    "network": _network,
}
