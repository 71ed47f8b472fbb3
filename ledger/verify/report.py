"""The report of an audit, for people and for programs."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from ledger.core.admin_match import Wrong
from ledger.core.audit import Auditor, Verdict
from ledger.core.encoding import encode_base64, encode_time
from ledger.core.entry import Kind
from ledger.core.errors import Malformed
from ledger.core.faults import Faults
from ledger.terminal import plain

EXIT_CODES = {Verdict.SOUND: 0, Verdict.FAULT: 1, Verdict.LOG_ONLY: 3}

MEANING = {
    Verdict.SOUND: "every rule holds",
    Verdict.FAULT: "the log or its bundle is not what it claims to be",
    Verdict.LOG_ONLY: "the log is sound, but there were no payloads to check",
}


class FaultFound(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A broken rule of the fourteen; without `seq` no single entry is to blame."""

    rule: int
    detail: str
    seq: int | None = None


class NoteMade(Struct, frozen=True, rename="camel"):
    """What a verdict rests on beside the rules: what was taken on trust, or not looked at."""

    rule: int
    detail: str


class Counts(Struct, frozen=True, rename="camel"):
    """Entries by kind; events by what became of their payloads."""

    genesis: int = 0
    events: int = 0
    opened: int = 0
    erased: int = 0
    keys: int = 0
    erasures: int = 0
    policies: int = 0


class DifferenceFound(Struct, frozen=True, rename="camel"):
    """A row of the database that does not follow from the log."""

    table: str
    detail: str


class Live(Struct, frozen=True, rename="camel"):
    """What `--live` compared, and what of it is not as the log says: the first ones, and how many there are."""

    entries: int
    visitors: int
    difference_count: int
    differences: tuple[DifferenceFound, ...] = ()


class MismatchFound(Struct, frozen=True, rename="camel"):
    """An erasure, the entry `seq` of `log`, that does not rest on the act it names. `what` is a stable word."""

    log: str
    seq: int
    what: Wrong
    detail: str


class ActPending(Struct, frozen=True, rename="camel"):
    """An act that was not carried out; `count` is of how many events (0: it does not say)."""

    position: str
    act: str
    count: int


class Admin(Struct, frozen=True, rename="camel"):
    """What `--admin` found: the audit of the administrative log, and whether each erasure rests on an act in it.

    `matched` erasures named `events` events, `by_retention` of them on no order but the policy's; the site's log names
    acts by their hashes, and so fixes the first `bound` entries of the administrative log; of what does not match the
    first ones, and how many there are; acts not carried out (the first ones and how many); how many acts were flagged;
    for how many orders there was nothing to erase, as an act says.
    Nothing was matched where a log is faulty.
    """

    log: Report
    matched: int = 0
    events: int = 0
    by_retention: int = 0
    bound: int = 0
    mismatch_count: int = 0
    mismatches: tuple[MismatchFound, ...] = ()
    pending_count: int = 0
    pending: tuple[ActPending, ...] = ()
    flagged: int = 0
    nothing_found: int = 0


