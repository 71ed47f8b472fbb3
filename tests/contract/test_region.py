"""The region of a request over HTTP: whom the server believes about where a visitor is, and what follows from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from ledger import config
from ledger.app import open_service
from ledger.config import Settings
from ledger.core.whereabouts import parse_networks
from ledger.http.app import create_app
from ledger.http.server import serving
from ledger.provision import create_site
from ledger.region import RegionFinder
from tests.contract.conftest import OTHER_SITE, SITES_DIR, Answer, grant, refusal, visitor
from tests.contract.test_events import assert_problem
from tests.locations import ALMATY, ALMATY_V6, FRANKFURT, NOWHERE, SAN_JOSE, write_locations

PROXY = "127.0.0.1"
"""Whence the tests call."""


class Caller:
    """Calls we-nera.com, where analytics runs until it is refused, but in Europe waits for consent."""

    def __init__(self, url: str, session: aiohttp.ClientSession, publishable: str, secret: str) -> None:
        self._url, self._session = f"{url}/v1/sites/{OTHER_SITE}/", session
        self.publishable, self.secret = publishable, secret

    async def call(self, method: str, path: str, key: str, json: Any = None, **headers: str) -> Answer:
        sent = {"Authorization": f"Bearer {key}"} | {name.replace("_", "-"): text for name, text in headers.items()}
        async with self._session.request(method, self._url + path, json=json, headers=sent) as response:
            body = await response.read()
            return Answer(response.status, response.headers, body, await response.json(content_type=None))

    async def posted(self, event: dict[str, Any], key: str | None = None, **headers: str) -> str | None:
        """The region that is stored of an event that is posted so."""
        answer = await self.call("POST", "events", key or self.publishable, event, **headers)
        assert answer.status == 201, answer.body
        history = await self.call("GET", "history", self.secret, Consent_Visitor=event["visitor"])
        stored: dict[str, Any] = history.json["events"][-1]["event"]
        assert stored["id"] == event["id"]
        return stored.get("region")

    async def decided(self, path: str = "consent?purpose=analytics", key: str | None = None, **headers: str) -> str:
        """Reason of the answer for a visitor who never was here."""
        answer = await self.call("GET", path, key or self.publishable, Consent_Visitor=visitor(), **headers)
        assert answer.status == 200, answer.body
        reason: str = answer.json["decisions"]["analytics"]["reason"]
        return reason


@asynccontextmanager
async def serving_with(settings: Settings, regions: RegionFinder) -> AsyncIterator[Caller]:
    site = await create_site(settings, (SITES_DIR / f"{OTHER_SITE}.yaml").read_bytes())
    async with open_service(settings) as service, aiohttp.ClientSession() as session:
        app = create_app(service, settings, CollectorRegistry(), regions=regions)
        async with serving(app, "127.0.0.1", 0) as (host, port):
            yield Caller(f"http://{host}:{port}", session, site.publishable, site.secret)


def finder(tmp_path: Path, *, proxies: str = PROXY, header: str = "") -> RegionFinder:
    regions = RegionFinder(parse_networks(proxies), header, write_locations(tmp_path / "places.mmdb"))
    regions.reload()
    return regions


@pytest_asyncio.fixture
async def caller(settings: Settings, tmp_path: Path) -> AsyncIterator[Caller]:
    """Of a server that trusts a proxy from which the tests call, which names the region, or else the client."""
    async with serving_with(settings, finder(tmp_path, header="CF-IPCountry")) as caller:
        yield caller


@pytest.mark.parametrize(
    ("headers", "region"),
    [
        ({"X_Forwarded_For": ALMATY}, "KZ"),
        ({"X_Forwarded_For": ALMATY_V6}, "KZ"),
        ({"X_Forwarded_For": f"::ffff:{ALMATY}"}, "KZ"),
        ({"X_Forwarded_For": SAN_JOSE}, "US-CA"),
        ({"X_Forwarded_For": f"{FRANKFURT}, {ALMATY}, {PROXY}"}, "KZ"),
        ({"Forwarded": f'for="[{ALMATY_V6}]:443"'}, "KZ"),
        ({"CF_IPCountry": "kz", "X_Forwarded_For": FRANKFURT}, "KZ"),
        ({"CF_IPCountry": "US-CA"}, "US-CA"),
        ({"CF_IPCountry": "T1", "X_Forwarded_For": FRANKFURT}, None),
        ({"CF_IPCountry": "XX"}, None),
        ({"X_Forwarded_For": NOWHERE}, None),
        ({"X_Forwarded_For": "10.1.2.3"}, None),
        ({"X_Forwarded_For": "nonsense"}, None),
        ({"X_Forwarded_For": ALMATY, "Forwarded": f"for={FRANKFURT}"}, None),
        ({}, None),
    ],
)
async def test_an_event_of_a_browser_gets_the_region_that_the_server_finds(
    caller: Caller, headers: dict[str, str], region: str | None
) -> None:
    assert await caller.posted(grant(), **headers) == region
    assert await caller.posted(refusal(), **headers) == region


async def test_what_a_browser_says_of_its_region_does_not_count(caller: Caller) -> None:
    assert await caller.posted(grant(region="US-CA"), X_Forwarded_For=FRANKFURT) == "DE"
    assert await caller.posted(grant(region="US-CA")) is None
    answer = await caller.call(
        "GET", "consent?region=KZ", caller.publishable, Consent_Visitor=visitor(), X_Forwarded_For=FRANKFURT
    )
    assert_problem(answer, 403, "secret-key-needed")


async def test_a_backend_is_believed_and_its_own_address_says_nothing(caller: Caller) -> None:
    assert await caller.posted(grant(region="US-CA"), caller.secret, X_Forwarded_For=FRANKFURT) == "US-CA"
    assert await caller.posted(grant(), caller.secret, X_Forwarded_For=FRANKFURT, CF_IPCountry="DE") is None
    assert await caller.decided(key=caller.secret, X_Forwarded_For=ALMATY) == "never_asked"
    assert await caller.decided("consent?purpose=analytics&region=KZ", key=caller.secret) == "opt_out_default"


async def test_the_decision_follows_the_region_and_unknown_is_the_strictest(caller: Caller) -> None:
    assert await caller.decided(X_Forwarded_For=ALMATY) == "opt_out_default"
    assert await caller.decided(CF_IPCountry="KZ") == "opt_out_default"
    assert await caller.decided(X_Forwarded_For=FRANKFURT) == "never_asked"
    assert await caller.decided(X_Forwarded_For=f"{ALMATY}, {FRANKFURT}") == "never_asked"
    assert await caller.decided(X_Forwarded_For=NOWHERE) == "never_asked"
    assert await caller.decided() == "never_asked"


async def test_headers_of_anybody_but_the_proxy_are_not_believed(settings: Settings, tmp_path: Path) -> None:
    regions = finder(tmp_path, proxies="10.0.0.0/8", header="CF-IPCountry")
    async with serving_with(settings, regions) as caller:
        for headers in ({"X_Forwarded_For": ALMATY}, {"Forwarded": f"for={ALMATY}"}, {"CF_IPCountry": "KZ"}):
            assert await caller.posted(grant(), **headers) is None
            assert await caller.decided(**headers) == "never_asked"


async def test_a_repeat_from_elsewhere_is_the_same_event(caller: Caller) -> None:
    event = grant()
    assert await caller.posted(event, X_Forwarded_For=FRANKFURT) == "DE"
    for headers in ({"X_Forwarded_For": ALMATY}, {}, {"CF_IPCountry": "US"}):
        again = await caller.call("POST", "events", caller.publishable, event, **headers)
        assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    history = await caller.call("GET", "history", caller.secret, Consent_Visitor=event["visitor"])
    assert [item["event"]["region"] for item in history.json["events"]] == ["DE"]


async def test_an_address_begins_so_many_requests_of_people_at_once_and_others_are_let_be(caller: Caller) -> None:
    asked = {"visitor": "v" * 43, "kind": "objection"}

    async def begin(address: str, key: str = caller.publishable, **told: str) -> Answer:
        return await caller.call("POST", "requests", key, asked | told, X_Forwarded_For=address)

    for _ in range(config.REQUEST_ADDRESS_MAX):
        assert (await begin(ALMATY)).status == 200
    refused = await begin(ALMATY)
    assert_problem(refused, 429, "too-many-requests")
    assert 0 < int(refused.headers["Retry-After"]) <= config.REQUEST_ADDRESS_SECONDS
    assert ALMATY not in refused.body.decode()
    assert (await begin(FRANKFURT)).status == 200
    assert (await begin(ALMATY, caller.secret)).status == 200, "a backend asks for many"
    again = {"visitor": asked["visitor"], "id": "01980000-0000-4000-8000-000000000001"}
    followed = await caller.call("POST", "requests", caller.publishable, again, X_Forwarded_For=ALMATY)
    assert followed.status == 200, "what was begun is followed"
