"""What retention asks of the database. Every question is one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
import msgspec

from ledger import config
from ledger.store.ask import ask

_DAY_MS = 24 * 3600 * 1000

_DUE = """
select b.block, b.block * $3 as low, (b.block + 1) * $3 as high
  from (select coalesce(max(e.seq), 0) / $3 as last from ledger.entry e where e.site_id = $1) l,
       generate_series(0, l.last) b(block)
  left join ledger.retention_block r on r.site_id = $1 and r.block = b.block
 where r.block is null or r.policy_seq < $4 or r.next_ms <= $2
 order by b.block limit $5
"""
_NOW = "select (extract(epoch from statement_timestamp()) * 1000)::bigint as now_ms"
_SIZE = "select coalesce(max(e.seq) + 1, 0) as size from ledger.entry e where e.site_id = $1"
_SUBJECTS = """
select o.visitor, min(o.seq) as first from ledger.opening o
 where o.site_id = $1 and o.seq >= $2 and o.seq < $3 and o.visitor is not null group by o.visitor order by 2
"""
_HAS_EARLIER = """
select v.visitor from unnest($2::bytea[]) v(visitor)
 where exists (select 1 from ledger.opening o where o.site_id = $1 and o.visitor = v.visitor and o.seq < $3)
"""
_KEPT = """
select k.seq, max(k.until_ms) as until_ms from ledger.kept k
 where k.site_id = $1 and k.seq = any ($2::bigint[]) group by k.seq
"""
_PUT_BLOCKS = "select ledger.put_retention_blocks($1, $2, $3, $4)"
_BEGIN = "select ledger.begin_retention_batch($1, $2, $3, $4, $5, $6, $7)"
_END = "select ledger.end_retention_batches($1, $2)"
_REPORT = """
select as_of_ms, act, events, people, counts from ledger.retention_batch
 where site_id = $1 and done order by as_of_ms desc, first_seq
"""
_CLOSING = "select act, evidence, requested_ms, ended_ms from ledger.site_closing where site_id = $1"
_CLOSE = "select ledger.close_site($1, $2, $3, $4)"
_END_CLOSING = "select ledger.end_closing($1)"
_GONE_SINCE = """
select coalesce(sum(events), 0)::bigint as events, count(*) as entries from ledger.retention_batch
 where site_id = $1 and done and as_of_ms >= $2
"""
_LIVING = "select count(*) as events from ledger.opening where site_id = $1 and visitor is not null"
_RESTRICTED = "select count(*) as people from ledger.block where site_id = $1 and state = 'restricted'"
_ORDERED = "select count(*) as orders from ledger.erasure where site_id = $1 and status = 'pending'"
_OLDEST = """
select s.site, min(r.next_ms) as next_ms from ledger.retention_block r join ledger.site s using (site_id)
 where r.next_ms is not null group by s.site
"""


class Block(NamedTuple):
    """Entries from `low` on and below `high`."""

    block: int
    low: int
    high: int


class ClosingRow(NamedTuple):
    """The closing of a site; `evidence` 32 bytes, times in unix milliseconds."""

    act: str
    evidence: bytes
    requested_ms: int
    ended_ms: int | None


class Run(NamedTuple):
    """What one run took. `counts`: by "type purpose month"; `acts`: positions of its administrative acts."""

    as_of_ms: int
    entries: int
    events: int
    people: int
    counts: dict[str, int]
    acts: tuple[str, ...]


async def now(pool: asyncpg.Pool) -> int:
    """The database's clock, unix milliseconds."""
    found: int = (await ask(pool, _NOW))[0][0]
    return found


async def size(pool: asyncpg.Pool, site_id: int) -> int:
    found: int = (await ask(pool, _SIZE, site_id))[0][0]
    return found


async def due_blocks(pool: asyncpg.Pool, site_id: int, now_ms: int, policy_seq: int, limit: int) -> list[Block]:
    """The first blocks in which something may be due, or may have come since."""
    rows = await ask(pool, _DUE, site_id, now_ms, config.RETENTION_BLOCK_SEQS, policy_seq, limit)
    return [Block(*row) for row in rows]


