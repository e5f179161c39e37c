# SPDX-License-Identifier: BSD-2-Clause
"""Whether and when an instance that ended is started again: `no`, `on-failure[:N]`, `always`.

As with Docker: the pause between two starts begins at 0.1 s and doubles up to a minute; a run of at
least 10 s sets it and the count of failures back. What the user stopped is not started again, and
neither is what never came up. `unless-stopped` is another word for `always`: there is no daemon
that could start what was running before the host was restarted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from capstan.errors import UsageError

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 60.0
LONG_RUN = 10.0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """`kind` is no, on-failure or always; `most` 0 means any number of failures in a row."""

    kind: str = "no"
    most: int = 0

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.kind}:{self.most}" if self.most else self.kind


def parse(text: str) -> RestartPolicy:
    """The policy `text` names.

    Raises:
        UsageError: there is no such policy.
    """
    found = re.fullmatch(r"(no|always|unless-stopped|on-failure)(?::(\d{1,6}))?", text)
    if not found or (found[2] is not None and found[1] != "on-failure"):
        raise UsageError(
            f"--restart {text!r}: there is no such policy", hint="no, on-failure[:N] or always"
        )
    kind = "always" if found[1] == "unless-stopped" else found[1]
    return RestartPolicy(kind, int(found[2] or 0))


class Backoff:
    """Counts the failures in a row of one instance."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._pause = FIRST_PAUSE

    def after(self, status: int, seconds: float) -> float | None:
        """The pause before the next start, None for no more; `status` after a run of `seconds`."""
        if seconds >= LONG_RUN:
            self._failures, self._pause = 0, FIRST_PAUSE
        if self._policy.kind == "no" or (self._policy.kind == "on-failure" and status == 0):
            return None
        self._failures += 1
        if self._policy.most and self._failures > self._policy.most:
            return None
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause
