# SPDX-License-Identifier: BSD-2-Clause
"""What is on disk of instances: one directory each, names as links, notes for the user.

    instances/lock              held while names change and directories come and go
    instances/names/NAME        link to ../ID: claimed by making it, renamed in one step
    instances/notes/*           lines the next command prints once
    instances/ID/instance.json  what to run and how (`Config`), never changed
    instances/ID/state.json     how it is going (`Record`), replaced as a whole
    instances/ID/owner          lock file, held by the process that has QEMU
    instances/ID/control        socket of that process
    instances/ID/log.*.json     output, see `logs`

The owner alone writes `state.json`; without an owner, whoever takes the lock may. State survives
`kill -9` because every change is one rename; those that must survive a power cut are synced.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capstan import fs
from capstan.errors import MachineError
from capstan.run import owner

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG, STATE, OWNER, CONTROL = "instance.json", "state.json", "owner", "control"
GONE = ".gone-"
SHORT_ID = 12
VERSION = 1


def step(name: str) -> None:
    """A named point between two changes on disk; tests put something here that kills us."""


class State(Enum):
    """Where an instance is; `instances` has the machine."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    EXITED = "exited"
    DEAD = "dead"


ACTIVE = (State.RUNNING, State.PAUSED, State.RESTARTING, State.STOPPING)
TRANSITIONS: dict[State, tuple[State, ...]] = {
    State.CREATED: (State.RUNNING, State.EXITED, State.DEAD),
    State.RUNNING: (
        State.PAUSED,
        State.RESTARTING,
        State.STOPPING,
        State.EXITED,
        State.DEAD,
    ),
    State.PAUSED: (State.RUNNING, State.STOPPING, State.RESTARTING, State.EXITED, State.DEAD),
    State.RESTARTING: (State.RUNNING, State.STOPPING, State.EXITED, State.DEAD),
    State.STOPPING: (State.RESTARTING, State.EXITED, State.DEAD),
    State.EXITED: (State.RUNNING, State.EXITED, State.DEAD),
    State.DEAD: (State.RUNNING, State.EXITED, State.DEAD),
}
"""What may follow what; a state may always follow itself."""


@dataclass(frozen=True, slots=True)
class Config:
    """What an instance is made of; `spec` is a `RunSpec` as `speccode` writes it."""

    id: str
    image: str
    digest: str
    spec: dict[str, Any]
    created: float
    labels: dict[str, str] = field(default_factory=dict)
    restart: str = "no"
    auto_remove: bool = False
    open_stdin: bool = False
    foreground: bool = False
    log_size: int = 10 << 20
    log_files: int = 3
    version: int = VERSION


@dataclass(slots=True)
class Record:
    """How an instance is going. Times are seconds since 1970, 0: never; `status` None: none yet.

    `pid` and `pid_start` name the owner, `qemu` and `qemu_start` its QEMU; `boot` is the boot of
    the host they belong to. `starting`: a command is about to start it.
    """

    state: State = State.CREATED
    starting: bool = False
    pid: int = 0
    pid_start: int = 0
    qemu: int = 0
    qemu_start: int = 0
    boot: str = ""
    started: float = 0.0
    ready: float = 0.0
    finished: float = 0.0
    status: int | None = None
    reason: str = ""
    restarts: int = 0

    def enter(self, state: State) -> None:
        """Go to `state`.

        Raises:
            MachineError: there is no way from here to there.
        """
        if state is not self.state and state not in TRANSITIONS[self.state]:
            raise MachineError(f"an instance that is {self.state.value} cannot be {state.value}")
        self.state = state


class Folder:
    """The directory of one instance."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.owner = path / OWNER
        self.control = path / CONTROL

    def config(self) -> Config:
        """What it is made of.

        Raises:
            MachineError: the file is damaged, or of a newer version.
        """
        raw = self._read(CONFIG)
        try:
            return Config(**raw)
        except TypeError as err:
            raise self._damaged(CONFIG, err) from err

    def record(self) -> Record:
        """How it is going.

        Raises:
            MachineError: the file is damaged.
        """
        raw = self._read(STATE)
        try:
            return Record(**{**raw, "state": State(raw["state"])})
        except (TypeError, ValueError, KeyError) as err:
            raise self._damaged(STATE, err) from err

    def save(self, record: Record, *, synced: bool = True) -> None:
        """Replace the record; the caller holds the owner's lock."""
        data = json.dumps({**asdict(record), "state": record.state.value}).encode()
        write(self.path / STATE, data, synced=synced)

    def save_config(self, config: Config, *, synced: bool = True) -> None:
        """Write what it is made of, once."""
        write(self.path / CONFIG, json.dumps(asdict(config)).encode(), synced=synced)

    @property
    def is_owned(self) -> bool:
        """Whether a process takes care of it now."""
        return owner.is_held(self.owner)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            raw = json.loads((self.path / name).read_bytes())
        except FileNotFoundError as err:
            raise MachineError(f"instance {self.id[:SHORT_ID]} was removed") from err
        except ValueError as err:
            raise self._damaged(name, err) from err
        if not isinstance(raw, dict):
            raise self._damaged(name, TypeError("no object"))
        return raw

    def _damaged(self, name: str, err: Exception) -> MachineError:
        return MachineError(
            f"instance {self.id[:SHORT_ID]}: {name} is damaged ({err})",
            hint=f"capstan rm -f {self.id[:SHORT_ID]}",
        )


