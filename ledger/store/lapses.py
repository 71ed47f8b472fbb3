"""What the lapser and the projector's pass ask of the ledger: the rows that are due, and when they are due next.

Every question is one statement, so its answer is one moment of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.store.ask import ask
from ledger.store.reads import EventRow, event_rows


class SiteDue(NamedTuple):
    """One site's living projection as of now (unix milliseconds): its oldest due row, None if nothing is to come.

    `due_policy`: every row takes the policies up to this seq into account. Beyond it a pass is to be made, or to be
    taken up after the visitor `due_after`, if it is one for the policies up to `due_target`.
    """

    site_id: int
    site: str
    version: int
    now_ms: int
    policy_seq: int
    oldest_ms: int | None
    due_policy: int
    due_target: int | None
    due_after: bytes | None


class StateRow(NamedTuple):
    """One row of the projection; `events`, where they were asked for, are those of its subject that it lacks yet."""

    subject: bytes
    seq: int
    body: bytes
    told: bytes | None
    events: list[EventRow]


class Page(NamedTuple):
    """Rows of one moment, with the size of the log and the newest policy of that moment."""

    size: int
    policy_seq: int
    now_ms: int
    rows: list[StateRow]


_SITES = """
select s.site_id, s.site, p.version, (extract(epoch from statement_timestamp()) * 1000)::bigint as now_ms,
       coalesce((select max(y.seq) from ledger.policy y where y.site_id = s.site_id), -1) as policy_seq,
       (select t.due_ms from ledger.state t
         where t.site_id = s.site_id and t.version = p.version and t.due_ms is not null order by t.due_ms limit 1
       ) as oldest_ms,
       p.due_policy, p.due_target, p.due_after
  from ledger.site s join ledger.projection p on p.site_id = s.site_id and p.live
 where not exists (select 1 from ledger.site_closing c where c.site_id = s.site_id)
 order by s.site_id
"""

_DUE = """
with head as materialized (
    select coalesce((select max(e.seq) + 1 from ledger.entry e where e.site_id = $1), 0) as size,
           coalesce((select max(p.seq) from ledger.policy p where p.site_id = $1), -1) as policy_seq,
           (extract(epoch from statement_timestamp()) * 1000)::bigint as now_ms
)
select h.size, h.policy_seq, h.now_ms, t.visitor, t.seq, t.body, t.told, r.seqs, r.entries, r.sealed
  from head h
  left join lateral (
      select s.visitor, s.seq, s.body, s.told, s.due_ms from ledger.state s
       where s.site_id = $1 and s.version = $2 and s.due_ms <= h.now_ms order by s.due_ms limit $3
  ) t on true
  left join lateral (
      select array_agg(o.seq order by o.seq) as seqs, array_agg(e.entry order by o.seq) as entries,
             array_agg(o.sealed order by o.seq) as sealed
        from ledger.opening o join ledger.entry e on e.site_id = o.site_id and e.seq = o.seq
       where o.site_id = $1 and o.visitor = t.visitor and o.seq > t.seq
  ) r on true
 order by t.due_ms
"""

_AFTER = """
with head as materialized (
    select coalesce((select max(e.seq) + 1 from ledger.entry e where e.site_id = $1), 0) as size,
           coalesce((select max(p.seq) from ledger.policy p where p.site_id = $1), -1) as policy_seq,
           (extract(epoch from statement_timestamp()) * 1000)::bigint as now_ms
)
select h.size, h.policy_seq, h.now_ms, t.visitor, t.seq, t.body, t.told,
       null::bigint[] as seqs, null::bytea[] as entries, null::bytea[] as sealed
  from head h
  left join lateral (
      select s.visitor, s.seq, s.body, s.told from ledger.state s
       where s.site_id = $1 and s.version = $2 and s.visitor > $3 order by s.visitor limit $4
  ) t on true
 order by t.visitor
"""

_WRITE_DUE = "select ledger.write_due($1, $2, $3, $4, $5, $6)"
_STEP = "select ledger.pass_due($1, $2, $3, $4, $5, $6, $7, $8)"

_LATE = """
select s.site, greatest(0, (extract(epoch from statement_timestamp()) * 1000)::bigint - d.due_ms) / 1000.0 as seconds
  from ledger.site s join ledger.projection p on p.site_id = s.site_id and p.live
 cross join lateral (select t.due_ms from ledger.state t
                      where t.site_id = s.site_id and t.version = p.version and t.due_ms is not null
                      order by t.due_ms limit 1) d
 where not exists (select 1 from ledger.site_closing c where c.site_id = s.site_id)
"""


class DueRows:
    """Questions about rows that are due, over a pool of the service's connections; `Unavailable` without an answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def sites(self) -> list[SiteDue]:
        """Of a site that was closed nothing is told any more, for nothing is recorded."""
        return [SiteDue(*row) for row in await ask(self._pool, _SITES)]

    async def due(self, site_id: int, version: int, limit: int) -> Page:
        """The rows that are due, the oldest first, with the events of their subjects that they do not hold."""
        return _page(await ask(self._pool, _DUE, site_id, version, limit))

    async def after(self, site_id: int, version: int, subject: bytes, limit: int) -> Page:
        """The rows after a subject, in their order, without events."""
        return _page(await ask(self._pool, _AFTER, site_id, version, subject, limit))

    async def write_due(
        self, site_id: int, version: int, policy_seq: int, rows: Sequence[StateRow], due: Sequence[int | None]
    ) -> None:
        """Say when rows are due next, of those that nobody else has written since, or is writing."""
        subjects, seqs = [row.subject for row in rows], [row.seq for row in rows]
        await ask(self._pool, _WRITE_DUE, site_id, version, policy_seq, subjects, seqs, due)

    async def pass_due(
        self,
        site_id: int,
        version: int,
        policy_seq: int,
        after: bytes,
        rows: Sequence[StateRow],
        due: Sequence[int | None],
        *,
        last: bool,
    ) -> bool:
        """The same for the rows after `after` in a pass over all of them; False where they are to be read again."""
        subjects, seqs = [row.subject for row in rows], [row.seq for row in rows]
        upto = None if last else rows[-1].subject
        arguments = (site_id, version, policy_seq, after, upto, subjects, seqs, due)
        done: bool = (await ask(self._pool, _STEP, *arguments))[0][0]
        return done


def _page(found: Sequence[asyncpg.Record]) -> Page:
    first = found[0]
    rows = [
        StateRow(
            row["visitor"],
            row["seq"],
            row["body"],
            row["told"],
            event_rows(row),
        )
        for row in found
        if row["visitor"] is not None
    ]
    return Page(first["size"], first["policy_seq"], first["now_ms"], rows)


async def lateness(pool: asyncpg.Pool) -> dict[str, float]:
    """For how many seconds the oldest lapse of each site has waited to be told; 0 where it is still to come."""
    return {row["site"]: float(row["seconds"]) for row in await ask(pool, _LATE)}


def lapse_trouble(seconds: float) -> str | None:
    """What a person should know of lapses that wait; None if all is well."""
    if seconds < config.LAPSE_LATE_SECONDS:
        return None
    return (
        f"the oldest lapse has waited for {seconds:.0f} s to be told on the stream (decisions are right all the same): "
        "is a worker running, and does it hold the site's ingest key?"
    )
