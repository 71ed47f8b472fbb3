"""Is all done in time that is to be done for a site: by the worker, by people who answer requests, by consumers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.consumers import Consumers, behind
from ledger.core.encoding import encode_time
from ledger.core.errors import LedgerError
from ledger.doctor.finding import Finding, advice, bad, good
from ledger.erasing.store import late_orders
from ledger.retention import store
from ledger.retention.store import ClosingRow
from ledger.store.lapses import lapse_trouble, lateness
from ledger.store.reads import Reads

PROJECTION_LATE_ENTRIES = 100_000

_REQUESTS = """
select count(*), count(*) filter (where r.due_at < clock_timestamp()),
       coalesce(extract(epoch from min(r.due_at) - clock_timestamp())::float8, 0)
  from ledger.request r where r.site_id = $1 and r.closed_at is null
"""
_RETENTION = """
select coalesce(extract(epoch from now()) - min(r.next_ms) / 1000.0, 0)::float8
  from ledger.retention_block r where r.site_id = $1 and r.next_ms is not null
"""


class Waiting(NamedTuple):
    """By site: for how many seconds the oldest lapse has waited to be told; how many orders to erase wait, and for how
    many seconds the oldest has been due."""

    lapses: dict[str, float]
    orders: dict[str, tuple[int, float]]


async def waiting(pool: asyncpg.Pool) -> Waiting:
    """Of all sites."""
    return Waiting(await lateness(pool), await late_orders(pool))


async def findings(pool: asyncpg.Pool, site_id: int, site: str, waits: Waiting) -> AsyncIterator[Finding]:
    """Of one site."""
    closing = await store.closing(pool, site_id)
    if closing is not None:
        yield _closing(site, closing, await store.restricted(pool, site_id))
    trouble = lapse_trouble(waits.lapses.get(site, 0.0))
    yield good(f"{site} lapses", "told as they come") if trouble is None else advice(f"{site} lapses", trouble)
    yield _erasures(site, *waits.orders.get(site, (0, 0.0)))
    yield _requests(site, *await pool.fetchrow(_REQUESTS, site_id))
    yield _retention(site, await pool.fetchval(_RETENTION, site_id))


def projection(site: str, size: int, lag: int) -> Finding:
    """How far visitors' states are behind the log, in entries."""
    told = f"{size} entries, {lag} of them not yet in the projection"
    if lag < PROJECTION_LATE_ENTRIES:
        return good(site, told)
    return advice(site, f"{told}: reads get slow; is a worker running?")


def _closing(site: str, closing: ClosingRow, restricted: int) -> Finding:
    what = f"{site}, closing"
    if closing.ended_ms is not None:
        return good(what, f"closed since {encode_time(closing.ended_ms)}")
    told = f"ordered {encode_time(closing.requested_ms)}"
    if not restricted:
        return good(what, f"{told}; the worker erases what is left")
    people = "1 person is" if restricted == 1 else f"{restricted} people are"
    return advice(what, f"{told}; {people} restricted, whose records stay until that is lifted (`erase lift`)")


def _erasures(site: str, orders: int, late_seconds: float) -> Finding:
    if late_seconds > config.ERASURE_LATE_SECONDS:
        detail = f"{orders} ordered, the oldest due for {late_seconds:.0f} s: is a worker running, with the ingest key?"
        return bad(f"{site} erasures", detail)
    return good(f"{site} erasures", f"{orders} wait" if orders else "none waits")


def _requests(site: str, count: int, overdue: int, left_seconds: float) -> Finding:
    """How the requests of people stand."""
    what = f"{site}, requests"
    if overdue:
        shown = f"`consent-ledger request list {site} --overdue` shows them"
        return bad(what, f"{overdue} of {count} are open beyond their deadline: {shown}")
    urgent = f", the most urgent one due in {left_seconds / 86_400:.1f} days" if count else ""
    return good(what, f"{count} wait{urgent}")


def _retention(site: str, late_seconds: float) -> Finding:
    """Whether records go when their time is over."""
    what = f"{site}, retention"
    if late_seconds > config.RETENTION_LATE_SECONDS:
        told = f"records have been due for {late_seconds / 86_400:.1f} days: is a worker running?"
        return bad(what, f"{told} `consent-ledger retention plan {site}` shows them")
    return good(what, "nothing has been due for long")


async def consumers(pool: asyncpg.Pool) -> Finding:
    """Whether all who keep copies have confirmed the erasures."""
    try:
        found = await Consumers(Reads(pool)).all()
    except (LedgerError, asyncpg.PostgresError) as error:
        return advice("consumers", f"cannot be looked at: {error}")
    late = ", ".join(f"{one.name} of {one.site}" for one in behind(found, config.CONSUMER_LATE_SECONDS))
    if late:
        return advice(
            "consumers", f"{late} did not confirm an erasure within a day: ask whether they follow the stream"
        )
    return good("consumers", f"{len(found)} registered, and no erasure waits for one")
