# SPDX-License-Identifier: BSD-2-Clause
"""What is kept of a project between commands: its networks and who has which address there.

    compose/PROJECT/state.json     in the store's directory; gone when the project is down

The directory is its own lock: who holds it works on the project. The instances are marked with
labels, so a project whose directory is lost can still be stopped and removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import ipaddress
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capstan import fs
from capstan.compose.model import Network, Project
from capstan.errors import MachineError, UsageError
from capstan.run import lan
from capstan.run.lan import Segment

FILE = "state.json"
VERSION = 1
POOL = ipaddress.IPv4Network("10.89.0.0/16")
LOCK_DEADLINE = 600.0
LOCK_STEP = 0.05
LOCK_PATIENCE = 1.0  # then the user is told


@dataclass(frozen=True, slots=True)
class Net:
    """A network of a project as it is; `members`: the addresses of the services in it."""

    segment: Segment
    subnet: str
    internal: bool = False
    members: dict[str, str] = field(default_factory=dict)

    def ip(self, service: str) -> str:
        """ADDRESS/BITS of a service."""
        return f"{self.members[service]}/{ipaddress.IPv4Network(self.subnet).prefixlen}"


@dataclass(frozen=True, slots=True)
class State:
    """A project as it is."""

    networks: dict[str, Net] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The file."""
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)}, indent=1).encode()


