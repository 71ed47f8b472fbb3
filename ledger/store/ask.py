"""One question to the database, bounded in time; what a failure means to the caller."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from ledger import config
from ledger.core.errors import Unavailable
from ledger.store.errors import is_transient, is_unprepared, sqlstate

log = logging.getLogger(__name__)


async def ask(pool: asyncpg.Pool, query: str, *arguments: object) -> list[asyncpg.Record]:
    """The rows of one statement; `Unavailable` if it gets no answer."""
    try:
        # Bounded here too: while no connection gets an answer, those who wait for one would pile up.
        async with pool.acquire(timeout=config.READ_TIMEOUT_SECONDS) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
    except Exception as error:
        if (unavailable := _meaning(error)) is None:
            raise
        raise unavailable from error
    return rows


@asynccontextmanager
async def locked(pool: asyncpg.Pool, query: str, *arguments: object) -> AsyncIterator[None]:
    """Hold what a statement locks until the end of its transaction. The server ends one that idles for too long."""
    try:
        async with pool.acquire(timeout=config.READ_TIMEOUT_SECONDS) as connection, connection.transaction():
            await connection.execute(query, *arguments)
            yield
    except Exception as error:
        if (unavailable := _meaning(error)) is None:
            raise
        raise unavailable from error


def _meaning(error: Exception) -> Unavailable | None:
    """What a failure of the database means; None for any other error."""
    if is_transient(error):
        return Unavailable("database-unavailable", "The ledger's database does not answer; try again.")
    if is_unprepared(error):
        log.error("the database is not set up: %s (SQLSTATE %s)", type(error).__name__, sqlstate(error))
        return Unavailable(
            "database-unprepared", "The ledger's database is being set up or restored; try again later.", 5
        )
    return None
