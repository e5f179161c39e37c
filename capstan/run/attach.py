# SPDX-License-Identifier: BSD-2-Clause
"""Following an instance: its log as it grows, our stdin and signals to its program.

The output comes from the log, so that a slow reader holds up nobody and nothing is shown twice.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from capstan.errors import MachineError
from capstan.run import logs
from capstan.run.keeper import OUT
from capstan.run.signals import SignalSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from capstan.run.instances import Instance

TICK = 0.05
CHUNK = 4096
PROXIED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def entries(reader: logs.Reader) -> Iterator[logs.Entry]:
    """What is new in the log."""
    for line in reader.read():
        entry = logs.parse(line)
        if entry is not None:
            yield entry


def show(entry: logs.Entry) -> None:
    """Write the output where the program would have."""
    fd = 1 if entry.stream == OUT else 2
    data = entry.text
    while data:
        data = data[os.write(fd, data) :]


def follow(
    instance: Instance,
    reader: logs.Reader,
    put: Callable[[logs.Entry], None] = show,
    until: float | None = None,
) -> None:
    """Write what comes until the instance has ended, or that time has come."""
    while True:
        is_over = not instance.is_active or (until is not None and time.time() > until)
        for entry in entries(reader):
            put(entry)
        if is_over:
            return
        time.sleep(TICK)


def attach_started(instance: Instance, say: Callable[[str], None]) -> int:
    """Start an instance and attach to it: the status of its program."""
    reader = logs.Reader(instance.folder.path)
    reader.skip_to_end()
    try:
        instance.start(say)
    except MachineError:
        for entry in entries(reader):
            show(entry)
        raise
    return attach(instance, reader, stdin=None, proxies=True)


def attach(instance: Instance, reader: logs.Reader, *, stdin: int | None, proxies: bool) -> int:
    """Its exit status; 128+n when signal n ended us and not the program.

    Raises:
        MachineError: it runs in the foreground, or not at all.
    """
    if instance.config.foreground:
        raise MachineError(f"{instance.name} runs in the foreground of process {_pid(instance)}")
    session = _Session(instance, stdin)
    with SignalSource() as signals:
        while True:
            is_over = not instance.is_active
            for entry in entries(reader):
                show(entry)
            if is_over:
                return session.status()
            session.turn(signals.fd)
            for number in signals.take():
                if number not in PROXIED:
                    continue
                if not proxies:
                    return 128 + number
                session.forward(number)


def _pid(instance: Instance) -> int:
    return instance.record.pid


class _Session:
    """Our stdin and the signals we get, on their way to the program."""

    def __init__(self, instance: Instance, stdin: int | None) -> None:
        self._instance = instance
        self._stdin = stdin
        self._last = instance.record

    def turn(self, signals: int) -> None:
        """Wait a moment for stdin or a signal."""
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        if self._stdin is not None:
            poll.register(self._stdin, select.POLLIN)
        ready = dict(poll.poll(TICK * 1000))
        if self._stdin is not None and self._stdin in ready:
            self._send()
        with contextlib.suppress(MachineError):
            self._last = self._instance.record

    def forward(self, number: signal.Signals) -> None:
        """A signal, as if it had been sent to the program."""
        with contextlib.suppress(MachineError):
            self._instance.kill(number)

    def status(self) -> int:
        """How it ended, as far as we could see if it was removed at once."""
        with contextlib.suppress(MachineError):
            self._last = self._instance.record
        return 0 if self._last.status is None else self._last.status

    def _send(self) -> None:
        assert self._stdin is not None
        data = os.read(self._stdin, CHUNK)
        if not data:
            self._stdin = None
            self._instance.ask("eof")
            return
        text = data.decode("utf-8", "surrogateescape")
        while not self._instance.ask("stdin", data=text)["taken"]:
            time.sleep(TICK)
