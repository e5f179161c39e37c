# SPDX-License-Identifier: BSD-2-Clause
"""`up`, `down` and what else changes a project.

Who changes a project holds its lock (`state`). Killed at any point, the next command finds what is
there by the labels of the instances, and goes on: `up` makes what is missing, `down` removes all.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from capstan.compose import health, members, plan
from capstan.compose.members import Member
from capstan.compose.model import Condition, Port, Project, Service
from capstan.compose.project import order, select
from capstan.compose.state import Keeper, State, allocate, new_segments
from capstan.errors import MachineError, TimeoutExpired
from capstan.run import restart, spec
from capstan.run.instances import Instance, Instances
from capstan.run.request import InstanceRequest

if TYPE_CHECKING:
    from capstan.store import StoredImage

Say = Callable[[str], None]
COMPLETED_DEADLINE = 600.0
LOG_TAIL = 5


class Images(Protocol):
    """Where the images of services come from."""

    def find(self, project: Project, service: Service) -> StoredImage:
        """The image of a service, built or pulled if it has to be."""


@dataclass(frozen=True, slots=True)
class UpOptions:
    """How `up` goes about it."""

    names: tuple[str, ...] = ()
    force_recreate: bool = False
    no_recreate: bool = False
    no_deps: bool = False
    no_start: bool = False
    remove_orphans: bool = False
    wait: bool = False
    wait_timeout: float | None = None
    timeout: float | None = None


class Engine:
    """The projects of the store in `root`."""

    def __init__(self, root: Path, say: Say) -> None:
        self.root = root
        self.instances = Instances(root)
        self._say = say
        self._noted: set[str] = set()
        for line in self.instances.repair():
            say(line)

    def up(self, project: Project, images: Images, options: UpOptions) -> list[Member]:
        """Make, replace and start what `project` needs; the members that were asked for.

        Raises:
            CapstanError: an image is not to be had, a machine does not start, a check fails.
        """
        names = select(project, options.names, with_needs=not options.no_deps)
        _check_conditions(project, names)
        keeper = self._keeper(project.name)
        with keeper.locked():
            state = allocate(project, keeper.load(), new_segments(keeper))
            keeper.save(state)
            self._orphans(project, remove=options.remove_orphans)
            found = {name: images.find(project, project.services[name]) for name in names}
            work = _Up(self, project, state, options)
            for name in names:
                work.bring(name, found[name])
            if options.wait:
                work.await_all(names)
        return [m for m in members.of(self.instances, project.name) if m.service in names]

    def down(self, project: str, timeout: float | None) -> int:
        """Stop and remove all of a project; how many instances there were.

        Raises:
            CapstanError: something cannot be ended.
        """
        keeper = self._keeper(project)
        with keeper.locked():
            found = members.of(self.instances, project)
            members.backwards(found, lambda member: self.remove(member, timeout))
            keeper.forget()
        return len(found)

    def remove(self, member: Member, timeout: float | None) -> None:
        """Stop and remove one instance."""
        name = member.instance.name
        if member.instance.is_active:
            member.instance.stop(timeout)
            self._say(f"{name}: stopped")
        member.instance.remove(force=True)
        self._say(f"{name}: removed")

    def stop(self, project: str, services: Sequence[str], timeout: float | None) -> None:
        """Stop instances, each before those it depends on."""

        def act(member: Member) -> None:
            if member.instance.is_active:
                member.instance.stop(timeout)
                self._say(f"{member.instance.name}: stopped")

        with self._keeper(project).locked():
            members.backwards(members.of(self.instances, project, services), act)

    def start(self, project: str, services: Sequence[str]) -> None:
        """Start instances that were stopped."""
        with self._keeper(project).locked():
            for member in members.of(self.instances, project, services):
                if not member.instance.is_active:
                    member.instance.start(self.note)
                    self._say(f"{member.instance.name}: started")

    def restart(self, project: str, services: Sequence[str], timeout: float | None) -> None:
        """Stop instances and start them again."""
        with self._keeper(project).locked():
            for member in members.of(self.instances, project, services):
                member.instance.restart(timeout, self.note)
                self._say(f"{member.instance.name}: restarted")

    def health(self, member: Member) -> str:
        """`healthy`, `unhealthy` or nothing, when the service has no check or does not run."""
        text = member.labels.get(plan.HEALTH, "")
        lans = member.instance.spec.lans
        if not text or not lans or not member.instance.is_active:
            return ""
        check = health.parse(text)
        target = health.Target(lans[0].segment, lans[0].ip)
        return "unhealthy" if health.check(target, check, timeout=1.0) else "healthy"

    # --- inside ---

    def say(self, text: str) -> None:
        """A line for the user."""
        self._say(text)

    def note(self, text: str) -> None:
        """A line about this host: once is enough for all machines."""
        if text not in self._noted:
            self._noted.add(text)
            self._say(text)

    def _keeper(self, project: str) -> Keeper:
        return Keeper(self.root, project, self._say)

    def _orphans(self, project: Project, *, remove: bool) -> None:
        found = members.of(self.instances, project.name)
        known = {*project.services, *project.inactive}
        orphans = [member for member in found if member.service not in known]
        if remove:
            members.backwards(orphans, lambda member: self.remove(member, None))
        elif orphans:
            names = ", ".join(member.instance.name for member in orphans)
            self._say(f"{names}: not in the file any more; --remove-orphans removes them")


class _Up:
    """One `up`; the project's lock is held."""

    def __init__(self, engine: Engine, project: Project, state: State, options: UpOptions) -> None:
        self._engine = engine
        self._project = project
        self._state = state
        self._options = options
        self._members = {m.service: m for m in members.of(engine.instances, project.name)}
        self._replaced: set[str] = set()
        self._ready: set[str] = set()

    def bring(self, name: str, image: StoredImage) -> None:
        """One service to where it should be."""
        service = self._project.services[name]
        if not self._options.no_start:
            self._await_needs(service)
        labels = plan.labels(self._project, service, self._state, image.digest)
        member = self._members.get(name)
        if member is not None and self._is_kept(member, labels):
            self._keep(member, service, labels)
            return
        if member is not None:
            self._engine.remove(member, self._options.timeout)
        self._make(service, image, labels)
        self._replaced.add(name)

    def await_all(self, names: Sequence[str]) -> None:
        """Until all that have a check are ready, and the others run."""
        limit = self._options.wait_timeout
        end = None if limit is None else time.monotonic() + limit
        for name in names:
            self._await(name, None if end is None else max(0.0, end - time.monotonic()))

    # --- one service ---

    def _is_kept(self, member: Member, labels: Mapping[str, str]) -> bool:
        if self._options.force_recreate:
            return False
        same = member.labels.get(plan.CONFIG_HASH) == labels[plan.CONFIG_HASH]
        return same or self._options.no_recreate

    def _keep(self, member: Member, service: Service, labels: Mapping[str, str]) -> None:
        name = member.instance.name
        if member.labels.get(plan.HOSTS) != labels[plan.HOSTS]:
            self._engine.say(
                f"{name}: was made before other services were and does not know their names; "
                "`up --force-recreate` makes it anew"
            )
        restarts = any(d.restart and d.service in self._replaced for d in service.depends_on)
        if self._options.no_start:
            return
        if not member.instance.is_active:
            member.instance.start(self._engine.note)
            self._engine.say(f"{name}: started")
        elif restarts:
            member.instance.restart(self._options.timeout, self._engine.note)
            self._engine.say(f"{name}: restarted")
        else:
            self._engine.say(f"{name}: runs")

    def _make(self, service: Service, image: StoredImage, labels: dict[str, str]) -> None:
        publish = tuple(text for port in service.ports for text in _published(port))
        options = plan.options(self._project, service, self._state, publish)
        run = spec.plan(image.manifest, image.disk, image.kernel, options, {})
        request = InstanceRequest(
            run,
            str(image.ref or image.digest),
            image.digest,
            plan.instance_name(self._project.name, service),
            labels,
            restart.parse(service.restart),
        )
        instance = self._engine.instances.create(request)
        self._members[service.name] = Member(service.name, instance, labels)
        if self._options.no_start:
            instance.release()
            self._engine.say(f"{instance.name}: created")
        else:
            instance.start(self._engine.note)
            self._engine.say(f"{instance.name}: started")

    # --- waiting ---

    def _await_needs(self, service: Service) -> None:
        for need in service.depends_on:
            if need.service not in self._members:
                continue  # not required, and not there
            if need.condition is Condition.HEALTHY:
                self._await(need.service, None)
            elif need.condition is Condition.COMPLETED:
                self._await_end(need.service, service.name)

    def _await_end(self, name: str, waiter: str) -> None:
        instance = self._members[name].instance
        status = instance.wait(COMPLETED_DEADLINE)
        if status:
            raise MachineError(
                f"{waiter} waits for {name}, which ended with status {status}" + _tail(instance),
                hint=f"capstan logs {instance.name}",
            )

    def _await(self, name: str, timeout: float | None) -> None:
        """Until the service is ready."""
        if name in self._ready:
            return
        check = self._project.services[name].health
        instance = self._members[name].instance
        if check is None:
            _demand_running(instance)
            return
        begin = time.monotonic()
        budget = check.start_period + check.retries * check.interval
        end = begin + (budget if timeout is None else timeout)
        target = self._target(name)
        # A machine that is booting does not answer: ask again rather than wait.
        patience = min(1.0, check.timeout)
        while (wrong := health.check(target, check, patience)) is not None:
            _demand_running(instance)
            if time.monotonic() >= end:
                raise TimeoutExpired(
                    f"{name} is not ready after {time.monotonic() - begin:.0f} seconds: {wrong}"
                    + _tail(instance),
                    hint=f"capstan logs {instance.name}",
                )
            time.sleep(min(check.start_interval, max(0.0, end - time.monotonic())))
        self._ready.add(name)
        self._engine.say(f"{instance.name}: ready")

    def _target(self, name: str) -> health.Target:
        net = self._state.networks[self._project.services[name].networks[0].network]
        return health.Target(net.segment, net.ip(name))


