"""Sites as one server knows them: one that cannot be read holds up no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256

import asyncpg
import pytest
import pytest_asyncio

from ledger.config import Settings
from ledger.core.entry import ZEROS, Kind
from ledger.core.errors import NotFound, Unavailable
from ledger.site import SiteRegistry
from ledger.store.append import ControlDraft, append_one
from ledger.store.reads import Reads
from tests.conftest import Database
from tests.founding import MASTER, SITE, found, now_ms


@pytest_asyncio.fixture
async def sites(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[SiteRegistry]:
    sites = SiteRegistry(Reads(pool), pool, replace(settings, master_secret=MASTER.secret))
    yield sites
    await sites.stop()


async def test_a_site_whose_policy_cannot_be_read_takes_no_other_site_away(
    database: Database, pool: asyncpg.Pool, sites: SiteRegistry
) -> None:
    broken = await found(database.url, "broken.example", "ledger.test/broken.example")
    body = b'{"site":"broken.example"}'
    await pool.fetchval("select ledger.put_document('application/json', $1)", body)
    public = sha256(body).digest() + b"1.0"
    draft = ControlDraft(
        Kind.POLICY, ZEROS, broken.signer.key_hash, broken.signer.sign(Kind.POLICY, ZEROS, public), public
    )
    async with pool.acquire() as connection:
        await append_one(connection, broken.site_id, now_ms(), broken.head, draft, 5)
    sound = await found(database.url)
    assert (await sites.get(SITE)).site_id == sound.site_id
    with pytest.raises(Unavailable, match="operator"):  # told that there is none, a client might drop its events
        await sites.get("broken.example")
    with pytest.raises(NotFound):
        await sites.get("nowhere.example")


async def test_under_another_master_secret_no_site_is_said_to_be_missing(
    database: Database, pool: asyncpg.Pool, settings: Settings
) -> None:
    await found(database.url)
    with pytest.raises(Unavailable, match="operator"):
        await SiteRegistry(Reads(pool), pool, settings).get(SITE)
