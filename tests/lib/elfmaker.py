# SPDX-License-Identifier: BSD-2-Clause
"""Makes tiny ELF files with just what a loader looks at, so that tests need no compiler."""

from __future__ import annotations

import struct
from collections.abc import Sequence

ET_EXEC, ET_DYN = 2, 3
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")


def make_elf(
    *,
    etype: int = ET_DYN,
    machine: int = 62,
    interp: str | None = None,
    needed: Sequence[str] = (),
    soname: str | None = None,
    rpath: str | None = None,
    runpath: str | None = None,
    extra: bytes = b"",
) -> bytes:
    """An x86-64 ELF file with one loadable segment; `extra` goes into the string table."""
    base = 0x400000 if etype == ET_EXEC else 0
    strings = bytearray(b"\0" + extra)

    def text(value: str) -> int:
        at = len(strings)
        strings.extend(value.encode() + b"\0")
        return at

    tags = [(1, text(name)) for name in needed]
    for tag, value in ((14, soname), (15, rpath), (29, runpath)):
        if value is not None:
            tags.append((tag, text(value)))
    phnum = 1 + (interp is not None) + bool(tags)
    at = 64 + 56 * phnum
    path = interp.encode() + b"\0" if interp is not None else b""
    strings_at = at + len(path)
    dynamic_at = (strings_at + len(strings) + 15) & ~15
    tags += [(5, base + strings_at), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    size = dynamic_at + len(dynamic)
    headers = [_PROGRAM.pack(1, 5, 0, base, base, size, size, 0x1000)]
    if interp is not None:
        headers.append(_PROGRAM.pack(3, 4, at, base + at, 0, len(path), len(path), 1))
    if phnum - (interp is not None) == 2:
        length = len(dynamic)
        headers.append(_PROGRAM.pack(2, 6, dynamic_at, base + dynamic_at, 0, length, length, 8))
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = _HEADER.pack(ident, etype, machine, 1, base + 64, 64, 0, 0, 64, 56, phnum, 0, 0, 0)
    body = header + b"".join(headers) + path + strings
    return body.ljust(dynamic_at, b"\0") + dynamic
