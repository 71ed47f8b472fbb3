"""The relay on a real Postgres and a real nats-server: everything gets there once, in order, whatever fails."""

from __future__ import annotations

import asyncio
import secrets
import signal
import statistics
import time
from collections.abc import Sequence

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from ledger import config
from ledger.bus import Bus, TimedOut
from ledger.core.stream import Message
from ledger.embedded.binaries import find_nats
from ledger.relay import Relay
from ledger.store.pool import open_pool
from ledger.vault import Vaults
from tests.conftest import Database
from tests.fault.streams import STREAM, Broker, api, caught_up, check_copy, now, relaying, until, until_status
from tests.fault.writer import Writer
from tests.founding import MASTER, SITE, found

pytestmark = pytest.mark.usefixtures("quick_relay")


async def test_every_kind_of_entry_is_published_at_its_seq(pool: asyncpg.Pool, writer: Writer, broker: Broker) -> None:
    await writer.policy("1.0", b'{"site":"shop.example.com"}')
    erased = await writer.events(20)
    await writer.key()
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        await writer.erase(erased[3:6])
        await writer.events(5)
        await caught_up(relay, writer)
    copy = await check_copy(broker, pool, writer)
    assert (copy.first, copy.holes, copy.tombstones) == (1, set(erased[3:6]), set())


