# SPDX-License-Identifier: BSD-2-Clause
"""What a killed process left behind of an instance is set right, and told in a line each.

Everything is decided by locks: a directory that is being made or removed, a record that says
`running`, a start that is under way all belong to a process that holds the owner's lock. Without
one, that process is dead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from capstan import fs
from capstan.errors import MachineError
from capstan.run import events, owner, procinfo, records
from capstan.run.records import ACTIVE, Folder, Places, Record, State


def repair(places: Places) -> list[str]:
    """Lines about what was wrong and has been set right, and about what happened meanwhile."""
    if not places.path.is_dir():
        return []
    lines = list(places.take_notes())
    try:
        with places.lock("repair"):
            lines += _sweep(places)
        for folder in places.folders():
            with contextlib.suppress(MachineError):  # damaged: `ps` shows it, `rm -f` removes it
                lines += _mend(places, folder)
    except OSError as err:  # a full disk, or one that is read-only: listings still work
        lines.append(f"instances cannot be put in order: {err}")
    return lines


def _sweep(places: Places) -> list[str]:
    """Remove what was being made or removed, and names of nothing. The lock is held."""
    lines = []
    for entry in sorted(places.path.iterdir()):
        is_made = entry.name.startswith(fs.TEMP_PREFIX)
        is_ours = is_made or entry.name.startswith(records.GONE)
        if is_ours and entry.is_dir() and not owner.is_held(entry / records.OWNER):
            is_over = not (entry / records.OWNER).exists()  # nothing else is left in it
            records.clear(entry)
            what = "making" if is_made else "removal"
            if not is_over:
                lines.append(f"the {what} of an instance was cut off; its remains are removed")
    places.forget_names()
    return lines


def _mend(places: Places, folder: Folder) -> list[str]:
    record = folder.record()
    if not (record.state in ACTIVE or record.starting or folder.config().foreground):
        return []
    lock = None if folder.is_owned else owner.try_lock(folder.owner)
    if lock is None:
        return []
    try:
        record, config = folder.record(), folder.config()
        name = places.name_of(folder.id)
        if record.state not in ACTIVE and not config.foreground:
            if not record.starting:
                return []
            record.starting = False
            folder.save(record)
            line = f"{name}: its start was cut off; `capstan start {name}` starts it"
        else:
            line = _bury(folder, record, name, is_foreground=config.foreground)
            status = 128 + signal.SIGKILL
            events.tell(places, "die", folder.id, name, image=config.image, status=status)
        if config.auto_remove or config.foreground:
            places.erase(folder)
            line = line.partition("; ")[0] + "; it is removed"
        return [line]
    finally:
        os.close(lock)


def _bury(folder: Folder, record: Record, name: str, *, is_foreground: bool) -> str:
    owned_by = "capstan run" if is_foreground else "supervisor"
    if record.boot != procinfo.boot_id():
        reason = "the host was restarted while it ran"
    else:
        procinfo.kill_exactly(record.qemu, record.qemu_start)
        reason = f"its {owned_by} (process {record.pid}) was killed, and its QEMU with it"
    (folder.control).unlink(missing_ok=True)
    if record.state is State.CREATED:
        return f"{name}: {reason}"
    record.enter(State.DEAD)
    record.starting = False
    record.status, record.reason, record.finished = 128 + signal.SIGKILL, reason, time.time()
    folder.save(record)
    return f"{name}: {reason}; `capstan start {name}` starts it again"
