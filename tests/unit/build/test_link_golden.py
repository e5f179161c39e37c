# SPDX-License-Identifier: BSD-2-Clause
"""What becomes of each way a system call can look (`tests/link/cases.S`)."""

from __future__ import annotations

import struct
from functools import cache

import pytest

from capstan.build.link import Flavour, LinkReport, link_file, sites_with_numbers, table
from capstan.build.link.decode import decode, rip_target
from capstan.build.link.objfile import ObjFile
from capstan.build.link.table import Kind, Place
from capstan.build.link.verify import read_places
from tests.link import toolchain

EXPECTED = {
    "a1": (Kind.A, 5, 1),
    "a2": (Kind.A, 7, 2),
    "a7": (Kind.A, 20, 7),
    "a_nearest": (Kind.A, 5, 8),
    "a_rip": (Kind.A, 6, None),
    "a_rip_immediate": (Kind.A, 10, None),
    "a_long": (Kind.A, 12, None),
    "a_red_zone": (Kind.A, 5, 3),
    "a_entered": (Kind.A, 5, 4),
    "a_vfork": (Kind.A, 5, 58),
    "a_after_call": (Kind.A, 5, 5),
    "w_plain": (Kind.W, 6, None),
    "w_then_other": (Kind.W, 9, None),
    "left_inner_target": None,
    "left_not_idempotent": None,
    "left_memory_write": None,
    "left_arithmetic": None,
    "left_short": None,
    "left_jump_table": None,
    "p_before": (Kind.P, 0, None),
    "p_after": (Kind.P, 0, 0),
    "p_two_hops": (Kind.P, 0, 0),
    "left_alive_padding": None,
    "left_entered_padding": None,
    "p_passed": (Kind.P, 0, None),
    "a_passed": (Kind.A, 9, 202),
    "restorer_long": None,
    "restorer_short": None,
    "halts": (Kind.A, 5, 60),
    "second_call": (Kind.A, 5, 1),
    "left_second_call": None,
}
BUILDS = {"pie": toolchain.PIE, "exec": toolchain.EXEC}


@cache
def names(build: str) -> dict[str, int]:
    """The sites of the cases, by name."""
    obj = ObjFile(toolchain.cases(*BUILDS[build]).read_bytes())
    text, where, what = (obj.section(n) for n in (".text", ".case_sites", ".case_names"))
    assert text and where and what
    distances = struct.iter_unpack("<Q", obj.data[where.offset : where.offset + where.size])
    texts = obj.data[what.offset : what.offset + what.size].split(b"\0")
    return {
        name.decode(): text.addr + distance[0]
        for name, distance in zip(texts, distances, strict=False)
    }


@cache
def linked(build: str, flavour: Flavour = Flavour.GUEST) -> tuple[LinkReport, bytes]:
    result = link_file(toolchain.cases(*BUILDS[build]), flavour=flavour)
    assert result.data is not None
    return result.report, result.data


def places(build: str, flavour: Flavour = Flavour.GUEST) -> list[Place]:
    found = read_places(ObjFile(linked(build, flavour)[1]))
    assert found is not None
    return found[1]


def code(data: bytes, start: int, end: int) -> bytes:
    return ObjFile(data).bytes_at(start, end)


@pytest.mark.parametrize("build", BUILDS)
def test_each_case(build: str) -> None:
    assert list(names(build)) == list(EXPECTED)
    sites = {p.site: p for p in places(build) if p.kind in {Kind.A, Kind.W, Kind.P}}
    seen = {}
    for name, at in names(build).items():
        place = sites.get(at)
        seen[name] = (place.kind, place.copied, place.number) if place else None
    assert seen == EXPECTED
    assert len(sites) == sum(value is not None for value in EXPECTED.values())


@pytest.mark.parametrize("build", BUILDS)
def test_the_report_has_the_figures(build: str) -> None:
    report = linked(build)[0]
    kinds = [value[0] for value in EXPECTED.values() if value]
    assert (report.sites, report.linked) == (len(EXPECTED), len(kinds))
    assert report.class_a == kinds.count(Kind.A)
    assert report.class_w == kinds.count(Kind.W)
    assert report.class_p == kinds.count(Kind.P)
    assert [kept.function.split("+")[0] for kept in report.restorers] == [
        "restorer_long",
        "restorer_short",
    ]
    left = [kept.at for kept in report.left]
    assert left == [at for name, at in names(build).items() if name.startswith("left_")]
    assert all(kept.reason for kept in (*report.left, *report.restorers))
    assert report.false_hits == 4  # two immediates, two in a data object
    assert not report.undecided
    assert report.passed == 2  # a_entered, a_passed
    assert report.numbered == sum(
        bool(value and value[2] is not None) for value in EXPECTED.values()
    )


@pytest.mark.parametrize("build", BUILDS)
def test_what_is_refused_keeps_its_bytes(build: str) -> None:
    original = toolchain.cases(*BUILDS[build]).read_bytes()
    _, data = linked(build)
    for name in ("restorer_long", "restorer_short", "left_short", "left_inner_target"):
        at = names(build)[name]
        assert code(data, at - 9, at + 2) == code(original, at - 9, at + 2)


def test_the_call_itself_stays() -> None:
    _, data = linked("pie")
    for name, value in EXPECTED.items():
        if value is None or value[0] is not Kind.P:
            at = names("pie")[name]
            assert code(data, at, at + 2) == b"\x0f\x05", name


