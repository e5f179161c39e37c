# SPDX-License-Identifier: BSD-2-Clause
"""The pieces between QEMU's sockets and our standard descriptors: pumps, lines, the terminal.

Nothing here waits; the poll loop in `machine` calls in when a descriptor is ready.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import termios
from dataclasses import dataclass

from capstan.run.params import Terminal

BUFFER = 64 << 10
# A pipe that polls writable has room for one page; a larger write could block.
SAFE_WRITE = 4096
LINE_MAX = 4000


class Pump:
    """Moves bytes from one descriptor to another, holding at most about `BUFFER` of them.

    `moved` counts what was read. A sink that refuses sets `error`; the pump then goes on reading
    and drops what it gets, so that the other side is not stuck. Without a sink, `fill`'s result
    is all there is.
    """

    def __init__(self, source: int | None, sink: int | None, *, blocking: bool = False) -> None:
        self.source = source
        self.sink = sink
        self.blocking = blocking
        self.buffer = bytearray()
        self.moved = 0
        self.error: OSError | None = None

    @property
    def wants_read(self) -> bool:
        """Whether the source is open and there is room."""
        return self.source is not None and len(self.buffer) < BUFFER

    @property
    def wants_write(self) -> bool:
        """Whether there is something to write."""
        return bool(self.buffer) and self.sink is not None

    @property
    def idle(self) -> bool:
        """Whether the source has ended and everything was written."""
        return self.source is None and not self.wants_write

    def fill(self) -> bytes:
        """What was read now; empty with `source` None at the end."""
        assert self.source is not None
        try:
            data = os.read(self.source, BUFFER)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: the terminal is gone; ECONNRESET: QEMU was killed
            data = b""
        if not data:
            self.source = None
        self.moved += len(data)
        self.put(data)
        return data

    def put(self, data: bytes) -> None:
        """Queue bytes of our own."""
        if self.sink is not None and self.error is None:
            self.buffer += data

    def drain(self) -> None:
        """Write what the sink takes."""
        assert self.sink is not None
        try:
            count = os.write(self.sink, self.buffer[: SAFE_WRITE if self.blocking else BUFFER])
        except BlockingIOError:
            return
        except OSError as err:
            self.error = err
            self.buffer.clear()
            return
        del self.buffer[:count]


class Lines:
    """Cuts a byte stream into lines; what is longer than `LINE_MAX` is cut there."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines completed by `data`, without their newlines."""
        *full, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_MAX:
            full.append(self._rest[:LINE_MAX])
            self._rest = self._rest[LINE_MAX:]
        return [line[:LINE_MAX].decode("utf-8", "replace") for line in full]


class Tail:
    """The end of a stream, for the error report."""

    def __init__(self, size: int = 16 << 10) -> None:
        self._size = size
        self._data = b""

    def feed(self, data: bytes) -> None:
        """Remember `data`."""
        self._data = (self._data + data)[-self._size :]

    def lines(self, count: int) -> list[str]:
        """The last lines that are not empty."""
        text = self._data.decode("utf-8", "replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


@dataclass(frozen=True, slots=True)
class Ready:
    """The program is about to run."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The program ended by itself."""

    status: int


@dataclass(frozen=True, slots=True)
class Killed:
    """The program died of a signal."""

    signal: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The program could not be started; `status` is 125, 126 or 127."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A line for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Trace:
    """A line of --strace."""

    text: str


@dataclass(frozen=True, slots=True)
class Stats:
    """The line of --stats."""

    text: str


@dataclass(frozen=True, slots=True)
class Threads:
    """One thread of the program, or "end"."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not a line of the protocol."""

    line: str


ControlLine = Ready | Exited | Killed | Failed | Message | Trace | Stats | Threads | Unknown


def parse_control(line: str) -> ControlLine:
    """What the guest said on the control channel (`docs/host-guest.md`)."""
    word, _, rest = line.partition(" ")
    event: ControlLine = Unknown(line)
    if word == "ready" and not rest:
        event = Ready()
    elif word == "exit" and _number(rest, 255) is not None:
        event = Exited(int(rest))
    elif word == "killed" and _number(rest, 64):
        event = Killed(int(rest))
    elif word == "failed":
        found = re.fullmatch(r"(12[567])(?: (.*))?", rest)
        event = Failed(int(found[1]), found[2] or "") if found else Failed(125, rest)
    elif word == "message":
        event = Message(rest)
    elif word == "trace":
        event = Trace(rest)
    elif word == "stats":
        event = Stats(rest)
    elif word == "threads":
        event = Threads(rest)
    return event


def _number(text: str, most: int) -> int | None:
    if re.fullmatch(r"[0-9]{1,3}", text) and int(text) <= most:
        return int(text)
    return None


def describe(fds: tuple[int, int, int]) -> Terminal:
    """What the guest is told about our standard descriptors."""
    digits = "".join(str(nr) for nr, fd in enumerate(fds) if os.isatty(fd))
    if "0" in digits and not in_foreground(fds[0]):
        digits = digits.replace("0", "")  # a background job may not read its terminal
    rows = columns = 0
    for nr, fd in enumerate(fds):
        if str(nr) in digits and not rows:
            columns, rows = window_size(fd)
    return Terminal(digits, _same_file(fds[1], fds[2]), rows, columns)


def window_size(fd: int) -> tuple[int, int]:
    """Columns and rows of a terminal, zeros if it does not know."""
    try:
        return tuple(os.get_terminal_size(fd))  # type: ignore[return-value]
    except OSError:
        return 0, 0


def in_foreground(fd: int) -> bool:
    """Whether this process may read the terminal `fd` (true for what is no terminal)."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return True


def ensure_open(fds: tuple[int, int, int]) -> None:
    """Opens /dev/null for each closed one, before a socket takes its number."""
    for fd in fds:
        try:
            os.fstat(fd)
        except OSError:
            null = os.open("/dev/null", os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)


def open_sink(fd: int) -> tuple[int, bool]:
    """A descriptor for writing to what `fd` is, and whether a write to it could block.

    O_NONBLOCK belongs to the open file, which we share with the shell and its other children; a
    pipe or terminal can be opened anew through /proc. Where that fails, small writes after
    a poll do it.
    """
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return fd, not stat.S_ISREG(mode)
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(f"/proc/self/fd/{fd}", flags), False
    return fd, True


class RawMode:
    """A terminal that hands every key to the guest, until `leave`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[object] | None = None

    @property
    def active(self) -> bool:
        """Whether the terminal is raw now."""
        return self._saved is not None

    def enter(self) -> None:
        """Make it raw."""
        if self._saved is not None:
            return
        saved = termios.tcgetattr(self._fd)
        raw = [*saved[:6], list(saved[6])]
        raw[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        raw[1] &= ~termios.OPOST
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN] = 1
        raw[6][termios.VTIME] = 0
        self._set(raw)
        self._saved = saved

    def leave(self) -> None:
        """Give the terminal back as it was."""
        if self._saved is not None:
            self._set(self._saved)
            self._saved = None

    def _set(self, attributes: list[object]) -> None:
        # SIGTTOU would stop us if the shell took the terminal back meanwhile.
        old = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSANOW, attributes)  # type: ignore[arg-type]
        finally:
            signal.signal(signal.SIGTTOU, old)


def _same_file(one: int, other: int) -> bool:
    a, b = os.fstat(one), os.fstat(other)
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
