"""The ledger's own HTTP process (`serve`) as a child, which brings its worker with it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from ledger import config
from ledger.config import Settings
from ledger.core.errors import ConfigInvalid
from ledger.embedded.child import Child, Step

_PAUSE_SECONDS = 0.05


@dataclass(eq=False)
class Server:
    """One `serve` process with the given settings."""

    settings: Settings
    log: Path
    run_dir: Path
    child: Child | None = field(default=None, init=False, repr=False)

    @property
    def base_url(self) -> str:
        return f"http://{self.settings.host}:{self.settings.port}"

    async def start(self) -> None:
        """Return at once. Call it in the main thread."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
        self.child = Child(
            name="serve",
            # -P: a directory named like one of our packages, where `up` was called, is not taken for it.
            command=[sys.executable, "-P", "-m", "ledger", "serve"],
            log=self.log,
            environ={**inherited, **self.settings.environment()},
            run_dir=self.run_dir,
        )
        self.child.start()

    async def ready(self) -> None:
        """Return when it can serve reads and writes; `ConfigInvalid` if it ended or takes too long."""
        deadline = time.monotonic() + config.SERVER_START_TIMEOUT_SECONDS
        timeout = aiohttp.ClientTimeout(total=config.SERVER_PROBE_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not await self._answers(session):
                if self.child is None or self.child.poll() is not None or time.monotonic() > deadline:
                    raise ConfigInvalid(
                        f"the HTTP server does not start:\n{self.child.log_tail() if self.child else ''}"
                    )
                await asyncio.sleep(_PAUSE_SECONDS)

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop(Step(signal.SIGTERM, config.SERVER_SHUTDOWN_SECONDS))

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.base_url}/readyz") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
