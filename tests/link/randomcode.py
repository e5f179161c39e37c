# SPDX-License-Identifier: BSD-2-Clause
"""Programs of random straight-line code around system calls, to be run before and after linking.

A program runs each piece from random registers and flags and stores all registers, the flags and
the red zone; at the end it writes everything it stored and its scratch memory to stdout. The calls
are harmless and have the same result every time. Addresses are fixed: two runs can be compared.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

REGISTERS = "rax rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rbx rbp rsp".split()  # noqa: SIM905
FREE = REGISTERS[1:12]
HARMLESS = (102, 104, 107, 108, 511)  # getuid, getgid, geteuid, getegid, none
RED_ZONE = 128
RECORD = 8 * len(REGISTERS) + 8 + RED_ZONE
SCRATCH = 4096
STATUS_FLAGS = 0x8D5
DIRECTION = 0x400


def low(register: str) -> str:
    """The 32-bit half of a register."""
    return register + "d" if register[1:].isdigit() else "e" + register[1:]


@dataclass(frozen=True, slots=True)
class Record:
    """What a piece left behind."""

    registers: dict[str, int]
    flags: int
    red_zone: bytes


def records(output: bytes) -> list[Record]:
    """What a program wrote, without its scratch memory."""
    found = []
    for at in range(0, len(output) - SCRATCH, RECORD):
        words = [int.from_bytes(output[at + 8 * i : at + 8 * i + 8], "little") for i in range(17)]
        registers = dict(zip(REGISTERS, words, strict=False))
        found.append(Record(registers, words[16], output[at + 136 : at + RECORD]))
    return found


def program(seed: int, count: int) -> str:
    """The assembler text of a program with `count` pieces."""
    rng = random.Random(seed)
    pieces = "\n".join(_piece(rng, index) for index in range(count))
    return f"""
        .text
        .globl text_begin
        .type text_begin, @function
text_begin:
        .cfi_startproc
{"".join(f"        call piece{i}{chr(10)}" for i in range(count))}
        mov     $1, %eax
        mov     $1, %edi
        mov     $out, %esi
        mov     ${RECORD * count + SCRATCH}, %edx
        syscall
        mov     $60, %eax
        xor     %edi, %edi
        syscall
        hlt
        .cfi_endproc
        .size text_begin, . - text_begin
{pieces}
        .bss
        .balign 64
out:    .zero   {RECORD * count}
scratch: .zero  {SCRATCH}
        .zero   4096
stack:  .zero   4096
saved:  .zero   8
        .section .note.GNU-stack, "", @progbits
