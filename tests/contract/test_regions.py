"""Where a visitor is: found by the server for pages, believed from backends, and part of what is decided."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest_asyncio

from ledger.config import Settings
from ledger.provision import create_api_key
from ledger.store.pool import open_pool
from tests.contract.conftest import OTHER_SITE, Answer, Client, grant, running_api, visitor
from tests.contract.test_events import assert_problem

HEADER = "X-Country"


class Shop:
    """A site whose regime depends on the region: opt-in in the EU, opt-out elsewhere. Its proxy is on this machine."""

    def __init__(self, client: Client, publishable: str) -> None:
        self._client, self._keys = client, {True: client.api.other_secret, False: publishable}

    async def post(self, event: dict[str, Any], country: str | None, *, backend: bool = False) -> dict[str, Any]:
        answer = await self._call("POST", "events", backend, country, json=event)
        assert answer.status == 201, answer.body
        stored: dict[str, Any] = json.loads(b64decode(answer.json["payload"]))
        return stored

    async def ask(self, who: str, country: str | None, query: str = "", *, backend: bool = False) -> Answer:
        headers = {"Consent-Visitor": who}
        return await self._call("GET", f"consent?purpose=analytics{query}", backend, country, headers=headers)

    async def _call(
        self,
        method: str,
        call: str,
        backend: bool,
        country: str | None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> Answer:
        sent = (headers or {}) | ({HEADER: country} if country is not None else {})
        path = f"/v1/sites/{OTHER_SITE}/{call}"
        return await self._client.call(method, path, key=self._keys[backend], headers=sent, **more)


@pytest_asyncio.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    behind_a_proxy = replace(settings, trusted_proxies="127.0.0.1", region_header=HEADER)
    async with running_api(behind_a_proxy) as api, aiohttp.ClientSession() as session:
        pool = await open_pool(settings.database_url, size=1)
        site_id = await pool.fetchval("select site_id from ledger.site where site = $1", OTHER_SITE)
        publishable = await create_api_key(pool, site_id, "publishable", ("events",), "test")
        await pool.close()
        yield Shop(Client(api, session), publishable)


FOUND_CLAIMED_STORED = [
    (("KZ", None, False), "KZ"),
    (("KZ", "US", False), "KZ"),
    (("XX", None, False), None),
    (("EU", None, False), None),
    ((None, "US", False), None),
    (("KZ", "US-CA", True), "US-CA"),
    (("KZ", None, True), None),
]


async def test_an_event_is_from_where_the_server_finds_or_a_backend_says(shop: Shop) -> None:
    told = []
    for country, claimed, backend in (sent for sent, _ in FOUND_CLAIMED_STORED):
        event = grant(**({} if claimed is None else {"region": claimed}))
        told.append((await shop.post(event, country, backend=backend)).get("region"))
    assert told == [stored for _, stored in FOUND_CLAIMED_STORED]


async def test_a_page_is_answered_by_the_regime_of_its_visitor_s_region(shop: Shop) -> None:
    async def told(country: str | None, query: str = "", *, backend: bool = False) -> tuple[str, str]:
        decision = (await shop.ask(visitor(), country, query, backend=backend)).json["decisions"]["analytics"]
        return decision["regime"], decision["decision"]

    assert await told("US") == ("opt-out", "granted")
    assert await told("DE") == ("opt-in", "denied")
    for unknown in (None, "XX", "EU"):
        assert await told(unknown) == ("opt-in", "denied")
        query = "" if unknown is None else f"&region={unknown}"
        assert await told("US", query, backend=True) == ("opt-in", "denied")
    assert await told("DE", "&region=US", backend=True) == ("opt-out", "granted")
    assert_problem(await shop.ask(visitor(), "US", "&region=US"), 403, "secret-key-needed")
