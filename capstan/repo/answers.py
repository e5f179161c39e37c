# SPDX-License-Identifier: BSD-2-Clause
"""What an answer means: success, another try, or which failure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from capstan.errors import RepoError
from capstan.repo import doc
from capstan.repo.limits import Patience


class Transient(RepoError):
    """A failure that may be gone at the next try."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retry_after: float | None = None,
        is_first: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        self.is_first = is_first  # nothing was ever heard of this registry


class Stopped(RepoError):
    """The user interrupted all."""


class NotFound(RepoError):
    """The registry has no such thing."""


class Denied(RepoError):
    """The registry wants other credentials."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Open(Protocol):
    """An answer being read."""

    status: int
    headers: dict[str, str]

    def peek(self) -> bytes:
        """The beginning of the body."""


class Backoff:
    """Growing, random pauses between tries."""

    def __init__(
        self, patience: Patience, sleep: Callable[[float], object], rng: Callable[[], float]
    ) -> None:
        self._patience, self._sleep, self._rng = patience, sleep, rng
        self._tries = 1
        self._all = 1

    def wait(self, err: Transient) -> None:
        """Wait before the next try.

        Raises:
            Transient: `err`, when there were tries enough.
        """
        patience = self._patience
        most = min(patience.tries, 3) if err.is_first else patience.tries
        if self._tries >= most or self._all >= patience.tries_max:
            raise err
        pause = min(patience.pause * 2 ** (self._tries - 1), patience.pause_max)
        pause *= 0.5 + self._rng()
        if err.retry_after is not None:
            if err.retry_after > patience.retry_after_max:
                raise err
            pause = max(err.retry_after, pause if err.retry_after else 0.0)
        self._tries += 1
        self._all += 1
        self._sleep(pause)

    def progress(self) -> None:
        """The last try brought something: the next failure is the first again."""
        self._tries = 1


def failure(host: str, what: str, live: Open) -> RepoError:
    """The error for an answer nobody wanted."""
    status = live.status
    said = _said(live.peek())
    text = f"{host}: {what}: {_WORDS.get(status, f'status {status}')}{said}"
    if status in (401, 403):
        return Denied(text, hint=f"`capstan login {host}`, or check that the account may do this")
    if status == 404:
        return NotFound(text, hint="check the name, and that you may read it")
    if status in (408, 425, 429) or status >= 500:
        after = _retry_after(live.headers.get("retry-after"))
        hint = "try again later"
        if after is not None and after > 0:
            hint = f"try again in {after:.0f} s"
        return Transient(text, hint=hint, retry_after=after)
    return RepoError(text, hint="the registry refuses this: its log or administrator knows why")


_WORDS = {
    401: "login needed",
    403: "not allowed",
    404: "not there",
    405: "the registry does not do this",
    413: "too large for the registry",
    429: "too many requests",
    500: "the registry failed (500)",
    502: "the registry's proxy failed (502)",
    503: "the registry is not available (503)",
    504: "the registry's proxy had no answer (504)",
}


def _said(body: bytes) -> str:
    """What the registry says itself (distribution spec, "error codes")."""
    try:
        first = doc.parse(body, "").children("errors", 100)[0]
        text = first.text("message", "") or first.text("code", "")
    except (RepoError, IndexError):
        return ""
    return f": {clean(text)}" if text else ""


def _retry_after(text: str | None) -> float | None:
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text.strip()[:9])
    import email.utils

    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return max(moment.timestamp() - time.time(), 0.0)


def clean(text: str) -> str:
    """`text` from a registry as it may be shown on a terminal."""
    plain = "".join(c if c.isprintable() else "?" for c in text.strip())
    return plain if len(plain) <= 200 else plain[:199] + "…"
