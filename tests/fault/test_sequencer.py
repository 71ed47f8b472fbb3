"""The sequencer under faults: lost answers, full lanes, poison, retired keys, restored databases, shutdown."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from ledger import config
from ledger.core import keys
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import ZEROS, Kind, core_bytes, decode, key_hash
from ledger.core.errors import InputRefused, Unavailable
from ledger.core.merkle import leaf_hash
from ledger.secrets import new_event_id
from ledger.sequencer import Lane, Sequencer, Signer
from ledger.store.append import ControlDraft, Head, Outcome
from ledger.store.pool import open_pool
from tests.conftest import Database, service_url
from tests.fault.proxy import Loss, Proxy
from tests.founding import Founded, event_draft, found, now_ms


@pytest_asyncio.fixture
async def founded(database: Database) -> Founded:
    return await found(database.url)


@pytest_asyncio.fixture
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(database.url)
    yield pool
    pool.terminate()


def sequencer_of(pool: asyncpg.Pool, founded: Founded, **options: object) -> Sequencer:
    async def same_signer() -> Signer | None:
        return founded.signer

    options.setdefault("renew_signer", same_signer)
    return Sequencer(founded.site_id, pool, founded.signer, head=founded.head, **options)  # type: ignore[arg-type]


async def chain(pool: asyncpg.Pool, site_id: int) -> list[bytes]:
    """Every entry, after checking that they chain without a gap."""
    rows = await pool.fetch("select seq, entry from ledger.entry where site_id = $1 order by seq", site_id)
    previous = bytes(32)
    for index, row in enumerate(rows):
        entry = decode(row["entry"])
        assert (row["seq"], entry.seq, entry.prev) == (index, index, previous)
        previous = leaf_hash(row["entry"])
    return [row["entry"] for row in rows]


async def test_concurrent_events_are_appended_in_few_batches_and_chain(pool: asyncpg.Pool, founded: Founded) -> None:
    sequencer = sequencer_of(pool, founded)
    results = await asyncio.gather(*(sequencer.submit(event_draft(founded)) for _ in range(500)))
    await sequencer.stop()
    entries = await chain(pool, founded.site_id)
    assert len(entries) == 501
    assert {result.seq for result in results} == set(range(1, 501))
    assert all(entries[result.seq] == result.entry for result in results)
    assert sequencer.stats.batches < 20


async def test_fifty_retries_at_once_give_one_entry(pool: asyncpg.Pool, founded: Founded) -> None:
    sequencer = sequencer_of(pool, founded)
    event_id = new_event_id(now_ms())
    drafts = [event_draft(founded, event_id) for _ in range(50)]
    results = await asyncio.gather(*(sequencer.submit(draft) for draft in drafts))
    late = await sequencer.submit(event_draft(founded, event_id))
    other = await sequencer.submit(event_draft(founded, event_id, note="ru"))
    await sequencer.stop()
    assert {result.seq for result in (*results, late, other)} == {1}
    assert [result.outcome for result in results].count(Outcome.APPENDED) == 1
    assert late.outcome == Outcome.SAME_CONTENT
    assert other.outcome == Outcome.OTHER_CONTENT
    assert len(await chain(pool, founded.site_id)) == 2


async def test_of_two_contents_under_one_id_in_one_batch_the_first_wins(pool: asyncpg.Pool, founded: Founded) -> None:
    sequencer = sequencer_of(pool, founded)
    event_id = new_event_id(now_ms())
    first, second = await asyncio.gather(
        sequencer.submit(event_draft(founded, event_id)), sequencer.submit(event_draft(founded, event_id, note="ru"))
    )
    await sequencer.stop()
    assert (first.outcome, second.outcome) == (Outcome.APPENDED, Outcome.OTHER_CONTENT)


@pytest.mark.parametrize("loss", [Loss.ANSWER, Loss.REQUEST, Loss.SILENCE])
async def test_a_lost_answer_is_settled_and_nothing_doubles(
    database: Database, founded: Founded, pool: asyncpg.Pool, loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "APPEND_TIMEOUT_SECONDS", 0.5)
    address = urlsplit(database.url)
    async with Proxy(address.hostname or "", address.port or 0) as proxy:
        through = await open_pool(service_url(database.admin_url, port=proxy.port))
        sequencer = sequencer_of(through, founded)
        await sequencer.submit(event_draft(founded))
        for _ in range(5):
            drafts = [event_draft(founded) for _ in range(20)]
            proxy.lose_next(loss, drafts[0].sealed)
            results = await asyncio.gather(*(sequencer.submit(draft) for draft in drafts))
            assert all(result.outcome in (Outcome.APPENDED, Outcome.SAME_COMMITMENT) for result in results)
            entries = await chain(pool, founded.site_id)
            commits = [decode(entries[result.seq]).commit for result in results]
            assert commits == [draft.commit for draft in drafts]
        assert proxy.lost == 5
        assert len(await chain(pool, founded.site_id)) == 102
        await sequencer.stop()
        through.terminate()


async def test_a_draft_that_cannot_be_stored_fails_alone(pool: asyncpg.Pool, founded: Founded) -> None:
    sequencer = sequencer_of(pool, founded)
    drafts = [event_draft(founded) for _ in range(40)]
    drafts[17] = drafts[17]._replace(key=os.urandom(8_191))  # beyond what an index row holds: SQLSTATE 54000
    drafts[31] = drafts[31]._replace(sealed=None)  # type: ignore[arg-type]  # SQLSTATE 23502
    results = await asyncio.gather(*(sequencer.submit(draft) for draft in drafts), return_exceptions=True)
    await sequencer.stop()
    refused = [n for n, result in enumerate(results) if isinstance(result, InputRefused)]
    assert refused == [17, 31]
    assert len(await chain(pool, founded.site_id)) == 39


async def test_a_full_lane_refuses_a_single_event_and_lets_bulk_wait_for_room(
    pool: asyncpg.Pool, founded: Founded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "BULK_LANE_MAX_DRAFTS", 5)
    monkeypatch.setattr(config, "SINGLE_LANE_MAX_DRAFTS", 10)
    sequencer = sequencer_of(pool, founded)
    bulk = [asyncio.create_task(sequencer.submit(event_draft(founded), Lane.BULK)) for _ in range(32)]
    single = [asyncio.create_task(sequencer.submit(event_draft(founded))) for _ in range(12)]
    results = await asyncio.gather(*single, return_exceptions=True)
    assert sum(isinstance(result, Unavailable) and result.reason == "overloaded" for result in results) == 2
    assert {result.outcome for result in await asyncio.gather(*bulk)} == {Outcome.APPENDED}
    await sequencer.stop()
    assert len(await chain(pool, founded.site_id)) == 1 + 32 + 10


async def test_after_a_chain_of_other_bytes_nothing_is_appended_until_a_restart(
    pool: asyncpg.Pool, founded: Founded, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequencer = sequencer_of(pool, founded)
    monkeypatch.setattr("ledger.store.append.leaf_hash", lambda entry: bytes(32))
    with pytest.raises(Unavailable, match="nothing was told"):
        await sequencer.submit(event_draft(founded))
    monkeypatch.undo()
    sequencer.probe()
    await asyncio.sleep(0.1)
    with pytest.raises(Unavailable, match="nothing was told"):
        await sequencer.submit(event_draft(founded))
    assert sequencer.trouble == "bytes-differ"
    await sequencer.stop()


async def test_a_process_clock_that_is_off_stops_appending(pool: asyncpg.Pool, founded: Founded) -> None:
    sequencer = sequencer_of(pool, founded, wall_ms=lambda: now_ms() + 6_000)
    with pytest.raises(Unavailable) as refused:
        await sequencer.submit(event_draft(founded))
    assert refused.value.reason == sequencer.trouble == "clocks-differ"
    await sequencer.stop()
    assert len(await chain(pool, founded.site_id)) == 1


@pytest.mark.parametrize(
    "head", [Head(5, b"\x01" * 32), Head(1, b"\x01" * 32)], ids=["a log that is shorter", "a log that differs"]
)
async def test_a_log_that_is_not_the_one_seen_is_not_appended_to(
    pool: asyncpg.Pool, founded: Founded, head: Head
) -> None:
    sequencer = sequencer_of(pool, founded._replace(head=head))
    with pytest.raises(Unavailable, match="older copy"):
        await sequencer.submit(event_draft(founded))
    assert sequencer.trouble == "log-behind"
    await sequencer.stop()
    assert len(await chain(pool, founded.site_id)) == 1


async def test_an_entry_far_ahead_of_the_clock_stops_appending(
    database: Database, pool: asyncpg.Pool, founded: Founded
) -> None:
    superuser = await asyncpg.connect(database.admin_url)
    ahead = await superuser.fetchval(
        "select ledger.entry_bytes(1, $2, ledger.leaf_hash(e.entry), 1, $1, $1, $3, '') from ledger.entry e",
        bytes(32),
        now_ms() + 61_000,
        bytes(64),
    )
    await superuser.execute("insert into ledger.entry values ($1, 1, $2)", founded.site_id, ahead)
    await superuser.close()
    sequencer = sequencer_of(pool, founded)
    with pytest.raises(Unavailable) as refused:
        await sequencer.submit(event_draft(founded))
    assert refused.value.reason == "clock-behind"
    await sequencer.stop()


async def test_events_signed_by_a_key_retired_meanwhile_are_signed_again(pool: asyncpg.Pool, founded: Founded) -> None:
    new = SigningKey(b"\x07" * 32)

    async def renew() -> Signer | None:
        return Signer(founded.log_id, new)

    sequencer = sequencer_of(pool, founded, renew_signer=renew)
    for public in (keys.introduce_ingest(founded.log_id, new), keys.retire_ingest(founded.ingest.public)):
        signature = founded.root.sign(core_bytes(founded.log_id, Kind.KEY, ZEROS, public))
        draft = ControlDraft(Kind.KEY, ZEROS, key_hash(founded.root.public), signature, public)
        await sequencer.submit_control(draft)
        assert (await sequencer.submit_control(draft)).outcome == Outcome.SAME_COMMITMENT
    results = await asyncio.gather(*(sequencer.submit(event_draft(founded)) for _ in range(20)))
    await sequencer.stop()
    entries = await chain(pool, founded.site_id)
    assert len(entries) == 23
    for result in results:
        entry = decode(entries[result.seq])
        assert entry.signer == key_hash(new.public)
        assert entry.signature == new.sign(core_bytes(founded.log_id, 1, entry.commit, b""))


async def test_a_new_key_put_there_while_the_refusal_is_on_its_way_signs_what_was_refused(
    pool: asyncpg.Pool, founded: Founded
) -> None:
    """Who follows the keys and who is told of a retirement may meet; neither's client may notice."""
    new = SigningKey(b"\x07" * 32)

    async def renew() -> Signer | None:
        sequencer.signer = Signer(founded.log_id, new)
        return sequencer.signer

    sequencer = sequencer_of(pool, founded, renew_signer=renew)
    for public in (keys.introduce_ingest(founded.log_id, new), keys.retire_ingest(founded.ingest.public)):
        signature = founded.root.sign(core_bytes(founded.log_id, Kind.KEY, ZEROS, public))
        await sequencer.submit_control(ControlDraft(Kind.KEY, ZEROS, key_hash(founded.root.public), signature, public))
    result = await sequencer.submit(event_draft(founded))
    await sequencer.stop()
    assert decode((await chain(pool, founded.site_id))[result.seq]).signer == key_hash(new.public)


