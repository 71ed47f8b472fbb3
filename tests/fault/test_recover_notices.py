"""A lost tail whose policy names a notice: it comes back with the notice, and not without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from ledger.app import open_service
from ledger.config import Settings
from ledger.core.event import parse_input
from ledger.service import Principal
from tests.conftest import Database
from tests.e2e.test_notices import NOTICE
from tests.fault.restored import Backup, command, contents, size_of
from tests.fault.streams import Broker, relaying, until_status
from tests.founding import SITE
from tests.harness import found, grant

pytestmark = pytest.mark.usefixtures("quick_relay")

PATIENCE_SECONDS = 60.0


async def test_a_policy_is_taken_back_with_the_notice_that_it_names_and_not_without_it(
    settings: Settings, database: Database, backup: Backup, broker: Broker, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    settings = replace(settings, nats_url=broker.url)
    await found(settings, SITE)
    body = json.dumps(NOTICE).encode()
    async with open_service(settings) as service:
        site = await service.site(SITE)
        await backup.take()
        notice = (await service.publishing.upload("application/json", body)).answer.document
        source = json.loads((await service.publishing.policy(site))[1])
        source["policy"]["version"] = "1.1"
        source["notices"] = {"banner": {"document": notice, "mediaType": "application/json"}}
        await service.publish(site, json.dumps(source).encode())
        event = parse_input(json.dumps(grant(shown=notice, policyVersion="1.1")).encode())
        await service.record(site, event, Principal(site.site_id, "publishable", frozenset({"events"})))
        size = await size_of(database)
        async with relaying(pool, broker, settings.masters) as relay:
            await until_status(relay, lambda s: s.stream_seq == size - 1, PATIENCE_SECONDS)
    before = await contents(database)
    await backup.put_back()
    refused = await command(settings, database, SITE, "--from-stream")
    assert refused.exit_code == 1, refused.output
    assert f"document {notice}, which the policy names, is missing" in refused.output
    assert await size_of(database) == size - 2, "neither the policy nor what cites its notice"
    path = tmp_path / "banner.json"
    path.write_bytes(body)
    done = await command(settings, database, SITE, "--from-stream", "--document", str(path))
    assert done.exit_code == 0, done.output
    assert await contents(database) == before
    stored = await pool.fetchval("select media_type from ledger.document where hash = $1", bytes.fromhex(notice))
    assert stored == "application/json"
