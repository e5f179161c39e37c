# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's command line from a `MachineSpec`: pure, and the one home of every QEMU quirk.

Valid for QEMU 7.2 to 10. All channels are connected sockets that QEMU inherits, so there is
nothing on disk or in the network for anybody else to reach or for us to clean up.
"""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING

from capstan.errors import MachineError
from capstan.run.lan import LOCAL
from capstan.run.net import USER_IP6, USER_ROUTER6, NetKind, user_hosts
from capstan.run.spec import Accel, MachineType

if TYPE_CHECKING:
    from pathlib import Path

    from capstan.run.hostcaps import HostCaps
    from capstan.run.lan import Lan
    from capstan.run.net import NetSpec
    from capstan.run.spec import Console, MachineSpec

EXIT_PORT = 0x501

FIRMWARE = "qboot.rom"

# microvm without ACPI is the fastest start. The guest uses neither PIT nor PIC; with a PIC, QEMU
# interrupts the vCPU's thread with a signal for each interrupt it brings. q35: without what the
# guest has no driver for; ACPI's tables cost 12 ms on kvm_pvm, where the firmware that copies them
# is interpreted.
MACHINES = {
    MachineType.MICROVM: "microvm,acpi=off,pit=off,pic=off",
    MachineType.Q35: "q35,acpi=off,sata=off,smbus=off,usb=off,vmport=off,smm=off,hpet=off,"
    "i8042=off",
}
# split: QEMU's I/O APIC, KVM's local APICs. The guest is told (`irq-pulse`), so it is no default.
ACCELS = {Accel.KVM: "kvm,kernel-irqchip=split", Accel.TCG: "tcg"}
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
    line += ["-accel", ACCELS[spec.accel], "-cpu", CPUS[spec.accel]]
    # Without -bios, q35 would run SeaBIOS: 2.8 s on kvm_pvm.
    line += ["-bios", FIRMWARE]
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


def known_trouble(log: str) -> MachineError | None:
    """The error behind a message of QEMU's that does not say what to do."""
    if f"could not load PC BIOS '{FIRMWARE}'" in log:
        return MachineError(
            f"QEMU does not find {FIRMWARE}, the firmware that starts the guest",
            hint="install QEMU's data files: apt install qemu-system-data",
        )
    return None


def _devices(spec: MachineSpec) -> list[str]:
    line: list[str] = []
    if spec.machine is MachineType.MICROVM:
        line += ["-global", "virtio-mmio.force-legacy=false"]
    if spec.disk is not None:
        line += ["-blockdev", _blockdev(spec.disk), *_virtio(spec, "blk", "drive=disk")]
    if spec.console is not None:
        line += _virtio(spec, "serial", "max_ports=4") + _ports(spec.console)
    if spec.disk is not None:
        line += ["-object", "rng-builtin,id=rng", *_virtio(spec, "rng", "rng=rng")]
    # In front of the other card: the guest's first one is what programs take for the network.
    for number, card in enumerate(spec.lans):
        line += ["-netdev", _segment(number, card)]
        line += _virtio(spec, "net", f"netdev=lan{number},mac={card.mac}")
    if spec.net is not None:
        line += ["-netdev", _netdev(spec.net, spec.taps)]
        line += _virtio(spec, "net", _card(spec.net, len(spec.taps)))
        if spec.net.pcap is not None:
            file = _quote(os.fspath(spec.net.pcap))
            line += ["-object", f"filter-dump,id=pcap,netdev=net0,file={file}"]
    return line


def _card(net: NetSpec, queues: int) -> str:
    # A vector for each queue, for the control queue and for changes of the configuration.
    several = f",mq=on,vectors={2 * queues + 2}" if queues > 1 else ""
    return "netdev=net0" + (f",mac={net.mac}" if net.mac is not None else "") + several


def _netdev(net: NetSpec, taps: tuple[int, ...]) -> str:
    if net.kind is not NetKind.USER:
        return f"tap,id=net0,fd{'s' * (len(taps) > 1)}={':'.join(str(fd) for fd in taps)}"
    own = ipaddress.IPv4Interface(net.ip[0])
    router, server = user_hosts(own)
    line = f"user,id=net0,net={own.network},host={router},dns={server}"
    line += f",ipv6-net={ipaddress.ip_interface(USER_IP6).network},ipv6-host={USER_ROUTER6}"
    for f in net.forwards:
        line += f",hostfwd={f.protocol}:{f.address}:{f.host}-{own.ip}:{f.guest}"
    return line


def _segment(number: int, lan: Lan) -> str:
    group = f"{lan.segment.group}:{lan.segment.port}"
    return f"socket,id=lan{number},mcast={group},localaddr={LOCAL}"


def _virtio(spec: MachineSpec, kind: str, options: str) -> list[str]:
    """A virtio device on the machine's bus."""
    if spec.machine is MachineType.MICROVM:
        return ["-device", f"virtio-{kind}-device,{options}"]
    # On PCI the disk would get a queue for each CPU, which the guest's driver does not use, and
    # the network card a boot ROM.
    queues = {"blk": ",num-queues=1", "net": ",romfile="}.get(kind, "")
    return ["-device", f"virtio-{kind}-pci,{options}{queues},disable-legacy=on"]


def _blockdev(disk: Path) -> str:
    # No lock: many runs read one image. aio=threads: as fast as io_uring in our measurements,
    # and io_uring is forbidden in many containers.
    return (
        "driver=raw,node-name=disk,read-only=on,file.driver=file,"
        f"file.filename={_quote(os.fspath(disk))},file.locking=off,file.aio=threads"
    )


def _ports(console: Console) -> list[str]:
    line: list[str] = []
    ends = (console.stdio, console.stderr, console.control)
    for number, end in enumerate(ends):
        line += ["-chardev", f"socket,id=port{number},fd={end}"]
        line += ["-device", f"virtserialport,nr={number + 1},chardev=port{number}"]
    return line


def _quote(text: str) -> str:
    return text.replace(",", ",,")
