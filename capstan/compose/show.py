# SPDX-License-Identifier: BSD-2-Clause
"""A project as text in the Compose format: what `capstan compose config` prints."""

from __future__ import annotations

import json

from capstan.compose import health
from capstan.compose.model import Network, Project, Service


def text(project: Project, layout: str) -> str:
    """YAML, or JSON; reading it again gives the same services."""
    value: dict[str, object] = {
        "name": project.name,
        "services": {name: _service(s) for name, s in project.services.items()},
        "networks": {name: _network(n) for name, n in project.networks.items()},
    }
    texts = {
        f"{service.name}-{number}": (
            {"environment": mount.variable}
            if mount.variable
            else {"content": _dollars(mount.content)}
        )
        for service in project.services.values()
        for number, mount in enumerate(service.mounts)
        if mount.source is None
    }
    if texts:
        value["configs"] = texts
    if project.volumes:
        value["volumes"] = dict.fromkeys(project.volumes)
    if layout == "json":
        return json.dumps(value, indent=2)
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, default_flow_style=False)).rstrip()


def _dollars(value: object) -> object:
    """`$` written so that it is one when the text is read again."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _dollars(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_dollars(item) for item in value]
    return value


def _service(service: Service) -> object:
    found: dict[str, object] = {
        "image": service.image,
        "build": _build(service),
        "command": list(service.command) if service.command is not None else None,
        "entrypoint": list(service.entrypoint) if service.entrypoint is not None else None,
        "environment": dict(service.environment),
        "working_dir": service.workdir,
        "ports": [_port(port) for port in service.ports],
        "volumes": [f"{m.source.resolve()}:{m.target}:ro" for m in service.mounts if m.source],
        "configs": [
            {"source": f"{service.name}-{n}", "target": m.target}
            for n, m in enumerate(service.mounts)
            if m.source is None
        ],
        "links": [f"{name}:{alias}" for name, alias in service.links],
        "dns": list(service.dns),
        "extra_hosts": list(service.extra_hosts),
        "hostname": service.hostname,
        "container_name": service.container_name,
        "depends_on": {
            d.service: {
                "condition": d.condition.value,
                "restart": d.restart,
                "required": d.required,
            }
            for d in service.depends_on
        },
        "x-capstan-health": _health(service),
        "restart": service.restart if service.restart != "no" else None,
        "mem_limit": f"{service.memory}" if service.memory is not None else None,
        "cpus": f"{service.cpus}" if service.cpus is not None else None,
        "stop_grace_period": f"{service.stop_grace:g}s" if service.stop_grace != 10.0 else None,
        "labels": dict(service.labels),
        "profiles": list(service.profiles),
        "pull_policy": service.pull_policy if service.pull_policy != "missing" else None,
        "network_mode": None if service.networks else "none",
        "networks": {
            a.network: {
                key: item
                for key, item in (("aliases", list(a.aliases)), ("ipv4_address", a.address))
                if item
            }
            for a in service.networks
        },
    }
    kept = {key: item for key, item in found.items() if item not in (None, [], {})}
    if service.command == ():
        kept["command"] = []
    return _dollars(kept)


def _build(service: Service) -> object:
    if service.build is None:
        return None
    given = {
        "context": str(service.build.context.resolve()),
        "dockerfile": service.build.file,
        "args": dict(service.build.args) or None,
        "target": service.build.target,
    }
    return {key: item for key, item in given.items() if item is not None}


def _port(port: object) -> str:
    return str(port).replace("0:", "", 1) if str(port).startswith("0:") else str(port)


def _health(service: Service) -> object:
    check = service.health
    if check is None:
        return None
    return {
        "test": health.describe(check),
        "interval": f"{check.interval:g}s",
        "timeout": f"{check.timeout:g}s",
        "retries": f"{check.retries}",
        "start_period": f"{check.start_period:g}s",
        "start_interval": f"{check.start_interval:g}s",
    }


def _network(network: Network) -> object:
    found: dict[str, object] = {}
    if network.internal:
        found["internal"] = True
    if network.subnet is not None:
        found["ipam"] = {"config": [{"subnet": network.subnet}]}
    return found
