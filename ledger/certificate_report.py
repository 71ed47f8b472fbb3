"""What a certificate of erasure says, in words for people who read no code, and as JSON for programs.

Nothing is checked here. Of a certificate that failed nothing is repeated as if it were a fact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from ledger.core.certificate import Certificate, CertifiedEntry
from ledger.core.certificate_check import CertificateReport
from ledger.core.checks import Result
from ledger.receipt_report import CheckTold
from ledger.terminal import plain, row, wrapped

POSITIONS_SHOWN = 12
"""Ranges of one entry that are shown to people; programs get them all."""

SUBJECTS = {"visitor": "one visitor", "account": "one account"}
LEVELS = {
    "erase": "erased",
    "hold": "erased; copies were put aside as proof (what of them is left: below)",
}
REASONS = {
    "subject_request": "the person asked for it",
    "retention": "the time for which it may be kept was over",
    "controller_instruction": "the controller instructed it",
    "legal_order": "an authority or a court ordered it",
    "capture_error": "it should not have been recorded",
}


class CertificateTold(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The JSON report. What the certificate says is left out where it failed."""

    verdict: str
    checks: tuple[CheckTold, ...]
    signed_by: str = ""
    certificate: Certificate | None = None

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def verdict(report: CertificateReport) -> str:
    """`verified`, `failed`, or `unproven` where something that proves it could not be checked."""
    if report.failures:
        return "failed"
    return "verified" if report.verified else "unproven"


def told(report: CertificateReport) -> CertificateTold:
    """The report for programs."""
    checks = tuple(CheckTold(str(name), str(result), plain(detail)) for name, result, detail in report.checks)
    return CertificateTold(verdict(report), checks, report.key_name, None if report.failures else report.certificate)


def render(report: CertificateReport) -> str:
    """The report for people, the verdict first."""
    lines = [_headline(report), ""]
    if not report.failures and report.certificate is not None:
        lines += [*_says(report.certificate), ""]
    lines.append("What was checked")
    for name, result, detail in report.checks:
        mark = "FAILED" if result == Result.FAILED else str(result)
        lines += row(f"{mark}: {name}", f"{detail[:1].upper()}{detail[1:]}.", 24)
    lines += ["", *wrapped(_limits(report))]
    return "\n".join(lines) + "\n"


def _headline(report: CertificateReport) -> str:
    if report.failures:
        return "FAILED: this is not what the log holds, or not a certificate. Nothing of it can be relied on."
    if report.verified and report.certificate is not None and not report.certificate.entries:
        return (
            "VERIFIED: the site signed that nothing was on record, which no log shows: bring a receipt if you have one."
        )
    if report.verified:
        return "VERIFIED: the log holds every erasure that this certificate names, as it says."
    return "UNPROVEN: nothing failed, but not everything that proves it could be checked."


def _says(told: Certificate) -> Iterator[str]:
    yield "What was erased"
    yield from row("site", told.site)
    yield from row("of", f"{SUBJECTS[told.subject]}, named in the request and nowhere in here")
    yield from row("what", f"{told.events} events, {LEVELS[told.level]}" if told.events else "nothing was on record")
    for entry in told.entries:
        yield from row("", _entry(entry))
    yield from row("why", REASONS[told.reason])
    yield from row("instruction", told.instruction or "")
    yield from row("on record", f"as {told.act}, in the administrative log")
    of = "of the instruction, salted" if told.evidence_salt else "of the request, as its sender keeps it"
    yield from row("evidence", f"SHA-256 {told.evidence} {of}")
    times = (
        ("requested", told.requested_at),
        ("blocked", told.blocked_at),
        ("erased", told.erased_at),
        ("published", told.published_at),
        ("certified", told.issued_at),
    )
    for label, time in times:
        yield from row(label, time or "")
    yield ""
    yield "What remains"
    remains = list(_remains(told))
    if not remains:
        yield "  Nothing under the operator's control, but the log's entries, which tell nothing about the person."
    for label, text in remains:
        yield from row(label, text)
    yield ""
    yield "Copies at others"
    if not told.consumers:
        yield "  No consumer was registered with the ledger."
    for one in told.consumers:
        state = "has confirmed" if one.confirmed else "has NOT confirmed"
        when = f", at {one.confirmed_at} up to {one.position}" if one.confirmed_at else ""
        yield from row(one.name, f"{state}{when}")


def _entry(entry: CertifiedEntry) -> str:
    names = ", ".join(entry.erased[:POSITIONS_SHOWN])
    more = len(entry.erased) - POSITIONS_SHOWN
    further = f" and {more} more ranges" if more > 0 else ""
    others = "; others were erased by it too" if len(entry.requests) > 1 else ""
    return (
        f"entry {entry.seq} of {entry.recorded_at}: {entry.events} of these events; it names {names}{further}{others}"
    )


def _remains(told: Certificate) -> Iterable[tuple[str, str]]:
    for kept in told.kept:
        yield "kept", f"entry {kept.seq} until {kept.until}: the acceptance of {', '.join(kept.purposes)}"
    if told.held:
        yield (
            "held",
            f"proof of {told.held} events until {told.held_until}, opened or let go only on a recorded instruction",
        )
    for mark in told.marks:
        purpose = "every optional purpose" if mark.purpose == "*" else mark.purpose
        yield "a no", f"to {purpose}, until {mark.until}, under a keyed hash"
    if told.browsers:
        yield "browsers", f"{len(told.browsers)} were erased by orders of their own: {', '.join(told.browsers)}"
    if told.browsers_left:
        yield "browsers", f"{told.browsers_left} that were linked to the account keep what they recorded for themselves"
    if told.blocked_until:
        yield "block", f"the id takes no new events until {told.blocked_until}, under a keyed hash"
    if not told.rewritten_at:
        yield "disk", "deleted bytes may lie in pages of the database until it is rewritten, which it was not yet"
    if told.backups_until:
        yield "backups", f"those taken before hold it, sealed; the first one after {told.backups_until} takes them away"
    elif told.entries:
        yield "backups", "those taken before may hold it, sealed; until when, the ledger was not told: ask the operator"


def _limits(report: CertificateReport) -> str:
    if report.failures:
        return "A file that was damaged on its way fails as well: ask for another copy."
    return (
        "Backups are not rewritten; a restore erases again before anything is served. "
        "It does not prove that no copy is left anywhere: that is the operator's signed word, and whoever shows such a "
        "copy proves the operator wrong. Whoever sent the request can show that its evidence is the one above."
    )
