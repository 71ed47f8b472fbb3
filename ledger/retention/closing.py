"""Closing a site: nothing more is recorded for it, and every event goes but those that law keeps (D3).

The order is recorded first, then the site is marked as closed, which every process sees within seconds; only then is
anything erased (retention/pruner), in batches, by whoever comes first, this command or the worker. What mandatory
retention keeps goes when its term is over. The log itself holds no personal data, and stays: it proves what was done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256

import asyncpg

from ledger import config
from ledger.administration import Administration, Who, act_id_of
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_time
from ledger.core.errors import ConfigInvalid, NotFound
from ledger.erasing.store import hasten
from ledger.messages import Message
from ledger.records.jose import signed_jwt
from ledger.retention import store
from ledger.retention.pruner import KNOWN_AFTER_MS, prune
from ledger.site import Site, SiteRegistry
from ledger.store.reads import Reads


class Closing(Message, frozen=True):
    """How far the closing of a site is: `closing`, or `closed` once nothing is left but what law keeps.

    It does not end while people are `restricted` (so many): their records stay until that is lifted; nor while orders
    to erase somebody wait (`ordered`, so many), for they may say that proof is held. `instruction` is the position of
    the administrative act that ordered it, `evidence` the hash that stands there and in the records of the erasure
    entries. `erased` events went, with so many `entries`; `kept` are left.
    """

    site: str
    log_id: str
    status: str
    requested_at: str
    instruction: str
    evidence: str
    erased: int
    entries: int
    kept: int
    ended_at: str | None = None
    restricted: int = 0
    ordered: int = 0


async def close_site(pool: asyncpg.Pool, sites: SiteRegistry, site: Site, who: Who) -> bool:
    """Record the order, and have nothing recorded for the site from now on. False: it was closed before, on the same
    instruction."""
    if who.instruction is None:
        raise ConfigInvalid("a site is closed on its controller's instruction alone: name it with --instruction")
    salted = site.hasher.content(b"closing\n" + who.instruction.encode())
    evidence = sha256(salted).digest()
    before = await store.closing(pool, site.site_id)
    if before is not None:
        if before.evidence != evidence:
            raise ConfigInvalid(
                f"{site.site} was closed on another instruction, by {before.act}: `--status` says how far that is, and "
                "the instruction that stands there goes on with it"
            )
        return False
    details = {"reason": "controller_instruction", "evidence": evidence.hex()}
    administration = Administration(sites, Reads(pool))
    name = act_id_of(site.log_id.hex(), f"closing {evidence.hex()}")
    receipt = await administration.record(site.site, who.act("site.closed", details), act_id=name)
    return await store.close(pool, site.site_id, receipt.position, evidence, await store.now(pool))


async def carry_out(
    pool: asyncpg.Pool, sites: SiteRegistry, site: Site, who: Who, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Erase what a closed site has left, to the end, or until nothing more is left than of people who are restricted,
    or for whom an order waits in vain: that is the worker's. It, or the next call, goes on with what is broken off, or
    left."""
    await hasten(pool, site.site)
    deadline = asyncio.get_running_loop().time() + config.CLOSING_ORDERS_WAIT_SECONDS
    while True:
        found = await store.closing(pool, site.site_id)
        if found is None:
            raise NotFound(f"{site.site} is not closed; `consent-ledger site close {site.site}` closes it.")
        if found.ended_ms is not None:
            return
        now_ms = await store.now(pool)
        wait_ms = found.requested_ms + KNOWN_AFTER_MS - now_ms
        if wait_ms > 0:
            await asyncio.sleep(wait_ms / 1000)
            continue
        _, more = await prune(pool, sites, site, now_ms, who)
        progress(await store.living(pool, site.site_id))
        if not more and await store.restricted(pool, site.site_id):
            return
        waited = asyncio.get_running_loop().time() >= deadline
        if not more and waited and await store.ordered(pool, site.site_id):
            return
        await asyncio.sleep(config.RETENTION_PAUSE_SECONDS)


async def closing_of(pool: asyncpg.Pool, site: Site) -> Closing:
    """How far it is; `NotFound` where the site is not closed."""
    found = await store.closing(pool, site.site_id)
    if found is None:
        raise NotFound(f"{site.site} is not closed.")
    erased, entries = await store.gone_since(pool, site.site_id, found.requested_ms)
    return Closing(
        site=site.site,
        log_id=site.log_id.hex(),
        status="closing" if found.ended_ms is None else "closed",
        requested_at=encode_time(found.requested_ms),
        instruction=found.act,
        evidence=found.evidence.hex(),
        erased=erased,
        entries=entries,
        kept=await store.living(pool, site.site_id),
        ended_at=None if found.ended_ms is None else encode_time(found.ended_ms),
        restricted=await store.restricted(pool, site.site_id),
        ordered=await store.ordered(pool, site.site_id),
    )


def confirmation(closing: Closing, key: SigningKey, issuer: str) -> bytes:
    """The written confirmation for the controller: the same, signed by the site's receipt key (JWT, EdDSA)."""
    if closing.ended_at is None:
        raise ConfigInvalid("nothing is confirmed before it is done: `--status` says what it waits for")
    claims = {
        "iss": issuer,
        "type": "site-closed",
        "site": closing.site,
        "logId": closing.log_id,
        "requestedAt": closing.requested_at,
        "endedAt": closing.ended_at,
        "instruction": closing.instruction,
        "evidence": closing.evidence,
        "erased": closing.erased,
        "entries": closing.entries,
        "kept": closing.kept,
    }
    return signed_jwt(claims, key)
