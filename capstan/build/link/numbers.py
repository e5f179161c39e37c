# SPDX-License-Identifier: BSD-2-Clause
"""The number of a system call, where the program text says it.

Backwards from the `syscall` in a straight line: a jump that is not taken is passed, a call or
a label ends the search. Honest: None unless every way to the `syscall` has that number.
"""

from __future__ import annotations

import re

from capstan.build.link import decode
from capstan.build.link.bounds import Function
from capstan.build.link.decode import Insn
from capstan.build.link.targets import Targets

MAX_STEPS = 128
MAX_NUMBER = 1 << 16

_FULL = {name: name for name in decode.words("rax rbx rcx rdx rsi rdi rbp rsp")}
_FULL |= {"e" + name[1:]: name for name in list(_FULL)}
_FULL |= {f"r{n}": f"r{n}" for n in range(8, 16)} | {f"r{n}d": f"r{n}" for n in range(8, 16)}
_PLAIN = decode.words(
    "mov movabs lea xor and or add sub cmp test movzx movsx movsxd shl shr not nop"
)
"""Instructions that write nothing but their first operand."""
_NUMBER = re.compile(r"-?(?:0x[0-9a-f]+|\d+)")
_ADDRESS = re.compile(r"\[(\w+)(?: ([+-]) (0x[0-9a-f]+|\d+))?\]")


def in_copy(function: Function, first: int, site: int) -> int | None:
    """The number set by the instructions with indices [first, site): all of them run, in order."""
    return _trace(function, site, first)[0]


def at_site(function: Function, index: int, targets: Targets) -> int | None:
    """The number at the `syscall` with that index, whichever way it is reached."""
    number, where = _trace(function, index, max(0, index - MAX_STEPS))
    if number is None:
        return None
    defined = function.insns[where]
    site = function.insns[index]
    is_entered = targets.entered(defined[0] + defined[1], site[0] + site[1], function)
    return None if is_entered else number


def _trace(function: Function, index: int, first: int) -> tuple[int | None, int]:
    """The constant in rax before instruction `index`, and the first instruction it rests on."""
    register, offset = "rax", 0
    for i in range(index - 1, first - 1, -1):
        insn = function.insns[i]
        if decode.is_flow(insn) and not decode.is_conditional(insn):
            break
        if not _writes(function, insn, register):
            continue
        step = _source(insn, register)
        if step is None:
            break
        if step[0] is None:
            value = (step[1] + offset) & 0xFFFFFFFF
            return (value if value < MAX_NUMBER else None), i
        register, offset = step[0], offset + step[1]
    return None, index


def _writes(function: Function, insn: Insn, register: str) -> bool:
    """Whether an instruction changes a register; details only for the unusual ones."""
    if insn[2] in _PLAIN:
        first = insn[3].split(",", 1)[0]
        return "[" not in first and decode.full_register(first) == register
    return register in decode.effects(function.code(insn), insn[0])[1]


def _source(insn: Insn, register: str) -> tuple[str | None, int] | None:
    """What an instruction sets a register to: (another register, plus) or (None, constant)."""
    name, ops = insn[2], [part.strip() for part in insn[3].split(",")]
    if len(ops) != 2 or _FULL.get(ops[0]) != register:
        return None
    if name in {"xor", "sub"} and ops[0] == ops[1]:
        return None, 0
    if name in {"mov", "movabs"}:
        if _NUMBER.fullmatch(ops[1]):
            return None, int(ops[1], 0)
        full = _FULL.get(ops[1])
        return (full, 0) if full is not None else None
    if name == "lea":
        found = _ADDRESS.fullmatch(ops[1])
        full = _FULL.get(found[1]) if found else None
        if found and full is not None:
            plus = int(found[3] or "0", 0)
            return full, -plus if found[2] == "-" else plus
    return None
