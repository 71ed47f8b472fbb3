"""What the service asks of a site as a whole: its identity, its policies and keys, and how its log is signed.

What is on record of visitors is store/reads' part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import asyncpg

from ledger import config
from ledger.core.admin_act import is_admin_log
from ledger.core.errors import ConfigInvalid
from ledger.store.ask import ask


class SiteRow(NamedTuple):
    site_id: int
    site: str
    origin: str


class PolicyRow(NamedTuple):
    """One published version: its entry and its document."""

    seq: int
    entry: bytes
    document: bytes
    body: bytes


class CheckpointerRow(NamedTuple):
    """How a site's checkpointer fares, what it knows of each witness (JSON), and for how long it gave no sign of life
    (seconds)."""

    state: str
    reason: str
    detail: str
    witnesses: str
    silent: float


def checkpoint_trouble(row: CheckpointerRow | None) -> str | None:
    """What a person should know of a site's checkpointer; None if all is well."""
    if row is None:
        return "no checkpointer was ever at this site: is a worker running (`serve` starts one)?"
    if row.silent > config.CHECKPOINT_DEAD_SECONDS:
        return f"no sign of life of the checkpointer for {row.silent:.0f} s: is a worker running, and does it stay up?"
    return f"{row.reason}: {row.detail}" if row.reason or row.state != "signing" else None


class HeadRow(NamedTuple):
    """Size of the log and its last entry (None before genesis)."""

    size: int
    entry: bytes | None


_SITES = "select site_id, site, origin from ledger.site order by site_id"

_SITE = "select site_id, site, origin from ledger.site where site = $1"

_HEAD = "select e.seq + 1 as size, e.entry from ledger.entry e where e.site_id = $1 order by e.seq desc limit 1"

_GENESIS = "select e.entry from ledger.entry e where e.site_id = $1 and e.seq = 0"

_POLICIES = """
select p.seq, e.entry, p.document, d.body
  from ledger.policy p
  join ledger.entry e on e.site_id = p.site_id and e.seq = p.seq
  join ledger.document d on d.hash = p.document
 where p.site_id = $1 and p.seq > $2 order by p.seq
"""

_POLICY_SEQS = "select site_id, max(seq) from ledger.policy group by site_id"

_ACTIVE_SIGNERS = """
select key_hash from ledger.signer where site_id = $1 and role = 'ingest' and until is null order by since desc
"""

_NEWEST_SIGNERS = """
select distinct on (site_id) site_id, key_hash from ledger.signer where role = 'ingest' and until is null
 order by site_id, since desc
"""

_KEY_SEQS = "select site_id, max(seq) from ledger.key_entry group by site_id"

_CHECKPOINTED = "select exists (select 1 from ledger.checkpoint where site_id = $1 and cosigned)"

_CHECKPOINTERS = """
select site_id, state, reason, detail, witnesses, extract(epoch from now() - seen_at)::float8 as silent
  from ledger.checkpointer
"""

_LOST = """
select c.detail from ledger.checkpointer c
 where c.site_id = $1 and c.state = 'refused' and c.reason = any ($2::text[])
   and c.seen_at > now() - make_interval(secs => $3)
"""
_LOST_REASONS = ["memory-ahead", "anchor-ahead", "nats-ahead", "stream-ahead"]

_KEY_ENTRIES = """
select e.entry
  from (select 0 as seq union all select s.seq from ledger.key_entry s where s.site_id = $1) k
 cross join lateral (select s.entry from ledger.entry s where s.site_id = $1 and s.seq = k.seq offset 0) e
 order by k.seq
"""


async def find_log(database: asyncpg.Pool | asyncpg.Connection, name: str) -> SiteRow:
    """The log of that name, a site's or an administrative one; `ConfigInvalid` if there is none. For commands."""
    row = await database.fetchrow(_SITE, name)
    if row is None:
        raise ConfigInvalid(f"this ledger has no site {name}; `consent-ledger site list` shows those it has")
    return SiteRow(*row)


async def find_site(database: asyncpg.Pool | asyncpg.Connection, name: str) -> SiteRow:
    """The site of that name; an administrative log is none."""
    return await find_log(database, "" if is_admin_log(name) else name)


class SiteReads:
    """Questions about sites, over a pool of connections; `Unavailable` if they get no answer."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        return await ask(self.pool, query, *arguments)

    async def _fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        rows = await self._fetch(query, *arguments)
        return rows[0] if rows else None

    async def _fetchval(self, query: str, *arguments: object) -> Any:
        rows = await self._fetch(query, *arguments)
        return rows[0][0] if rows else None

    async def sites(self) -> list[SiteRow]:
        return [SiteRow(*row) for row in await self._fetch(_SITES)]

    async def head(self, site_id: int) -> HeadRow:
        row = await self._fetchrow(_HEAD, site_id)
        return HeadRow(0, None) if row is None else HeadRow(*row)

    async def genesis(self, site_id: int) -> bytes | None:
        """The bytes of entry 0, None before it is written."""
        entry: bytes | None = await self._fetchval(_GENESIS, site_id)
        return entry

    async def policies(self, site_id: int, after: int = -1) -> list[PolicyRow]:
        """The versions beyond a seq, in the order of the log."""
        return [PolicyRow(*row) for row in await self._fetch(_POLICIES, site_id, after)]

    async def policy_seqs(self) -> dict[int, int]:
        """site_id -> the seq of its newest policy."""
        return dict(await self._fetch(_POLICY_SEQS))

    async def active_signers(self, site_id: int) -> list[bytes]:
        """H(public) of each active ingest key, the newest first."""
        return [row["key_hash"] for row in await self._fetch(_ACTIVE_SIGNERS, site_id)]

    async def newest_signers(self) -> dict[int, bytes]:
        """site_id -> H(public) of its newest active ingest key."""
        return dict(await self._fetch(_NEWEST_SIGNERS))

    async def key_seqs(self) -> dict[int, int]:
        """site_id -> the seq of its newest key entry, for sites that have one beside genesis."""
        return dict(await self._fetch(_KEY_SEQS))

    async def is_checkpointed(self, site_id: int) -> bool:
        """Whether the log has a checkpoint with the quorum that was asked for."""
        checkpointed: bool = await self._fetchval(_CHECKPOINTED, site_id)
        return checkpointed

    async def checkpointers(self) -> dict[int, CheckpointerRow]:
        """site_id -> how its checkpointer fares; none before it was ever at the site."""
        return {row["site_id"]: CheckpointerRow(*list(row)[1:]) for row in await self._fetch(_CHECKPOINTERS)}

    async def lost_entries(self, site_id: int) -> str | None:
        """What a living checkpointer says of entries that were signed or acknowledged and are gone; None if nothing."""
        detail: str | None = await self._fetchval(_LOST, site_id, _LOST_REASONS, float(config.CHECKPOINT_DEAD_SECONDS))
        return detail

    async def key_entries(self, site_id: int) -> list[bytes]:
        """The genesis entry and every entry of kind 2, in their order; none before genesis."""
        return [row["entry"] for row in await self._fetch(_KEY_ENTRIES, site_id)]
