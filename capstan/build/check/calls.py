# SPDX-License-Identifier: BSD-2-Clause
"""System calls and instructions that the image's files may come to and the guest does not serve.

What counts as a call of a file: those in its own text, those it makes through `syscall`, and those
that the functions of the C library come to which it imports. The C library's own text does not
count (nearly every call is in it), nor what it does by itself at start (the guest is tested with
it). A static program has its C library in its text: all of that counts.

A missing call is an error when the program makes it on every run (`certain.py`), else a warning:
it can make it, and whether it can do without is not to be seen from outside. What is served in
part is a note.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from capstan.build.check.binaries import Binaries
from capstan.build.check.facts import Facts
from capstan.build.check.loading import Programs, Scope
from capstan.build.check.report import Finding, Kind, Severity
from capstan.build.closure import Object
from capstan.syscalls import Level, Syscall

GUEST_KERNEL = (6, 1, 0)
"""What `uname` says in the guest (UTS_RELEASE)."""
MAX_USES = 3
COPED_WITH = {
    "rseq": "every C library does without it",
    "_sysctl": "Linux has it no more either",
    "uselib": "Linux has it no more either",
}
PROCESSES = {
    **dict.fromkeys(("fork", "_Fork", "forkpty", "daemon"), 57),
    **dict.fromkeys(("posix_spawn", "posix_spawnp", "system", "popen"), 58),
}
"""Functions that make processes, and the row that says whether there can be any (glibc's `fork`
makes them with `clone`, which threads need as well)."""
SHOW = "`capstan run --strace` shows whether it is made, and what the program does about it"
LEGACY = frozenset({"int 0x80", "sysenter"})


@dataclass(slots=True)
class _Uses:
    """Where a file makes one call."""

    functions: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    is_certain: bool = False

    def text(self) -> str:
        """In which functions, and by which of the C library."""
        parts = []
        if self.imports:
            parts.append(f"by {_some(self.imports)}")
        if self.functions:
            parts.append(f"in {_some(self.functions)}")
        return ", ".join(parts)


def findings(programs: Programs, binaries: Binaries, rows: Iterable[Syscall]) -> Iterator[Finding]:
    """What the files of an image may come to."""
    table = {row.number: row for row in rows}
    mains = {scope.objects[0].real for scope in (programs.main,) if scope.objects}
    for scope, obj in programs.objects():
        facts = binaries.facts(obj)
        if facts is None:
            continue
        is_main = obj.real in mains
        is_loaded = scope is programs.main
        yield from _of_elf(obj, facts, Severity.ERROR if is_loaded else Severity.WARNING)
        if not binaries.is_c_library(obj):
            worst = Severity.ERROR if is_main else Severity.WARNING
            uses = _uses(obj, facts, [scope, programs.main], binaries, table, is_main=is_main)
            yield from _of_calls(obj, uses, table, worst)
            yield from _unknown(obj, facts)
            yield from _of_opcodes(obj, facts, worst)


def _uses(
    obj: Object,
    facts: Facts,
    scopes: list[Scope],
    binaries: Binaries,
    table: Mapping[int, Syscall],
    *,
    is_main: bool,
) -> dict[int, _Uses]:
    """The numbers of the calls a file can make, and how."""
    found: defaultdict[int, _Uses] = defaultdict(_Uses)
    for call in facts.calls:
        if call.number is not None:
            uses = found[call.number]
            uses.functions.append(call.function.split("+")[0] or f"{call.at:#x}")
            uses.is_certain |= call.is_certain
    providers = [o for s in scopes for o in s.objects if binaries.is_c_library(o)]
    providers = list(dict.fromkeys(providers))
    exports = [(p, known.exports) for p in providers if (known := binaries.facts(p)) is not None]
    for name in sorted(binaries.dynamic(obj).imports):
        for provider, functions in exports:
            for number in functions.get(name, ()):
                uses = found[number]
                uses.imports.append(name)
                row = table.get(number)
                if is_main and name in facts.imports and row and row.level is Level.ABSENT:
                    uses.is_certain |= number in binaries.certain_calls(provider, name)
            if name in functions:
                break
        if name in PROCESSES and providers:
            uses = found[PROCESSES[name]]
            uses.imports.append(name)
            uses.is_certain |= is_main and name in facts.imports
    return found


def _of_calls(
    obj: Object, found: Mapping[int, _Uses], table: Mapping[int, Syscall], worst: Severity
) -> Iterator[Finding]:
    for number, uses in found.items():
        row = table.get(number)
        where = uses.text()
        if row is None:
            detail = f"x86-64 Linux has no such system call; called {where}"
            yield Finding(
                Severity.WARNING, Kind.CALL, obj.path, f"system call {number}", detail, SHOW
            )
        elif row.level is Level.ABSENT and row.name in COPED_WITH:
            detail = f"absent, but {COPED_WITH[row.name]}; called {where}"
            yield Finding(Severity.NOTE, Kind.CALL, obj.path, row.name, detail)
        elif row.level is Level.ABSENT:
            note = f" ({row.note})" if row.note else ""
            when = "on every run " if uses.is_certain else ""
            detail = f"absent{note}, fails with ENOSYS; called {when}{where}"
            severity = worst if uses.is_certain else Severity.WARNING
            yield Finding(severity, Kind.CALL, obj.path, row.name, detail, SHOW)
        elif row.level is not Level.FULL:
            detail = f"{row.level.value}: {row.note}; called {where}"
            yield Finding(Severity.NOTE, Kind.CALL, obj.path, row.name, detail)


def _unknown(obj: Object, facts: Facts) -> Iterator[Finding]:
    """Calls whose number is not in the text."""
    places = [c.function.split("+")[0] or f"{c.at:#x}" for c in facts.calls if c.number is None]
    if places:
        detail = f"{len(places)} whose number the text does not fix, in {_some(places)}"
        yield Finding(Severity.NOTE, Kind.CALL, obj.path, "unknown", detail, SHOW)
    if facts.undecided:
        detail = f"{facts.undecided} places may be system calls: no function is known there"
        yield Finding(Severity.NOTE, Kind.CALL, obj.path, "undecided", detail)


def _of_opcodes(obj: Object, facts: Facts, worst: Severity) -> Iterator[Finding]:
    """Instructions, one finding for each kind."""
    groups: defaultdict[str, _Uses] = defaultdict(_Uses)
    for odd in facts.opcodes:
        groups[odd.opcode].functions.append(odd.function.split("+")[0] or f"{odd.at:#x}")
        groups[odd.opcode].is_certain |= odd.is_certain
    for opcode, uses in groups.items():
        what = "privileged: SIGSEGV on Linux, not in the guest"
        if opcode in LEGACY:
            what = "a 32-bit system call, which the guest does not serve"
        when = "on every run " if uses.is_certain else ""
        severity = worst if uses.is_certain else Severity.WARNING
        yield Finding(
            severity,
            Kind.OPCODE,
            obj.path,
            opcode,
            f"{what}; {when}{uses.text()}",
            "build that part without assembler code for this",
        )


def _of_elf(obj: Object, facts: Facts, worst: Severity) -> Iterator[Finding]:
    """What the headers ask for."""
    if facts.kernel:
        system, *version = facts.kernel
        text = ".".join(map(str, version))
        own = ".".join(map(str, GUEST_KERNEL))
        if system != 0:
            detail = f"made for an operating system other than Linux (ABI tag {system})"
            yield Finding(worst, Kind.ELF, obj.path, "system", detail, "build it for Linux")
        elif tuple(version) > GUEST_KERNEL:
            detail = f"needs Linux {text} or later, the guest is like {own}"
            hint = "build it for an older kernel (--enable-kernel of glibc)"
            yield Finding(worst, Kind.ELF, obj.path, "kernel", detail, hint)
    if facts.level > 2:
        detail = f"needs a processor of level x86-64-v{facts.level}, which not every host gives"
        yield Finding(Severity.NOTE, Kind.ELF, obj.path, "processor", detail)
    if facts.has_exec_stack:
        detail = "asks for a stack that can be executed, and gets it"
        yield Finding(Severity.NOTE, Kind.ELF, obj.path, "stack", detail)


def _some(names: list[str]) -> str:
    """The first few different names."""
    unique = list(dict.fromkeys(names))
    more = len(unique) - MAX_USES
    return ", ".join(unique[:MAX_USES]) + (f" and {more} more" if more > 0 else "")
