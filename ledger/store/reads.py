"""What the service asks of visitors, their events and receipts. Every question is one statement, so its answer is one
moment of the log. What it asks of sites is store/sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from ledger.core.errors import NotFound
from ledger.core.question import Mark
from ledger.store.sites import SiteReads


class EventRow(NamedTuple):
    """An event that has its opening, sealed as it is stored, with its entry's bytes."""

    seq: int
    entry: bytes
    sealed: bytes


def event_rows(row: asyncpg.Record) -> list[EventRow]:
    """The events that a row holds as the arrays `seqs`, `entries` and `sealed`; null: none."""
    if row["seqs"] is None:
        return []
    return [EventRow(*event) for event in zip(row["seqs"], row["entries"], row["sealed"], strict=True)]


class Block(NamedTuple):
    """That nothing on record of a subject may be used (pending, restricted), or nothing is on record any more (erased);
    unix milliseconds, `until_ms` None while it is not known when it ends."""

    state: str
    since_ms: int
    until_ms: int | None


class VisitorRows(NamedTuple):
    """A visitor at one moment: the projection's row (None if there is none) and the events it does not hold yet; the
    marks that outlived erased denials, and the block, if there are any."""

    size: int
    policy_seq: int
    now_ms: int
    state: bytes | None
    events: list[EventRow]
    marks: tuple[Mark, ...] = ()
    block: Block | None = None


class ReceiptRow(NamedTuple):
    """An entry with its opening, sealed as it is stored; that and content are None once erased."""

    seq: int
    entry: bytes
    sealed: bytes | None
    content: bytes | None


class ApiKeyRow(NamedTuple):
    site_id: int
    key_class: str
    scopes: list[str]
    label: str


_PUT_DOCUMENT = "select ledger.put_document($1, $2)"

# The row of the living projection and what came after it. A visitor without a row is folded from all events.
# `offset 0` keeps the row a look-up by the whole key: joined, a planner without statistics reads every visitor's row.
_VISITORS = """
with live as materialized (
    select p.version from ledger.projection p where p.site_id = $1 and p.live
), head as materialized (
    select coalesce((select max(e.seq) + 1 from ledger.entry e where e.site_id = $1), 0) as size,
           coalesce((select max(p.seq) from ledger.policy p where p.site_id = $1), -1) as policy_seq,
           (extract(epoch from statement_timestamp()) * 1000)::bigint as now_ms
)
select h.size, h.policy_seq, h.now_ms, v.i, t.body as state, r.seqs, r.entries, r.sealed,
       m.purposes, m.sets, m.untils, m.mark_seqs, b.state as block, b.since_ms, b.until_ms
  from head h, unnest($2::bytea[]) with ordinality v(visitor, i)
  left join lateral (
      select s.seq, s.body from ledger.state s
       where s.site_id = $1 and s.version = (select version from live) and s.visitor = v.visitor offset 0
  ) t on true
  left join lateral (
      select array_agg(o.seq order by o.seq) as seqs, array_agg(e.entry order by o.seq) as entries,
             array_agg(o.sealed order by o.seq) as sealed
        from ledger.opening o join ledger.entry e on e.site_id = o.site_id and e.seq = o.seq
       where o.site_id = $1 and o.visitor = v.visitor and o.seq > coalesce(t.seq, -1)
  ) r on true
  left join lateral (
      select array_agg(k.purpose) as purposes, array_agg(k.set_ms) as sets, array_agg(k.until_ms) as untils,
             array_agg(k.seq) as mark_seqs
        from ledger.mark k where k.site_id = $1 and k.subject = v.visitor and k.until_ms > h.now_ms
  ) m on true
  left join lateral (
      select k.state, k.since_ms, k.until_ms from ledger.block k
       where k.site_id = $1 and k.subject = v.visitor and (k.until_ms is null or k.until_ms > h.now_ms) offset 0
  ) b on true
 order by v.i
"""

