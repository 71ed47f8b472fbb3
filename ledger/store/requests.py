"""The rows of the register of requests: how a request stands, and the steps that led there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from ledger.core.subject_request import Dates, Kind, Party, Reason, State, Step, Taken
from ledger.store.ask import ask

_ONE = "select * from ledger.request_at($1, $2)"
_STEPS = """
select s.n, s.step, s.state, s.party, (extract(epoch from s.taken_at) * 1000)::bigint, s.act, s.reason
  from ledger.request_step s where s.site_id = $1 and s.id = $2 order by s.n
"""
_PAGE = """
select q.* from ledger.request r, ledger.request_at(r.site_id, r.id) q
 where r.site_id = $1 and ($2::text is null or r.state = $2) and ($3::text is null or r.kind = $3)
   and (not $4 or (r.closed_at is null and r.due_at < clock_timestamp()))
   and ($5::bigint is null or (r.received_at, r.id) < (to_timestamp($5 / 1000.0), $6::uuid))
 order by r.received_at desc, r.id desc limit $7
"""
_REGISTER = """
select outcome, other::text
  from ledger.register_request($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""
_OPEN = """
select r.id::text from ledger.request r
 where r.site_id = $1 and r.closed_at is null and r.subject = $2 and r.kind = $3 limit 1
"""
_WAITING = "select count(*) from ledger.request r where r.site_id = $1 and r.closed_at is null"
_PROVE = "select ledger.prove_request($1, $2, $3, $4)"
_ADVANCE = "select ledger.advance_request($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_UNTOLD = """
select q.* from ledger.request r, ledger.request_at(r.site_id, r.id) q
 where r.site_id = $1 and r.state = 'forwarded' and r.told_at is null order by r.received_at limit $2
"""
_PROVEN = """
select q.* from ledger.request r, ledger.request_at(r.site_id, r.id) q
 where r.site_id = $1 and r.closed_at is null and r.state = 'proven' order by r.due_at limit $2
"""
_ORDERED = """
select q.* from ledger.request r, ledger.request_at(r.site_id, r.id) q
 where r.site_id = $1 and r.closed_at is null and r.state = 'instructed' and r.kind = 'erasure'
 order by r.due_at limit $2
"""
_TOLD = "select ledger.request_told($1, $2)"
_FORGET = "select ledger.forget_requests($1, $2, $3)"
_FIGURES = """
select r.site_id, r.state, count(*)::integer, count(*) filter (where r.due_at < clock_timestamp())::integer,
       coalesce(extract(epoch from clock_timestamp() - min(r.due_at))::float8, 0)
  from ledger.request r where r.closed_at is null group by r.site_id, r.state
"""


class RequestRow(NamedTuple):
    """A request as it stands. `subject`, `details` and `instruction` are None once the person was forgotten."""

    id: str
    kind: Kind
    state: State
    steps: int
    subject: bytes | None
    details: bytes | None
    instruction: bytes | None
    evidence: bytes
    received_ms: int
    due_ms: int
    extended_from_ms: int | None
    extendable_to_ms: int | None
    closed_ms: int | None

    @property
    def dates(self) -> Dates:
        return Dates(self.due_ms, self.extended_from_ms, self.extendable_to_ms)


class StepRow(NamedTuple):
    """A step that was taken. `act` is the position of the administrative act."""

    n: int
    step: Step
    state: State
    party: Party
    taken_ms: int
    act: str
    reason: Reason | None


class Entry(NamedTuple):
    """A request that is to be entered."""

    id: str
    kind: Kind
    state: State
    step: Step
    party: Party
    subject: bytes | None
    details: bytes
    evidence: bytes
    received_ms: int
    due_ms: int
    extendable_to_ms: int | None
    challenged_ms: int


class FiguresRow(NamedTuple):
    """Open requests of one site in one state; how many are overdue, and how long the most urgent one is (negative: how
    long it has)."""

    site_id: int
    state: State
    requests: int
    overdue: int
    late_seconds: float


async def one(pool: asyncpg.Pool, site_id: int, request_id: str) -> RequestRow | None:
    rows = await ask(pool, _ONE, site_id, UUID(request_id))
    return RequestRow(*rows[0]) if rows else None


async def steps(pool: asyncpg.Pool, site_id: int, request_id: str) -> list[StepRow]:
    return [StepRow(*row) for row in await ask(pool, _STEPS, site_id, UUID(request_id))]


async def page(
    pool: asyncpg.Pool,
    site_id: int,
    *,
    state: State | None,
    kind: Kind | None,
    overdue: bool,
    after: tuple[int, str] | None,
    limit: int,
) -> list[RequestRow]:
    """Requests, the newest first; `after`: when the last one of the page before was received, and its id."""
    after_ms, after_id = after or (None, None)
    found = await ask(
        pool, _PAGE, site_id, state, kind, overdue, after_ms, None if after_id is None else UUID(after_id), limit
    )
    return [RequestRow(*row) for row in found]


async def open_one(pool: asyncpg.Pool, site_id: int, subject: bytes, kind: Kind) -> str | None:
    """The id of a request of this kind by this person that waits for its answer."""
    rows = await ask(pool, _OPEN, site_id, subject, kind)
    return rows[0][0] if rows else None


async def waiting(pool: asyncpg.Pool, site_id: int) -> int:
    """How many requests of a site wait for their answer."""
    return int((await ask(pool, _WAITING, site_id))[0][0])


async def register(pool: asyncpg.Pool, site_id: int, entry: Entry, act: str, max_open: int) -> tuple[str, str | None]:
    """`registered`, `known`, `open` with the id of the other, or `full`."""
    row = (
        await ask(
            pool,
            _REGISTER,
            *(site_id, UUID(entry.id), entry.kind, entry.state, entry.step, entry.party, entry.subject, entry.details),
            *(entry.evidence, entry.received_ms, entry.due_ms, entry.extendable_to_ms, entry.challenged_ms, act),
            max_open,
        )
    )[0]
    return row[0], row[1]


async def prove(pool: asyncpg.Pool, site_id: int, request_id: str, subject: bytes, challenged_ms: int) -> bool:
    """Whether the answered challenge is newer than any that was answered before."""
    return bool((await ask(pool, _PROVE, site_id, UUID(request_id), subject, challenged_ms))[0][0])


async def advance(
    pool: asyncpg.Pool,
    site_id: int,
    row: RequestRow,
    taken: Taken,
    act: str,
    instruction: bytes | None,
    due_ms: int | None,
) -> bool:
    """Take a step from where `row` stands; False if another was taken meanwhile. `due_ms`: to when it is put off."""
    found = await ask(
        pool,
        _ADVANCE,
        *(site_id, UUID(row.id), row.steps, taken.step, taken.state, taken.by, act, taken.reason, instruction, due_ms),
    )
    return bool(found[0][0])


async def proven(pool: asyncpg.Pool, site_id: int, limit: int) -> list[RequestRow]:
    """Requests that wait to be forwarded, the most urgent first."""
    return [RequestRow(*row) for row in await ask(pool, _PROVEN, site_id, limit)]


async def untold(pool: asyncpg.Pool, site_id: int, limit: int) -> list[RequestRow]:
    """Forwarded requests of which the controller's webhook was not told yet."""
    return [RequestRow(*row) for row in await ask(pool, _UNTOLD, site_id, limit)]


async def ordered(pool: asyncpg.Pool, site_id: int, limit: int) -> list[RequestRow]:
    """Requests whose erasure was ordered, and which are not answered yet."""
    return [RequestRow(*row) for row in await ask(pool, _ORDERED, site_id, limit)]


async def told(pool: asyncpg.Pool, site_id: int, request_id: str) -> None:
    await ask(pool, _TOLD, site_id, UUID(request_id))


async def forget(
    pool: asyncpg.Pool, site_id: int, subjects: Sequence[bytes] | None, closed_before_ms: int | None = None
) -> int:
    """Forget who asked, of these subjects, or with None of requests that ended before a time; how many it was."""
    return int((await ask(pool, _FORGET, site_id, subjects, closed_before_ms))[0][0])


async def figures(pool: asyncpg.Pool) -> list[FiguresRow]:
    """Of the open requests of every site."""
    return [FiguresRow(*row) for row in await ask(pool, _FIGURES)]
