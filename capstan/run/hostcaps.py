# SPDX-License-Identifier: BSD-2-Clause
"""What this host can do: which QEMU, and whether KVM runs a guest (proved by running one).

The permission bits of /dev/kvm prove nothing (nested hosts, broken modules), so `prove` starts
the guest's self test. The answer is cached per QEMU binary and boot of the host, because it
costs as much as a run of hello.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import socket
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from capstan import fs, paths, proc
from capstan.errors import CapstanError, MachineError
from capstan.run.qemu_argv import argv, known_trouble
from capstan.run.spec import Accel, MachineSpec, MachineType

if TYPE_CHECKING:
    import subprocess

QEMU = "qemu-system-x86_64"
OLDEST = (7, 2)
KVM_DEVICE = Path("/dev/kvm")
PROBE_DEADLINE = 10.0
REFUSAL_LIFETIME = 600.0
SELFTEST = re.compile(
    rb"capstan-selftest: ok cycles=(\d+) native=([01]) host=(pvm|kvm|tcg)", re.MULTILINE
)
INSTALL_HINT = "install QEMU: apt install qemu-system-x86"


class KvmKind(Enum):
    """How KVM runs guest code here; INTERPRETED is KVM without hardware and without a way out."""

    HARDWARE = "hardware"
    PVM = "kvm_pvm"
    INTERPRETED = "interpreted"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class HostCaps:
    """The host as `qemu_argv` and `choose_accel` see it; `reason`: why `kvm` is NONE."""

    qemu: Path
    version: tuple[int, ...]
    kvm: KvmKind = KvmKind.NONE
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """One self test of the guest: `kind` is meaningful when `ok`, `detail` when not."""

    ok: bool
    seconds: float
    cycles: int = 0
    native: bool = False
    host: str = ""
    detail: str = ""

    @property
    def kvm(self) -> KvmKind:
        """The kind of KVM this test ran on."""
        if not self.ok or self.host == "tcg":
            return KvmKind.NONE
        if not self.native:
            return KvmKind.INTERPRETED
        return KvmKind.PVM if self.host == "pvm" else KvmKind.HARDWARE


def find_qemu() -> Path:
    """The QEMU binary.

    Raises:
        MachineError: there is none.
    """
    found = shutil.which(QEMU)
    if found is None:
        raise MachineError(f"{QEMU} is not installed", hint=INSTALL_HINT)
    return Path(found)


def qemu_version(qemu: Path) -> tuple[int, ...]:
    """The version `qemu` says it has.

    Raises:
        MachineError: it does not run or says nothing of the kind.
    """
    try:
        done = proc.run([os.fspath(qemu), "--version"], timeout=PROBE_DEADLINE)
    except CapstanError as err:
        raise MachineError(err.message, hint=INSTALL_HINT) from err
    found = re.search(rb"version (\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    if done.status != 0 or not found:
        raise MachineError(f"{qemu} --version failed (status {done.status})", hint=INSTALL_HINT)
    return tuple(int(part) for part in found.groups(default=b"0"))


def kvm_refusal() -> str:
    """Why /dev/kvm cannot be opened, empty when it can."""
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as err:
        return f"{KVM_DEVICE}: {err.strerror}"
    return ""


def prove(
    host: HostCaps,
    kernel: Path,
    accel: Accel,
    machine: MachineType = MachineType.MICROVM,
    *,
    deadline: float = PROBE_DEADLINE,
) -> Proof:
    """The result of the guest's self test under `accel`; never raises for what the guest does."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        spec = MachineSpec(
            kernel=kernel,
            accel=accel,
            machine=machine,
            serial=theirs.fileno(),
            name="capstan-selftest",
            words=("selftest=hello",),
        )
        start = time.monotonic()
        child = proc.spawn(
            argv(spec, host),
            stdout=proc.DEVNULL,
            stderr=proc.PIPE,
            pass_fds=[theirs.fileno()],
            new_session=True,
        )
        theirs.close()
        try:
            text, errors = _listen(ours, child, start + deadline)
        finally:
            child.kill()
            child.wait()
            if child.stderr is not None:
                child.stderr.close()
    return _judge(text, errors, time.monotonic() - start, deadline)


