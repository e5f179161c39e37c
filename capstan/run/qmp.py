# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's monitor: what state the VM is in, and the order to quit.

`qemu.qmp` is an asyncio library that takes 40 ms to import, as long as a whole VM start; so it
lives in a thread of its own, started late, and talks to the poll loop through a callback.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from qemu.qmp import QMPClient

CONNECT_DEADLINE = 10.0
COMMAND_DEADLINE = 3.0
EVENTS = ("STOP", "SHUTDOWN", "GUEST_PANICKED")
BROKEN_STATES = ("internal-error", "guest-panicked", "io-error")


class Kind(Enum):
    """What the monitor has to say."""

    CONNECTED = "connected"
    BROKEN = "broken"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Report:
    """BROKEN: the VM stopped for good, `text` is QEMU's run state. FAILED: no monitor, and why."""

    kind: Kind
    text: str = ""


class Monitor:
    """The QMP client of one QEMU. `notify` is called in the monitor's thread."""

    def __init__(self, sock: socket.socket, notify: Callable[[Report], None]) -> None:
        self._sock = sock
        self._notify = notify
        self._thread = threading.Thread(target=self._work, name="qmp", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._quit: asyncio.Event | None = None
        self.connected = False

    def start(self) -> None:
        """Connect in the background; `notify` tells how it went."""
        self._thread.start()

    def quit(self) -> bool:
        """Ask QEMU to end; False when there is no connection to ask through."""
        if not self.connected or self._loop is None or self._quit is None:
            return False
        try:
            self._loop.call_soon_threadsafe(self._quit.set)
        except RuntimeError:  # the loop ended meanwhile: so did QEMU
            return False
        return True

    def close(self) -> None:
        """Wait for the thread when QEMU is gone; one that never connected is left to die alone."""
        if self.connected:
            self._thread.join(COMMAND_DEADLINE)

    def _work(self) -> None:
        import asyncio

        from qemu.qmp import QMPError

        try:
            asyncio.run(self._session())
        except (QMPError, OSError, EOFError, TimeoutError) as err:
            self._notify(Report(Kind.FAILED, f"{type(err).__name__}: {err}"))

    async def _session(self) -> None:
        import asyncio

        from qemu.qmp import QMPClient

        self._loop = asyncio.get_running_loop()
        self._quit = asyncio.Event()
        client = QMPClient("capstan")
        with client.listener(EVENTS) as events:
            await asyncio.wait_for(client.connect(self._sock), CONNECT_DEADLINE)
            self.connected = True
            self._notify(Report(Kind.CONNECTED))
            try:
                await self._check(client)
                end = asyncio.create_task(client.runstate_changed())
                order = asyncio.create_task(self._quit.wait())
                while not end.done() and not order.done():
                    event = asyncio.create_task(events.get())
                    await asyncio.wait((end, order, event), return_when=asyncio.FIRST_COMPLETED)
                    if event.done():
                        await self._check(client)
                    event.cancel()
                if order.done() and not end.done():
                    await asyncio.wait_for(client.execute("quit"), COMMAND_DEADLINE)
            finally:
                await client.disconnect()

    async def _check(self, client: QMPClient) -> None:
        import asyncio

        answer = await asyncio.wait_for(client.execute("query-status"), COMMAND_DEADLINE)
        state = answer["status"] if isinstance(answer, dict) else ""
        if state in BROKEN_STATES:
            self._notify(Report(Kind.BROKEN, state))
