"""Without its database the server stays up, answers 503 to what needs it, and comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp

from ledger.config import Settings
from tests.conftest import Database, service_url
from tests.contract.conftest import Client, grant, running_api, visitor
from tests.contract.test_batch import batch, lines_of, results
from tests.contract.test_events import assert_problem
from tests.fault.proxy import Proxy


class Gate(Proxy):
    """A way to the database that can be shut and opened again."""

    async def shut(self) -> None:
        await self.__aexit__()

    async def reopen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)


async def test_a_server_without_its_database_says_so_and_comes_back(database: Database, settings: Settings) -> None:
    parts = urlsplit(database.admin_url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with contextlib.AsyncExitStack() as stack:
        gate = await stack.enter_async_context(Gate(parts.hostname, parts.port))
        through = replace(settings, database_url=service_url(database.admin_url, port=gate.port))
        api = await stack.enter_async_context(running_api(through))
        client = Client(api, await stack.enter_async_context(aiohttp.ClientSession()))
        before = await client.post(grant())
        assert before.status == 201
        assert (await client.call("GET", before.headers["Location"], key=api.secret)).status == 200
        await gate.shut()

        key, who = api.secret, {"Consent-Visitor": visitor()}
        lost = grant()
        document = (await client.call("GET", "policy")).json
        answers = {
            "events": await client.post(lost),
            "consent": await client.call("GET", "consent", key=api.publishable, headers=who),
            "check": await client.call(
                "POST", "check", key=key, json={"visitors": [visitor()], "purposes": ["analytics"]}
            ),
            "history": await client.call("GET", "history", key=key, headers=who),
            "receipts": await client.call("GET", before.headers["Location"], key=key),
            "policy": await client.call("PUT", "policy", key=key, json=document),
            "document": await client.call("GET", "/documents/" + "0" * 64),
        }
        for call, answer in answers.items():
            assert answer.status == 503, (call, answer.body)
            assert_problem(answer, 503, answer.json["type"].rpartition(":")[2])
            assert int(answer.headers["Retry-After"]) >= 1
        told = results(await batch(client, lines_of(grant(), {"bad": 1}, grant()), key=key))
        assert [result["status"] for result in told] == [503, 422, 503]
        assert (await client.call("GET", "/healthz")).status == 200
        assert (await client.call("GET", "policy")).status == 200
        ready = await client.call("GET", "/readyz")
        assert (ready.status, ready.json["read"], ready.json["write"]) == (503, False, False)

        await gate.reopen()
        assert (await client.post(lost)).status in (200, 201)
        assert (await client.post(lost)).status == 200
        assert (await client.call("GET", "/readyz")).status == 200
