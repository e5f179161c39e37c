# SPDX-License-Identifier: BSD-2-Clause
"""The run side: an image in, a process-like virtual machine out.

`start` is the one call the command line makes; `spec`, `qemu_argv` and `params` are pure,
`hostcaps` looks at the host, `launch`, `machine`, `console`, `signals` and `qmp` drive QEMU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from capstan.errors import EXIT_TOOL, CapstanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from capstan.run.foreground import ForegroundKeeper
    from capstan.run.machine import Machine
    from capstan.run.spec import RunSpec


def start(spec: RunSpec, say: Callable[[str], None], keeper: ForegroundKeeper | None = None) -> int:
    """The exit status of the program `spec` names, run to its end; `say` gets lines for the user.

    With a `keeper` the run is an instance that other commands see.

    Raises:
        MachineError: no usable QEMU or KVM, the program did not start, or the VM broke down.
        TimeoutExpired: it ran longer than `spec.timeout`.
    """
    from capstan.run.hostcaps import choose_accel, host_caps
    from capstan.run.machine import Machine

    host = host_caps(spec.kernel, spec.accel)
    accel, note = choose_accel(spec.accel, host)
    if note:
        say(note)
    if spec.verbose:
        version = ".".join(str(part) for part in host.version)
        say(f"accel={accel.value} machine={spec.machine.value} qemu={version}")
    if spec.gdb is None:
        return _kept(Machine(spec, host, accel, keeper=keeper), keeper)
    import dataclasses

    from capstan.run import gdb

    with gdb.stub(spec.gdb, spec.kernel) as (listen, command):
        say(f"the machine waits for gdb (then type `continue`): {command}")
        spec = dataclasses.replace(spec, gdb=listen)
        return _kept(Machine(spec, host, accel, keeper=keeper), keeper)


def _kept(machine: Machine, keeper: ForegroundKeeper | None) -> int:
    """Run, and tell the keeper how it ended."""
    status = EXIT_TOOL
    try:
        status = machine.run()
    except CapstanError as err:
        status = err.exit_code
        raise
    finally:
        if keeper is not None:
            keeper.close(status)
    return status


def command_line(spec: RunSpec) -> list[str]:
    """The QEMU command line `start` would use; descriptors 3 to 8 are its inherited channels."""
    from capstan.run.hostcaps import choose_accel, host_caps
    from capstan.run.launch import preview

    host = host_caps(spec.kernel, spec.accel)
    accel, _ = choose_accel(spec.accel, host)
    return preview(spec, host, accel)
