# SPDX-License-Identifier: BSD-2-Clause
"""What a linked file says about itself, in bytes.

For the guest: the places and the trailer at the end of the stubs' segment, as
`guest/include/capstan_link.h` defines them; that header is the contract, this file packs it.

For tools: the section `.capstan.sites`, not loaded. Little-endian:

    header, 96 bytes   8s magic "CAPSITES", u32 version, u32 flavour, 32s SHA-256 of the original
                       file, u64 address of the trailer (0: none), u32 hits, u32 rows, 32 bytes zero
    rows, 32 bytes     u64 at, u64 start, u64 site, u8 kind, u8 copied, u8 size, u8 overwritten,
                       u16 number, u16 zero; sorted by site, then by at

`at` is the stub, hop or trap (0 where there is none), [start, start + overwritten) what was changed
in the text. Kinds 1 to 5 are the classes of the header; 6 is a restorer, 7 a site that was left.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import Enum

CELLS = 0xFFFFFFFF80100000
CELL_NUMBERS = 512
MAGIC = b"CAPLINK\0"
VERSION = 1
NO_NUMBER = 0xFFFF
SECTION_SITES = ".capstan.sites"
SECTION_STUBS = ".capstan.stubs"
SITES_MAGIC = b"CAPSITES"

PLACE = struct.Struct("<IIBBBBHH")
TRAILER = struct.Struct("<8s14I")
SITES_HEADER = struct.Struct("<8sII32sQII32x")
SITES_ROW = struct.Struct("<QQQBBBBHH")


class Flavour(Enum):
    """Which tail the stubs have; the values are in the trailer."""

    GUEST = 0
    NATIVE_PC = 1
    NATIVE_ABI = 2

    @property
    def text(self) -> str:
        """The name on command lines."""
        return self.name.lower().replace("_", "-")


class Kind(Enum):
    """How a site was treated (classes A, W and P: plan.py), or what else a place is."""

    A = 1
    W = 2
    P = 3
    HOP = 4
    TRAP = 5
    RESTORER = 6
    LEFT = 7


@dataclass(frozen=True, slots=True)
class Place:
    """A stub, hop or trap in a linked file; addresses are the file's."""

    at: int
    site: int
    size: int
    kind: Kind
    copied: int = 0
    window: int = 0
    number: int | None = None

    def original(self, pc: int) -> int:
        """The address of the original file that stands for `pc` inside of this place."""
        if self.kind is Kind.TRAP:
            return self.at
        start, distance = self.site - self.copied, pc - self.at
        if distance < self.window:
            return start
        return start + distance if distance < self.copied else self.site


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last 64 bytes of the stubs' segment; offsets are from the image's base."""

    flavour: Flavour
    self: int
    table: int
    places: int
    low: int
    high: int
    stubs: int
    linked: int
    restorers: int
    left: int
    traps: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `.capstan.sites`."""

    at: int
    start: int
    site: int
    kind: Kind
    copied: int = 0
    size: int = 0
    overwritten: int = 0
    number: int | None = None


def table_size(places: int) -> int:
    """Bytes of the table of places and the trailer."""
    return places * PLACE.size + TRAILER.size


def pack_places(places: list[Place], base: int) -> bytes:
    """The table, sorted, with addresses from `base`."""
    return b"".join(
        PLACE.pack(
            *(p.at - base, p.site - base, p.size, p.copied, p.kind.value, p.window, _number(p), 0)
        )
        for p in sorted(places, key=lambda p: p.at)
    )


def pack_trailer(trailer: Trailer, table: bytes) -> bytes:
    """The trailer, with the check sum over `table` and itself."""
    t = trailer
    raw = TRAILER.pack(
        *(MAGIC, VERSION, t.flavour.value, t.self, t.table, t.places, t.low, t.high, t.stubs),
        *(t.linked, t.restorers, t.left, t.traps, 0, 0),
    )
    return raw[:-4] + struct.pack("<I", zlib.crc32(table + raw[:-4]))


def unpack_trailer(raw: bytes) -> Trailer | None:
    """The trailer in these 64 bytes; None if they are something else (or of another version)."""
    if len(raw) != TRAILER.size:
        return None
    magic, version, flavour, *rest = TRAILER.unpack(raw)
    if magic != MAGIC or version != VERSION or flavour not in {f.value for f in Flavour}:
        return None
    return Trailer(Flavour(flavour), *rest[:10])


def check_sum(raw: bytes) -> int:
    """The check sum stored in a trailer."""
    value: int = TRAILER.unpack(raw)[-1]
    return value


def unpack_places(raw: bytes, base: int) -> list[Place]:
    """The places of a table."""
    found = []
    for at, site, size, copied, kind, window, number, _ in PLACE.iter_unpack(raw):
        nr = None if number == NO_NUMBER else number
        found.append(Place(at + base, site + base, size, Kind(kind), copied, window, nr))
    return found


def pack_sites(
    rows: list[Row], *, flavour: Flavour, digest: bytes, trailer: int, hits: int
) -> bytes:
    """The section `.capstan.sites`."""
    head = SITES_HEADER.pack(SITES_MAGIC, VERSION, flavour.value, digest, trailer, hits, len(rows))
    return head + b"".join(
        SITES_ROW.pack(
            *(r.at, r.start, r.site, r.kind.value, r.copied, r.size, r.overwritten, _number(r), 0)
        )
        for r in sorted(rows, key=lambda r: (r.site, r.at))
    )


def unpack_sites(raw: bytes) -> tuple[bytes, list[Row]]:
    """The original file's digest and the rows of `.capstan.sites`.

    Raises:
        ValueError: it is damaged or of another version.
    """
    if len(raw) < SITES_HEADER.size:
        raise ValueError("too short")
    magic, version, _, digest, _, _, count = SITES_HEADER.unpack_from(raw)
    if magic != SITES_MAGIC or version != VERSION:
        raise ValueError(f"version {version} of the linker's table is not known")
    body = raw[SITES_HEADER.size :]
    if len(body) != count * SITES_ROW.size:
        raise ValueError("truncated")
    rows = []
    for at, start, site, kind, copied, size, overwritten, number, _ in SITES_ROW.iter_unpack(body):
        nr = None if number == NO_NUMBER else number
        rows.append(Row(at, start, site, Kind(kind), copied, size, overwritten, nr))
    return digest, rows


def _number(item: Place | Row) -> int:
    return NO_NUMBER if item.number is None else item.number
