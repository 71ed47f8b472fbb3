"""The lease: the work goes with it, and a worker that is to stop stops, whatever happens at that moment."""

from __future__ import annotations

import asyncio

import pytest

from ledger import config, lease
from tests.conftest import Database


async def test_a_stop_while_the_work_of_a_lost_lease_ends_is_not_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "LEASE_RETRY_SECONDS", 0.05)
    ending = asyncio.Event()

    async def work() -> None:
        connection.terminate()  # the lease is lost
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await asyncio.sleep(0.2)

    connect = lease.asyncpg.connect

    async def keep(*arguments: object, **options: object) -> object:
        nonlocal connection
        connection = await connect(*arguments, **options)
        return connection

    connection = None
    monkeypatch.setattr(lease.asyncpg, "connect", keep)
    holding = asyncio.create_task(lease.hold(database.url, "test", work))
    await asyncio.wait_for(ending.wait(), 60)
    holding.cancel()
    done, _ = await asyncio.wait([holding], timeout=60)
    assert done
    assert holding.cancelled()
