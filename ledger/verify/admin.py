"""`verify --admin`: a site's administrative log, audited like its log, and every erasure matched with its act.

Both bundles are read once more after they were found sound. What matches is core/admin_match.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import msgspec

from ledger.bundle import CHECKPOINT, PAYLOADS, OpeningLines, Source
from ledger.config import VERIFY_PENDING_SHOWN_ACTS
from ledger.core.admin_act import admin_log_of, decode_act
from ledger.core.admin_match import Erasure, Matcher, Matching
from ledger.core.audit import Verdict
from ledger.core.entry import Entry, Kind, decode, decode_seqs
from ledger.core.errors import ConfigInvalid, LedgerError, Malformed
from ledger.core.event import ErasureRecord, decode_payload
from ledger.core.faults import Faults
from ledger.core.heads import Pins
from ledger.core.keys import decode_genesis
from ledger.core.note import MAX_CHECKPOINT_BYTES, TYPE_ED25519, VerifierKey, parse_checkpoint, parse_vkey
from ledger.core.opening import Opening, decode_line, peek_seq, split_lines
from ledger.core.tile import ENTRIES, MAX_BUNDLE_BYTES, TILE_WIDTH, Tile, decode_bundle
from ledger.progress import bar
from ledger.verify.report import ActPending, Admin, MismatchFound, NoteMade, Report
from ledger.verify.walk import verify

_KIND_AT = 49
_ASSERTED = "the administrative log's key was taken from its own bundle: pin it with --admin-vkey"


class AdminBundle(NamedTuple):
    """Where the administrative log's bundle is, and what is known of it; None: its own word is taken."""

    place: str
    vkey: str | None
    log_id: str | None
    witnesses: tuple[VerifierKey, ...] = ()


def match(source: Source, report: Report, other: Source, admin: AdminBundle, processes: int | None = None) -> Admin:
    """Audit the administrative log at `other`, and match the erasures of both logs with its acts, where both are sound.

    `ConfigInvalid` for a bundle without payloads, or of another site's administrative log.
    """
    pins = _pins(other, admin)
    with bar("Verifying acts", "entries") as progress:
        log = verify(other, pins, processes=processes, progress=progress)
    if admin.vkey is None:
        log = msgspec.structs.replace(log, notes=(*log.notes, NoteMade(4, _ASSERTED)))
    if log.origin and report.origin and log.origin != admin_log_of(report.origin):
        raise ConfigInvalid(f"{admin.place} is the log {log.origin}, not {admin_log_of(report.origin)}")
    for name, verdict in ((CHECKPOINT, report.verdict), (admin.place, log.verdict)):
        if verdict == Verdict.LOG_ONLY:
            raise ConfigInvalid(f"--admin needs bundles with their payloads, which {name} lacks: export them")
    if Verdict.FAULT in (report.verdict, log.verdict) or report.size is None or log.size is None:
        return Admin(log)
    matcher = Matcher(log.origin.rpartition("/")[2], log.size)
    own: list[Erasure] = []
    for entry, opening in _opened(other, log.size, (Kind.EVENT, Kind.ERASURE)):
        if entry.kind == Kind.ERASURE:
            own.append(_erasure(log.origin, entry, opening))
        elif opening is None:
            matcher.erased(entry.seq)
        else:
            matcher.act(entry.seq, entry.ms, decode_act(opening.payload))
    for entry, opening in _opened(source, report.size, (Kind.ERASURE,)):
        matcher.erasure(_erasure(report.origin, entry, opening))
    for erasure in own:
        matcher.erasure(erasure)
    return _told(log, matcher.result())


def _told(log: Report, found: Matching) -> Admin:
    site = log.origin.rpartition("/")[2]
    shown = found.pending[:VERIFY_PENDING_SHOWN_ACTS]
    return Admin(
        log,
        found.matched,
        found.events,
        found.mismatch_count,
        tuple(MismatchFound(*each) for each in found.mismatches),
        len(found.pending),
        tuple(ActPending(f"{site}:{each.seq}", each.act, each.ordered or 0, each.erased) for each in shown),
        found.flagged,
    )


def _erasure(origin: str, entry: Entry, opening: Opening | None) -> Erasure:
    if opening is None:
        raise Malformed("the bundle is not what it was when it was verified")
    record = decode_payload(opening.payload, ErasureRecord)
    return Erasure(origin.rpartition("/")[2], entry.seq, entry.ms, tuple(decode_seqs(entry.public)), record)


def _opened(source: Source, size: int, kinds: tuple[Kind, ...]) -> Iterator[tuple[Entry, Opening | None]]:
    """Every entry of these kinds with its opening, in order."""
    with ExitStack() as stack:
        payloads = source.stream(PAYLOADS)
        if payloads is None:
            raise Malformed("the bundle is not what it was when it was verified")
        lines = OpeningLines(stack.enter_context(payloads), Faults())
        for first in range(0, size, TILE_WIDTH):
            width = min(TILE_WIDTH, size - first)
            dealt = lines.take(first, first + width)
            data = source.read(Tile(ENTRIES, first // TILE_WIDTH, width).path, MAX_BUNDLE_BYTES) or b""
            wanted = [decode(each) for each in decode_bundle(data, width) if each[_KIND_AT] in kinds]
            if not wanted:
                continue
            by_seq = {peek_seq(line): line for line in split_lines(dealt)}
            for entry in wanted:
                line = by_seq.get(entry.seq)
                yield entry, None if line is None else decode_line(line)


def _pins(source: Source, admin: AdminBundle) -> Pins:
    """What the auditor brings for the administrative log."""
    try:
        vkey = _asserted(source) if admin.vkey is None else parse_vkey(admin.vkey, TYPE_ED25519)
    except LedgerError as error:
        raise ConfigInvalid(f"--admin-vkey: {error}") from error
    if admin.log_id is not None and (len(admin.log_id) != 64 or set(admin.log_id) - set("0123456789abcdef")):
        raise ConfigInvalid("--admin-log-id is 64 hex digits in lower case")
    return Pins(vkey, None if admin.log_id is None else bytes.fromhex(admin.log_id), None, admin.witnesses)


def _asserted(source: Source) -> VerifierKey:
    """The log key of the bundle's own genesis entry."""
    checkpoint = parse_checkpoint(source.read(CHECKPOINT, MAX_CHECKPOINT_BYTES) or b"")
    width = min(TILE_WIDTH, checkpoint.size)
    data = source.read(Tile(ENTRIES, 0, width).path, MAX_BUNDLE_BYTES) if width else None
    if not data:
        raise Malformed("the bundle has no genesis entry that could tell its key")
    return decode_genesis(decode(decode_bundle(data, width)[0]).public, checkpoint.origin).log
