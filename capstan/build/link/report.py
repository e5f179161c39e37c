# SPDX-License-Identifier: BSD-2-Clause
"""What linking one file found and did: plain data, also as JSON for the cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class KeptSite:
    """A site that stays a trap: its address, function (may be empty) and why."""

    at: int
    function: str
    reason: str


@dataclass(frozen=True, slots=True)
class Opcode:
    """A privileged or unrunnable instruction; `is_handled`: it becomes SIGSEGV, as on Linux."""

    at: int
    function: str
    opcode: str
    is_handled: bool


@dataclass(frozen=True, slots=True)
class LinkReport:
    """The figures of one file. Digests are SHA-256 in hexadecimal."""

    flavour: str
    digest: str
    linked_digest: str | None = None
    """None: the file stays as it is."""
    reason: str = ""
    """Why a file with sites stays as it is."""
    hits: int = 0
    """Bytes that could be a system call."""
    false_hits: int = 0
    sites: int = 0
    class_a: int = 0
    class_w: int = 0
    class_p: int = 0
    numbered: int = 0
    """Sites linked to the entry of their call's number."""
    passed: int = 0
    """Linked sites with branches that go past the jump and trap as before."""
    traps: int = 0
    placement: str = ""
    """`slack` or `segment`."""
    grown: int = 0
    """Bytes the file grew."""
    restorers: tuple[KeptSite, ...] = ()
    left: tuple[KeptSite, ...] = ()
    undecided: tuple[KeptSite, ...] = ()
    """Hits outside of trusted bounds: perhaps sites, never changed."""
    opcodes: tuple[Opcode, ...] = ()

    @property
    def linked(self) -> int:
        """Sites that became jumps."""
        return self.class_a + self.class_w + self.class_p

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> LinkReport:
        """From the cache.

        Raises:
            TypeError, KeyError: it is not a report.
        """
        lists = {
            name: tuple(KeptSite(**item) for item in data[name])
            for name in ("restorers", "left", "undecided")
        }
        opcodes = tuple(Opcode(**item) for item in data["opcodes"])
        return LinkReport(**{**data, **lists, "opcodes": opcodes})


@dataclass(frozen=True, slots=True)
class LinkResult:
    """The linked file (None: the original is to be used as it is) and the report."""

    data: bytes | None
    report: LinkReport


@dataclass(frozen=True, slots=True)
class SiteNumber:
    """A system call in program text, its number if that is fixed, its function if it has a name."""

    at: int
    number: int | None
    function: str