def _listen(
    serial: socket.socket, child: subprocess.Popen[bytes], end: float
) -> tuple[bytes, bytes]:
    """What arrived on the serial port and on stderr until both closed or the deadline passed."""
    assert child.stderr is not None
    got = {serial.fileno(): bytearray(), child.stderr.fileno(): bytearray()}
    poll = select.poll()
    for fd in got:
        poll.register(fd, select.POLLIN)
    left = len(got)
    while left and (wait := end - time.monotonic()) > 0:
        for fd, _ in poll.poll(wait * 1000):
            data = os.read(fd, 65536)
            got[fd] += data
            if not data:
                poll.unregister(fd)
                left -= 1
        if SELFTEST.search(got[serial.fileno()]) or len(got[serial.fileno()]) > 1 << 20:
            break
    return bytes(got[serial.fileno()]), bytes(got[child.stderr.fileno()])


def _judge(text: bytes, errors: bytes, seconds: float, deadline: float) -> Proof:
    found = SELFTEST.search(text)
    if found:
        native = found[2] == b"1"
        return Proof(True, seconds, int(found[1]), native, found[3].decode())
    lines = errors.decode(errors="replace").strip().splitlines()
    lines = lines or text.decode(errors="replace").strip().splitlines()[-1:]
    late = f"no answer within {deadline:g} seconds"
    detail = lines[0] if lines else (late if seconds >= deadline else "the guest said nothing")
    return Proof(False, seconds, detail=detail)


def host_caps(kernel: Path, accel: Accel, *, refresh: bool = False) -> HostCaps:
    """The capabilities of this host, from the cache if they are known.

    With `accel` TCG nobody needs to know about KVM, and nothing is started for it.

    Raises:
        MachineError: there is no usable QEMU, or its firmware is missing.
    """
    qemu = find_qemu()
    key = _cache_key(qemu)
    refusal = kvm_refusal()
    known = None if refresh else _load(key, qemu)
    if known is not None and (accel is Accel.TCG or bool(known.reason) or not refusal):
        return known
    host = HostCaps(qemu, known.version if known else qemu_version(qemu))
    if host.version[:2] < OLDEST:
        dotted = ".".join(str(part) for part in host.version)
        raise MachineError(f"{qemu} is version {dotted}, 7.2 is the oldest that works")
    if refusal:
        return HostCaps(qemu, host.version, KvmKind.NONE, refusal)
    if accel is Accel.TCG:
        return host
    proof = prove(host, kernel, Accel.KVM)
    if not proof.ok and (trouble := known_trouble(proof.detail)):
        raise trouble
    reason = "" if proof.ok else f"a test guest did not run: {proof.detail}"
    host = HostCaps(qemu, host.version, proof.kvm, reason)
    _save(key, host)
    return host


def choose_accel(wanted: Accel, host: HostCaps) -> tuple[Accel, str]:
    """What to run with, and a line for the user when that is not what they would expect.

    Raises:
        MachineError: KVM was asked for and does not work.
    """
    if wanted is Accel.TCG:
        return Accel.TCG, ""
    if host.kvm is KvmKind.INTERPRETED and wanted is Accel.AUTO:
        return Accel.TCG, "KVM interprets guest code here: running in QEMU's emulator (TCG)"
    if host.kvm is not KvmKind.NONE:
        return Accel.KVM, ""
    if wanted is Accel.KVM:
        raise MachineError(f"KVM cannot be used ({host.reason})", hint="run `capstan doctor`")
    return Accel.TCG, f"KVM cannot be used ({host.reason}): running in QEMU's emulator, slowly"


def _cache_key(qemu: Path) -> str:
    status = qemu.stat()
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    device = KVM_DEVICE.exists()
    return f"{qemu}|{status.st_mtime_ns}|{status.st_size}|{os.uname().release}|{boot}|{device}"


def _cache_file() -> Path:
    return paths.data_root() / "hostcaps.json"


def _load(key: str, qemu: Path) -> HostCaps | None:
    try:
        raw = json.loads(_cache_file().read_bytes())
        if raw["key"] != key:
            return None
        if raw["reason"] and not 0 <= time.time() - raw["checked"] < REFUSAL_LIFETIME:
            return None
        version = tuple(int(part) for part in raw["version"])
        return HostCaps(qemu, version, KvmKind(raw["kvm"]), str(raw["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(key: str, host: HostCaps) -> None:
    record = {
        "key": key,
        "version": host.version,
        "kvm": host.kvm.value,
        "reason": host.reason,
        "checked": time.time(),
    }
    # A read-only home only costs the next run another probe.
    with contextlib.suppress(OSError):
        fs.atomic_write(_cache_file(), json.dumps(record, indent=1).encode() + b"\n")
