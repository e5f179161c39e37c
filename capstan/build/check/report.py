# SPDX-License-Identifier: BSD-2-Clause
"""What a check found: plain data, and the one place where findings are put in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import groupby


class Severity(Enum):
    """How bad it is. The order is the one of reports."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


MEANING = {
    Severity.ERROR: "the program does not start, or fails on every run",
    Severity.WARNING: "something the program can do will fail",
    Severity.NOTE: "worth knowing when something behaves differently",
}


class Kind(Enum):
    """What a finding is about."""

    PROGRAM = "program"
    ELF = "elf"
    INTERPRETER = "interpreter"
    LIBRARY = "library"
    VERSION = "version"
    SYMBOL = "symbol"
    CALL = "call"
    OPCODE = "opcode"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing: `object` is the file in the image it is about, `subject` what is amiss there."""

    severity: Severity
    kind: Kind
    object: str
    subject: str
    detail: str
    hint: str = ""

    def line(self) -> str:
        """The finding as one line of text."""
        return f"{self.object}: {self.subject}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about one image, the program's own first, errors before warnings."""

    program: str
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, program: str, findings: Iterable[Finding]) -> Report:
        """A report with each finding once, in order."""
        severities, kinds = list(Severity), list(Kind)

        def place(finding: Finding) -> tuple[bool, str, int, int, str, str]:
            severity, kind = severities.index(finding.severity), kinds.index(finding.kind)
            where = (finding.object != program, finding.object)
            return (*where, severity, kind, finding.subject, finding.detail)

        return cls(program, tuple(sorted(dict.fromkeys(findings), key=place)))

    @property
    def runs(self) -> bool:
        """Whether nothing was found that keeps the program from running."""
        return not self.of_severity(Severity.ERROR)

    def of_severity(self, *wanted: Severity) -> tuple[Finding, ...]:
        """The findings that are as bad as that."""
        return tuple(f for f in self.findings if f.severity in wanted)

    def by_object(
        self, wanted: Sequence[Severity] = tuple(Severity)
    ) -> list[tuple[str, list[Finding]]]:
        """The findings of these severities, grouped by the file they are about."""
        chosen = self.of_severity(*wanted)
        return [(name, list(group)) for name, group in groupby(chosen, key=lambda f: f.object)]

    def summary(self) -> str:
        """How many there are: "1 error, 2 warnings"."""
        parts = []
        for severity in Severity:
            count = len(self.of_severity(severity))
            if count:
                parts.append(f"{count} {severity.value}{'s' if count > 1 else ''}")
        return ", ".join(parts) or "nothing is missing"

    def rows(self) -> list[dict[str, object]]:
        """The findings as `--format` shows them."""
        return [
            {**asdict(f), "severity": f.severity.value, "kind": f.kind.value} for f in self.findings
        ]

    def to_json(self) -> dict[str, object]:
        """For `--format json`."""
        return {"program": self.program, "runs": self.runs, "findings": self.rows()}
