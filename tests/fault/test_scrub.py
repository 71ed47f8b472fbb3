"""What was erased is gone from the database's files once they are written anew, and never while somebody may see it."""

from __future__ import annotations

import asyncio
import secrets

import asyncpg
import pytest

from ledger import config
from ledger.config import Settings
from ledger.embedded.postgres import Postgres
from ledger.horizon import Horizon, horizons
from ledger.scrub import Scrubber, connected, relations, scrub
from tests.conftest import Database

LASTING = {
    "migration", "site", "entry", "document", "policy", "signer", "erased", "key_entry", "projection",
    "checkpoint", "checkpointer", "tile", "consumer", "cookie_review", "observed_cookie", "scrub",
}  # fmt: skip
"""Tables of which nothing is ever deleted that was a person's."""


async def touch(connection: asyncpg.Connection, rows: int = 20, deleted: int = 5) -> list[bytes]:
    """Fill a table, and delete some of it; what was deleted."""
    keys = [secrets.token_bytes(32) for _ in range(rows)]
    await connection.executemany("insert into ledger.unfolded values (1, 1, $1)", [(key,) for key in keys])
    await connection.execute("delete from ledger.unfolded where visitor = any($1)", keys[rows - deleted :])
    await connection.execute("select pg_stat_force_next_flush()")
    await connection.execute("select 1")
    return keys[rows - deleted :]


async def file_of(connection: asyncpg.Connection, relation: str) -> bytes:
    await connection.execute("checkpoint")
    content: bytes = await connection.fetchval(
        "select pg_read_binary_file(pg_relation_filepath($1::regclass))", relation
    )
    return content


async def test_every_table_is_written_anew_or_holds_nothing_that_is_ever_forgotten(database: Database) -> None:
    connection = await asyncpg.connect(database.admin_url)
    tables = {row[0] for row in await connection.fetch("select tablename from pg_tables where schemaname = 'ledger'")}
    scrubbed = {row[0] for row in await connection.fetch("select relation from ledger.scrub")}
    await connection.close()
    assert not scrubbed & LASTING
    assert tables == scrubbed | LASTING, "say in 0018_scrub.sql and here what a new table holds"


async def test_the_service_writes_anew_what_was_touched_and_the_rows_bytes_are_gone(
    database: Database, settings: Settings
) -> None:
    admin = await asyncpg.connect(database.admin_url)
    deleted = await touch(admin)
    await admin.execute("vacuum ledger.unfolded")  # which is not enough
    before = await file_of(admin, "ledger.unfolded"), await file_of(admin, "ledger.unfolded_pkey")
    assert any(key in before[0] for key in deleted)
    scrubber = Scrubber(settings)
    async with connected(database.url) as connection:
        assert await scrubber.round(connection) is None, "it is not due yet"
        scrubber = Scrubber(Settings(**{**vars(settings), "scrub_hours": 0}))
        done = await scrubber.round(connection)
        assert done is not None
        assert done.clean
        assert done.wal
        assert [table.name for table in done.tables] == ["unfolded"]
        assert await scrubber.round(connection) is None, "nothing was deleted since"
    after = await file_of(admin, "ledger.unfolded"), await file_of(admin, "ledger.unfolded_pkey")
    assert not any(key in after[0] or key in after[1] for key in deleted)
    assert await admin.fetchval("select count(*) from ledger.unfolded") == 15
    await admin.close()


async def test_a_row_that_an_open_transaction_may_see_is_left_and_told_of(
    database: Database, settings: Settings
) -> None:
    reader, admin = await asyncpg.connect(database.admin_url), await asyncpg.connect(database.admin_url)
    await reader.execute("begin isolation level repeatable read")
    await reader.fetchval("select count(*) from ledger.site")
    await touch(admin, deleted=3)
    async with connected(database.url) as connection:
        (unfolded,) = [table for table in await relations(connection) if table.name == "unfolded"]
        done = await scrub(connection, [unfolded])
        assert [table.kept for table in done.tables] == [3]
        assert not done.clean
        assert [table.name for table in await relations(connection) if table.touched] == ["unfolded"]
        scrubber = Scrubber(Settings(**{**vars(settings), "scrub_hours": 0}))
        tried = await scrubber.round(connection)
        assert tried is not None
        assert not tried.clean
        assert await scrubber.round(connection) is None, "everybody would wait again, and in vain"
        await reader.execute("commit")
        assert (await scrub(connection, [unfolded])).clean
        assert not any(table.touched for table in await relations(connection))
    await reader.close()
    await admin.close()


