# SPDX-License-Identifier: BSD-2-Clause
"""Servers under a real kvm_amd, on an emulated machine: QEMU's network twice, TCP only.

There is no launcher inside, so parameters and devices are given by hand, and the run ends with
the outer machine. Few clients at a time: QEMU listens with a queue of one, and the launcher that
changes that is not there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.net import cases, guest, http_checks, store_checks, stream_checks
from tests.net.guest import Broken, Guest, Reach

QBOOT = "/usr/share/qemu/qboot.rom"
SECONDS = 240
# QEMU 7.2 emulates SVM without telling the hypervisor of XSETBV: a guest's XCR0 is 1 again after
# the next exit, and libc's lazy binding loses vector registers. So: a machine without XSAVE.
OUTER_CPU = "EPYC,+svm,-xsave,-avx,-avx2,-fma,-f16c"
MACHINES = {
    "microvm": (
        "microvm,acpi=off",
        "device",
        ["-global", "virtio-mmio.force-legacy=false"],
    ),
    "q35": ("q35,acpi=off", "pci", ["-bios", "qboot.rom"]),
}


def _redis(reach: Reach) -> None:
    store_checks.redis(reach, clients=4)


def _files(reach: Reach) -> None:
    connect = http_checks.plain(reach, 80)
    http_checks.files(connect)
    http_checks.ranges(connect)
    http_checks.pipelined(connect)


def _echo(reach: Reach) -> None:
    for size in (1, 65_536, 3_000_000):
        with reach.tcp(7, timeout=60) as sock:
            stream_checks.echo_one(sock, os.urandom(size))


@dataclass(frozen=True, slots=True)
class Nested:
    """One run: a row of the table, its check here, the machine."""

    name: str
    check: Callable[[Reach], None]
    machine: str = "microvm"
    cpus: int = 1


RUNS = (
    Nested("redis", _redis),
    Nested("nginx", _files, "q35"),
    Nested("python-asyncio", _echo, cpus=2),
)


def _parameters(argv: list[str]) -> bytes:
    """docs/host-guest.md."""
    pairs = ["capstan-params=1", *(f"arg={a}" for a in argv), "env=PATH=/usr/sbin:/usr/bin"]
    pairs += ["ip=10.0.2.15/24", "gateway=10.0.2.2", "dns=10.0.2.3", "loglevel=1"]
    return b"".join(pair.encode() + b"\0" for pair in pairs)


def _command(tool: Path, run: Nested, params: Path, port: int, inside: int) -> list[str]:
    machine, transport, more = MACHINES[run.machine]
    kernel = cases.ROOT / "guest" / "build" / "kernel.elf"
    store = Path(os.environ["CAPSTAN_ROOT"])
    disk = store / "images" / f"net-{run.name}" / "latest" / "disk.img"
    line = [sys.executable, str(tool), str(kernel), "-M", machine, "-m", "256"]
    line += ["-s", str(run.cpus), "-a", f"cpus={run.cpus}", "--outer-smp", "2", "-d", str(disk)]
    line += ["-t", str(SECONDS), "-p", f"{port}:{inside}", "--outer-cpu", OUTER_CPU]
    line += ["-f", f"{params}=/params", "-f", f"{QBOOT}=/share/qboot.rom"]
    legacy = ",disable-legacy=on" if transport == "pci" else ""
    line += ["--", "-initrd", "/params", *more]
    line += ["-device", f"virtio-serial-{transport},max_ports=4{legacy}"]
    for number, name in enumerate(("out", "err"), 1):
        line += ["-chardev", f"file,id={name},path=/proc/self/fd/1"]
        line += ["-device", f"virtserialport,chardev={name},nr={number}"]
    line += [
        "-chardev",
        "file,id=ctl,path=/proc/self/fd/1",
        "-device",
        "virtserialport,chardev=ctl,nr=3",
    ]
    return line


@contextlib.contextmanager
def _outer(command: list[str], log: Path) -> Iterator[Guest]:
    with log.open("wb") as out:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield Guest(child, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(30)


def execute(tool: Path, run: Nested, table: Mapping[str, cases.Case]) -> str:
    """A line about a good run.

    Raises:
        Broken: it was not good.
    """
    case = table[run.name]
    cases.image(case)
    port = guest.free_port()
    reach = Reach(socket.AF_INET, "127.0.0.1", {("tcp", case.tcp[0]): port})
    with tempfile.TemporaryDirectory() as folder:
        params, log = Path(folder) / "params", Path(folder) / "log"
        params.write_bytes(_parameters([cases.put(word, cases.WORDS) for word in case.command]))
        with _outer(_command(tool, run, params, port, case.tcp[0]), log) as machine:
            try:
                up = machine.wait_for_answer(reach, case.tcp[0], case.probe.encode(), SECONDS / 2)
                run.check(reach)
            except (Broken, OSError) as err:
                said = "\n".join(machine.output().splitlines()[-15:])
                raise Broken(f"{type(err).__name__}: {err}\n{said}") from err
    return f"up {up:.1f} s"
