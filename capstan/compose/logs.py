# SPDX-License-Identifier: BSD-2-Clause
"""The output of several instances as one stream of whole lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from capstan.run import logs

if TYPE_CHECKING:
    from capstan.compose.members import Member
    from capstan.run.logs import Entry

TICK = 0.05
FLUSH = 1.0  # a line without an end, such as a prompt, is shown after this time


@dataclass(frozen=True, slots=True)
class Line:
    """A line of one instance, without its end."""

    name: str
    service: str
    time: float
    stamp: str
    text: bytes


@dataclass(slots=True)
class _Open:
    """A line whose end has not come yet."""

    entry: Entry
    text: bytes
    seen: float


@dataclass(slots=True)
class Source:
    """The log of one member."""

    member: Member
    name: str
    reader: logs.Reader
    open: dict[str, _Open] = field(default_factory=dict)

    def lines(self, *, flush: bool = False) -> Iterator[Line]:
        """The lines that are new and whole; with `flush` all."""
        for raw in self.reader.read():
            entry = logs.parse(raw)
            if entry is None:
                continue
            begun = self.open.pop(entry.stream, None)
            first, text = (begun.entry, begun.text) if begun else (entry, b"")
            *whole, rest = (text + entry.text).split(b"\n")
            yield from (self._line(first, part) for part in whole)
            if rest:
                self.open[entry.stream] = _Open(first, rest, time.monotonic())
        late = time.monotonic() - FLUSH
        for stream, begun in list(self.open.items()):
            if flush or begun.seen < late:
                del self.open[stream]
                yield self._line(begun.entry, begun.text)

    def _line(self, entry: Entry, text: bytes) -> Line:
        return Line(self.name, self.member.service, entry.time, entry.stamp, text.rstrip(b"\r"))


def sources(members: Sequence[Member]) -> list[Source]:
    """The logs of `members`, from their beginnings."""
    return [Source(m, m.instance.name, logs.Reader(m.instance.folder.path)) for m in members]


def present(found: Sequence[Source], since: float | None, tail: int | None) -> list[Line]:
    """What is there now, by time; the last `tail` lines of each."""
    chosen: list[Line] = []
    for source in found:
        lines = [x for x in source.lines() if since is None or x.time >= since]
        chosen += lines if tail is None else lines[max(0, len(lines) - tail) :]
    return sorted(chosen, key=lambda line: line.time)


def follow(
    found: Sequence[Source], put: Callable[[Line], None], ended: Callable[[Source], bool]
) -> None:
    """Give `put` what comes, until all have ended.

    `ended` is told of each that did, and may say that this is enough (True).
    """
    active = list(found)
    while active:
        for source in list(active):
            is_over = not source.member.instance.is_active
            for line in source.lines(flush=is_over):
                put(line)
            if is_over:
                active.remove(source)
                if ended(source):
                    return
        time.sleep(TICK)
