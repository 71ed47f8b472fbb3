"""What ordering and carrying out erasures ask of the database. Every question is one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from ledger.core.errors import NotFound
from ledger.store.ask import ask


class Job(NamedTuple):
    """An order that waits; times in unix milliseconds."""

    id: UUID
    subject: bytes
    is_account: bool
    level: str
    reason: str
    evidence: bytes
    hold_for: str | None
    requested_ms: int
    due_ms: int


class Waiting(NamedTuple):
    """The orders of a site that wait: how many, when the oldest is due, and the time now (unix milliseconds)."""

    site: str
    orders: int
    due_ms: int
    now_ms: int


class JobRow(NamedTuple):
    """An order as it is told of."""

    id: UUID
    level: str
    reason: str
    status: str
    requested_ms: int
    due_ms: int
    ended_ms: int | None
    evidence: bytes
    act: str
    events: int
    sealed: bytes
    blocked_until_ms: int | None
    awaits: int
    browsers: list[UUID]
    browsers_left: int


_ORDER = "select ledger.order_erasure($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_LIFT = "select ledger.lift_restriction($1, $2)"
# An order that waits for people who are restricted, one of whom is not any more, has something to do.
_WAITING = """
select s.site, count(*) as orders, min(r.due_ms) as due_ms,
       (extract(epoch from statement_timestamp()) * 1000)::bigint as now_ms
  from ledger.erasure r join ledger.site s using (site_id)
 where r.status = 'pending'
   and (cardinality(r.awaits) = 0 or cardinality(r.awaits) >
        (select count(*) from ledger.block b
          where b.site_id = r.site_id and b.subject = any (r.awaits) and b.state = 'restricted'))
 group by s.site order by s.site
"""
_JOBS = """
select r.id, r.subject, r.is_account, r.level, r.reason, r.evidence, r.hold_for, r.requested_ms, r.due_ms
  from ledger.erasure r where r.site_id = $1 and r.status = 'pending'
   and (cardinality(r.awaits) = 0 or cardinality(r.awaits) >
        (select count(*) from ledger.block b
          where b.site_id = r.site_id and b.subject = any (r.awaits) and b.state = 'restricted'))
 order by r.level <> 'hold', r.due_ms, r.id limit $2
"""
_JOB = """
select r.id, r.level, r.reason, r.status, r.requested_ms, r.due_ms, r.ended_ms, r.evidence, r.act, r.events, r.sealed,
       b.until_ms as blocked_until_ms, cardinality(r.awaits) as awaits,
       array(select o.id from ledger.erasure o
              where o.site_id = r.site_id and o.account_order = r.id order by o.id) as browsers, r.browsers_left
  from ledger.erasure r
  left join ledger.block b on b.site_id = r.site_id and b.subject = r.subject and b.state = 'erased'
 where r.site_id = $1 and r.id = $2
"""
_ENTRIES = """
select j.seq, j.events, ledger.entry_ms(e.entry) as ms
  from ledger.erasure_entry j join ledger.entry e on e.site_id = j.site_id and e.seq = j.seq
 where j.site_id = $1 and j.erasure = $2 order by j.seq
"""
_KEPT = "select seq, until_ms, purposes from ledger.kept where site_id = $1 and erasure = $2 order by seq"
# Of the person, whichever order left it: by its orders, as long as anything is left of it, and by this one for ever.
_MARKS = """
with mine as (
    select o.id, o.subject from ledger.erasure r join ledger.erasure o using (site_id, subject)
     where r.site_id = $1 and r.id = $2
)
select m.purpose, max(m.until_ms) as until_ms from ledger.mark m
 where m.site_id = $1 and (m.erasure = $2 or m.erasure = any (array(select id from mine))
       or m.subject = any (array(select subject from mine)))
 group by m.purpose order by m.purpose
"""
_HELD = """
select count(*) as count, max(h.until_ms) as until_ms from ledger.held h
 where h.site_id = $1 and (h.erasure = $2 or h.whose && array(
        select r.subject from ledger.erasure r where r.site_id = $1 and r.id = $2 and r.subject is not null))
"""
_HELD_ROWS = """
select h.seq, h.sealed, e.entry from ledger.held h join ledger.entry e on e.site_id = h.site_id and e.seq = h.seq
 where h.site_id = $1 and (h.erasure = $2 or h.whose && array(
        select r.subject from ledger.erasure r where r.site_id = $1 and r.id = $2 and r.subject is not null))
 order by h.seq
"""
_RELEASE = "select ledger.release_held($1, $2)"
_RELATED = "select other from ledger.related where site_id = $1 and subject = $2 order by other"
_SIZE = "select coalesce(max(e.seq) + 1, 0) from ledger.entry e where e.site_id = $1"
_HASTEN = """
select ledger.hasten_erasures(s.site_id) from ledger.site s
 where s.site = $1 and exists (select 1 from ledger.erasure r where r.site_id = s.site_id and r.status = 'pending')
