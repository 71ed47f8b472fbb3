"""Fixtures for tests of what stands on a real log: its pool, a writer, and a nats-server to break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ledger import config
from ledger.embedded.postgres import Postgres
from ledger.store.pool import open_pool
from tests.conftest import Database
from tests.fault.restored import Backup
from tests.fault.streams import Broker
from tests.fault.writer import Writer
from tests.founding import Founded, found


@pytest.fixture
def quick_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds for the sake of the machine takes tenths in tests."""
    monkeypatch.setattr(config, "RELAY_LOOK_SECONDS", 0.3)
    monkeypatch.setattr(config, "RELAY_STOPPED_LOOK_SECONDS", 0.3)
    monkeypatch.setattr(config, "RELAY_BACKOFF_SECONDS", (0.05, 0.1, 0.2))


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    yield broker
    await broker.stop()


@pytest_asyncio.fixture
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(database.url)
    yield pool
    pool.terminate()


@pytest_asyncio.fixture
async def founded(database: Database) -> Founded:
    return await found(database.url)


@pytest.fixture
def writer(pool: asyncpg.Pool, founded: Founded) -> Writer:
    return Writer(pool, founded)


@pytest_asyncio.fixture
async def backup(postgres: Postgres, database: Database) -> AsyncIterator[Backup]:
    backup = Backup(postgres, database)
    yield backup
    await backup.forget()
