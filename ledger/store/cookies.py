"""The cookie inventory's rows: names that were seen on a site's pages, and the reviews of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from ledger.core.cookies import Observed
from ledger.store.ask import ask

_OBSERVE = "select ledger.observe_cookies($1, $2, $3, $4)"
_OBSERVED = """
select storage, name, first_seen::text, last_seen::text, days from ledger.observed_cookie
 where site_id = $1 order by storage, name collate "C"
"""
_FORGET = "select ledger.forget_cookies($1, $2, (now() at time zone 'UTC')::date - $3::integer)"
_REVIEW = "select n, reviewed_ms, replayed from ledger.review_cookies($1, $2, $3, $4, $5, $6)"
_LAST_REVIEW = """
select n, (extract(epoch from reviewed_at) * 1000)::bigint, reviewer, version, inventory, declared, undeclared
  from ledger.cookie_review where site_id = $1 order by n desc limit 1
"""


class ReviewRow(NamedTuple):
    """That somebody in the role `reviewer` went through an inventory (by its hash) at a time."""

    n: int
    reviewed_ms: int
    reviewer: str
    version: str
    inventory: bytes
    declared: int
    undeclared: int


async def observe(pool: asyncpg.Pool, site_id: int, storage: str, names: Sequence[str], max_names: int) -> int:
    """Note names as seen today; how many new ones found no room under the site's bound."""
    return int((await ask(pool, _OBSERVE, site_id, storage, names, max_names))[0][0])


async def observed(pool: asyncpg.Pool, site_id: int) -> list[Observed]:
    return [Observed(*row) for row in await ask(pool, _OBSERVED, site_id)]


async def forget(pool: asyncpg.Pool, site_id: int, names: Sequence[str] | None, unseen_days: int) -> int:
    """Forget these names, or, with None, those unseen for so many days; how many went."""
    return int((await ask(pool, _FORGET, site_id, names, unseen_days))[0][0])


async def review(
    pool: asyncpg.Pool, site_id: int, reviewer: str, version: str, inventory: bytes, declared: int, undeclared: int
) -> tuple[ReviewRow, bool]:
    """Record a review; whether the very same one was recorded today already, which is then the answer."""
    row = (await ask(pool, _REVIEW, site_id, reviewer, version, inventory, declared, undeclared))[0]
    return ReviewRow(row["n"], row["reviewed_ms"], reviewer, version, inventory, declared, undeclared), row["replayed"]


async def last_review(pool: asyncpg.Pool, site_id: int) -> ReviewRow | None:
    rows = await ask(pool, _LAST_REVIEW, site_id)
    return ReviewRow(*rows[0]) if rows else None
