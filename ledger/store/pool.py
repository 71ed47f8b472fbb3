"""Connections to Postgres, set up so that a lost peer is noticed and no lock is held by somebody who sleeps."""

from __future__ import annotations

import asyncpg

from ledger.config import (
    CONNECT_TIMEOUT_SECONDS,
    POOL_MAX_CONNECTIONS,
    READ_TIMEOUT_SECONDS,
    RECOVER_LOCK_TIMEOUT_SECONDS,
)

_SESSION = {
    "application_name": "consent-ledger",
    "synchronous_commit": "on",
    # The append reads what was committed while it waited for the lock: an older snapshot would show a stale tip.
    "default_transaction_isolation": "read committed",
    "jit": "off",
    # Every question is asked by key. A plan that was made while the tables were small, and kept, must not read them
    # whole once they have grown. (Joins stay free: where each row is looked up by key the query itself says so, and
    # whole logs, as export reads them, are quadratic under nested loops.)
    "enable_seqscan": "off",
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "5s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
}


async def _keep(_: asyncpg.Connection) -> None:
    """Nothing here changes a session, so the reset query that asyncpg sends by default would be a wasted round trip."""


async def open_pool(
    url: str, *, size: int = POOL_MAX_CONNECTIONS, timeout_seconds: float = READ_TIMEOUT_SECONDS
) -> asyncpg.Pool:
    """A pool that opens its connections when they are needed, so that a server may start before its database."""
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=timeout_seconds,
        server_settings=_SESSION,
        reset=_keep,
    )


async def connect_as_owner(admin_url: str, name: str) -> asyncpg.Connection:
    """A connection as the schema's owner, who may do what the service may not; `name` is what Postgres shows of it."""
    connection = await asyncpg.connect(
        admin_url,
        timeout=CONNECT_TIMEOUT_SECONDS,
        server_settings={
            "application_name": name,
            "synchronous_commit": "on",
            "lock_timeout": f"{RECOVER_LOCK_TIMEOUT_SECONDS}s",
        },
    )
    try:
        await connection.execute("set role ledger_owner")
    except BaseException:
        await connection.close()
        raise
    return connection
