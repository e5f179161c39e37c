# SPDX-License-Identifier: BSD-2-Clause
"""The QEMU command line, letter by letter.

The same line is valid for 7.2 and 10; a quirk of one version would show here as a second golden.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.run.hostcaps import HostCaps
from capstan.run.qemu_argv import argv, known_trouble
from capstan.run.spec import Accel, Console, MachineSpec, MachineType

VERSIONS = [(7, 2, 22), (10, 0, 2)]

FULL = """\
/usr/bin/qemu-system-x86_64
-nodefaults
-no-user-config
-display none
-no-reboot
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-name hello,debug-threads=on
-machine {machine}
-accel {accel}
-cpu {cpu}
-bios qboot.rom
-m 262144K
-smp 2
-kernel /k/kernel.elf
-initrd /proc/self/fd/8
-device isa-debug-exit,iobase=0x501,iosize=2
-chardev socket,id=serial,fd=6
-serial chardev:serial
-chardev socket,id=qmp,fd=7
-mon chardev=qmp,mode=control
{extra}-blockdev driver=raw,node-name=disk,read-only=on,file.driver=file,file.filename=/i/a,,b.img,\
file.locking=off,file.aio=threads
-device virtio-blk-{bus},drive=disk{disk}{modern}
-device virtio-serial-{bus},max_ports=4{modern}
-chardev socket,id=port0,fd=3
-device virtserialport,nr=1,chardev=port0
-chardev socket,id=port1,fd=4
-device virtserialport,nr=2,chardev=port1
-chardev socket,id=port2,fd=5
-device virtserialport,nr=3,chardev=port2
-object rng-builtin,id=rng
-device virtio-rng-{bus},rng=rng{modern}
"""

MICROVM = {
    "machine": "microvm,acpi=off,pit=off,pic=off",
    "bus": "device",
    "disk": "",
    "modern": "",
    "extra": "-global virtio-mmio.force-legacy=false\n",
}
Q35 = {
    "machine": "q35,acpi=off,sata=off,smbus=off,usb=off,vmport=off,smm=off,hpet=off,i8042=off",
    "bus": "pci",
    "disk": ",num-queues=1",
    "modern": ",disable-legacy=on",
    "extra": "",
}
KVM = {"accel": "kvm,kernel-irqchip=split", "cpu": "host,arch-capabilities=off"}
TCG = {"accel": "tcg", "cpu": "max"}


def words(text: str) -> list[str]:
    return [word for line in text.splitlines() for word in line.split(" ", 1)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("accel", [Accel.KVM, Accel.TCG])
@pytest.mark.parametrize("machine", list(MachineType))
def test_full_machine(version: tuple[int, ...], accel: Accel, machine: MachineType) -> None:
    host = HostCaps(Path("/usr/bin/qemu-system-x86_64"), version)
    spec = MachineSpec(
        kernel=Path("/k/kernel.elf"),
        accel=accel,
        machine=machine,
        memory=256 << 20,
        cpus=2,
        name="hello",
        params="/proc/self/fd/8",
        disk=Path("/i/a,b.img"),
        console=Console(3, 4, 5),
        serial=6,
        qmp=7,
    )
    shape = MICROVM if machine is MachineType.MICROVM else Q35
    golden = FULL.format(**shape, **(KVM if accel is Accel.KVM else TCG))
    assert argv(spec, host) == words(golden)


def test_probe_machine() -> None:
    host = HostCaps(Path("qemu"), (7, 2, 22))
    line = argv(MachineSpec(Path("k"), Accel.KVM, 3, words=("selftest=hello",)), host)
    assert line[line.index("-append") + 1] == "selftest=hello"
    assert "-initrd" not in line and "-blockdev" not in line and "-mon" not in line


def test_gdb_waits() -> None:
    host = HostCaps(Path("qemu"), (10, 0, 2))
    line = argv(MachineSpec(Path("k"), Accel.TCG, 3, gdb="tcp:127.0.0.1:9"), host)
    assert line[-3:] == ["-gdb", "tcp:127.0.0.1:9", "-S"]


@pytest.mark.parametrize(
    "log",
    [
        "qemu: could not load PC BIOS 'qboot.rom'\n",
        "qemu-system-x86_64: could not load PC BIOS 'qboot.rom'",
    ],
)
def test_missing_firmware_is_explained(log: str) -> None:
    error = known_trouble(log)
    assert error is not None
    assert "qboot.rom" in error.message and "qemu-system-data" in str(error.hint)


@pytest.mark.parametrize("log", ["", "qemu: could not load PC BIOS 'other.rom'", "KVM failed"])
def test_other_messages_are_not(log: str) -> None:
    assert known_trouble(log) is None
