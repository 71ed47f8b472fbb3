"""What keeps a half restored ledger from being served: a mark in the database, and one in a data directory.

While it stands, the service's login has no right to anything in the schema, so that servers which run already, of
whatever release, neither read nor write; those that start say why. It is taken away last, in one transaction.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import asyncpg

from ledger.core.errors import ConfigInvalid

MARK_NAME = "restoring"
LOADING = "loading"
UNFINISHED = (
    "a restore into this database was not finished: give the same `consent-ledger restore` again, "
    "or begin anew with an empty database"
)

_IS_MARKED = """
select exists (select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                where n.nspname = 'ledger' and c.relname = 'restoring')
"""
_MARK = """
create table ledger.restoring (backup bytea not null, step text not null);
alter table ledger.restoring owner to ledger_owner;
revoke usage on schema ledger from ledger_service;
"""
_NOTE = "insert into ledger.restoring (backup, step) values ($1, $2)"
_READ = "select backup, step from ledger.restoring"
_STEP = "update ledger.restoring set step = $1"
_UNMARK = """
drop table ledger.restoring;
grant usage on schema ledger to ledger_service;
"""


class Mark(NamedTuple):
    """Which backup (the salt in its header) is being restored, and which step was done last."""

    backup: bytes
    step: str


async def read_mark(connection: asyncpg.Connection) -> Mark | None:
    if not await connection.fetchval(_IS_MARKED):
        return None
    row = await connection.fetchrow(_READ)
    return None if row is None else Mark(*row)


async def set_mark(connection: asyncpg.Connection, mark: Mark) -> None:
    """Before anything is loaded."""
    async with connection.transaction():
        await connection.execute("set local role ledger_migrate")
        await connection.execute(_MARK)
        await connection.execute(_NOTE, *mark)


async def set_step(connection: asyncpg.Connection, step: str) -> None:
    await connection.execute(_STEP, step)


async def take_mark_away(connection: asyncpg.Connection) -> None:
    """After everything else: from now on it may be served."""
    async with connection.transaction():
        await connection.execute("set local role ledger_migrate")
        await connection.execute(_UNMARK)


async def refuse_unfinished(pool: asyncpg.Pool | asyncpg.Connection) -> None:
    """`ConfigInvalid` while the mark stands. Any login may ask."""
    if await pool.fetchval(_IS_MARKED):
        raise ConfigInvalid(UNFINISHED)


def refuse_unfinished_directory(directory: Path) -> None:
    """The same of an `up`'s data directory."""
    if (directory / MARK_NAME).exists():
        raise ConfigInvalid(
            f"a restore into {directory} was not finished: give the same `consent-ledger restore` again, "
            "or remove the directory and begin anew"
        )
