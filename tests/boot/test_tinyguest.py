# SPDX-License-Identifier: BSD-2-Clause
"""The launcher with a real QEMU and the tiny guest."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from capstan.run import gdb, hostcaps
from capstan.run.hostcaps import HostCaps, KvmKind
from capstan.run.spec import Accel, MachineType
from tests.lib.boot import LIB, alive, children, tiny_kernel, wait_for

pytestmark = [
    pytest.mark.boot,
    pytest.mark.skipif(shutil.which(hostcaps.QEMU) is None, reason="no QEMU"),
]
ACCELS = [
    pytest.param(
        Accel.KVM, marks=pytest.mark.skipif(bool(hostcaps.kvm_refusal()), reason="no /dev/kvm")
    ),
    Accel.TCG,
]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_kernel(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def host() -> HostCaps:
    qemu = hostcaps.find_qemu()
    return HostCaps(qemu, hostcaps.qemu_version(qemu))


def launcher(kernel: Path, accel: Accel, disk: Path, *flags: str) -> list[str]:
    import sys

    line = [sys.executable, str(LIB / "boot.py"), f"--qemu={hostcaps.find_qemu()}"]
    line += [f"--kernel={kernel}", f"--accel={accel.value}", f"--disk={disk}"]
    return [*line, *flags, "--", "x"]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "disk.img"
    with path.open("wb") as out:
        out.truncate(1 << 20)
    return path


@pytest.mark.parametrize("machine", list(MachineType))
@pytest.mark.parametrize("accel", ACCELS)
def test_proof(host: HostCaps, kernel: Path, accel: Accel, machine: MachineType) -> None:
    proof = hostcaps.prove(host, kernel, accel, machine)
    assert proof.ok, proof
    if accel is Accel.TCG:
        assert proof.host == "tcg" and proof.kvm is KvmKind.NONE
    else:
        assert proof.kvm in (KvmKind.PVM, KvmKind.HARDWARE)


def test_proof_of_a_broken_kernel(host: HostCaps, tmp_path: Path) -> None:
    broken = tmp_path / "kernel"
    broken.write_bytes(b"not a kernel")
    proof = hostcaps.prove(host, broken, Accel.TCG, deadline=5.0)
    assert not proof.ok and proof.detail


@pytest.mark.parametrize("accel", ACCELS)
def test_all_devices_and_no_word(kernel: Path, disk: Path, accel: Accel) -> None:
    line = launcher(kernel, accel, disk)
    done = subprocess.run(line, capture_output=True, timeout=30, check=False)
    assert done.returncode == 125
    assert b"without a word (an orderly end)" in done.stderr
    assert b"console: capstan-selftest: ok" in done.stderr


@pytest.mark.parametrize("accel", ACCELS)
def test_reset_is_told(kernel: Path, disk: Path, accel: Accel) -> None:
    line = launcher(kernel, accel, disk, "--word=crash")
    done = subprocess.run(line, capture_output=True, timeout=30, check=False)
    assert done.returncode == 125
    assert b"it was reset" in done.stderr


@pytest.mark.parametrize("accel", ACCELS[:1])
def test_internal_error_is_told(host: HostCaps, kernel: Path, disk: Path, accel: Accel) -> None:
    if hostcaps.prove(host, kernel, accel).kvm is not KvmKind.PVM:
        pytest.skip("only kvm_pvm has instructions that it cannot run")
    begin = time.monotonic()
    line = launcher(kernel, accel, disk, "--word=bad")
    done = subprocess.run(line, capture_output=True, timeout=30, check=False)
    assert done.returncode == 125
    assert b"broke down (internal-error)" in done.stderr
    assert b"QEMU: KVM internal error" in done.stderr
    assert time.monotonic() - begin < 5


def test_timeout_and_quit(kernel: Path, disk: Path) -> None:
    line = launcher(kernel, Accel.TCG, disk, "--word=hang", "--timeout=1")
    done = subprocess.run(line, capture_output=True, timeout=30, check=False)
    assert done.returncode == 124


def test_killed_launcher_takes_qemu_along(kernel: Path, disk: Path) -> None:
    line = launcher(kernel, Accel.TCG, disk, "--word=hang")
    process = subprocess.Popen(line)
    assert wait_for(lambda: children(process.pid))
    time.sleep(0.2)
    (qemu,) = children(process.pid)
    process.kill()
    process.wait()
    assert wait_for(lambda: not alive(qemu), 1.0)


def test_gdb_attaches(kernel: Path, disk: Path) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("no gdb")
    with gdb.stub("unix", kernel) as (listen, command):
        line = launcher(kernel, Accel.TCG, disk, f"--gdb={listen}", "--timeout=20")
        process = subprocess.Popen(line, stderr=subprocess.PIPE)
        path = Path(listen.removeprefix("unix:").partition(",")[0])
        assert wait_for(path.exists)
        orders = ["-ex", "hbreak start64", "-ex", "continue", "-ex", "kill"]
        program, *attach, symbols = shlex.split(command)
        debugger = [program, "-nx", "-batch", *attach, *orders, symbols]
        done = subprocess.run(debugger, capture_output=True, timeout=30, check=False)
        assert b"start64" in done.stdout, done
        process.communicate(timeout=30)
    assert not path.parent.exists()
