# SPDX-License-Identifier: BSD-2-Clause
"""Signals as bytes on a descriptor, so that one poll loop sees them between other events."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType

CAUGHT = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGCONT,
)


class SignalSource:
    """Catches `CAUGHT` while entered; `fd` is readable when some arrived. Main thread only.

    A signal that was ignored when we started (nohup, a shell's background job) stays ignored.
    """

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._old: dict[signal.Signals, signal._HANDLER] = {}
        self._old_wakeup = -1
        self.fd = self._read.fileno()

    def __enter__(self) -> SignalSource:
        for end in (self._read, self._write):
            end.setblocking(False)
        self._old_wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._old[number] = signal.signal(number, _nothing)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        self._read.close()
        self._write.close()

    def take(self) -> list[signal.Signals]:
        """The signals that arrived since the last call."""
        with contextlib.suppress(BlockingIOError):
            return [signal.Signals(number) for number in self._read.recv(4096)]
        return []

    def suspend(self) -> None:
        """Stops this process as SIGTSTP would have; returns when it is continued."""
        os.kill(os.getpid(), signal.SIGSTOP)


def _nothing(number: int, frame: FrameType | None) -> None:
    """The wakeup descriptor carries the news; Python wants a handler all the same."""
