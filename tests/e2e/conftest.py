"""One site with its service in this process, on a database of the test's own, and its projection at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest_asyncio

from ledger.app import open_service
from ledger.config import Settings
from ledger.core.decide import Recorded
from ledger.core.encoding import encode_base64, encode_time
from ledger.core.entry import Kind, commitment, encode_seqs
from ledger.core.event import ErasureRecord, encode_payload, parse_input
from ledger.core.policy import Published
from ledger.messages import Consent
from ledger.projector import project_batch
from ledger.provision import SECRET_SCOPES, SiteCredentials
from ledger.secrets import new_salt
from ledger.service import ConsentQuestion, Principal, Recording, Service
from ledger.site import Site, recorded
from ledger.store.append import ControlDraft, Outcome
from ledger.store.pool import open_pool
from ledger.store.reads import EventRow
from tests.e2e.browsing import browser, chromium, ledger, playwright  # noqa: F401 - fixtures
from tests.harness import document, found, now_ms


class Shop:
    """What a test does with its site."""

    def __init__(self, service: Service, site: Site, credentials: SiteCredentials, pool: asyncpg.Pool) -> None:
        self.service, self.site, self.credentials, self.pool = service, site, credentials, pool
        self.vaults = service.sites.vaults
        self.publishable = Principal(site.site_id, "publishable", frozenset({"events"}))
        self.secret = Principal(site.site_id, "secret", frozenset(SECRET_SCOPES))

    async def record(self, event: dict[str, Any], *, secret: bool = False) -> Recording:
        """Post an event, as parsed from its JSON."""
        parsed = parse_input(msgspec.json.encode(event))
        return await self.service.record(self.site, parsed, self.secret if secret else self.publishable)

    async def consent(self, visitor: str, **question: Any) -> Consent:
        return await self.service.consent(self.site, ConsentQuestion(visitor, **question))

    async def publish(self, version: str, **changes: str) -> int:
        """Publish a version of the small document; its seq."""
        return (await self.service.publish(self.site, document(self.site.site, version, **changes))).seq

    async def size(self) -> int:
        size: int = await self.pool.fetchval("select count(*) from ledger.entry where site_id = $1", self.site.site_id)
        return size

    async def events(self, visitor: str | None = None) -> list[Recorded]:
        """Every living event, or every one of a visitor, straight from the tables."""
        digest = None if visitor is None else self.site.hasher.visitor(visitor)
        rows = await self.pool.fetch(
            """select seq, entry, sealed from ledger.opening join ledger.entry using (site_id, seq)
                where site_id = $1 and visitor is not null and ($2::bytea is null or visitor = $2) order by seq""",
            self.site.site_id,
            digest,
        )
        return [recorded(self.site.vault, EventRow(*row)) for row in rows]

    def published(self) -> tuple[Published, ...]:
        return tuple(self.site.policies)

    async def erase(self, seqs: list[int]) -> int:
        """Erase these events; the seq of the erasure."""
        record = encode_payload(
            ErasureRecord(
                site=self.site.site,
                reason="subject_request",
                requested_at=encode_time(now_ms()),
                evidence=encode_base64(bytes(32)),
                instruction="ticket-1",
            )
        )
        assert self.site.sequencer is not None
        signer, salt, public = self.site.sequencer.signer, new_salt(), encode_seqs(sorted(seqs))
        commit = commitment(salt, record)
        signature = signer.sign(Kind.ERASURE, commit, public)
        sealed = self.site.vault.seal_record(commit, salt, record)
        done = await self.site.sequencer.submit_control(
            ControlDraft(Kind.ERASURE, commit, signer.key_hash, signature, public, sealed)
        )
        assert done.outcome == Outcome.APPENDED
        return done.seq

    async def project(self, batches: int = 1_000_000) -> int:
        """Let the projection of the moment come at most so many batches further; its position."""
        while True:
            row = await self.pool.fetchrow(
                "select version, position from ledger.projection where site_id = $1 and live", self.site.site_id
            )
            size = await self.size()
            if batches == 0 or row["position"] == size - 1:
                position: int = row["position"]
                return position
            await project_batch(self.pool, self.vaults, self.site.site_id, row["version"], row["position"], size)
            batches -= 1


@pytest_asyncio.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    """A site with version 1.0 of its policy, and no projector but the test."""
    credentials = await found(settings)
    pool = await open_pool(settings.database_url, size=4)
    async with open_service(settings) as service:
        yield Shop(service, await service.site(credentials.site), credentials, pool)
    await pool.close()
