# SPDX-License-Identifier: BSD-2-Clause
"""Where functions are: unwind tables, symbols, Go's table, gaps; and that damage is harmless."""

from __future__ import annotations

import random
import struct
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from capstan.build.elf import ElfError
from capstan.build.link import Flavour, LinkReport, link_file
from capstan.build.link.bounds import MAX_GAP, Function, Functions, Source
from capstan.build.link.ehframe import Unwind
from capstan.build.link.gopclntab import GO_1_2, GO_1_16, GO_1_18, GO_1_20, go_functions
from capstan.build.link.objfile import ObjFile
from tests.link import toolchain

CALL = """
        mov     $39, %eax
        syscall
        ret
"""


def build(text: str, *args: str) -> Path:
    whole = f"        .text\n        .globl text_begin\ntext_begin:\n{text}\n"
    whole += '        .section .note.GNU-stack, "", @progbits\n'
    return toolchain.build(whole, *(args or toolchain.PIE))


def function(name: str, body: str = CALL, *, fde: bool = False, size: bool = True) -> str:
    start, end = (".cfi_startproc", ".cfi_endproc") if fde else ("", "")
    sized = f"        .size {name}, . - {name}\n" if size else ""
    return f"        .type {name}, @function\n{name}: {start}\n{body}\n {end}\n{sized}"


def report(text: str, *args: str) -> LinkReport:
    return link_file(build(text, *args), flavour=Flavour.GUEST).report


def the_function(text: str, vaddr: int | None = None) -> Function | str:
    obj = ObjFile(build(text).read_bytes())
    first = obj.exec_ranges[0]
    at = obj.data.find(b"\x0f\x05", first.offset)
    return Functions(obj).around(at - first.offset + first.start if vaddr is None else vaddr)


@pytest.mark.parametrize("section", [".eh_frame_hdr", ".eh_frame"])
def test_unwind_tables(section: str) -> None:
    """By the sorted table, and from end to end where there is none."""
    flag = "-Wl,--eh-frame-hdr" if section == ".eh_frame_hdr" else "-Wl,--no-eh-frame-hdr"
    names = [f"f{i}" for i in range(5)]
    text = "".join(function(name, fde=True, size=False) for name in names)
    obj = ObjFile(build(text, *toolchain.EXEC, flag).read_bytes())
    assert (obj.section(".eh_frame_hdr") is not None) == (section == ".eh_frame_hdr")
    unwind = Unwind(obj)
    assert len(unwind) == 5
    symbols = toolchain.tool("nm", build(text, *toolchain.EXEC, flag))
    starts = sorted(int(s.split()[0], 16) for s in symbols.splitlines() if s.split()[-1] in names)
    for start in starts:
        found = unwind.around(start + 5)
        assert found is not None and (found.start, found.end - start) == (start, 8)
    assert unwind.around(starts[-1] + 8) is None
    assert unwind.next_start(starts[0]) == starts[1] and unwind.next_start(starts[-1]) is None


def test_a_signal_frame_begins_one_byte_early() -> None:
    """As glibc writes it for the restorer: the table begins inside of the padding."""
    text = """
        .nops   8
        .type   restorer, @function
        .cfi_startproc
        .cfi_signal_frame
        nop
restorer:
        mov     $15, %rax
        syscall
        .cfi_endproc
"""
    found = the_function(text)
    assert isinstance(found, Function) and found.fde and found.fde.is_signal
    assert found.start == found.fde.start + 1
    assert len(report(text).restorers) == 1


def test_symbols_with_a_size() -> None:
    found = the_function(function("one") + function("two"))
    assert isinstance(found, Function) and found.source is Source.SYMBOL
    assert found.end - found.start == 8
    assert report(function("one") + function("two")).linked == 2


def test_a_gap_between_functions() -> None:
    """musl: no unwind tables, and local functions without symbols."""
    text = function("one") + ".Linner:" + CALL + function("two", "call .Linner" + CALL)
    obj = ObjFile(build(text).read_bytes())
    found = Functions(obj).around(obj.exec_ranges[0].start + 8)
    assert isinstance(found, Function) and found.source is Source.GAP
    assert report(text).linked == 3


