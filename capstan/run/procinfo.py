# SPDX-License-Identifier: BSD-2-Clause
"""What /proc says of a process: which one it is, what it uses (`man 5 proc`)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
GONE_DEADLINE = 5.0
_STATE, _UTIME, _STIME, _START = 0, 11, 12, 19  # after the name in parentheses


def start_time(pid: int) -> int:
    """When `pid` was started, in ticks since the host's boot; 0 when it does not run."""
    fields = _stat(pid)
    return int(fields[_START]) if fields and fields[_STATE] not in "ZX" else 0


def boot_id() -> str:
    """Which boot of the host this is."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def cpu_seconds(pid: int) -> float:
    """The CPU time `pid` has used, 0 when it does not run."""
    fields = _stat(pid)
    if not fields:
        return 0.0
    return (int(fields[_UTIME]) + int(fields[_STIME])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[int, int]:
    """Resident and proportional (PSS) bytes of `pid`; zeros when it does not run."""
    values = {"Rss:": 0, "Pss:": 0}
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    for line in lines:
        word, _, rest = line.partition(" ")
        if word in values:
            values[word] = int(rest.split()[0]) << 10
    return values["Rss:"], values["Pss:"]


def threads(pid: int) -> int:
    """How many threads `pid` has."""
    fields = _stat(pid)
    return int(fields[17]) if fields else 0


def kill_exactly(pid: int, started: int) -> bool:
    """Kill the process `pid` if it is the one that was `started` then, and see it gone.

    True when it is not there any more.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        if start_time(pid) != started:
            return True
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    finally:
        os.close(fd)
    end = time.monotonic() + GONE_DEADLINE
    while start_time(pid) == started and time.monotonic() < end:
        time.sleep(0.005)
    return start_time(pid) != started


def _stat(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
