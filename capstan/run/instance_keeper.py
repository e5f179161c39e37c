# SPDX-License-Identifier: BSD-2-Clause
"""The keeper of one instance: its record, its log, and the requests on its control socket.

Used by the supervisor of a background instance (with a log) and by a foreground run (without).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from capstan.errors import MachineError
from capstan.run import events, procinfo, records
from capstan.run.control import Client, Server
from capstan.run.keeper import Keeper
from capstan.run.records import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from capstan.run.control import Message
    from capstan.run.logs import Writer
    from capstan.run.machine import Machine
    from capstan.run.qmp import Answer
    from capstan.run.records import Config, Folder, Places, Record

LINE_MAX = 16384  # a longer line is logged in pieces


class InstanceKeeper(Keeper):
    """`machine` is None between two runs. `by_user`: do not start it again; `again`: do."""

    def __init__(
        self, places: Places, folder: Folder, config: Config, record: Record, log: Writer | None
    ) -> None:
        self.captures = log is not None
        self.open_stdin = config.open_stdin
        self.machine: Machine | None = None
        self.by_user = False
        self.again = False
        self.was_ready = False
        self.on_ready: Callable[[], None] = lambda: None
        self.status: int | None = None
        self._unsaved = False
        self._places, self._folder, self._config = places, folder, config
        self.record = record
        self._log = log
        self._server = Server(folder.control, self._handle)
        self._waiting: list[Client] = []
        self._restarting: list[Client] = []
        self._asking_threads: list[Client] = []
        self._threads: list[str] = []
        self._open: dict[str, bytes] = {}  # lines that have not ended, by stream
        self._ops: dict[str, Callable[[Client, Message], None]] = {
            "ping": lambda client, _: client.answer(state=self.record.state.value),
            "stop": self._stop,
            "kill": self._kill,
            "restart": self._restart,
            "pause": self._pause,
            "unpause": self._unpause,
            "wait": lambda client, _: self._waiting.append(client),
            "stats": self._stats,
            "threads": self._ask_threads,
            "stdin": self._stdin,
            "eof": self._eof,
        }

    # --- what the machine tells ---

    def launched(self, machine: Machine, pid: int) -> None:
        """QEMU runs."""
        records.step("supervisor: launched")
        record = self.record
        self.machine = machine
        self.was_ready = False
        record.qemu, record.qemu_start = pid, procinfo.start_time(pid)
        record.started, record.ready, record.finished = time.time(), 0.0, 0.0
        record.status, record.reason, record.starting = None, "", False
        self.enter(State.RUNNING)
        self.tell("start")
        if self.captures and not self.open_stdin:
            machine.end_input()

    def ready(self) -> None:
        """The program is about to run."""
        records.step("supervisor: ready")
        self.was_ready = True
        self.record.ready = time.time()
        self.save()
        self.on_ready()
        for client in self._restarting:
            client.answer(ok=True)
        self._restarting.clear()

    def output(self, stream: str, data: bytes) -> None:
        """To the log, in whole lines while they come.

        Where a read ends is chance: stdout's half line must not get stderr's behind it.
        """
        data = self._open.pop(stream, b"") + data
        whole, newline, rest = data.rpartition(b"\n")
        if len(rest) >= LINE_MAX:
            whole, newline, rest = data, b"", b""
        if rest:
            self._open[stream] = rest
        if self._log is not None and (whole or newline):
            self._log.write(stream, whole + newline)

    def pause(self) -> None:
        """What has no end of line goes to the log as it is: a question, perhaps."""
        for stream, rest in self._open.items():
            if self._log is not None:
                self._log.write(stream, rest)
        self._open.clear()

    def threads(self, line: str) -> None:
        """Collect the guest's answer, pass it on at its end."""
        if line != "end":
            self._threads.append(line)
            return
        for client in self._asking_threads:
            client.answer(threads=self._threads)
        self._asking_threads.clear()
        self._threads = []

    def signalled(self, number: int) -> None:
        """What ends this process is not to be followed by another start."""
        if number in (signal.SIGTERM, signal.SIGHUP):
            self.by_user = True

    def wants(self) -> Mapping[int, int]:
        """The control socket and its connections."""
        return self._server.wants()

    def serve(self, ready: Mapping[int, int]) -> None:
        """Answer requests."""
        if self._unsaved:
            self.save()
        self._server.serve(ready)

    # --- what the owner calls ---

    def enter(self, state: State) -> None:
        """Go to a state, on disk."""
        self.record.enter(state)
        self.save()

    def save(self) -> None:
        """The record, on disk; what lives no longer than this process need not be synced.

        A full disk does not end what runs: it is tried again with the next event.
        """
        try:
            self._folder.save(self.record, synced=not self._config.foreground)
        except OSError as err:
            self._unsaved = True
            print(f"{self._folder.path}: state not saved: {err}", file=sys.stderr, flush=True)
        else:
            self._unsaved = False

    def tell(self, action: str, **details: object) -> None:
        """Report an event."""
        identity = self._config.id
        name = self._places.name_of(identity)
        events.tell(self._places, action, identity, name, image=self._config.image, **details)

    def release(self, status: int, reason: str) -> None:
        """The instance has ended for good: answer everybody who waits, and close."""
        for client in self._waiting:
            client.answer(ok=True, status=status, reason=reason)
        for client in (*self._restarting, *self._asking_threads):
            client.fail(reason or f"it ended with status {status}")
        self._server.close()

    # --- requests ---

    def _handle(self, client: Client, message: Message) -> None:
        operation = self._ops.get(message["op"])
        if operation is None:
            client.fail(f"this instance does not know {message['op']!r}")
            return
        try:
            operation(client, message)
        except MachineError as err:
            client.answer(error=err.message, hint=err.hint)
        except (TypeError, ValueError, KeyError) as err:
            client.fail(f"bad request: {err!r}")

    def _running(self) -> Machine:
        if self.machine is None:
            raise MachineError("it is waiting to be started again")
        return self.machine

    def _check_runs(self, machine: Machine, consequence: str) -> None:
        if self.record.state is not State.RUNNING:
            raise MachineError(f"it is {self.record.state.value}: {consequence}")
        if not machine.is_ready:
            raise MachineError(f"its program does not run yet: {consequence}")

    def _end(self, seconds: float) -> None:
        machine = self.machine
        if self.record.state is State.PAUSED and machine is not None:
            machine.ask("cont", _ignore)
        self.enter(State.STOPPING)
        if machine is not None:
            machine.stop(seconds)

    def _stop(self, client: Client, message: Message) -> None:
        self.by_user, self.again = True, False
        self._waiting.append(client)
        self.tell("stop")
        self._end(float(message["timeout"]))

    def _restart(self, client: Client, message: Message) -> None:
        if self._config.foreground:
            raise MachineError("it runs in the foreground: start it again there")
        self.again = True
        self._restarting.append(client)
        self.tell("restart")
        if self.machine is not None:
            self._end(float(message["timeout"]))

    def _kill(self, client: Client, message: Message) -> None:
        number = int(message["signal"])
        name = signal.Signals(number).name
        self.tell("kill", signal=name)
        if number == signal.SIGKILL:
            self.by_user, self.again = True, False
            self._waiting.append(client)
            if self.machine is not None:
                self.machine.kill()
            return
        machine = self._running()
        if not machine.is_ready:
            raise MachineError("its program does not run yet", hint="kill it with SIGKILL")
        if number in (signal.SIGTERM, machine.stop_signal):
            self.by_user = True
        machine.send_signal(number)
        client.answer(ok=True)

    def _pause(self, client: Client, _: Message) -> None:
        machine = self._running()
        self._check_runs(machine, "it cannot be paused")
        machine.ask("stop", lambda answer: self._switched(client, answer, State.PAUSED, "pause"))

    def _unpause(self, client: Client, _: Message) -> None:
        if self.record.state is not State.PAUSED:
            raise MachineError(f"it is {self.record.state.value}, not paused")
        machine = self._running()
        machine.ask("cont", lambda answer: self._switched(client, answer, State.RUNNING, "unpause"))

    def _switched(self, client: Client, answer: Answer, state: State, action: str) -> None:
        if answer.error:
            client.fail(answer.error)
            return
        self.enter(state)
        self.tell(action)
        client.answer(ok=True)

    def _stats(self, client: Client, _: Message) -> None:
        self._running().ask("query-blockstats", lambda answer: _told(client, answer))

    def _ask_threads(self, client: Client, _: Message) -> None:
        machine = self._running()
        self._check_runs(machine, "its guest cannot answer")
        self._asking_threads.append(client)
        if len(self._asking_threads) == 1:
            machine.ask_threads()

    def _stdin(self, client: Client, message: Message) -> None:
        if not self.open_stdin:
            raise MachineError("its stdin is closed", hint="start it with `run -d -i`")
        data = str(message["data"]).encode("utf-8", "surrogateescape")
        client.answer(taken=self._running().send_input(data))

    def _eof(self, client: Client, _: Message) -> None:
        if self.open_stdin:
            self.open_stdin = False
            self._running().end_input()
        client.answer(ok=True)


def _told(client: Client, answer: Answer) -> None:
    if answer.error:
        client.fail(answer.error)
        return
    counts = [device.get("stats", {}) for device in answer.value or ()]
    read, written = (
        sum(int(count.get(key, 0)) for count in counts) for key in ("rd_bytes", "wr_bytes")
    )
    client.answer(block_read=read, block_written=written, owner=os.getpid())


def _ignore(answer: Answer) -> None:
    """The end shows how it went."""
