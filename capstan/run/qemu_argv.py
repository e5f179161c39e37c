# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's command line from a `MachineSpec`: pure, and the one home of every QEMU quirk.

Valid for QEMU 7.2 to 10. All channels are connected sockets that QEMU inherits, so there is
nothing on disk or in the network for anybody else to reach or for us to clean up.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from capstan.run.spec import Accel, MachineType

if TYPE_CHECKING:
    from pathlib import Path

    from capstan.run.hostcaps import HostCaps
    from capstan.run.spec import Console, MachineSpec

EXIT_PORT = 0x501

# microvm without ACPI is the fastest start; PIT, PIC and RTC cost less than 1 ms and the guest
# calibrates its clock with them where there is no kvm-clock. q35: what the guest has no driver for.
MACHINES = {
    MachineType.MICROVM: "microvm,acpi=off",
    MachineType.Q35: "q35,sata=off,smbus=off,usb=off,vmport=off",
}
# Without arch-capabilities=off, kvm_pvm makes QEMU 7.2 abort ("failed to set MSR 0x10a").
CPUS = {Accel.KVM: "host,arch-capabilities=off", Accel.TCG: "max"}
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def argv(spec: MachineSpec, host: HostCaps) -> list[str]:
    """The QEMU command line for `spec`."""
    line = [os.fspath(host.qemu)]
    line += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    line += ["-sandbox", SANDBOX]
    line += ["-name", f"{_quote(spec.name)},debug-threads=on"]
    line += ["-machine", MACHINES[spec.machine]]
    line += ["-accel", spec.accel.value, "-cpu", CPUS[spec.accel]]
    # Without -bios, q35 would run SeaBIOS: 2.8 s on kvm_pvm.
    line += ["-bios", "qboot.rom"]
    line += ["-m", f"{spec.memory >> 10}K", "-smp", str(spec.cpus)]
    line += ["-kernel", os.fspath(spec.kernel)]
    if spec.params is not None:
        line += ["-initrd", spec.params]
    if spec.words:
        line += ["-append", " ".join(spec.words)]
    line += ["-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=2"]
    line += ["-chardev", f"socket,id=serial,fd={spec.serial}", "-serial", "chardev:serial"]
    if spec.qmp is not None:
        line += ["-chardev", f"socket,id=qmp,fd={spec.qmp}", "-mon", "chardev=qmp,mode=control"]
    line += _devices(spec)
    if spec.gdb is not None:
        line += ["-gdb", spec.gdb, "-S"]
    return line


def _devices(spec: MachineSpec) -> list[str]:
    bus = "device" if spec.machine is MachineType.MICROVM else "pci"
    line: list[str] = []
    if spec.machine is MachineType.MICROVM:
        line += ["-global", "virtio-mmio.force-legacy=false"]
    if spec.disk is not None:
        line += ["-blockdev", _blockdev(spec.disk), "-device", f"virtio-blk-{bus},drive=disk"]
    if spec.console is not None:
        line += _ports(spec.console, bus)
    if spec.disk is not None:
        line += ["-object", "rng-builtin,id=rng", "-device", f"virtio-rng-{bus},rng=rng"]
    return line


def _blockdev(disk: Path) -> str:
    # No lock: many runs read one image. aio=threads: as fast as io_uring in our measurements,
    # and io_uring is forbidden in many containers.
    return (
        "driver=raw,node-name=disk,read-only=on,file.driver=file,"
        f"file.filename={_quote(os.fspath(disk))},file.locking=off,file.aio=threads"
    )


def _ports(console: Console, bus: str) -> list[str]:
    line = ["-device", f"virtio-serial-{bus},max_ports=4"]
    ends = (console.stdio, console.stderr, console.control)
    for number, end in enumerate(ends):
        line += ["-chardev", f"socket,id=port{number},fd={end}"]
        line += ["-device", f"virtserialport,nr={number + 1},chardev=port{number}"]
    return line


def _quote(text: str) -> str:
    return text.replace(",", ",,")
