# SPDX-License-Identifier: BSD-2-Clause
"""Linked code run on Linux: random code around calls, and each site under ptrace."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

from capstan.build.link import Flavour, LinkResult, link_file
from capstan.build.link.objfile import ObjFile
from capstan.build.link.table import Kind, Place
from capstan.build.link.verify import read_places
from tests.link import randomcode, toolchain

SEEDS = (1, 2, 3)
PIECES = 150
NATIVE = (Flavour.NATIVE_PC, Flavour.NATIVE_ABI)


@cache
def program(seed: int) -> Path:
    return toolchain.build(randomcode.program(seed, PIECES), *toolchain.EXEC)


@cache
def linked(seed: int, flavour: Flavour) -> LinkResult:
    return link_file(program(seed), flavour=flavour)


def output(data: bytes, tmp_path: Path) -> bytes:
    path = tmp_path / "program"
    path.write_bytes(data)
    path.chmod(0o755)
    done = subprocess.run([path], capture_output=True, check=False, timeout=20)
    assert done.returncode == 0
    return done.stdout


@pytest.mark.parametrize("flavour", NATIVE)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_code_does_the_same(seed: int, flavour: Flavour, tmp_path: Path) -> None:
    """All registers but rcx and r11, the flags (unless they are poisoned), red zone, memory."""
    result = linked(seed, flavour)
    assert result.data
    assert min(result.report.class_a, result.report.class_w, result.report.class_p) >= 5
    was = output(program(seed).read_bytes(), tmp_path)
    now = output(result.data, tmp_path)
    assert len(was) == PIECES * randomcode.RECORD + randomcode.SCRATCH == len(now)
    assert was[-randomcode.SCRATCH :] == now[-randomcode.SCRATCH :]
    poisoned = randomcode.STATUS_FLAGS if flavour is Flavour.NATIVE_ABI else 0
    for number, (old, new) in enumerate(
        zip(randomcode.records(was), randomcode.records(now), strict=True)
    ):
        for register in randomcode.REGISTERS:
            if register not in {"rcx", "r11"}:
                assert old.registers[register] == new.registers[register], (number, register)
        assert old.flags | poisoned == new.flags | poisoned, number
        assert old.red_zone == new.red_zone, number


@cache
def siterun() -> Path:
    text = (toolchain.HERE / "siterun.c").read_text()
    return toolchain.build(text, "-O2", "-Wall", "-Wextra", "-Werror", language="c")


def run_sites(original: Path, data: bytes, flavour: Flavour, tmp_path: Path) -> tuple[int, str]:
    """Each site of a linked file under ptrace: exit status and output of siterun."""
    new = tmp_path / "linked"
    new.write_bytes(data)
    found = read_places(ObjFile(data))
    assert found
    lines = "".join(line(place) for place in found[1])
    done = subprocess.run(
        [siterun(), flavour.text, original, new],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 2:
        if "not permitted" in done.stderr:
            pytest.skip("needs ptrace, which is not permitted here")
        pytest.fail(done.stderr)
    return done.returncode, done.stdout


def line(place: Place) -> str:
    """A line for siterun; nothing for hops and traps."""
    if place.kind in {Kind.HOP, Kind.TRAP}:
        return ""
    numbers = (place.site - place.copied, place.site, place.at, place.copied, place.window)
    return " ".join([place.kind.name, *(f"{n:x}" for n in numbers)]) + "\n"


@pytest.mark.parametrize("flavour", NATIVE)
def test_each_site_under_ptrace(flavour: Flavour, tmp_path: Path) -> None:
    """From the start, from the call, and interrupted at each instruction on the way."""
    result = linked(1, flavour)
    assert result.data
    status, text = run_sites(program(1), result.data, flavour, tmp_path)
    assert status == 0, text[-2000:]
    assert f"{result.report.linked} sites" in text and " 0 bad" in text


@pytest.mark.parametrize("flavour", NATIVE)
def test_siterun_sees_a_wrong_stub(flavour: Flavour, tmp_path: Path) -> None:
    """A copy that sets another number, and one that changes a register on the way."""
    result = linked(1, flavour)
    found = read_places(ObjFile(result.data or b""))
    assert result.data and found
    place = next(
        p
        for p in found[1]
        if p.kind is Kind.A and ObjFile(result.data).bytes_at(p.at, p.at + 1) == b"\xb8"
    )
    offset = ObjFile(result.data).offset_of(place.at)
    assert offset is not None
    broken = bytearray(result.data)
    broken[offset + 2] ^= 1
    status, text = run_sites(program(1), bytes(broken), flavour, tmp_path)
    assert status == 1 and "1 bad" in text and "number or arguments" in text
