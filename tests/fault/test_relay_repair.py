"""Streams that are not what they should be: deleted, purged, forged, ahead of the ledger, misconfigured."""

from __future__ import annotations

import asyncio
import base64
import secrets
from dataclasses import replace

import asyncpg
import pytest

from ledger.bus import Bus
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import Entry, Kind, core_bytes, encode, key_hash
from ledger.site_stream import SiteStream
from ledger.store.sites import SiteRow
from ledger.vault import Vaults
from tests.conftest import Database
from tests.fault.streams import (
    PREFIX,
    STREAM,
    Broker,
    api,
    caught_up,
    check_copy,
    client_of,
    lose_tail,
    messages_of,
    now,
    relaying,
    replace_stream,
    resumed,
    until,
    until_status,
)
from tests.fault.writer import Writer
from tests.founding import MASTER, ORIGIN, SITE, Founded, found

pytestmark = pytest.mark.usefixtures("quick_relay")


async def test_a_stream_deleted_under_the_relay_is_built_again(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    await writer.events(300)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        before = await check_copy(broker, pool, writer)
        await api(broker, f"STREAM.DELETE.{STREAM}")
        await until_status(relay, lambda s: s.published == 600)
        await caught_up(relay, writer)
        assert (await check_copy(broker, pool, writer)).created != before.created


@pytest.mark.parametrize("purge", [{}, {"keep": 10}, {"seq": 150}, {"filter": f"{PREFIX}.policy"}])
async def test_a_purged_stream_is_built_again(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, purge: dict[str, object]
) -> None:
    await writer.events(250)
    await writer.policy("1.0", b'{"site":"shop.example.com"}')
    await writer.events(5)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        await api(broker, f"STREAM.PURGE.{STREAM}", purge)
        await until_status(relay, lambda s: s.rebuilt == 1)
        await caught_up(relay, writer)
        await check_copy(broker, pool, writer)
        assert now(relay).rebuilt == 1


async def test_a_message_deleted_by_somebody_else_is_an_unexplained_hole(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    await writer.events(200)
    await writer.erase([20, 21])
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        await api(broker, f"STREAM.MSG.DELETE.{STREAM}", {"seq": 77})
        await until_status(relay, lambda s: s.rebuilt == 1)
        await caught_up(relay, writer)
        await check_copy(broker, pool, writer)


async def test_a_stream_ahead_of_the_ledger_stops_the_site_and_is_left_alone(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database
) -> None:
    await writer.events(40)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        await lose_tail(database, 30)
        await until_status(relay, lambda s: s.state == "stopped")
        assert now(relay).error == "ahead-of-ledger"
        assert ("consent_ledger_relay_alarm", {"site": SITE, "reason": "ahead-of-ledger"}) in [
            (sample.name, sample.labels) for family in relay.collect() for sample in family.samples
        ]
        await asyncio.sleep(1)
        info = await api(broker, f"STREAM.INFO.{STREAM}")
        assert info["state"]["messages"] == 40


async def test_a_stream_with_entries_that_the_ledger_lost_is_never_deleted(
    pool: asyncpg.Pool, founded: Founded, broker: Broker, database: Database
) -> None:
    writer = Writer(pool, founded)
    await writer.events(40)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
    await lose_tail(database, 30)
    other = await resumed(pool, founded, database)
    await other.events(30)
    async with relaying(pool, broker) as relay:
        await until_status(relay, lambda s: s.state == "stopped")
        assert now(relay).error == "fork"
        info = await api(broker, f"STREAM.INFO.{STREAM}")
        assert info["state"]["messages"] == 40


async def test_a_configuration_changed_by_hand_is_put_right(pool: asyncpg.Pool, writer: Writer, broker: Broker) -> None:
    await writer.events(10)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
    changed = (await api(broker, f"STREAM.INFO.{STREAM}"))["config"]
    assert isinstance(changed, dict)
    await api(broker, f"STREAM.UPDATE.{STREAM}", changed | {"allow_atomic": False, "max_msgs": 1000})
    await writer.events(10)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        assert now(relay).rebuilt == 0
    config_now = (await api(broker, f"STREAM.INFO.{STREAM}"))["config"]
    assert config_now == changed
    await check_copy(broker, pool, writer)


async def test_a_stranger_s_message_stops_the_site_until_the_ledger_has_passed_it(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    await writer.events(40)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        async with client_of(broker) as client:
            await client.request(f"{PREFIX}.given", b'{"type":"consent.given"}', timeout=5)
        await until_status(relay, lambda s: (s.state, s.error) == ("stopped", "ahead-of-ledger"))
        await writer.events(10)
        await caught_up(relay, writer)
        assert now(relay).rebuilt == 1
    await check_copy(broker, pool, writer)


async def test_a_stream_of_another_log_is_built_again(pool: asyncpg.Pool, writer: Writer, broker: Broker) -> None:
    """A message with a sound entry of somebody else's log is no evidence of a loss."""
    key, log_id = SigningKey(secrets.token_bytes(32)), secrets.token_bytes(32)
    await writer.events(5)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
    commit = secrets.token_bytes(32)
    signature = key.sign(core_bytes(log_id, Kind.EVENT, commit, b""))
    entry = encode(Entry(6, 1, bytes(32), Kind.EVENT, commit, key_hash(key.public), signature, b""))
    async with client_of(broker) as client:
        headers = {"ce-entry": base64.b64encode(entry).decode()}
        await client.request(f"{PREFIX}.given", b"{}", timeout=5, headers=headers)
    await writer.events(5)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        assert now(relay).rebuilt == 1
    await check_copy(broker, pool, writer)


@pytest.mark.parametrize(("seq", "data"), [(7, b"{}"), (7, None), (1, b"{}")])
async def test_a_message_replaced_in_the_middle_is_found_at_the_next_connection(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, seq: int, data: bytes | None
) -> None:
    await writer.events(30)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
    forged = await messages_of(broker)
    other = forged[seq + 1]
    forged[seq] = other if data is None else replace(forged[seq], data=data)
    await replace_stream(broker, forged)
    async with relaying(pool, broker) as relay:
        await until_status(relay, lambda s: s.rebuilt == 1)
        await caught_up(relay, writer)
    await check_copy(broker, pool, writer)


async def test_a_difference_in_a_long_stream_is_told_by_comparing_all_of_it(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    await writer.events(300)
    await writer.erase([30, 31])
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
    stream = SiteStream(pool, Vaults(pool, [MASTER]), SiteRow(writer.site_id, SITE, ORIGIN), 3600, 1)
    bus = await Bus.connect(broker.url)
    try:
        assert [found async for found in stream.compare(bus, 0)] == []
        forged = await messages_of(broker)
        forged[102] = replace(forged[102], data=b"{}")
        forged[200] = forged[201]
        del forged[250]
        await replace_stream(broker, forged)
        assert [found async for found in stream.compare(bus, 0)] == [
            (102, "other-payload"),
            (200, "other-entry"),
            (250, "missing"),
        ]
    finally:
        await bus.close()


async def test_a_stream_that_refuses_deletion_is_replaced_by_one_that_allows_it(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    await api(broker, f"STREAM.CREATE.{STREAM}", {"name": STREAM, "subjects": [f"{PREFIX}.>"], "deny_delete": True})
    await writer.events(10)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        assert now(relay).rebuilt == 1
    assert not (await api(broker, f"STREAM.INFO.{STREAM}"))["config"].get("deny_delete")
    await check_copy(broker, pool, writer)


async def test_subjects_taken_by_another_stream_stop_the_site_until_they_are_free(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    await api(broker, "STREAM.CREATE.other", {"name": "other", "subjects": ["consent.>"]})
    await writer.events(10)
    async with relaying(pool, broker) as relay:
        await until_status(relay, lambda s: (s.state, s.error) == ("stopped", "subjects-overlap"))
        await api(broker, "STREAM.DELETE.other")
        await caught_up(relay, writer)
    await check_copy(broker, pool, writer)


async def test_a_payload_that_vanished_without_an_erasure_stops_the_site(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, database: Database
) -> None:
    await writer.events(10)
    connection = await asyncpg.connect(database.admin_url)
    async with connection.transaction():
        await connection.execute("set local event_triggers = off")
        await connection.execute("alter table ledger.opening disable trigger all")
        await connection.execute("delete from ledger.opening where seq = 5")
    await connection.close()
    async with relaying(pool, broker) as relay:
        await until_status(relay, lambda s: (s.state, s.error) == ("stopped", "ledger-damaged"))
        assert now(relay).published == 0


async def test_two_relays_repair_a_stream_together(pool: asyncpg.Pool, writer: Writer, broker: Broker) -> None:
    await writer.events(200)
    async with relaying(pool, broker) as one, relaying(pool, broker) as other:
        for subject in (f"STREAM.DELETE.{STREAM}", f"STREAM.PURGE.{STREAM}"):
            await caught_up(one, writer)
            await caught_up(other, writer)
            await api(broker, subject)
            await asyncio.sleep(1)
            await writer.events(10)
        await caught_up(one, writer)
        await caught_up(other, writer)
        await check_copy(broker, pool, writer)


async def test_a_stopped_site_does_not_hold_up_the_others(
    pool: asyncpg.Pool, database: Database, broker: Broker
) -> None:
    sites = ("a.example.com", "b.example.com", "c.example.com")
    writers = [Writer(pool, await found(database.url, site, f"ledger.test/{site}")) for site in sites]
    await api(broker, "STREAM.CREATE.other", {"name": "other", "subjects": ["consent.v1.b_example_com.>"]})
    async with relaying(pool, broker) as relay:
        for writer in writers:
            await writer.events(30)
        await until(
            lambda: (
                [(site.state, site.stream_seq) for site in relay.status.sites]
                == [("following", 30), ("stopped", -1), ("following", 30)]
            )
        )
