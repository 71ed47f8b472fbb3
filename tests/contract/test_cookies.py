"""The cookie inventory over HTTP: who may report and read, what is kept of a name, reviews, and the bounds."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from ledger import config
from ledger.app import open_service
from ledger.config import Settings
from ledger.core.encoding import encode_json
from ledger.http.app import create_app
from ledger.http.server import serving
from tests.conftest import Database
from tests.contract.conftest import OTHER_SITE, SITE, Answer, Api, Client, running_api
from tests.contract.test_events import assert_problem

OBSERVED, INVENTORY, REVIEW = "cookies:observed", "cookies", "cookies:review"
PAGE = "https://weco.nexaxt.com"


def letters() -> str:
    """A name of a test's own that has nothing of an identifier."""
    return "".join(secrets.choice("ghijklmnopqrstuvwxyz") for _ in range(14))


async def report(client: Client, *names: str, key: str | None = None, **members: Any) -> Answer:
    return await client.call("POST", OBSERVED, key=key or client.api.publishable, json={"names": names, **members})


async def read(client: Client) -> dict[str, Any]:
    answer = await client.call("GET", INVENTORY, key=client.api.scoped["check"])
    assert answer.status == 200, answer.body
    inventory: dict[str, Any] = answer.json
    return inventory


async def undeclared(client: Client) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["storage"], row["name"]): row for row in (await read(client))["undeclared"]}


async def review(client: Client, **members: Any) -> Answer:
    return await client.call("POST", REVIEW, key=client.api.scoped["admin"], json={"by": "counsel", **members})


@pytest_asyncio.fixture
async def own(database: Database, settings: Settings) -> AsyncIterator[Client]:
    """A server of the test's own, whose inventory nobody else fills."""
    async with running_api(settings) as api, aiohttp.ClientSession() as session:
        yield Client(api, session)


async def today(api: Api) -> str:
    connection = await asyncpg.connect(api.settings.database_url)
    day: str = await connection.fetchval("select (now() at time zone 'UTC')::date::text")
    await connection.close()
    return day


# --- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "scope"), [(INVENTORY, "check"), (REVIEW, "admin"), (OBSERVED, "events")])
async def test_each_call_wants_its_scope(client: Client, call: str, scope: str) -> None:
    method = "GET" if call == INVENTORY else "POST"
    assert_problem(await client.call(method, call), 401, "key-missing")
    for has, key in client.api.scoped.items():
        answer = await client.call(method, call, key=key, json={} if method == "POST" else None)
        if has == scope:
            assert answer.status in (200, 422)
        else:
            assert_problem(answer, 403, "scope-missing")
    if call != OBSERVED:
        answer = await client.call(method, call, key=client.api.publishable)
        assert_problem(answer, 403, "secret-key-needed")


