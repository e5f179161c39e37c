# SPDX-License-Identifier: BSD-2-Clause
"""The instances of a project, found by their labels, in the order they depend on each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capstan.compose import plan
from capstan.errors import CapstanError, UsageError

if TYPE_CHECKING:
    from capstan.run.instances import Instance, Instances

PARALLEL = 8


@dataclass(frozen=True, slots=True)
class Member:
    """The instance of one service."""

    service: str
    instance: Instance
    labels: dict[str, str]

    @property
    def needs(self) -> dict[str, str]:
        """The services it depends on, with the condition."""
        entries = self.labels.get(plan.DEPENDS_ON, "").split(",")
        pairs = (entry.partition(":") for entry in entries if entry)
        return {name: condition for name, _, condition in pairs}


def projects(instances: Instances) -> dict[str, list[Member]]:
    """All projects that have instances."""
    found: dict[str, list[Member]] = {}
    for instance in instances.list():
        try:
            labels = instance.labels
        except CapstanError:  # removed a moment ago, or damaged: `capstan ps` says so
            continue
        if plan.PROJECT in labels and plan.SERVICE in labels:
            member = Member(labels[plan.SERVICE], instance, labels)
            found.setdefault(labels[plan.PROJECT], []).append(member)
    return found


def of(instances: Instances, project: str, services: Sequence[str] = ()) -> list[Member]:
    """The instances of `project`, each after those it depends on; of `services` only, if any.

    Raises:
        UsageError: one of `services` has none.
    """
    found = in_order(projects(instances).get(project, []))
    known = {member.service for member in found}
    for name in services:
        if name not in known:
            raise UsageError(
                f"{project} has no instance of {name}",
                hint="`capstan compose ps -a` lists them; `up` makes them",
            )
    return [member for member in found if not services or member.service in services]


def in_order(found: Sequence[Member]) -> list[Member]:
    """Each after those it depends on; a circle (labels are anybody's to write) does no harm."""
    by_name: dict[str, list[Member]] = {}
    for member in sorted(found, key=lambda m: m.service):
        by_name.setdefault(member.service, []).append(member)
    done: list[Member] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for member in by_name.get(name, []):
            for other in member.needs:
                visit(other)
        done.extend(by_name.get(name, []))

    for name in by_name:
        visit(name)
    return done


def backwards(found: Sequence[Member], act: Callable[[Member], None]) -> None:
    """Do `act` to all, each before those it depends on; those that may, at the same time.

    Raises:
        CapstanError: the first that failed, after all were tried.
    """
    from concurrent.futures import ThreadPoolExecutor

    left = list(found)
    failed: list[CapstanError] = []

    def careful(member: Member) -> None:
        try:
            act(member)
        except CapstanError as err:
            failed.append(err)

    while left:
        needed = {name for member in left for name in member.needs if name != member.service}
        now = [member for member in left if member.service not in needed] or left
        pool = ThreadPoolExecutor(PARALLEL)
        try:
            list(pool.map(careful, now))
        finally:  # who is interrupted does not wait for the others
            pool.shutdown(wait=False, cancel_futures=True)
        left = [member for member in left if member not in now]
    if failed:
        raise failed[0]
