# SPDX-License-Identifier: BSD-2-Clause
"""QEMU as a child that cannot outlive us, with a socket pair per channel.

The leash: a pipe whose read end QEMU inherits and whose write end only we hold. Its read end is
set to send SIGKILL to QEMU when it becomes readable, and the kernel closes our end however we
die. Against PR_SET_PDEATHSIG this needs no code between fork and exec and does not depend on
which thread forked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from capstan import proc
from capstan.errors import CapstanError, MachineError
from capstan.run import net, tapattach
from capstan.run.qemu_argv import argv
from capstan.run.spec import Console, MachineSpec

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from capstan.run.hostcaps import HostCaps
    from capstan.run.spec import Accel, RunSpec


@dataclass(frozen=True, slots=True)
class Wires:
    """A running QEMU and our ends of its channels."""

    child: subprocess.Popen[bytes]
    pidfd: int
    log: int
    stdio: socket.socket
    stderr: socket.socket
    control: socket.socket
    serial: socket.socket
    qmp: socket.socket


@dataclass(frozen=True, slots=True)
class Ends:
    """QEMU's descriptors."""

    stdio: int
    stderr: int
    control: int
    serial: int
    qmp: int
    params: int
    taps: tuple[int, ...] = field(default=(), kw_only=True)


def machine_spec(spec: RunSpec, accel: Accel, ends: Ends) -> MachineSpec:
    """What QEMU is given for `spec`."""
    return MachineSpec(
        kernel=spec.kernel,
        accel=accel,
        machine=spec.machine,
        memory=spec.memory,
        cpus=spec.cpus,
        name=spec.name,
        params=f"/proc/self/fd/{ends.params}",
        disk=spec.disk,
        console=Console(ends.stdio, ends.stderr, ends.control),
        serial=ends.serial,
        qmp=ends.qmp,
        gdb=spec.gdb,
        words=((f"cpus={spec.cpus}",) if spec.cpus > 1 else ()) + spec.words,
        net=spec.net,
        taps=ends.taps,
        lans=spec.lans,
    )


def preview(spec: RunSpec, host: HostCaps, accel: Accel) -> list[str]:
    """The command line `launch` would use, with the descriptors it would most likely get."""
    needs_tap = spec.net is not None and spec.net.kind is not net.NetKind.USER
    taps = tuple(range(9, 9 + spec.net.queues)) if spec.net is not None and needs_tap else ()
    return argv(machine_spec(spec, accel, Ends(3, 4, 5, 6, 7, 8, taps=taps)), host)


@contextlib.contextmanager
def launch(
    spec: RunSpec, host: HostCaps, accel: Accel, parameters: Callable[[RunSpec], bytes]
) -> Iterator[Wires]:
    """A QEMU running `spec`; everything is closed afterwards, but ending QEMU is the caller's.

    `parameters` makes the guest's parameters when the network is known.

    Raises:
        MachineError: QEMU could not be started, or the network it is to have is not there.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        mine: list[socket.socket] = []
        inherited: list[int] = []
        for _ in range(5):
            one, other = socket.socketpair()
            mine.append(ours.enter_context(one))
            inherited.append(theirs.enter_context(other).fileno())
            one.setblocking(False)
        card, taps = theirs.enter_context(tapattach.attach(spec.net))
        spec = dataclasses.replace(spec, net=card)
        inherited.append(_sealed(parameters(spec), theirs))
        leash, held = os.pipe()
        theirs.callback(os.close, leash)
        ours.callback(os.close, held)
        log, log_in = os.pipe()
        ours.callback(os.close, log)
        theirs.callback(os.close, log_in)
        line = argv(machine_spec(spec, accel, Ends(*inherited, taps=taps)), host)
        try:
            child = proc.spawn(
                line,
                stdout=log_in,
                stderr=log_in,
                pass_fds=[*inherited, *taps, leash],
                new_session=True,
            )
        except CapstanError as err:
            raise MachineError(err.message, hint=err.hint) from err
        _tie(leash, child.pid)
        theirs.close()
        pidfd = os.pidfd_open(child.pid)
        ours.callback(os.close, pidfd)
        yield Wires(child, pidfd, log, *mine)


def _sealed(blob: bytes, stack: contextlib.ExitStack) -> int:
    """The parameters as a file without a name."""
    fd = os.memfd_create("capstan-params")
    stack.callback(os.close, fd)
    with open(fd, "wb", closefd=False) as out:
        out.write(blob)
    return fd


def _tie(leash: int, pid: int) -> None:
    fcntl.fcntl(leash, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(leash, fcntl.F_SETOWN, pid)
    flags = fcntl.fcntl(leash, fcntl.F_GETFL)
    fcntl.fcntl(leash, fcntl.F_SETFL, flags | os.O_ASYNC)
