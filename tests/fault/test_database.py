"""Postgres away, Postgres older than the server remembers, and two servers on one log."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest
import pytest_asyncio

from ledger.config import Settings
from ledger.core.entry import Kind
from ledger.embedded.postgres import Postgres
from tests.harness import (
    Browser,
    Load,
    Process,
    Reply,
    check_log,
    check_verified,
    found,
    grant,
    new_visitor,
    own_postgres,
    own_settings,
    refusal,
    until,
)


@pytest_asyncio.fixture
async def own(tmp_path: Path) -> AsyncIterator[Postgres]:
    server = await own_postgres(tmp_path)
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def assert_unavailable(reply: Reply, reason: str) -> None:
    assert (reply.status, reply.json["type"]) == (503, f"urn:consent-ledger:problem:{reason}"), reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.json["detail"]


async def was_refused(load: Load) -> bool:
    return load.refused > 0


async def test_without_postgres_posts_get_503_nothing_is_half_done_and_service_returns_by_itself(
    own: Postgres, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    settings = own_settings(own, tmp_path)
    site = await found(settings)
    async with Process(settings, tmp_path) as server:
        browser = Browser(session, server.url, site)
        async with Load([server.url], site) as load:
            await load.more(100)
            await own.stop()
            events = [grant() for _ in range(20)]
            for reply in await asyncio.gather(*(browser.post(event) for event in events)):
                assert_unavailable(reply, "database-unavailable")
            assert_unavailable(await browser.consent(new_visitor()), "database-unavailable")
            ready = await browser.ready()
            assert (ready.status, ready.json["read"], ready.json["write"]) == (503, False, False)
            assert not ready.json["checks"]["database"]["ok"]
            assert (await browser.call("GET", "/healthz")).status == 200
            await until(lambda: was_refused(load))  # also those whose batch was under way are told in the end
            await own.start()
            await load.more(100)
        assert load.broken == 0
        log = await check_log(settings, site, load.receipts)
        # Of those that were told 503 some may have landed; sent again, each is there once.
        assert log.seq_of.keys() - load.receipts.keys() <= {event["id"] for event in events}
        receipts = {event["id"]: (await browser.post(event)).json for event in events}
        log = await check_log(settings, site, load.receipts | receipts)
        assert log.seq_of.keys() == load.receipts.keys() | receipts.keys()


async def test_a_server_that_nobody_posts_to_is_ready_again_once_postgres_is_back(
    own: Postgres, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """Or else a balancer that asks for readiness would keep it out for ever."""
    settings = own_settings(own, tmp_path)
    site = await found(settings)
    async with Process(settings, tmp_path) as server:
        browser = Browser(session, server.url, site)
        assert (await browser.post(refusal())).status == 201
        await own.stop()
        assert_unavailable(await browser.post(refusal()), "database-unavailable")
        assert not (await browser.ready()).json["checks"][f"append {site.site}"]["ok"]
        await own.start()

        async def ready() -> bool:
            return (await browser.ready()).status == 200

        await until(ready)


@pytest.mark.slow
async def test_a_postgres_that_hangs_is_told_from_one_that_works_and_used_again_once_it_does(
    own: Postgres, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """It takes connections and bytes, and answers nothing: every wait for it has to end by itself."""
    settings = own_settings(own, tmp_path)
    site = await found(settings)
    async with Process(settings, tmp_path) as server:
        browser = Browser(session, server.url, site)
        async with Load([server.url], site) as load:
            await load.more(50)
            assert own.child is not None
            frozen = [psutil.Process(own.child.pid), *psutil.Process(own.child.pid).children(recursive=True)]
            for process in frozen:
                process.suspend()
            try:
                events = [grant() for _ in range(20)]
                for reply in await asyncio.gather(*(browser.post(event) for event in events)):
                    assert_unavailable(reply, "database-unavailable")
                assert not (await browser.ready()).json["checks"]["database"]["ok"]
                assert (await browser.call("GET", "/healthz")).status == 200
            finally:
                for process in frozen:
                    process.resume()
            await load.more(50)
        receipts = {event["id"]: (await browser.post(event)).json for event in events}
        log = await check_log(settings, site, load.receipts | receipts)
        assert log.seq_of.keys() == load.receipts.keys() | receipts.keys()


async def test_an_older_copy_of_postgres_is_read_but_not_appended_to_until_it_is_put_right(
    own: Postgres, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    def copy(source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", source, target], check=True)

    settings = own_settings(own, tmp_path)
    site = await found(settings)
    older, newest = tmp_path / "older", tmp_path / "newest"
    async with Process(settings, tmp_path) as server:
        browser = Browser(session, server.url, site)
        early = [await browser.post(grant()) for _ in range(5)]
        await own.stop()
        copy(own.data, older)
        await own.start()

        async def answered() -> bool:
            return (await browser.post(refusal())).status == 201

        await until(answered)
        late = [await browser.post(grant()) for _ in range(5)]
        assert {reply.status for reply in (*early, *late)} == {201}

        await own.stop()
        own.data.rename(newest)
        copy(older, own.data)
        await own.start()

        async def reads() -> bool:
            return (await browser.consent(new_visitor())).status == 200

        async def is_behind() -> bool:
            """A connection of the pool may still be one to the server that was stopped."""
            return (await browser.post(grant())).json.get("type") == "urn:consent-ledger:problem:log-behind"

        await until(reads)
        await until(is_behind)
        for event in (grant(), refusal(), refusal(decisions={"*": "denied"})):
            refused = await browser.post(event)
            assert_unavailable(refused, "log-behind")
            assert "consent-ledger recover" in refused.json["detail"]
        ready = await browser.ready()
        assert (ready.status, ready.json["read"], ready.json["write"]) == (503, True, False)
        assert ready.json["checks"][f"append {site.site}"] == {"ok": False, "detail": "log-behind"}
        assert (await browser.call("GET", "/readyz?probe=read")).status == 200
        receipt = (await browser.call("GET", f"receipts/{early[0].json['id']}", secret=True)).json
        receipt.pop("proof", None)  # there is one if a checkpoint was signed before the copy was made
        assert receipt == early[0].json
        assert (await browser.call("GET", f"receipts/{late[0].json['id']}", secret=True)).status == 404
        log = await check_log(settings, site)
        assert [entry.kind for entry in log.entries] == [Kind.GENESIS, Kind.POLICY] + [Kind.EVENT] * 5

        await own.stop()
        own.data.rename(tmp_path / "older again")
        newest.rename(own.data)
        await own.start()
        await until(answered)
        assert (await browser.ready()).status == 200
        await check_log(settings, site, {reply.json["id"]: reply.json for reply in (*early, *late)})


async def test_two_servers_on_one_site_leave_one_chain_and_give_every_retry_the_same_receipt(
    settings: Settings, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    site = await found(settings)
    async with Process(settings, tmp_path) as one, Process(settings, tmp_path) as two:
        browsers = [Browser(session, server.url, site) for server in (one, two)]
        async with Load([one.url, two.url], site, clients=16) as load:
            for _ in range(5):
                await load.more(100)
                event = grant()
                replies = await asyncio.gather(*(browsers[n % 2].post(event) for n in range(50)))
                assert sorted(reply.status for reply in replies) == [200] * 49 + [201]
                assert all(reply.json == replies[0].json for reply in replies)
                load.receipts[event["id"]] = replies[0].json
                conflict = await asyncio.gather(*(b.post({**event, "language": "kk"}) for b in browsers))
                assert [reply.status for reply in conflict] == [409, 409]
        assert (load.refused, load.broken) == (0, 0)
        log = await check_log(settings, site, load.receipts)
        assert log.seq_of.keys() == load.receipts.keys()
        await check_verified(settings, site, tmp_path / "bundle")


async def test_a_frozen_server_holds_up_nobody_but_its_own_clients(
    settings: Settings, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """No lock is held while a server is waited for."""
    site = await found(settings)
    async with Process(settings, tmp_path) as one, Process(settings, tmp_path) as two:
        async with Load([one.url], site) as held, Load([two.url], site) as free:
            for _ in range(5):
                await held.more(20)
                one.send(signal.SIGSTOP)
                await free.more(100)
                one.send(signal.SIGCONT)
        assert (free.refused, free.broken) == (0, 0)
    log = await check_log(settings, site, held.receipts | free.receipts)
    assert log.seq_of.keys() == held.receipts.keys() | free.receipts.keys()


async def test_while_the_database_itself_is_gone_posts_and_reads_get_503_and_service_returns_with_it(
    own: Postgres, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """As while a dump is being restored: Postgres answers, but has no such database, or no ledger in it."""
    settings = own_settings(own, tmp_path)
    site = await found(settings)
    superuser = await asyncpg.connect(own.url("template1"))
    async with Process(settings, tmp_path) as server:
        browser = Browser(session, server.url, site)
        async with Load([server.url], site) as load:
            await load.more(50)
            await superuser.execute("alter database postgres with allow_connections false")
            await superuser.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'postgres'")
            await superuser.execute("alter database postgres rename to away")
            await superuser.execute("create database postgres")
            for reply in (await browser.post(grant()), await browser.consent(new_visitor()), await browser.ready()):
                assert reply.status == 503
            await superuser.execute("drop database postgres with (force)")
            for reply in (await browser.post(grant()), await browser.consent(new_visitor()), await browser.ready()):
                assert reply.status == 503
            await superuser.execute("alter database away rename to postgres")
            await superuser.execute("alter database postgres with allow_connections true")
            await load.more(50)

            async def ready() -> bool:
                return (await browser.ready()).status == 200

            await until(ready)
        assert load.broken == 0
        log = await check_log(settings, site, load.receipts)
        assert log.seq_of.keys() >= load.receipts.keys()
    await superuser.close()