async def test_a_policy_signed_by_a_key_retired_meanwhile_is_signed_again(pool: asyncpg.Pool, founded: Founded) -> None:
    new = SigningKey(b"\x07" * 32)

    async def renew() -> Signer | None:
        return Signer(founded.log_id, new)

    sequencer = sequencer_of(pool, founded, renew_signer=renew)
    for public in (keys.introduce_ingest(founded.log_id, new), keys.retire_ingest(founded.ingest.public)):
        signature = founded.root.sign(core_bytes(founded.log_id, Kind.KEY, ZEROS, public))
        await sequencer.submit_control(ControlDraft(Kind.KEY, ZEROS, key_hash(founded.root.public), signature, public))
    public = await pool.fetchval("select ledger.put_document('application/json', $1)", b"{}") + b"1.0"
    old = founded.signer
    draft = ControlDraft(Kind.POLICY, ZEROS, old.key_hash, old.sign(Kind.POLICY, ZEROS, public), public)
    results = [await sequencer.submit_control(draft) for _ in range(2)]
    await sequencer.stop()
    assert [result.outcome for result in results] == [Outcome.APPENDED, Outcome.SAME_COMMITMENT]
    entries = await chain(pool, founded.site_id)
    assert len(entries) == 4
    entry = decode(entries[results[0].seq])
    assert entry.signature == new.sign(core_bytes(founded.log_id, Kind.POLICY, ZEROS, public))


