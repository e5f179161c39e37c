# SPDX-License-Identifier: BSD-2-Clause
"""`capstan check`: versions and symbols that a library should have and has not."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from capstan.build.check import Kind, Severity
from tests.link import toolchain
from tests.unit.build import test_check_kit as kit
from tests.unit.build.test_check_kit import (
    BOTH,
    ERROR,
    MAP_1,
    MAP_2,
    MUSL,
    NOTE,
    ONE,
    USER,
    WARNING,
    checked,
    compiled,
    rows,
    shared,
    using,
    versioned,
)

here = kit.here


def test_a_library_that_is_too_old(tmp_path: Path) -> None:
    path = versioned(tmp_path, ONE, MAP_1, USER)
    (finding,) = checked(path).of_severity(ERROR, WARNING)
    assert (finding.kind, finding.object, finding.subject) == (Kind.VERSION, str(path), "STUB_2.0")
    library = tmp_path / "lib" / "libstub.so.1"
    assert finding.detail.startswith(f"{library} has no version STUB_2.0, its newest is STUB_1.0")
    assert "stub_two" in finding.detail and finding.severity is ERROR


def test_a_library_of_the_right_version(tmp_path: Path) -> None:
    assert not checked(versioned(tmp_path, BOTH, MAP_2, USER)).of_severity(ERROR, WARNING)


def test_a_library_without_versions_is_taken(tmp_path: Path) -> None:
    report = checked(versioned(tmp_path, BOTH, "", USER))
    assert report.runs and {f.severity for f in report.findings} <= {NOTE}
    assert {f.subject for f in report.findings if f.kind is Kind.VERSION} == {
        "STUB_1.0",
        "STUB_2.0",
    }


def test_a_weak_need_is_none(tmp_path: Path) -> None:
    path = versioned(tmp_path, ONE, MAP_1, USER)
    data = bytearray(path.read_bytes())
    value = 0
    for byte in b"STUB_2.0":  # the hash of "System V ABI, chapter 5"
        value = (value << 4) + byte
        value = (value ^ (value >> 24 & 0xF0)) & 0xFFFFFFF
    at = data.index(struct.pack("<IH", value, 0))
    data[at + 4] = 2
    path.write_bytes(data)
    report = checked(path)
    assert report.runs and (NOTE, str(path), "STUB_2.0") in rows(report)


SYMBOLS = "int plain(void) { return 1; } int thing = 3; int kept(void) { return 2; }"
LACKING = "int kept(void) { return 2; }"
WANTS = """
int plain(void), kept(void);
extern int thing;
int main(void) { return plain() + kept() + thing; }
"""


@pytest.mark.parametrize(
    ("flags", "severity"),
    [
        (("-Wl,-z,lazy",), WARNING),
        (("-Wl,-z,now",), ERROR),
        (("-Wl,-z,lazy", "-no-pie"), WARNING),
        (("-Wl,-z,lazy", "-fno-plt"), ERROR),
    ],
)
def test_symbols_that_are_gone(tmp_path: Path, flags: tuple[str, ...], severity: Severity) -> None:
    full = shared(tmp_path / "full" / "libp.so", SYMBOLS)
    shared(tmp_path / "lib" / "libp.so", LACKING)
    path = compiled(tmp_path / "p", WANTS, *using(full), *flags)
    assert rows(checked(path), Kind.SYMBOL) == {
        (severity, str(path), "plain"),
        (ERROR, str(path), "thing"),
    }
    shutil.copy(full, tmp_path / "lib" / "libp.so")
    assert not rows(checked(path), Kind.SYMBOL)


def test_symbols_are_not_looked_for_where_a_library_is_gone(tmp_path: Path) -> None:
    full = shared(tmp_path / "full" / "libp.so", SYMBOLS)
    path = compiled(tmp_path / "p", WANTS, *using(full))
    assert rows(checked(path)) == {(ERROR, str(path), "libp.so")}


def test_a_library_that_is_opened_finds_symbols_in_the_program(tmp_path: Path) -> None:
    host = "int offered(void) { return 1; } int main(void) { return 0; }"
    path = compiled(tmp_path / "p", host, "-rdynamic")
    text = "int offered(void), gone(void); int f(void) { return offered() + gone(); }"
    plugin = shared(tmp_path / "plugins" / "x.so", text, "-Wl,-z,now")
    report = checked(path, include=(str(plugin),))
    assert rows(report, Kind.SYMBOL) == {(WARNING, str(plugin), "gone")}
    assert report.runs


def test_musl_binds_everything_at_start(tmp_path: Path) -> None:
    if not Path(MUSL).exists() or shutil.which("musl-gcc") is None:
        pytest.skip("needs musl-gcc (apt-get install musl-tools)")
    full = shared(tmp_path / "full" / "libp.so", SYMBOLS, "-nostdlib")
    shared(tmp_path / "lib" / "libp.so", LACKING, "-nostdlib")
    source = tmp_path / "p.c"
    source.write_text(WANTS)
    line: list[str | Path] = ["musl-gcc", source, "-o", tmp_path / "p", *using(full)]
    toolchain.tool(*line, "-Wl,-z,lazy")
    assert (ERROR, str(tmp_path / "p"), "plain") in rows(checked(tmp_path / "p"), Kind.SYMBOL)
