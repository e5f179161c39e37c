# SPDX-License-Identifier: BSD-2-Clause
"""The system calls of the guest: one row per number of the x86-64 ABI, from the guest's own table.

In a source tree `load` reads `guest/kernel/linux/syscalls*.def` (linux/syscall.h describes the
columns); the package carries the same rows as `data/syscalls.json`, written by the build hook. A
number without a row in the table is ABSENT; its name comes from `guest/tools/syscall_names.txt`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from capstan import paths
from capstan.errors import CapstanError

PACKAGED = paths.PACKAGE / "data" / "syscalls.json"
TABLE = Path("guest/kernel/linux/syscalls.def")
NAMES = Path("guest/tools/syscall_names.txt")
FORMATS = "duxpsofab-"

_ROW = re.compile(
    r"""SYSCALL\(\s*(\d+)\s*,\s*(\w+)\s*,\s*(\w+)\s*,\s*(\w+)\s*,\s*(\d+)\s*,
    \s*((?:"[^"]*"\s*)+),\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\)""",
    re.VERBOSE,
)
_INCLUDE = re.compile(r'^#include "(linux/\w+\.def)"$', re.MULTILINE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


class Level(Enum):
    """How much of a call is there; `docs/syscalls.md` explains the words."""

    FULL = "full"
    PARTIAL = "partial"
    NOOP = "noop"
    ABSENT = "absent"


MEANING = {
    Level.FULL: "does what Linux does",
    Level.PARTIAL: "works, less what the note says",
    Level.NOOP: "accepted, without effect",
    Level.ABSENT: "fails with ENOSYS",
}


@dataclass(frozen=True, slots=True)
class Syscall:
    """One row; `args` is the number of arguments, 0 for a call the table does not name."""

    number: int
    name: str
    level: Level
    args: int = 0
    note: str = ""


def load() -> tuple[Syscall, ...]:
    """All rows, by number.

    Raises:
        CapstanError: the table is missing or damaged.
    """
    top = paths.checkout()
    if top is not None and (top / TABLE).is_file():
        return from_source(top)
    try:
        rows = json.loads(PACKAGED.read_bytes())
        return tuple(Syscall(**{**row, "level": Level(row["level"])}) for row in rows)
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise CapstanError(
            f"{PACKAGED}: the table of system calls cannot be read ({err})",
            hint="install capstan again from its wheel",
        ) from err


def from_source(top: Path) -> tuple[Syscall, ...]:
    """All rows of the source tree `top`.

    Raises:
        CapstanError: a row is wrong.
    """
    rows: list[Syscall] = []
    table = top / TABLE
    files = [top / "guest/kernel" / name for name in _INCLUDE.findall(table.read_text())]
    for path in (table, *files):
        rows += parse(path.read_text(), path.name)
    return complete(rows, read_names((top / NAMES).read_text()))


def parse(text: str, where: str) -> list[Syscall]:
    """The SYSCALL rows in a piece of the table; `where` names it in errors.

    Raises:
        CapstanError: a row that is none, or a level or format nobody knows.
    """
    text = _COMMENT.sub("", text)
    rows = [_row(match, where) for match in _ROW.finditer(text)]
    if len(rows) != len(re.findall(r"\bSYSCALL\(", text)):
        raise CapstanError(f"{where}: a row is not SYSCALL(number, name, handler, LEVEL, ...)")
    return rows


def _row(match: re.Match[str], where: str) -> Syscall:
    number, name, _handler, level, args, formats, note = match.groups()
    formats = _string(formats)
    if level not in Level.__members__:
        raise CapstanError(f"{where}: {name}: unknown level {level}")
    if len(formats) != int(args) or not set(formats) <= set(FORMATS):
        raise CapstanError(f'{where}: {name}: formats "{formats}" for {args} arguments')
    return Syscall(int(number), name, Level[level], int(args), _string(note))


def _string(literals: str) -> str:
    """The text of adjacent C string literals."""
    parts = re.findall(r'"((?:[^"\\]|\\.)*)"', literals)
    return re.sub(r"\\(.)", r"\1", "".join(parts))


def read_names(text: str) -> dict[int, str]:
    """Number to name, from `number name` lines."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {int(number): name for number, name in lines}


def complete(rows: Iterable[Syscall], names: dict[int, str]) -> tuple[Syscall, ...]:
    """The rows and an ABSENT one for each other name, by number.

    Raises:
        CapstanError: a number twice, or a name that is not the ABI's.
    """
    known: dict[int, Syscall] = {}
    for row in rows:
        if row.number in known:
            raise CapstanError(f"system call {row.number} is in the table twice")
        if names.get(row.number) != row.name:
            raise CapstanError(
                f"system call {row.number} is {names.get(row.number)}, not {row.name}"
            )
        known[row.number] = row
    absent = (Syscall(n, name, Level.ABSENT) for n, name in names.items() if n not in known)
    return tuple(sorted((*known.values(), *absent), key=lambda row: row.number))


def as_json(rows: Sequence[Syscall]) -> str:
    """The rows as JSON, one a line."""
    lines = (json.dumps({**asdict(row), "level": row.level.value}) for row in rows)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def as_markdown(rows: Sequence[Syscall]) -> str:
    """The rows as a Markdown table."""
    lines = ["| number | name | level | note |", "|---:|---|---|---|"]
    for row in rows:
        note = row.note.replace("|", "\\|")
        lines.append(f"| {row.number} | `{row.name}` | {row.level.value} | {note} |")
    return "\n".join(lines) + "\n"


def summary(rows: Iterable[Syscall]) -> str:
    """How many there are of each level: "1 full, 2 partial"."""
    count = Counter(row.level for row in rows)
    return ", ".join(f"{count[level]} {level.value}" for level in Level if count[level])