class Report(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What `verify` says. Times as everywhere outside; `seconds` is how long it took.

    `faults` holds the first ones in log order, `fault_count` counts all. `root_key` is `pinned` if the log id or an
    older checkpoint was given, else `asserted`: by the log itself (rule 4); of an administrative log also `bound`: an
    erasure of the site's log names an act of it.
    """

    verdict: str
    fault_count: int
    seconds: float
    origin: str = ""
    size: int | None = None
    root: str = ""
    log_id: str = ""
    root_key: Literal["pinned", "bound", "asserted", ""] = ""
    counts: Counts = Counts()
    first_recorded_at: str = ""
    last_recorded_at: str = ""
    signatures_checked: int = 0
    longest_cosignature_gap_seconds: int | None = None
    faults: tuple[FaultFound, ...] = ()
    notes: tuple[NoteMade, ...] = ()
    live: Live | None = None
    admin: Admin | None = None

    @property
    def exit_code(self) -> int:
        if self.admin is not None and (self.admin.mismatch_count or self.admin.log.verdict == Verdict.FAULT):
            return EXIT_CODES[Verdict.FAULT]
        if self.live is not None and self.live.difference_count:
            return EXIT_CODES[Verdict.FAULT]
        return EXIT_CODES[Verdict(self.verdict)]

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2)


def report_of(auditor: Auditor | None, faults: Faults, seconds: float) -> Report:
    """The report of a finished audit, or of one that had nothing but faults to begin with."""
    found = tuple(FaultFound(fault.rule, plain(fault.detail), fault.seq) for fault in faults.first())
    if auditor is None:
        return Report(Verdict.FAULT, faults.count, round(seconds, 3), faults=found)
    summary, heads = auditor.summary(), auditor.heads
    kinds = summary.kinds
    return Report(
        verdict=auditor.verdict,
        fault_count=faults.count,
        seconds=round(seconds, 3),
        origin=auditor.checkpoint.origin,
        size=auditor.checkpoint.size,
        root=encode_base64(auditor.checkpoint.root),
        log_id=summary.log_id.hex(),
        root_key="pinned" if auditor.root_key_pinned else "asserted",
        counts=Counts(
            genesis=kinds[Kind.GENESIS],
            events=kinds[Kind.EVENT],
            opened=summary.opened,
            erased=summary.erased,
            keys=kinds[Kind.KEY],
            erasures=kinds[Kind.ERASURE],
            policies=kinds[Kind.POLICY],
        ),
        first_recorded_at="" if summary.first_ms is None else _time(summary.first_ms),
        last_recorded_at="" if summary.last_ms is None else _time(summary.last_ms),
        signatures_checked=summary.signatures,
        longest_cosignature_gap_seconds=heads.longest_gap_seconds,
        faults=found,
        notes=tuple(NoteMade(note.rule, plain(note.text)) for note in auditor.notes()),
    )


def _time(ms: int) -> str:
    """An entry's time is any number below 2^53: beyond the calendar it is shown as it is."""
    try:
        return encode_time(ms)
    except Malformed:
        return f"{ms} ms"


def render(report: Report) -> str:
    """The report as lines of text, the verdict first."""
    lines = [f"{report.verdict}: {MEANING[Verdict(report.verdict)]}"]
    if report.live is not None and report.live.difference_count:
        lines.append("  but the database was edited beside the log: answers from it cannot be trusted")
    if report.admin is not None and report.admin.mismatch_count:
        lines.append("  but not every erasure rests on an administrative act: somebody erased what nobody ordered")
    if report.size is not None:
        counts = report.counts
        lines += [
            f"  log        {report.origin}",
            f"  log id     {report.log_id or 'none'} ({report.root_key})",
            f"  size       {report.size:,}, root {report.root}",
            f"  entries    {counts.events:,} events ({counts.opened:,} opened, {counts.erased:,} erased), "
            f"{counts.erasures:,} erasures, {counts.policies:,} policies, {counts.keys:,} keys",
        ]
        if report.first_recorded_at:
            lines.append(f"  recorded   {report.first_recorded_at} to {report.last_recorded_at}")
        rate = report.size / report.seconds if report.seconds else 0.0
        lines.append(f"  checked    {report.signatures_checked:,} signatures, {rate:,.0f} entries/s")
    for fault in report.faults:
        where = "" if fault.seq is None else f" at entry {fault.seq}"
        lines.append(f"  fault      rule {fault.rule}{where}: {fault.detail}")
    if report.fault_count > len(report.faults):
        lines.append(f"  faults     {report.fault_count - len(report.faults):,} more")
    lines += [f"  note       rule {note.rule}: {note.detail}" for note in report.notes]
    if report.live is not None:
        live = report.live
        lines.append(f"  live       {live.entries:,} entries and {live.visitors:,} visitors compared with the database")
        lines += [f"  differs    {each.table}: {each.detail}" for each in live.differences]
        if live.difference_count > len(live.differences):
            lines.append(f"  differs    {live.difference_count - len(live.differences):,} rows more")
    if report.admin is not None:
        lines += _render_admin(report.admin)
    return "\n".join(lines)


def _render_admin(admin: Admin) -> list[str]:
    """The administrative log's own report, then what was matched."""
    log = [f"  {line}" for line in render(admin.log).splitlines()]
    lines = ["administrative log", *log]
    if admin.log.verdict != Verdict.SOUND:
        return [*lines, "  erasures   not compared with their acts"]
    scheduled = f", {admin.by_retention:,} of them by retention, on no order" if admin.by_retention else ""
    lines.append(f"  erasures   {admin.matched:,} match their acts ({admin.events:,} events){scheduled}")
    own = "" if admin.bound == admin.log.size else "; those after are this log's own word"
    lines.append(f"  bound      the site's log fixes {admin.bound:,} of its {admin.log.size:,} entries{own}")
    for found in admin.mismatches:
        lines.append(f"  UNMATCHED  entry {found.seq} of {found.log} ({found.what}): {plain(found.detail)}")
    if admin.mismatch_count > len(admin.mismatches):
        lines.append(f"  UNMATCHED  {admin.mismatch_count - len(admin.mismatches):,} more")
    if admin.nothing_found:
        lines.append(f"  nothing    was (left) to erase for {admin.nothing_found:,} orders, as acts of theirs say")
    for each in admin.pending:
        count = f" of {each.count:,} events" if each.count else ""
        lines.append(f"  pending    {each.act}{count} at {each.position}: not carried out yet")
    if admin.pending_count > len(admin.pending):
        lines.append(f"  pending    {admin.pending_count - len(admin.pending):,} acts more")
    if admin.flagged:
        lines.append(f"  flagged    {admin.flagged:,} acts: their instruction was believed unlawful")
    return lines
