#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes the generated pages: ci/lib/gendocs.py [--check]

docs/cli.md and docs/man come from the click commands, the table of docs/settings.md from that of
the settings, docs/syscalls.md and docs/paths.md from the guest's tables of system calls and refused
paths. With --check nothing is written and the status is 1 when a page is out of date or should not
be there (tests/unit/test_docs.py does the same).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP))

from capstan import syscalls  # noqa: E402
from ci.lib import clidocs  # noqa: E402

NOTICE = clidocs.NOTICE


def syscalls_page() -> str:
    """docs/syscalls.md."""
    rows = syscalls.load()
    levels = "\n".join(f"| {level.value} | {text} |" for level, text in syscalls.MEANING.items())
    return (
        f"{NOTICE}\n# System calls\n\n"
        "What the guest does with each system call of x86-64 Linux, from the table that also\n"
        "drives dispatch and `--strace` (`guest/kernel/linux/syscalls*.def`). `capstan syscalls`\n"
        "prints the same.\n\n"
        f"| level | meaning |\n|---|---|\n{levels}\n\n"
        f"In all: {syscalls.summary(rows)}.\n\n{syscalls.as_markdown(rows)}"
    )


def paths_page() -> str:
    """docs/paths.md."""
    table = TOP / "guest" / "kernel" / "fs" / "refused.def"
    rows = re.findall(r'^REFUSED\("([^"]+)",\s*"([^"]+)"\)', table.read_text(), re.MULTILINE)
    lines = [f"| `{path}` | {reason} |" for path, reason in rows]
    return (
        f"{NOTICE}\n# Paths that are not there\n\n"
        "Files that programs open on Linux and that do not exist in the guest (ENOENT), with the\n"
        "reason, from `guest/kernel/fs/refused.def`. `*` stands for any text.\n\n"
        "| path | why |\n|---|---|\n" + "\n".join(lines) + "\n"
    )


def settings_page() -> str:
    """docs/settings.md: our text with the table in it."""
    return clidocs.with_settings((TOP / "docs" / "settings.md").read_text())


def pages() -> dict[str, Callable[[], str]]:
    """All generated pages, and what makes them."""
    manual = {f"docs/man/{name}": partial(text) for name, text in clidocs.manual().items()}
    return {
        "docs/cli.md": clidocs.markdown,
        "docs/settings.md": settings_page,
        "docs/syscalls.md": syscalls_page,
        "docs/paths.md": paths_page,
        **manual,
    }


def partial(text: str) -> Callable[[], str]:
    """A function that gives `text`."""
    return lambda: text


def stale(made: Iterable[str]) -> list[Path]:
    """Manual pages of commands that are gone."""
    return [page for page in (TOP / "docs/man").glob("*") if f"docs/man/{page.name}" not in made]


def main() -> int:
    """Write or compare the pages; the exit status."""
    every = pages()
    old = [page for page, make in every.items() if _read(TOP / page) != make()]
    gone = stale(every)
    if "--check" in sys.argv[1:]:
        for page in (*old, *gone):
            print(f"{page} is out of date: run ci/lib/gendocs.py", file=sys.stderr)
        return 1 if old or gone else 0
    for page in old:
        (TOP / page).parent.mkdir(exist_ok=True)
        (TOP / page).write_text(every[page]())
        print(f"wrote {page}")
    for path in gone:
        path.unlink()
        print(f"removed {path}")
    return 0


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
