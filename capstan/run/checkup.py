# SPDX-License-Identifier: BSD-2-Clause
"""The checks of `capstan doctor`, each a line: how it is, and what to do when it is not well.

BAD means that `capstan run` does not work; what only makes it slower or poorer is OPTIONAL.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from capstan import paths, proc, settings_files, storeversion
from capstan.errors import CapstanError, MachineError
from capstan.run import hostcaps
from capstan.run.hostcaps import HostCaps, KvmKind
from capstan.run.spec import Accel, MachineType
from capstan.settings import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "capstan"
TOOLS = {
    "qemu-img": "writing qcow2 with `capstan export`: apt install qemu-utils",
    "buildah": "building from a Dockerfile: apt install buildah",
    "skopeo": "copying container images: apt install skopeo",
    "gdb": "debugging with --gdb: apt install gdb",
    "man": "the manual pages: apt install man-db",
    "zdb": "checking images: apt install zfsutils-linux (contrib)",
    "grub-fstest": "checking images: apt install grub-common",
    "strace": "comparing with Linux: apt install strace",
}
KINDS = {
    KvmKind.HARDWARE: "KVM on hardware virtualisation",
    KvmKind.PVM: "kvm_pvm (KVM without hardware virtualisation), ring 0 runs natively",
    KvmKind.INTERPRETED: "KVM that interprets ring 0: slower than TCG",
}


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    OPTIONAL = "optional"
    BAD = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `advice` says what to do."""

    name: str
    level: Level
    text: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """All findings, in the order in which they depend on each other."""
    host: HostCaps | None = None
    try:
        qemu = hostcaps.find_qemu()
        host = HostCaps(qemu, hostcaps.qemu_version(qemu))
        yield from _qemu(host)
    except MachineError as err:
        yield Finding("qemu", Level.BAD, err.message, err.hint or "")
    try:
        kernel = paths.guest_kernel()
        yield Finding("guest kernel", Level.OK, str(kernel))
        if host is not None:
            yield from _boots(host, kernel)
    except CapstanError as err:
        yield Finding("guest kernel", Level.BAD, err.message, err.hint or "")
    yield from _settings()
    yield _store()
    yield from _packages()
    for tool, use in TOOLS.items():
        found = shutil.which(tool)
        level = Level.OK if found else Level.OPTIONAL
        yield Finding(tool, level, found or "not found", "" if found else f"for {use}")


def _qemu(host: HostCaps) -> Iterator[Finding]:
    dotted = ".".join(str(part) for part in host.version)
    fine = host.version[:2] >= hostcaps.OLDEST
    yield Finding(
        "qemu",
        Level.OK if fine else Level.BAD,
        f"{host.qemu} {dotted}",
        "" if fine else "7.2 is the oldest version that works: update QEMU",
    )
    listed = proc.run([str(host.qemu), "-machine", "help"], timeout=hostcaps.PROBE_DEADLINE)
    names = {line.split()[0] for line in listed.stdout.decode().splitlines() if line.split()}
    for machine in MachineType:
        needed = Level.BAD if machine is MachineType.MICROVM else Level.OPTIONAL
        yield Finding(
            f"machine {machine.value}",
            Level.OK if machine.value in names else needed,
            "known to QEMU" if machine.value in names else "unknown to this QEMU",
            "" if machine.value in names else "install a QEMU with this machine type",
        )
    yield _firmware(host)


def _firmware(host: HostCaps) -> Finding:
    listed = proc.run([str(host.qemu), "-L", "help"], timeout=hostcaps.PROBE_DEADLINE)
    folders = [Path(line) for line in listed.stdout.decode().splitlines() if line]
    for folder in folders:
        if (folder / "qboot.rom").is_file():
            return Finding("qboot.rom", Level.OK, str(folder / "qboot.rom"))
    where = ":".join(str(folder) for folder in folders)
    return Finding(
        "qboot.rom", Level.BAD, f"not in {where}", "apt install qemu-system-data (or qemu-qboot)"
    )


def _boots(host: HostCaps, kernel: Path) -> Iterator[Finding]:
    refusal = hostcaps.kvm_refusal()
    if refusal:
        advice = "load the kvm module, or enable virtualisation in the firmware"
        if "ermission" in refusal:
            advice = "sudo usermod -aG kvm $USER, then log in again"
        yield Finding("/dev/kvm", Level.OPTIONAL, refusal, advice)
    else:
        yield Finding("/dev/kvm", Level.OK, "readable and writable")
        yield _kvm(hostcaps.prove(host, kernel, Accel.KVM))
    proof = hostcaps.prove(host, kernel, Accel.TCG)
    yield Finding(
        "boot on TCG",
        Level.OK if proof.ok else Level.BAD,
        f"a guest ran in {proof.seconds * 1000:.0f} ms" if proof.ok else proof.detail,
        "" if proof.ok else "the guest kernel is damaged: build or install capstan again",
    )


def _kvm(proof: hostcaps.Proof) -> Finding:
    if not proof.ok:
        advice = "runs fall back to TCG; see the host's kernel log for the reason"
        return Finding("boot on KVM", Level.OPTIONAL, proof.detail, advice)
    text = f"a guest ran in {proof.seconds * 1000:.0f} ms: {KINDS.get(proof.kvm, proof.host)}"
    if proof.kvm is KvmKind.INTERPRETED:
        return Finding("boot on KVM", Level.OPTIONAL, text, "runs use TCG unless --accel kvm")
    return Finding("boot on KVM", Level.OK, text)


def _store() -> Finding:
    """Whether the local store can be read and written, or begun."""
    try:
        root = paths.data_root()
        version = storeversion.read(root)
    except CapstanError as err:
        return Finding("store", Level.BAD, err.message, err.hint or "")
    there = next((path for path in (root, *root.parents) if path.exists()), root)
    if not os.access(there, os.W_OK | os.X_OK):
        advice = "use another one: capstan config set root DIR"
        return Finding("store", Level.BAD, f"{there}: no right to write", advice)
    text = f"{root}, version {version}" if there == root else f"{root}, not begun yet"
    return Finding("store", Level.OK, text)


def _settings() -> Iterator[Finding]:
    """Whether the files of settings can be used; those that are not there are well, too."""
    found = dict(settings_files.files())
    for origin, path in found.items():
        try:
            keys = settings_files.read(path, is_project=origin is Origin.PROJECT)
            text = f"{path}: {', '.join(keys) or 'empty'}"
            yield Finding(origin.value, Level.OK, text)
        except CapstanError as err:
            yield Finding(origin.value, Level.BAD, err.message, err.hint or "")
    if not found:
        yield Finding("settings", Level.OK, "no file: the defaults and the environment count")


def _packages() -> Iterator[Finding]:
    """The Python packages that this installation says it needs."""
    try:
        needed = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("python", Level.OPTIONAL, "capstan is not installed", "pip install capstan")
        return
    for requirement in needed:
        name = re.match(r"[\w.-]+", requirement)
        if name is not None and "extra ==" not in requirement:
            yield _package(name[0])


def _package(name: str) -> Finding:
    try:
        return Finding(f"python {name}", Level.OK, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            f"python {name}", Level.BAD, "not installed", "pip install capstan (or ci/test)"
        )