def _demand_running(instance: Instance) -> None:
    if instance.is_active:
        return
    record = instance.record
    if record.status == 0:
        return
    raise MachineError(
        f"{instance.name} ended with status {record.status}" + _tail(instance),
        hint=f"capstan logs {instance.name}",
    )


def _tail(instance: Instance) -> str:
    """The last lines of a log, for an error."""
    from capstan.run import logs

    reader = logs.Reader(instance.folder.path)
    entries = [entry for line in reader.read() if (entry := logs.parse(line)) is not None]
    reader.close()
    texts = (e.text.decode(errors="replace").rstrip() for e in logs.last_lines(entries, LOG_TAIL))
    return "".join(f"\n  log: {text}" for text in texts)


def _published(port: Port) -> list[str]:
    """A port as for `-p`, with a number of the host for each of the guest."""
    if port.host:
        return [str(port)]
    first, _, last = port.guest.partition("-")
    return [
        str(Port(str(guest), str(_free(port)), port.address, port.protocol))
        for guest in range(int(first), int(last or first) + 1)
    ]


def _free(port: Port) -> int:
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((port.address or "0.0.0.0", 0))
        return int(probe.getsockname()[1])


def _check_conditions(project: Project, names: Sequence[str]) -> None:
    """Nothing, if all that is waited for can be."""
    for name in order(project.services):
        for need in project.services[name].depends_on:
            other = project.services.get(need.service)
            if name not in names or other is None or need.condition is not Condition.HEALTHY:
                continue
            if other.health is None:
                raise MachineError(
                    f"{name} waits until {other.name} is healthy, but it has no check",
                    hint=f"add `x-capstan-health: tcp://:PORT` to {other.name}",
                )
