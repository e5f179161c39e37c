# SPDX-License-Identifier: BSD-2-Clause
"""From an image's configuration (OCI image specification, "Image Configuration") to a `RunConfig`.

The command line is Entrypoint and Cmd; arguments of `capstan run` replace what Cmd gave, as with
other tools.
"""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from capstan.build.rootfs import Tree
from capstan.build.sources.streams import Damaged
from capstan.build.sources.users import find_user, tables_of_tree
from capstan.manifest import DEFAULT_PATH, RunConfig

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp))?")
_REAL_TIME = re.compile(r"(SIG)?RTM(IN|AX)([+-][0-9]+)?", re.IGNORECASE)
_ENV_NAME = re.compile(r"[^=\0]+")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about its program, as it is written there."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"
    user: str = ""
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()  # what no machine of ours can do

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> ImageConfig:
        """The `config` of an image's configuration document.

        Raises:
            Damaged: a value of the wrong kind.
        """
        raw = document.get("config") or {}
        if not isinstance(raw, dict):
            raise Damaged("config is no JSON object")
        signal_text, ports = _string(raw, "StopSignal"), _keys(raw, "ExposedPorts")
        ignored = [f"StopSignal {signal_text}"] if _REAL_TIME.fullmatch(signal_text) else []
        known = [port for port in ports if not port.endswith("/sctp")]
        ignored += [f"ExposedPorts {port[:40]}" for port in ports if port.endswith("/sctp")]
        return cls(
            entrypoint=_strings(raw, "Entrypoint"),
            cmd=_strings(raw, "Cmd"),
            env=_env(_strings(raw, "Env")),
            workdir=_workdir(_string(raw, "WorkingDir")),
            user=_string(raw, "User"),
            ports=tuple(sorted(map(_port, known), key=_port_order)),
            volumes=tuple(sorted(_keys(raw, "Volumes"))),
            stop_signal="" if _REAL_TIME.fullmatch(signal_text) else signal_name(signal_text),
            labels=tuple(sorted(_mapping(raw, "Labels").items())),
            ignored=tuple(ignored),
        )

    def run_config(self, tree: Tree, args: tuple[str, ...] = ()) -> RunConfig:
        """How the program is started; users are looked up in `tree`, `args` replace Cmd."""
        env = {"PATH": DEFAULT_PATH, **dict(self.env)}
        ids: tuple[int, ...] = ()
        if self.user:
            user = find_user(self.user, *tables_of_tree(tree))
            ids = user.ids
            env.setdefault("HOME", user.home)
        return RunConfig(
            argv=(*self.entrypoint, *(args or self.cmd)),
            fixed=len(self.entrypoint),
            env=env,
            workdir=self.workdir,
            ports=self.ports,
            volumes=self.volumes,
            user=self.user,
            ids=ids,
            stop_signal=self.stop_signal,
            labels=dict(self.labels),
        )


# --- values ------------------------------------------------------------------------------------


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise Damaged(f"config.{key}: not a string, or one with NUL bytes or surrogates")
    return value


def _string(raw: Mapping[str, Any], key: str) -> str:
    return _text(raw.get(key) or "", key)


def _strings(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = raw.get(key)
    if value is not None and not isinstance(value, list):
        raise Damaged(f"config.{key}: not a list")
    return tuple(_text(item, key) for item in value or ())


def _mapping(raw: Mapping[str, Any], key: str) -> dict[str, str]:
    value = raw.get(key) or {}
    if not isinstance(value, dict):
        raise Damaged(f"config.{key}: not a JSON object")
    return {_text(name, key): _text(text, key) for name, text in value.items()}


def _keys(raw: Mapping[str, Any], key: str) -> list[str]:
    value = raw.get(key) or {}
    if not isinstance(value, dict):
        raise Damaged(f"config.{key}: not a JSON object")
    return [_text(name, key) for name in value]


def _env(entries: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not _ENV_NAME.fullmatch(name):
            raise Damaged(f"config.Env: {entry[:80]!r} is not NAME=VALUE")
        pairs.append((name, value))
    return tuple(pairs)


def _workdir(text: str) -> str:
    return posixpath.normpath("/" + text.lstrip("/"))


def _port(text: str) -> str:
    """A port as `capstan run -p` takes it."""
    found = _PORT.fullmatch(text)
    numbers = [int(n) for n in found.groups()[:2] if n] if found is not None else []
    if found is None or not all(1 <= n <= 65535 for n in numbers):
        raise Damaged(f"config.ExposedPorts: {text[:40]!r} is not PORT/tcp or PORT/udp")
    return "-".join(map(str, numbers)) + ("/udp" if found[3] == "udp" else "")


def _port_order(text: str) -> tuple[int, str]:
    return int(re.split("[-/]", text)[0]), text


def signal_name(text: str) -> str:
    """The name of a signal given as SIGTERM, TERM or 15; nothing for nothing.

    Raises:
        Damaged: there is no such signal.
    """
    if not text:
        return ""
    try:
        if text.isascii() and text.isdigit():
            return signal.Signals(int(text)).name
        name = text.upper()
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"].name
    except (ValueError, KeyError) as err:
        raise Damaged(f"config.StopSignal: {text[:40]!r} is no signal") from err
