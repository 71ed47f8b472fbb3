"""The projection of each visitor's state, kept up with the log, and rebuilt beside the living one.

A batch reads the rows of the visitors that have new events, folds, and writes them with the new position in one call.
Readers fold what the projection does not hold yet, so a lag costs time and never changes an answer; an interrupted or
doubled batch changes nothing, for the fold depends only on the set of events. What the fold is, is core/decide. A row
also says when the lapser is to look at it, which is a hint (core/lapse).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.core.decide import EMPTY_STATE, decode_state, encode_state, fold
from ledger.core.errors import Unavailable
from ledger.core.lapse import Lapses, decode_told, encode_told, fold_told
from ledger.core.policy import PolicyHistory
from ledger.site import published, recorded
from ledger.store.errors import is_passing
from ledger.store.reads import Reads, event_rows
from ledger.vault import Vaults

log = logging.getLogger(__name__)

_LIVE = """
select p.site_id, s.site, p.version, p.position,
       exists (select 1 from ledger.unfolded u where u.site_id = p.site_id and u.version = p.version) as unfolded
  from ledger.projection p join ledger.site s using (site_id) where p.live order by p.site_id
"""

_HEAD = "select coalesce(max(e.seq) + 1, 0) from ledger.entry e where e.site_id = $1"
_MOMENT = """
select coalesce((select max(p.seq) from ledger.policy p where p.site_id = $1), -1) as policy_seq,
       (extract(epoch from statement_timestamp()) * 1000)::bigint as now_ms
"""

# Of the visitors with events in ($3, $4], and of those whose row an erasure took: their row, and every event of theirs
# that it does not hold, up to $4.
# `offset 0` keeps the row a look-up by the whole key: joined, a planner without statistics reads every visitor's row.
_BATCH = """
select v.visitor, t.body as state, t.told, r.seqs, r.entries, r.sealed
  from (select o.visitor from ledger.opening o
         where o.site_id = $1 and o.seq > $3 and o.seq <= $4 and o.visitor is not null
        union
        (select u.visitor from ledger.unfolded u where u.site_id = $1 and u.version = $2 limit $5)) v
  left join lateral (
      select s.seq, s.body, s.told from ledger.state s
       where s.site_id = $1 and s.version = $2 and s.visitor = v.visitor offset 0
  ) t on true
 cross join lateral (
      select array_agg(o.seq order by o.seq) as seqs, array_agg(e.entry order by o.seq) as entries,
             array_agg(o.sealed order by o.seq) as sealed
        from ledger.opening o join ledger.entry e on e.site_id = o.site_id and e.seq = o.seq
       where o.site_id = $1 and o.visitor = v.visitor and o.seq > coalesce(t.seq, -1) and o.seq <= $4
  ) r
 where r.seqs is not null
"""

_WRITE = "select ledger.write_state($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_BEGIN = "select ledger.begin_projection($1)"
_IS_BUILT = "select exists (select 1 from ledger.projection where site_id = $1 and version = $2)"
_FLIP = "select ledger.flip_projection($1, $2)"
_SWEEP = "select ledger.sweep_states($1, $2)"


class Known:
    """What lapses under each site's policies, kept from one batch to the next."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._reads = Reads(pool)
        self._lapses: dict[int, tuple[int, Lapses]] = {}

    async def lapses(self, site_id: int, policy_seq: int) -> tuple[int, Lapses]:
        """Under the policies up to `policy_seq` or beyond, with the seq of the last one."""
        found = self._lapses.get(site_id)
        if found is None or found[0] < policy_seq:
            policies = PolicyHistory(tuple(published(row) for row in await self._reads.policies(site_id)))
            found = self._lapses[site_id] = policies.last_seq, Lapses(policies)
        return found