async def test_nobody_waits_long_behind_one_who_waits_for_a_long_reader(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "SCRUB_LOCK_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(config, "SCRUB_LOCK_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(config, "SCRUB_LOCK_ATTEMPTS", 3)
    reader, writer = await asyncpg.connect(database.admin_url), await asyncpg.connect(database.admin_url)
    await reader.execute("begin")
    await reader.fetchval("select count(*) from ledger.unfolded")
    async with connected(database.url) as connection:
        (unfolded,) = [table for table in await relations(connection) if table.name == "unfolded"]
        scrubbing = asyncio.create_task(scrub(connection, [unfolded]))
        while not scrubbing.done():
            await touch(writer, 1, 0)
        (table,) = scrubbing.result().tables
        assert "held it all the time" in table.trouble
        assert not scrubbing.result().clean
    await reader.close()
    await writer.close()


async def test_what_is_sealed_or_hashed_is_never_copied_into_the_statistics(database: Database) -> None:
    admin = await asyncpg.connect(database.admin_url)
    rows = [(1, seq, *(secrets.token_bytes(length) for length in (600, 16, 16))) for seq in range(300)]
    await admin.copy_records_to_table("opening", schema_name="ledger", records=rows)
    await admin.execute("analyze ledger.opening")
    statistics = await file_of(admin, "pg_statistic")
    assert not [row for row in rows if row[2] in statistics or row[4] in statistics]
    assert sum(row[3] in statistics for row in rows) <= 3
    estimate = await admin.fetchval(
        "select n_distinct from pg_stats where schemaname = 'ledger' and attname = 'visitor'"
    )
    assert estimate == -1, "how many visitors there are the planner has to know"
    await admin.close()


async def test_a_large_table_waits_for_a_person(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(config, "SCRUB_WORKER_MAX_BYTES", 1)
    admin = await asyncpg.connect(database.admin_url)
    await touch(admin)
    scrubber = Scrubber(Settings(**{**vars(settings), "scrub_hours": 0}))
    async with connected(database.url) as connection:
        assert await scrubber.round(connection) is None
        assert await scrubber.round(connection) is None
    assert [record.message.split(":")[0] for record in caplog.records if record.name == "ledger.scrub"] == ["unfolded"]
    (waiting,) = [metric for metric in scrubber.collect() if metric.name == "consent_ledger_scrub_waiting_seconds"]
    assert [sample.labels["relation"] for sample in waiting.samples if sample.value > 0] == ["unfolded"]
    await admin.close()


async def test_doctor_names_what_keeps_erased_bytes_longer(
    database: Database, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = await asyncpg.connect(database.admin_url)
    assert await horizons(admin, 24) == [
        Horizon(True, "erased bytes in tables", "gone within 24 h of an erasure, and from their indexes"),
        Horizon(True, "erased bytes in WAL", "gone with the same run, and all that was written before"),
    ]
    await admin.fetchval("select pg_create_physical_replication_slot('standby', true)")
    _, wal = await horizons(admin, 24)
    await admin.fetchval("select pg_drop_replication_slot('standby')")
    assert (wal.good, wal.detail) == (False, "replication slots keep it for those who read them (standby)")
    monkeypatch.setattr(config, "SCRUB_WORKER_MAX_BYTES", 1)
    tables, _ = await horizons(admin, 24)
    assert not tables.good
    assert "run `consent-ledger scrub` in a quiet hour" in tables.detail
    await admin.execute("update ledger.scrub set at = now()")
    tables, _ = await horizons(admin, 24)
    assert tables.good, "a timer of one's own sees to it"
    assert "large, by your own `consent-ledger scrub`, 0 h ago last" in tables.detail
    await admin.close()
