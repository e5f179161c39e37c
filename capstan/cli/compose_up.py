# SPDX-License-Identifier: BSD-2-Clause
"""`capstan compose up` in the foreground: the output of all, and Ctrl-C stops them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from capstan import ui
from capstan.errors import UsageError

if TYPE_CHECKING:
    from types import FrameType

    from capstan.compose.engine import Engine, UpOptions
    from capstan.compose.logs import Line, Source
    from capstan.compose.members import Member

COLORS = ("cyan", "yellow", "green", "magenta", "blue")


def options(services: tuple[str, ...], given: Mapping[str, object]) -> UpOptions:
    """What the command line asks of `up`, checked.

    Raises:
        UsageError: options that exclude each other.
    """
    from capstan.compose.engine import UpOptions

    for one, other in (
        ("force_recreate", "no_recreate"),
        ("build", "no_build"),
        ("detach", "abort"),
        ("detach", "exit_code_from"),
        ("wait", "abort"),
        ("wait", "exit_code_from"),
        ("no_start", "wait"),
    ):
        if given[one] and given[other]:
            names = [f"--{name.replace('_', '-')}" for name in (one, other)]
            raise UsageError(f"{' and '.join(names)} exclude each other", hint="leave one out")
    wait_timeout, timeout = given["wait_timeout"], given["timeout"]
    return UpOptions(
        names=services,
        force_recreate=bool(given["force_recreate"]),
        no_recreate=bool(given["no_recreate"]),
        no_deps=bool(given["no_deps"]),
        no_start=bool(given["no_start"]),
        remove_orphans=bool(given["remove_orphans"]),
        wait=bool(given["wait"]),
        wait_timeout=float(str(wait_timeout)) if wait_timeout is not None else None,
        timeout=float(str(timeout)) if timeout is not None else None,
    )


class Printer:
    """Writes lines on stdout, with the name of the instance in front."""

    def __init__(self, sources: Sequence[Source], *, prefix: bool, timestamps: bool) -> None:
        self._width = max((len(source.name) for source in sources), default=0)
        self._prefix = prefix
        self._timestamps = timestamps
        has_color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        names = sorted(source.name for source in sources)
        self._colors = {n: COLORS[i % len(COLORS)] for i, n in enumerate(names) if has_color}

    def __call__(self, line: Line) -> None:
        """Write one."""
        head = f"{line.name:{self._width}} | " if self._prefix else ""
        if line.name in self._colors:
            head = click.style(head, fg=self._colors[line.name])
        if self._timestamps:
            head += f"{line.stamp} "
        sys.stdout.buffer.write(head.encode() + line.text + b"\n")
        sys.stdout.buffer.flush()


class _Ended(Exception):
    """Somebody wants us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Watch:
    """The time from `up` to its end; it stops `services` and no others of the project.

    Raises:
        UsageError: the service whose status is to be ours is none of them.
    """

    def __init__(
        self, engine: Engine, project: str, services: Sequence[str], given: Mapping[str, object]
    ) -> None:
        self._engine = engine
        self._project = project
        self._services = services
        self._is_short = bool(given["detach"] or given["wait"] or given["no_start"])
        self._abort = bool(given["abort"] or given["exit_code_from"])
        self._status_of = given["exit_code_from"]
        self._timeout = float(str(given["timeout"])) if given["timeout"] is not None else None
        self._prefix = not given["no_log_prefix"]
        if self._status_of is not None and self._status_of not in services:
            raise UsageError(
                f"--exit-code-from {self._status_of}: it would not be started",
                hint=f"one of {', '.join(services)}",
            )

    def run(self, bring_up: Callable[[], list[Member]]) -> int:
        """Bring it up and stay with it unless it is to be in the background; our exit status."""
        if self._is_short:
            bring_up()
            return 0
        begin = time.time()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        old = {number: signal.signal(number, _raise) for number in numbers}
        is_up = False
        try:
            found = bring_up()
            is_up = True
            return self._follow(found, begin)
        except _Ended as end:
            return self._stop(0 if is_up and end.number != signal.SIGHUP else 130)
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _follow(self, found: Sequence[Member], begin: float) -> int:
        from capstan.compose import logs

        sources = logs.sources(found)
        put = Printer(sources, prefix=self._prefix, timestamps=False)
        statuses: dict[str, int] = {}

        def ended(source: Source) -> bool:
            status = source.member.instance.record.status or 0
            statuses[source.member.service] = status
            ui.tell(f"{source.name}: ended with status {status}")
            return self._abort

        for line in logs.present(sources, begin, None):
            put(line)
        logs.follow(sources, put, ended)
        if self._abort:
            self._stop(0)
        if self._status_of is not None:
            return self._status(found, str(self._status_of))
        return next((status for status in statuses.values() if status), 0) if self._abort else 0

    def _status(self, found: Sequence[Member], service: str) -> int:
        for member in found:
            if member.service == service:
                return member.instance.record.status or 0
        raise UsageError(f"--exit-code-from {service}: it was not started")

    def _stop(self, status: int) -> int:
        """Stop what was started; a second signal ends it at once."""
        ui.tell("stopping (once more: at once)")
        try:
            self._stop_all(self._timeout)
        except _Ended:
            self._stop_all(0.0)
            return 130
        return status

    def _stop_all(self, timeout: float | None) -> None:
        """Stop those services that have an instance: when `up` was interrupted, some have none."""
        from capstan.compose import members

        there = {m.service for m in members.of(self._engine.instances, self._project)}
        if services := [name for name in self._services if name in there]:
            self._engine.stop(self._project, services, timeout)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise _Ended(number)