async def test_without_an_active_key_events_are_refused_with_a_reason(pool: asyncpg.Pool, founded: Founded) -> None:
    async def none() -> Signer | None:
        return None

    sequencer = sequencer_of(pool, founded, renew_signer=none)
    public = keys.retire_ingest(founded.ingest.public)
    signature = founded.root.sign(core_bytes(founded.log_id, Kind.KEY, ZEROS, public))
    await sequencer.submit_control(ControlDraft(Kind.KEY, ZEROS, key_hash(founded.root.public), signature, public))
    with pytest.raises(Unavailable, match="no active ingest key"):
        await sequencer.submit(event_draft(founded))
    await sequencer.stop()


async def test_stopping_answers_every_waiter_and_writes_what_was_taken(pool: asyncpg.Pool, founded: Founded) -> None:
    sequencer = sequencer_of(pool, founded)
    tasks = [asyncio.create_task(sequencer.submit(event_draft(founded))) for _ in range(300)]
    await asyncio.sleep(0)
    await sequencer.stop()
    results = await asyncio.gather(*tasks)
    assert {result.seq for result in results} == set(range(1, 301))
    with pytest.raises(Unavailable, match="stopping"):
        await sequencer.submit(event_draft(founded))
    assert len(await chain(pool, founded.site_id)) == 301


