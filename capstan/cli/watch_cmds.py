# SPDX-License-Identifier: BSD-2-Clause
"""Commands that look into instances: logs, attach, stats, top, events."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from capstan import ui
from capstan.cli import instance_rows
from capstan.cli.options import SINCE, TAIL, UNTIL
from capstan.cli.render import fill, format_option, parse_template, plain, show
from capstan.errors import MachineError
from capstan.run import logs
from capstan.run.records import SHORT_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from capstan.run.instances import Instance

NAME = click.argument("name", metavar="INSTANCE")
STATS_COLUMNS = ("name", "id", "cpu", "memory", "memory_percent", "net", "block", "threads")
TOP_COLUMNS = ("pid", "tid", "state", "cpu", "time", "command")
EVENT_FILTERS = ("event", "instance", "image", "type")
FILTER_HELP = f"Only some, by {', '.join(EVENT_FILTERS)}."
TOP_DEADLINE = 5.0
CLEAR = "\x1b[H\x1b[2J"


@click.command("logs")
@click.option("-f", "--follow", is_flag=True, help="Go on until the instance ends.")
@SINCE
@UNTIL
@TAIL
@click.option("-t", "--timestamps", is_flag=True, help="A time in front of each line.")
@NAME
def logs_command(
    follow: bool,
    since: float | None,
    until: float | None,
    tail: int | None,
    timestamps: bool,
    name: str,
) -> None:
    """Show what an instance in the background has written, on stdout and stderr."""
    from capstan.run.attach import entries
    from capstan.run.attach import follow as follow_log

    instance = instance_rows.opened().get(name)
    if instance.config.foreground:
        raise MachineError(f"{name} runs in the foreground: its output is not kept")
    reader = logs.Reader(instance.folder.path)
    put = LinePrinter(since, until, timestamps=timestamps)
    present: Sequence[logs.Entry] = [e for e in entries(reader) if put.wants(e)]
    for entry in present if tail is None else logs.last_lines(present, tail):
        put(entry)
    if follow and (until is None or until > time.time()):
        follow_log(instance, reader, put, until)
    if reader.missed:
        ui.tell("a part of the log was rotated away before it was read")


class LinePrinter:
    """Writes entries of a log, those of the time that is wanted."""

    def __init__(self, begin: float | None, end: float | None, *, timestamps: bool) -> None:
        self._begin, self._end = begin, end
        self._timestamps = timestamps
        self._is_open: dict[str, bool] = {}

    def wants(self, entry: logs.Entry) -> bool:
        """Whether it is of that time."""
        after = self._begin is None or entry.time >= self._begin
        return after and (self._end is None or entry.time <= self._end)

    def __call__(self, entry: logs.Entry) -> None:
        """Write it, if it is of that time."""
        from capstan.run.attach import show as write

        if not self.wants(entry):
            return
        text = entry.text
        if self._timestamps and not self._is_open.get(entry.stream):
            text = entry.stamp.encode() + b" " + text
        self._is_open[entry.stream] = not entry.text.endswith(b"\n")
        write(logs.Entry(entry.time, entry.stamp, entry.stream, text))


@click.command()
@click.option("--no-stdin", is_flag=True, help="Leave stdin alone.")
@click.option(
    "--sig-proxy/--no-sig-proxy", default=True, help="Ctrl-C for the program (default), or detach."
)
@NAME
@click.pass_context
def attach(ctx: click.Context, no_stdin: bool, sig_proxy: bool, name: str) -> None:
    """Show the output of an instance from now on, end with its status.

    Signals go to the program; stdin too when it was started with `run -d -i`.
    """
    from capstan.run.attach import attach as service

    instance = instance_rows.opened().get(name)
    if not instance.is_active:
        raise MachineError(f"{name} is not running", hint=f"capstan start -a {name}")
    reader = logs.Reader(instance.folder.path)
    reader.skip_to_end()
    stdin = 0 if instance.config.open_stdin and not no_stdin else None
    ctx.exit(service(instance, reader, stdin=stdin, proxies=sig_proxy))


@click.command()
@click.option("--no-stream", is_flag=True, help="Show them once.")
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@format_option
@click.argument("names", metavar="[INSTANCE...]", nargs=-1)
def stats(no_stream: bool, everything: bool, layout: str, names: tuple[str, ...]) -> None:
    """Show what instances use: CPU, memory, network, disk.

    Memory is the proportional share (PSS) of QEMU, beside the guest's limit. QEMU's own network
    (`user`) does not count bytes: NET is shown for tap and bridge only.
    """
    from capstan.run import usage

    instances = instance_rows.opened()
    chosen = [instances.get(name) for name in names]
    before = usage.measure_all(chosen or instances.list())
    while True:
        time.sleep(0.5 if no_stream else 1.0)
        looked = chosen or list(instances.list())
        after = usage.measure_all(looked)
        rows = [_usage_row(usage.cpu_percent(before.get(i, u), u), u) for i, u in after.items()]
        if everything:
            rows += [_idle_row(instance) for instance in looked if instance.id not in after]
        if not no_stream and sys.stdout.isatty():
            click.echo(CLEAR, nl=False)
        show(rows, STATS_COLUMNS, layout)
        if no_stream or (names and not rows):
            return
        before = after


def _usage_row(cpu: float, look: object) -> dict[str, object]:
    from capstan.run.usage import Usage

    assert isinstance(look, Usage)
    return {
        "name": look.name,
        "id": look.id[:SHORT_ID],
        "cpu": f"{cpu:.1f}%",
        "memory": f"{ui.size(look.memory)} / {ui.size(look.limit)}",
        "memory_percent": f"{100 * look.memory / look.limit:.1f}%",
        "net": _pair(look.net_in, look.net_out),
        "block": _pair(look.block_read, look.block_written),
        "threads": look.threads,
        "cpu_percent": round(cpu, 2),
        "pss": look.memory,
        "rss": look.resident,
        "limit": look.limit,
        "supervisor_pss": look.owner_memory,
        "net_in": look.net_in,
        "net_out": look.net_out,
        "block_read": look.block_read,
        "block_written": look.block_written,
    }


def _idle_row(instance: Instance) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(
        (*STATS_COLUMNS, "cpu_percent", "pss", "rss", "limit", "supervisor_pss")
    )
    return {**row, "name": instance.name, "id": instance.id[:SHORT_ID]}


def _pair(first: int | None, second: int | None) -> str:
    if first is None or second is None:
        return "-"
    return f"{ui.size(first)} / {ui.size(second)}"


@click.command()
@format_option
@NAME
def top(layout: str, name: str) -> None:
    """Show the processes and threads in the guest of an instance, as the guest tells them."""
    from capstan.run.control import NoAnswer

    instance = instance_rows.opened().get(name)
    try:
        answer = instance.ask("threads", deadline=TOP_DEADLINE)
    except NoAnswer as err:
        raise MachineError(
            f"{name}: the guest does not tell its threads",
            hint="its CPUs may be busy, or the image has an older kernel: build it again",
        ) from err
    rows = [_thread_row(line) for line in answer["threads"]]
    show(rows, TOP_COLUMNS, layout)


def _thread_row(line: str) -> dict[str, object]:
    """`PID TID STATE CPU MILLISECONDS NAME`."""
    pid, tid, state, cpu, spent, command = line.split(" ", 5)
    seconds = int(spent) / 1000
    return {
        "pid": int(pid),
        "tid": int(tid),
        "state": state,
        "cpu": int(cpu),
        "time": f"{seconds:.2f}",
        "seconds": seconds,
        "command": command,
    }


@click.command()
@SINCE
@UNTIL
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help=FILTER_HELP)
@format_option
def events(since: float | None, until: float | None, filters: tuple[str, ...], layout: str) -> None:
    """Show what happens to instances, from now on or --since, up to --until."""
    wanted = instance_rows.parse_filters(filters, EVENT_FILTERS)
    put = _event_printer(layout)
    for event in _events(time.time() if since is None else since, until):
        if all(_event_passes(event, key, values) for key, values in wanted.items()):
            put(event)


def _events(begin: float, end: float | None) -> Iterator[dict[str, object]]:
    from capstan.run.attach import TICK
    from capstan.run.events import PREFIX

    instances = instance_rows.opened()
    reader = logs.Reader(instances.places.path, PREFIX)
    while True:
        is_over = end is not None and time.time() > end
        for line in reader.read():
            try:
                event: dict[str, object] = json.loads(line)
                at = logs.parse_stamp(str(event["time"]))
            except (ValueError, KeyError, TypeError):
                continue  # cut by a full disk, as `logs.parse` leaves it out
            if at >= begin and (end is None or at <= end):
                yield event
        if is_over:
            return
        time.sleep(TICK)


def _event_passes(event: Mapping[str, object], key: str, values: Sequence[str]) -> bool:
    if key == "instance":
        identity = str(event["id"])
        return any(v == event["name"] or (v and identity.startswith(v)) for v in values)
    field = {"event": "action"}.get(key, key)
    return str(event.get(field)) in values


def _event_printer(layout: str) -> Callable[[Mapping[str, object]], None]:
    if layout == "json":
        return lambda event: click.echo(json.dumps(event))
    if layout != "table":
        parts = parse_template(layout)
        return lambda event: click.echo(fill(parts, event))
    return lambda event: click.echo(_event_line(event))


def _event_line(event: Mapping[str, object]) -> str:
    known = ("time", "type", "action", "id")
    shown = (key for key in event if key not in known and event[key] != "")
    rest = ", ".join(f"{key}={plain(event[key])}" for key in shown)
    return f"{event['time']} {event['type']} {event['action']} {str(event['id'])[:12]} ({rest})"
