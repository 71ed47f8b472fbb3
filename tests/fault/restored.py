"""What tests of `recover` share: an older copy put back, what the database holds, and the command itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

from ledger import cli
from ledger.bus import Bus
from ledger.config import Settings
from ledger.core.errors import Unavailable
from ledger.core.merkle import leaf_hash
from ledger.core.sealing import Master
from ledger.core.tail import Gone
from ledger.embedded.postgres import Postgres
from ledger.recover.recovery import Recovery, Survey, connect
from ledger.sequencer import Sequencer, Signer
from ledger.store.append import Head
from ledger.store.sites import find_log
from tests.conftest import Database, admin
from tests.fault.streams import Broker, caught_up, relaying
from tests.fault.writer import Writer
from tests.founding import MASTER, SITE, Founded, event_draft

SECRET = MASTER.secret
TABLES = ("entry", "opening", "known", "erased", "policy", "signer", "document")


class Backup:
    """One older copy of the test's database, put back as an operator would: under whoever is connected."""

    def __init__(self, postgres: Postgres, database: Database) -> None:
        self._postgres = postgres
        self._name = database.admin_url.rpartition("/")[2]
        self._copy = f"{self._name}_copy"

    async def take(self) -> None:
        async with admin(self._postgres) as connection:
            await connection.execute(f"alter database {self._name} allow_connections false")
            await connection.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = $1", self._name
            )
            await connection.execute(f"create database {self._copy} template {self._name}")
            await connection.execute(f"alter database {self._name} allow_connections true")

    async def put_back(self) -> None:
        async with admin(self._postgres) as connection:
            await connection.execute(f"drop database {self._name} with (force)")
            await connection.execute(f"create database {self._name} template {self._copy}")

    async def forget(self) -> None:
        async with admin(self._postgres) as connection:
            await connection.execute(f"drop database if exists {self._copy}")


_ROWS = """
select t.* from ledger.{table} t
 where not exists (select 1 from ledger.site s
                    where s.admin_of is not null and to_jsonb(t) ->> 'site_id' = s.site_id::text)
"""


async def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every row of the log and of what is kept beside it. The administrative log has a history of its own."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        return {
            table: sorted((tuple(row) for row in await connection.fetch(_ROWS.format(table=table))), key=repr)
            for table in TABLES
        }
    finally:
        await connection.close()


def without_content(rows: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """Drafts of `tests.founding` have a content of their own making."""
    return rows | {"opening": [row[:-1] for row in rows["opening"]]}


async def size_of(database: Database) -> int:
    connection = await asyncpg.connect(database.admin_url)
    try:
        size: int = await connection.fetchval(
            "select count(*) from ledger.entry join ledger.site using (site_id) where admin_of is null"
        )
        return size
    finally:
        await connection.close()


async def publish(pool: asyncpg.Pool, broker: Broker, writer: Writer) -> None:
    async with relaying(pool, broker) as relay:
        await caught_up(relay, writer, 60)


@contextlib.asynccontextmanager
async def recovering(
    database: Database,
    broker: Broker,
    masters: Sequence[Master] = (MASTER,),
    documents: tuple[bytes, ...] = (),
    gone: Mapping[int, Sequence[Gone]] | None = None,
) -> AsyncIterator[Recovery]:
    connection = await connect(database.admin_url)
    bus = await Bus.connect(broker.url)
    try:
        yield Recovery(connection, bus, await find_log(connection, SITE), masters, documents, gone)
    finally:
        await bus.close()
        await connection.close()


def quiet(done: int, total: int) -> None:
    """No progress to tell."""


async def recover(database: Database, broker: Broker, *, dry_run: bool = False, **options: Any) -> Survey:
    """What the command does."""
    async with recovering(database, broker, **options) as work:
        survey = await work.survey(quiet)
        if not dry_run:
            await work.append(survey, quiet)
        return survey


def environment(settings: Settings, database: Database) -> dict[str, str]:
    return settings.environment() | {"LEDGER_ADMIN_DATABASE_URL": database.admin_url}


async def command(settings: Settings, database: Database, *arguments: str, answer: str = "") -> Result:
    """`consent-ledger recover …`, in a thread: it has a loop of its own."""
    invoke: Callable[[], Result] = lambda: CliRunner().invoke(  # noqa: E731
        cli.main, ["recover", *arguments], env=environment(settings, database), input=answer
    )
    return await asyncio.to_thread(invoke)


async def last_head(pool: asyncpg.Pool, founded: Founded) -> Head:
    row = await pool.fetchrow(
        "select seq, entry from ledger.entry where site_id = $1 order by seq desc limit 1", founded.site_id
    )
    return Head(row["seq"] + 1, leaf_hash(row["entry"]))


def sequencer_of(pool: asyncpg.Pool, founded: Founded, head: Head) -> Sequencer:
    async def same() -> Signer | None:
        return founded.signer

    return Sequencer(founded.site_id, pool, founded.signer, same, head)


async def refuses(pool: asyncpg.Pool, founded: Founded, head: Head) -> None:
    sequencer = sequencer_of(pool, founded, head)
    with pytest.raises(Unavailable, match="older copy"):
        await sequencer.submit(event_draft(founded))
    await sequencer.stop()
