# SPDX-License-Identifier: BSD-2-Clause
"""Every setting of the tool: one table, and the only reader of `CAPSTAN_*` variables.

Precedence: what the command line gave, then the environment, then the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: how a setting is called in each place it can be given."""

    key: str
    env: str
    flag: str | None
    help: str


TABLE: tuple[Setting, ...] = (
    Setting("root", "CAPSTAN_ROOT", None, "directory of the local store"),
    Setting("kernel", "CAPSTAN_KERNEL", None, "guest kernel to put into images"),
)

_ROWS = {row.key: row for row in TABLE}


def get(key: str, given: str | None = None, environ: Mapping[str, str] | None = None) -> str | None:
    """The value of the setting `key`, None when nobody set it; an empty value counts as unset."""
    row = _ROWS[key]
    if given:
        return given
    return (os.environ if environ is None else environ).get(row.env) or None
