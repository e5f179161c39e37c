# SPDX-License-Identifier: BSD-2-Clause
"""One VM that behaves like a process: start, relay, signals, end.

One poll loop owns everything. QEMU inherits one end of each channel, so there are no paths, ports
or temporary files. A `Keeper` may look on and give orders (`stop`, `pause`, ...): that is how an
instance is watched and controlled from other processes. Deadlines stand on every wait but the
program's own run time:

    started  QEMU runs, `ready` is due           (READY_DEADLINE)
    running  until exit/killed/failed            (--timeout)
    stopping `stop` or a hang-up was sent        (the grace period, then quit, then SIGKILL)
    ended    the guest said how, QEMU must go    (QUIT_DEADLINE)
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from capstan.errors import MachineError, TimeoutExpired
from capstan.run import console, params, qmp, symbols
from capstan.run.keeper import ERR, OUT, TALK, Keeper
from capstan.run.launch import Wires, launch
from capstan.run.qemu_argv import known_trouble
from capstan.run.signals import SignalSource
from capstan.run.spec import QUIT_DEADLINE, READY_DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from capstan.run.hostcaps import HostCaps
    from capstan.run.spec import Accel, RunSpec

# A short run is over before QEMU's answers would be worth their CPU time.
MONITOR_DELAY = 0.3
OUTPUT_PAUSE = 0.1
IMPATIENT_PRESSES = 3
CTRL_C = b"\x03"
QEMU_STATUS = {0: "it was reset: a triple fault?", 1: "an orderly end", 3: "a panic"}
READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
WRITABLE = select.POLLOUT | select.POLLHUP | select.POLLERR


class Machine:
    """One run of `spec`. `run` may be called once, from the main thread."""

    def __init__(
        self,
        spec: RunSpec,
        host: HostCaps,
        accel: Accel,
        streams: tuple[int, int, int] = (0, 1, 2),
        keeper: Keeper | None = None,
    ) -> None:
        console.ensure_open(streams)
        self._spec = spec
        self._host = host
        self._accel = accel
        self._keeper = keeper or Keeper()
        self._stdin, self._stdout, self._stderr = streams
        self._streams = streams
        self._signals = SignalSource()
        self._lines = console.Lines()
        self._serial_tail = console.Tail()
        self._qemu_tail = console.Tail()
        self._deadlines: dict[str, float] = {}
        self._ready = False
        self._end: console.ControlLine | None = None
        self._dead = False
        self._presses = 0
        self._ended_by: signal.Signals | None = None
        self._timed_out = False
        self._trouble = ""

    def run(self) -> int:
        """The exit status of the program, 128+n when signal n ended it.

        Raises:
            MachineError: the program could not be started, or the VM broke down.
            TimeoutExpired: it ran too long.
        """
        captures = self._keeper.captures
        terminal = params.Terminal() if captures else console.describe(self._streams)

        def parameters(spec: RunSpec) -> bytes:
            return params.build(spec, terminal, os.urandom(32), time.time_ns())

        with self._signals, launch(self._spec, self._host, self._accel, parameters) as wires:
            self._wire(wires, terminal)
            try:
                self._keeper.launched(self, wires.child.pid)
                self._loop()
            finally:
                self._raw.leave()
                wires.child.kill()
                wires.child.wait()
                self._monitor.close()
                for fd in self._opened:
                    os.close(fd)
        return self._verdict(wires.child.returncode)

    # --- setting up ---

    def _wire(self, wires: Wires, terminal: params.Terminal) -> None:
        self._child = wires.child
        self._pidfd = wires.pidfd
        self._monitor = qmp.Monitor(wires.qmp, self._on_broken)
        self._raw = console.RawMode(self._stdin)
        if self._keeper.captures:
            self._wire_captured(wires)
        else:
            self._wire_streams(wires)
        self._control_in = console.Pump(wires.control.fileno(), None)
        self._control_out = console.Pump(None, wires.control.fileno())
        self._serial = console.Pump(wires.serial.fileno(), None)
        self._qemu_log = console.Pump(wires.log, None)
        # The guest's line discipline takes over only when both ends of the dialogue are on the
        # terminal; in a pipeline the terminal stays cooked for our neighbours.
        if "0" in terminal.digits and "1" in terminal.digits:
            self._raw.enter()
        now = time.monotonic()
        self._deadlines["monitor"] = now + MONITOR_DELAY
        if self._spec.gdb is None:
            self._deadlines["ready"] = now + READY_DEADLINE
        if self._spec.timeout is not None:
            self._deadlines["timeout"] = now + self._spec.timeout

    def _wire_streams(self, wires: Wires) -> None:
        out, out_blocks = console.open_sink(self._stdout)
        err, err_blocks = console.open_sink(self._stderr)
        self._opened = [fd for fd in (out, err) if fd not in self._streams]
        interactive = os.isatty(self._stdin)
        readable = not interactive or console.in_foreground(self._stdin)
        port = wires.stdio.fileno()
        self._input = console.Pump(self._stdin if readable else None, port)
        self._output = console.Pump(port, out, blocking=out_blocks)
        self._errors = console.Pump(wires.stderr.fileno(), err, blocking=err_blocks)

    def _wire_captured(self, wires: Wires) -> None:
        self._opened = []
        port = wires.stdio.fileno()
        self._input = console.Pump(None, port)
        self._output = console.Pump(port, None)
        self._errors = console.Pump(wires.stderr.fileno(), None)

    # --- the loop ---

    def _loop(self) -> None:
        from_qemu = (self._output, self._errors, self._control_in, self._serial, self._qemu_log)
        while not (self._dead and all(pump.idle for pump in from_qemu)):
            ready = self._wait()
            if self._pidfd in ready:
                self._on_death()
            self._read(ready)
            self._write(ready)
            if self._signals.fd in ready:
                for number in self._signals.take():
                    self._on_signal(number)
            self._keeper.serve(ready)
            self._check_deadlines()
        self._keeper.pause()

    def _wait(self) -> dict[int, int]:
        wanted: dict[int, int] = {self._signals.fd: select.POLLIN, **self._keeper.wants()}
        if not self._dead:
            wanted[self._pidfd] = select.POLLIN
        readers = [self._input, self._output, self._errors, self._monitor.heard]
        talkers = [self._control_in, self._serial, self._qemu_log]
        # What these say may land in the buffer of stderr: no room there, no reading here.
        if len(self._errors.buffer) < console.BUFFER:
            readers += talkers
        elif not self._spec.verbose:
            readers += talkers[1:]
        for pump in readers:
            if pump.wants_read and pump.source is not None:
                wanted[pump.source] = wanted.get(pump.source, 0) | select.POLLIN
        for pump in self._writers():
            if pump.wants_write and pump.sink is not None:
                wanted[pump.sink] = wanted.get(pump.sink, 0) | select.POLLOUT
        poll = select.poll()
        for fd, mask in wanted.items():
            poll.register(fd, mask)
        return dict(poll.poll(self._milliseconds()))

    def _milliseconds(self) -> float | None:
        if not self._deadlines:
            return None
        return max(0.0, (min(self._deadlines.values()) - time.monotonic()) * 1000 + 0.5)

    def _read(self, ready: dict[int, int]) -> None:
        handlers: tuple[tuple[console.Pump, Callable[[bytes], None]], ...] = (
            (self._serial, self._on_serial),
            (self._qemu_log, self._on_qemu_log),
            (self._output, self._on_output),
            (self._errors, self._on_errors),
            (self._monitor.heard, self._monitor.feed),
            (self._control_in, self._on_control),
            (self._input, self._on_input),
        )
        for pump, handle in handlers:
            if pump.wants_read and ready.get(pump.source or 0, 0) & READABLE:
                data = pump.fill()
                if data or pump is self._input or pump.source is None:
                    handle(data)

    def _write(self, ready: dict[int, int]) -> None:
        for pump in self._writers():
            # What was just read goes out at once where a write cannot block.
            if pump.wants_write and (not pump.blocking or ready.get(pump.sink or 0, 0) & WRITABLE):
                pump.drain()
        broken = self._output.error or (self._errors.error if self._errors.moved else None)
        if broken is not None and not self._dead:
            self._child.kill()

    def _writers(self) -> tuple[console.Pump, ...]:
        orders = self._monitor.orders
        return self._output, self._errors, self._control_out, self._input, orders

    # --- what QEMU and the guest say ---

    def _on_death(self) -> None:
        self._child.wait()
        self._dead = True
        self._input.source = None
        self._input.buffer.clear()
        self._deadlines.clear()

    def _on_output(self, data: bytes) -> None:
        self._capture(OUT, data)

    def _on_errors(self, data: bytes) -> None:
        self._capture(ERR, data)

    def _capture(self, stream: str, data: bytes) -> None:
        self._presses = 0
        if self._keeper.captures and data:
            self._keeper.output(stream, data)
            self._deadlines["pause"] = time.monotonic() + OUTPUT_PAUSE

    def _on_serial(self, data: bytes) -> None:
        self._serial_tail.feed(data)
        if self._spec.verbose:
            self._tell(data)

    def _on_qemu_log(self, data: bytes) -> None:
        self._qemu_tail.feed(data)
        if self._spec.verbose:
            self._tell(data)

    def _tell(self, text: bytes) -> None:
        """Put our own text on stderr, with carriage returns if nobody adds them."""
        if self._keeper.captures:
            self._keeper.output(TALK, text)
        self._errors.put(text.replace(b"\n", b"\r\n") if self._raw.active else text)

    def _on_control(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            event = console.parse_control(line)
            match event:
                case console.Ready():
                    self._ready = True
                    self._deadlines.pop("ready", None)
                    self._on_ready()
                case console.Exited() | console.Killed() | console.Failed():
                    self._end = self._end or event
                    self._deadlines.clear()
                    self._deadlines["kill"] = time.monotonic() + QUIT_DEADLINE
                case console.Message(text):
                    self._tell(f"capstan: {text}\n".encode())
                case console.Trace(text):
                    self._tell(f"{text}\n".encode())
                case console.Stats(text):
                    self._tell(f"capstan: stats: {text}\n".encode())
                case console.Threads(text):
                    self._keeper.threads(text)
                case console.Unknown(line):
                    self._tell(f"capstan: strange line from the guest: {line!r}\n".encode())

    def _on_ready(self) -> None:
        """QEMU's ports are open by now; without longer queues many clients at once are slow."""
        self._keeper.ready()
        net = self._spec.net
        if net is None or all(forward.protocol != "tcp" for forward in net.forwards):
            return
        from capstan.run import backlog

        try:
            backlog.lengthen(self._child.pid, self._pidfd)
        except OSError as err:
            if self._spec.verbose:
                why = f"QEMU's ports keep their short queues: {err.strerror}"
                self._tell(f"capstan: {why}\n".encode())

    def _on_broken(self, state: str) -> None:
        if not self._dead:
            self._trouble = f"the virtual machine broke down ({state})"
            self._child.kill()

    # --- what the user and the system say ---

    def _on_input(self, data: bytes) -> None:
        if self._input.source is None:
            self._order(f"eof {self._input.moved}")
        elif self._raw.active and data == CTRL_C:
            self._press(signal.SIGINT)

    def _on_signal(self, number: signal.Signals) -> None:
        self._keeper.signalled(number)
        if number is signal.SIGWINCH:
            columns, rows = console.window_size(self._stdin)
            if rows and columns:
                self._order(f"winsize {rows} {columns}")
        elif number is signal.SIGTSTP:
            self._suspend()
        elif number is signal.SIGCONT:
            self._resume_input()
        elif self._dead:
            self._ended_by = number
            for pump in (self._output, self._errors):
                pump.source = None
                pump.buffer.clear()
        elif not self._ready or (number is signal.SIGTERM and "grace" in self._deadlines):
            self._end_hard(number)
        elif number is signal.SIGTERM:
            self._stop(number)
        elif number is signal.SIGHUP:
            self._order(f"signal {number:d}")
            self._deadlines.setdefault("grace", time.monotonic() + self._spec.grace)
            self._ended_by = number
        else:
            self._order(f"signal {number:d}")
            self._press(number)

    def _press(self, number: signal.Signals) -> None:
        """Ctrl-C or Ctrl-\\: after a few that nothing answers, pull the plug."""
        self._presses += 1
        if self._presses >= IMPATIENT_PRESSES or not self._ready:
            self._end_hard(number)

    def _suspend(self) -> None:
        was_raw = self._raw.active
        self._raw.leave()
        self._child.send_signal(signal.SIGSTOP)
        self._signals.suspend()
        self._child.send_signal(signal.SIGCONT)
        if was_raw and console.in_foreground(self._stdin):
            self._raw.enter()

    def _resume_input(self) -> None:
        """A background job came to the foreground: now its terminal may be read."""
        untouched = self._input.source is None and not self._input.moved
        if untouched and os.isatty(self._stdin) and console.in_foreground(self._stdin):
            self._input.source = self._stdin

    def _order(self, line: str) -> None:
        self._control_out.put(f"{line}\n".encode())

    # --- what the keeper orders ---

    @property
    def is_ready(self) -> bool:
        """Whether the program has been started."""
        return self._ready

    @property
    def stop_signal(self) -> int:
        """The signal that `stop` sends."""
        return self._spec.stop_signal

    def stop(self, grace: float) -> None:
        """Send the image's stop signal; after `grace` seconds the VM is ended."""
        if self._ready:
            self._stop(signal.SIGTERM, grace)
        else:
            self._end_hard(signal.SIGKILL)

    def kill(self) -> None:
        """End the VM now."""
        self._end_hard(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal to the program."""
        self._order(f"signal {number:d}")

    def send_input(self, data: bytes) -> bool:
        """Give the program bytes on stdin; False when there is no room now."""
        if len(self._input.buffer) >= console.BUFFER:
            return False
        self._input.moved += len(data)
        self._input.put(data)
        return True

    def end_input(self) -> None:
        """End the program's stdin after what `send_input` gave."""
        self._order(f"eof {self._input.moved}")

    def ask(self, command: str, done: qmp.Done, **arguments: object) -> None:
        """Give QEMU's monitor a command."""
        self._monitor.execute(command, done, **arguments)

    def ask_threads(self) -> None:
        """Ask the guest for its threads; `Keeper.threads` gets the lines."""
        self._order("threads")

    # --- the end ---

    def _stop(self, number: signal.Signals, grace: float | None = None) -> None:
        own = self._spec.stop_signal
        self._order("stop" if own is signal.SIGTERM else f"signal {own:d}")
        self._ended_by = number
        seconds = self._spec.grace if grace is None else grace
        self._deadlines["grace"] = time.monotonic() + seconds

    def _end_hard(self, number: signal.Signals) -> None:
        self._ended_by = number
        self._deadlines.clear()
        if self._monitor.quit():
            self._deadlines["kill"] = time.monotonic() + QUIT_DEADLINE
        else:
            self._child.kill()

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        for name in [name for name, due in self._deadlines.items() if due <= now]:
            if self._deadlines.pop(name, None) is None:
                continue
            match name:
                case "monitor":
                    self._monitor.start()
                case "ready":
                    self._trouble = f"the program did not start within {READY_DEADLINE:g} seconds"
                    self._end_hard(signal.SIGKILL)
                case "timeout":
                    self._timed_out = True
                    if self._ready:
                        self._stop(signal.SIGTERM)
                    else:
                        self._end_hard(signal.SIGKILL)
                case "grace":
                    self._end_hard(signal.SIGKILL)
                case "kill":
                    self._child.kill()
                case "pause":
                    self._keeper.pause()

    def _verdict(self, qemu_status: int) -> int:
        if self._output.error is not None or (self._errors.error and self._errors.moved):
            return self._broken_sink()
        if self._timed_out:
            raise TimeoutExpired(f"the program ran longer than {self._spec.timeout:g} seconds")
        match self._end:
            case console.Exited(status):
                return status
            case console.Killed(number):
                return 128 + number
            case console.Failed(status, text):
                error = MachineError(text or "the program could not be started")
                error.exit_code = status
                raise error
        if not self._trouble and self._ended_by is not None:
            return 128 + self._ended_by
        if known := known_trouble("\n".join(self._qemu_tail.lines(40))):
            raise known
        if qemu_status < 0 and not self._trouble:
            raise _killed(signal.Signals(-qemu_status))
        how = QEMU_STATUS.get(qemu_status, f"QEMU status {qemu_status}")
        what = self._trouble or f"the guest ended without a word ({how})"
        raise MachineError(
            what + self._evidence(),
            hint="-v shows the whole log; --accel tcg tells a limit of this host from a bug",
        )

    def _broken_sink(self) -> int:
        error = self._output.error or self._errors.error
        if error is not None and error.errno not in (errno.EPIPE, errno.EIO):
            where = "stdout" if self._output.error else "stderr"
            raise MachineError(f"cannot write to {where}: {error.strerror}")
        return 128 + signal.SIGPIPE

    def _evidence(self) -> str:
        text = ""
        for title, tail in (("console", self._serial_tail), ("QEMU", self._qemu_tail)):
            if lines := symbols.explain(tail.lines(40), self._spec.kernel):
                text += "".join(f"\n  {title}: {line}" for line in lines)
        return text


def _killed(number: signal.Signals) -> MachineError:
    error = MachineError(
        f"QEMU was killed by {number.name}",
        hint="by a user, or by the host when memory was short: `dmesg` knows",
    )
    error.exit_code = 128 + number
    return error
