# SPDX-License-Identifier: BSD-2-Clause
"""The output of an instance: numbered files of JSON lines, written by one process, read by any.

An entry is {"time": "...Z", "stream": "stdout", "log": "text\\n"}, as in Docker's json-file. Output
is written as it comes, so an entry without a newline is the beginning of a line. Bytes that
are not UTF-8 are kept as lone surrogates (Python's `surrogateescape`): nothing is lost.

Rotation never renames: when `log.000001.json` is full, `log.000002.json` is begun and the
oldest file goes. A reader that finds a newer file knows that the one it has will not grow.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capstan.run.keeper import TALK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PREFIX, SUFFIX = "log.", ".json"
READ_SIZE = 1 << 18
MEND_SIZE = 1 << 20  # more than the longest entry


@dataclass(frozen=True, slots=True)
class Entry:
    """One piece of output; `time` in seconds since 1970, `text` with its newline if it has one."""

    time: float
    stamp: str
    stream: str
    text: bytes


def files(folder: Path, prefix: str = PREFIX) -> list[Path]:
    """The files of the log, oldest first."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 (called often)
    except FileNotFoundError:
        return []
    found = [n for n in names if n.startswith(prefix) and n.endswith(SUFFIX)]
    return [folder / name for name in sorted(found) if number(folder / name)]


def number(path: Path) -> int:
    """Where in the sequence a file is."""
    middle = path.name.removesuffix(SUFFIX).rpartition(".")[2]
    return int(middle) if middle.isdecimal() else 0


def stamp(seconds: float) -> str:
    """A time as entries have it: RFC 3339, UTC, microseconds."""
    whole, micro = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{micro:06d}Z"


class Writer:
    """Appends to the log in `folder`. Never raises for a full disk: what was lost is told later."""

    def __init__(self, folder: Path, size: int, count: int) -> None:
        self._folder = folder
        self._limit = size
        self._count = count
        self.lost = 0
        self.trouble = ""
        present = files(folder)
        self._number = number(present[-1]) if present else 1
        self._fd = self._open()
        self._size = self._mend()

    def write(self, stream: str, data: bytes) -> None:
        """Append output, an entry for each line."""
        if self.lost:
            self._tell_loss()
        at = stamp(time.time())
        head = f'{{"time": "{at}", "stream": "{stream}", "log": '
        pieces = data.decode("utf-8", "surrogateescape").split("\n")
        texts = [piece + "\n" for piece in pieces[:-1]]
        texts += [pieces[-1]] if pieces[-1] else []
        batch = bytearray()
        for text in texts:
            entry = f"{head}{json.dumps(text)}}}\n".encode()
            if batch and self._size + len(batch) + len(entry) > self._limit:
                self._append(bytes(batch))
                batch.clear()
            if self._size and self._size + len(batch) + len(entry) > self._limit:
                self._rotate()
            batch += entry
        self._append(bytes(batch))

    def _tell_loss(self) -> None:
        lost, self.lost = self.lost, 0
        text = f"capstan: output lost ({lost} bytes as stored): {self.trouble}\n"
        entry = {"time": stamp(time.time()), "stream": TALK, "log": text}
        self._append(json.dumps(entry).encode() + b"\n")
        self.lost = lost if self.lost else 0

    def end_lines(self) -> None:
        """End lines that were left open, when their writer was killed in the middle."""
        last: dict[str, bool] = {}
        tail = os.pread(self._fd, MEND_SIZE, max(0, self._size - MEND_SIZE))
        for entry in filter(None, map(parse, tail.split(b"\n"))):
            last[entry.stream] = entry.text.endswith(b"\n")
        for stream, is_ended in last.items():
            if not is_ended:
                self.write(stream, b"\n")

    def close(self) -> None:
        """Put it on disk."""
        with contextlib.suppress(OSError):
            os.fsync(self._fd)
        os.close(self._fd)

    def _path(self) -> Path:
        return self._folder / f"{PREFIX}{self._number:06d}{SUFFIX}"

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._path(), flags, 0o600)

    def _mend(self) -> int:
        """Cut off an entry that was being written when its writer was killed; the size."""
        size = os.fstat(self._fd).st_size
        at = max(0, size - MEND_SIZE)
        tail = os.pread(self._fd, MEND_SIZE, at)
        if tail and not tail.endswith(b"\n"):
            size = at + tail.rfind(b"\n") + 1
            os.ftruncate(self._fd, size)
        return size

    def _append(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError as err:
            self.lost += len(data)
            self.trouble = err.strerror or str(err)
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            return
        self._size += done

    def _rotate(self) -> None:
        self._number += 1
        try:
            fresh = self._open()
        except OSError as err:
            self._number -= 1
            self.trouble = err.strerror or str(err)
            return
        os.close(self._fd)
        self._fd, self._size = fresh, 0
        for old in files(self._folder)[: -self._count]:
            old.unlink(missing_ok=True)


class Reader:
    """Reads the log in `folder` from its oldest entry on; call `read` again for what is new."""

    def __init__(self, folder: Path, prefix: str = PREFIX) -> None:
        self._folder = folder
        self._prefix = prefix
        self._fd = -1
        self._number = 0
        self._rest = b""
        self.missed = False

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def skip_to_end(self) -> None:
        """Leave out what is there now."""
        for _ in self.read():
            pass

    def read(self) -> Iterator[bytes]:
        """The complete lines that were not read yet."""
        while True:
            following = self._next()
            yield from self._rest_of_file()
            if following is None:
                return
            self._enter(following)

    def _next(self) -> Path | None:
        later = [path for path in files(self._folder, self._prefix) if number(path) > self._number]
        return later[0] if later else None

    def _enter(self, path: Path) -> None:
        try:
            fresh = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.missed = True  # removed meanwhile: there are newer ones
        else:
            self.close()
            self._fd = fresh
            self._rest = b""
        self.missed = self.missed or bool(self._number and number(path) != self._number + 1)
        self._number = number(path)

    def _rest_of_file(self) -> Iterator[bytes]:
        while self._fd >= 0 and (data := os.read(self._fd, READ_SIZE)):
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from lines


def parse(line: bytes) -> Entry | None:
    """The entry in a line of the log, None when it is damaged."""
    try:
        raw = json.loads(line)
        text = str(raw["log"]).encode("utf-8", "surrogateescape")
        return Entry(parse_stamp(str(raw["time"])), str(raw["time"]), str(raw["stream"]), text)
    except (ValueError, KeyError, TypeError):
        return None


def parse_stamp(text: str) -> float:
    """Seconds since 1970 of a time in RFC 3339; without a zone it is local time.

    Raises:
        ValueError: it is none.
    """
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def last_lines(entries: Sequence[Entry], count: int) -> Sequence[Entry]:
    """The entries of the last `count` lines; a line may be several entries."""
    starts = []
    is_open: dict[str, bool] = {}
    for index, entry in enumerate(entries):
        if not is_open.get(entry.stream):
            starts.append(index)
        is_open[entry.stream] = not entry.text.endswith(b"\n")
    if count <= 0:
        return ()
    return entries if count >= len(starts) else entries[starts[-count] :]
