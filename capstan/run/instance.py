# SPDX-License-Identifier: BSD-2-Clause
"""One instance: what a command asks of it, through its owner or, without one, on disk."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from capstan import paths, proc
from capstan.errors import CapstanError, MachineError
from capstan.run import control, events, names, owner, procinfo, records, speccode
from capstan.run.records import ACTIVE, Config, Folder, Places, Record, State
from capstan.run.repair import repair
from capstan.run.spec import QUIT_DEADLINE, READY_DEADLINE
from capstan.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from capstan.run.spec import RunSpec

START_DEADLINE = READY_DEADLINE + 15.0
ANSWER_DEADLINE = 10.0
OWNER_DEADLINE = 5.0
# The supervisor is a bare interpreter: no site-packages, nothing of the user's environment.
MAIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from capstan.run.supervisor import main; main(sys.argv[2:])"
)


class Instance:
    """One instance; what changes is read anew each time it is asked for."""

    def __init__(self, places: Places, folder: Folder, lock: int | None = None) -> None:
        self._places = places
        self.folder = folder
        self.id = folder.id
        self._lock = lock  # held from its making to its first start

    @property
    def name(self) -> str:
        """Its name now."""
        return self._places.name_of(self.id)

    @property
    def config(self) -> Config:
        """What it is made of."""
        return self.folder.config()

    @property
    def record(self) -> Record:
        """How it is going."""
        return self.folder.record()

    @property
    def state(self) -> State:
        """Where it is."""
        return self.record.state

    @property
    def labels(self) -> dict[str, str]:
        """What it was marked with."""
        return self.config.labels

    @property
    def spec(self) -> RunSpec:
        """What it runs."""
        return speccode.run_spec(self.config.spec)

    @property
    def is_active(self) -> bool:
        """Whether a process takes care of it."""
        return self.folder.is_owned

    def release(self) -> None:
        """Let go of an instance that was made and is not started now."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def start(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Start it in the background; returns when its program runs. Nothing if it runs already.

        Raises:
            MachineError: it did not come up; its state is `exited`, its log has the reason.
        """
        if self._lock is None:
            self._lock = self._take(START_DEADLINE, is_enough=lambda: self.record.state in ACTIVE)
        if self._lock is None:
            return
        try:
            start = self._prepare(say)
            self._spawn(start)
        finally:
            self.release()

    def stop(self, timeout: float | None = None) -> None:
        """Stop it: the stop signal, and after `timeout` seconds (its own grace period) the end.

        Raises:
            MachineError: it does not answer.
        """
        grace = self.spec.grace if timeout is None else timeout
        self._ask_for_end("stop", grace + QUIT_DEADLINE + ANSWER_DEADLINE, timeout=grace)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send its program a signal; SIGKILL ends the virtual machine at once.

        Raises:
            MachineError: it does not run, or does not answer.
        """
        if not self.folder.is_owned:
            raise self._not_running("kill")
        if number == signal.SIGKILL:
            self._ask_for_end("kill", QUIT_DEADLINE + ANSWER_DEADLINE, signal=int(number))
        else:
            self.ask("kill", signal=int(number))

    def restart(self, timeout: float | None, say: Callable[[str], None]) -> None:
        """Stop it and start it again.

        Raises:
            MachineError: it does not end or does not come up.
        """
        if not self.folder.is_owned:
            self.start(say)
            return
        grace = self.spec.grace if timeout is None else timeout
        self.ask("restart", deadline=grace + QUIT_DEADLINE + START_DEADLINE, timeout=grace)

    def pause(self) -> None:
        """Stop its CPUs."""
        self._demand("pause")

    def unpause(self) -> None:
        """Let its CPUs go on."""
        self._demand("unpause")

    def wait(self, deadline: float | None = None) -> int:
        """Its exit status, once it has ended for good.

        Raises:
            MachineError: it still runs after `deadline` seconds, or was never started.
        """
        if self.folder.is_owned:
            with contextlib.suppress(_Gone):
                return int(self._converse("wait", deadline)["status"])
        for line in repair(self._places):
            self._places.note(line)  # for the next command that can tell it
        status = self.record.status
        if status is None:
            raise MachineError(
                f"{self.name} was not started yet", hint=f"capstan start {self.name}"
            )
        return status

    def rename(self, name: str) -> None:
        """Give it another name.

        Raises:
            MachineError: another instance has it.
        """
        names.check(name)
        with self._places.lock("rename"):
            old = self.name
            if not self._places.rename(old, name, self.id):
                raise names.taken(name)
        with contextlib.suppress(CapstanError):
            self.keep_image()  # under the new name
        events.tell(self._places, "rename", self.id, name, old=old)

    def remove(self, *, force: bool = False) -> None:
        """Remove it; one that runs only by `force`.

        Raises:
            MachineError: it runs, or its owner cannot be ended.
        """
        name = self.name
        if self._lock is None:
            if self.folder.is_owned and self._is_running():
                if not force:
                    raise MachineError(
                        f"{name} is {self.record.state.value}",
                        hint=f"`capstan stop {name}` first, or `capstan rm -f {name}`",
                    )
                self._end_owner()
            if not self.folder.path.is_dir():
                return  # its owner removed it: --rm
            self._lock = self._take()
        records.step("rm: locked")
        try:
            self._places.erase(self.folder)
        finally:
            self.release()
        records.step("rm: gone")
        events.tell(self._places, "destroy", self.id, name)

    def ask(
        self, op: str, *, deadline: float = ANSWER_DEADLINE, **values: object
    ) -> dict[str, Any]:
        """What its owner answers to a request.

        Raises:
            MachineError: it refuses, does not answer, or there is no owner.
        """
        try:
            return self._converse(op, deadline, **values)
        except _Gone as err:
            raise self._not_running(op) from err

    def keep_image(self) -> None:
        """Let the store keep its image as long as it is there.

        Raises:
            ImageError: the image was removed.
        """
        if digest := self.config.digest:
            store = Store(self._places.path.parent)
            store.pin(digest, f"instance {self.name}", self.folder.path)

    # --- inside ---

    def _converse(self, op: str, deadline: float | None, **values: object) -> dict[str, Any]:
        with self._connect() as connection:
            try:
                connection.send(op, **values)
                records.step(f"{op}: asked")
                answer = connection.receive(deadline)
            except MachineError as err:
                raise type(err)(f"{self.name}: {err.message}", hint=err.hint) from err
        if answer is None:
            raise _Gone
        return answer

    def _connect(self) -> control.Connection:
        """A connection to the owner, which may be about to open its socket."""
        end = time.monotonic() + OWNER_DEADLINE
        while True:
            try:
                return control.Connection(self.folder.control)
            except MachineError as err:
                if not self.folder.is_owned or time.monotonic() > end:
                    raise _Gone from err
            time.sleep(owner.STEP)

    def _demand(self, op: str) -> None:
        if not self.folder.is_owned:
            raise self._not_running(op)
        self.ask(op)

    def _ask_for_end(self, op: str, deadline: float, **values: object) -> None:
        if self.folder.is_owned:
            with contextlib.suppress(_Gone):
                self._converse(op, deadline, **values)

    def _is_running(self) -> bool:
        try:
            return self.record.state in ACTIVE
        except MachineError:
            return self.folder.is_owned

    def _not_running(self, op: str) -> MachineError:
        state = self.record.state.value
        return MachineError(f"{op}: {self.name} is not running ({state})", hint="`capstan ps -a`")

    def _end_owner(self) -> None:
        """End what runs; an owner that does not answer is killed, QEMU with it."""
        try:
            self.kill()
        except MachineError:
            record = self.record
            if not procinfo.kill_exactly(record.pid, record.pid_start):
                raise
            self._places.note(f"{self.name}: its supervisor did not answer and was killed")

    def _take(
        self, deadline: float = OWNER_DEADLINE, is_enough: Callable[[], bool] = lambda: False
    ) -> int | None:
        """The owner's lock, which its last owner may be about to let go.

        None when `is_enough` while another one has it.
        """
        end = time.monotonic() + deadline
        while (lock := owner.try_lock(self.folder.owner)) is None:
            if is_enough():
                return None
            if time.monotonic() > end:
                raise MachineError(
                    f"{self.name}: another process is at it", hint=f"fuser -v {self.folder.owner}"
                )
            time.sleep(owner.STEP)
        return lock

    def _rival(self) -> str:
        """The name of a running instance that publishes a port of ours, empty for none."""
        mine = _published(self)
        for folder in self._places.folders() if mine else ():
            other = Instance(self._places, folder)
            with contextlib.suppress(MachineError):
                if folder.id != self.id and folder.is_owned and mine & _published(other):
                    return other.name
        return ""

    def _prepare(self, say: Callable[[str], None]) -> dict[str, object]:
        from capstan.run.hostcaps import choose_accel, host_caps

        spec = self.spec
        for what, path in (("image", spec.disk), ("kernel", spec.kernel)):
            if not path.is_file():
                raise MachineError(
                    f"{self.name}: its {what} {path} is gone",
                    hint=f"build or pull {self.config.image} again",
                )
        host = host_caps(spec.kernel, spec.accel)
        accel, note = choose_accel(spec.accel, host)
        if note:
            say(note)
        self.keep_image()
        record = self.record
        record.starting = True
        self.folder.save(record)
        records.step("start: marked")
        return {
            "qemu": os.fspath(host.qemu),
            "version": host.version,
            "kvm": host.kvm.value,
            "accel": accel.value,
        }

    def _spawn(self, start: dict[str, object]) -> None:
        assert self._lock is not None
        hear, tell = os.pipe()
        with open(hear, "rb", buffering=0) as report:  # noqa: PTH123 (a pipe)
            try:
                line = [sys.executable, "-I", "-S", "-c", MAIN, str(paths.PACKAGE.parent)]
                line += [str(self.folder.path), str(self._lock), str(tell)]
                child = proc.spawn(
                    line, stdin=proc.PIPE, pass_fds=[self._lock, tell], new_session=True
                )
            finally:
                os.close(tell)
            self.release()
            records.step("start: spawned")
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError), child.stdin as pipe:
                pipe.write(json.dumps(start).encode() + b"\n")
            child.wait(START_DEADLINE)
            records.step("start: told")
            self._hear(report.fileno())

    def _hear(self, report: int) -> None:
        end = time.monotonic() + START_DEADLINE
        data = b""
        while not data.endswith(b"\n"):
            more = _read_until(report, end)
            if more is None:
                raise MachineError(f"{self.name} did not start within {START_DEADLINE:g} seconds")
            if not more:
                raise MachineError(f"{self.name}: its supervisor failed{self._diary()}")
            data += more
        answer: dict[str, Any] = json.loads(data)
        if "failed" in answer:
            hint = answer.get("hint")
            if "cannot be used" in answer["failed"] and (rival := self._rival()):
                hint = f"instance {rival} publishes it: `capstan stop {rival}`, or another port"
            error = MachineError(f"{self.name}: {answer['failed']}", hint=hint)
            error.exit_code = int(answer.get("status", error.exit_code)) or error.exit_code
            raise error

    def _diary(self) -> str:
        try:
            lines = (self.folder.path / "supervisor.log").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "".join(f"\n  supervisor: {line}" for line in lines[-5:])


def _published(instance: Instance) -> set[tuple[int, str]]:
    net = instance.spec.net
    return {(f.host, f.protocol) for f in net.forwards} if net is not None else set()


class _Gone(Exception):
    """Nobody is at the other end of the control socket."""


def _read_until(fd: int, end: float) -> bytes | None:
    """What can be read from `fd`; None when nothing came until `end`."""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
        return None
    return os.read(fd, 65536)
