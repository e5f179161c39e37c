# SPDX-License-Identifier: BSD-2-Clause
"""The linker's memory: what is found again, what is not believed."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from capstan.build.link import Flavour, LinkReport, LinkResult, cache, link_file, linker
from tests.link import toolchain

OLD = time.time() - 1000


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(toolchain.cases().read_bytes())
    os.utime(path, (OLD, OLD))
    return path


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change time of a new file cannot be set: it counts as old at once."""
    monkeypatch.setattr(cache, "SETTLED_NS", -(10**9))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Flavour]:
    """One entry per file that was really linked."""
    made: list[Flavour] = []
    real = linker.link_data

    def counted(data: bytes, flavour: Flavour) -> LinkResult:
        made.append(flavour)
        return real(data, flavour)

    monkeypatch.setattr(linker, "link_data", counted)
    return made


def test_a_second_time_costs_nothing(program: Path, tmp_path: Path, calls: list[Flavour]) -> None:
    first = link_file(program, cache=tmp_path / "cache")
    second = link_file(program, cache=tmp_path / "cache")
    assert first == second and first.data
    assert len(calls) == 1


def test_the_index_spares_reading(
    program: Path, tmp_path: Path, calls: list[Flavour], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = link_file(program, cache=tmp_path / "cache")

    def unexpected(data: bytes) -> str:
        raise AssertionError("the file was read")

    monkeypatch.setattr(cache, "digest_of", unexpected)
    assert link_file(program, cache=tmp_path / "cache") == first


def test_the_same_content_elsewhere(program: Path, tmp_path: Path, calls: list[Flavour]) -> None:
    first = link_file(program, cache=tmp_path / "cache")
    assert link_file(program.read_bytes(), cache=tmp_path / "cache") == first
    assert len(calls) == 1


def test_flavours_are_kept_apart(program: Path, tmp_path: Path, calls: list[Flavour]) -> None:
    results = [link_file(program, flavour=f, cache=tmp_path / "cache") for f in Flavour]
    assert len({r.data for r in results}) == 3 == len(calls)


def test_a_changed_file_is_linked_again(
    program: Path, tmp_path: Path, calls: list[Flavour]
) -> None:
    first = link_file(program, cache=tmp_path / "cache")
    data = bytearray(program.read_bytes())
    data[-1] ^= 1  # in the section header table
    program.write_bytes(data)
    second = link_file(program, cache=tmp_path / "cache")
    assert first.report.digest != second.report.digest and len(calls) == 2


def test_a_file_of_this_moment_is_not_indexed(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second write within the clock's grain would leave size and times as they are."""
    monkeypatch.setattr(cache, "SETTLED_NS", 2_000_000_000)
    link_file(program, cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / "index").exists()


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff", b'{"digest": 3, "left": [{}]}'])
def test_a_damaged_report_is_made_again(
    damage: bytes, program: Path, tmp_path: Path, calls: list[Flavour]
) -> None:
    first = link_file(program, cache=tmp_path / "cache")
    [report] = (tmp_path / "cache" / "objects").glob("*.json")
    report.write_bytes(damage)
    assert link_file(program, cache=tmp_path / "cache") == first
    assert len(calls) == 2
    assert LinkReport.from_json(json.loads(report.read_text())) == first.report


def test_a_damaged_file_is_made_again(program: Path, tmp_path: Path, calls: list[Flavour]) -> None:
    first = link_file(program, cache=tmp_path / "cache")
    [path] = [p for p in (tmp_path / "cache" / "objects").iterdir() if p.suffix != ".json"]
    path.write_bytes(path.read_bytes()[:-1])
    assert link_file(program, cache=tmp_path / "cache") == first
    assert path.read_bytes() == first.data
    assert len(calls) == 2


@pytest.mark.parametrize("text", ["", "x" * 64, "no digest"])
def test_a_damaged_index_is_not_believed(text: str, program: Path, tmp_path: Path) -> None:
    first = link_file(program, cache=tmp_path / "cache")
    [entry] = (tmp_path / "cache" / "index").iterdir()
    entry.write_text(text)
    assert link_file(program, cache=tmp_path / "cache") == first


def test_another_linker_has_other_results(
    program: Path, tmp_path: Path, calls: list[Flavour], monkeypatch: pytest.MonkeyPatch
) -> None:
    link_file(program, cache=tmp_path / "cache")
    monkeypatch.setattr(cache, "linker_version", lambda: "of-tomorrow")
    link_file(program, cache=tmp_path / "cache")
    assert len(calls) == 2


def test_many_at_once(program: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: link_file(program, cache=tmp_path / "cache"), range(8)))
    assert all(result == results[0] for result in results)
    names = [p.name for p in (tmp_path / "cache" / "objects").iterdir()]
    assert len(names) == 2 and not any(name.startswith(".tmp") for name in names)


def test_without_a_cache(program: Path) -> None:
    assert link_file(program) == link_file(program.read_bytes())
