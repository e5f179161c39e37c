# SPDX-License-Identifier: BSD-2-Clause
"""The proof after writing: it sees what is wrong with a linked file."""

from __future__ import annotations

import struct
from functools import cache

import pytest

from capstan.build.link import Flavour, linker
from capstan.build.link.bounds import Functions
from capstan.build.link.objfile import ObjFile
from capstan.build.link.plan import Plan, make_plan
from capstan.build.link.sites import classify, privileged
from capstan.build.link.table import Kind
from capstan.build.link.targets import Targets
from capstan.build.link.verify import VerifyError, find_trailer, read_places, verify
from capstan.build.link.write import Written, write
from capstan.errors import BuildError
from tests.link import toolchain


@cache
def linked() -> tuple[ObjFile, Plan, Written]:
    """The cases: the original, the plan and the linked file."""
    obj = ObjFile(toolchain.cases().read_bytes())
    functions = Functions(obj)
    hits = classify(obj, functions)
    targets = Targets(obj, functions)
    plan = make_plan(targets, hits, privileged(targets, has_sites=True))
    written = write(obj, plan, Flavour.GUEST, len(hits))
    assert isinstance(written, Written)
    return obj, plan, written


def check(data: bytes) -> None:
    obj, plan, _ = linked()
    verify(obj, data, plan, Flavour.GUEST)


def flipped(vaddr: int) -> bytes:
    """The linked file with one byte changed."""
    _, _, written = linked()
    offset = ObjFile(written.data).offset_of(vaddr)
    assert offset is not None
    out = bytearray(written.data)
    out[offset] ^= 0xFF
    return bytes(out)


def test_the_linked_file_is_right() -> None:
    check(linked()[2].data)


def test_each_byte_of_a_stub_counts() -> None:
    _, _, written = linked()
    found = read_places(ObjFile(written.data))
    assert found
    seen = 0
    for place in found[1]:
        if place.kind in {Kind.A, Kind.W, Kind.P}:
            for vaddr in range(place.at, place.at + place.size):
                with pytest.raises(VerifyError):
                    check(flipped(vaddr))
                seen += 1
    assert seen > 300


def test_each_byte_of_a_jump_and_each_hop_counts() -> None:
    _, plan, _ = linked()
    for patch in plan.patches:
        length = 5 if patch.kind is not Kind.P else 2
        places = [(patch.start, length), *((hop.at, hop.size) for hop in patch.hops)]
        for at, size in places:
            for vaddr in range(at, at + size):
                with pytest.raises(VerifyError):
                    check(flipped(vaddr))


def test_the_call_must_still_be_there() -> None:
    _, plan, _ = linked()
    for patch in plan.patches:
        if patch.kind is not Kind.P:
            with pytest.raises(VerifyError, match=r"system call|changed|another"):
                check(flipped(patch.site))


def test_other_text_must_not_change() -> None:
    obj, plan, _ = linked()
    changed = {a for p in plan.patches for a in range(p.start, p.start + p.overwritten)}
    changed |= {a for run in plan.pads for a in range(run.start, run.end)}
    changed |= {trap.at for trap in plan.traps}
    text = obj.exec_ranges[0]
    for vaddr in range(text.start, text.end, 23):
        if vaddr not in changed:
            with pytest.raises(VerifyError):
                check(flipped(vaddr))


@pytest.mark.parametrize("back", range(1, 65, 9))
def test_the_trailer_is_checked(back: int) -> None:
    _, _, written = linked()
    end = written.place.vaddr + written.place.size
    with pytest.raises(VerifyError):
        check(flipped(end - back))


def test_the_table_has_a_check_sum() -> None:
    _, _, written = linked()
    obj = ObjFile(written.data)
    found = find_trailer(obj)
    assert found
    with pytest.raises(VerifyError, match="check sum"):
        read_places(ObjFile(flipped(obj.base + found[0].table + 3)))


def test_a_trap_must_be_written() -> None:
    _, plan, _ = linked()
    for trap in plan.traps:
        with pytest.raises(VerifyError, match="trap"):
            check(flipped(trap.at))


def test_a_mistake_of_the_writer_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """A jump that lands one byte behind its stub's beginning."""

    def wrong(at: int, to: int) -> bytes:
        return b"\xe9" + struct.pack("<i", to - at - 4)

    monkeypatch.setattr("capstan.build.link.stubs.jump", wrong)
    with pytest.raises(BuildError, match="failed its check") as caught:
        linker.link_data(toolchain.cases().read_bytes(), Flavour.GUEST)
    assert caught.value.hint
