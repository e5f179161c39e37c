# SPDX-License-Identifier: BSD-2-Clause
"""The version of a store's layout, in the file `version` at its top.

Readers take every version up to ours; whoever writes first brings the store up to date, under its
lock. Each step may be stopped anywhere and done again: the file is written last.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from capstan import fs
from capstan.errors import ImageError

VERSION = 1
FILE = "version"


def read(root: Path) -> int:
    """The version of the store in `root`; 0 when it has no version file.

    Raises:
        ImageError: it is newer than we know, or the file is damaged.
    """
    path = root / FILE
    try:
        text = path.read_bytes()[:32].strip()
    except FileNotFoundError:
        return 0
    if not text.isdigit():
        raise ImageError(
            f"{path}: damaged: not a number", hint=f"write {VERSION} into it if the store is yours"
        )
    if int(text) > VERSION:
        raise ImageError(
            f"the store {root} has version {int(text)}, this capstan knows up to {VERSION}",
            hint="use the newer capstan that made it, or another store (CAPSTAN_ROOT)",
        )
    return int(text)


def upgrade(root: Path) -> None:
    """Bring the store in `root` up to date, or begin a new one. The lock is held."""
    version = read(root)
    for step in range(version, VERSION):
        STEPS[step](root)
    if version < VERSION or not (root / FILE).exists():
        fs.atomic_write(root / FILE, b"%d\n" % VERSION)


def _from_0(root: Path) -> None:
    """Version 0 marked objects without a name by age only; its temporaries had no lock."""
    fs.sweep_temps(root / "objects")


STEPS: tuple[Callable[[Path], None], ...] = (_from_0,)
"""STEPS[n] makes version n + 1 of version n."""
