# SPDX-License-Identifier: BSD-2-Clause
"""Names for addresses: the kernel's backtraces and a program's crash report.

The image holds the stripped kernel; its symbols are in `kernel.debug`, which `make -C guest` leaves
beside it. They are used only when both files have the same code. `addr2line` (binutils) does the
work.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from capstan import paths, proc
from capstan.errors import CapstanError

KERNEL_START = 0xFFFFFFFF80000000
DEADLINE = 10.0
PT_LOAD = 1
PF_X = 1

_BACKTRACE = re.compile(r"backtrace:((?: [0-9a-f]{16})+)")
_FAULT = re.compile(r"\) at ([0-9a-f]{16}), address ")
_SOURCE = re.compile(r"/\S*/guest/(?=kernel/|boot\.S)")
_NOISE = re.compile(r" at \?\?:[?0]| \(discriminator \d+\)")
_FRAME = re.compile(r"(/[^\s:]+)\+0x([0-9a-f]+)")


def find_debug(kernel: Path) -> Path | None:
    """The file with the symbols of `kernel`, None when there is none with the same code."""
    candidates = [kernel.with_suffix(".debug")]
    with contextlib.suppress(CapstanError):
        candidates.append(paths.guest_kernel().with_suffix(".debug"))
    top = paths.checkout()
    if top is not None:
        candidates += [top / "guest" / name / "kernel.debug" for name in ("build", "build-debug")]
    wanted = code_digest(kernel)
    for path in candidates:
        if wanted is not None and path.is_file() and code_digest(path) == wanted:
            return path
    return None


def code_digest(elf: Path) -> bytes | None:
    """A digest of an ELF file's executable segments and their addresses, None if it has none."""
    digest, count = hashlib.sha256(), 0
    try:
        data = elf.read_bytes()
        for kind, flags, offset, vaddr, filesz in _segments(data):
            if kind == PT_LOAD and flags & PF_X:
                digest.update(struct.pack("<QQ", vaddr, filesz))
                digest.update(data[offset : offset + filesz])
                count += 1
    except (OSError, struct.error):
        return None
    return digest.digest() if count else None


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(type, flags, offset, vaddr, filesz) of each program header of a 64-bit ELF file."""
    if data[:5] != b"\x7fELF\x02":
        return
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        row = struct.unpack_from("<IIQQQQ", data, start + number * size)
        yield row[0], row[1], row[2], row[3], row[5]


def explain(lines: Sequence[str], kernel: Path) -> list[str]:
    """The lines of a serial log, each backtrace followed by a line for every frame.

    Without symbols a line at the end says where they would come from.
    """
    if not any(_BACKTRACE.search(line) for line in lines):
        return list(lines)
    debug = find_debug(kernel)
    if debug is None:
        hint = "names for these addresses: make -C guest, for this very kernel, leaves kernel.debug"
        return [*lines, f"({hint})"]
    try:
        return annotate(lines, debug)
    except CapstanError as err:
        return [*lines, f"(no names for these addresses: {err.message})"]


def annotate(lines: Sequence[str], debug: Path) -> list[str]:
    """The lines, each backtrace followed by a line for every frame.

    Raises:
        CapstanError: addr2line cannot be started or fails.
    """
    result: list[str] = []
    fault: int | None = None
    for line in lines:
        result.append(line)
        if found := _FAULT.search(line):
            fault = int(found[1], 16)
        if found := _BACKTRACE.search(line):
            addresses = [int(word, 16) for word in found[1].split()]
            result += _frames(addresses, fault, debug)
    return result


def _frames(addresses: list[int], fault: int | None, debug: Path) -> list[str]:
    # panic() prints its caller twice.
    addresses = [a for a, before in zip(addresses, [0, *addresses], strict=False) if a != before]
    # A return address may be the first byte of the next function; a fault's is exact.
    exact = [address if address == fault else address - 1 for address in addresses]
    names = resolve(exact, debug)
    return [f"  {a:x} {line}" for a, name in zip(addresses, names, strict=True) for line in name]


def resolve(addresses: Sequence[int], elf: Path) -> list[list[str]]:
    """For each address "function at file:line", and such a line more for each inlining caller.

    Raises:
        CapstanError: addr2line cannot be started or fails.
    """
    line = ["addr2line", "-a", "-f", "-i", "-p", "-C", "-e", str(elf)]
    done = proc.run([*line, *(f"{address:x}" for address in addresses)], timeout=DEADLINE)
    if done.status != 0:
        raise CapstanError(f"addr2line: {done.stderr.decode(errors='replace').strip()}")
    names: list[list[str]] = []
    output = _SOURCE.sub("guest/", done.stdout.decode(errors="replace"))
    for text in _NOISE.sub("", output).splitlines():
        if text.startswith("0x"):
            names.append([text.partition(": ")[2]])
        elif names:
            names[-1].append(text.strip())
    if len(names) != len(addresses):
        raise CapstanError("addr2line: strange output")
    return names


def program_frames(line: str, root: Path) -> list[str]:
    """Names for each `/path+0xoffset` in a line of a crash report, files taken below `root`.

    But for the line with the fault itself these are return addresses.
    """
    result: list[str] = []
    back = 0 if " died of " in line else 1
    for path, offset in _FRAME.findall(line):
        file = root / path.lstrip("/")
        vaddr = _to_vaddr(file, int(offset, 16) - back)
        if vaddr is None:
            continue
        with contextlib.suppress(CapstanError):
            (names,) = resolve([vaddr], file)
            result += [name for name in names if not name.startswith("??")] or _nearest(file, vaddr)
    return result


def _to_vaddr(elf: Path, offset: int) -> int | None:
    """The address the byte at `offset` of a file is linked at."""
    try:
        data = elf.read_bytes()
        for kind, _, start, vaddr, filesz in _segments(data):
            if kind == PT_LOAD and start <= offset < start + filesz:
                return vaddr + offset - start
    except (OSError, struct.error):
        return None
    return None


def _nearest(elf: Path, vaddr: int) -> list[str]:
    """The exported function around `vaddr`, for files without other symbols."""
    done = proc.run(["nm", "-D", "-C", "--defined-only", "-S", str(elf)], timeout=DEADLINE)
    for text in done.stdout.decode(errors="replace").splitlines():
        words = text.split(maxsplit=3)
        if len(words) == 4 and words[2] in "tTwWiuVv":
            start, size = int(words[0], 16), int(words[1], 16)
            if start <= vaddr < start + size:
                return [f"{words[3]}+0x{vaddr - start:x}"]
    return []
