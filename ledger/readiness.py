"""Whether this process can serve reads and writes now, and why not."""

from __future__ import annotations

import asyncio

from ledger import config
from ledger.core.errors import Unavailable
from ledger.messages import Readiness, ReadinessCheck
from ledger.site import SiteRegistry
from ledger.store.lapses import lapse_trouble, lateness
from ledger.store.reads import Reads
from ledger.store.sites import checkpoint_trouble


async def readiness(sites: SiteRegistry, reads: Reads) -> Readiness:
    """The database, appending to each site, each site's checkpointer, and lapses that wait to be told."""
    checks: dict[str, ReadinessCheck] = {}
    try:
        await asyncio.wait_for(reads.ping(), config.READINESS_TIMEOUT_SECONDS)
        checks["database"] = ReadinessCheck(ok=True, detail="answers")
    except Exception as error:
        checks["database"] = ReadinessCheck(ok=False, detail=f"does not answer ({type(error).__name__})")
    able: list[bool] = []
    for site in sites.loaded():
        trouble = sites.hindrance(site).reason if site.sequencer is None else site.sequencer.trouble
        checks[f"append {site.site}"] = ReadinessCheck(ok=trouble is None, detail=trouble or "ready")
        able.append(trouble is None)
    if checks["database"].ok:
        checks |= await _checkpoints(sites, reads)
        checks |= await _lapses(sites, reads)
    # One site's trouble must not take the traffic of the others away; the check tells which it is.
    write = checks["database"].ok and (any(able) or not able)
    return Readiness(read=checks["database"].ok, write=write, checks=checks)


async def _checkpoints(sites: SiteRegistry, reads: Reads) -> dict[str, ReadinessCheck]:
    """How each site's checkpointer fares. Its trouble stops neither reads nor writes: they only lack evidence."""
    try:
        rows = await asyncio.wait_for(reads.checkpointers(), config.READINESS_TIMEOUT_SECONDS)
    except (Unavailable, TimeoutError):
        return {}
    troubles = {site.site: checkpoint_trouble(rows.get(site.site_id)) for site in sites.loaded()}
    return {
        f"checkpoint {site}": ReadinessCheck(ok=trouble is None, detail=trouble or "signing")
        for site, trouble in troubles.items()
    }


async def _lapses(sites: SiteRegistry, reads: Reads) -> dict[str, ReadinessCheck]:
    """Whether the stream tells of lapses in time. It stops neither reads nor writes: decisions do not rest on it."""
    try:
        seconds = await asyncio.wait_for(lateness(reads.pool), config.READINESS_TIMEOUT_SECONDS)
    except (Unavailable, TimeoutError):
        return {}
    troubles = {site.site: lapse_trouble(seconds.get(site.site, 0.0)) for site in sites.loaded()}
    return {
        f"lapses {site}": ReadinessCheck(ok=trouble is None, detail=trouble or "told")
        for site, trouble in troubles.items()
    }
