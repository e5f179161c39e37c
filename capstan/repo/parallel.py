# SPDX-License-Identifier: BSD-2-Clause
"""Several transfers at a time, one progress for all, and one end for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from capstan.repo.answers import Stopped
from capstan.ui import Advance, Counter

T = TypeVar("T")
WORKERS = 6


class Meter(Counter):
    """Counts bytes from several threads and passes them on; the place where they are stopped."""

    def __init__(
        self, total: int, progress: Advance | None, abort: Callable[[], None] | None = None
    ) -> None:
        super().__init__(total, progress)
        self._abort = abort
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def advance(self, count: int) -> None:
        """`count` more bytes are there (fewer, when some have to come again).

        Raises:
            Stopped: the user interrupted all.
        """
        if self._stop.is_set():
            raise Stopped("stopped")
        with self._lock:
            super().advance(count)

    def stop(self) -> None:
        """End the other transfers."""
        self._stop.set()
        if self._abort is not None:
            self._abort()


def each(work: Callable[[T], None], items: Iterable[T], meter: Meter) -> None:
    """Do `work` with all items, some at a time.

    When one fails the others under way come to their end, so that they need not be loaded again;
    those that wait are not begun.

    Raises:
        RepoError: the first failure.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            meter.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        failed = [err for future in done if (err := future.exception()) is not None]
        if failed:
            pool.shutdown(wait=True, cancel_futures=True)
            raise failed[0]
