# SPDX-License-Identifier: BSD-2-Clause
"""Instances as rows of listings: what `ps`, `inspect` and the filters look at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from capstan import ui
from capstan.cli import times
from capstan.cli.render import short_command
from capstan.errors import CapstanError, MachineError, UsageError
from capstan.run import speccode
from capstan.run.records import ACTIVE, SHORT_ID, Config, Record, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from capstan.run.instances import Instance, Instances
    from capstan.run.spec import RunSpec

COLUMNS = ("id", "name", "image", "command", "created", "status", "ports")
FILTERS = ("name", "id", "label", "status", "exited", "ancestor")
COMMAND_MAX = 30


def opened() -> Instances:
    """The instances, after repairs; what was wrong is told on stderr."""
    from capstan.run.instances import Instances

    instances = Instances()
    for line in instances.repair():
        ui.tell(line)
    return instances


def status(record: Record, now: float) -> str:
    """How an instance is going, in words."""
    up = f"Up {times.length(now - record.started)}"
    ended = f"({record.status}) {times.length(now - record.finished)} ago"
    return {
        State.CREATED: "Created",
        State.RUNNING: up,
        State.PAUSED: f"{up} (paused)",
        State.STOPPING: f"{up} (stopping)",
        State.RESTARTING: f"Restarting {ended}",
        State.EXITED: f"Exited {ended}",
        State.DEAD: f"Dead {ended}",
    }[record.state]


def ports(spec: RunSpec) -> list[dict[str, object]]:
    """The published ports."""
    return [
        {"protocol": f.protocol, "address": f.address, "host": f.host, "guest": f.guest}
        for f in (spec.net.forwards if spec.net is not None else ())
    ]


def port_text(port: Mapping[str, object]) -> str:
    """`0.0.0.0:8080->80/tcp`."""
    return f"{port['address']}:{port['host']}->{port['guest']}/{port['protocol']}"


def row(config: Config, record: Record, name: str, *, full: bool) -> dict[str, object]:
    """The row of `ps`.

    Raises:
        MachineError: the instance is of another version.
    """
    spec, now = speccode.run_spec(config.spec), time.time()
    command = short_command(spec.argv)
    cut = command if full or len(command) <= COMMAND_MAX else command[: COMMAND_MAX - 1] + "…"
    return {
        "id": config.id if full else config.id[:SHORT_ID],
        "name": name,
        "names": name,
        "image": config.image,
        "command": cut,
        "created": f"{times.length(now - config.created)} ago",
        "created_at": times.moment(config.created),
        "status": status(record, now),
        "state": record.state.value,
        "exit_code": record.status,
        "reason": record.reason,
        "ports": ", ".join(port_text(port) for port in ports(spec)),
        "labels": config.labels,
        "foreground": config.foreground,
    }


def rows(
    instances: Instances, filters: Sequence[str], *, everything: bool, full: bool
) -> list[dict[str, object]]:
    """The rows of all instances the filters let through, the newest first."""
    wanted = parse_filters(filters, FILTERS)
    if bad := [v for v in wanted.get("status", ()) if v not in {state.value for state in State}]:
        states = ", ".join(state.value for state in State)
        raise UsageError(f"--filter status={bad[0]}: there is no such state", hint=states)
    everything = everything or "status" in wanted or "exited" in wanted
    found: list[tuple[float, dict[str, object]]] = []
    names = instances.places.all_names()
    for instance in instances.list():
        name = names.get(instance.id, instance.id[:SHORT_ID])
        try:
            config, record = instance.config, instance.record
            shown = everything or record.state in ACTIVE
            if shown and passes(wanted, name, config, record):
                found.append((config.created, row(config, record, name, full=full)))
        except MachineError as err:
            if instance.folder.path.is_dir():
                ui.tell(err.message)
    return [entry for _, entry in sorted(found, key=lambda pair: pair[0], reverse=True)]


def parse_filters(filters: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """The values of each key in `KEY=VALUE`.

    Raises:
        UsageError: no such key.
    """
    wanted: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals or key not in known:
            raise UsageError(
                f"--filter {text!r}: there is no such filter",
                hint=f"KEY=VALUE with KEY one of {', '.join(known)}",
            )
        wanted.setdefault(key, []).append(value)
    return wanted


def passes(wanted: Mapping[str, Sequence[str]], name: str, config: Config, record: Record) -> bool:
    """Whether one of the values of each key is the instance's."""
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda value: value in name,
        "id": config.id.startswith,
        "label": lambda value: has_label(config.labels, value),
        "status": lambda value: record.state.value == value,
        "exited": lambda value: record.state not in ACTIVE and str(record.status) == value,
        "ancestor": lambda value: value in (config.image, config.image.partition(":")[0]),
    }
    return all(any(tests[key](value) for value in values) for key, values in wanted.items())


def has_label(labels: Mapping[str, str], text: str) -> bool:
    """Whether `KEY` or `KEY=VALUE` is among the labels."""
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def details(instance: Instance) -> dict[str, object]:
    """All there is to know about one instance."""
    config, record = instance.config, instance.record
    spec = speccode.run_spec(config.spec)
    net = spec.net
    return {
        "id": config.id,
        "name": instance.name,
        "image": config.image,
        "image_id": config.digest,
        "created": times.moment(config.created),
        "state": {
            "status": record.state.value,
            "pid": record.pid,
            "qemu_pid": record.qemu,
            "started": times.moment(record.started),
            "ready": times.moment(record.ready),
            "finished": times.moment(record.finished),
            "exit_code": record.status,
            "reason": record.reason,
            "restarts": record.restarts,
        },
        "config": {
            "argv": list(spec.argv),
            "env": dict(spec.env),
            "workdir": spec.workdir,
            "memory": spec.memory,
            "cpus": spec.cpus,
            "hostname": spec.name,
            "stop_signal": spec.stop_signal.name,
            "stop_timeout": spec.grace,
            "restart": config.restart,
            "auto_remove": config.auto_remove,
            "open_stdin": config.open_stdin,
            "foreground": config.foreground,
            "log": {"max_size": config.log_size, "max_files": config.log_files},
        },
        "network": None
        if net is None
        else {
            "kind": net.kind.value,
            "ip": list(net.ip),
            "interface": net.interface,
            "mac": net.mac,
        },
        "ports": ports(spec),
        "labels": config.labels,
        "directory": str(instance.folder.path),
    }


def each(names: Sequence[str], action: Callable[[Instance], None]) -> None:
    """Do something to several instances at once; prints the names for which it worked.

    Raises:
        CapstanError: it failed for one or more; it was tried for all.
    """
    from concurrent.futures import ThreadPoolExecutor

    instances = opened()
    chosen = [instances.get(name) for name in names]
    errors: list[CapstanError] = []
    with ThreadPoolExecutor(max_workers=min(32, len(chosen))) as pool:
        tasks = [pool.submit(action, instance) for instance in chosen]
        for text, task in zip(names, tasks, strict=True):
            try:
                task.result()
            except CapstanError as err:
                errors.append(err)
            else:
                print(text, flush=True)
    if len(errors) > 1:
        raise MachineError("\n".join(f"{err.message}" for err in errors), hint=errors[0].hint)
    if errors:
        raise errors[0]