class Places:
    """The directory of all instances of a store."""

    def __init__(self, root: Path) -> None:
        self.path = root / "instances"
        self.names = self.path / "names"
        self.notes = self.path / "notes"

    def lock(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Hold off everybody else who changes names or directories."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return owner.locked(self.path / "lock", what)

    def folders(self) -> list[Folder]:
        """All instances."""
        try:
            with os.scandir(self.path) as entries:
                ids = [entry.name for entry in entries if is_id(entry.name)]
        except FileNotFoundError:
            return []
        return [Folder(self.path / name) for name in sorted(ids)]

    def folder(self, identity: str) -> Folder:
        """The one with this ID."""
        return Folder(self.path / identity)

    def owner_of(self, name: str) -> str | None:
        """The ID behind a name."""
        try:
            return (self.names / name).readlink().name
        except (OSError, ValueError):
            return None

    def all_names(self) -> dict[str, str]:
        """From IDs to names."""
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.names) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found[Path(entry.path).readlink().name] = entry.name
        return found

    def name_of(self, identity: str) -> str:
        """The name of an instance, its short ID when it has lost it."""
        return self.all_names().get(identity, identity[:SHORT_ID])

    def claim(self, name: str, identity: str) -> bool:
        """Make `name` mean `identity`; False when it means another one. The lock is held."""
        self.names.mkdir(mode=0o700, exist_ok=True)
        link = self.names / name
        for _ in range(2):
            try:
                link.symlink_to(f"../{identity}")
            except FileExistsError:
                taken = self.owner_of(name)
                if taken is not None and (self.path / taken).is_dir():
                    return False
                link.unlink(missing_ok=True)  # its maker was killed
            else:
                return True
        return False

    def rename(self, old: str, new: str, identity: str) -> bool:
        """Let `new` mean what `old` did; False when it means another one. The lock is held."""
        taken = self.owner_of(new)
        if taken is not None and (self.path / taken).is_dir():
            return taken == identity
        if self.owner_of(old) != identity:  # it had lost its name
            return self.claim(new, identity)
        (self.names / old).rename(self.names / new)
        return True

    def erase(self, folder: Folder) -> None:
        """Remove an instance; the caller holds its owner's lock."""
        gone = self.path / f"{GONE}{folder.id}"
        with self.lock("rm"):
            with contextlib.suppress(FileNotFoundError):
                folder.path.rename(gone)
            step("rm: moved")
            self.forget_names()
        step("rm: unnamed")
        clear(gone)

    def forget_names(self) -> None:
        """Remove names that mean nothing. The lock is held."""
        for identity, name in self.all_names().items():
            if not (self.path / identity).is_dir():
                (self.names / name).unlink(missing_ok=True)

    def note(self, text: str) -> None:
        """Leave a line for the next command to print."""
        self.notes.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self.notes / f"{time.time_ns():020d}-{os.getpid()}", text.encode(), synced=False)

    def take_notes(self) -> Iterator[str]:
        """The lines left, each one once."""
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self.notes.iterdir()):
                with contextlib.suppress(OSError):
                    text = path.read_text(errors="replace")
                    path.unlink()
                    yield text


def clear(folder: Path) -> None:
    """Remove a directory, the lock file last: as long as it is there and held, others wait."""
    with contextlib.suppress(OSError):  # somebody else may be at it
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != OWNER:
                entry.unlink(missing_ok=True)
        (folder / OWNER).unlink(missing_ok=True)
        folder.rmdir()


def is_id(name: str) -> bool:
    """Whether a file of the directory is an instance."""
    return len(name) == 64 and all(c in "0123456789abcdef" for c in name)


def write(path: Path, data: bytes, *, synced: bool) -> None:
    """Replace a file in one step."""
    if synced:
        fs.atomic_write(path, data, 0o600)
        return
    temp = path.with_name(f"{fs.TEMP_PREFIX}{path.name}.{os.getpid()}")
    with open(temp, "wb", opener=_private) as out:
        out.write(data)
    temp.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
