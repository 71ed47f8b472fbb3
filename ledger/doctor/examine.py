"""Every finding about an installation, the database's first: without it the others cannot be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg

from ledger import config
from ledger.config import Settings
from ledger.core.errors import LedgerError
from ledger.doctor import database, duties, policies, signing, surroundings
from ledger.doctor.finding import Finding, advice, bad, good
from ledger.horizon import horizons
from ledger.store.pool import open_pool
from ledger.store.reads import Reads

_LOGS = """
select s.site_id, s.site, coalesce((select max(e.seq) + 1 from ledger.entry e where e.site_id = s.site_id), 0) as size,
       p.position, s.admin_of is not null as administrative,
       exists (select 1 from ledger.site a where a.admin_of = s.site_id) as administered
  from ledger.site s left join ledger.projection p on p.site_id = s.site_id and p.live order by s.site
"""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """What is as it should be, and what is not."""
    try:
        # Not one of the pool's connections: theirs have settings of their own, and the server's are looked at.
        connection = await asyncpg.connect(settings.database_url, timeout=config.CONNECT_TIMEOUT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield bad("database", f"does not answer ({type(error).__name__}): is it up, is the URL right?")
        return
    pool = await open_pool(settings.database_url, size=1)
    parts = {"schema": _stored(connection, pool, settings), "policies": policies.findings(pool, settings)}
    try:
        for what, part in parts.items():
            try:
                async for finding in part:
                    yield finding
            except (LedgerError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                yield bad(what, f"cannot be read ({error}): run `consent-ledger migrate`")
        yield await duties.consumers(pool)
    finally:
        await connection.close()
        pool.terminate()
    yield await surroundings.stream(settings)
    yield surroundings.callers(settings)
    yield surroundings.backups(settings)
    yield surroundings.temporary_files()


async def _stored(connection: asyncpg.Connection, pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Finding]:
    """Of the database, and of each log that it holds."""
    async for finding in database.findings(connection):
        yield finding
    for horizon in await horizons(connection, settings.scrub_hours):
        yield (good if horizon.good else advice)(horizon.what, horizon.detail)
    reads = Reads(pool)
    checkpointers, waiting = await reads.checkpointers(), await duties.waiting(pool)
    for row in await pool.fetch(_LOGS):
        site_id, site = row["site_id"], row["site"]
        if row["administrative"]:
            yield good(site, f"{row['size']} entries of an administrative log")
        else:
            if not row["administered"]:
                detail = "has none: nothing can be done to the site until `consent-ledger site add` of its document"
                yield bad(f"{site} admin log", f"{detail} founds it")
            yield duties.projection(site, row["size"], row["size"] - 1 - (row["position"] or 0))
        log = signing.Log(site_id, site, is_administrative=row["administrative"])
        async for finding in signing.findings(reads, settings, log, checkpointers.get(site_id)):
            yield finding
        if not row["administrative"]:
            async for finding in duties.findings(pool, site_id, site, waiting):
                yield finding
