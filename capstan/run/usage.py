# SPDX-License-Identifier: BSD-2-Clause
"""What instances use of the host, from /proc, /sys and QEMU's monitor."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.errors import MachineError
from capstan.run import procinfo
from capstan.run.net import NetKind
from capstan.run.records import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from capstan.run.instances import Instance
    from capstan.run.net import NetSpec

INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Usage:
    """One look at an instance; None is what nobody knows (QEMU's own network has no counters).

    `memory`: PSS of QEMU; `resident`: its RSS; `owner_memory`: PSS of the supervisor.
    """

    name: str
    id: str
    at: float
    cpu_seconds: float
    memory: int
    resident: int
    owner_memory: int
    limit: int
    threads: int
    net_in: int | None
    net_out: int | None
    block_read: int | None
    block_written: int | None


def measure(instance: Instance) -> Usage | None:
    """A look at an instance, None when it does not run."""
    try:
        record, config, spec = instance.record, instance.config, instance.spec
    except MachineError:
        return None
    if record.state not in ACTIVE or not procinfo.start_time(record.qemu):
        return None
    resident, proportional = procinfo.memory(record.qemu)
    net_in, net_out = _net(spec.net)
    blocks: dict[str, int] = {}
    with contextlib.suppress(MachineError):
        blocks = instance.ask("stats")
    return Usage(
        name=instance.name,
        id=config.id,
        at=time.monotonic(),
        cpu_seconds=procinfo.cpu_seconds(record.qemu),
        memory=proportional,
        resident=resident,
        owner_memory=procinfo.memory(record.pid)[1],
        limit=spec.memory,
        threads=procinfo.threads(record.qemu),
        net_in=net_in,
        net_out=net_out,
        block_read=blocks.get("block_read"),
        block_written=blocks.get("block_written"),
    )


def cpu_percent(before: Usage, after: Usage) -> float:
    """CPU time between two looks; 100 is one CPU."""
    seconds = after.at - before.at
    return 100 * (after.cpu_seconds - before.cpu_seconds) / seconds if seconds > 0 else 0.0


def measure_all(instances: Sequence[Instance]) -> dict[str, Usage]:
    """A look at each that runs, by ID."""
    looks = (measure(instance) for instance in instances)
    return {look.id: look for look in looks if look is not None}


def _net(net: NetSpec | None) -> tuple[int | None, int | None]:
    if net is None or net.kind is NetKind.USER:
        return None, None
    folder = INTERFACES / net.interface / "statistics"
    try:
        # What the host's end sends is what the guest receives.
        return int((folder / "tx_bytes").read_text()), int((folder / "rx_bytes").read_text())
    except (OSError, ValueError):
        return None, None
