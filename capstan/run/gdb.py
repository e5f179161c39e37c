# SPDX-License-Identifier: BSD-2-Clause
"""`--gdb`: where QEMU's debug stub listens, and the gdb command that goes with it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from capstan import paths
from capstan.errors import UsageError
from capstan.run import symbols

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "capstan-gdb-"
HELPER = Path("guest/tools/gdb.py")


@contextlib.contextmanager
def stub(where: str, kernel: Path) -> Iterator[tuple[str, str]]:
    """QEMU's value for -gdb and the user's gdb command; `where` is `unix` or a port of localhost.

    Raises:
        UsageError: `where` is neither.
    """
    if where.isdigit() and 0 < int(where) < 65536:
        yield f"tcp:127.0.0.1:{where}", command(f"127.0.0.1:{where}", kernel)
        return
    if where != "unix":
        raise UsageError(f"--gdb {where!r} is neither `unix` nor a port")
    base = Path(tempfile.gettempdir())
    _sweep(base)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))
    path = folder / "gdb"
    try:
        quoted = os.fspath(path).replace(",", ",,")
        yield f"unix:{quoted},server=on,wait=off", command(os.fspath(path), kernel)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def command(target: str, kernel: Path) -> str:
    """The gdb command line, with the kernel's symbols and our gdb commands if they are here."""
    words = ["gdb"]
    top = paths.checkout()
    if top is not None and (top / HELPER).is_file():
        words += ["-x", os.fspath(top / HELPER)]
    debug = symbols.find_debug(kernel)
    words += ["-ex", f"target remote {target}", os.fspath(debug or kernel)]
    return shlex.join(words)


def _sweep(base: Path) -> None:
    """Remove what runs that were killed left behind."""
    for folder in base.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            dead = pid.isdigit() and not Path("/proc", pid).exists()
            if dead and folder.stat().st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