_BLOCKS = """
select b.subject, b.state, b.since_ms, b.until_ms from ledger.block b
 where b.site_id = $1 and b.subject = any ($2::bytea[])
   and (b.until_ms is null or b.until_ms > (extract(epoch from statement_timestamp()) * 1000)::bigint)
"""

_MARKS = """
select m.subject, m.purpose, m.set_ms, m.until_ms, m.seq from ledger.mark m
 where m.site_id = $1 and m.subject = any ($2::bytea[])
   and m.until_ms > (extract(epoch from statement_timestamp()) * 1000)::bigint
"""

_HISTORY = """
select o.seq, e.entry, o.sealed
  from ledger.opening o join ledger.entry e on e.site_id = o.site_id and e.seq = o.seq
 where o.site_id = $1 and o.visitor = $2 and o.seq > $3 order by o.seq limit $4
"""

# A page of each of many: its events after a seq of its own, up to one seq for all.
_HISTORIES = """
select r.seqs, r.entries, r.sealed
  from unnest($2::bytea[], $3::bigint[]) with ordinality v(visitor, after, i)
  left join lateral (
      select array_agg(p.seq order by p.seq) as seqs, array_agg(p.entry order by p.seq) as entries,
             array_agg(p.sealed order by p.seq) as sealed
        from (select o.seq, e.entry, o.sealed
                from ledger.opening o join ledger.entry e on e.site_id = o.site_id and e.seq = o.seq
               where o.site_id = $1 and o.visitor = v.visitor and o.seq > v.after and o.seq <= $4
               order by o.seq limit $5) p
  ) r on true
 order by v.i
"""

_EVENTS_AT = """
select o.seq, e.entry, o.sealed
  from unnest($2::bigint[]) a(seq)
  join ledger.opening o on o.site_id = $1 and o.seq = a.seq and o.visitor is not null
  join ledger.entry e on e.site_id = $1 and e.seq = a.seq
 order by o.seq
"""

_RECEIPT = """
select e.seq, e.entry, o.sealed, o.content
  from ledger.known k
  join ledger.entry e on e.site_id = k.site_id and e.seq = k.seq
  left join ledger.opening o on o.site_id = k.site_id and o.seq = k.seq
 where k.site_id = $1 and k.key = $2
"""

_RECEIPT_AT = """
select e.seq, e.entry, o.sealed, o.content
  from ledger.entry e left join ledger.opening o on o.site_id = e.site_id and o.seq = e.seq
 where e.site_id = $1 and e.seq = $2
"""

_DOCUMENT = "select media_type, body from ledger.document where hash = $1"

_API_KEY = "select site_id, class, scopes, label from ledger.api_key where key_hash = $1 and revoked_at is null"

_SETTLE = "select ledger.settle($1)"

# Time never decreases along the log, so the first entry at or after a time is found by bisection on the primary key.
_SEQ_BEFORE = """
with recursive bounds(low, high, size) as (
    select 0::bigint, h.size, h.size
      from (select coalesce(max(e.seq) + 1, 0) as size from ledger.entry e where e.site_id = $1) h
    union all
    select case when ledger.entry_ms(e.entry) < $2 then e.seq + 1 else b.low end,
           case when ledger.entry_ms(e.entry) < $2 then b.high else e.seq end,
           b.size
      from bounds b join ledger.entry e on e.site_id = $1 and e.seq = (b.low + b.high) / 2
     where b.low < b.high
)
select low - 1 as seq, low = size as is_last from bounds where low = high
"""


def _marks(row: asyncpg.Record) -> tuple[Mark, ...]:
    if row["purposes"] is None:
        return ()
    return tuple(map(Mark, row["purposes"], row["sets"], row["untils"], row["mark_seqs"]))