"""
_AWAIT = "select ledger.await_unrestricted($1, $2, $3)"
_END = "select ledger.end_erasures($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
_SWEEP = "select ledger.sweep_erasures($1, $2)"


async def order(
    pool: asyncpg.Pool,
    site_id: int,
    erasure: UUID,
    subject: bytes,
    named: bytes,
    is_account: bool,
    level: str,
    reason: str,
    sealed: bytes,
    evidence: bytes,
    hold_for: str | None,
    act: str,
    wait_ms: int,
    account_order: UUID | None,
    browsers: Sequence[bytes] | None,
) -> str:
    """What `ledger.order_erasure` says: ordered, known, taken, blocked or browsers."""
    about = (subject, named, is_account, level, reason, sealed, evidence, hold_for, act, wait_ms)
    outcome: str = (await ask(pool, _ORDER, site_id, erasure, *about, account_order, browsers))[0][0]
    return outcome


async def lift(pool: asyncpg.Pool, site_id: int, erasure: UUID) -> bool:
    """Whether there was a restriction to end."""
    done: bool = (await ask(pool, _LIFT, site_id, erasure))[0][0]
    return done


async def waiting(pool: asyncpg.Pool) -> list[Waiting]:
    """Of each site that has orders that wait."""
    return [Waiting(*row) for row in await ask(pool, _WAITING)]


async def jobs(pool: asyncpg.Pool, site_id: int, limit: int) -> list[Job]:
    """The orders that wait: those to hold proof first (nobody could hold it later), then those that are due first."""
    return [Job(*row) for row in await ask(pool, _JOBS, site_id, limit)]


async def job(pool: asyncpg.Pool, site_id: int, erasure: UUID) -> JobRow:
    found = await find_job(pool, site_id, erasure)
    if found is None:
        raise NotFound("The site has no erasure of this id.")
    return found


async def find_job(pool: asyncpg.Pool, site_id: int, erasure: UUID) -> JobRow | None:
    """None where there is none of this id."""
    rows = await ask(pool, _JOB, site_id, erasure)
    return JobRow(*rows[0]) if rows else None


async def entries(pool: asyncpg.Pool, site_id: int, erasure: UUID) -> list[asyncpg.Record]:
    """seq, events, ms of each erasure entry."""
    return await ask(pool, _ENTRIES, site_id, erasure)


async def kept(pool: asyncpg.Pool, site_id: int, erasure: UUID) -> list[asyncpg.Record]:
    """seq, until_ms, purposes of each event that stays."""
    return await ask(pool, _KEPT, site_id, erasure)


async def marks(pool: asyncpg.Pool, site_id: int, erasure: UUID) -> list[asyncpg.Record]:
    """purpose, until_ms."""
    return await ask(pool, _MARKS, site_id, erasure)


async def held(pool: asyncpg.Pool, site_id: int, erasure: UUID) -> asyncpg.Record:
    """How many openings are held, and until when."""
    return (await ask(pool, _HELD, site_id, erasure))[0]


async def held_rows(pool: asyncpg.Pool, site_id: int, erasure: UUID) -> list[asyncpg.Record]:
    """seq, sealed, entry of each opening that is held."""
    return await ask(pool, _HELD_ROWS, site_id, erasure)


async def release(pool: asyncpg.Pool, site_id: int, seqs: Sequence[int]) -> int:
    """Destroy what is held of these events, with the keys; how many there were."""
    gone: int = (await ask(pool, _RELEASE, site_id, seqs))[0][0]
    return gone


async def related(pool: asyncpg.Pool, site_id: int, subject: bytes) -> list[bytes]:
    """The accounts that a visitor ever had to do with, or the visitors of an account."""
    return [row["other"] for row in await ask(pool, _RELATED, site_id, subject)]


async def size(pool: asyncpg.Pool, site_id: int) -> int:
    found: int = (await ask(pool, _SIZE, site_id))[0][0]
    return found


async def end(pool: asyncpg.Pool, site_id: int, columns: Sequence[Sequence[object]], block_ms: int) -> None:
    """`columns`: what `ledger.end_erasures` takes of marks, kept events and orders."""
    await ask(pool, _END, site_id, *columns, block_ms)


async def wait_for(pool: asyncpg.Pool, site_id: int, erasure: UUID, awaits: Sequence[bytes]) -> None:
    """Let an order wait until one of these subjects is not restricted any more."""
    await ask(pool, _AWAIT, site_id, erasure, awaits)


async def hasten(pool: asyncpg.Pool, site: str) -> int:
    """Let the orders of a site wait no longer; how many there are."""
    rows = await ask(pool, _HASTEN, site)
    return rows[0][0] if rows else 0


async def late_orders(pool: asyncpg.Pool) -> dict[str, tuple[int, float]]:
    """Of each site with orders that wait: how many, and for how long the oldest has been due (seconds)."""
    found = await waiting(pool)
    return {one.site: (one.orders, max(0, one.now_ms - one.due_ms) / 1000) for one in found}


async def sweep(pool: asyncpg.Pool, site_id: int, limit: int) -> int:
    """How many rows went whose time was over."""
    gone: int = (await ask(pool, _SWEEP, site_id, limit))[0][0]
    return gone
