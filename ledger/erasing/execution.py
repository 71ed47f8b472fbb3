"""The erasing transaction: openings go, the erasure entry comes, and what outlives it is written, all or nothing.

What is to go, and what outlives it, is decided before (core/erasing, core/retention); that the act was recorded too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger import config
from ledger.core.duration import Duration, parse_duration
from ledger.core.encoding import encode_time
from ledger.core.entry import Kind, commitment, encode_seqs
from ledger.core.erasing import MarkOf, plan
from ledger.core.errors import Unavailable
from ledger.core.event import ErasureRecord, encode_payload
from ledger.core.fold import Recorded
from ledger.erasing.messages import Reason
from ledger.secrets import new_salt
from ledger.sequencer import Sequencer
from ledger.site import Site, recorded
from ledger.store.append import Appended, ControlDraft, Outcome
from ledger.store.erase import Effects, MarkRow
from ledger.store.reads import Reads

BLOCK_MS = config.ERASURE_BLOCK_SECONDS * 1000


class Record(NamedTuple):
    """What the record of an erasure entry says: why, since when, by which evidence (64 hex digits), and under which act
    (administration.named of the one that was recorded first)."""

    reason: Reason
    requested_ms: int
    evidence: str
    act: str


class Unchanged(NamedTuple):
    """The condition of an erasure: under none of `subjects` anything was recorded at `size` or after, and none of
    `whose` is restricted, or to be erased."""

    subjects: Sequence[bytes]
    size: int
    whose: Sequence[bytes] = ()


async def erase_seqs(
    site: Site,
    seqs: Sequence[int],
    *,
    reason: Reason,
    evidence: str,
    act: str,
    requested_ms: int,
    marks: Sequence[MarkOf] | None = None,
    unchanged: Unchanged | None = None,
) -> int | None:
    """Append one erasure entry for 1 to 4,096 living events (ascending seqs), by the site's sequencer; its seq.

    `evidence` (64 hex digits) and `act` (administration.named of the one that was recorded first) go into the
    record. `marks` None: one for every denial that goes. The result is None, and nothing is done, where one of the
    events is gone already, or a subject that was to be unchanged is not: gather again. Raises `Unavailable`.
    """
    sequencer = sequencer_of(site)
    events = [recorded(site.vault, row) for row in await Reads(sequencer.pool).events_at(site.site_id, seqs)]
    if len(events) < len(seqs):
        return None
    if marks is None:
        marks = marks_for(site, events)
    effects = Effects(
        subjects=() if unchanged is None else unchanged.subjects,
        upto=0 if unchanged is None else unchanged.size,
        whose=() if unchanged is None else unchanged.whose,
        keys=[site.hasher.event_id(one.event.id) for one in events],
        marks=[
            MarkRow(subject, mark.purpose, mark.set_ms, mark.until_ms or 0, mark.seq, None) for subject, mark in marks
        ],
        block_ms=BLOCK_MS,
    )
    appended = await append_erasure(site, seqs, Record(reason, requested_ms, evidence, act), effects)
    return None if appended.outcome == Outcome.OVERTAKEN else appended.seq


async def append_erasure(site: Site, seqs: Sequence[int], record: Record, effects: Effects) -> Appended:
    """Append the erasure entry of these events (ascending seqs), with all that outlives them."""
    sequencer = sequencer_of(site)
    payload = encode_payload(
        ErasureRecord(
            site=site.site,
            reason=record.reason,
            requested_at=encode_time(record.requested_ms),
            evidence=record.evidence,
            instruction=record.act,
        )
    )
    salt = new_salt()
    commit, public = commitment(salt, payload), encode_seqs(list(seqs))
    signer = sequencer.signer
    draft = ControlDraft(
        Kind.ERASURE,
        commit,
        signer.key_hash,
        signer.sign(Kind.ERASURE, commit, public),
        public,
        site.vault.seal_record(commit, salt, payload),
        effects,
    )
    return await sequencer.submit_control(draft)


def marks_for(site: Site, events: Sequence[Recorded]) -> tuple[MarkOf, ...]:
    """A mark for every denial of these events, for nobody knows here what else is left."""
    by_subject: dict[bytes, list[Recorded]] = {}
    for one in events:
        by_subject.setdefault(site.hasher.subject(one.event), []).append(one)
    now_ms = max((one.recorded_ms for one in events), default=0)
    term = suppress_for(site, now_ms)
    found = plan(
        by_subject, site.policies, whole=(), beside={}, above={}, now_ms=now_ms, last_seq=events[-1].seq, term=term
    )
    return found.marks


def suppress_for(site: Site, now_ms: int) -> Duration:
    """How long marks stand, by the policy in force."""
    in_force = site.policies.in_force(now_ms)
    found = None if in_force is None else in_force.document.suppress_for
    if found is None:
        found = parse_duration(config.SUPPRESS_FOR)
    assert found is not None
    return found


def sequencer_of(site: Site) -> Sequencer:
    """The appending side of a site; `Unavailable` where this process has none."""
    if site.sequencer is None:
        raise Unavailable("no-signer", "This server holds no ingest key of the site, so it cannot erase.", 30)
    return site.sequencer
