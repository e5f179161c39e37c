# SPDX-License-Identifier: BSD-2-Clause
"""`capstan`, killed with SIGKILL at a named point: killat.py [--supervisor] POINT ARGUMENT...

The points are the calls of `capstan.run.records.step`. With --supervisor it is the supervisor that
is killed at the point, and capstan goes on.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[2]))

from capstan.run import records


def kill_at(point: str) -> None:
    """Let this process die at `point`."""

    def step(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    records.step = step


if __name__ == "__main__":
    from capstan.cli.main import main  # not in a supervisor: it has no site-packages
    from capstan.run import instance

    words = sys.argv[1:]
    if words[0] == "--supervisor":
        folder = os.fspath(Path(__file__).resolve().parent)
        instance.MAIN = instance.MAIN.replace(
            "import main;",
            f"import main; sys.path.insert(0, {folder!r}); "
            f"import killat; killat.kill_at({words[1]!r});",
        )
        words = words[2:]
    else:
        kill_at(words[0])
        words = words[1:]
    main(words)
