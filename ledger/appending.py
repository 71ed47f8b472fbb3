"""Sites that a process appends to over connections of its own, kept up with what others add.

What is appended, and when, is the affair of whoever opens them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ledger import config
from ledger.config import Settings
from ledger.sequencer import AppendEvents
from ledger.site import SiteRegistry
from ledger.store.append import append_events
from ledger.store.pool import open_pool
from ledger.store.reads import Reads


@asynccontextmanager
async def open_sites(
    settings: Settings,
    reads: Reads,
    *,
    connections: int = config.PART_MAX_CONNECTIONS,
    append: AppendEvents = append_events,
) -> AsyncIterator[SiteRegistry]:
    """The sites, none loaded yet; leaving it answers every waiter."""
    pool = await open_pool(settings.database_url, size=connections, timeout_seconds=config.APPEND_TIMEOUT_SECONDS)
    sites = SiteRegistry(reads, pool, settings, append)
    following = asyncio.create_task(sites.follow(), name="follow sites")
    try:
        yield sites
    finally:
        following.cancel()
        await asyncio.wait([following])
        await sites.stop()
        pool.terminate()
