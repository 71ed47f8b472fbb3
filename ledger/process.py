"""How a process of the ledger begins and ends: over which database, on which loop, and by which signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import asyncpg

from ledger import config
from ledger.backup.marker import refuse_unfinished
from ledger.config import Settings


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end on uvloop, where it exists."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        factory = asyncio.new_event_loop
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def refuse_unfinished_restore(settings: Settings) -> None:
    """`ConfigInvalid` if the database holds half a ledger. One that does not answer may come later."""
    try:
        connection = await asyncpg.connect(settings.database_url, timeout=config.CONNECT_TIMEOUT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return
    try:
        await refuse_unfinished(connection)
    finally:
        await connection.close()
