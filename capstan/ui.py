# SPDX-License-Identifier: BSD-2-Clause
"""Talk for people: lines on stderr, and a progress bar when stderr is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Advance = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


def say(text: str) -> None:
    """Print a line for the user on stderr."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def size(count: int) -> str:
    """A number of bytes as people write it: "3.4 MB"."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


@contextlib.contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Advance | None]:
    """A function that moves a progress bar; None when nobody watches.

    rich is loaded at the first call, so a build that ends at once does not pay for it.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    import time

    bar: _Bar | None = None
    start = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal bar
        if bar is None and time.monotonic() - start > 0.5:
            bar = _Bar(label)
        if bar is not None:
            bar.move(done, total)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


class _Bar:
    """rich's progress bar, reduced to what we need."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(label, total=None)
        self._bar.start()

    def move(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def stop(self) -> None:
        self._bar.stop()
