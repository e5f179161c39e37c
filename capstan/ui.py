# SPDX-License-Identifier: BSD-2-Clause
"""Talk for people: lines on stderr, and a progress bar when stderr is a terminal.

How much is said is one value for the process, set by -q, -v and --debug: `error` is always
printed, `say` and `tell` unless quiet, `detail` when verbose.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum

Advance = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


class Level(IntEnum):
    """How much is said."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2
    DEBUG = 3


class _State:
    level = Level.NORMAL
    color: bool | None = None


def level() -> Level:
    """How much is said now."""
    return _State.level


def set_level(wanted: Level) -> None:
    """Say that much from now on."""
    _State.level = wanted


def set_color(wanted: bool | None) -> None:
    """Colour the progress bar, or not; None: as the terminal and NO_COLOR say."""
    _State.color = wanted


def error(text: str) -> None:
    """Print a line that must be read on stderr; where that cannot be written nobody reads it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line for the user on stderr, unless they want quiet."""
    if _State.level >= Level.NORMAL:
        error(text)


def tell(text: str) -> None:
    """The same with our name in front, where the program's own lines stand too."""
    say(f"capstan: {text}")


def detail(text: str) -> None:
    """Print a line on stderr for users who want to know how."""
    if _State.level >= Level.VERBOSE:
        error(f"capstan: {text}")


def size(count: int) -> str:
    """A number of bytes as people write it: "3.4 MB"."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


class Counter:
    """Adds up bytes for a progress bar."""

    def __init__(self, total: int, progress: Advance | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def advance(self, count: int) -> None:
        """`count` more bytes are there (fewer, when some have to come again)."""
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


@contextlib.contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Advance | None]:
    """A function that moves a progress bar; None when nobody watches.

    rich is loaded at the first call, so a build that ends at once does not pay for it.
    """
    if quiet or _State.level is Level.QUIET or not sys.stderr.isatty():
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
            console=Console(stderr=True, no_color=True if _State.color is False else None),
            transient=True,
        )
        self._task = self._bar.add_task(label, total=None)
        self._bar.start()

    def move(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def stop(self) -> None:
        self._bar.stop()
