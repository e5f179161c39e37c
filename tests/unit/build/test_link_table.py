# SPDX-License-Identifier: BSD-2-Clause
"""The tables: the same numbers as in the guest's header, and back from bytes to what was packed."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.build.link import Flavour, table
from capstan.build.link.table import Kind, Place, Row, Trailer

HEADER = Path(__file__).resolve().parents[3] / "guest" / "include" / "capstan_link.h"


def header() -> str:
    return re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)


def constants() -> dict[str, str]:
    return dict(re.findall(r"^#define (CAPSTAN_\w+) (\S+)", header(), re.MULTILINE))


def fields(struct_name: str) -> list[tuple[str, str]]:
    """(type, name) of each field; arrays as their element."""
    body = re.search(rf"struct {struct_name} {{(.*?)}};", header(), re.DOTALL)
    assert body
    found = []
    for kind, names in re.findall(r"(\w+) ([\w, \[\]]+);", body[1]):
        found += [(kind, name.strip()) for name in names.split(",")]
    return found


def test_constants_are_those_of_the_header() -> None:
    values = constants()
    assert int(values["CAPSTAN_CELLS"], 0) == table.CELLS
    assert int(values["CAPSTAN_CELL_NUMBERS"]) == table.CELL_NUMBERS
    assert values["CAPSTAN_LINK_MAGIC"].strip('"').encode() + b"\0" == table.MAGIC
    assert int(values["CAPSTAN_LINK_VERSION"]) == table.VERSION
    assert int(values["CAPSTAN_LINK_TRAILER_SIZE"]) == table.TRAILER.size
    assert int(values["CAPSTAN_LINK_PLACE_SIZE"]) == table.PLACE.size
    assert int(values["CAPSTAN_LINK_NO_NUMBER"], 0) == table.NO_NUMBER
    for flavour in Flavour:
        assert int(values[f"CAPSTAN_LINK_{flavour.name}"]) == flavour.value
    for kind in (Kind.A, Kind.W, Kind.P, Kind.HOP, Kind.TRAP):
        assert int(values[f"CAPSTAN_LINK_{kind.name}"]) == kind.value


def test_the_cells_can_be_reached_by_a_sign_extended_address() -> None:
    last = table.CELLS + 8 * table.CELL_NUMBERS
    for cell in (table.CELLS, last):
        low = struct.unpack("<i", struct.pack("<I", cell & 0xFFFFFFFF))[0]
        assert low & ((1 << 64) - 1) == cell


LETTERS = {"uint8_t": "B", "uint16_t": "H", "uint32_t": "I"}


def test_layouts_are_those_of_the_header() -> None:
    place = "<" + "".join(LETTERS[kind] for kind, _ in fields("capstan_link_place"))
    assert place == table.PLACE.format
    trailer = fields("capstan_link_trailer")
    assert trailer[0] == ("char", "magic[8]")
    assert all(kind == "uint32_t" for kind, _ in trailer[1:])
    assert f"<8s{len(trailer) - 1}I" == table.TRAILER.format
    names = [name for _, name in trailer]
    ours = list(Trailer.__dataclass_fields__)
    assert names == ["magic[8]", "version", *ours, "zero", "check"]


def test_a_place_in_bytes() -> None:
    place = Place(0x402000, 0x401010, 19, Kind.A, 5, 5, 39)
    raw = table.pack_places([place], 0x400000)
    assert raw.hex() == "00200000101000001305010527000000"
    assert table.unpack_places(raw, 0x400000) == [place]


OFFSET = st.integers(0, (1 << 31) - 1)
BYTE = st.integers(0, 255)
NUMBER = st.none() | st.integers(0, 511)
PLACES = st.builds(Place, OFFSET, OFFSET, BYTE, st.sampled_from(list(Kind)[:5]), BYTE, BYTE, NUMBER)


@given(st.lists(PLACES, max_size=20, unique_by=lambda p: p.at), st.integers(0, 1 << 47))
def test_places_there_and_back(places: list[Place], base: int) -> None:
    moved = [
        Place(p.at + base, p.site + base, p.size, p.kind, p.copied, p.window, p.number)
        for p in places
    ]
    raw = table.pack_places(moved, base)
    assert len(raw) + table.TRAILER.size == table.table_size(len(places))
    assert table.unpack_places(raw, base) == sorted(moved, key=lambda p: p.at)


WORD = st.integers(0, (1 << 32) - 1)


@given(st.sampled_from(Flavour), st.lists(WORD, min_size=10, max_size=10), st.binary(max_size=64))
def test_trailer_there_and_back(flavour: Flavour, words: list[int], rows: bytes) -> None:
    trailer = Trailer(flavour, *words)
    raw = table.pack_trailer(trailer, rows)
    assert table.unpack_trailer(raw) == trailer
    assert table.check_sum(raw) == zlib.crc32(rows + raw[:-4])


@given(st.binary(max_size=80))
def test_other_bytes_are_no_trailer(raw: bytes) -> None:
    assert table.unpack_trailer(raw) is None


def test_a_trailer_of_the_future_is_none() -> None:
    raw = bytearray(table.pack_trailer(Trailer(Flavour.GUEST, *range(10)), b""))
    raw[8] += 1
    assert table.unpack_trailer(bytes(raw)) is None


LONG = st.integers(0, (1 << 64) - 1)
ROWS = st.builds(Row, LONG, LONG, LONG, st.sampled_from(Kind), BYTE, BYTE, BYTE, NUMBER)


@settings(max_examples=50)
@given(st.lists(ROWS, max_size=10))
def test_sites_there_and_back(rows: list[Row]) -> None:
    raw = table.pack_sites(
        rows, flavour=Flavour.GUEST, digest=b"d" * 32, trailer=4096, hits=len(rows)
    )
    digest, found = table.unpack_sites(raw)
    assert digest == b"d" * 32
    assert found == sorted(rows, key=lambda r: (r.site, r.at))


@pytest.mark.parametrize("cut", [0, 10, 95, 97])
def test_damaged_sites_are_named(cut: int) -> None:
    raw = table.pack_sites(
        [Row(1, 2, 3, Kind.A)], flavour=Flavour.GUEST, digest=bytes(32), trailer=0, hits=1
    )
    with pytest.raises(ValueError, match=r"short|truncated"):
        table.unpack_sites(raw[:cut])
    with pytest.raises(ValueError, match="version 7"):
        table.unpack_sites(raw[:8] + b"\7" + raw[9:])


@pytest.mark.parametrize(
    ("place", "pc", "original"),
    [
        (Place(1000, 500, 30, Kind.A, 10, 5), 1000, 490),
        (Place(1000, 500, 30, Kind.A, 10, 5), 1005, 495),
        (Place(1000, 500, 30, Kind.A, 10, 5), 1010, 500),
        (Place(1000, 500, 30, Kind.A, 10, 5), 1029, 500),
        (Place(1000, 500, 30, Kind.W, 9, 6), 1003, 491),
        (Place(1000, 500, 30, Kind.W, 9, 6), 1006, 497),
        (Place(1000, 500, 30, Kind.W, 9, 6), 1009, 500),
        (Place(1000, 500, 14, Kind.P), 1000, 500),
        (Place(520, 500, 5, Kind.HOP), 520, 500),
        (Place(700, 700, 1, Kind.TRAP), 700, 700),
    ],
)
def test_translation(place: Place, pc: int, original: int) -> None:
    """The rules of the header."""
    assert place.original(pc) == original
