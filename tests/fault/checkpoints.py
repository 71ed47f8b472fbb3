"""What tests of the checkpointer share: a founded site with key files, its places, and what was ever signed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import asyncpg

from ledger.bus import Bus
from ledger.checkpointer.records import Anchor, NatsRecord
from ledger.checkpointer.site import Outcome, SiteCheckpointer
from ledger.config import Settings
from ledger.core.merkle import leaf_hash, root_of
from ledger.core.note import TYPE_ED25519, Checkpoint, parse_checkpoint, parse_vkey
from ledger.core.quorum import TrustPolicy
from ledger.provision import SiteCredentials
from ledger.store.append import Head
from ledger.store.pool import open_pool
from ledger.store.reads import Reads
from ledger.store.sites import SiteRow
from ledger.vault import read_vault
from ledger.witness.client import WitnessClient
from tests.fault.keys import load_key
from tests.fault.writer import Writer
from tests.founding import ORIGIN, SITE, Founded
from tests.harness import found


class Site:
    """A site that was founded as an operator does it, with its first checkpoint."""

    def __init__(self, settings: Settings, credentials: SiteCredentials, founded: Founded) -> None:
        self.settings, self.credentials, self.founded = settings, credentials, founded
        self.row = SiteRow(founded.site_id, SITE, ORIGIN)
        self.anchor = Anchor(settings.anchors / f"{SITE}.anchor")
        self.memory = settings.anchors / f"{SITE}.memory"
        self.record = NatsRecord(ORIGIN)

    @contextlib.asynccontextmanager
    async def pool(self, url: str = "") -> AsyncIterator[asyncpg.Pool]:
        pool = await open_pool(url or self.settings.database_url, size=4)
        try:
            yield pool
        finally:
            pool.terminate()

    async def grow(self, events: int, url: str = "") -> Writer:
        """More events, in whatever database."""
        async with self.pool(url) as pool:
            writer = Writer(pool, await self.at_head(pool))
            await writer.events(events)
            return writer

    async def at_head(self, pool: asyncpg.Pool) -> Founded:
        head = await Reads(pool).head(self.row.site_id)
        assert head.entry is not None
        return self.founded._replace(head=Head(head.size, leaf_hash(head.entry)))

    @contextlib.asynccontextmanager
    async def checkpointer(
        self,
        *,
        url: str = "",
        machine: str = "",
        policy: TrustPolicy | None = None,
        clients: Sequence[WitnessClient] = (),
        wrote: Callable[[str], None] = lambda _: None,
    ) -> AsyncIterator[SiteCheckpointer]:
        """One, on a machine with anchors of its own where it is named."""
        settings = self.settings
        if machine:
            settings = replace(settings, anchor_dir=settings.keys_dir.parent / machine)
        bus = await Bus.connect(settings.nats_url) if settings.nats_url else None
        async with self.pool(url) as pool:
            made = SiteCheckpointer(
                settings, pool, self.row, policy or TrustPolicy(), clients, (lambda: bus) if bus else None, wrote
            )
            try:
                yield made
            finally:
                made.close()
                if bus is not None:
                    await bus.close()

    async def round(self, **options: str) -> Outcome:
        """A process that makes one round and ends; another one for the very first steps of a log."""
        async with self.checkpointer(**options) as checkpointer:
            return await checkpointer.round()

    async def execute(self, statement: str, *arguments: object, admin_url: str) -> None:
        """As superuser, past every guard."""
        connection = await asyncpg.connect(admin_url)
        try:
            await connection.execute("drop event trigger if exists ledger_refuse_ddl")
            await connection.execute("drop event trigger if exists ledger_refuse_drop")
            for table in ("entry", "opening"):
                await connection.execute(f"alter table ledger.{table} disable trigger all")
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    async def signed(self, url: str = "") -> list[Checkpoint]:
        """Every checkpoint that the database has, each verified against the entries that are there."""
        async with self.pool(url) as pool:
            entries = [
                row[0] for row in await pool.fetch("select entry from ledger.entry where site_id = $1 order by seq", 1)
            ]
            notes = [
                row[0] for row in await pool.fetch("select note from ledger.checkpoint where site_id = 1 order by size")
            ]
        leaves = [leaf_hash(entry) for entry in entries]
        checkpoints = [parse_checkpoint(note) for note in notes]
        for checkpoint in checkpoints:
            assert checkpoint.signed_by(parse_vkey(self.credentials.log_vkey, TYPE_ED25519))
            assert checkpoint.root == root_of(leaves[: checkpoint.size]), checkpoint.size
        return checkpoints


async def founded_site(settings: Settings) -> Site:
    """The site of `tests.founding`, founded with policy and all: `founded` is what its writers need."""
    settings = replace(settings, origin_prefix="ledger.test")
    credentials = await found(settings, SITE)
    pool = await open_pool(settings.database_url, size=1)
    try:
        head = await Reads(pool).head(1)
        genesis = await Reads(pool).genesis(1)
        vault = await read_vault(pool, 1, settings.masters)
    finally:
        pool.terminate()
    assert head.entry is not None
    assert genesis is not None
    log_id = leaf_hash(genesis)
    root, ingest, log = (load_key(settings, SITE, role) for role in ("root", "ingest", "log"))
    return Site(
        settings, credentials, Founded(1, log_id, root, ingest, log, Head(head.size, leaf_hash(head.entry)), vault)
    )
