# SPDX-License-Identifier: BSD-2-Clause
"""The parameters the guest finds as its first PVH module (`docs/host-guest.md`, "Start").

NUL-terminated `key=value` strings; bytes go through unaltered (`os.fsencode`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capstan.errors import UsageError
from capstan.run.spec import MachineType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from capstan.run.spec import RunSpec

# Linux refuses larger argument lists too (E2BIG, a quarter of the 8 MiB stack).
MAX_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Terminal:
    """What the guest must know about the standard descriptors of the launcher.

    `digits`: those that are a terminal; `merged`: stdout and stderr are one open file.
    """

    digits: str = ""
    merged: bool = False
    rows: int = 0
    columns: int = 0


def build(spec: RunSpec, terminal: Terminal, seed: bytes, now_ns: int) -> bytes:
    """The parameter block; `now_ns`: the time since 1970, for the guest's clock.

    Raises:
        UsageError: a string with a NUL in it, a bad variable name, or too much text.
    """
    blob = bytearray()
    for key, value in _pairs(spec, terminal, seed, now_ns):
        text = os.fsencode(value)
        if b"\0" in text:
            raise UsageError(f"{key} {value!r} has a NUL byte in it")
        blob += key.encode() + b"=" + text + b"\0"
    if len(blob) > MAX_BYTES:
        raise UsageError(
            f"arguments and environment take {len(blob)} bytes, {MAX_BYTES} is the most",
            hint="pass large data on stdin or in a file of the image",
        )
    return bytes(blob)


def _pairs(
    spec: RunSpec, terminal: Terminal, seed: bytes, now_ns: int
) -> Iterator[tuple[str, str]]:
    yield "capstan-params", "1"
    for arg in spec.argv:
        yield "arg", arg
    for name, value in spec.env.items():
        if not name or "=" in name:
            raise UsageError(f"{name!r} cannot be the name of a variable")
        yield "env", f"{name}={value}"
    yield "cwd", spec.workdir
    yield from zip(("uid", "gid", *["group"] * len(spec.ids)), map(str, spec.ids), strict=False)
    yield "hostname", spec.name
    if terminal.digits:
        yield "tty", terminal.digits
    if terminal.merged:
        yield "merge", "1"
    if terminal.rows and terminal.columns:
        yield "winsize", f"{terminal.rows}x{terminal.columns}"
    yield "seed", seed.hex()
    yield "time", str(now_ns)
    switches = {
        "irq-pulse": spec.machine is MachineType.MICROVM,
        "strace": spec.strace,
        "stats": spec.stats,
    }
    yield from ((key, "1") for key, is_on in switches.items() if is_on)
    if spec.loglevel is not None:
        yield "loglevel", str(spec.loglevel)
    if spec.net is not None:
        for key in ("ip", "gateway", "dns"):
            for value in getattr(spec.net, key):
                yield key, value
    for card in spec.lans:
        yield "lan", card.parameter
    for line in spec.hosts:
        yield "host", line
