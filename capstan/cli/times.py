# SPDX-License-Identifier: BSD-2-Clause
"""Times as people write and read them."""

from __future__ import annotations

import re
import time

from capstan.errors import UsageError
from capstan.run import logs

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "ms": 0.001}
STEPS = ((60, "second"), (60, "minute"), (48, "hour"), (14, "day"), (8, "week"), (24, "month"))
LENGTHS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000}


def parse(option: str, text: str | None) -> float | None:
    """Seconds since 1970 of a time (2026-11-21T14:00:00, 1795269600) or a time ago (90s, 1h30m).

    Raises:
        UsageError: it is none of them.
    """
    if text is None:
        return None
    if re.fullmatch(r"\d{9,}(\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+", text):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", text)
        return time.time() - sum(float(number) * UNITS[unit] for number, unit in parts)
    try:
        return logs.parse_stamp(text)
    except ValueError as err:
        raise UsageError(
            f"{option} {text!r} is no time",
            hint="10m, 1h30m, 2026-11-21T14:00:00, or seconds since 1970",
        ) from err


def length(seconds: float) -> str:
    """About how long: "3 minutes"."""
    value = max(0, int(seconds))
    for most, unit in STEPS:
        count = value // LENGTHS[unit]
        if count < most:
            break
    else:
        count, unit = value // 31536000, "year"
    if unit == "second" and count < 1:
        return "less than a second"
    return f"{count} {unit}{'' if count == 1 else 's'}"


def moment(seconds: float) -> str | None:
    """A time in RFC 3339, None for never."""
    return logs.stamp(seconds) if seconds else None
