# SPDX-License-Identifier: BSD-2-Clause
"""`healthcheck` and `x-capstan-health`: how a service is asked from the host.

A machine has one program; a command cannot be run beside it. The commands people use for asking
a port (`curl -f http://localhost/...`, `wget`, `nc -z`) are understood as what they ask; for
others the error names what to write instead.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from urllib.parse import urlsplit

from capstan.compose import values
from capstan.compose.model import Health, Probe
from capstan.compose.tree import Node

LOCAL = ("localhost", "127.0.0.1", "0.0.0.0", "[::1]", "::1", "")
WRITE = "x-capstan-health: tcp://:PORT or http://:PORT/PATH"
# A command that asks a well-known server, and the check that does the same.
INSTEAD = {
    "redis-cli": "tcp://:6379",
    "valkey-cli": "tcp://:6379",
    "pg_isready": "tcp://:5432",
    "mysqladmin": "tcp://:3306",
    "mariadb-admin": "tcp://:3306",
    "mongosh": "tcp://:27017",
    "rabbitmq-diagnostics": "tcp://:5672",
    "mosquitto_sub": "tcp://:1883",
    "kafka-topics.sh": "tcp://:9092",
}
TIMES = {"interval", "timeout", "retries", "start_period", "start_interval"}


def read(check: Node | None, own: Node | None) -> Health | None:
    """The check that `healthcheck` and `x-capstan-health` ask for, None for none."""
    given = check.pairs() if check is not None else {}
    if check is not None:
        for name, node in given.items():
            if name not in TIMES | {"test", "disable"} and not name.startswith("x-"):
                raise node.complain("unknown key", hint="test, interval, timeout, retries, ...")
    if "disable" in given and given["disable"].flag():
        return None
    times = {name: node for name, node in given.items() if name in TIMES}
    if own is not None:
        return _own(own, times)
    if "test" not in given:
        if check is not None and times:
            raise check.complain("a check without a test", hint=WRITE)
        return None
    found = _test(given["test"])
    return None if found is None else _with_times(*found, times)


def _own(node: Node, times: dict[str, Node]) -> Health | None:
    if isinstance(node.value, dict):
        known = TIMES | {"test"}
        for name, value in node.value.items():
            if name not in known:
                raise value.complain("unknown key", hint=f"known keys: {', '.join(sorted(known))}")
        if "test" not in node.value:
            raise node.complain("the key test is missing", hint=WRITE)
        times = {**times, **{k: v for k, v in node.value.items() if k in TIMES}}
        node = node.value["test"]
    text = node.text("tcp://:PORT or http://:PORT/PATH")
    if text == "none":
        return None
    return _with_times(*_url(node, text), times)


def _with_times(probe: Probe, port: int, path: str, times: dict[str, Node]) -> Health:
    found: dict[str, float] = {}
    for name in ("interval", "timeout", "start_period", "start_interval"):
        if name in times:
            found[name] = values.seconds(times[name])
    if found.get("interval") == 0 or found.get("timeout") == 0:
        found = {k: v for k, v in found.items() if v or k.startswith("start")}  # 0: the default
    health = dataclasses.replace(Health(probe, port, path), **found)  # type: ignore[arg-type]
    if "retries" not in times:
        return health
    return dataclasses.replace(health, retries=values.number(times["retries"], 1, 100_000))


def _url(node: Node, text: str) -> tuple[Probe, int, str]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as err:
        raise node.error("tcp://:PORT or http://:PORT/PATH") from err
    if parts.scheme not in ("tcp", "http") or (parts.hostname or "") not in LOCAL:
        raise node.complain(f"{text!r} is not tcp://:PORT or http://:PORT/PATH", hint=WRITE)
    if parts.scheme == "tcp":
        if port is None or parts.path not in ("", "/"):
            raise node.complain(f"{text!r} is not tcp://:PORT", hint="tcp://:6379")
        return Probe.TCP, port, "/"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not re.fullmatch(r"[!-~]+", path):
        raise node.complain(f"{path!r} cannot be asked for", hint="write it %-encoded")
    return Probe.HTTP, port or 80, path


def _test(node: Node) -> tuple[Probe, int, str] | None:
    words = _words(node)
    if words in ([], ["NONE"]):
        return None
    program = words[0].rsplit("/", 1)[-1]
    found = None
    if program in ("curl", "wget"):
        found = _web(node, words)
    elif program in ("nc", "ncat") and any(w.startswith("-") and "z" in w for w in words):
        found = _knock(words)
    if found is not None:
        return found
    instead = INSTEAD.get(program)
    raise node.complain(
        f"{program} cannot be run beside the program of a machine",
        hint=f"add `x-capstan-health: {instead}`" if instead else f"add `{WRITE}`",
    )


def _words(node: Node) -> list[str]:
    if node.value is None:
        return []
    if isinstance(node.value, tuple):
        kind, *words = node.texts() or ("NONE",)
        if kind == "NONE":
            return []
        if kind == "CMD" and words:
            return words
        if kind != "CMD-SHELL" or len(words) != 1:
            raise node.error('["CMD", PROGRAM, ...], ["CMD-SHELL", LINE] or ["NONE"]')
        line = words[0]
    else:
        line = node.text("a command")
    # `curl ... || exit 1` is what people write.
    line = re.sub(r"(\s*>\s*/dev/null)?(\s*2>&1)?\s*(\|\|\s*exit\s+1)?\s*$", "", line)
    try:
        return shlex.split(line)
    except ValueError as err:
        raise node.error(f"a command line with matching quotes ({err})") from err


def _web(node: Node, words: list[str]) -> tuple[Probe, int, str] | None:
    urls = [word for word in words[1:] if word.startswith("http://")]
    options_with_data = {"-d", "--data", "-X", "--request", "-H", "--header", "-u", "--user"}
    if len(urls) != 1 or options_with_data & set(words) or set(words) & {"|", "&&", ";"}:
        return None
    return _url(node, urls[0])


def _knock(words: list[str]) -> tuple[Probe, int, str] | None:
    plain = [word for word in words[1:] if not word.startswith("-")]
    if len(plain) == 2 and plain[0] in LOCAL and plain[1].isdigit():
        return Probe.TCP, int(plain[1]), "/"
    return None
