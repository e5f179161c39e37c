#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes the package's copy of the system-call table: guest/tools/syscalls.py [OUTPUT]

Reads guest/kernel/linux/syscalls*.def and guest/tools/syscall_names.txt; the default output is
capstan/data/syscalls.json. Needs nothing but Python: the build hook calls it.
"""

import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP))

from capstan import syscalls  # noqa: E402
from capstan.errors import CapstanError  # noqa: E402


def main() -> int:
    """Write the file; the exit status."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else syscalls.PACKAGED
    try:
        text = syscalls.as_json(syscalls.from_source(TOP))
    except CapstanError as err:
        print(f"{Path(__file__).name}: {err.message}", file=sys.stderr)
        return 1
    output.parent.mkdir(exist_ok=True)
    output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
