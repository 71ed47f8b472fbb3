"""Health, readiness, metrics, the contract and the demo page."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from ledger.config import Settings
from ledger.messages import Readiness, ReadinessCheck
from ledger.service import Service
from tests.contract.conftest import SITE, Client, grant, running_api
from tests.contract.test_events import assert_problem


async def test_a_living_ready_server_says_so(client: Client) -> None:
    assert (await client.call("GET", "/healthz")).json == {"status": "alive"}
    for path in ("/readyz", "/readyz?probe=read", "/readyz?probe=write"):
        answer = await client.call("GET", path)
        assert (answer.status, answer.json["read"], answer.json["write"]) == (200, True, True)
        assert answer.json["checks"]["database"]["ok"] is True
    assert_problem(await client.call("GET", "/readyz?probe=all"), 400, "invalid-parameter")


async def test_reads_and_writes_are_told_apart(settings: Settings) -> None:
    class ReadOnly(Service):
        def __init__(self, service: Service) -> None:
            self.__dict__.update(service.__dict__)

        async def readiness(self) -> Readiness:
            return Readiness(read=True, write=False, checks={"append": ReadinessCheck(ok=False, detail="log-behind")})

    async with running_api(settings, wrap=ReadOnly) as api, aiohttp.ClientSession() as session:
        client = Client(api, session)
        answers = {
            path: await client.call("GET", path) for path in ("/readyz", "/readyz?probe=read", "/readyz?probe=write")
        }
    assert [answer.status for answer in answers.values()] == [503, 200, 503]
    assert answers["/readyz"].json["checks"] == {"append": {"ok": False, "detail": "log-behind"}}


async def test_metrics_count_by_route_status_and_site(client: Client) -> None:
    await client.post(grant())
    await client.call("GET", f"/nowhere/{SITE}")
    await client.call("BREW", "events")
    answer = await client.call("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    text = answer.body.decode()
    route = 'route="/v1/sites/{site}/events"'
    assert f'consent_ledger_http_requests_total{{method="POST",{route},site="{SITE}",status="201"}}' in text
    assert f'consent_ledger_http_request_seconds_count{{method="POST",{route}}}' in text
    assert 'method="other",route="other",site="",status="404"' in text
    assert "nowhere" not in text
    assert "BREW" not in text


PAGES = ["/", "/web/index.html"]


@pytest.mark.parametrize("path", PAGES)
async def test_the_demo_page_loads_nothing_from_third_parties(client: Client, path: str) -> None:
    answer = await client.call("GET", path)
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    again = await client.call("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304


async def test_the_demo_page_is_told_the_publishable_keys_and_no_secrets(client: Client) -> None:
    answer = await client.call("GET", "/web/config.json")
    assert answer.json["sites"][SITE]["publishable"] == client.api.publishable
    assert len(answer.json["sites"][SITE]["logId"]) == 64
    assert b"sk_" not in answer.body
    assert answer.headers["Cache-Control"] == "no-store"


KNOWN_LOGS = re.compile(rb'<script type="application/json" id="known-logs">(.*?)</script>')


async def test_the_page_that_verifies_receipts_is_one_file_that_can_open_no_connection(client: Client) -> None:
    answer = await client.call("GET", "/verify")
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert not {"unsafe", "self", "http"} & set(re.findall(r"[a-z]+", policy))
    page = answer.body.decode()
    assert f'content="{policy.partition("; frame-ancestors")[0]}"' in page, "a saved copy keeps its policy"
    assert re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page) == ["/verify"], "its link to save it, and no more"
    for kind, element in (("script", '<script type="module">'), ("style", "<style>")):
        inside = page.partition(element)[2].partition(f"</{kind}>")[0]
        assert f"{kind}-src 'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'" in policy
    told = json.loads(KNOWN_LOGS.findall(answer.body)[0])
    demo = (await client.call("GET", "/web/config.json")).json["sites"]
    assert told[SITE] == demo[SITE]["logVkey"]
    again = await client.call("GET", "/verify", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304


@pytest.mark.parametrize("path", ["/web/", "/web/nothing.js", "/web/.git", "/web/..%2fconfig.py", "/web/a/b"])
async def test_there_is_no_other_file(client: Client, path: str) -> None:
    assert_problem(await client.call("GET", path), 404, "not-found")


async def test_a_server_that_is_no_demo_serves_no_page_and_trusts_no_page_of_its_own(settings: Settings) -> None:
    async with running_api(settings) as api, aiohttp.ClientSession() as session:
        client = Client(api, session)
        for path in (*PAGES, "/web/config.json"):
            answer: Any = await client.call("GET", path)
            assert_problem(answer, 404, "not-found")
        assert_problem(await client.post(grant(), Origin=api.url), 403, "origin-not-allowed")


async def test_receipts_are_verified_in_no_demo_too_and_it_tells_no_strangers_which_sites_it_has(
    settings: Settings,
) -> None:
    async with running_api(settings) as api, aiohttp.ClientSession() as session:
        answer = await Client(api, session).call("GET", "/verify")
    assert answer.status == 200
    assert KNOWN_LOGS.findall(answer.body) == [b"{}"]


async def test_the_schema_of_site_documents_is_served_to_editors_and_cached(client: Client) -> None:
    answer = await client.call("GET", "/schemas/site-document.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/schema+json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.json["properties"]["purposes"]["title"] == "Purposes"
    again = await client.call("GET", "/schemas/site-document.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert_problem(await client.call("GET", "/schemas/site-document.json?x=1"), 400, "unknown-parameter")
