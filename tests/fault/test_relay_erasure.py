"""Forgetting in the stream: gone before the erasure can be read, and gone again when an old store returns."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import nats.js.errors
import pytest
from nats.js.client import JetStreamContext

from ledger.bus import Bus
from ledger.core.entry import decode
from ledger.core.stream import Message
from tests.fault.streams import (
    PREFIX,
    STREAM,
    Broker,
    api,
    caught_up,
    check_copy,
    client_of,
    messages_of,
    now,
    relaying,
    replace_stream,
    until_status,
)
from tests.fault.writer import Writer
from tests.founding import MASTER, SITE
from tests.openings import opening_at

pytestmark = pytest.mark.usefixtures("quick_relay")


async def test_an_older_store_put_back_is_brought_up_to_date_and_forgets_again(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, tmp_path: Path
) -> None:
    seqs = await writer.events(120)
    _, payload = await opening_at(pool, [MASTER], seqs[40])
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        await broker.stop()
        shutil.copytree(broker.store, tmp_path / "old")
        await broker.start()
        await writer.events(100)
        await writer.erase(seqs[40:44])
        await writer.events(10)
        await caught_up(relay, writer)
        assert not broker.holds(payload)
        first = await check_copy(broker, pool, writer)
        assert first.holes == set(seqs[40:44])

        await broker.stop()
        shutil.rmtree(broker.store)
        shutil.copytree(tmp_path / "old", broker.store)
        assert broker.holds(payload)
        await broker.start()
        await until_status(relay, lambda s: s.forgotten == 8)
        assert not broker.holds(payload)
        await caught_up(relay, writer)
        assert (now(relay).rebuilt, now(relay).forgotten) == (0, 8)
    copy = await check_copy(broker, pool, writer)
    assert (copy.holes, copy.created) == (set(seqs[40:44]), first.created)


async def served(broker: Broker, size: int) -> set[int]:
    """What a consumer reads that comes back: it waits until the stream is as long as the log was when it came.

    The size is that of the log's checkpoint (proto/asyncapi.yaml, "An older store").
    """
    async with client_of(broker) as client, asyncio.timeout(60):
        js = client.jetstream()
        while (await js.stream_info(STREAM)).state.last_seq < size - 1:
            await asyncio.sleep(0.01)
    return set(await messages_of(broker))


async def test_a_consumer_that_waits_for_the_log_is_served_nothing_erased_by_an_older_store(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, tmp_path: Path
) -> None:
    seqs = await writer.events(20)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        await broker.stop()
        shutil.copytree(broker.store, tmp_path / "old")
        await broker.start()
        await writer.erase(seqs[4:8])
        await caught_up(relay, writer)
    await broker.stop()
    shutil.rmtree(broker.store)
    shutil.copytree(tmp_path / "old", broker.store)
    await broker.start()
    assert seqs[4] in await messages_of(broker), "whoever reads at once is served what was erased"
    waiting = asyncio.create_task(served(broker, writer.last + 1))
    async with relaying(pool, broker):
        assert (await waiting) & set(seqs) == set(seqs) - set(seqs[4:8])


async def test_messages_are_gone_before_their_erasure_can_be_read(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    seqs = await writer.events(60)
    async with relaying(pool, broker) as relay, client_of(broker) as client:
        await caught_up(relay, writer)
        left: list[int] = []
        arrived = asyncio.Event()

        async def on_erasure(_: object) -> None:
            for seq in seqs[10:40]:
                with contextlib.suppress(nats.js.errors.NotFoundError):
                    await js.get_msg(STREAM, seq)
                    left.append(seq)
            arrived.set()

        js: JetStreamContext = client.jetstream()
        await js.subscribe(f"{PREFIX}.erasure", cb=on_erasure, ordered_consumer=True)
        await writer.erase(seqs[10:40])
        await asyncio.wait_for(arrived.wait(), 20)
        assert left == []


async def test_an_event_erased_before_it_was_published_is_a_tombstone(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    seqs = await writer.events(30)
    _, payload = await opening_at(pool, [MASTER], seqs[5])
    await writer.erase(seqs[5:8])
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        assert now(relay).forgotten == 0
    copy = await check_copy(broker, pool, writer)
    assert (copy.holes, copy.tombstones) == (set(), set(seqs[5:8]))
    assert not broker.holds(payload)


@pytest.mark.slow
async def test_the_largest_erasure_and_a_large_document_are_published(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    document = json.dumps({"site": SITE, "text": "x" * 250_000}).encode()
    await writer.policy("1.0", document)
    seqs = await writer.events(4096)
    erasure = await writer.erase(seqs)
    await writer.policy("2.0", json.dumps({"site": SITE, "text": "y" * 1_100_000}).encode())
    async with relaying(pool, broker) as relay:
        await until_status(relay, lambda s: s.stream_seq == writer.last, 60)
    async with client_of(broker) as client:
        js = client.jetstream()
        assert (await js.get_msg(STREAM, 1)).data == document
        headers = (await js.get_msg(STREAM, erasure)).headers
        assert headers is not None
        assert len(decode(base64.b64decode(headers["ce-entry"])).public) == 8 * 4096
        beyond = await js.get_msg(STREAM, writer.last)
        assert not beyond.data
        assert beyond.headers is not None
        assert beyond.headers["ce-dataref"].startswith("/documents/")


async def test_a_message_that_came_back_below_its_erasure_is_deleted_again(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    seqs = await writer.events(100)
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        before = await messages_of(broker)
        await writer.erase(seqs[10:14])
        await writer.events(10)
        await caught_up(relay, writer)
    after = await messages_of(broker)
    await replace_stream(broker, after | {seqs[11]: before[seqs[11]], seqs[13]: before[seqs[13]]})
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        assert (now(relay).forgotten, now(relay).rebuilt) == (2, 0)
    assert (await check_copy(broker, pool, writer)).holes == set(seqs[10:14])


async def test_what_is_erased_between_reading_and_publishing_is_deleted_before_the_erasure(
    pool: asyncpg.Pool, writer: Writer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seqs = await writer.events(50)
    publish = Bus.publish

    async def erase_first(bus: Bus, messages: Sequence[Message], expected_last: int) -> int:
        monkeypatch.setattr(Bus, "publish", publish)
        await writer.erase(seqs[20:25])
        return await publish(bus, messages, expected_last)

    monkeypatch.setattr(Bus, "publish", erase_first)
    async with relaying(pool, broker) as relay:
        await until_status(relay, lambda s: s.stream_seq == 51)
        assert now(relay).forgotten == 5
    copy = await check_copy(broker, pool, writer)
    assert (copy.holes, copy.tombstones) == (set(seqs[20:25]), set())


async def test_a_rebuilt_stream_holds_tombstones_and_they_stay(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    seqs = await writer.events(40)
    await writer.erase(seqs[5:8])
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        await writer.erase(seqs[20:22])
        await caught_up(relay, writer)
        await api(broker, f"STREAM.DELETE.{STREAM}")
        await until_status(relay, lambda s: s.published == 42 + 42)
        await caught_up(relay, writer)
    copy = await check_copy(broker, pool, writer)
    assert (copy.holes, copy.tombstones) == (set(), set(seqs[5:8] + seqs[20:22]))


@pytest.mark.slow
async def test_deletions_cut_short_by_a_killed_server_are_taken_up_again(
    pool: asyncpg.Pool, writer: Writer, broker: Broker
) -> None:
    seqs = await writer.events(700)
    cut_short = 0
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer)
        erasure = await writer.erase(seqs[:600])
        while cut_short < 3:
            await asyncio.sleep(0.2)
            if now(relay).stream_seq >= erasure:
                break
            await broker.kill()
            await broker.start()
            cut_short += 1
        assert cut_short, "600 deletions were over before one could be cut short"
        await caught_up(relay, writer, 60)
        assert now(relay).rebuilt == 0
    assert (await check_copy(broker, pool, writer)).holes >= set(seqs[1:600])
