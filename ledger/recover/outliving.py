"""What outlives an erasure, made again while the erasure is put back: marks for the denials that go, and blocks.

Only of events that the older copy of the database still holds: of what was recorded and erased after it, nobody knows
any more what it said.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from ledger import config
from ledger.core.decide import Recorded
from ledger.core.duration import parse_duration
from ledger.core.entry import Kind, decode, decode_seqs
from ledger.core.erasing import plan
from ledger.core.errors import DocumentInvalid
from ledger.core.event import ErasureRecord, decode_payload
from ledger.core.policy import PolicyHistory
from ledger.core.tail import TailEntry
from ledger.secrets import SiteHasher
from ledger.site import published, recorded
from ledger.store.reads import EventRow
from ledger.store.sites import PolicyRow
from ledger.vault import Vault

_EVENTS = """
select o.seq, e.entry, o.sealed
  from ledger.opening o join ledger.entry e on e.site_id = o.site_id and e.seq = o.seq
 where o.site_id = $1 and o.seq = any ($2::bigint[]) and o.visitor is not null order by o.seq
"""
_POLICIES = """
select p.seq, e.entry, p.document, d.body
  from ledger.policy p join ledger.entry e on e.site_id = p.site_id and e.seq = p.seq
  join ledger.document d on d.hash = p.document
 where p.site_id = $1 order by p.seq
"""
_MARK = """
insert into ledger.mark as m (site_id, subject, purpose, set_ms, until_ms, seq) values ($1, $2, $3, $4, $5, $6)
    on conflict (site_id, subject, purpose) do update
       set set_ms = greatest(m.set_ms, excluded.set_ms), until_ms = greatest(m.until_ms, excluded.until_ms),
           seq = case when excluded.set_ms >= m.set_ms then excluded.seq else m.seq end
"""
_BLOCK = """
insert into ledger.block (site_id, subject, state, since_ms, until_ms, erasure)
select $1, $2, 'erased', $3, $4, gen_random_uuid()
 where not exists (select 1 from ledger.opening o
                    where o.site_id = $1 and o.visitor = $2 and o.seq <> all ($5::bigint[]))
    on conflict (site_id, subject) do update
       set state = 'erased', since_ms = excluded.since_ms, until_ms = excluded.until_ms
"""
_FADING = "insert into ledger.fading (site_id, key, until_ms) values ($1, $2, $3) on conflict do nothing"


async def outlive(connection: asyncpg.Connection, site_id: int, vault: Vault, entries: Sequence[TailEntry]) -> int:
    """Before the erasures among these entries are put back, keep what is to outlive them; how many denials were."""
    hasher, kept = SiteHasher(vault.hasher_key), 0
    term = parse_duration(config.SUPPRESS_FOR)
    assert term is not None
    for each in entries:
        if each.kind != Kind.ERASURE or each.payload is None:
            continue
        entry = decode(each.entry)
        seqs = decode_seqs(entry.public)
        events = [recorded(vault, EventRow(*row)) for row in await connection.fetch(_EVENTS, site_id, seqs)]
        if not events:
            continue
        by_subject: dict[bytes, list[Recorded]] = {}
        for one in events:
            by_subject.setdefault(hasher.subject(one.event), []).append(one)
        policies = await _policies(connection, site_id)
        in_force = policies.in_force(entry.ms)
        found = plan(
            by_subject,
            policies,
            whole=(),
            beside={},
            above={},
            now_ms=entry.ms,
            last_seq=entry.seq - 1,
            term=term if in_force is None else in_force.document.suppress_for or term,
        )
        for subject, mark in found.marks:
            await connection.execute(_MARK, site_id, subject, mark.purpose, mark.set_ms, mark.until_ms, mark.seq)
        until_ms = entry.ms + config.ERASURE_BLOCK_SECONDS * 1000
        if decode_payload(each.payload, ErasureRecord).reason != "retention":
            for subject in by_subject:
                await connection.execute(_BLOCK, site_id, subject, entry.ms, until_ms, seqs)
        for one in events:
            await connection.execute(_FADING, site_id, hasher.event_id(one.event.id), until_ms)
        kept += len(found.marks)
    return kept


async def _policies(connection: asyncpg.Connection, site_id: int) -> PolicyHistory:
    """They only say for how long marks stand: without them it is as long as where a document says nothing of it."""
    try:
        return PolicyHistory(tuple(published(PolicyRow(*row)) for row in await connection.fetch(_POLICIES, site_id)))
    except DocumentInvalid:
        return PolicyHistory()
