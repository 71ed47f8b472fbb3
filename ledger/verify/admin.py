"""`verify --admin`: a site's administrative log, audited like its log, and every erasure matched with its act.

Both bundles are read once more after they were found sound. What matches is core/admin_match.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import msgspec

from ledger.bundle import PAYLOADS, OpeningLines, Source
from ledger.config import VERIFY_PENDING_SHOWN_ACTS
from ledger.core.admin_act import admin_log_of, decode_act
from ledger.core.admin_match import Erasure, Matcher, Matching
from ledger.core.audit import Verdict
from ledger.core.entry import Entry, Kind, decode, decode_seqs
from ledger.core.errors import ConfigInvalid, Malformed
from ledger.core.event import ErasureRecord, decode_payload
from ledger.core.faults import Faults
from ledger.core.heads import Pins
from ledger.core.merkle import HASH_BYTES, leaf_hash
from ledger.core.opening import Opening, decode_line, peek_seq, split_lines
from ledger.core.tile import ENTRIES, MAX_BUNDLE_BYTES, TILE_WIDTH, Tile, decode_bundle
from ledger.progress import bar
from ledger.verify.report import ActPending, Admin, MismatchFound, Report
from ledger.verify.walk import verify

_KIND_AT = 49


class AdminBundle(NamedTuple):
    """Where the administrative log's bundle is, and what the auditor brings of it. Its key need not be: the site's log
    names the acts on which its erasures rest by their hashes, and so fixes the log that they are in."""

    place: str
    pins: Pins


def match(source: Source, report: Report, other: Source, admin: AdminBundle, processes: int | None = None) -> Admin:
    """Audit the administrative log at `other`, and match the erasures of both logs with its acts, where both are sound.

    `ConfigInvalid` for a bundle without payloads, or of another site's administrative log.
    """
    with bar("Verifying acts", "entries") as progress:
        log = verify(other, admin.pins, processes=processes, progress=progress)
    if log.origin and report.origin and log.origin != admin_log_of(report.origin):
        raise ConfigInvalid(f"{admin.place} is the log {log.origin}, not {admin_log_of(report.origin)}")
    for name, verdict in (("the bundle of the site", report.verdict), (admin.place, log.verdict)):
        if verdict == Verdict.LOG_ONLY:
            raise ConfigInvalid(f"--admin needs bundles with their payloads, which {name} lacks: export them")
    if Verdict.FAULT in (report.verdict, log.verdict) or report.size is None or log.size is None:
        return Admin(log)
    matcher = Matcher(log.origin.rpartition("/")[2], log.size)
    own: list[Erasure] = []
    for entry, leaf, opening in _opened(other, log.size, (Kind.EVENT, Kind.ERASURE)):
        if entry.kind == Kind.ERASURE:
            own.append(_erasure(log.origin, entry, opening))
        elif opening is None:
            matcher.erased(entry.seq)
        else:
            matcher.act(entry.seq, leaf, decode_act(opening.payload))
    for entry, _, opening in _opened(source, report.size, (Kind.ERASURE, Kind.POLICY)):
        if entry.kind == Kind.POLICY:
            matcher.policy(entry.public[:HASH_BYTES])
        else:
            matcher.erasure(_erasure(report.origin, entry, opening))
    for erasure in own:
        matcher.erasure(erasure)
    return _told(log, matcher.result())


def _told(log: Report, found: Matching) -> Admin:
    site = log.origin.rpartition("/")[2]
    if found.bound and log.root_key == "asserted":
        log = msgspec.structs.replace(log, root_key="bound", notes=tuple(note for note in log.notes if note.rule != 4))
    return Admin(
        log,
        found.matched,
        found.events,
        found.by_retention,
        found.bound,
        found.mismatch_count,
        tuple(MismatchFound(*each) for each in found.mismatches),
        len(found.pending),
        tuple(
            ActPending(f"{site}:{each.seq}", each.act, each.events or 0)
            for each in found.pending[:VERIFY_PENDING_SHOWN_ACTS]
        ),
        found.flagged,
        found.nothing_found,
    )


def _erasure(origin: str, entry: Entry, opening: Opening | None) -> Erasure:
    if opening is None:
        raise Malformed("the bundle is not what it was when it was verified")
    record = decode_payload(opening.payload, ErasureRecord)
    return Erasure(origin.rpartition("/")[2], entry.seq, tuple(decode_seqs(entry.public)), record)


def _opened(source: Source, size: int, kinds: tuple[Kind, ...]) -> Iterator[tuple[Entry, bytes, Opening | None]]:
    """Every entry of these kinds with its leaf hash and its opening, in order."""
    with ExitStack() as stack:
        payloads = source.stream(PAYLOADS)
        if payloads is None:
            raise Malformed("the bundle is not what it was when it was verified")
        lines = OpeningLines(stack.enter_context(payloads), Faults())
        for first in range(0, size, TILE_WIDTH):
            width = min(TILE_WIDTH, size - first)
            dealt = lines.take(first, first + width)
            data = source.read(Tile(ENTRIES, first // TILE_WIDTH, width).path, MAX_BUNDLE_BYTES) or b""
            wanted = [each for each in decode_bundle(data, width) if each[_KIND_AT] in kinds]
            if not wanted:
                continue
            by_seq = {peek_seq(line): line for line in split_lines(dealt)}
            for each in wanted:
                entry = decode(each)
                line = by_seq.get(entry.seq)
                yield entry, leaf_hash(each), None if line is None else decode_line(line)