class Reads(SiteReads):
    """Questions of the service, over a pool of connections; `Unavailable` if they get no answer."""

    async def put_document(self, media_type: str, body: bytes) -> bytes:
        """Store a document, if it is not there yet; its SHA-256."""
        digest: bytes = await self._fetchval(_PUT_DOCUMENT, media_type, body)
        return digest

    async def ping(self) -> None:
        await self._fetch("select 1")

    async def visitors(self, site_id: int, visitors: Sequence[bytes]) -> list[VisitorRows]:
        """Each visitor (keyed hash), in the order asked, all at one moment."""
        return [
            VisitorRows(
                row["size"],
                row["policy_seq"],
                row["now_ms"],
                row["state"],
                event_rows(row),
                _marks(row),
                None if row["block"] is None else Block(row["block"], row["since_ms"], row["until_ms"]),
            )
            for row in await self._fetch(_VISITORS, site_id, visitors)
        ]

    async def blocks(self, site_id: int, subjects: Sequence[bytes]) -> dict[bytes, Block]:
        """Of subjects (keyed hashes) those that are blocked."""
        rows = await self._fetch(_BLOCKS, site_id, subjects)
        return {row["subject"]: Block(row["state"], row["since_ms"], row["until_ms"]) for row in rows}

    async def marks(self, site_id: int, subjects: Sequence[bytes]) -> dict[bytes, tuple[Mark, ...]]:
        """Of subjects (keyed hashes) those that have marks, with these."""
        found: dict[bytes, tuple[Mark, ...]] = {}
        for row in await self._fetch(_MARKS, site_id, subjects):
            mark = Mark(row["purpose"], row["set_ms"], row["until_ms"], row["seq"])
            found[row["subject"]] = (*found.get(row["subject"], ()), mark)
        return found

    async def history(self, site_id: int, visitor: bytes, after: int, limit: int) -> list[EventRow]:
        return [EventRow(*row) for row in await self._fetch(_HISTORY, site_id, visitor, after, limit)]

    async def histories(
        self, site_id: int, visitors: Sequence[bytes], after: Sequence[int], upto: int, limit: int
    ) -> list[list[EventRow]]:
        """Of each visitor (keyed hash) a page of its events after a seq, up to and including `upto`."""
        found = await self._fetch(_HISTORIES, site_id, visitors, after, upto, limit)
        return [event_rows(row) for row in found]

    async def events_at(self, site_id: int, seqs: Sequence[int]) -> list[EventRow]:
        """Those of the entries that are events which still have their opening."""
        return [EventRow(*row) for row in await self._fetch(_EVENTS_AT, site_id, seqs)]

    async def receipt(self, site_id: int, key: bytes) -> ReceiptRow | None:
        """By the keyed hash of the event id."""
        row = await self._fetchrow(_RECEIPT, site_id, key)
        return None if row is None else ReceiptRow(*row)

    async def receipt_at(self, site_id: int, seq: int) -> ReceiptRow:
        row = await self._fetchrow(_RECEIPT_AT, site_id, seq)
        if row is None:
            raise NotFound(f"the log has no entry {seq}")
        return ReceiptRow(*row)

    async def document(self, document_hash: bytes) -> tuple[str, bytes] | None:
        row = await self._fetchrow(_DOCUMENT, document_hash)
        return None if row is None else (row["media_type"], row["body"])

    async def api_key(self, key_hash: bytes) -> ApiKeyRow | None:
        row = await self._fetchrow(_API_KEY, key_hash)
        return None if row is None else ApiKeyRow(*row)

    async def last_seq_before(self, site_id: int, ms: int) -> int:
        """The last seq recorded before a past millisecond, -1 if there is none (for `knownAt`).

        Where that is the last entry of all, another one before `ms` may be under way, which the same question would
        find a moment later.
        """
        row = await self._fetchrow(_SEQ_BEFORE, site_id, ms)
        if row is not None and row["is_last"]:
            await self._fetch(_SETTLE, site_id)
            row = await self._fetchrow(_SEQ_BEFORE, site_id, ms)
        return -1 if row is None else row["seq"]  # None: an entry is missing, and nothing can be said
