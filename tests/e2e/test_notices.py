"""What visitors were shown, from the upload to the auditor: cited by events, exported, and missed where it is gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
import pytest_asyncio

from ledger.app import open_service
from ledger.bundle import Directory
from ledger.checkpointer.follower import LogFollower, NotSigned
from ledger.config import Settings
from ledger.core.event import parse_input
from ledger.core.heads import Pins
from ledger.core.note import TYPE_ED25519, VerifierKey
from ledger.export import export
from ledger.keys.files import keys_here
from ledger.service import Principal
from ledger.store import checkpoints as store
from ledger.store.pool import open_pool
from ledger.store.sites import SiteRow
from ledger.vault import Vaults
from ledger.verify import Report, verify
from tests.checkpointing import checkpoint
from tests.conftest import Database
from tests.e2e.test_export_verify import unguard
from tests.harness import found, grant
from tests.unit.audit_cases import faults

NOTICE = {
    "format": "consent-notice/1",
    "texts": {"en": {"title": "Cookies", "labels": {"accept_all": "Yes", "only_necessary": "No"}}},
    "layout": {"form": "banner", "position": "bottom", "refusing": "equal"},
}
PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR and so on"
TERMS = b"The terms of use, as they are accepted."


class Shown(NamedTuple):
    """A site whose policy names a notice, which an event cites, and terms; the documents by their hash."""

    settings: Settings
    pool: asyncpg.Pool
    site: SiteRow
    notice: str
    documents: dict[str, bytes]
    cited_at: int
    public: bytes

    @property
    def vaults(self) -> Vaults:
        return Vaults(self.pool, self.settings.masters)

    async def export(self, directory: Path) -> Path:
        await export(self.pool, self.vaults, self.site.site, directory, lambda done, size: None)
        return directory

    def verify(self, directory: Path) -> Report:
        pins = Pins(VerifierKey(self.site.origin, TYPE_ED25519, self.public), None, None, ())
        return verify(Directory(directory), pins)

    async def follow(self, directory: Path) -> None:
        """Judge what is stored as the checkpointer does before it signs."""
        follower = LogFollower(self.pool, self.vaults, self.site, directory / "memory.sqlite")
        await follower.open()
        try:
            await follower.catch_up(await store.moment(self.pool, self.site.site_id))
        finally:
            follower.close()


@pytest_asyncio.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(settings.database_url, size=4)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def shown(settings: Settings, pool: asyncpg.Pool) -> Shown:
    made = await found(settings)
    async with open_service(settings) as service:
        site = await service.site(made.site)
        upload = service.publishing.upload
        picture = (await upload("image/png", PICTURE)).answer.document
        body = json.dumps({**NOTICE, "screenshots": [{"document": picture}]}).encode()
        notice = (await upload("application/json", body)).answer.document
        terms = (await upload("text/plain", TERMS)).answer.document
        source = json.loads((await service.publishing.policy(site))[1])
        source["policy"]["version"] = "1.1"
        source["notices"] = {"banner": {"document": notice, "mediaType": "application/json"}}
        named = {"title": {"en": "Terms"}, "description": {"en": "Of use"}, "kind": "acceptance", "document": terms}
        source["purposes"]["terms"] = named
        source["order"].append("terms")
        published = await service.publish(site, json.dumps(source).encode())
        policy = (await service.document(bytes.fromhex(published.document)))[1]
        event = parse_input(json.dumps(grant(shown=notice, policyVersion="1.1")).encode())
        principal = Principal(site.site_id, "publishable", frozenset({"events"}))
        recorded = await service.record(site, event, principal)
        row = SiteRow(site.site_id, site.site, site.origin)
    (key,) = keys_here(settings, row.site, "log").keys.values()
    await checkpoint(settings.database_url, row.site, key)
    documents = {notice: body, terms: TERMS, picture: PICTURE, published.document: policy}
    return Shown(settings, pool, row, notice, documents, recorded.receipt.seq, key.public)


async def test_every_document_that_a_policy_names_is_exported_and_the_bundle_is_sound(
    shown: Shown, tmp_path: Path
) -> None:
    directory = await shown.export(tmp_path / "bundle")
    stored = {path.name: path.read_bytes() for path in (directory / "documents").iterdir()}
    assert shown.documents.items() <= stored.items()
    assert faults(shown.verify(directory)) == []


async def test_a_notice_that_an_event_cites_is_missed_in_a_bundle_and_found_where_it_is_altered(
    shown: Shown, tmp_path: Path
) -> None:
    directory = await shown.export(tmp_path / "bundle")
    path = directory / "documents" / shown.notice
    path.write_bytes(path.read_bytes().replace(b'"No"', b'"Si"'))
    assert faults(shown.verify(directory)) == [(9, shown.cited_at)]
    path.unlink()
    assert faults(shown.verify(directory)) == [(9, shown.cited_at)]


async def test_a_checkpointer_signs_over_a_cited_notice_and_not_where_it_is_gone(
    shown: Shown, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    await shown.follow(tmp_path / "one")
    superuser = await asyncpg.connect(database.admin_url)
    try:
        await unguard(superuser)
        await superuser.execute("delete from ledger.document where hash = $1", bytes.fromhex(shown.notice))
    finally:
        await superuser.close()
    (tmp_path / "other").mkdir()
    with pytest.raises(NotSigned, match=f"rule 9 at entry {shown.cited_at}"):
        await shown.follow(tmp_path / "other")
