# SPDX-License-Identifier: BSD-2-Clause
"""Sizes as people write them."""

from __future__ import annotations

import re

from capstan.errors import UsageError

SHIFTS = {"": 20, "k": 10, "m": 20, "g": 30}


def parse_size(text: str) -> int:
    """The bytes in `64M`, `1G`, `524288K`; a bare number counts MiB, as QEMU's -m does.

    Raises:
        UsageError: not a size.
    """
    found = re.fullmatch(r"([0-9]+)([KMGkmg]?)(?:i?[Bb])?", text)
    if not found:
        raise UsageError(f"{text!r} is not a size", hint="write it like 256M or 2G")
    return int(found[1]) << SHIFTS[found[2].lower()]


def format_size(count: int) -> str:
    """The shortest text `parse_size` reads as `count`, which is a multiple of 1 KiB."""
    for suffix in ("g", "m"):
        if count and count % (1 << SHIFTS[suffix]) == 0:
            return f"{count >> SHIFTS[suffix]}{suffix.upper()}"
    return f"{count >> SHIFTS['k']}K"
