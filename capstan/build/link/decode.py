# SPDX-License-Identifier: BSD-2-Clause
"""Instructions, and the few questions the linker has about them.

capstone's light interface gives tuples; details are asked for single instructions only. It is
imported on first use: a file whose hits are all in the cache needs no disassembler.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

Insn = tuple[int, int, str, str]
"""Address, length, mnemonic (with prefixes), operands in Intel syntax."""

LONGEST = 15
SYSCALL = b"\x0f\x05"
INT3 = 0xCC


def words(text: str) -> frozenset[str]:
    """The set of the words in a text."""
    return frozenset(text.split())


_FLOW = words(
    "call lcall ret retf retfq iret iretd iretq syscall sysenter sysexit sysret loop loope loopne"
    " int int1 int3 into hlt ud0 ud1 ud2 endbr64 endbr32 xbegin vmcall vmmcall"
)
_ENDS = words("jmp ljmp ret retf retfq iretq hlt ud0 ud1 ud2")
_PORT = words("in out insb insw insd outsb outsw outsd")
_PRIVILEGED = _PORT | words(
    "hlt cli sti swapgs wrmsr rdmsr invlpg invd wbinvd lgdt lidt lldt ltr lmsw clts sysret sysexit"
    " iretq iretd iret rdpmc"
)
_DATA_LIKE = (_PRIVILEGED - {"hlt"}) | words(
    "ljmp lcall retf retfq enter into loop loope loopne int1 xlatb fwait fsave fbstp fbld"
)


@lru_cache(maxsize=2)
def _capstone(*, detail: bool) -> Any:
    """One decoder per kind; capstone has no type annotations."""
    import capstone  # type: ignore[import-untyped, unused-ignore]

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = detail
    return engine


def decode(code: bytes, at: int) -> list[Insn]:
    """The instructions of `code` up to the first that is cut off or does not exist."""
    return list(_capstone(detail=False).disasm_lite(code, at))


def word(insn: Insn) -> str:
    """The mnemonic without prefixes (`notrack jmp` is a jmp)."""
    return insn[2].rsplit(" ", 1)[-1]


def is_flow(insn: Insn) -> bool:
    """Whether control can leave or enter here: where a straight line ends."""
    name = word(insn)
    return name[0] == "j" or name in _FLOW or name in _PORT


def is_end(insn: Insn) -> bool:
    """Whether what follows is not reached from here."""
    return word(insn) in _ENDS


def is_conditional(insn: Insn) -> bool:
    """Whether it is a jump that the straight line may go past."""
    name = word(insn)
    return name[0] == "j" and name != "jmp"


def is_nop(insn: Insn) -> bool:
    """Whether it only fills space."""
    name = word(insn)
    return name in {"nop", "int3"} or (name == "xchg" and insn[3] in {"ax, ax", "eax, eax"})


def is_data_like(insn: Insn) -> bool:
    """Whether no compiler emits it for a program: what was decoded is probably a table."""
    name = word(insn)
    return name in _DATA_LIKE or (name == "int" and insn[3] not in {"0x80", "3"})


def privileged(insn: Insn) -> str | None:
    """The name of an instruction that behaves differently in the guest, if it is one."""
    name = word(insn)
    if name in _PRIVILEGED or name == "wrgsbase":
        return name
    if name == "int" and insn[3] == "0x80":
        return "int 0x80"
    return "sysenter" if name == "sysenter" else None


@lru_cache(maxsize=4096)
def may_be_privileged(mnemonic: str) -> bool:
    """Whether `privileged` may name an instruction with that mnemonic."""
    name = mnemonic.rsplit(" ", 1)[-1]
    return name in _PRIVILEGED or name in {"wrgsbase", "int", "sysenter"}


def traps(insn: Insn) -> bool:
    """Whether Linux answers it with SIGSEGV and the guest's processor would carry it out."""
    return word(insn) == "hlt" or word(insn) in _PORT


def branch_target(insn: Insn) -> int | None:
    """Where a direct jump or call goes."""
    name = word(insn)
    if (name[0] == "j" or name in {"call", "loop", "loope", "loopne", "xbegin"}) and (
        insn[3].startswith("0x")
    ):
        return int(insn[3], 16)
    return None


def is_indirect_jump(insn: Insn) -> bool:
    """Whether it jumps through a register or memory."""
    return word(insn) == "jmp" and not insn[3].startswith("0x")


def rip_target(insn: Insn) -> int | None:
    """The address of a rip-relative operand."""
    at = insn[3].find("[rip")
    if at < 0:
        return None
    text = insn[3][at + 4 : insn[3].index("]", at)].replace(" ", "")
    return insn[0] + insn[1] + (int(text, 16) if text else 0)


def displacement_at(code: bytes, insn: Insn) -> int:
    """Where in a rip-relative instruction its 32-bit displacement is.

    Raises:
        ValueError: it has none.
    """
    found = next(_capstone(detail=True).disasm(code, insn[0], 1), None)
    if found is None or found.disp_offset == 0 or found.disp_size != 4:
        raise ValueError(f"no displacement in {insn[2]} {insn[3]} at {insn[0]:#x}")
    return int(found.disp_offset)


@lru_cache(maxsize=4096)
def effects(code: bytes, at: int) -> tuple[frozenset[str], frozenset[str], bool]:
    """Registers read and written (64-bit names), and whether memory is written.

    cmpxchg and its wide forms write the accumulator when they fail, which capstone leaves out.
    """
    import capstone

    insn = next(_capstone(detail=True).disasm(code, at, 1))
    read, written = insn.regs_access()
    names = [{full_register(insn.reg_name(r)) for r in regs} for regs in (read, written)]
    if insn.insn_name() in {"cmpxchg", "cmpxchg8b", "cmpxchg16b"}:
        names[1] |= {"rax"} if insn.insn_name() == "cmpxchg" else {"rax", "rdx"}
    writes_memory = any(
        op.type == capstone.x86.X86_OP_MEM and op.access & capstone.CS_AC_WRITE
        for op in insn.operands
    )
    return frozenset(names[0]), frozenset(names[1]), writes_memory


_PARTS = {"al": "rax", "bl": "rbx", "cl": "rcx", "dl": "rdx"}
_PARTS |= {"ah": "rax", "bh": "rbx", "ch": "rcx", "dh": "rdx"}
_PARTS |= {"sil": "rsi", "dil": "rdi", "bpl": "rbp", "spl": "rsp", "eflags": "flags"}


@lru_cache(maxsize=256)
def full_register(name: str) -> str:
    """The 64-bit register a register is part of: `eax`, `ax`, `al` are `rax`."""
    if name in _PARTS:
        return _PARTS[name]
    if name.startswith("r") and name[1:2].isdigit():
        return name.rstrip("bwd")
    if name in {"eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp"}:
        return "r" + name[1:]
    if name in {"ax", "bx", "cx", "dx", "si", "di", "bp", "sp"}:
        return "r" + name
    return name
