# SPDX-License-Identifier: BSD-2-Clause
"""From a service to the run it asks for: addresses, names, labels. Pure functions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from capstan.compose import health
from capstan.compose.model import Project, Service
from capstan.compose.state import State
from capstan.errors import UsageError
from capstan.run.lan import Lan, card_address
from capstan.run.net import NetOptions
from capstan.run.spec import RunOptions

PROJECT = "capstan.project"
SERVICE = "capstan.service"
CONFIG_HASH = "capstan.config-hash"
HOSTS = "capstan.hosts"
FILES = "capstan.config-files"
DEPENDS_ON = "capstan.depends-on"
HEALTH = "capstan.health"
# What does not change the machine itself.
NOT_HASHED = ("depends_on", "health", "profiles", "pull_policy", "build", "links")


def instance_name(project: str, service: Service) -> str:
    """The name of a service's instance."""
    return service.container_name or f"{project}-{service.name}-1"


def options(
    project: Project, service: Service, state: State, publish: tuple[str, ...]
) -> RunOptions:
    """The run; `publish` are the ports with numbers of the host.

    Raises:
        UsageError: ports of a service without a way outside.
    """
    nets = [state.networks[a.network] for a in service.networks]
    outside = any(not net.internal for net in nets)
    if publish and not outside:
        raise UsageError(
            f"service {service.name}: no port can be published from an internal network",
            hint="add a network that is not internal",
        )
    command = service.command or ()
    entrypoint = service.entrypoint or ()
    return RunOptions(
        args=(*entrypoint[1:], *command),
        entrypoint=entrypoint[0] if entrypoint else None,
        env=tuple(f"{name}={value}" for name, value in service.environment.items()),
        workdir=service.workdir,
        memory=service.memory,
        cpus=service.cpus,
        name=service.hostname or service.name,
        grace=service.stop_grace,
        net=NetOptions(
            net="user" if outside else "none",
            publish=publish,
            dns=service.dns if outside else (),
        ),
        lans=tuple(
            Lan(net.segment, net.ip(service.name), card_address(net.ip(service.name)))
            for net in nets
        ),
        hosts=hosts(project, service, state) + service.extra_hosts,
    )


def hosts(project: Project, service: Service, state: State) -> tuple[str, ...]:
    """NAME=ADDRESS for each service it shares a network with, itself included."""
    found: dict[str, str] = {}
    shown = [a.network for a in service.networks]
    for network in shown:
        for other in project.services.values():
            for attached in other.networks:
                if attached.network == network:
                    address = state.networks[network].members[other.name]
                    for name in (other.name, *attached.aliases, *_own_names(project, other)):
                        found.setdefault(name, address)
    for target, alias in service.links:
        if target in found:
            found[alias] = found[target]
    return tuple(f"{name}={address}" for name, address in found.items())


def _own_names(project: Project, service: Service) -> Iterator[str]:
    yield instance_name(project.name, service)
    if service.hostname is not None:
        yield service.hostname


def labels(project: Project, service: Service, state: State, digest: str) -> dict[str, str]:
    """What marks the instance of a service as its own; the user's labels too."""
    needs = {d.service: d.condition.value for d in service.depends_on}
    marks = {
        PROJECT: project.name,
        SERVICE: service.name,
        CONFIG_HASH: config_hash(service, state, digest),
        HOSTS: short_hash(hosts(project, service, state)),
        FILES: ",".join(str(path.absolute()) for path in project.files),
        DEPENDS_ON: ",".join(f"{name}:{condition}" for name, condition in needs.items()),
    }
    if service.health is not None:
        marks[HEALTH] = health.describe(service.health)
    return {**service.labels, **marks}


def config_hash(service: Service, state: State, digest: str) -> str:
    """What a service is, as a number: another one, another machine.

    The names of the other services are left out: adding one does not end those that are there.
    """
    own = {f.name: getattr(service, f.name) for f in dataclasses.fields(service)}
    kept = {name: value for name, value in own.items() if name not in NOT_HASHED}
    nets = [
        (a.network, state.networks[a.network].ip(service.name), state.networks[a.network].segment)
        for a in service.networks
    ]
    inside = any(not state.networks[a.network].internal for a in service.networks)
    return short_hash((kept, nets, inside, digest))


def short_hash(value: object) -> str:
    """A number for `value` that is the same in each process."""
    text = json.dumps(value, default=_plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    return repr(value)


def image_name(project: str, service: Service) -> str:
    """The name of the image that a service's `build:` makes or its `image:` names."""
    return service.image or f"{project}-{service.name}"
