# SPDX-License-Identifier: BSD-2-Clause
"""Links one file: hits, sites, plan, stubs, proof, report.

Files without anything to change stay byte for byte: most of a machine's files have no system call
in them, and checksums and signatures over them stay valid.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from capstan.build.elf import Data, ElfError
from capstan.build.link import numbers, table
from capstan.build.link.bounds import Functions
from capstan.build.link.objfile import ObjFile
from capstan.build.link.plan import Plan, make_plan
from capstan.build.link.report import KeptSite, LinkReport, LinkResult, Opcode, SiteNumber
from capstan.build.link.sites import Hit, Privileged, Verdict, classify, privileged
from capstan.build.link.table import Flavour, Kind
from capstan.build.link.targets import Targets
from capstan.build.link.verify import VerifyError, find_trailer, verify
from capstan.build.link.write import Written, write
from capstan.errors import BuildError

ALREADY = "already linked"


def link_data(data: Data, flavour: Flavour) -> LinkResult:
    """Link a file's content.

    Raises:
        ElfError: not a usable x86-64 ELF file, or linked before for another purpose.
        BuildError: the linker made a mistake; nothing is written.
    """
    obj = ObjFile(data)
    digest = hashlib.sha256(data).hexdigest()
    if _is_linked(obj, flavour):
        return LinkResult(None, LinkReport(flavour.text, digest, reason=ALREADY))
    functions = Functions(obj)
    targets = Targets(obj, functions)
    hits = classify(obj, functions)
    has_sites = any(hit.verdict is Verdict.SITE for hit in hits)
    opcodes = privileged(targets, has_sites=has_sites)
    plan = make_plan(targets, hits, opcodes) if has_sites else Plan()
    report = _report(functions, hits, plan, opcodes, LinkReport(flavour.text, digest))
    written = _write(obj, plan, flavour, len(hits))
    if isinstance(written, str):
        return LinkResult(None, _refused(functions, plan, report, written))
    return LinkResult(written.data, _linked(obj, plan, report, written))


def sites_with_numbers(data: Data) -> list[SiteNumber]:
    """Every system call in program text within trusted bounds, with its number where it is fixed.

    Raises:
        ElfError: not a usable x86-64 ELF file.
    """
    obj = ObjFile(data)
    functions = Functions(obj)
    targets = Targets(obj, functions)
    found = []
    for hit in classify(obj, functions):
        if hit.function is not None:
            index = hit.function.index(hit.at)
            assert index is not None
            number = numbers.at_site(hit.function, index, targets)
            found.append(SiteNumber(hit.at, number, functions.name(hit.at)))
    return found


def _is_linked(obj: ObjFile, flavour: Flavour) -> bool:
    found = find_trailer(obj)
    if found is not None:
        before = found[0].flavour
        if before is not flavour:
            raise ElfError(f"linked before, as {before.text}", "give the file as it was installed")
        return True
    if obj.section(table.SECTION_SITES) is not None:
        raise ElfError(f"it has a section {table.SECTION_SITES} but no stubs", "install it again")
    return False


def _write(obj: ObjFile, plan: Plan, flavour: Flavour, hits: int) -> Written | str:
    """The linked and proved file; or why there is none (empty: there is nothing to do)."""
    if not plan.patches and not plan.traps:
        return ""
    if obj.has_text_relocations:
        return "the loader writes into its text (text relocations)"
    written = write(obj, plan, flavour, hits)
    if isinstance(written, Written):
        try:
            verify(obj, written.data, plan, flavour)
        except VerifyError as err:
            raise BuildError(
                f"a linked file failed its check: {err}",
                hint="this is a bug in capstan: please report it with the file's name and version",
            ) from err
    return written


def _report(
    functions: Functions, hits: list[Hit], plan: Plan, opcodes: list[Privileged], base: LinkReport
) -> LinkReport:
    """What was found, whatever comes of it."""

    def kept(kind: Kind) -> tuple[KeptSite, ...]:
        mine = [k for k in plan.kept if k.kind is kind]
        return tuple(KeptSite(k.site, functions.name(k.site), k.reason) for k in mine)

    verdicts = [hit.verdict for hit in hits]
    return replace(
        base,
        hits=len(hits),
        false_hits=verdicts.count(Verdict.FALSE) + verdicts.count(Verdict.DATA),
        sites=verdicts.count(Verdict.SITE),
        restorers=kept(Kind.RESTORER),
        left=kept(Kind.LEFT),
        undecided=tuple(
            KeptSite(h.at, functions.name(h.at), h.reason)
            for h in hits
            if h.verdict is Verdict.UNDECIDED
        ),
        opcodes=tuple(
            Opcode(p.at, functions.name(p.at), p.opcode, is_handled=p in plan.traps)
            for p in opcodes
        ),
    )


def _refused(functions: Functions, plan: Plan, report: LinkReport, reason: str) -> LinkReport:
    """No site of the file is linked."""
    more = tuple(KeptSite(p.site, functions.name(p.site), reason) for p in plan.patches)
    opcodes = tuple(replace(opcode, is_handled=False) for opcode in report.opcodes)
    return replace(report, reason=reason, left=report.left + more, opcodes=opcodes)


def _linked(obj: ObjFile, plan: Plan, report: LinkReport, written: Written) -> LinkReport:
    kinds = [patch.kind for patch in plan.patches]
    return replace(
        report,
        linked_digest=hashlib.sha256(written.data).hexdigest(),
        class_a=kinds.count(Kind.A),
        class_w=kinds.count(Kind.W),
        class_p=kinds.count(Kind.P),
        numbered=sum(patch.number is not None for patch in plan.patches),
        passed=sum(patch.is_passed for patch in plan.patches),
        traps=len(plan.traps),
        placement="slack" if written.place.is_slack else "segment",
        grown=len(written.data) - len(obj.data),
    )
