# SPDX-License-Identifier: BSD-2-Clause
"""What to run (`RunSpec`) and what QEMU is given (`MachineSpec`): plain, checked values.

`RunOptions` is what the command line said, `plan` merges it with the image's manifest.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from capstan import units
from capstan.errors import UsageError
from capstan.manifest import DEFAULT_PATH, ImageManifest
from capstan.run import lan, names, net
from capstan.run.lan import Lan
from capstan.run.net import NetOptions, NetSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


parse_size = units.parse_size

MAX_CPUS = 8
MIN_MEMORY = 4 << 20
MAX_MEMORY = 64 << 30
DEFAULT_GRACE = 10.0
READY_DEADLINE = 30.0
"""For the program to start."""
QUIT_DEADLINE = 3.0
"""For QEMU to go when it was asked to."""
DEFAULT_ENV = {"PATH": DEFAULT_PATH, "HOME": "/root"}


class Accel(Enum):
    """What executes the guest's instructions."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class MachineType(Enum):
    """QEMU's machine model."""

    MICROVM = "microvm"
    Q35 = "q35"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command line of `capstan run`; None and empty mean: as the image says."""

    args: tuple[str, ...] = ()
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    workdir: str | None = None
    ids: tuple[int, ...] | None = None
    stop_signal: str | None = None
    memory: int | None = None
    cpus: int | None = None
    accel: Accel = Accel.AUTO
    machine: MachineType = MachineType.MICROVM
    name: str | None = None
    strace: bool = False
    stats: bool = False
    gdb: str | None = None
    verbose: bool = False
    timeout: float | None = None
    grace: float = DEFAULT_GRACE
    loglevel: int | None = None
    words: tuple[str, ...] = ()
    net: NetOptions = field(default_factory=NetOptions)
    lans: tuple[Lan, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run of one program, nothing left to decide but the accelerator."""

    disk: Path
    kernel: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str = "/"
    ids: tuple[int, ...] = ()  # user, group, further groups; none: root
    stop_signal: signal.Signals = signal.SIGTERM
    memory: int = 256 << 20
    cpus: int = 1
    accel: Accel = Accel.AUTO
    machine: MachineType = MachineType.MICROVM
    name: str = "capstan"
    strace: bool = False
    stats: bool = False
    gdb: str | None = None
    verbose: bool = False
    timeout: float | None = None
    grace: float = DEFAULT_GRACE
    loglevel: int | None = None
    words: tuple[str, ...] = ()
    net: NetSpec | None = None
    lans: tuple[Lan, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Console:
    """QEMU's ends of the three virtserialport ports (file descriptors it inherits)."""

    stdio: int
    stderr: int
    control: int


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One QEMU process. Descriptors are QEMU's; `accel` is KVM or TCG, never AUTO."""

    kernel: Path
    accel: Accel
    serial: int
    machine: MachineType = MachineType.MICROVM
    memory: int = 64 << 20
    cpus: int = 1
    name: str = "capstan"
    params: str | None = None
    disk: Path | None = None
    console: Console | None = None
    qmp: int | None = None
    gdb: str | None = None
    words: tuple[str, ...] = ()
    net: NetSpec | None = None
    taps: tuple[int, ...] = ()
    lans: tuple[Lan, ...] = ()


def parse_env(entries: Sequence[str], host: Mapping[str, str]) -> dict[str, str]:
    """The variables in `NAME=VALUE` entries; a bare NAME takes the host's value, if it has one."""
    env: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name:
            raise UsageError(f"{entry!r} is not NAME=VALUE")
        if equals:
            env[name] = value
        elif name in host:
            env[name] = host[name]
    return env


def read_env_file(path: Path) -> tuple[str, ...]:
    """The entries of an --env-file: one a line, empty lines and lines with # in front skipped."""
    try:
        text = os.fsdecode(path.read_bytes())
    except OSError as err:
        raise UsageError(f"{path}: {err.strerror}", hint="check the --env-file option") from err
    lines = (line.strip("\r") for line in text.split("\n"))
    return tuple(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def plan(
    manifest: ImageManifest,
    disk: Path,
    kernel: Path,
    options: RunOptions,
    host_env: Mapping[str, str],
) -> RunSpec:
    """The run that `options` ask of the image.

    Raises:
        UsageError: a value no machine can have.
    """
    config = manifest.config
    kept = config.argv[: config.fixed] if options.args else config.argv
    argv = (options.entrypoint, *options.args) if options.entrypoint else kept + options.args
    memory = options.memory if options.memory is not None else config.memory
    cpus = options.cpus if options.cpus is not None else config.cpus
    workdir = options.workdir if options.workdir is not None else config.workdir
    if not argv:
        raise UsageError("the image has no command", hint="give one with --entrypoint")
    if not MIN_MEMORY <= memory <= MAX_MEMORY:
        raise UsageError(f"{memory} bytes of memory: not between 4 MiB and 64 GiB", hint="-m 256M")
    if not 1 <= cpus <= MAX_CPUS:
        raise UsageError(f"{cpus} CPUs: not between 1 and {MAX_CPUS}", hint="-c 2")
    if not workdir.startswith("/"):
        raise UsageError(f"working directory {workdir!r} is not an absolute path")
    return RunSpec(
        disk=disk,
        kernel=kernel,
        argv=argv,
        env={**DEFAULT_ENV, **config.env, **parse_env(options.env, host_env)},
        workdir=workdir,
        ids=config.ids if options.ids is None else options.ids,
        stop_signal=find_signal(options.stop_signal or config.stop_signal or "SIGTERM"),
        memory=memory,
        cpus=cpus,
        accel=options.accel,
        machine=options.machine,
        name=options.name or names.base(manifest.name, names.HOST_MAX),
        strace=options.strace,
        stats=options.stats,
        gdb=options.gdb,
        verbose=options.verbose,
        timeout=options.timeout,
        grace=options.grace,
        loglevel=options.loglevel,
        words=options.words,
        lans=lan.check_lans(options.lans),
        hosts=lan.parse_hosts(options.hosts),
        net=net.with_queues(
            net.plan(options.net, config, net.host_interfaces(), os.urandom(3)),
            options.net.queues,
            is_pci=options.machine is MachineType.Q35,
            cpus=cpus,
        ),
    )


def find_signal(text: str) -> signal.Signals:
    """The signal called `text`: SIGINT, INT or 2.

    Raises:
        UsageError: there is none.
    """
    try:
        if text.isascii() and text.isdigit():
            return signal.Signals(int(text))
        name = text.upper()
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except (ValueError, KeyError) as err:
        raise UsageError(f"there is no signal {text!r}", hint="write it like SIGINT") from err
