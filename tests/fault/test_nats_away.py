"""Whatever happens to NATS, posts go on as if nothing had happened, and the stream is right afterwards."""

from __future__ import annotations

import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from ledger.config import Settings
from ledger.embedded.nats import Nats
from ledger.embedded.ports import free_port
from tests.harness import DEADLINE_SECONDS, Load, Process, check_log, check_stream, found


@pytest_asyncio.fixture
async def own(tmp_path: Path) -> AsyncIterator[Nats]:
    """Not started yet."""
    directory = tmp_path / "broker"
    server = Nats(
        directory / "store", free_port(), "secret", directory / "nats.conf", directory / "log", directory / "run"
    )
    yield server
    await server.stop()


@pytest.mark.slow
async def test_posts_go_on_while_nats_is_away_killed_wiped_and_put_back(
    settings: Settings, own: Nats, tmp_path: Path
) -> None:
    store, older = own.data, tmp_path / "older"
    settings = replace(settings, nats_url=own.url)
    site = await found(settings)

    async def caught_up() -> None:
        await check_stream(own.url, settings, site)

    async with Process(settings, tmp_path) as server:
        async with Load([server.url], site, clients=4) as load:
            await load.more(50)  # it was never there
            await own.start()
            await own.ready()
            await load.more(50)
            await caught_up()

            assert own.child is not None
            own.child.send(signal.SIGKILL)
            await own.child.wait(DEADLINE_SECONDS)
            shutil.copytree(store, older)
            await load.more(50)
            await own.start()
            await own.ready()
            await load.more(50)
            await caught_up()

            await own.stop()
            shutil.rmtree(store)
            await load.more(50)
            await own.start()
            await own.ready()
            await load.more(50)
            await caught_up()

            await own.stop()
            shutil.rmtree(store)
            older.rename(store)
            await own.start()
            await own.ready()
            await load.more(50)
        assert (load.refused, load.broken) == (0, 0)
        log = await check_log(settings, site, load.receipts)
        assert log.seq_of.keys() == load.receipts.keys()
        await check_stream(own.url, settings, site)
