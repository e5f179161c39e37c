# SPDX-License-Identifier: BSD-2-Clause
"""What happened to all instances, as JSON lines in numbered files (`logs` reads them too).

Any process appends, one entry a write and under a lock, so entries are whole and in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from capstan.errors import MachineError
from capstan.run import logs, owner

if TYPE_CHECKING:
    from capstan.run.records import Places

PREFIX = "events."
LIMIT = 1 << 20
KEEP = 2
LOCK_DEADLINE = 1.0


def tell(places: Places, action: str, identity: str, name: str, **details: object) -> None:
    """Append an event; one that cannot be written is left out: it is news, not state."""
    entry = {
        "time": logs.stamp(time.time()),
        "type": "instance",
        "action": action,
        "id": identity,
        "name": name,
        **details,
    }
    line = json.dumps(entry).encode() + b"\n"
    try:
        with owner.locked(places.path / "events.lock", "events", LOCK_DEADLINE):
            _append(places, line)
    except (OSError, MachineError):
        return


def _append(places: Places, line: bytes) -> None:
    present = logs.files(places.path, PREFIX)
    count = logs.number(present[-1]) if present else 1
    if present and present[-1].stat().st_size > LIMIT:
        count += 1
    path = places.path / f"{PREFIX}{count:06d}{logs.SUFFIX}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        if os.write(fd, line) < len(line):  # the disk is full: no half line before the next one
            os.ftruncate(fd, size)
    finally:
        os.close(fd)
    if present and logs.number(present[-1]) != count:
        for old in logs.files(places.path, PREFIX)[:-KEEP]:
            with contextlib.suppress(OSError):
                old.unlink()