async def test_stopping_without_a_database_answers_every_waiter(
    founded: Founded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "SHUTDOWN_DRAIN_SECONDS", 0.2)

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(silence, "127.0.0.1", 0)  # accepts and never answers
    port = silent.sockets[0].getsockname()[1]
    pool = await open_pool(f"postgresql://nobody:none@127.0.0.1:{port}/none")
    sequencer = sequencer_of(pool, founded)
    tasks = [asyncio.create_task(sequencer.submit(event_draft(founded))) for _ in range(10)]
    await asyncio.sleep(0.05)
    await sequencer.stop()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    pool.terminate()
    await asyncio.sleep(0.05)
    silent.close()


async def test_what_waits_behind_a_batch_that_gets_no_answer_is_told_with_it(
    founded: Founded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "WAITER_TIMEOUT_SECONDS", 3.0)
    monkeypatch.setattr(config, "CONNECT_TIMEOUT_SECONDS", 0.2)

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    pool = await open_pool(f"postgresql://nobody:none@127.0.0.1:{port}/none")
    sequencer = sequencer_of(pool, founded)
    draft = event_draft(founded)
    waiting = [draft._replace(key=os.urandom(16)) for _ in range(5 * config.APPEND_MAX_DRAFTS)]
    started = time.monotonic()
    results = await asyncio.gather(*(sequencer.submit(each) for each in waiting), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert time.monotonic() - started < 4 * config.WAITER_TIMEOUT_SECONDS, "not one batch after the other"
    pool.terminate()
    await sequencer.stop()
    silent.close()


async def test_a_flood_of_single_events_slows_bulk_and_does_not_stop_it(pool: asyncpg.Pool, founded: Founded) -> None:
    sequencer = sequencer_of(pool, founded)
    flooding = True

    async def flood() -> None:
        while flooding:
            await sequencer.submit(event_draft(founded))

    singles = [asyncio.create_task(flood()) for _ in range(3 * config.APPEND_MAX_DRAFTS)]
    await asyncio.sleep(0.2)
    async with asyncio.timeout(60):
        await asyncio.gather(*(sequencer.submit(event_draft(founded), Lane.BULK) for _ in range(5)))
    flooding = False
    await asyncio.gather(*singles)
    await sequencer.stop()


async def test_a_database_whose_sessions_begin_with_an_old_snapshot_gets_no_seq_twice(
    database: Database, founded: Founded
) -> None:
    admin = await asyncpg.connect(database.admin_url)
    name = await admin.fetchval("select quote_ident(current_database())")
    await admin.execute(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    await admin.close()
    pools = [await open_pool(database.url) for _ in range(2)]
    sequencers = [sequencer_of(pool, founded) for pool in pools]
    for _ in range(30):
        await asyncio.gather(*(sequencer.submit(event_draft(founded)) for sequencer in sequencers))
    for sequencer, pool in zip(sequencers, pools, strict=True):
        await sequencer.stop()
        pool.terminate()


async def test_a_session_that_may_only_read_is_not_used_again(database: Database, founded: Founded) -> None:
    admin = await asyncpg.connect(database.admin_url)
    name = await admin.fetchval("select quote_ident(current_database())")
    await admin.execute(f"alter database {name} set default_transaction_read_only = on")
    pool = await open_pool(database.url)
    async with pool.acquire() as connection:
        assert await connection.fetchval("show transaction_read_only") == "on"
    await admin.execute("set default_transaction_read_only = off")
    await admin.execute(f"alter database {name} reset default_transaction_read_only")
    await admin.close()
    sequencer = sequencer_of(pool, founded)
    assert (await sequencer.submit(event_draft(founded))).outcome == Outcome.APPENDED
    await sequencer.stop()
    pool.terminate()


async def test_two_sequencers_on_one_site_leave_one_gapless_chain(pool: asyncpg.Pool, founded: Founded) -> None:
    sequencers = [sequencer_of(pool, founded), sequencer_of(pool, founded)]
    shared = [new_event_id(now_ms()) for _ in range(100)]
    results = await asyncio.gather(
        *(sequencer.submit(event_draft(founded, event_id)) for event_id in shared for sequencer in sequencers),
        *(sequencer.submit(event_draft(founded)) for _ in range(100) for sequencer in sequencers),
    )
    await asyncio.gather(*(sequencer.stop() for sequencer in sequencers))
    assert len(await chain(pool, founded.site_id)) == 301
    pairs = list(zip(results[:200:2], results[1:200:2], strict=True))
    assert all(one.seq == two.seq for one, two in pairs)


async def test_the_database_stopping_and_coming_back_loses_nothing(
    database: Database, founded: Founded, pool: asyncpg.Pool
) -> None:
    address = urlsplit(database.url)
    proxy = Proxy(address.hostname or "", address.port or 0)
    async with proxy:
        through = await open_pool(service_url(database.admin_url, port=proxy.port))
        sequencer = sequencer_of(through, founded)
        await sequencer.submit(event_draft(founded))
        port = proxy.port
    with pytest.raises(Unavailable) as refused:
        await sequencer.submit(event_draft(founded))
    assert refused.value.reason == "database-unavailable"
    again = await asyncio.start_server(proxy._accept, "127.0.0.1", port)
    assert (await sequencer.submit(event_draft(founded))).outcome == Outcome.APPENDED
    await sequencer.stop()
    through.terminate()
    again.close()
    assert len(await chain(pool, founded.site_id)) == 3


async def test_trouble_that_is_over_is_noticed_without_traffic(pool: asyncpg.Pool, founded: Founded) -> None:
    skew_ms = 6_000
    sequencer = sequencer_of(pool, founded, wall_ms=lambda: now_ms() + skew_ms)
    with pytest.raises(Unavailable):
        await sequencer.submit(event_draft(founded))
    sequencer.probe()
    await asyncio.sleep(0.1)
    assert sequencer.trouble == "clocks-differ"
    skew_ms = 0
    sequencer.probe()
    while sequencer.trouble is not None:
        await asyncio.sleep(0.01)
    await sequencer.stop()
    assert len(await chain(pool, founded.site_id)) == 1


async def test_a_signature_that_is_not_ours_is_never_submitted(pool: asyncpg.Pool, founded: Founded) -> None:
    sequencer = sequencer_of(pool, founded)
    good = event_draft(founded)
    with pytest.raises(Unavailable, match="nothing was told"):
        await sequencer.submit(good._replace(signature=good.signature[:63] + bytes([good.signature[63] ^ 1])))
    public = bytes(32) + b"1.0"
    forged = ControlDraft(Kind.POLICY, ZEROS, founded.signer.key_hash, good.signature, public)
    with pytest.raises(Unavailable, match="nothing was told"):
        await sequencer.submit_control(forged)
    await sequencer.stop()
    assert len(await chain(pool, founded.site_id)) == 1
