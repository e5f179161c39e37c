# SPDX-License-Identifier: BSD-2-Clause
"""The table of system calls: reading the guest's source, the packaged copy, the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from capstan import paths, syscalls
from capstan.cli.main import cli
from capstan.errors import CapstanError
from capstan.syscalls import Level, Syscall

ROWS = """
/* SYSCALL(9, not, a, ROW) */
SYSCALL(0, read, sys_read, FULL, 3, "fpu", "")
SYSCALL(1, write, sys_write, PARTIAL, 3,
        "fbu",
        "a \\"note\\", "
        "in two parts")
"""
NAMES = {0: "read", 1: "write", 2: "open"}


def test_parse() -> None:
    read, write = syscalls.parse(ROWS, "x.def")
    assert read == Syscall(0, "read", Level.FULL, 3, "")
    assert write == Syscall(1, "write", Level.PARTIAL, 3, 'a "note", in two parts')
    rows = syscalls.complete([write, read], NAMES)
    assert [row.name for row in rows] == ["read", "write", "open"]
    assert rows[2].level is Level.ABSENT
    assert syscalls.summary(rows) == "1 full, 1 partial, 1 absent"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('SYSCALL(0, read, sys_read, FULL, 3, "fp", "")', "formats"),
        ('SYSCALL(0, read, sys_read, FULL, 1, "?", "")', "formats"),
        ('SYSCALL(0, read, sys_read, GOOD, 1, "f", "")', "level"),
        ("SYSCALL(0, read, sys_read, FULL)", "a row is not"),
    ],
)
def test_a_bad_row_is_refused(row: str, message: str) -> None:
    with pytest.raises(CapstanError, match=message):
        syscalls.parse(row, "x.def")


def test_a_wrong_number_is_refused() -> None:
    row = Syscall(1, "read", Level.FULL)
    with pytest.raises(CapstanError, match="1 is write, not read"):
        syscalls.complete([row], NAMES)
    row = Syscall(0, "read", Level.FULL)
    with pytest.raises(CapstanError, match="twice"):
        syscalls.complete([row, row], NAMES)


def test_this_tree() -> None:
    rows = syscalls.load()
    assert rows[0].name == "read" and rows[-1].number == 462
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.note or row.level not in (Level.PARTIAL, Level.NOOP), f"{row.name}: no note"


def test_the_packaged_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = syscalls.load()
    copy = tmp_path / "syscalls.json"
    copy.write_text(syscalls.as_json(rows))
    monkeypatch.setattr(paths, "checkout", lambda: None)
    monkeypatch.setattr(syscalls, "PACKAGED", copy)
    assert syscalls.load() == rows
    copy.write_text("[{}]")
    with pytest.raises(CapstanError, match="cannot be read"):
        syscalls.load()


def test_command() -> None:
    run = CliRunner().invoke
    table = run(cli, ["syscalls", "read", "57"])
    assert table.exit_code == 0
    assert [line.split()[1] for line in table.stdout.splitlines()] == ["NAME", "read", "fork"]
    records = json.loads(run(cli, ["syscalls", "--format", "json"]).stdout)
    assert {"number", "name", "level", "args", "note"} == set(records[0])
    absent = run(cli, ["syscalls", "--level", "absent", "--format", "markdown"]).stdout
    assert "| `fork` | absent |" in absent and "`getpid`" not in absent
    assert isinstance(run(cli, ["syscalls", "bogus"]).exception, CapstanError)
