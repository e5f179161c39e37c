# SPDX-License-Identifier: BSD-2-Clause
"""The guest's kernel with a program on both machines, and on PCI machines unlike our launcher's.

The launcher's own lines come first; then they are changed, as another version of QEMU or another
hypervisor would have it: functions behind bridges, at odd places, with few or no vectors.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capstan import paths
from capstan.build.image import resolve_or_build
from capstan.errors import MachineError
from capstan.run import launch
from capstan.run.hostcaps import HostCaps
from capstan.run.machine import Machine
from capstan.run.qemu_argv import argv
from capstan.run.spec import Accel, MachineSpec, MachineType, RunSpec
from capstan.store import StoredImage
from tests.boot.test_tinyguest import ACCELS, host, pytestmark

__all__ = ["host", "pytestmark"]
SOURCE = Path(__file__).parents[1] / "apps" / "hello.c"
Change = Callable[[list[str]], list[str]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, StoredImage]]:
    """Images of programs, by name."""
    folder = tmp_path_factory.mktemp("machines")
    program = folder / "hello"
    subprocess.run(["gcc", "-O2", "-o", program, SOURCE], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPSTAN_ROOT", str(folder / "root"))
        yield {path.name: resolve_or_build(str(path)) for path in (program, Path("/bin/cat"))}


class Booted:
    """How a run ended and what it wrote."""

    def __init__(self, folder: Path, spec: RunSpec, host: HostCaps, stdin: bytes) -> None:
        paths = [folder / "in", folder / "out", folder / "err"]
        paths[0].write_bytes(stdin)
        with paths[0].open("rb") as given, paths[1].open("wb") as out, paths[2].open("wb") as err:
            streams = (given.fileno(), out.fileno(), err.fileno())
            self.status = Machine(spec, host, spec.accel, streams).run()
        self.out, self.err = (path.read_bytes() for path in paths[1:])


@pytest.fixture
def boot(images: dict[str, StoredImage], host: HostCaps, tmp_path: Path) -> Callable[..., Booted]:
    """Runs `hello x`, or another program; the keywords are fields of its `RunSpec`."""

    def run(program: str = "hello", stdin: bytes = b"", **fields: Any) -> Booted:
        image = images[program]
        words = image.manifest.config.argv + (("x",) if program == "hello" else ())
        spec = RunSpec(image.disk, paths.guest_kernel(), words, {"HOME": "/"}, timeout=60)
        return Booted(tmp_path, replace(spec, **fields), host, stdin)

    return run


def good(result: Booted) -> bool:
    return (result.status, result.out) == (3, b"hello, 2 arguments, last x\n")


@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize("accel", ACCELS)
@pytest.mark.parametrize("machine", list(MachineType))
def test_hello(boot: Callable[..., Booted], machine: MachineType, accel: Accel, cpus: int) -> None:
    assert good(boot(machine=machine, accel=accel, cpus=cpus))


def test_much_memory(boot: Callable[..., Booted]) -> None:
    """RAM up to the window of PCI's configuration space and above 4 GiB."""
    assert good(boot(machine=MachineType.Q35, accel=Accel.TCG, memory=5 << 30))


# --- other lines ---


def placed(line: list[str], *places: str, before: tuple[str, ...] = ()) -> list[str]:
    """The virtio functions at these places, in their order; `before` them other devices."""
    left = list(places)
    first = next(at for at, word in enumerate(line) if word.startswith("virtio-"))
    changed = [f"{w},{left.pop(0)}" if w.startswith("virtio-") and left else w for w in line]
    return [*changed[: first - 1], *before, *changed[first - 1 :]]


def with_options(kinds: tuple[str, ...], options: str) -> Change:
    """Functions of these kinds with more options."""

    def change(line: list[str]) -> list[str]:
        names = tuple(f"virtio-{kind}-pci" for kind in kinds)
        return [f"{word},{options}" if word.startswith(names) else word for word in line]

    return change


def behind_ports(line: list[str]) -> list[str]:
    ports = ("-device", "pcie-root-port,id=a,chassis=1", "-device", "pcie-root-port,id=b,chassis=2")
    return placed(line, "bus=a", "bus=b", before=ports)


def behind_bridge(line: list[str]) -> list[str]:
    return placed(line, "bus=a,addr=3", before=("-device", "pci-bridge,id=a,chassis_nr=1"))


def one_device(line: list[str]) -> list[str]:
    return placed(line, *(f"addr=5.{n},multifunction=on" for n in range(3)))


def far_apart(line: list[str]) -> list[str]:
    return placed(line, "addr=1e", "addr=10", "addr=7")


def among_others(line: list[str]) -> list[str]:
    shared = ["-object", "memory-backend-ram,id=m,size=16M,share=on"]
    return placed(line, before=(*shared, "-device", "ivshmem-plain,memdev=m", "-device", "e1000"))


def by_ports_of_the_cpu(line: list[str]) -> list[str]:
    """A host bridge without a window in memory."""
    return ["pc,acpi=off" if word.startswith("q35,") else word for word in line]


ALL = ("blk", "serial", "rng")
LINES: list[Change] = [
    behind_ports,
    behind_bridge,
    one_device,
    far_apart,
    among_others,
    by_ports_of_the_cpu,
    with_options(ALL, "vectors=1"),
    with_options(ALL, "disable-legacy=off"),
    with_options(ALL, "event_idx=off"),
]
NAMES = [*(change.__name__ for change in LINES[:6]), "one-vector", "transitional", "no-event-idx"]


def changing(patch: pytest.MonkeyPatch, change: Change) -> None:
    def changed(spec: MachineSpec, host: HostCaps) -> list[str]:
        return change(argv(spec, host))

    patch.setattr(launch, "argv", changed)


@pytest.mark.parametrize("change", LINES, ids=NAMES)
def test_other_lines(
    boot: Callable[..., Booted], monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    changing(monkeypatch, change)
    assert good(boot(machine=MachineType.Q35, accel=Accel.TCG, cpus=2))


@pytest.mark.parametrize("vectors", [1, 2, 16])
@pytest.mark.parametrize("accel", ACCELS)
def test_interrupts_of_many_queues(
    boot: Callable[..., Booted], monkeypatch: pytest.MonkeyPatch, accel: Accel, vectors: int
) -> None:
    """Both directions sleep and are woken; with few vectors they share one."""
    data = bytes(range(251)) * 10_000
    changing(monkeypatch, with_options(("serial",), f"vectors={vectors}"))
    result = boot("cat", data, machine=MachineType.Q35, accel=accel, cpus=2)
    assert result.status == 0 and result.out == data


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("vectors=0", "it has no MSI-X"),
        ("disable-legacy=off,disable-modern=on", "it has no modern interface"),
        ("modern-pio-notify=on", "BAR 2 cannot be used for 4 bytes: it is in I/O space"),
    ],
)
def test_what_cannot_be_used_is_named(
    boot: Callable[..., Booted], monkeypatch: pytest.MonkeyPatch, options: str, reason: str
) -> None:
    changing(monkeypatch, with_options(("blk",), options))
    with pytest.raises(MachineError) as caught:
        boot(machine=MachineType.Q35, accel=Accel.TCG)
    assert "PCI 00:01.0" in caught.value.message and reason in caught.value.message


def test_microvm_without_words(
    boot: Callable[..., Booted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU does not say where the devices are, and there is no PCI."""

    def change(line: list[str]) -> list[str]:
        wordless = "microvm,acpi=off,auto-kernel-cmdline=off"
        return [wordless if word.startswith("microvm,") else word for word in line]

    changing(monkeypatch, change)
    assert good(boot(accel=Accel.TCG))