async def subjects(pool: asyncpg.Pool, site_id: int, block: Block) -> list[bytes]:
    """Whose events lie in a block, by the first of them."""
    return [row["visitor"] for row in await ask(pool, _SUBJECTS, site_id, block.low, block.high)]


async def with_earlier(pool: asyncpg.Pool, site_id: int, found: Sequence[bytes], seq: int) -> set[bytes]:
    """Of subjects those that have events below `seq`, too."""
    return {row["visitor"] for row in await ask(pool, _HAS_EARLIER, site_id, found, seq)}


async def kept(pool: asyncpg.Pool, site_id: int, seqs: Sequence[int]) -> dict[int, int]:
    """Of events those that an erasure left, and until when."""
    return {row["seq"]: row["until_ms"] for row in await ask(pool, _KEPT, site_id, seqs)}


async def put_blocks(
    pool: asyncpg.Pool, site_id: int, policy_seq: int, blocks: Sequence[int], next_ms: Sequence[int | None]
) -> None:
    await ask(pool, _PUT_BLOCKS, site_id, policy_seq, blocks, next_ms)


async def begin_batch(
    pool: asyncpg.Pool,
    site_id: int,
    as_of_ms: int,
    first_seq: int,
    act: str,
    events: int,
    people: int,
    counts: dict[str, int],
) -> None:
    text = msgspec.json.encode(counts, order="sorted").decode()
    await ask(pool, _BEGIN, site_id, as_of_ms, first_seq, act, events, people, text)


async def end_batches(pool: asyncpg.Pool, site_id: int, now_ms: int) -> None:
    """Settle what was begun: it was done, or it was not."""
    await ask(pool, _END, site_id, now_ms - config.RETENTION_REPORT_DAYS * _DAY_MS)


async def report(pool: asyncpg.Pool, site_id: int) -> list[Run]:
    """Runs that took something, the newest first."""
    runs: dict[int, Run] = {}
    for as_of_ms, act, events, people, counts in await ask(pool, _REPORT, site_id):
        run = runs.get(as_of_ms, Run(as_of_ms, 0, 0, 0, {}, ()))
        merged = dict(run.counts)
        for name, count in msgspec.json.decode(counts, type=dict[str, int]).items():
            merged[name] = merged.get(name, 0) + count
        runs[as_of_ms] = Run(
            as_of_ms, run.entries + 1, run.events + events, run.people + people, merged, (*run.acts, act)
        )
    return list(runs.values())


async def closing(pool: asyncpg.Pool, site_id: int) -> ClosingRow | None:
    rows = await ask(pool, _CLOSING, site_id)
    return ClosingRow(*rows[0]) if rows else None


async def close(pool: asyncpg.Pool, site_id: int, act: str, evidence: bytes, now_ms: int) -> bool:
    """False if the site is closed already."""
    closed: bool = (await ask(pool, _CLOSE, site_id, act, evidence, now_ms))[0][0]
    return closed


async def end_closing(pool: asyncpg.Pool, site_id: int) -> None:
    await ask(pool, _END_CLOSING, site_id)


async def gone_since(pool: asyncpg.Pool, site_id: int, since_ms: int) -> tuple[int, int]:
    """How many events went since, with how many entries."""
    row = (await ask(pool, _GONE_SINCE, site_id, since_ms))[0]
    return row["events"], row["entries"]


async def living(pool: asyncpg.Pool, site_id: int) -> int:
    """How many events have their opening."""
    events: int = (await ask(pool, _LIVING, site_id))[0][0]
    return events


async def restricted(pool: asyncpg.Pool, site_id: int) -> int:
    """How many people (visitors and accounts) are restricted."""
    people: int = (await ask(pool, _RESTRICTED, site_id))[0][0]
    return people


async def ordered(pool: asyncpg.Pool, site_id: int) -> int:
    """How many orders to erase somebody wait."""
    orders: int = (await ask(pool, _ORDERED, site_id))[0][0]
    return orders


async def oldest(pool: asyncpg.Pool) -> dict[str, int]:
    """By site, when the next block is to be looked at (unix milliseconds)."""
    return {row["site"]: row["next_ms"] for row in await ask(pool, _OLDEST)}