async def project_batch(
    pool: asyncpg.Pool,
    vaults: Vaults,
    site_id: int,
    version: int,
    position: int,
    size: int,
    known: Known | None = None,
    unfolded: bool = False,
) -> int:
    """Fold the next entries after `position` into the version; the new position (the same if nothing was new).

    `size` is the log's size as read before: an erasure since then makes the write refuse, as does a policy that we do
    not know of, and the batch is read again. `unfolded`: there are visitors whose row an erasure took.
    """
    upto = min(size - 1, position + config.PROJECT_BATCH_ENTRIES)
    if upto <= position and not unfolded:
        return position
    moment = await pool.fetchrow(_MOMENT, site_id)
    policy_seq, lapses = await (known or Known(pool)).lapses(site_id, moment["policy_seq"])
    vault = await vaults.of(site_id)
    visitors, seqs, bodies, due, all_told = [], [], [], [], []
    for row in await pool.fetch(_BATCH, site_id, version, position, upto, config.PROJECT_BATCH_ENTRIES):
        events = [recorded(vault, event) for event in event_rows(row)]
        state = fold(EMPTY_STATE if row["state"] is None else decode_state(row["state"]), events)
        told = fold_told(decode_told(row["told"]), events)
        visitors.append(row["visitor"])
        seqs.append(row["seqs"][-1])
        bodies.append(encode_state(state))
        due.append(lapses.due_ms(state, told, moment["now_ms"]))
        all_told.append(encode_told(told))
    written: bool = await pool.fetchval(
        _WRITE, site_id, version, position, upto, size, policy_seq, visitors, seqs, bodies, due, all_told
    )
    return upto if written else position


class Progress(NamedTuple):
    """How far one site's projection is: the last seq folded in, and the log's size."""

    site: str
    position: int
    size: int


class Projector:
    """Keeps the living projections of all sites up; one at a time over all replicas is enough, two do no harm."""

    def __init__(self, pool: asyncpg.Pool, vaults: Vaults) -> None:
        self._pool = pool
        self._vaults = vaults
        self._known = Known(pool)
        self._progress: dict[str, Progress] = {}

    def progress(self) -> list[Progress]:
        """Of every site, as of the last round."""
        return list(self._progress.values())

    async def run(self) -> None:
        """Until cancelled. A database that goes away is waited for.

        It rests longer than it works: a read folds what it finds unfolded of its own visitor, whatever the lag of the
        others, so nothing is gained by taking the machine away from the events that arrive.
        """
        while True:
            began = time.monotonic()
            try:
                await self._round()
            except Exception as error:
                if not is_passing(error):
                    log.exception("the projector failed; it tries again")
            worked_seconds = time.monotonic() - began
            await asyncio.sleep(max(config.PROJECT_IDLE_SECONDS, config.PROJECT_REST_FACTOR * worked_seconds))

    async def _round(self) -> None:
        """One batch of every site. What is wrong with one is told, and does not keep the others waiting."""
        for row in await self._pool.fetch(_LIVE):
            try:
                size = await self._pool.fetchval(_HEAD, row["site_id"])
                position = await project_batch(
                    self._pool,
                    self._vaults,
                    row["site_id"],
                    row["version"],
                    row["position"],
                    size,
                    self._known,
                    row["unfolded"],
                )
            except Exception as error:
                if is_passing(error):
                    raise
                log.exception("the state of %s cannot be projected; it is tried again", row["site"])
            else:
                self._progress[row["site"]] = Progress(row["site"], position, size)


async def rebuild(
    pool: asyncpg.Pool,
    vaults: Vaults,
    site_id: int,
    progress: Callable[[int, int], None] = lambda position, size: None,
) -> int:
    """Build a new version beside the living one and flip under the site's lock; how many entries were read.

    Readers and the projector go on with the old version meanwhile; the new one takes over a batch behind the head at
    most, for readers fold what it does not hold. `Unavailable` where another rebuild was begun meanwhile. `progress` is
    told (position, size).
    """
    version: int = await pool.fetchval(_BEGIN, site_id)
    position, size, known = 0, 0, Known(pool)
    while position != size - 1:
        size = await pool.fetchval(_HEAD, site_id)
        further = await project_batch(pool, vaults, site_id, version, position, size, known)
        if further == position < size - 1 and not await pool.fetchval(_IS_BUILT, site_id, version):
            raise _superseded()
        position = further
        progress(position, size)
    if not await pool.fetchval(_FLIP, site_id, version):
        raise _superseded()
    while await pool.fetchval(_SWEEP, site_id, config.PROJECT_BATCH_ENTRIES):
        pass
    return position + 1


def _superseded() -> Unavailable:
    return Unavailable("superseded", "Another rebuild of this site was begun meanwhile, and goes on alone.")
