"""A lease over all replicas: whoever holds a session-level advisory lock of Postgres works, the others wait.

Losing the connection loses the lease, and the work is cancelled. It spares double work; correctness never rests on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from hashlib import sha256

import asyncpg

from ledger import config
from ledger.store.errors import is_transient

log = logging.getLogger(__name__)


async def hold(database_url: str, name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` whenever the lease of that name is ours, until cancelled."""
    key = int.from_bytes(sha256(f"consent-ledger {name}".encode()).digest()[:8], "big", signed=True)
    while True:
        try:
            await _hold_once(database_url, key, work)
        except Exception as error:
            if not is_transient(error):
                log.exception("the work under the lease %r failed; it is taken up again", name)
        await asyncio.sleep(config.LEASE_RETRY_SECONDS)


async def _hold_once(database_url: str, key: int, work: Callable[[], Awaitable[None]]) -> None:
    connection = await asyncpg.connect(
        database_url, timeout=config.CONNECT_TIMEOUT_SECONDS, command_timeout=config.READ_TIMEOUT_SECONDS
    )
    try:
        if not await connection.fetchval("select pg_try_advisory_lock($1)", key):
            return
        task = asyncio.ensure_future(work())
        try:
            while not task.done():
                await asyncio.wait([task], timeout=config.LEASE_RETRY_SECONDS)
                await connection.fetchval("select 1")  # a lost connection is a lost lease
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])  # not `await task`: whose cancellation came out of that, nobody could tell
    finally:
        connection.terminate()
