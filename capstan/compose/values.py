# SPDX-License-Identifier: BSD-2-Clause
"""Single values of a Compose file: sizes, times, ports, command lines."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from capstan.compose.model import Port
from capstan.compose.tree import Node
from capstan.errors import UsageError
from capstan.run import net

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|k|kb|m|mb|g|gb|ki|mi|gi|kib|mib|gib)?", re.IGNORECASE)
_SHIFTS = {"b": 0, "k": 10, "m": 20, "g": 30}
_TIME = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?(?:(\d+)us)?")
MIN_MEMORY = 4 << 20
MAX_CPUS = 8


def size(node: Node) -> int:
    """Bytes: `512m`, `1gb`; a bare number counts bytes."""
    expected = "a size such as 512m or 1gb, at least 4m"
    found = _SIZE.fullmatch(node.text(expected).strip())
    if not found:
        raise node.error(expected)
    count = int(float(found[1]) * (1 << _SHIFTS[(found[2] or "b")[0].lower()]))
    if count < MIN_MEMORY:
        raise node.error(expected)
    return count


def seconds(node: Node) -> float:
    """A time: `1m30s`, `500ms`; a bare number counts seconds."""
    text = node.text("a time such as 1m30s").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    found = _TIME.fullmatch(text)
    if not found or not text:
        raise node.error("a time such as 1m30s or 500ms")
    hours, minutes, secs, millis, micros = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + secs + millis / 1000 + micros / 1e6


def number(node: Node, lowest: int, highest: int) -> int:
    """A whole number within bounds."""
    expected = f"a number from {lowest} to {highest}"
    text = node.text(expected)
    if not re.fullmatch(r"\d{1,9}", text) or not lowest <= int(text) <= highest:
        raise node.error(expected)
    return int(text)


def command(node: Node) -> tuple[str, ...] | None:
    """A command line as a list, or as text that is split as a shell splits words."""
    if node.value is None:
        return None
    expected = "a command line or a list of strings"
    if isinstance(node.value, tuple):
        return node.texts(expected)
    try:
        return tuple(shlex.split(node.text(expected)))
    except ValueError as err:
        raise node.error(f"a command line with matching quotes ({err})") from err


def variables(node: Node) -> dict[str, str | None]:
    """NAME: VALUE, or a list of NAME=VALUE; None: the name alone."""
    found: dict[str, str | None] = {}
    if isinstance(node.value, tuple):
        for item in node.value:
            name, equals, value = item.text("NAME=VALUE").partition("=")
            _check_name(item, name)
            found[name] = value if equals else None
        return found
    for name, given in node.pairs("a mapping, or a list of NAME=VALUE").items():
        _check_name(given, name)
        found[name] = None if given.value is None else given.text()
    return found


def _check_name(node: Node, name: str) -> None:
    if not name or "=" in name or any(c.isspace() for c in name):
        raise node.error("NAME=VALUE")


def ports(node: Node) -> tuple[Port, ...]:
    """The published ports, in the short or the long form."""
    return tuple(_port(item) for item in node.items("a list of ports"))


def _port(node: Node) -> Port:
    port = _long_port(node) if isinstance(node.value, dict) else _short_port(node)
    text = f"{port.address or '0.0.0.0'}:{port.host or port.guest}:{port.guest}/{port.protocol}"
    try:
        net.parse_publish(text)
    except UsageError as err:
        raise node.complain(err.message, hint=err.hint) from err
    return port


def _short_port(node: Node) -> Port:
    text = node.text("a port such as 8080:80")
    rest, slash, protocol = text.partition("/")
    address, _, tail = rest.rpartition(":")
    if not address:
        return Port(tail, protocol=protocol if slash else "tcp")
    first, colon, host = address.rpartition(":")
    if not colon:
        return Port(tail, host=address, protocol=protocol if slash else "tcp")
    return Port(tail, host=host, address=first, protocol=protocol if slash else "tcp")


def _long_port(node: Node) -> Port:
    known = {"target", "published", "host_ip", "protocol", "mode", "name", "app_protocol"}
    given = node.pairs()
    for name, value in given.items():
        if name not in known:
            raise value.complain("unknown key", hint=f"known keys: {', '.join(sorted(known))}")
    if "target" not in given:
        raise node.complain("the key target is missing")
    texts = {name: value.text() for name, value in given.items()}
    return Port(
        texts["target"],
        texts.get("published", ""),
        texts.get("host_ip", ""),
        texts.get("protocol", "tcp"),
    )


def file_text(path: Path, node: Node) -> str:
    """The text of a file that `node` names."""
    try:
        return path.read_text(errors="surrogateescape")
    except OSError as err:
        raise node.complain(f"{path}: {err.strerror}") from err
