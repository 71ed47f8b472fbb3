"""Tells a webhook what was found: JSON by POST, each notice at least once and in order, however long that takes.

What waits lies in the record on disk, so neither a receiver that is down nor a monitor that is killed loses it. The
receiver knows a notice that comes twice by its `id`. Nobody waits for this but a monitor that ends, and that briefly.
"""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import msgspec

from ledger import __version__
from ledger.config import MONITOR_WEBHOOK_PAUSES_SECONDS, MONITOR_WEBHOOK_TIMEOUT_SECONDS
from ledger.monitor.record import Notice, Record

log = logging.getLogger(__name__)


class Webhook:
    """One receiver. Its URL may hold a secret: it is never logged."""

    def __init__(self, url: str, record: Record, told: asyncio.Event) -> None:
        self.failures = 0
        self._delivered = asyncio.Event()
        self._url, self._record, self._told = url, record, told

    async def run(self) -> None:
        """Deliver what waits and what comes, until cancelled."""
        headers = {"Content-Type": "application/json", "User-Agent": f"consent-ledger/{__version__}"}
        timeout = aiohttp.ClientTimeout(total=MONITOR_WEBHOOK_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=True) as session:
            failed = 0
            while True:
                self._told.clear()
                waiting = self._record.state.notices
                if not waiting:
                    await self._told.wait()
                    continue
                notice = waiting[0]
                problem = await self._post(session, msgspec.json.encode(notice))
                if problem is None:
                    self._settle(notice)
                    failed = 0
                    continue
                if failed == 0:
                    log.warning("the webhook was not told (%s); trying on, %d waiting", problem, len(waiting))
                self.failures += 1
                pause = MONITOR_WEBHOOK_PAUSES_SECONDS[min(failed, len(MONITOR_WEBHOOK_PAUSES_SECONDS) - 1)]
                failed += 1
                await asyncio.sleep(pause)

    def _settle(self, notice: Notice) -> None:
        """It was taken. If that cannot be written down now, it may be told again: at least once is the promise."""
        waiting = self._record.state.notices
        if notice in waiting:
            waiting.remove(notice)
        try:
            self._record.save()
        except OSError as error:
            log.error("the state cannot be written: %s", error)
        self._delivered.set()

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> str | None:
        """None if the receiver has it, else what went wrong."""
        try:
            async with session.post(self._url, data=body, allow_redirects=False) as response:
                return None if 200 <= response.status < 300 else f"status {response.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return type(error).__name__

    async def empty(self) -> None:
        """Return when nothing waits."""
        while self._record.state.notices:
            self._delivered.clear()
            await self._delivered.wait()
