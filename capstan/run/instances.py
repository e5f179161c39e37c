# SPDX-License-Identifier: BSD-2-Clause
"""Instances: images running or stopped, each with a name, a directory and an owner.

There is no daemon. The owner of an instance is the process that has its QEMU: a supervisor of its
own (`supervisor`), or the `capstan run` in front of the user. It holds the lock `owner` in the
directory all its life, so an instance that is `running` by its record and has no owner was killed.

    created ──start──> running <──unpause── paused
                        │  ^ └────pause────────^
           its program  │  └─started again─ restarting <─┐
           ended, or    │                       ^        │ by the restart policy,
           stop, kill   ├──────stop──> stopping ┘        │ or `restart`
                        │                  │             │
                        ├──────────────────┼─────────────┘
                        v                  v
                      exited <─────────────┘     any of them without an owner ──> dead
    exited, dead ──start──> running

`records.TRANSITIONS` is the same as a table. Every command first calls `repair`, which finds what a
killed process left behind, sets it right and returns a line for each such thing. When an owner
is killed its QEMU goes too (`launch`); nobody starts the instance again but the user.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from capstan import fs, paths, settings
from capstan.errors import EXIT_TOOL, CapstanError, MachineError, UsageError
from capstan.run import events, names, owner, procinfo, records, speccode
from capstan.run.instance import Instance
from capstan.run.records import Config, Folder, Places, Record, State
from capstan.run.repair import repair
from capstan.run.request import InstanceRequest
from capstan.run.restart import RestartPolicy
from capstan.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from capstan.run.instance_keeper import InstanceKeeper
    from capstan.run.spec import RunSpec

LOG_MIN = 4096


class Instances:
    """The instances of the store in `root`."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or paths.data_root()
        self.places = Places(self._root)

    def create(self, request: InstanceRequest, *, foreground: bool = False) -> Instance:
        """A new instance; its lock is held until `start` or `release`.

        Raises:
            MachineError: the name is taken.
            UsageError: it is no name.
        """
        if request.name is not None:
            names.check(request.name)
        policy = request.restart or RestartPolicy()
        if request.auto_remove and policy.kind != "no":
            raise UsageError(
                f"--rm and --restart {policy} exclude each other", hint="leave one out"
            )
        identity = os.urandom(32).hex()
        scratch = self.places.path / f"{fs.TEMP_PREFIX}{identity}"
        with self.places.lock("create"):
            scratch.mkdir(mode=0o700)
            lock = owner.try_lock(scratch / records.OWNER)
        records.step("create: scratch")
        assert lock is not None
        try:
            self._fill(Folder(scratch), identity, request, foreground=foreground)
            records.step("create: filled")
            with self.places.lock("create"):
                self._claim(request, identity)
                records.step("create: named")
                scratch.rename(self.places.path / identity)
        except BaseException:
            records.clear(scratch)
            os.close(lock)
            raise
        records.step("create: there")
        instance = Instance(self.places, self.places.folder(identity), lock)
        try:
            if not foreground:
                instance.keep_image()
        except CapstanError:
            instance.remove()
            raise
        events.tell(self.places, "create", identity, instance.name, image=request.image)
        return instance

    def get(self, text: str) -> Instance:
        """The instance with this name, ID, or unique beginning of an ID.

        Raises:
            MachineError: there is none, or there are several.
        """
        found = self.find(text)
        if found is None:
            raise MachineError(f"there is no instance {text}", hint="`capstan ps -a` lists them")
        return found

    def find(self, text: str) -> Instance | None:
        """The same, None when there is none.

        Raises:
            MachineError: several IDs begin so.
        """
        identity = self.places.owner_of(text) if names.is_name(text) else None
        if identity is None and re.fullmatch("[0-9a-f]{1,64}", text):
            matches = [f.id for f in self.places.folders() if f.id.startswith(text)]
            if len(matches) > 1:
                raise MachineError(f"{len(matches)} instances have IDs that begin with {text}")
            identity = matches[0] if matches else None
        if identity is None or not self.places.folder(identity).path.is_dir():
            return None
        return Instance(self.places, self.places.folder(identity))

    def list(self) -> Sequence[Instance]:
        """All of them."""
        return [Instance(self.places, folder) for folder in self.places.folders()]

    def repair(self) -> Sequence[str]:
        """Lines about what was wrong and has been set right, and about what happened meanwhile."""
        return repair(self.places)

    @contextlib.contextmanager
    def foreground(self, request: InstanceRequest) -> Iterator[InstanceKeeper]:
        """A keeper for a run in this process, which is an instance while it lasts."""
        from capstan.run.instance_keeper import InstanceKeeper

        instance = self.create(request, foreground=True)
        record = Record(pid=os.getpid(), boot=procinfo.boot_id())
        record.pid_start = procinfo.start_time(record.pid)
        keeper = InstanceKeeper(self.places, instance.folder, instance.config, record, None)
        try:
            with self._held(request.digest, instance.name):
                yield keeper
        finally:
            status = EXIT_TOOL if keeper.status is None else keeper.status
            keeper.tell("die", status=status)
            with contextlib.suppress(OSError, CapstanError):  # the next command removes it
                instance.remove()
            keeper.release(status, "")

    def _held(self, digest: str, name: str) -> contextlib.AbstractContextManager[object]:
        if not digest:
            return contextlib.nullcontext()
        return Store(self._root).hold(digest, f"instance {name}")

    def _fill(
        self, folder: Folder, identity: str, request: InstanceRequest, *, foreground: bool
    ) -> None:
        spec = speccode.encode(_anywhere(request.spec))
        assert isinstance(spec, dict)
        config = Config(
            id=identity,
            image=request.image,
            digest=request.digest,
            spec=spec,
            created=time.time(),
            labels=request.labels,
            restart=str(request.restart or RestartPolicy()),
            auto_remove=request.auto_remove,
            open_stdin=request.open_stdin,
            foreground=foreground,
            log_size=max(LOG_MIN, request.log_size or settings.get_int("log_size") or 0),
            log_files=request.log_files or settings.get_int("log_files") or 1,
        )
        folder.save_config(config, synced=not foreground)
        folder.save(Record(), synced=not foreground)

    def _claim(self, request: InstanceRequest, identity: str) -> None:
        if request.name is not None:
            if not self.places.claim(request.name, identity):
                raise names.taken(request.name)
            return
        for name in names.after(request.image):
            if self.places.claim(name, identity):
                return


def _anywhere(spec: RunSpec) -> RunSpec:
    """The same for a process with another working directory."""
    disk, kernel, net = spec.disk.absolute(), spec.kernel.absolute(), spec.net
    if net is not None and net.pcap is not None:
        net = replace(net, pcap=net.pcap.absolute())
    return replace(spec, disk=disk, kernel=kernel, net=net)


__all__ = ["Instance", "InstanceRequest", "Instances", "State", "repair"]