"""


def _piece(rng: random.Random, index: int) -> str:
    loads = [f"movabs ${rng.getrandbits(64):#x}, %{reg}" for reg in FREE]
    flags = 0x202 | rng.getrandbits(12) & (STATUS_FLAGS | DIRECTION)
    at = index * RECORD
    stores = [f"mov %{reg}, out+{at + 8 * i}" for i, reg in enumerate(REGISTERS)]
    for offset in range(0, RED_ZONE, 8):
        stores += [f"mov {offset - RED_ZONE}(%rsp), %rcx", f"mov %rcx, out+{at + 136 + offset}"]
    lines = [
        f".balign 16, {rng.choice((0x90, 0xCC))}",
        f".type piece{index}, @function",
        f"piece{index}:",
        ".cfi_startproc",
        "mov %rsp, saved",
        "mov $stack, %esp",
        "mov $scratch+2048, %ebx",
        "mov $scratch+2048, %ebp",
        f"push ${flags}",
        "popfq",
        *loads,
        f"mov ${rng.choice(HARMLESS)}, %eax",
        *_body(rng),
        *stores,
        "pushfq",
        "pop %rcx",
        "cld",
        f"mov %rcx, out+{at + 128}",
        "mov saved, %rsp",
        "ret",
        f".nops {rng.randrange(1, 9)}",
        ".cfi_endproc",
        f".size piece{index}, . - piece{index}",
    ]
    return "\n".join("        " + line for line in lines)


def _body(rng: random.Random) -> list[str]:
    """Straight-line code with one call, sometimes entered in its middle."""
    lines = [_instruction(rng) for _ in range(rng.randrange(0, 7))]
    setter = rng.choice(HARMLESS)
    which = rng.randrange(5)
    if which == 0:
        lines.append(f"mov ${setter}, %eax")
    elif which == 1:
        lines += [f"mov ${setter}, %r15d", "mov %r15d, %eax"]
    elif which == 2:
        lines.append(f"push ${setter}; pop %rax")  # never entered in between
    if rng.random() < 0.5:
        lines += [_instruction(rng, is_short=True) for _ in range(rng.randrange(0, 4))]
    if rng.random() < 0.25:
        lines.insert(rng.randrange(0, len(lines) + 1), "2:")
        return ["jmp 2f", f".nops {rng.randrange(1, 12)}", *lines, "syscall"]
    if rng.random() < 0.4:
        # Nothing in front of the short instructions can be replaced; often only moves.
        count, moves = rng.randrange(0, 5), rng.random() < 0.5
        lines = [_instruction(rng, is_short=True, is_move=moves) for _ in range(count)]
        return ["jmp 2f", f".nops {rng.randrange(1, 12)}", "2:", *lines, "syscall"]
    return [*lines, "syscall"]


def _instruction(rng: random.Random, *, is_short: bool = False, is_move: bool = False) -> str:
    """One instruction that leaves rax, rbx, rbp and rsp alone."""
    one, two = rng.choice(FREE), rng.choice([*FREE, "rax", "rbx"])
    imm, disp = rng.randrange(-(1 << 31), 1 << 31), rng.randrange(-128, 120)
    moves = [
        f"mov %{two}, %{one}",
        f"mov %{low(two)}, %{low(one)}",
        f"xor %{low(one)}, %{low(one)}",
        f"movzbl %{'al' if two == 'rax' else 'bl'}, %{low(one)}",
        f"mov {disp}(%rbx), %{low(one)}",
        f"movslq %{low(two)}, %{one}",
        f"lea {disp}(%rbx), %{one}",
    ]
    short = [
        *moves,
        f"mov %{low(two)}, {disp}(%rbp)",
        f"not %{one}",
        f"add %{two}, %{one}",
        f"shl $3, %{one}",
        f"bswap %{one}",
        f"inc %{low(one)}",
        f"cmovc %{two}, %{one}",
        f"cmp %{two}, %{one}",
        "nop",
    ]
    long = [
        f"mov ${imm & 0xFFFFFFFF:#x}, %{low(one)}",
        f"movabs ${rng.getrandbits(64):#x}, %{one}",
        f"lea scratch+{disp & 0xFF}(%rip), %{one}",
        f"mov scratch+{disp & 0xF8}(%rip), %{one}",
        f"addl ${imm}, scratch+{disp & 0xF8}(%rip)",
        f"cmpb $7, scratch+{disp & 0xF8}(%rip)",
        f"mov %{two}, scratch+{disp & 0xF8}(%rip)",
        f"mov %{two}, {-8 * rng.randrange(2, 16)}(%rsp)",
        f"mov {-8 * rng.randrange(2, 16)}(%rsp), %{one}",
        f"and ${imm}, %{one}",
        f"movdqu scratch+{disp & 0xF0}(%rip), %xmm0",
        f"movdqu %xmm0, {(disp & 0x78) + 256}(%rbx)",
        f"lea {imm % 4096}(%{two},%{one},4), %{one}",
        f"lock addq ${imm}, scratch+{disp & 0xF8}(%rip)",
        "nopl 0x12345(%rax,%rax,1)",
    ]
    if is_move:
        return rng.choice(moves)
    return rng.choice(short if is_short else short + long)
