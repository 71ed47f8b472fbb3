"""Killed under load, two workers among them: every checkpoint that was ever signed is of one history."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import nats as nats_py
import pytest
import pytest_asyncio

from ledger.checkpointer.records import Anchor
from ledger.config import Settings
from ledger.core.merkle import leaf_hash, root_of
from ledger.core.note import TYPE_ED25519, Checkpoint, parse_checkpoint, parse_vkey
from ledger.embedded.nats import Nats
from ledger.embedded.postgres import Postgres
from ledger.provision import SiteCredentials
from tests.harness import (
    Load,
    Process,
    check_log,
    check_verified,
    found,
    new_site_name,
    own_postgres,
    own_settings,
    until,
)

ROUNDS = 5


@pytest_asyncio.fixture
async def postgres_of_its_own(tmp_path: Path) -> AsyncIterator[Postgres]:
    server = await own_postgres(tmp_path / "own")
    yield server
    await server.stop()


async def every_checkpoint(settings: Settings, site: SiteCredentials) -> list[Checkpoint]:
    """From the database, and from NATS, which keeps the last few of them."""
    connection = await asyncpg.connect(settings.database_url)
    notes = [row[0] for row in await connection.fetch("select note from ledger.checkpoint order by size")]
    await connection.close()
    client = await nats_py.connect(settings.nats_url)
    bucket = await client.jetstream().key_value("consent-ledger")
    for name in await bucket.keys():
        notes += [entry.value for entry in await bucket.history(name) if entry.value is not None]
    await client.close()
    anchored = Anchor(settings.anchors / f"{site.site}.anchor").read().note
    assert anchored is not None
    checkpoints = [parse_checkpoint(note) for note in [*notes, anchored]]
    origin = site.log_vkey.partition("+")[0]
    return [checkpoint for checkpoint in checkpoints if checkpoint.origin == origin]


async def leaves_of(settings: Settings, site: SiteCredentials) -> list[bytes]:
    connection = await asyncpg.connect(settings.database_url)
    rows = await connection.fetch(
        "select entry from ledger.entry join ledger.site using (site_id) where site = $1 order by seq", site.site
    )
    await connection.close()
    return [leaf_hash(row[0]) for row in rows]


@pytest.mark.slow
async def test_killed_under_load_again_and_again_it_signs_one_history(
    postgres_of_its_own: Postgres, nats: Nats, tmp_path: Path
) -> None:
    settings = own_settings(postgres_of_its_own, tmp_path, nats.url)
    site = await found(settings, new_site_name())

    async def signed() -> int:
        connection = await asyncpg.connect(settings.database_url)
        try:
            size: int = await connection.fetchval("select max(size) from ledger.checkpoint")
            return size
        finally:
            await connection.close()

    # The second one has an anchor directory of its own, as another machine has that an operator let in.
    shutil.copytree(settings.anchors, tmp_path / "other")
    other = replace(settings, anchor_dir=tmp_path / "other")
    async with Process(settings, tmp_path) as one, Process(other, tmp_path) as two:
        async with Load([one.url, two.url], site) as load:
            for number in range(ROUNDS):
                before = await signed()
                await load.more(50)
                victim = (one, two)[number % 2]
                await victim.kill()
                await victim.start()
                if number == 0:
                    await until(lambda before=before: _grew(signed, before))  # type: ignore[misc]
                await asyncio.sleep(secrets.randbelow(1000) / 1000)
        await until(lambda: _grew(signed, len(load.receipts)))
    await check_log(settings, site, load.receipts)
    leaves = await leaves_of(settings, site)
    vkey = parse_vkey(site.log_vkey, TYPE_ED25519)
    checkpoints = await every_checkpoint(settings, site)
    assert len(checkpoints) > ROUNDS
    for checkpoint in checkpoints:
        assert checkpoint.signed_by(vkey)
        assert checkpoint.root == root_of(leaves[: checkpoint.size]), checkpoint.size
    await check_verified(settings, site, tmp_path / "bundle")


async def _grew(signed: Callable[[], Awaitable[int]], size: int) -> bool:
    return await signed() > size
