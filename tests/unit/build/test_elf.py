# SPDX-License-Identifier: BSD-2-Clause
"""The ELF reader: what it finds, and that damage is an ElfError and nothing else."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.build import elf
from capstan.build.elf import ElfError, Kind
from tests.lib.elfmaker import ET_EXEC, make_elf

PROGRAM = make_elf(
    interp="/lib64/ld-linux-x86-64.so.2",
    needed=["libm.so.6", "libc.so.6"],
    runpath="$ORIGIN/../lib",
    extra=b"pthread_exit\0",
)


def test_dynamic_program() -> None:
    facts = elf.parse(PROGRAM)
    assert facts.kind is Kind.PIE
    assert facts.interp == "/lib64/ld-linux-x86-64.so.2"
    assert facts.needed == ("libm.so.6", "libc.so.6")
    assert facts.runpath == "$ORIGIN/../lib"
    assert facts.rpath is None
    assert facts.unwinds


def test_static_program() -> None:
    facts = elf.parse(make_elf(etype=ET_EXEC))
    assert (facts.kind, facts.interp, facts.needed) == (Kind.EXEC, None, ())


def test_library() -> None:
    facts = elf.parse(make_elf(needed=["libc.so.6"], soname="libx.so.1", rpath="/opt"))
    assert (facts.kind, facts.soname, facts.rpath) == (Kind.SHARED, "libx.so.1", "/opt")


def test_load_maps_a_file(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(PROGRAM)
    assert elf.load(tmp_path / "p") == elf.parse(PROGRAM)


def _with(offset: int, layout: str, *values: int) -> bytes:
    data = bytearray(PROGRAM)
    struct.pack_into(layout, data, offset, *values)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\n", "not an ELF"),
        (PROGRAM[:10], "truncated"),
        (PROGRAM[:40], "truncated"),
        (PROGRAM[:100], "program headers"),
        (PROGRAM[:-8], "truncated"),
        (_with(4, "<B", 9), "damaged"),
        (_with(4, "<BB", 1, 1), "64-bit"),
        (make_elf(machine=183), "AArch64"),
        (make_elf(machine=4711), "4711"),
        (_with(16, "<H", 1), "object file"),
        (_with(16, "<H", 4), "core dump"),
        (_with(56, "<H", 0), "no program headers"),
        (_with(56, "<H", 0xFFFF), "65535"),
        (_with(56, "<H", 600), "600"),
        (_with(54, "<H", 32), "32 bytes"),
        (_with(32, "<Q", 1 << 63), "program headers"),
        (_with(64 + 8, "<Q", (1 << 64) - 4096), "segment"),
        (_with(64 + 32, "<Q", 1 << 40), "segment"),
        (_with(64 + 40, "<Q", 1), "larger in the file"),
        (_with(64 + 16, "<Q", 5), "aligned"),
        (_with(64 + 16, "<Q", 1 << 60), "outside of user memory"),
        (_with(120 + 32, "<Q", 1 << 30), "interpreter"),
        (_with(176 + 8, "<Q", 1 << 62), "dynamic section"),
    ],
)
def test_damage_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(ElfError, match=reason) as caught:
        elf.parse(data)
    assert caught.value.hint


def test_unsorted_segments_are_refused() -> None:
    data = bytearray(PROGRAM)
    data[120:176] = data[64:120]
    with pytest.raises(ElfError, match="overlap"):
        elf.parse(bytes(data))


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(PROGRAM)),
    st.lists(st.tuples(st.integers(0, len(PROGRAM) - 1), st.integers(0, 255)), max_size=8),
)
def test_any_damage_is_an_elf_error(cut: int, edits: list[tuple[int, int]]) -> None:
    data = bytearray(PROGRAM)
    for at, value in edits:
        data[at] = value
    for mutant in (bytes(data), bytes(data[:cut])):
        try:
            elf.parse(mutant)
        except ElfError as err:
            assert err.reason and err.hint
