# SPDX-License-Identifier: BSD-2-Clause
"""What a Compose file says, checked: plain values that nothing downstream looks at twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

DEFAULT_NETWORK = "default"


class Condition(Enum):
    """What a service waits for in one it depends on."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class Probe(Enum):
    """How a service is asked whether it is ready."""

    TCP = "tcp"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Health:
    """A check from the host: a connection is accepted, or a page answers with 200 to 399."""

    probe: Probe
    port: int
    path: str = "/"
    interval: float = 5.0
    timeout: float = 5.0
    retries: int = 12
    start_period: float = 0.0
    start_interval: float = 0.25


@dataclass(frozen=True, slots=True)
class Dependency:
    """One entry of `depends_on`."""

    service: str
    condition: Condition = Condition.STARTED
    restart: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True)
class Build:
    """What to make the image from: a directory with a Capstanfile or a Dockerfile."""

    context: Path
    file: str | None = None
    args: dict[str, str | None] = field(default_factory=dict)
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A published port; `host` is empty (any free one), a number or a range."""

    guest: str
    host: str = ""
    address: str = ""
    protocol: str = "tcp"

    def __str__(self) -> str:
        """As for `capstan run -p`; 0 stands for any free port."""
        address = f"{self.address}:" if self.address else ""
        return f"{address}{self.host or '0'}:{self.guest}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the host, or a text, that is copied into the machine's image."""

    source: Path | None
    target: str
    content: str = ""
    variable: str = ""  # where a text came from, if not from the file


@dataclass(frozen=True, slots=True)
class Attachment:
    """A service's place in one network."""

    network: str
    aliases: tuple[str, ...] = ()
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One service."""

    name: str
    image: str | None = None
    build: Build | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str | None = None
    ports: tuple[Port, ...] = ()
    mounts: tuple[Mount, ...] = ()
    networks: tuple[Attachment, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    outside: bool = True
    dns: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    hostname: str | None = None
    container_name: str | None = None
    depends_on: tuple[Dependency, ...] = ()
    health: Health | None = None
    restart: str = "no"
    memory: int | None = None
    cpus: int | None = None
    stop_grace: float = 10.0
    labels: dict[str, str] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    pull_policy: str = "missing"


@dataclass(frozen=True, slots=True)
class Network:
    """One private network; an internal one has no way outside."""

    name: str
    internal: bool = False
    subnet: str | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """All of it.

    `warnings` name what the file asks for and this version does not give; `inactive` are the
    services of profiles that are not wanted.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    services: dict[str, Service]
    networks: dict[str, Network]
    volumes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    inactive: tuple[str, ...] = ()
