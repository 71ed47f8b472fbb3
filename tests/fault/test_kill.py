"""kill -9 under load: what was answered is there, once, and nothing else is."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import psutil
import pytest
import pytest_asyncio

from ledger.config import Settings
from ledger.credentials import CREDENTIALS_NAME, Credentials, read_credentials
from ledger.embedded.installation import DataDirectory
from ledger.embedded.nats import Nats
from ledger.embedded.ports import free_port
from ledger.embedded.postgres import Postgres
from ledger.provision import SiteCredentials
from ledger.secrets import SiteHasher
from ledger.vault import read_vault
from tests.conftest import Database, service_url
from tests.fault.proxy import Loss, Proxy
from tests.harness import (
    DEADLINE_SECONDS,
    Browser,
    Load,
    Process,
    check_log,
    check_stream,
    check_verified,
    found,
    grant,
    new_visitor,
    own_postgres,
    own_settings,
    refusal,
    until,
)

KILLS = 6
EVENTS_BETWEEN = 60
"""Answered after each start, before the next kill."""


@pytest_asyncio.fixture
async def own(tmp_path: Path) -> AsyncIterator[Postgres]:
    server = await own_postgres(tmp_path)
    yield server
    await server.stop()


@pytest.mark.slow
async def test_the_server_killed_six_times_under_load_loses_and_doubles_nothing(
    settings: Settings, nats: Nats, tmp_path: Path
) -> None:
    site = await found(settings)
    server = Process(replace(settings, nats_url=nats.url), tmp_path)
    async with server:
        async with Load([server.url], site) as load:
            for _ in range(KILLS):
                await load.more(EVENTS_BETWEEN)
                await server.kill()
                await server.start()
            await load.more(EVENTS_BETWEEN)
        log = await check_log(settings, site, load.receipts)
        assert log.seq_of.keys() == load.receipts.keys()
        assert load.broken > 0
        await check_stream(nats.url, settings, site)
        await check_verified(settings, site, tmp_path / "bundle")


@pytest.mark.slow
async def test_postgres_killed_six_times_under_load_loses_and_doubles_nothing(
    own: Postgres, nats: Nats, tmp_path: Path
) -> None:
    settings = own_settings(own, tmp_path, nats.url)
    site = await found(settings)
    async with Process(settings, tmp_path) as server:
        async with Load([server.url], site) as load:
            for _ in range(KILLS):
                await load.more(EVENTS_BETWEEN)
                assert own.child is not None
                own.child.send(signal.SIGKILL)
                await own.child.wait(DEADLINE_SECONDS)
                await own.start()
            await load.more(EVENTS_BETWEEN)
        log = await check_log(settings, site, load.receipts)
        assert log.seq_of.keys() == load.receipts.keys()
        assert load.broken == 0, "the server itself never went away"
        await check_stream(nats.url, settings, site)
        await check_verified(settings, site, tmp_path / "bundle")


class Tree:
    """A whole `up`: its processes, and its credentials while it answers."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._process: psutil.Popen | None = None
        self.port = free_port()

    @property
    def settings(self) -> Settings:
        return DataDirectory(self._data).settings()

    async def start(self) -> Credentials:
        command = [sys.executable, "-P", "-m", "ledger", "up", "--data", str(self._data), "--port", str(self.port)]
        with (self._data.parent / "up.log").open("ab") as log:
            self._process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        (self._data / CREDENTIALS_NAME).unlink(missing_ok=True)  # what a killed run left would look like an answer

        async def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, (self._data.parent / "up.log").read_text()
            return (self._data / CREDENTIALS_NAME).exists()

        await until(answers)
        return read_credentials(self._data)

    def kill(self, *, everything: bool) -> None:
        """SIGKILL to `up` alone, whose children then end with it, or to each of its processes at one moment."""
        assert self._process is not None
        processes = [self._process, *self._process.children(recursive=True)]
        assert len(processes) > 6, "up, the service and its worker, NATS, Postgres and its own children"
        for process in processes if everything else processes[:1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _, alive = psutil.wait_procs(processes, timeout=DEADLINE_SECONDS)
        assert alive == []

    def stop(self) -> None:
        """SIGTERM, after which nothing of it is left."""
        if self._process is None or self._process.poll() is not None:
            return
        processes = [self._process, *self._process.children(recursive=True)]
        self._process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=DEADLINE_SECONDS)
        for process in alive:
            process.kill()
        assert alive == []


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path / "data")
    yield tree
    tree.stop()


@pytest.mark.slow
async def test_the_whole_process_tree_killed_six_times_under_load_loses_and_doubles_nothing(tree: Tree) -> None:
    credentials = await tree.start()
    name, keys = next(iter(credentials.sites.items()))
    site = SiteCredentials(name, keys.log_id, keys.log_vkey, keys.publishable, keys.secret)
    async with Load([credentials.base_url], site) as load:
        for kill in range(KILLS):
            await load.more(EVENTS_BETWEEN)
            tree.kill(everything=bool(kill % 2))
            assert await tree.start() == credentials
        await load.more(EVENTS_BETWEEN)
    log = await check_log(tree.settings, site, load.receipts)
    assert log.seq_of.keys() == load.receipts.keys()
    await check_stream(credentials.nats_url, tree.settings, site)


@pytest.mark.parametrize("loss", [Loss.ANSWER, Loss.REQUEST, Loss.SILENCE])
async def test_an_answer_lost_between_server_and_postgres_ends_in_the_right_receipt_once(
    settings: Settings, database: Database, tmp_path: Path, loss: Loss
) -> None:
    """`ANSWER` is a COMMIT that happened and whose answer is cut off; the other two look the same to the server."""
    site = await found(settings)
    connection = await asyncpg.connect(settings.database_url)
    site_id = await connection.fetchval("select site_id from ledger.site where site = $1", site.site)
    hasher = SiteHasher((await read_vault(connection, site_id, settings.masters)).hasher_key)
    await connection.close()
    address = urlsplit(settings.database_url)
    async with Proxy(address.hostname or "", address.port or 0) as proxy:
        behind = replace(settings, database_url=service_url(database.admin_url, port=proxy.port))
        async with Process(behind, tmp_path) as server, aiohttp.ClientSession() as session:
            browser = Browser(session, server.url, site)
            assert (await browser.post(refusal())).status == 201
            receipts: dict[str, dict[str, Any]] = {}
            for _ in range(1 if loss is Loss.SILENCE else 5):
                events = [grant(visitor=new_visitor()) for _ in range(20)]
                proxy.lose_next(loss, hasher.visitor(events[0]["visitor"]))  # all that passes here of a visitor
                lost = proxy.lost
                replies = await asyncio.gather(*(browser.post(event) for event in events))
                assert proxy.lost == lost + 1
                assert [reply.status for reply in replies] == [201] * 20
                again = await asyncio.gather(*(browser.post(event) for event in events))
                assert [(reply.status, reply.json) for reply in again] == [(200, reply.json) for reply in replies]
                receipts |= {reply.json["id"]: reply.json for reply in replies}
    log = await check_log(settings, site, receipts)
    assert len(log.seq_of) == len(receipts) + 1
