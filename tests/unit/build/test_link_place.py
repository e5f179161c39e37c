# SPDX-License-Identifier: BSD-2-Clause
"""Where the stubs go, what happens to headers and sections, and what is refused."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from capstan.build.elf import PAGE, ElfError
from capstan.build.link import Flavour, link_file, table
from capstan.build.link.linker import ALREADY
from capstan.build.link.objfile import (
    PF_X,
    PT_GNU_PROPERTY,
    PT_GNU_STACK,
    PT_LOAD,
    PT_NOTE,
    PT_PAX_FLAGS,
    ObjFile,
)
from capstan.build.link.verify import find_trailer
from tests.link import toolchain

HELLO = """
        .text
        .balign {align}
        .globl  text_begin
        .type   text_begin, @function
text_begin:
        .cfi_startproc
        mov     $1, %eax
        mov     $1, %edi
        lea     text(%rip), %rsi
        mov     $3, %edx
        syscall
        mov     $60, %eax
        xor     %edi, %edi
        syscall
        hlt
        .fill   {fill}, 1, 0x90
        ud2
        .cfi_endproc
        .size   text_begin, . - text_begin
        .section .rodata
text:   .ascii  "ok\\n"
        .section .note.GNU-stack, "", @progbits
"""
SLACK, FULL = 100, PAGE - 60
"""Filling of the text: room left in its last page, or none."""


def hello(fill: int = SLACK, *args: str, align: int = 16) -> bytes:
    """A program that says ok, with two system calls."""
    return toolchain.build(
        HELLO.format(fill=fill, align=align), *(args or toolchain.PIE)
    ).read_bytes()


def link(data: bytes, flavour: Flavour = Flavour.NATIVE_PC) -> bytes:
    result = link_file(data, flavour=flavour)
    assert result.data is not None, result.report.reason
    assert result.report.linked == 2
    assert hashlib.sha256(result.data).hexdigest() == result.report.linked_digest
    return result.data


def run(data: bytes, tmp_path: Path) -> str:
    """What the program says; it must end well."""
    path = tmp_path / "program"
    path.write_bytes(data)
    path.chmod(0o755)
    done = subprocess.run([path], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 0, done
    return done.stdout


def retyped(data: bytes, old: int, new: int) -> bytes:
    """The same file with the program headers of one type made another type."""
    obj, out = ObjFile(data), bytearray(data)
    for index, seg in enumerate(obj.segments):
        if seg.type == old:
            struct.pack_into("<I", out, obj.phoff + 56 * index, new)
    return bytes(out)


def without_sections(data: bytes) -> bytes:
    """Nothing but the segments (`sstrip` does that)."""
    out = bytearray(data[: max(seg.offset + seg.filesz for seg in ObjFile(data).segments)])
    struct.pack_into("<Q", out, 40, 0)
    struct.pack_into("<HHH", out, 58, 0, 0, 0)
    return bytes(out)


def types(data: bytes) -> list[int]:
    return [seg.type for seg in ObjFile(data).segments]


@pytest.mark.parametrize("flavour", [Flavour.NATIVE_PC, Flavour.NATIVE_ABI])
@pytest.mark.parametrize("args", [toolchain.PIE, toolchain.EXEC])
@pytest.mark.parametrize("fill", [SLACK, FULL])
def test_it_runs(fill: int, args: tuple[str, ...], flavour: Flavour, tmp_path: Path) -> None:
    assert run(link(hello(fill, *args), flavour), tmp_path) == "ok\n"


def test_slack_changes_one_segment_and_one_section() -> None:
    data = hello(SLACK)
    new = link(data)
    old_obj, new_obj = ObjFile(data), ObjFile(new)
    changed = [
        (old, seg)
        for old, seg in zip(old_obj.segments, new_obj.segments, strict=True)
        if old != seg
    ]
    [(old, seg)] = changed
    assert seg == replace(old, filesz=seg.filesz, memsz=seg.memsz) and seg.filesz == seg.memsz
    assert (seg.vaddr + seg.filesz) % PAGE == (seg.offset + seg.filesz) % PAGE == 0
    text = new_obj.section(".text")
    assert text and text.addr + text.size == seg.vaddr + seg.filesz
    assert [s.name for s in new_obj.sections[len(old_obj.sections) :]] == [".capstan.sites"]


def test_a_segment_when_there_is_no_slack() -> None:
    data = hello(FULL)
    new = link(data)
    old_obj, new_obj = ObjFile(data), ObjFile(new)
    added = [seg for seg in new_obj.loads if seg not in old_obj.loads]
    [seg] = added
    assert new_obj.loads[-1] == seg and seg.flags == PF_X | 4
    assert seg.vaddr >= max(s.vaddr + s.memsz for s in old_obj.loads)
    assert seg.vaddr % PAGE == seg.offset % PAGE == seg.filesz % PAGE == 0
    assert seg.filesz == seg.memsz and seg.offset >= old_obj.shoff - PAGE
    assert len(new_obj.segments) == len(old_obj.segments)
    assert PT_NOTE not in types(new) and PT_GNU_STACK in types(new)
    names = [s.name for s in new_obj.sections[len(old_obj.sections) :]]
    assert names == [".capstan.stubs", ".capstan.sites"]
    stubs = new_obj.section(".capstan.stubs")
    assert stubs and (stubs.addr, stubs.offset, stubs.size) == (seg.vaddr, seg.offset, seg.filesz)


@pytest.mark.parametrize("kind", [PT_GNU_PROPERTY, PT_PAX_FLAGS])
def test_headers_nobody_misses_go_first(kind: int) -> None:
    """The note is kept when there is something better to replace."""
    data = retyped(hello(FULL), 0x6474E552, kind)  # PT_GNU_RELRO
    assert kind in types(data)
    new = link(data)
    assert kind not in types(new) and PT_NOTE in types(new)


def test_loads_stay_in_order_when_notes_come_first(tmp_path: Path) -> None:
    """Go puts its note before the segments; the new one must still be the last."""
    data = hello(FULL)
    obj, out = ObjFile(data), bytearray(data)
    order = sorted(obj.segments, key=lambda s: (s.type == PT_LOAD, s.type != PT_NOTE))
    for index, seg in enumerate(order):
        out[obj.phoff + 56 * index : obj.phoff + 56 * index + 56] = seg.pack()
    assert types(bytes(out))[0] == PT_NOTE
    new = link(bytes(out))
    loads = [seg.vaddr for seg in ObjFile(new).loads]
    assert loads == sorted(loads) and len(loads) == len(obj.loads) + 1
    assert run(new, tmp_path) == "ok\n"


NO_ID = (*toolchain.EXEC, "-Wl,--build-id=none")
ONE_SEGMENT = (*NO_ID, "-Wl,-z,noseparate-code")


@pytest.mark.parametrize("args", [NO_ID, ONE_SEGMENT])
def test_the_table_grows_into_zero_bytes(args: tuple[str, ...], tmp_path: Path) -> None:
    """With text behind it in the same segment, or alone in one (musl's static programs)."""
    data = hello(FULL, *args, align=1024)
    new = link(data)
    assert len(types(new)) == len(types(data)) + 1
    first = ObjFile(new).loads[0]
    assert first.offset == 0 and first.filesz >= 64 + 56 * len(types(new))
    assert run(new, tmp_path) == "ok\n"
    path = tmp_path / "stripped"
    path.write_bytes(new)
    toolchain.tool("strip", path)
    assert run(path.read_bytes(), tmp_path) == "ok\n"


def test_no_room_for_a_header() -> None:
    data = hello(FULL, *ONE_SEGMENT, align=1024)
    obj, out = ObjFile(data), bytearray(data)
    out[obj.phoff + 56 * len(obj.segments)] = 1
    result = link_file(bytes(out), flavour=Flavour.GUEST)
    assert result.data is None
    assert "no program header" in result.report.reason
    assert [kept.reason for kept in result.report.left] == [result.report.reason] * 2
    assert result.report.linked == 0 and result.report.sites == 2
    assert not any(opcode.is_handled for opcode in result.report.opcodes)


def test_an_overlay_stays_where_it_is_from_the_end(tmp_path: Path) -> None:
    overlay = b"PK\3\4" + bytes(range(256))
    data = hello(SLACK) + overlay
    new = link(data)
    assert len(new) == len(data) and new.endswith(overlay)
    assert run(new, tmp_path) == "ok\n"
    assert link_file(new, flavour=Flavour.NATIVE_PC).report.reason == ALREADY


def test_zeros_at_the_end_are_no_overlay(tmp_path: Path) -> None:
    """Go fills stripped files up to a page."""
    assert run(link(hello(FULL) + bytes(2304)), tmp_path) == "ok\n"


def test_an_overlay_without_slack_is_left_alone() -> None:
    result = link_file(hello(FULL) + b"x" * 300, flavour=Flavour.GUEST)
    assert result.data is None and "300 bytes follow" in result.report.reason


@pytest.mark.parametrize("args", [toolchain.PIE, toolchain.EXEC])
@pytest.mark.parametrize("fill", [SLACK, FULL])
def test_without_section_headers(fill: int, args: tuple[str, ...], tmp_path: Path) -> None:
    data = without_sections(hello(fill, *args, "-Wl,--eh-frame-hdr"))
    new = link(data)
    assert not ObjFile(new).sections
    assert run(new, tmp_path) == "ok\n"
    assert link_file(new, flavour=Flavour.NATIVE_PC).report.reason == ALREADY


@pytest.mark.parametrize("tool", ["strip", "objcopy"])
@pytest.mark.parametrize("fill", [SLACK, FULL])
def test_strip_and_objcopy_keep_it_working(fill: int, tool: str, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(link(hello(fill)))
    toolchain.tool(tool, path)
    data = path.read_bytes()
    assert run(data, tmp_path) == "ok\n"
    again = link_file(data, flavour=Flavour.NATIVE_PC)
    assert again.data is None and again.report.reason == ALREADY
    found = find_trailer(ObjFile(data))
    assert found is not None and found[0].linked == 2


def test_symbols_and_build_id_stay(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(hello(FULL))
    new.write_bytes(link(hello(FULL)))
    for line in (("nm",), ("readelf", "-n"), ("readelf", "--debug-dump=frames")):
        was, now = (toolchain.tool(*line, path) for path in (old, new))
        assert was.replace(str(old), "") == now.replace(str(new), "")


@pytest.mark.parametrize("fill", [SLACK, FULL])
def test_a_second_link_does_nothing(fill: int) -> None:
    new = link(hello(fill))
    again = link_file(new, flavour=Flavour.NATIVE_PC)
    assert again.data is None and again.report.reason == ALREADY
    with pytest.raises(ElfError, match="linked before, as native-pc"):
        link_file(new, flavour=Flavour.GUEST)


def test_half_of_a_linked_file_is_refused() -> None:
    """The section is there, but the stubs are gone."""
    new = bytearray(link(hello(SLACK)))
    at = new.index(table.MAGIC)
    new[at : at + 8] = bytes(8)
    with pytest.raises(ElfError, match="no stubs"):
        link_file(bytes(new), flavour=Flavour.NATIVE_PC)


def test_nothing_to_link() -> None:
    data = toolchain.build(HELLO.format(fill=1, align=16).replace("syscall", "nop"), *toolchain.PIE)
    result = link_file(data)
    assert result.data is None
    assert result.report.reason == "" and result.report.hits == 0
    assert result.report.digest == hashlib.sha256(data.read_bytes()).hexdigest()


def test_text_relocations_are_left_alone() -> None:
    text = HELLO.format(fill=1, align=16).replace("lea     text(%rip)", "movabs  $text")
    args = ("-nostdlib", "-shared", "-Wl,-z,notext", "-Wl,-e,text_begin")
    result = link_file(toolchain.build(text, *args), flavour=Flavour.NATIVE_PC)
    assert result.data is None and "text relocations" in result.report.reason


def test_the_section_of_sites() -> None:
    data = hello(FULL)
    new = link(data, Flavour.GUEST)
    obj = ObjFile(new)
    section = obj.section(table.SECTION_SITES)
    assert section and not section.flags and section.addr == 0
    digest, rows = table.unpack_sites(new[section.offset : section.offset + section.size])
    assert digest == hashlib.sha256(data).digest()
    assert [row.kind.name for row in rows] == ["A", "A", "TRAP"]
    assert [row.number for row in rows] == [1, 60, None]
    assert all(row.start <= row.site for row in rows)
    for row in rows[:2]:
        assert obj.bytes_at(row.start, row.start + 1) == b"\xe9"


def test_the_same_input_gives_the_same_bytes() -> None:
    assert link(hello(FULL)) == link(hello(FULL))
