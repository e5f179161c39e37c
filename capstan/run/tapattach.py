# SPDX-License-Identifier: BSD-2-Clause
"""The host's end of a tap or bridge: opened, named, and given an address when a run starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

from capstan.errors import MachineError
from capstan.run import tap
from capstan.run.net import TAPS, NetKind, NetSpec, check


@contextlib.contextmanager
def attach(spec: NetSpec | None) -> Iterator[tuple[NetSpec | None, tuple[int, ...]]]:
    """The network as it is now, and the descriptors of its tap for QEMU, one per queue.

    A tap of ours that another run has taken meanwhile becomes the next free one.

    Raises:
        MachineError: a port or the interface cannot be used; the hint says what to do.
    """
    if spec is not None:
        check(spec)
    if spec is None or spec.kind is NetKind.USER:
        yield spec, ()
        return
    with contextlib.ExitStack() as opened:
        spec, fds = _open_tap(spec, opened)
        if spec.bridge:
            tap.join_bridge(spec.interface, spec.bridge)
        elif spec.host_ip is not None:
            tap.set_address(spec.interface, spec.host_ip)
        if spec.bridge or spec.interface.startswith("capstan"):
            tap.set_up(spec.interface)
        yield spec, fds


def _open_tap(spec: NetSpec, opened: contextlib.ExitStack) -> tuple[NetSpec, tuple[int, ...]]:
    for number in range(TAPS):
        count, is_multi = _queues(spec)
        fds: list[int] = []
        try:
            for _ in range(count):
                fds.append(tap.open_queue(spec.interface, is_multi=is_multi))
                opened.callback(os.close, fds[-1])
        except tap.TapInUse:
            if not spec.is_ours or number == TAPS - 1:
                raise
            opened.close()
            spec = _numbered(spec, number)
        else:
            return spec, tuple(fds)
    raise AssertionError


def _numbered(spec: NetSpec, number: int) -> NetSpec:
    """The same with the tap of this number, and its addresses where those are ours."""
    new = replace(spec, interface=f"capstan{number}")
    if spec.host_ip is None:
        return new
    router = spec.host_ip.partition("/")[0]
    host, own = f"10.77.{number}.1", f"10.77.{number}.2/24"
    gateway = tuple(host if address == router else address for address in spec.gateway)
    return replace(new, host_ip=f"{host}/24", ip=(own,), gateway=gateway)


def _queues(spec: NetSpec) -> tuple[int, bool]:
    """How many queues to open, and whether the interface is one that may have several."""
    made_multi = tap.is_multi_queue(spec.interface)
    if made_multi is None:  # we make it
        return spec.queues, spec.queues > 1
    if spec.queues > 1 and not made_multi and spec.queues_given:
        raise MachineError(
            f"--queues {spec.queues}: tap interface {spec.interface} was made for one queue",
            hint=f"make it anew: ip tuntap add {spec.interface} mode tap multi_queue",
        )
    return spec.queues if made_multi else 1, made_multi
