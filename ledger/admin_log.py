"""Reading the administrative log of a site, and forgetting what it holds of persons once its term is over.

Writing to it is ledger/administration; what an auditor makes of it is core/admin_match.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.administration import Act, Administration, act_id_of, named
from ledger.core.admin_act import AUTHORISING, AdminAct, decode_act, site_of
from ledger.core.encoding import encode_time
from ledger.core.entry import Kind, commit_of, ms_of
from ledger.core.erasing import events_hash
from ledger.erasing.execution import Record, append_erasure
from ledger.site import Site
from ledger.store.append import Outcome
from ledger.store.ask import ask
from ledger.store.erase import Effects

_DAY_MS = 86_400_000

# Of an actor only by the index; an act that is erased is nobody's any more.
_ACTS = """
select e.seq, e.entry, o.sealed
  from ledger.entry e left join ledger.opening o on o.site_id = e.site_id and o.seq = e.seq
 where e.site_id = $1 and e.seq > $2 and ledger.entry_kind(e.entry) = $3 order by e.seq limit $4
"""
_ACTS_OF = """
select o.seq, e.entry, o.sealed
  from ledger.opening o join ledger.entry e on e.site_id = o.site_id and e.seq = o.seq
 where o.site_id = $1 and o.seq > $2 and o.visitor = $3 order by o.seq limit $4
"""


class Recorded(NamedTuple):
    """An act in its log, recorded at `ms` (since 1970); `act` is None once it is erased."""

    seq: int
    ms: int
    act: AdminAct | None


class Wanted(NamedTuple):
    """Acts of this word (or kind, as `erasure`), by this actor, recorded from `since_ms` to before `until_ms`."""

    act: str | None = None
    actor: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    flagged: bool = False

    def fits(self, found: Recorded) -> bool:
        if self.since_ms is not None and found.ms < self.since_ms:
            return False
        if self.until_ms is not None and found.ms >= self.until_ms:
            return False
        if found.act is None:
            return self.act is None and self.actor is None and not self.flagged
        return (
            (self.act is None or found.act.act == self.act or found.act.act.startswith(f"{self.act}."))
            and (self.actor is None or found.act.actor == self.actor)
            and (not self.flagged or found.act.flagged is not None)
        )


EVERY = Wanted()


async def acts(pool: asyncpg.Pool, log: Site, wanted: Wanted = EVERY, after: int = -1) -> AsyncIterator[Recorded]:
    """The acts wanted with a seq above `after`, oldest first, read page by page."""
    while True:
        if wanted.actor is None:
            rows = await ask(pool, _ACTS, log.site_id, after, int(Kind.EVENT), config.ADMIN_LOG_PAGE_ACTS)
        else:
            actor = log.hasher.visitor(wanted.actor)
            rows = await ask(pool, _ACTS_OF, log.site_id, after, actor, config.ADMIN_LOG_PAGE_ACTS)
        for row in rows:
            ms = ms_of(row["entry"])
            found = Recorded(row["seq"], ms, _opened(log, row))
            if wanted.until_ms is not None and ms >= wanted.until_ms:
                return  # time never decreases along a log
            if wanted.fits(found):
                yield found
        if len(rows) < config.ADMIN_LOG_PAGE_ACTS:
            return
        after = rows[-1]["seq"]


def _opened(log: Site, row: asyncpg.Record) -> AdminAct | None:
    if row["sealed"] is None:
        return None
    _, payload = log.vault.open_opening(commit_of(row["entry"]), row["sealed"])
    return decode_act(payload)


# --- its own retention ------------------------------------------------------------------------------------------------


async def erase_due(administration: Administration, pool: asyncpg.Pool, log: Site, now_ms: int) -> int:
    """Erase the openings of acts whose term is over (config.ADMIN_ADDRESS_DAYS, ADMIN_ACT_DAYS); how many went.

    In batches, each by an act `retention.run` in the same log and an erasure entry that names it: begun again after a
    crash, a batch is the same act. Acts on which erasures rest stay, for without them nobody could tell what was
    ordered. Raises as `Administration.record` does.
    """
    erased = 0
    while seqs := await due(pool, log, now_ms, config.ADMIN_ERASE_BATCH_ACTS):
        digest = events_hash(seqs)
        details = {"reason": "retention", "evidence": digest, "events": digest, "count": str(len(seqs))}
        act = Act("retention.run", "retention", "ledger", details={**details, "asOf": encode_time(now_ms)})
        once = act_id_of(log.log_id.hex(), f"retention {digest}")
        record = Record(
            "retention", now_ms, digest, named(await administration.record(site_of(log.site), act, act_id=once))
        )
        if (await append_erasure(log, seqs, record, Effects())).outcome == Outcome.OVERTAKEN:
            break  # another process was there at this moment
        erased += len(seqs)
    return erased


async def due(pool: asyncpg.Pool, log: Site, now_ms: int, limit: int) -> list[int]:
    """The first acts, by seq, whose openings are to go."""
    found: list[int] = []
    cutoff_ms = now_ms - config.ADMIN_ADDRESS_DAYS * _DAY_MS
    async for each in acts(pool, log, Wanted(until_ms=cutoff_ms)):
        act = each.act
        if act is None or act.act in AUTHORISING:
            continue
        if act.address is not None or each.ms < now_ms - config.ADMIN_ACT_DAYS * _DAY_MS:
            found.append(each.seq)
            if len(found) == limit:
                break
    return found