async def test_catching_up_takes_many_batches_and_misses_nothing(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    await writer.events(2500)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        status = now(relay)
        assert (status.published, status.rebuilt, status.lag, status.error) == (2500, 0, 0, "")
    await check_copy(broker, pool, writer)


async def test_an_event_reaches_the_stream_within_a_poll(pool: asyncpg.Pool, writer: Writer, broker: Broker) -> None:
    seconds: list[float] = []
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        for _ in range(21):
            await writer.events(1)
            committed = time.monotonic()
            await caught_up(relay, writer)
            seconds.append(time.monotonic() - committed)
    assert statistics.median(seconds) < 8 * config.RELAY_POLL_IDLE_SECONDS, "room for a machine that others use too"


async def test_while_nats_is_away_the_log_grows_and_is_published_afterwards(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    await broker.stop()
    async with relaying(pool, broker) as relay:
        await writer.events(50)
        await until_status(relay, lambda s: s.ledger_seq == 50)
        assert not relay.status.connected
        assert now(relay).lag == 50
        await broker.start()
        await caught_up(relay, writer)
        await broker.stop()
        await writer.events(50)
        await asyncio.sleep(0.5)
        await broker.start()
        await caught_up(relay, writer)
    await check_copy(broker, pool, writer)


async def test_two_relays_at_once_publish_everything_once(pool: asyncpg.Pool, writer: Writer, broker: Broker) -> None:
    async with relaying(pool, broker) as one, relaying(pool, broker) as other:
        for _ in range(30):
            seqs = await writer.events(40)
            await writer.erase(seqs[:2])
            await asyncio.sleep(0.02)
        await caught_up(one, writer)
        await caught_up(other, writer)
        assert [now(relay).rebuilt for relay in (one, other)] == [0, 0]
    await check_copy(broker, pool, writer)


@pytest.mark.slow
async def test_nats_killed_six_times_under_load_loses_and_doubles_nothing(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    async with relaying(pool, broker) as relay:
        for _ in range(6):
            await caught_up(relay, writer)
            load = asyncio.create_task(writer.events(1000))
            await asyncio.sleep(0.1 + secrets.randbelow(200) / 1000)
            await broker.kill()
            seqs = await load
            await writer.erase(seqs[::200])
            await broker.start()
        await caught_up(relay, writer)
        assert now(relay).rebuilt == 0
    await check_copy(broker, pool, writer)


@pytest.mark.slow
async def test_a_frozen_server_is_left_and_found_again(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.bus.NATS_REQUEST_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("ledger.bus.NATS_CONNECT_TIMEOUT_SECONDS", 1.0)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        broker.freeze(signal.SIGSTOP)
        await writer.events(20)
        await until(lambda: not relay.status.connected)
        broker.freeze(signal.SIGCONT)
        await caught_up(relay, writer)
    await check_copy(broker, pool, writer)


async def test_a_new_stream_begins_at_the_horizon_and_an_expired_front_is_no_hole(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    await writer.events(100)
    await asyncio.sleep(2.5)
    await writer.events(30)
    async with relaying(pool, broker, horizon_seconds=2) as relay:
        await caught_up(relay, writer)
        assert (await check_copy(broker, pool, writer, first=101)).first == 101
        await asyncio.sleep(3.5)
        await writer.events(5)
        await caught_up(relay, writer)
        status = now(relay)
        assert status.rebuilt == 0
    info = await api(broker, f"STREAM.INFO.{STREAM}")
    assert info["state"]["first_seq"] == 131


async def test_a_site_founded_while_the_relay_runs_gets_its_stream(
    pool: asyncpg.Pool, database: Database, broker: Broker
) -> None:
    async with relaying(pool, broker) as relay:
        await until(lambda: relay.status.connected)
        assert relay.status.sites == ()
        writer = Writer(pool, await found(database.url))
        await writer.events(3)
        await caught_up(relay, writer)
    await check_copy(broker, pool, writer)


async def test_an_answer_that_is_lost_is_settled_by_reading_the_stream(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, lost = Bus.publish, 0

    async def answer_lost(bus: Bus, messages: Sequence[Message], expected_last: int) -> int:
        nonlocal lost
        last = await publish(bus, messages, expected_last)
        if lost < 5:
            lost += 1
            raise TimedOut("the answer was lost")
        return last

    monkeypatch.setattr(Bus, "publish", answer_lost)
    async with relaying(pool, broker) as relay:
        for _ in range(10):
            await writer.events(20)
            await caught_up(relay, writer)
        assert (lost, now(relay).rebuilt) == (5, 0)
    await check_copy(broker, pool, writer)


async def test_connections_to_postgres_cut_under_load_are_made_anew(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database
) -> None:
    relay_pool = await open_pool(database.url)
    cutter = await asyncpg.connect(database.admin_url)
    async with relaying(relay_pool, broker) as relay:
        for _ in range(5):
            await writer.events(300)
            await cutter.execute(
                """select pg_terminate_backend(pid) from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid()"""
            )
            await pool.expire_connections()
        await caught_up(relay, writer)
    await cutter.close()
    relay_pool.terminate()
    await check_copy(broker, pool, writer)


async def test_a_relay_that_lost_its_lease_can_be_run_again(pool: asyncpg.Pool, writer: Writer, broker: Broker) -> None:
    relay = Relay(pool, Vaults(pool, [MASTER]), broker.url)
    for _ in range(2):
        task = asyncio.create_task(relay.run())
        await writer.events(10)
        await caught_up(relay, writer)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await writer.events(10)
    task = asyncio.create_task(relay.run())
    await caught_up(relay, writer)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await check_copy(broker, pool, writer)


async def test_the_metrics_say_what_the_status_says(pool: asyncpg.Pool, writer: Writer, broker: Broker) -> None:
    await writer.events(10)
    registry = CollectorRegistry()
    async with relaying(pool, broker) as relay:
        registry.register(relay)
        await caught_up(relay, writer)
        labels = {"site": SITE}
        assert registry.get_sample_value("consent_ledger_relay_connected") == 1
        assert registry.get_sample_value("consent_ledger_relay_lag", labels) == 0
        assert registry.get_sample_value("consent_ledger_relay_published_total", labels) == 10
        assert registry.get_sample_value("consent_ledger_relay_rebuilt_total", labels) == 0
        assert registry.get_sample_value("consent_ledger_relay_alarm", {**labels, "reason": "fork"}) is None
        await broker.stop()
        await until(lambda: registry.get_sample_value("consent_ledger_relay_connected") == 0)


async def test_a_server_without_jetstream_is_waited_for(pool: asyncpg.Pool, writer: Writer, broker: Broker) -> None:
    await broker.stop()
    bare = await asyncio.create_subprocess_exec(
        str(find_nats()), "--addr", "127.0.0.1", "--port", str(broker.port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with relaying(pool, broker) as relay:
            await until_status(relay, lambda s: s.error == "jetstream-unavailable")
            bare.terminate()
            await bare.wait()
            await broker.start()
            await caught_up(relay, writer)
    finally:
        if bare.returncode is None:
            bare.kill()
            await bare.wait()
