# SPDX-License-Identifier: BSD-2-Clause
"""The machine code of stubs and of the jumps that lead to them.

A stub is the copied instructions (lengths unchanged, rip-relative displacements moved) and a tail:

    guest       lea site+2(%rip),%rcx; jmp *cell      the cell's address is absolute: capstan_link.h
    native-pc   jmp site                              (P: syscall; jmp site+2)
    native-abi  syscall; or $-1,%r11; lea site+2(%rip),%rcx; jmp *%rcx

The native ones run on Linux, for tests: the first must behave exactly as the original, the second
proves that nothing relies on r11 and the flags, and that returning by rcx is right.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from capstan.build.link import decode
from capstan.build.link.decode import INT3, SYSCALL
from capstan.build.link.objfile import ObjFile
from capstan.build.link.plan import JUMP, Patch
from capstan.build.link.table import CELLS, Flavour, Kind

LEA_RCX = b"\x48\x8d\x0d"
JMP_ABSOLUTE = b"\xff\x24\x25"
JMP_NEAR = b"\xe9"
JMP_SHORT = b"\xeb"
POISON = b"\x49\x83\xcb\xff"
JMP_RCX = b"\xff\xe1"


class TooFar(Exception):
    """A displacement does not fit: the file is larger than 2 GiB in memory."""


def tail_size(flavour: Flavour, kind: Kind) -> int:
    """Bytes of a stub's tail."""
    return len(tail(flavour, kind, 0, 0, None))


def stub_size(flavour: Flavour, patch: Patch) -> int:
    """Bytes of the stub of a site."""
    return patch.copied + tail_size(flavour, patch.kind)


def stub(obj: ObjFile, patch: Patch, at: int, flavour: Flavour) -> bytes:
    """The code of a site's stub, to be placed at address `at`.

    Raises:
        TooFar: something it refers to is out of reach.
    """
    code = bytearray()
    for insn in patch.copy:
        code += _moved(obj.bytes_at(insn[0], insn[0] + insn[1]), insn, at + len(code))
    code += tail(flavour, patch.kind, at + len(code), patch.site, patch.number)
    return bytes(code)


def tail(flavour: Flavour, kind: Kind, at: int, site: int, number: int | None) -> bytes:
    """The end of a stub, to be placed at `at`."""
    if flavour is Flavour.GUEST:
        cell = CELLS + 8 * (0 if number is None else 1 + number)
        code = LEA_RCX + _distance(at + 7, site + 2)
        return code + JMP_ABSOLUTE + struct.pack("<I", cell & 0xFFFFFFFF)
    if flavour is Flavour.NATIVE_PC:
        code = SYSCALL if kind is Kind.P else b""
        back = site + 2 if kind is Kind.P else site
        return code + JMP_NEAR + _distance(at + len(code) + JUMP, back)
    code = SYSCALL + POISON
    return code + LEA_RCX + _distance(at + len(code) + 7, site + 2) + JMP_RCX


def jump(at: int, to: int) -> bytes:
    """`jmp to` in five bytes."""
    return JMP_NEAR + _distance(at + JUMP, to)


def edits(patch: Patch, stub_at: int) -> list[tuple[int, bytes]]:
    """What changes in the text for one site: (address, bytes)."""
    if patch.kind is not Kind.P:
        code = jump(patch.start, stub_at)
        return [(patch.start, code.ljust(patch.overwritten, bytes([INT3])))]
    places = [patch.site, *(hop.at for hop in patch.hops)]
    changed = []
    for at, to in pairwise(places):
        changed.append((at, JMP_SHORT + struct.pack("<b", to - at - 2)))
    changed.append((places[-1], jump(places[-1], stub_at)))
    return changed


def _moved(code: bytes, insn: decode.Insn, at: int) -> bytes:
    """An instruction's bytes, for address `at`."""
    if decode.rip_target(insn) is None:
        return code
    where = decode.displacement_at(code, insn)
    old: int = struct.unpack_from("<i", code, where)[0]
    return code[:where] + _pack(old + insn[0] - at) + code[where + 4 :]


def _distance(after: int, to: int) -> bytes:
    return _pack(to - after)


def _pack(value: int) -> bytes:
    try:
        return struct.pack("<i", value)
    except struct.error:
        raise TooFar from None
