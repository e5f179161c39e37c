# SPDX-License-Identifier: BSD-2-Clause
"""What we conclude from what the host shows, and that we remember it."""

from __future__ import annotations

from pathlib import Path

import pytest

from capstan.errors import MachineError
from capstan.run import hostcaps
from capstan.run.hostcaps import HostCaps, KvmKind, Proof, choose_accel
from capstan.run.spec import Accel
from tests.lib.boot import fake_host


def host(kvm: KvmKind, reason: str = "") -> HostCaps:
    return HostCaps(Path("qemu"), (7, 2, 22), kvm, reason)


@pytest.mark.parametrize(
    ("wanted", "kvm", "accel", "note"),
    [
        (Accel.AUTO, KvmKind.HARDWARE, Accel.KVM, False),
        (Accel.AUTO, KvmKind.PVM, Accel.KVM, False),
        (Accel.AUTO, KvmKind.INTERPRETED, Accel.TCG, True),
        (Accel.AUTO, KvmKind.NONE, Accel.TCG, True),
        (Accel.KVM, KvmKind.INTERPRETED, Accel.KVM, False),
        (Accel.TCG, KvmKind.PVM, Accel.TCG, False),
        (Accel.TCG, KvmKind.NONE, Accel.TCG, False),
    ],
)
def test_choice(wanted: Accel, kvm: KvmKind, accel: Accel, note: bool) -> None:
    chosen, text = choose_accel(wanted, host(kvm, "x"))
    assert (chosen, bool(text)) == (accel, note)


def test_kvm_that_was_asked_for_must_work() -> None:
    with pytest.raises(MachineError, match="no good"):
        choose_accel(Accel.KVM, host(KvmKind.NONE, "no good"))


@pytest.mark.parametrize(
    ("name", "native", "kind"),
    [
        ("pvm", True, KvmKind.PVM),
        ("kvm", True, KvmKind.HARDWARE),
        ("kvm", False, KvmKind.INTERPRETED),
        ("tcg", True, KvmKind.NONE),
    ],
)
def test_kind(name: str, native: bool, kind: KvmKind) -> None:
    assert Proof(True, 0.1, 1, native, name).kvm is kind


def test_answer_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fake_host(tmp_path)
    answers = [Proof(False, 1.0, detail="emulation failure"), Proof(True, 0.1, 1, True, "kvm")]
    monkeypatch.setattr(hostcaps, "kvm_refusal", lambda: "")
    monkeypatch.setattr(hostcaps, "prove", lambda *_: answers.pop())
    first = hostcaps.host_caps(Path("k"), Accel.AUTO)
    assert first.kvm is KvmKind.HARDWARE and first.version == (7, 2, 22)
    assert hostcaps.host_caps(Path("k"), Accel.AUTO) == first
    again = hostcaps.host_caps(Path("k"), Accel.AUTO, refresh=True)
    assert again.kvm is KvmKind.NONE and "emulation failure" in again.reason
    assert hostcaps.host_caps(Path("k"), Accel.KVM) == again
    monkeypatch.setattr(hostcaps, "REFUSAL_LIFETIME", 0.0)
    answers.append(Proof(True, 0.1, 1, True, "pvm"))
    assert hostcaps.host_caps(Path("k"), Accel.AUTO).kvm is KvmKind.PVM


def test_missing_firmware_is_no_matter_of_kvm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSTAN_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fake_host(tmp_path)
    answer = Proof(False, 0.1, detail="qemu: could not load PC BIOS 'qboot.rom'")
    monkeypatch.setattr(hostcaps, "kvm_refusal", lambda: "")
    monkeypatch.setattr(hostcaps, "prove", lambda *_: answer)
    with pytest.raises(MachineError, match=r"does not find qboot\.rom"):
        hostcaps.host_caps(Path("k"), Accel.AUTO)


def test_no_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="not installed"):
        hostcaps.host_caps(Path("k"), Accel.TCG)