def from_json(data: bytes, where: Path) -> State:
    """The state in `data`.

    Raises:
        MachineError: damaged, or of a newer version.
    """
    try:
        raw: Any = json.loads(data)
        if raw["version"] != VERSION:
            raise ValueError(f"version {raw['version']}")
        return State(
            {
                str(name): Net(
                    Segment(str(net["segment"]["group"]), int(net["segment"]["port"])),
                    str(ipaddress.IPv4Network(net["subnet"])),
                    bool(net["internal"]),
                    {str(k): str(ipaddress.IPv4Address(v)) for k, v in net["members"].items()},
                )
                for name, net in raw["networks"].items()
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise MachineError(
            f"{where}: damaged ({err})", hint="`capstan compose down`, then `up` again"
        ) from err


class Keeper:
    """The directory of one project; use it inside `locked`."""

    def __init__(
        self, root: Path, project: str, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self._say = say
        self.all = root / "compose"
        self.path = self.all / project

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off everybody else who works on this project.

        Raises:
            MachineError: somebody does, and does not come to an end.
        """
        begin = time.monotonic()
        has_said = False
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                if self._try(fd):
                    break
                os.close(fd)
            waited = time.monotonic() - begin
            if waited > LOCK_PATIENCE and not has_said:
                has_said = True
                self._say(f"{self.path.name}: waits for another `capstan compose`")
            if waited > LOCK_DEADLINE:
                raise MachineError(
                    f"{self.path.name}: another `capstan compose` works on this project",
                    hint=f"`fuser -v {self.path}` shows it",
                )
            time.sleep(LOCK_STEP)
        try:
            yield
        finally:
            if not (self.path / FILE).exists():
                with contextlib.suppress(OSError):
                    self.path.rmdir()
            os.close(fd)

    def _try(self, fd: int) -> bool:
        """Whether the lock is ours; the directory may have been removed while we waited."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.fstat(fd).st_ino == self.path.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            return False

    def load(self) -> State:
        """What was saved last; nothing: an empty one.

        Raises:
            MachineError: it is damaged.
        """
        try:
            return from_json((self.path / FILE).read_bytes(), self.path / FILE)
        except FileNotFoundError:
            return State()

    def save(self, state: State) -> None:
        """Keep `state`."""
        fs.atomic_write(self.path / FILE, state.to_json())

    def forget(self) -> None:
        """Remove what is kept; the directory goes at the end of `locked`."""
        for path in self.path.glob(f"{fs.TEMP_PREFIX}*"):  # of a killed writer
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        (self.path / FILE).unlink(missing_ok=True)

    def taken(self) -> set[Segment]:
        """The segments of all projects of this store."""
        found: set[Segment] = set()
        for path in self.all.glob(f"*/{FILE}"):
            with contextlib.suppress(MachineError, OSError):
                nets = from_json(path.read_bytes(), path).networks.values()
                found.update(net.segment for net in nets)
        return found


def allocate(project: Project, old: State, segments: Iterator[Segment]) -> State:
    """The state that `project` needs: what `old` has stays; `segments` gives new ones.

    Raises:
        UsageError: a fixed address that cannot be had, or a network that is full.
    """
    wanted: dict[str, dict[str, str | None]] = {}
    for service in project.services.values():
        for attached in service.networks:
            wanted.setdefault(attached.network, {})[service.name] = attached.address
    nets: dict[str, Net] = {}
    for name, services in wanted.items():
        before = old.networks.get(name)
        subnet = _subnet(project.networks[name], before, nets, old)
        kept = before.members if before is not None and before.subnet == subnet else {}
        segment = before.segment if before is not None else next(segments)
        members = _members(name, ipaddress.IPv4Network(subnet), services, kept)
        nets[name] = Net(segment, subnet, project.networks[name].internal, members)
    return State(nets)


def _subnet(network: Network, before: Net | None, nets: Mapping[str, Net], old: State) -> str:
    taken = [ipaddress.IPv4Network(n.subnet) for n in (*nets.values(), *old.networks.values())]
    if network.subnet is not None:
        given = ipaddress.IPv4Network(network.subnet)
        others = [ipaddress.IPv4Network(n.subnet) for n in nets.values()]
        if any(given.overlaps(other) for other in others):
            raise UsageError(f"network {network.name}: {given} is another network's too")
        return network.subnet
    if before is not None:
        return before.subnet
    free = (s for s in POOL.subnets(new_prefix=24) if not any(s.overlaps(t) for t in taken))
    found = next(free, None)
    if found is None:
        raise UsageError(f"network {network.name}: no free subnet in {POOL}")
    return str(found)


def _members(
    name: str,
    subnet: ipaddress.IPv4Network,
    services: Mapping[str, str | None],
    kept: Mapping[str, str],
) -> dict[str, str]:
    """An address for each service: a fixed one, the one it had, or a free one."""
    reserved = {str(subnet[0]), str(subnet[1]), str(subnet[-2]), str(subnet[-1])}
    members: dict[str, str] = {}
    for service, address in services.items():
        if address is None:
            continue
        try:
            inside = ipaddress.IPv4Address(address) in subnet and address not in reserved
        except ValueError:
            inside = False
        if not inside or address in members.values():
            raise UsageError(
                f"service {service}: {address} cannot be its address in the network {name}",
                hint=f"a free one in {subnet}; the first and the last one are not",
            )
        members[service] = address
    for service in services:
        if service not in members and (had := kept.get(service)) and had not in members.values():
            members[service] = had
    free = _free(subnet, {*reserved, *members.values(), *kept.values()})
    for service in services:
        if service not in members:
            address = next(free, None)
            if address is None:
                raise UsageError(f"network {name}: {subnet} is full")
            members[service] = address
    return {service: members[service] for service in services}


def _free(subnet: ipaddress.IPv4Network, used: set[str]) -> Iterator[str]:
    return (str(a) for a in subnet.hosts() if str(a) not in used)


def new_segments(keeper: Keeper) -> Iterator[Segment]:
    """Random ones that nobody on this host uses."""
    taken = keeper.taken()
    while True:
        segment = lan.choose(os.urandom(6), taken, lan.joined_groups())
        taken.add(segment)
        yield segment


def names(root: Path) -> Sequence[str]:
    """The projects something is kept of."""
    return sorted(path.parent.name for path in (root / "compose").glob(f"*/{FILE}"))
