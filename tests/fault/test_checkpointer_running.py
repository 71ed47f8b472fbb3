"""The checkpointer at work in a worker: what it tells of itself, and what the service makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, generate_latest

from ledger import config, provision
from ledger.app import open_service
from ledger.checkpointer.first import first_checkpoint
from ledger.checkpointer.run import Checkpointer
from ledger.config import Settings
from ledger.core.agreement import NATS
from ledger.core.errors import Unavailable
from ledger.core.note import parse_checkpoint
from ledger.doctor.examine import examine
from ledger.doctor.finding import Verdict
from ledger.service import Service
from ledger.store.pool import open_pool
from ledger.store.sites import SiteRow
from tests.conftest import Database
from tests.fault.checkpoints import Site, founded_site
from tests.fault.streams import Broker
from tests.fault.test_checkpointer import lose, put, records
from tests.founding import SITE
from tests.harness import document, until


@pytest_asyncio.fixture
async def site(settings: Settings, tmp_path: Path) -> AsyncIterator[Site]:
    broker = Broker(tmp_path / "nats")
    await broker.start()
    yield await founded_site(replace(settings, nats_url=broker.url))
    await broker.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CHECKPOINT_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(config, "CHECKPOINT_HEARTBEAT_SECONDS", 0.2)


@asynccontextmanager
async def working(site: Site) -> AsyncIterator[Checkpointer]:
    async with site.pool() as pool:
        checkpointer = Checkpointer(site.settings, pool)
        task = asyncio.create_task(checkpointer.run())
        try:
            yield checkpointer
        finally:
            assert not task.done(), task.exception()
            task.cancel()
            await asyncio.wait([task])


def exposition(checkpointer: Checkpointer) -> str:
    registry = CollectorRegistry()
    registry.register(checkpointer)
    return generate_latest(registry).decode()


async def readiness(service: Service) -> tuple[bool, str]:
    ready = await service.readiness()
    return ready.write, ready.checks[f"checkpoint {SITE}"].detail


async def finding(settings: Settings) -> Verdict:
    (verdict,) = [found.verdict async for found in examine(settings) if found.what == f"{SITE} checkpoints"]
    return verdict


async def test_it_signs_as_the_log_grows_refuses_aloud_and_goes_on_by_itself(
    site: Site, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(site) as checkpointer, open_service(site.settings) as service:
        for size in (5, 8):
            await site.grow(3)

            async def is_signed(size: int = size) -> bool:
                return await records(site) == dict.fromkeys(("nats", "anchor", "database"), size)

            await until(is_signed)
        assert f'consent_ledger_checkpoint_size{{site="{SITE}"}} 8.0' in exposition(checkpointer)
        assert "checkpoint_alarm{" not in exposition(checkpointer)
        assert await readiness(service) == (True, "signing")
        assert await finding(site.settings) is Verdict.GOOD
        await lose(site, NATS, database)
        await site.grow(1)

        async def has_refused() -> bool:
            write, detail = await readiness(service)
            assert write, "reads and writes go on"
            return detail.startswith("nats-lost: ")

        await until(has_refused)
        alarm = f'consent_ledger_checkpoint_alarm{{reason="nats-lost",site="{SITE}"}} 1.0'
        assert alarm in exposition(checkpointer)
        assert await finding(site.settings) is Verdict.BAD
        await asyncio.sleep(5 * config.CHECKPOINT_LOOK_SECONDS)
        assert caplog.text.count(f"site {SITE}: no checkpoint is signed") == 1
        anchored = site.anchor.read().note
        assert anchored is not None
        await put(site, NATS, parse_checkpoint(anchored), database)

        async def goes_on() -> bool:
            return await records(site) == dict.fromkeys(("nats", "anchor", "database"), 9)

        await until(goes_on)
        assert (await readiness(service))[1] == "signing"


async def test_a_dead_checkpointer_is_noticed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_service(site.settings) as service:
        monkeypatch.setattr(config, "CHECKPOINT_DEAD_SECONDS", 0.01)
        await asyncio.sleep(0.1)
        write, detail = await readiness(service)
        assert write
        assert "no sign of life" in detail
        assert await finding(site.settings) is Verdict.BAD


async def test_a_trust_policy_that_cannot_be_read_is_told_once_and_signs_nothing(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = tmp_path / "policy"
    policy.write_text("nonsense\n")
    site.settings = replace(site.settings, witness_policy=policy)
    async with working(site):
        await site.grow(1)
        await asyncio.sleep(5 * config.CHECKPOINT_LOOK_SECONDS)
        assert caplog.text.count("no checkpoint is signed") == 1
        assert (await records(site))["database"] == 1
        policy.write_text("quorum none\n")

        async def is_signed() -> bool:
            return (await records(site))["database"] == 3

        await until(is_signed)


async def test_nothing_is_recorded_before_the_genesis_is_checkpointed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        raise Unavailable("not-checkpointed", "the witnesses are away")

    monkeypatch.setattr(config, "SITE_REFRESH_SECONDS", 0.1)
    monkeypatch.setattr(provision, "first_checkpoint", never)
    with pytest.raises(Unavailable):
        await provision.create_site(settings, document(SITE))
    monkeypatch.undo()
    monkeypatch.setattr(config, "SITE_REFRESH_SECONDS", 0.1)
    async with open_service(settings) as service:
        ready = await service.readiness()
        assert (ready.read, ready.write) == (True, False)
        assert ready.checks[f"append {SITE}"].detail == "not-checkpointed"
        with pytest.raises(Unavailable, match="before its first checkpoint"):
            await service.publish(await service.sites.get(SITE), document(SITE))
        connection = await asyncpg.connect(settings.database_url)
        site = SiteRow(*(await connection.fetchrow("select site_id, site, origin from ledger.site")))
        await connection.close()
        pool = await open_pool(settings.database_url, size=2)
        await first_checkpoint(settings, pool, site)
        pool.terminate()

        async def is_able() -> bool:
            return (await service.readiness()).write

        await until(is_able)
        await provision.create_site(settings, document(SITE))