async def test_a_page_of_the_site_may_report_and_another_may_not(client: Client) -> None:
    key = client.api.publishable
    body = {"names": ["theme"]}
    answer = await client.call("POST", OBSERVED, key=key, json=body, headers={"Origin": PAGE})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    preflight = await client.call(
        "OPTIONS", OBSERVED, headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    )
    assert (preflight.status, preflight.headers["Access-Control-Allow-Methods"]) == (204, "POST")
    answer = await client.call("POST", OBSERVED, key=key, json=body, headers={"Origin": "https://example.com"})
    assert_problem(answer, 403, "origin-not-allowed")
    answer = await client.call("POST", OBSERVED, key=client.api.secret, json=body, headers={"Origin": PAGE})
    assert_problem(answer, 403, "secret-key-in-browser")
    for call in (INVENTORY, REVIEW):
        answer = await client.call("OPTIONS", call, headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"})
        assert_problem(answer, 405, "method-not-allowed")


async def test_one_sites_inventory_is_not_anothers(client: Client) -> None:
    name = letters()
    await report(client, name)
    other = f"/v1/sites/{OTHER_SITE}/{INVENTORY}"
    answer = await client.call("GET", other, key=client.api.other_secret)
    assert answer.status == 200
    assert name not in json.dumps(answer.json)
    assert_problem(await client.call("GET", other, key=client.api.secret), 401, "key-unknown")


# --- what -------------------------------------------------------------------------------------------------------------


async def test_declared_names_are_seen_and_others_are_undeclared_since_when(own: Client) -> None:
    before = await read(own)
    assert before["undeclared"] == []
    assert not any(row["seen"] for row in before["declared"])
    name, day = letters(), await today(own.api)

    answer = await report(own, "theme", "session_id", f"{name}_8f3a01b2c4")
    assert answer.status == 200
    assert answer.json == {
        **{"site": SITE, "storage": "cookie"},
        "names": ["theme", "session_id", f"{name}_*"],
    }
    await report(own, "theme", storage="localStorage")

    after = await read(own)
    seen = {row["name"]: row for row in after["declared"] if row["seen"]}
    assert set(seen) == {"theme", "session_id"}
    assert seen["theme"]["purpose"] == "preferences"
    assert (seen["theme"]["firstSeen"], seen["theme"]["lastSeen"], seen["theme"]["days"]) == (day, day, 1)
    assert after["undeclared"] == [
        {"storage": "cookie", "name": f"{name}_*", "firstSeen": day, "lastSeen": day, "days": 1},
        {"storage": "localStorage", "name": "theme", "firstSeen": day, "lastSeen": day, "days": 1},
    ]


async def test_days_are_counted_and_not_reports(own: Client, database: Database) -> None:
    name = letters()
    for _ in range(5):
        await report(own, name, "theme")
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("update ledger.observed_cookie set first_seen = first_seen - 3, last_seen = last_seen - 2")
    await admin.close()
    assert (await undeclared(own))["cookie", name]["days"] == 1
    # Another process, which has not noted them just now.
    async with running_again(own.api) as other:
        for _ in range(3):
            await report(other, name, "theme", name)
    row = (await undeclared(own))["cookie", name]
    assert (row["days"], row["lastSeen"]) == (2, await today(own.api))
    assert row["firstSeen"] < row["lastSeen"]


@asynccontextmanager
async def running_again(api: Api) -> AsyncIterator[Client]:
    """A second server on the same database."""
    async with open_service(api.settings) as service, aiohttp.ClientSession() as session:
        app = create_app(service, api.settings, CollectorRegistry())
        async with serving(app, "127.0.0.1", 0) as (host, port):
            yield Client(api._replace(url=f"http://{host}:{port}"), session)


@pytest.mark.parametrize(
    "name",
    [
        "_ga=GA1.2.1234.5678",
        "a;b",
        "a b",
        "имя",
        "\x00",
        "anna@example.com",
        'a"b',
        "a\u2028b",
        "x=",
        "=x",
        "a\\b",
        "😀",
    ],
)
async def test_a_hostile_name_is_refused_whole_and_not_quoted(client: Client, name: str) -> None:
    harmless = letters()
    answer = await report(client, harmless, name)
    assert_problem(answer, 422, "cookie-name-refused", "/names/1")
    assert name not in answer.json["detail"] or len(name) < 3
    assert ("cookie", harmless) not in await undeclared(client)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"names": []}, "/names"),
        ({"names": "theme"}, "/names"),
        ({"names": [7]}, "/names/0"),
        ({"names": [None]}, "/names/0"),
        ({"names": [""]}, "/names/0"),
        ({"names": ["a" * 129]}, "/names/0"),
        ({"names": ["a"] * 101}, "/names"),
        ({"names": ["a"], "storage": "cloud"}, "/storage"),
        ({"names": ["a"], "values": ["b"]}, ""),
        ({"names": ["a"], "visitor": "v" * 22}, ""),
        ([], ""),
    ],
)
async def test_a_report_of_another_shape_is_refused(client: Client, body: Any, pointer: str) -> None:
    answer = await client.call("POST", OBSERVED, key=client.api.publishable, json=body)
    assert_problem(answer, 422, "invalid-cookies", pointer)


async def test_a_report_that_is_too_large_or_no_json_is_refused(client: Client) -> None:
    key = client.api.publishable
    answer = await client.call("POST", OBSERVED, key=key, json={"names": ["a" * 100] * 900})
    assert_problem(answer, 413, "body-too-large")
    answer = await client.call("POST", OBSERVED, key=key, data=b"{", headers={"Content-Type": "application/json"})
    assert_problem(answer, 400, "invalid-json")
    answer = await client.call("POST", OBSERVED, key=key, data=b"names=a")
    assert_problem(answer, 415, "unsupported-media-type")
    answer = await client.call("POST", f"{OBSERVED}?names=a", key=key, json={"names": ["a"]})
    assert_problem(answer, 400, "unknown-parameter")


async def test_a_site_keeps_a_bounded_number_of_names_and_pages_leave_room_for_its_owner(
    own: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "COOKIES_MAX_NAMES_PUBLISHABLE", 4)
    monkeypatch.setattr(config, "COOKIES_MAX_NAMES", 6)
    first = [letters() for _ in range(4)]
    assert "dropped" not in (await report(own, *first)).json
    assert (await report(own, *first[:2], letters(), letters())).json["dropped"] == 2
    assert (await report(own, letters())).json["dropped"] == 1
    owners = [letters() for _ in range(3)]
    assert (await report(own, *owners, key=own.api.secret)).json["dropped"] == 1
    kept = {name for _, name in await undeclared(own)}
    assert len(kept) == 6
    assert set(first) < kept
    assert "dropped" not in (await report(own, *first)).json  # what is known is still noted


