"""The first checkpoint of a site, made when it is founded: until there is one with its quorum, it takes no events.

It is made by the same code as every later one. Where a worker is at the new site already, that one makes it.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp
import asyncpg

from ledger import config
from ledger.bus import BusError
from ledger.checkpointer.follower import NotSigned
from ledger.checkpointer.records import RecordChanged
from ledger.checkpointer.run import NatsLink, witness_clients
from ledger.checkpointer.site import SiteCheckpointer
from ledger.config import Settings
from ledger.core.agreement import Unreachable
from ledger.core.errors import ConfigInvalid, Unavailable
from ledger.core.note import TYPE_ED25519, VerifierKey
from ledger.keys.files import log_keys
from ledger.store import checkpoints as store
from ledger.store.sites import SiteRow
from ledger.witness.policy import read_policy

_PAUSE_SECONDS = 0.2


async def first_checkpoint(
    settings: Settings,
    pool: asyncpg.Pool,
    site: SiteRow,
    timeout_seconds: float | None = None,
) -> None:
    """See to it that the site has a checkpoint with its quorum. `ConfigInvalid` where it cannot have one, and
    `Unavailable` where it has none in time: nothing is lost, and the next run goes on from there."""
    if await store.is_ready(pool, site.site_id):
        return
    policy = read_policy(settings.witness_policy)
    link = NatsLink(settings.nats_url) if settings.nats_url else None
    async with aiohttp.ClientSession() as session:
        clients = witness_clients(session, policy)
        checkpointer = SiteCheckpointer(settings, pool, site, policy, clients, link.bus if link else None)
        try:
            if link is not None:
                await link.try_once()
            vkey = VerifierKey(site.origin, TYPE_ED25519, log_keys(settings, site.site)[0].public)
            await _until_ready(checkpointer, pool, timeout_seconds or config.CHECKPOINT_FIRST_TIMEOUT_SECONDS, vkey)
        finally:
            checkpointer.close()
            if link is not None:
                await link.close()


async def _until_ready(
    checkpointer: SiteCheckpointer, pool: asyncpg.Pool, timeout_seconds: float, vkey: VerifierKey
) -> None:
    deadline = time.monotonic() + timeout_seconds
    trouble = ""
    while not await store.is_ready(pool, checkpointer.site.site_id):
        try:
            await checkpointer.round()
            await checkpointer.cosigning.ask_all()
            said = checkpointer.cosigning.said().values()
            trouble = "; ".join(each.detail for each in said if isinstance(each, Unreachable))
        except NotSigned as refusal:
            raise ConfigInvalid(
                f"no checkpoint of {checkpointer.site.site} can be signed: {refusal.detail}"
            ) from refusal
        except (RecordChanged, BusError):
            pass  # read again
        except Unavailable as error:
            trouble = str(error)  # a worker is at it
        if await store.is_ready(pool, checkpointer.site.site_id):
            return
        if time.monotonic() > deadline:
            raise Unavailable(
                "not-checkpointed",
                f"the first checkpoint of {checkpointer.site.site} has no quorum of witnesses yet ({trouble}); "
                f"let them know its log vkey, {vkey} (`witness add-log`), and run this again",
            )
        await asyncio.sleep(_PAUSE_SECONDS)
