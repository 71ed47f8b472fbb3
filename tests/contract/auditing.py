"""A server with a log whose checkpoints the test signs, as auditors see it."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg

from ledger.config import Settings
from ledger.core.ed25519 import SigningKey
from ledger.embedded.postgres import Postgres
from ledger.http.limits import Limits
from ledger.keys.files import log_keys
from tests.checkpointing import Cosign, Signed, checkpoint, unchanged
from tests.contract.conftest import SITE, Answer, Api, Client, fresh_database, grant, running_api

LOG = f"/logs/{SITE}"


class Log(Client):
    """A server with a log, whose checkpoints the test signs; `admin_url` is the superuser's."""

    def __init__(self, api: Api, session: aiohttp.ClientSession, admin_url: str) -> None:
        super().__init__(api, session)
        self.admin_url = admin_url

    @property
    def log_key(self) -> SigningKey:
        return log_keys(self.api.settings, SITE)[0]

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", LOG + path, headers=headers)

    async def get_entries(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", LOG + path, key=self.api.scoped["audit"], headers=headers)

    async def fill(self, count: int) -> None:
        """Record that many events."""
        lines = "\n".join(json.dumps(grant()) for _ in range(count))
        headers = {"Content-Type": "application/x-ndjson"}
        answer = await self.call("POST", "events:batch", key=self.api.secret, data=lines, headers=headers)
        assert answer.status == 200

    async def sign(self, size: int | None = None, *, cosigned: bool = True, cosign: Cosign = unchanged) -> Signed:
        """A checkpoint over the first `size` entries, or all."""
        url = self.api.settings.database_url
        return await checkpoint(url, SITE, self.log_key, size, cosigned=cosigned, cosign=cosign)

    async def signed(self) -> Signed:
        """A checkpoint over all that there is now, which no other test has to share."""
        await self.post(grant())
        return await self.sign()

    async def superuser(self, statement: str) -> None:
        connection = await asyncpg.connect(self.admin_url)
        await connection.execute(statement)
        await connection.close()


@asynccontextmanager
async def serving_log(
    postgres: Postgres, template: str, keys_dir: Path, limits: Limits | None = None
) -> AsyncIterator[Log]:
    async with fresh_database(postgres, template) as url:
        settings = Settings(
            database_url=url,
            keys_dir=keys_dir / "keys",
            master_secret=secrets.token_bytes(32),
            origin_prefix="ledger.test",
        )
        running = running_api(settings, limits=limits or Limits(checkpoint_wait_seconds=60))
        async with running as api, aiohttp.ClientSession() as session:
            yield Log(api, session, postgres.url(url.rpartition("/")[2]))