def test_a_window_is_filled_with_int3() -> None:
    at = names("pie")["a_long"]
    window = code(linked("pie")[1], at - 12, at)
    assert window[0] == 0xE9 and window[5:] == b"\xcc" * 7


@pytest.mark.parametrize("name", ["a_rip", "a_rip_immediate"])
def test_rip_relative_copies_have_the_same_target(name: str) -> None:
    original = ObjFile(toolchain.cases(*BUILDS["pie"]).read_bytes())
    _, data = linked("pie")
    site = names("pie")[name]
    place = next(p for p in places("pie") if p.site == site)
    was = decode(original.bytes_at(site - place.copied, site), site - place.copied)
    now = decode(code(data, place.at, place.at + place.copied), place.at)
    targets = [rip_target(insn) for insn in now]
    assert targets == [rip_target(insn) for insn in was]
    assert targets[0] is not None
    assert [insn[1:3] for insn in now] == [insn[1:3] for insn in was]


def test_the_guest_tail() -> None:
    """lea site+2(%rip),%rcx; jmp *cell: the cell of the number where it is known."""
    _, data = linked("pie")
    for place in places("pie"):
        if place.kind in {Kind.A, Kind.W, Kind.P}:
            at = place.at + place.copied
            tail = code(data, at, place.at + place.size)
            assert tail[:3] == b"\x48\x8d\x0d" and tail[7:10] == b"\xff\x24\x25"
            assert at + 7 + struct.unpack_from("<i", tail, 3)[0] == place.site + 2
            cell = struct.unpack_from("<i", tail, 10)[0] & ((1 << 64) - 1)
            number = 0 if place.number is None else 1 + place.number
            assert cell == table.CELLS + 8 * number


def test_traps_only_in_the_guest_and_only_real_instructions() -> None:
    report, data = linked("pie")
    original = toolchain.cases(*BUILDS["pie"]).read_bytes()
    assert [(o.opcode, o.is_handled) for o in report.opcodes] == [
        ("hlt", True),
        ("out", True),
        ("in", True),
        ("int 0x80", False),
        ("wrgsbase", False),
        ("sti", False),
    ]
    traps = [p for p in places("pie") if p.kind is Kind.TRAP]
    assert [p.at for p in traps] == [o.at for o in report.opcodes if o.is_handled]
    assert [p.size for p in traps] == [1, 1, 2]
    _, native = linked("pie", Flavour.NATIVE_PC)
    for trap in traps:
        assert code(data, trap.at, trap.at + 1) == b"\xcc"
        assert code(native, trap.at, trap.at + 1) == code(original, trap.at, trap.at + 1) != b"\xcc"
    assert original.count(b"\xb8\xf4\xf4\xf4\xf4") == data.count(b"\xb8\xf4\xf4\xf4\xf4") == 1


@pytest.mark.parametrize("flavour", Flavour)
def test_the_plan_is_the_same_for_all_flavours(flavour: Flavour) -> None:
    def plan(flavour: Flavour) -> list[tuple[int, Kind, int, int, int | None]]:
        found = [(p.site, p.kind, p.copied, p.window, p.number) for p in places("pie", flavour)]
        return sorted(found, key=lambda item: (item[0], item[1].value))

    assert plan(flavour) == plan(Flavour.GUEST)


@pytest.mark.parametrize("flavour", Flavour)
@pytest.mark.parametrize("build", BUILDS)
def test_every_place_translates_to_an_original_instruction(build: str, flavour: Flavour) -> None:
    original = ObjFile(toolchain.cases(*BUILDS[build]).read_bytes())
    new = ObjFile(linked(build, flavour)[1])
    for place in places(build, flavour):
        inside = decode(new.bytes_at(place.at, place.at + place.size), place.at)
        if flavour is not Flavour.GUEST and place.kind is Kind.TRAP:
            continue  # unchanged text
        assert sum(insn[1] for insn in inside) == place.size or place.kind is Kind.TRAP
        start = place.site - place.copied
        line = decode(original.bytes_at(start, place.site + 2), start)
        starts = {insn[0] for insn in line} | {place.at if place.kind is Kind.TRAP else place.site}
        for insn in inside:
            assert place.original(insn[0]) in starts


def test_numbers() -> None:
    """As the text fixes them; None where a branch may bring another one or nothing is known."""
    found = {item.at: item.number for item in sites_with_numbers(toolchain.cases())}
    by_name = {name: found[at] for name, at in names("pie").items()}
    wanted = {name: value[2] for name, value in EXPECTED.items() if value}
    wanted |= {"a_entered": None, "a_passed": None, "restorer_long": 15, "restorer_short": 15}
    wanted |= {"left_alive_padding": 0, "left_entered_padding": 0}
    assert {name: by_name[name] for name in wanted} == wanted
    assert [item.function.split("+")[0] for item in sites_with_numbers(toolchain.cases())][:3] == [
        "a1",
        "a2",
        "a7",
    ]


def test_compare_exchange_writes_the_number() -> None:
    source = """
        .globl f
        .type f, @function
    f:  mov $39, %eax
        lock cmpxchg %ecx, (%rdi)
        syscall
        mov $40, %eax
        mov $41, %edx
        lock cmpxchg8b (%rdi)
        syscall
        ret
        .size f, . - f
    """
    program = toolchain.build(source, "-shared", "-nostdlib")
    assert [item.number for item in sites_with_numbers(program)] == [None, None]
    assert link_file(program).report.numbered == 0
