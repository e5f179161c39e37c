# SPDX-License-Identifier: BSD-2-Clause
"""The text of a linked file as it was before linking, for analysis.

An image holds linked files (`build/link/`): the instruction in front of a `syscall` is a jump
there, and a `syscall` of class P is one itself. Both are put back from the stubs, so that the
number of a call can be followed in the text again. Headers and stubs stay.
"""

from __future__ import annotations

import struct

from capstan.build.elf import ElfError
from capstan.build.link import decode
from capstan.build.link.decode import SYSCALL
from capstan.build.link.objfile import ObjFile
from capstan.build.link.table import Kind, Place
from capstan.build.link.verify import VerifyError, read_places


def unlinked(obj: ObjFile) -> ObjFile:
    """The file with its original text; the same object if it was not linked.

    Raises:
        ElfError: what the linker wrote is damaged.
    """
    try:
        found = read_places(obj)
    except VerifyError as err:
        raise ElfError(f"linked, but {err}") from err
    if found is None:
        return obj
    data = bytearray(obj.data[:])
    for place in found[1]:
        if place.kind in {Kind.A, Kind.W}:
            start = place.site - place.copied
            _put(obj, data, start, _copied(obj, place, start)[: place.window])
        elif place.kind is Kind.P:
            _put(obj, data, place.site, SYSCALL)
    return ObjFile(bytes(data))


def _copied(obj: ObjFile, place: Place, start: int) -> bytes:
    """The instructions in front of a stub's tail, with displacements as at `start`."""
    code = bytearray()
    raw = obj.bytes_at(place.at, place.at + place.copied)
    for insn in decode.decode(raw, place.at):
        piece = raw[insn[0] - place.at :][: insn[1]]
        if decode.rip_target(insn) is not None:
            where = decode.displacement_at(piece, insn)
            moved = struct.unpack_from("<i", piece, where)[0] + place.at - start
            piece = piece[:where] + struct.pack("<i", moved) + piece[where + 4 :]
        code += piece
    return bytes(code)


def _put(obj: ObjFile, data: bytearray, vaddr: int, code: bytes) -> None:
    offset = obj.offset_of(vaddr)
    if offset is None or offset + len(code) > len(data):
        raise ElfError("linked, but its table of stubs is damaged")
    data[offset : offset + len(code)] = code
