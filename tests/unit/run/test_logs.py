# SPDX-License-Identifier: BSD-2-Clause
"""The log of an instance: nothing lost, nothing doubled, whatever happens to its writer."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from capstan.run import logs

BIG = 1 << 20


def text(folder: Path, stream: str = "stdout") -> bytes:
    reader = logs.Reader(folder)
    entries = [entry for line in reader.read() if (entry := logs.parse(line)) is not None]
    reader.close()
    return b"".join(entry.text for entry in entries if entry.stream == stream)


def test_bytes_survive(tmp_path: Path) -> None:
    data = bytes(range(256)) * 3 + "ä€\n".encode() + b"no newline"
    writer = logs.Writer(tmp_path, BIG, 3)
    for index in range(0, len(data), 7):  # cut inside of characters and lines
        writer.write("stdout", data[index : index + 7])
    writer.write("stderr", b"other\n")
    writer.close()
    assert text(tmp_path) == data
    assert text(tmp_path, "stderr") == b"other\n"


def test_rotation_keeps_the_newest_files(tmp_path: Path) -> None:
    writer = logs.Writer(tmp_path, 4096, 3)
    for number in range(1000):
        writer.write("stdout", b"line %d\n" % number)
    writer.close()
    present = logs.files(tmp_path)
    assert len(present) == 3 and all(path.stat().st_size <= 4096 for path in present)
    kept = text(tmp_path).splitlines()
    assert kept == [b"line %d" % n for n in range(1000 - len(kept), 1000)] and len(kept) > 50


def test_reader_follows_rotation(tmp_path: Path) -> None:
    rng = random.Random(4)
    writer = logs.Writer(tmp_path, 2000, 10_000)
    reader = logs.Reader(tmp_path)
    written, seen = b"", b""
    for number in range(500):
        line = b"line %d %s\n" % (number, b"x" * rng.randrange(200))
        writer.write("stdout", line)
        written += line
        if rng.random() < 0.1:
            seen += b"".join(e.text for raw in reader.read() if (e := logs.parse(raw)))
    seen += b"".join(e.text for raw in reader.read() if (e := logs.parse(raw)))
    assert seen == written and not reader.missed
    assert len(logs.files(tmp_path)) > 10


def test_reader_that_was_too_slow_says_so(tmp_path: Path) -> None:
    writer = logs.Writer(tmp_path, 500, 2)
    writer.write("stdout", b"first\n")
    reader = logs.Reader(tmp_path)
    assert len(list(reader.read())) == 1
    for _ in range(100):
        writer.write("stdout", b"x" * 100 + b"\n")
    list(reader.read())
    assert reader.missed


def test_torn_entry_is_cut_off(tmp_path: Path) -> None:
    writer = logs.Writer(tmp_path, BIG, 3)
    writer.write("stdout", b"whole\nopen")
    writer.close()
    with logs.files(tmp_path)[-1].open("ab") as file:
        file.write(b'{"time": "2026-11-21T00:00:00.0Z", "stream": "std')
    assert text(tmp_path) == b"whole\nopen"
    writer = logs.Writer(tmp_path, BIG, 3)
    writer.end_lines()
    writer.write("stdout", b"next\n")
    assert text(tmp_path) == b"whole\nopen\nnext\n"


def test_full_disk_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = logs.Writer(tmp_path, BIG, 3)
    writer.write("stdout", b"before\n")
    real, full = os.write, True

    def write(fd: int, data: bytes) -> int:
        if full:
            real(fd, data[:5])  # a part of it got through
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    writer.write("stdout", b"lost\n")
    writer.write("stdout", b"lost, too\n")
    assert writer.lost > 100 and "space" in writer.trouble
    full = False
    writer.write("stdout", b"after\n")
    assert text(tmp_path) == b"before\nafter\n"
    assert b"output lost" in text(tmp_path, "capstan") and not writer.lost


def test_last_lines_count_lines_not_entries() -> None:
    def entry(stream: str, data: bytes) -> logs.Entry:
        return logs.Entry(0.0, "", stream, data)

    entries = [
        entry("stdout", b"one\n"),
        entry("stdout", b"two, "),
        entry("stderr", b"error\n"),
        entry("stdout", b"still two\n"),
        entry("stdout", b"three"),
    ]
    assert logs.last_lines(entries, 1) == entries[4:]
    assert logs.last_lines(entries, 3) == entries[1:]
    assert logs.last_lines(entries, 99) == entries
    assert not logs.last_lines(entries, 0)


def test_stamps_are_read_back() -> None:
    assert logs.stamp(1_795_269_600.25) == "2026-11-21T14:00:00.250000Z"
    assert logs.parse_stamp("2026-11-21T14:00:00.250000Z") == 1_795_269_600.25


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"null", b'{"time": 1}', b"\xff"])
def test_damaged_lines_are_no_entries(line: bytes) -> None:
    assert logs.parse(line) is None


class _Log:
    def __init__(self) -> None:
        self.written: list[tuple[str, bytes]] = []

    def write(self, stream: str, data: bytes) -> None:
        self.written.append((stream, data))


def test_half_lines_wait_for_their_end() -> None:
    """Where a read of QEMU's socket ends is chance."""
    from capstan.run.instance_keeper import LINE_MAX, InstanceKeeper

    keeper, log = object.__new__(InstanceKeeper), _Log()
    keeper._open, keeper._log = {}, log  # type: ignore[assignment]
    keeper.output("stdout", b"one\ntw")
    keeper.output("stderr", b"error\n")
    keeper.output("stdout", b"o\nPassword: ")
    assert log.written == [("stdout", b"one\n"), ("stderr", b"error\n"), ("stdout", b"two\n")]
    keeper.pause()
    assert log.written[3:] == [("stdout", b"Password: ")]
    keeper.output("stdout", b"x" * LINE_MAX)
    assert log.written[4:] == [("stdout", b"x" * LINE_MAX)]