async def test_reports_at_once_keep_the_bound(own: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "COOKIES_MAX_NAMES_PUBLISHABLE", 20)
    answers = await asyncio.gather(*(report(own, *(letters() for _ in range(5)), "theme") for _ in range(16)))
    assert {answer.status for answer in answers} == {200}
    assert len(await undeclared(own)) == 19  # and `theme`


# --- reviews ----------------------------------------------------------------------------------------------------------


def hash_of(inventory: dict[str, Any]) -> str:
    """As the contract describes it."""
    judged = {
        "policyVersion": inventory["policyVersion"],
        "declared": [
            {member: row[member] for member in ("purpose", "storage", "seen", "name", "pattern") if member in row}
            for row in inventory["declared"]
        ],
        "undeclared": [
            {member: row[member] for member in ("storage", "name", "firstSeen")} for row in inventory["undeclared"]
        ],
    }
    return sha256(encode_json(judged)).hexdigest()


async def test_a_review_is_recorded_with_what_was_reviewed(own: Client) -> None:
    await report(own, "theme", letters())
    before = await read(own)
    assert "lastReview" not in before
    assert before["inventory"] == hash_of(before)

    answer = await review(own, by="data protection officer", inventory=before["inventory"])
    assert answer.status == 201
    assert answer.json["by"] == "data protection officer"
    assert answer.json["policyVersion"] == "1.0"
    assert answer.json["inventory"] == before["inventory"]
    assert (answer.json["n"], answer.json["undeclared"]) == (1, 1)
    assert answer.json["declared"] == len(before["declared"])

    assert (await read(own))["lastReview"] == answer.json
    again = await review(own, by="data protection officer")
    assert (again.status, again.headers["Idempotent-Replayed"], again.json) == (200, "true", answer.json)
    other = await review(own, by="counsel")
    assert (other.status, other.json["n"]) == (201, 2)


async def test_what_changed_meanwhile_is_not_reviewed(own: Client) -> None:
    read_by_reviewer = (await read(own))["inventory"]
    await report(own, letters())
    answer = await review(own, inventory=read_by_reviewer)
    assert_problem(answer, 409, "inventory-changed", "/inventory")
    assert "lastReview" not in await read(own)
    await report(own, "theme")
    assert (await review(own, inventory=(await read(own))["inventory"])).status == 201


async def test_reviews_at_once_are_one(own: Client) -> None:
    answers = await asyncio.gather(*(review(own) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    assert {answer.json["n"] for answer in answers} == {1}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"by": ""}, "/by"),
        ({"by": " x"}, "/by"),
        ({"by": "x" * 65}, "/by"),
        ({"by": "anna@example.com"}, "/by"),
        ({"by": "a\nb"}, "/by"),
        ({"by": "counsel", "inventory": "1"}, "/inventory"),
        ({"by": "counsel", "at": "2020-01-01T00:00:00Z"}, ""),
    ],
)
async def test_a_review_of_another_shape_is_refused(client: Client, body: Any, pointer: str) -> None:
    answer = await client.call("POST", REVIEW, key=client.api.scoped["admin"], json=body)
    assert_problem(answer, 422, "invalid-cookies", pointer)


async def test_a_review_becomes_overdue_where_the_policy_asks_for_reviews(own: Client) -> None:
    weco = await read(own)
    document = (await own.call("GET", "policy")).json
    if "reviewCookiesEvery" in document:
        assert weco["reviewEvery"] == document["reviewCookiesEvery"]
        assert "due" in weco
    else:
        assert {"due", "reviewEvery", "overdueSeconds"}.isdisjoint(weco)
    changed = {
        **{name: value for name, value in document.items() if name not in ("reaskAfter", "order")},
        "reviewCookiesEvery": "P1D",
        "policy": {**document["policy"], "version": "1.1", "effectiveAt": "2026-01-01"},
    }
    put = await own.call("PUT", "policy", key=own.api.secret, json=changed)
    assert put.status == 201, put.body
    inventory = await read(own)
    assert (inventory["policyVersion"], inventory["reviewEvery"]) == ("1.1", "P1D")
    assert "due" in inventory


# --- nobody -----------------------------------------------------------------------------------------------------------


async def test_nothing_of_a_name_that_identifies_is_in_the_database(own: Client, database: Database) -> None:
    person = secrets.token_hex(8)
    number = str(secrets.randbelow(10**10) + 10**10)
    await report(own, f"user_{person}", f"ph_{person}_posthog", f"n{number}", f"call-{number[:3]}-{number[3:]}")
    admin = await asyncpg.connect(database.admin_url)
    rows = await admin.fetch("select t::text as row from ledger.observed_cookie t")
    await admin.close()
    text = "\n".join(row["row"] for row in rows)
    assert len(rows) >= 3
    assert not any(part in text for part in (person, person[:6], number[:6], number[3:]))
