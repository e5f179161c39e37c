# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's monitor: what state the VM is in, and orders such as stop, cont and quit.

A few lines of JSON on a socket, read by the poll loop that owns the machine: no thread, no event
loop, nothing imported that an idle instance would have to hold in memory (`qemu.qmp` and asyncio
are 8 MB for each supervisor). The protocol: QEMU greets, we negotiate, then each command has an
id and is answered once, with events in between (QEMU's docs/interop/qmp-spec).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from capstan.run.console import Pump

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

STATE_EVENTS = ("STOP", "SHUTDOWN", "GUEST_PANICKED")
BROKEN_STATES = ("internal-error", "guest-panicked", "io-error")
LINE_MAX = 1 << 20


class Answer:
    """What QEMU said to a command: `value` unless `error` is set."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any = None, error: str = "") -> None:
        self.value = value
        self.error = error


Done = Callable[[Answer], None]


class Monitor:
    """The client of one QEMU; `broken` is called with the run state when the VM is beyond help.

    The poll loop fills the pump `heard`, gives `feed` what was read and drains the pump `orders`.
    `start` makes the first one readable; a command does too.
    """

    def __init__(self, sock: socket.socket, broken: Callable[[str], None]) -> None:
        self._fd = sock.fileno()
        self._broken = broken
        self._rest = b""
        self._waiting: list[tuple[str, Mapping[str, object], Done]] = []
        self._asked: dict[int, Done] = {}
        self._number = 0
        self.heard = Pump(None, None)
        self.orders = Pump(None, self._fd)
        self.connected = False
        self._started = False

    def start(self) -> None:
        """Begin to listen; QEMU's greeting leads to the rest."""
        if not self._started:
            self._started = True
            self.heard.source = self._fd

    def execute(self, command: str, done: Done | None = None, **arguments: object) -> None:
        """Give a command; `done` gets its answer, also when the connection ends first."""
        self._waiting.append((command, arguments, done or _nothing))
        self.start()
        self._flush()

    def quit(self) -> bool:
        """Ask QEMU to end; False when there is no connection to ask through."""
        if self.connected:
            self.execute("quit")
        return self.connected

    def feed(self, data: bytes) -> None:
        """Take what was read; no data is the end of the connection."""
        if not data:
            self._end("QEMU ended")
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._take(line)
        if len(self._rest) > LINE_MAX:
            self._end("a line without end")

    def close(self) -> None:
        """QEMU is gone: whoever waits hears so."""
        self._end("QEMU ended")

    def _take(self, line: bytes) -> None:
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            self._end(f"not QMP: {line[:60]!r}")
            return
        if "QMP" in message:
            self._send("qmp_capabilities", {}, self._negotiated)
        elif message.get("event") in STATE_EVENTS:
            self._check()
        elif "id" in message:
            done = self._asked.pop(message["id"], _nothing)
            error = message.get("error")
            text = str(error.get("desc", error)) if isinstance(error, dict) else ""
            done(Answer(message.get("return"), text))

    def _negotiated(self, answer: Answer) -> None:
        if answer.error:
            self._end(answer.error)
            return
        self.connected = True
        self._check()
        self._flush()

    def _check(self) -> None:
        if self.connected:
            self._send("query-status", {}, self._on_status)

    def _on_status(self, answer: Answer) -> None:
        state = answer.value.get("status") if isinstance(answer.value, dict) else ""
        if state in BROKEN_STATES:
            self._broken(str(state))

    def _flush(self) -> None:
        if self.connected:
            waiting, self._waiting = self._waiting, []
            for command, arguments, done in waiting:
                self._send(command, arguments, done)

    def _send(self, command: str, arguments: Mapping[str, object], done: Done) -> None:
        self._number += 1
        self._asked[self._number] = done
        order: dict[str, object] = {"execute": command, "id": self._number}
        if arguments:
            order["arguments"] = dict(arguments)
        self.orders.put(json.dumps(order).encode() + b"\n")

    def _end(self, reason: str) -> None:
        self.connected = False
        self.heard.source = None
        self.orders.buffer.clear()
        waiting = [*self._asked.values(), *(done for _, _, done in self._waiting)]
        self._asked.clear()
        self._waiting.clear()
        for done in waiting:
            done(Answer(error=reason))


def _nothing(answer: Answer) -> None:
    """Nobody asked."""
