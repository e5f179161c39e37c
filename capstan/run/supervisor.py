# SPDX-License-Identifier: BSD-2-Clause
"""The process behind a background instance: it has QEMU, writes the log, restarts, and ends.

Started by `instances` with the owner's lock as an inherited descriptor, so the instance is never
without an owner between the two. It forks away from its starter, reports once through a
pipe (ready, or why not), and lives as long as the instance does. It is a bare interpreter without
site-packages: only modules that an idle instance can afford are imported here.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from capstan.errors import CapstanError
from capstan.run import logs, procinfo, records, restart, speccode
from capstan.run.hostcaps import HostCaps, KvmKind
from capstan.run.instance_keeper import InstanceKeeper
from capstan.run.keeper import TALK
from capstan.run.machine import Machine
from capstan.run.records import Folder, Places, State
from capstan.run.signals import SignalSource
from capstan.run.spec import Accel

DIARY = "supervisor.log"


class Supervisor:
    """Runs the instance in `folder` until it has ended for good."""

    def __init__(
        self, folder: Folder, lock: int, report: int, host: HostCaps, accel: Accel
    ) -> None:
        self._places = Places(folder.path.parent.parent)
        self._folder = folder
        self._lock = lock
        self._report = report
        self._host, self._accel = host, accel
        self._config = folder.config()
        self._spec = speccode.run_spec(self._config.spec)
        self._record = folder.record()
        self._record.pid = os.getpid()
        self._record.pid_start = procinfo.start_time(os.getpid())
        self._record.boot = procinfo.boot_id()
        self._record.restarts = 0
        self._log = logs.Writer(folder.path, self._config.log_size, self._config.log_files)
        if self._record.state is State.DEAD:
            self._log.end_lines()
        self._keeper = InstanceKeeper(self._places, folder, self._config, self._record, self._log)
        self._keeper.on_ready = self._on_ready
        self._error: CapstanError | None = None

    def run(self) -> None:
        """All runs of the instance, and its end."""
        backoff = restart.Backoff(restart.parse(self._config.restart))
        keeper, record = self._keeper, self._record
        came_up = False
        signal.signal(signal.SIGTERM, lambda *_: keeper.signalled(signal.SIGTERM))
        while True:
            begin = time.monotonic()
            status = self._one_run()
            came_up = came_up or keeper.was_ready
            if keeper.again:
                backoff = restart.Backoff(restart.parse(self._config.restart))
                self._between(status)
                keeper.again = keeper.by_user = False
                continue
            if keeper.by_user or not came_up:
                break
            pause = backoff.after(status, time.monotonic() - begin)
            if pause is None:
                break
            self._between(status)
            if self._error is not None:
                self._note(f"{record.reason}; it is started again")
            if not self._rest(pause):
                break
            record.restarts += 1
        self._finish(status, came_up=came_up)

    def _one_run(self) -> int:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        machine = Machine(self._spec, self._host, self._accel, (null, null, null), self._keeper)
        self._error = None
        try:
            status = machine.run()
        except CapstanError as err:
            status, self._error = err.exit_code, err
            self._log.write(TALK, f"capstan: {err.message}\n".encode("utf-8", "surrogateescape"))
        finally:
            self._keeper.machine = None
            os.close(null)
        self._record.status = status
        self._record.reason = self._error.message.partition("\n")[0] if self._error else ""
        self._record.finished = time.time()
        return status

    def _between(self, status: int) -> None:
        self._keeper.tell("die", status=status, reason=self._record.reason)
        self._keeper.enter(State.RESTARTING)

    def _rest(self, seconds: float) -> bool:
        """Wait before the next start; False when a stop came instead."""
        keeper = self._keeper
        end = time.monotonic() + seconds
        with SignalSource() as signals:
            while not keeper.by_user and not keeper.again and time.monotonic() < end:
                poll = select.poll()
                for fd, mask in {**keeper.wants(), signals.fd: select.POLLIN}.items():
                    poll.register(fd, mask)
                ready = dict(poll.poll(max(0.0, end - time.monotonic()) * 1000 + 0.5))
                if any(number is signal.SIGTERM for number in signals.take()):
                    keeper.by_user = True
                keeper.serve(ready)
        keeper.again = False
        return not keeper.by_user

    def _on_ready(self) -> None:
        self._tell_starter(ready=True)

    def _tell_starter(self, **values: object) -> None:
        if self._report >= 0:
            with contextlib.suppress(OSError):
                os.write(self._report, json.dumps(values).encode() + b"\n")
            self._report = -1  # stays open: `main` may write to it, and must not hit another file

    def _note(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._places.note(f"{self._places.name_of(self._config.id)}: {text}")

    def _finish(self, status: int, *, came_up: bool) -> None:
        keeper, record, config = self._keeper, self._record, self._config
        record.starting = False
        records.step("supervisor: ended")
        if self._error is not None and came_up:
            # Before the state: who waits for that asks for the reason next.
            self._note(record.reason + (" (removed: --rm)" if config.auto_remove else ""))
        keeper.enter(State.EXITED)
        records.step("supervisor: recorded")
        keeper.tell("die", status=status, reason=record.reason)
        self._log.close()
        if config.auto_remove:
            name = self._places.name_of(config.id)
            self._places.erase(self._folder)
            keeper.tell("destroy", was=name)
        os.close(self._lock)  # whoever hears of the end may start or remove it
        if self._error is not None:
            self._tell_starter(
                failed=self._error.message, hint=self._error.hint, status=self._error.exit_code
            )
        self._tell_starter(failed=f"it ended with status {status}", status=status)
        keeper.release(status, record.reason)


def main(argv: list[str]) -> None:
    """The supervisor of the directory `argv[0]`; `argv[1:]`: descriptors of lock and report."""
    folder, lock, report = Folder(Path(argv[0])), int(argv[1]), int(argv[2])
    start: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    if os.fork():
        os._exit(0)
    records.step("supervisor: forked")
    for fd in (lock, report):
        os.set_inheritable(fd, False)
    _settle(folder)
    host = HostCaps(Path(start["qemu"]), tuple(start["version"]), KvmKind(start["kvm"]))
    try:
        Supervisor(folder, lock, report, host, Accel(start["accel"])).run()
    except (CapstanError, OSError) as err:
        text = err.message if isinstance(err, CapstanError) else str(err)
        hint = err.hint if isinstance(err, CapstanError) else None
        with contextlib.suppress(OSError):  # it was told already
            os.write(report, json.dumps({"failed": text, "hint": hint}).encode() + b"\n")
        raise


def _settle(folder: Folder) -> None:
    """No terminal, no directory, no descriptors of whoever started us."""
    os.chdir("/")
    os.umask(0o077)
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text("capstan-super")
    null = os.open(os.devnull, os.O_RDWR)
    diary = os.open(folder.path / DIARY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(diary, 2)
    os.close(null)
    os.close(diary)
