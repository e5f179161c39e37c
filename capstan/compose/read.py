# SPDX-License-Identifier: BSD-2-Clause
"""Nodes to `Service` and `Network`: every key is honoured, warned about, or refused by name."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capstan.compose import copies, healthcheck, interpolate, merge, values
from capstan.compose.keys import NO_EFFECT, REFUSED, WARNED
from capstan.compose.model import (
    DEFAULT_NETWORK,
    Attachment,
    Build,
    Condition,
    Dependency,
    Network,
    Service,
)
from capstan.compose.tree import Node
from capstan.errors import UsageError
from capstan.run import lan

HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(slots=True)
class Context:
    """What reading needs to know, and what it finds to warn about."""

    folder: Path
    environ: Mapping[str, str]
    shared: Mapping[str, Mapping[str, Node]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, node: Node, text: str) -> None:
        """Note something that is asked for and not given."""
        self.warnings.append(f"{node.place}: {node.key}: {text}")


Reader = Callable[[Node, Context], dict[str, Any]]


def service(name: str, node: Node, context: Context) -> Service:
    """The service that `node` describes.

    Raises:
        UsageError: an unknown or refused key, or a value of the wrong kind.
    """
    if not HOST_NAME.fullmatch(name):
        raise node.complain(f"{name!r} cannot be a service: letters, digits, '.', '_' and '-'")
    given = node.pairs()
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key in _READERS:
            read = _READERS[key](value, context)
            read["mounts"] = (*found.get("mounts", ()), *read.get("mounts", ()))
            found.update(read)
        elif not _has_no_effect(key, value, context):
            raise _unknown(value, key)
    if not found.get("image") and not found.get("build"):
        raise node.complain("neither image nor build", hint="add `image: NAME` or `build: DIR`")
    found["health"] = healthcheck.read(given.get("healthcheck"), given.get("x-capstan-health"))
    found["environment"] = _environment(given, context)
    if found.get("outside", True) and "networks" not in found:
        found["networks"] = (Attachment(DEFAULT_NETWORK),)
    return _checked(Service(name=name, **found), node)


def _checked(made: Service, node: Node) -> Service:
    if made.health is not None and not made.networks:
        raise node.complain("a check needs a network", hint="leave out network_mode: none")
    if made.ports and not made.networks:
        raise node.complain("ports need a network", hint="leave out network_mode: none")
    if len(made.networks) > lan.MAX_LANS:
        raise node.complain(f"{len(made.networks)} networks: {lan.MAX_LANS} is the most")
    return made


def _has_no_effect(key: str, value: Node, context: Context) -> bool:
    """Whether `key` is known to change nothing here; what somebody may miss is warned about."""
    if key.startswith("x-") and not key.startswith("x-capstan"):
        return True
    if key in WARNED:
        is_off = value.value in (None, (), {}, "", "0", "root", "0:0", "false")
        if not is_off:
            context.warn(value, WARNED[key])
        return True
    if key in REFUSED:
        if value.value in (None, (), {}):
            return True
        raise value.complain("not supported", hint=REFUSED[key])
    return key in NO_EFFECT


def _unknown(node: Node, key: str) -> UsageError:
    known = [*_READERS, *WARNED, *NO_EFFECT]
    close = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]}?" if close else "docs/compose.md lists the keys"
    return node.complain("unknown key", hint=hint)


# --- one reader for each key -------------------------------------------------------------------


def _as(attribute: str, convert: Callable[[Node], object]) -> Reader:
    return lambda node, _context: {attribute: convert(node)}


def _text(node: Node) -> str:
    text = node.text()
    if not text:
        raise node.error("a string")
    return text


def _one_of(*words: str) -> Callable[[Node], str]:
    def read(node: Node) -> str:
        text = node.text(" or ".join(words))
        if text not in words:
            raise node.error(", ".join(words))
        return text

    return read


def _build(node: Node, context: Context) -> dict[str, Any]:
    if isinstance(node.value, str):
        return {"build": Build(_folder(node, context))}
    given = node.pairs("a directory or a mapping")
    known = {"context", "dockerfile", "args", "target"}
    ignored = {
        "labels",
        "tags",
        "pull",
        "cache_from",
        "cache_to",
        "no_cache",
        "network",
        "platforms",
    }
    for key, value in given.items():
        if key in ignored:
            context.warn(value, "not used")
        elif key not in known and not key.startswith("x-"):
            raise value.complain("not supported", hint=f"known keys: {', '.join(sorted(known))}")
    return {
        "build": Build(
            _folder(given["context"], context) if "context" in given else context.folder,
            _text(given["dockerfile"]) if "dockerfile" in given else None,
            values.variables(given["args"]) if "args" in given else {},
            _text(given["target"]) if "target" in given else None,
        )
    }


def _folder(node: Node, context: Context) -> Path:
    text = _text(node)
    if "://" in text or text.startswith("git@"):
        raise node.complain(f"{text} is not a directory", hint="clone it first")
    found = context.folder / Path(text).expanduser()
    if not found.is_dir():
        raise node.error(f"an existing directory, not {text}")
    return found


def _environment(given: dict[str, Node], context: Context) -> dict[str, str]:
    """env_file first, in order, then environment; names alone take the value of outside."""
    found: dict[str, str | None] = {}
    if "env_file" in given:
        for item in _env_files(given["env_file"]):
            found.update(_env_file(*item, context))
    if "environment" in given:
        found.update(values.variables(given["environment"]))
    taken = {k: context.environ.get(k) if v is None else v for k, v in found.items()}
    return {name: value for name, value in taken.items() if value is not None}


def _env_files(node: Node) -> list[tuple[Node, bool]]:
    if isinstance(node.value, str):
        return [(node, True)]
    files = []
    for item in node.items("a file or a list of files"):
        if not isinstance(item.value, dict):
            files.append((item, True))
            continue
        if "path" not in item.value or set(item.value) - {"path", "required", "format"}:
            raise item.error("path and required")
        required = item.value["required"].flag() if "required" in item.value else True
        files.append((item.value["path"], required))
    return files


def _env_file(node: Node, required: bool, context: Context) -> dict[str, str | None]:
    path = context.folder / _text(node)
    if not required and not path.exists():
        return {}
    try:
        return interpolate.parse_env(values.file_text(path, node), context.environ)
    except interpolate.BadText as err:
        raise UsageError(f"{path}: {err}") from err


def _networks(node: Node, _context: Context) -> dict[str, Any]:
    found = []
    for name, value in merge.as_set(node).pairs("a list or a mapping of networks").items():
        given = value.pairs()
        for key, sub in given.items():
            if key not in ("aliases", "ipv4_address", "priority", "gw_priority"):
                raise sub.complain("not supported", hint="aliases, ipv4_address")
        aliases = given["aliases"].texts() if "aliases" in given else ()
        for alias in aliases:
            if not HOST_NAME.fullmatch(alias):
                raise given["aliases"].complain(f"{alias!r} is not a host name")
        address = given["ipv4_address"].text() if "ipv4_address" in given else None
        found.append(Attachment(name, aliases, address))
    return {"networks": tuple(found)}


def _network_mode(node: Node, _context: Context) -> dict[str, Any]:
    text = node.text("none or bridge")
    if text == "none":
        return {"outside": False, "networks": ()}
    if text in ("bridge", "default"):
        return {}
    raise node.complain(f"{text}: not supported", hint="none, or leave it out and use `networks:`")


def _links(node: Node, _context: Context) -> dict[str, Any]:
    pairs = (text.partition(":") for text in node.texts())
    return {"links": tuple((name, alias or name) for name, _, alias in pairs)}


def _depends_on(node: Node, _context: Context) -> dict[str, Any]:
    found = []
    for name, value in merge.as_set(node).pairs("a list or a mapping of services").items():
        given = value.pairs()
        if wrong := set(given) - {"condition", "restart", "required"}:
            raise given[min(wrong)].complain("unknown key", hint="condition, restart, required")
        condition = Condition.STARTED
        if "condition" in given:
            condition = Condition(_one_of(*(c.value for c in Condition))(given["condition"]))
        restart = "restart" in given and given["restart"].flag()
        required = "required" not in given or given["required"].flag()
        found.append(Dependency(name, condition, restart, required))
    return {"depends_on": tuple(found)}


def _restart(node: Node) -> str:
    text = node.text("no, always, on-failure[:N] or unless-stopped")
    if text == "unless-stopped":
        return "always"
    if not re.fullmatch(r"no|false|always|on-failure(:\d{1,6})?", text):
        raise node.error("no, always, on-failure[:N] or unless-stopped")
    return "no" if text == "false" else text


def _cpus(node: Node, context: Context) -> dict[str, Any]:
    text = node.text("a number of CPUs")
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text):
        raise node.error("a number of CPUs")
    count = float(text)
    if count == 0:
        return {}
    if count > values.MAX_CPUS:
        raise node.error(f"a number of CPUs, {values.MAX_CPUS} at most")
    whole = math.ceil(count)
    if whole != count:
        context.warn(node, f"a machine has whole CPUs: {whole}")
    return {"cpus": whole}


def _deploy(node: Node, context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.pairs().items():
        if key == "resources":
            found.update(_resources(value, context))
        elif key == "restart_policy":
            found.update(_restart_policy(value, context))
        elif key == "replicas":
            _one(value, context)
        elif key == "mode":
            _one_of("replicated", "global")(value)
        elif key in ("labels", "placement", "update_config", "rollback_config", "endpoint_mode"):
            context.warn(value, "not used")
        elif not key.startswith("x-"):
            raise value.complain("unknown key")
    return found


def _resources(node: Node, context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {}
    given = node.pairs()
    if wrong := set(given) - {"limits", "reservations"}:
        raise given[min(wrong)].complain("unknown key", hint="limits")
    for key, value in (given["limits"].pairs() if "limits" in given else {}).items():
        if key == "memory":
            found["memory"] = values.size(value)
        elif key == "cpus":
            found.update(_cpus(value, context))
        else:
            context.warn(value, "not limited")
    if "reservations" in given:
        context.warn(given["reservations"], "a machine has what its limits say")
    return found


def _restart_policy(node: Node, context: Context) -> dict[str, Any]:
    given = node.pairs()
    condition = "any"
    if "condition" in given:
        condition = _one_of("none", "on-failure", "any")(given["condition"])
    attempts = ""
    if "max_attempts" in given and condition == "on-failure":
        attempts = f":{values.number(given['max_attempts'], 0, 100_000)}"
    for key in ("delay", "window"):
        if key in given:
            context.warn(given[key], "not used")
    return {"restart": {"none": "no", "any": "always"}.get(condition, condition + attempts)}


def _one(node: Node, _context: Context) -> dict[str, Any]:
    if node.text("1") != "1":
        raise node.complain("one instance of each service, in this version", hint="1")
    return {}


def _extra_hosts(node: Node) -> tuple[str, ...]:
    found: list[str] = []
    for name, value in merge.by_name(node).pairs("a mapping, or a list of NAME:ADDRESS").items():
        addresses = value.texts("an address")
        # host-gateway: what user-mode networking calls the host
        found += [f"{name}={'10.0.2.2' if a == 'host-gateway' else a}" for a in addresses]
        try:
            lan.parse_hosts(tuple(found))
        except UsageError as err:
            raise value.error("NAME:ADDRESS") from err
    return tuple(found)


def _labels(node: Node) -> dict[str, str]:
    found = merge.by_name(node).pairs("a mapping, or a list of NAME=VALUE")
    return {name: "" if value.value is None else value.text() for name, value in found.items()}


def _host_name(node: Node) -> str:
    text = node.text("a host name")
    if not HOST_NAME.fullmatch(text):
        raise node.error("a host name: letters, digits, '.', '_' and '-'")
    return text


def _addresses(node: Node) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_address(text)) for text in node.texts("an address"))
    except ValueError as err:
        raise node.error("an IP address") from err


def _platform(node: Node, _context: Context) -> dict[str, Any]:
    if not re.fullmatch(r"linux(/amd64.*|/x86_64)?", node.text()):
        raise node.complain("not supported", hint="linux/amd64")
    return {}


def _nothing(_node: Node, _context: Context) -> dict[str, Any]:
    return {}


_READERS: dict[str, Reader] = {
    "image": _as("image", _text),
    "build": _build,
    "command": _as("command", values.command),
    "entrypoint": _as("entrypoint", values.command),
    "environment": _nothing,  # with env_file
    "env_file": _nothing,
    "working_dir": _as("workdir", _text),
    "ports": _as("ports", values.ports),
    "networks": _networks,
    "network_mode": _network_mode,
    "links": _links,
    "dns": _as("dns", _addresses),
    "extra_hosts": _as("extra_hosts", _extra_hosts),
    "hostname": _as("hostname", _host_name),
    "container_name": _as("container_name", _host_name),
    "depends_on": _depends_on,
    "healthcheck": _nothing,  # together
    "x-capstan-health": _nothing,
    "restart": _as("restart", _restart),
    "mem_limit": _as("memory", values.size),
    "cpus": _cpus,
    "cpu_count": _cpus,
    "deploy": _deploy,
    "scale": _one,
    "stop_grace_period": _as("stop_grace", values.seconds),
    "labels": _as("labels", _labels),
    "profiles": _as("profiles", lambda node: node.texts()),
    "pull_policy": _as(
        "pull_policy",
        _one_of("missing", "if_not_present", "always", "never", "build"),
    ),
    "platform": _platform,
    "volumes": copies.volumes,
    "configs": copies.configs,
    "secrets": copies.secrets,
    "extends": _nothing,  # resolved before
}


def network(name: str, node: Node, context: Context) -> Network:
    """The network that `node` describes."""
    internal, subnet = False, None
    for key, value in node.pairs().items():
        if key == "internal":
            internal = value.flag()
        elif key == "ipam":
            subnet = _subnet(value)
        elif key == "external":
            if value.value != "false":
                raise value.complain("networks belong to one project", hint="leave it out")
        elif key == "driver":
            _one_of("bridge", "default")(value)
        elif key in ("driver_opts", "enable_ipv6", "enable_ipv4", "attachable", "labels", "name"):
            if key != "name":
                context.warn(value, "not used")
        elif not key.startswith("x-"):
            raise value.complain("unknown key")
    return Network(name, internal, subnet)


def _subnet(node: Node) -> str | None:
    given = node.pairs()
    if "config" not in given:
        return None
    entries = given["config"].items()
    if len(entries) != 1 or "subnet" not in entries[0].pairs():
        raise given["config"].error("one entry with a subnet")
    value = entries[0].pairs()["subnet"]
    try:
        found = ipaddress.IPv4Network(value.text("a subnet"))
    except ValueError as err:
        raise value.error("an IPv4 subnet such as 10.5.0.0/24") from err
    if not 8 <= found.prefixlen <= 28 or found.overlaps(ipaddress.IPv4Network("10.0.2.0/24")):
        raise value.error("a subnet from /8 to /28 that is not in 10.0.2.0/24")
    return str(found)
