"""Reading the administrative log of a site, and forgetting what it holds of persons once its term is over.

Writing to it is ledger/administration; what an auditor makes of it is core/admin_match.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.core.admin_act import AdminAct, decode_act
from ledger.core.entry import Kind, commit_of
from ledger.site import Site
from ledger.store.ask import ask

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
            ms = int.from_bytes(row["entry"][9:17], "big")
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
