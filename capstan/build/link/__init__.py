# SPDX-License-Identifier: BSD-2-Clause
"""The linker: turns the `syscall` instructions of an ELF file into jumps to the guest.

    result = link_file(path, flavour=Flavour.GUEST, cache=folder)
    result.data      the linked file, or None: use the original as it is
    result.report    what was found: a LinkReport

A whole instruction in front of the `syscall` is replaced by a jump to a stub, which repeats it and
goes to the guest's entry; the `syscall` itself stays (`plan.py`). Stubs and tables are in the same
file (`place.py`, `table.py`; `guest/include/capstan_link.h` is what the guest reads). Addresses,
symbols, build-id and unwind tables stay. What is not certain stays a trap, with the reason in the
report. How it flows:

    objfile -> bounds (gopclntab, ehframe) -> sites -> plan (targets, pads, numbers)
            -> write (stubs, place, table) -> verify -> report

Pure from bytes to bytes but for the cache; no printing.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

from capstan.build.elf import Data
from capstan.build.link.report import KeptSite, LinkReport, LinkResult, Opcode, SiteNumber
from capstan.build.link.table import Flavour

if TYPE_CHECKING:
    from capstan.build.link.cache import LinkCache

__all__ = [
    "Flavour",
    "KeptSite",
    "LinkReport",
    "LinkResult",
    "Opcode",
    "SiteNumber",
    "link_file",
    "sites_with_numbers",
]


def link_file(
    source: bytes | str | Path, *, flavour: Flavour = Flavour.GUEST, cache: Path | None = None
) -> LinkResult:
    """Link an ELF file, given as its content or its path; `cache` is a directory to remember in.

    Raises:
        ElfError: not a usable x86-64 ELF file, or linked before for another purpose.
        BuildError: the linked file did not pass its check.
        OSError: the file cannot be read or the cache cannot be written.
    """
    from capstan.build.link.cache import LinkCache

    memory = LinkCache(cache) if cache is not None else None
    if isinstance(source, bytes):
        return _link(source, flavour, memory)
    with Path(source).open("rb") as file:
        stat = os.fstat(file.fileno())
        digest = memory.known_digest(stat) if memory else None
        found = memory.load(digest, flavour) if memory and digest else None
        if found is not None:
            return found
        if stat.st_size == 0:
            return _link(b"", flavour, memory)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        result = _link(data, flavour, memory)
    if memory:
        memory.learn(stat, result.report.digest)
    return result


def _link(data: Data, flavour: Flavour, memory: LinkCache | None) -> LinkResult:
    """From the cache, if the content is known there."""
    if memory is not None:
        from capstan.build.link.cache import digest_of

        found = memory.load(digest_of(data), flavour)
        if found is not None:
            return found
    from capstan.build.link.linker import link_data

    result = link_data(data, flavour)
    if memory is not None:
        memory.store(result, flavour)
    return result


def sites_with_numbers(source: bytes | str | Path) -> list[SiteNumber]:
    """Every system call in a file's text, with its number where the text fixes it, else None.

    Raises:
        ElfError: not a usable x86-64 ELF file.
        OSError: it cannot be read.
    """
    from capstan.build.link import linker

    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    return linker.sites_with_numbers(data)