def test_a_function_that_runs_into_a_gap() -> None:
    """glibc's clone: the unwind table ends right before the call."""
    text = """
        .type   child, @function
child:  .cfi_startproc
        mov     $56, %eax
        .cfi_endproc
        syscall
        test    %eax, %eax
        je      1f
        ret
1:      .cfi_startproc
        xor     %ebp, %ebp
        ret
        .cfi_endproc
"""
    found = the_function(text)
    assert isinstance(found, Function) and found.source is Source.GAP
    assert found.gap == found.start + 5
    result = report(text)
    assert (result.class_a, result.left) == (1, ())


WINDOW = """
        test    %edi, %edi
        js      1f
        mov     %r12d, %eax
{label}        mov     %rbx, %rdi
        syscall
1:      ret
"""


@pytest.mark.parametrize("label", ["", "1:"])
def test_a_gap_has_branches_of_its_own(label: str) -> None:
    """Not those of the function in front of it, which begins where the gap's decoding does."""
    first, second = (
        WINDOW.format(label=""),
        WINDOW.format(label=label).replace("1:      ret", "ret"),
    )
    if not label:
        second = WINDOW.format(label="")
    result = report(function("one", first) + second + function("two"))
    assert (result.sites, result.class_w) == (3, 1 if label else 2)
    assert [left.reason[:14] for left in result.left] == (["no instruction"] if label else [])


def test_data_behind_a_jump_in_a_function() -> None:
    """Go's signatures: they decode, but nothing leads to them."""
    body = "jmp 1f\n .byte 0xf4, 0x48, 0xf4\n mov $39, %eax\n syscall\n1:" + CALL
    data = build(function("one", body)).read_bytes()
    result = link_file(data)
    assert (result.report.linked, result.report.traps, result.report.opcodes) == (1, 0, ())
    assert [left.reason for left in result.report.left] == ["nothing leads to it: perhaps data"]
    assert result.data and b"\xf4\x48\xf4\xb8\x27\0\0\0\x0f\x05" in result.data


def test_data_that_puts_decoding_out_of_step() -> None:
    """The last byte of data takes the first of the code with it."""
    body = "jmp 1f\n .byte 0x3c\n1: mov $0x39, %eax\n syscall\n ret"
    result = report(function("one", CALL + body))
    assert result.linked == 1
    assert ["leads into an instruction" in left.reason for left in result.left] == [True]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (".byte 6", "no instruction at"),
        ("out %al, $5", "looks like data"),
        ("int $0x42", "looks like data"),
        ("loop text_begin", "looks like data"),
        (".fill 70000, 1, 0x90", f"in a gap of {70000 + 8} bytes"),
    ],
)
def test_a_gap_with_something_else_in_it(body: str, reason: str) -> None:
    assert MAX_GAP < 70000
    result = report(function("one") + CALL + body + "\n" + function("two"))
    assert result.linked == 2
    [undecided] = result.undecided
    assert undecided.reason.startswith(reason) or reason in undecided.reason


def test_no_bounds_at_all() -> None:
    result = report(CALL)
    assert result.sites == 0
    assert [u.reason for u in result.undecided] == ["nothing in its section has known bounds"]


def test_data_objects_are_not_code() -> None:
    text = function("one") + "        .type t, @object\nt:" + CALL + "        .size t, . - t\n"
    result = report(text)
    assert (result.linked, result.false_hits, result.undecided) == (1, 1, ())


def test_a_function_with_a_table_in_it() -> None:
    """What comes after bytes that are no instruction is not decided."""
    text = function("one", CALL + ".byte 6\n" + CALL, fde=True)
    result = report(text)
    assert (result.linked, len(result.undecided)) == (1, 1)
    assert "no instruction at" in result.undecided[0].reason


