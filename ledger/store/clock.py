"""The one clock of a ledger, which is its database's: of several machines none is right by itself."""

from __future__ import annotations

import asyncpg

_NOW_MS = "select (extract(epoch from clock_timestamp()) * 1000)::bigint"


async def now_ms(database: asyncpg.Pool | asyncpg.Connection) -> int:
    """Milliseconds since 1970."""
    told: int = await database.fetchval(_NOW_MS)
    return told