def test_a_symbol_inside_of_an_instruction() -> None:
    text = function("one", f"        .byte 0xb8\n{function('two', '.long 0x90', size=False)}{CALL}")
    assert "inside an instruction" in report(text).undecided[0].reason


def go_table(magic: int, *, text_start: str = "text_begin") -> str:
    """A program with Go's function table and padding, and nothing else to go by."""
    lines = ""
    for index in range(8):
        lines += f"        .balign 32, 0xcc\nf{index}:\n        nop\n{CALL}"
    lines += 'end:\n        .section .gopclntab, "a"\n        .balign 8\ntable:\n'
    lines += f"        .long {magic:#x}\n        .byte 0, 0, 1, 8\n        .quad 8\n"
    if magic == GO_1_2:
        entries = "".join(f"        .quad f{i}, 0\n" for i in range(8)) + "        .quad end\n"
        return lines + entries
    fields = 6 if magic == GO_1_16 else 7
    words = ["1", *(["0"] * (fields - 2)), "functab - table"]
    if magic != GO_1_16:
        words[1] = text_start
    lines += "".join(f"        .quad {word}\n" for word in words) + "functab:\n"
    if magic == GO_1_16:
        lines += "".join(f"        .quad f{i}, 0\n" for i in range(8)) + "        .quad end\n"
        return lines
    entries = "".join(f"        .long f{i} - text_begin, 0\n" for i in range(8))
    return lines + entries + "        .long end - text_begin\n"


@pytest.mark.parametrize("magic", [GO_1_2, GO_1_16, GO_1_18, GO_1_20])
def test_go_tables(magic: int) -> None:
    path = build(go_table(magic), *toolchain.EXEC)
    starts = go_functions(ObjFile(path.read_bytes()))
    assert starts is not None and len(starts) == 9
    assert [int(b - a) for a, b in pairwise(starts[:-1])] == [32] * 7
    result = link_file(path).report
    assert (result.sites, result.linked) == (8, 8)


def test_go_since_1_26_does_not_say_where_its_text_is() -> None:
    path = build(go_table(GO_1_20, text_start="0"), *toolchain.EXEC)
    assert go_functions(ObjFile(path.read_bytes())) is not None


def test_a_wrong_base_is_not_believed() -> None:
    """The functions must have padding in front of them."""
    path = build(go_table(GO_1_20, text_start="text_begin + 3"), *toolchain.EXEC)
    starts = go_functions(ObjFile(path.read_bytes()))
    assert starts is not None  # by the section, which is right
    assert go_functions(ObjFile(path.read_bytes().replace(b"\xcc", b"\x90"))) is None


@cache
def subjects() -> tuple[bytes, ...]:
    """Files to damage."""
    go = build(go_table(GO_1_18), *toolchain.EXEC)
    return toolchain.cases().read_bytes(), go.read_bytes()


def edges(data: bytes) -> list[int]:
    """Where damage does most: headers, section table, unwind tables, Go's table."""
    obj = ObjFile(data)
    found = list(range(64 + 56 * len(obj.segments)))
    found += range(obj.shoff, obj.shoff + 64 * len(obj.sections))
    for name in (".eh_frame_hdr", ".eh_frame", ".gopclntab", ".symtab", ".dynamic"):
        section = obj.section(name)
        if section:
            found += range(section.offset, section.offset + section.size)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_damage_gives_an_error_or_a_proved_file(seed: int) -> None:
    """Never another exception, and never a file that does not pass `verify`."""
    rng = random.Random(seed)
    data = bytearray(subjects()[seed % 2])
    places = edges(bytes(data))
    for _ in range(rng.randrange(1, 6)):
        at = rng.choice(places)
        value = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        if rng.random() < 0.3 and at + 8 < len(data):
            struct.pack_into("<Q", data, at, rng.choice((0, 1 << 63, (1 << 64) - 1, 1 << 32)))
        data[at] = value
    cut = len(data) if rng.random() < 0.8 else rng.randrange(len(data))
    try:
        link_file(bytes(data[:cut]), flavour=Flavour.GUEST)
    except ElfError as err:
        assert err.reason and err.hint
