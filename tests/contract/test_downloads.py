"""One person's data as a file, and links that fetch it once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from ledger import config
from ledger.core.checks import Result
from ledger.core.event import Event
from ledger.core.note import TYPE_ED25519, parse_vkey
from ledger.core.receipt import verify_receipt
from ledger.embedded.postgres import Postgres
from tests.contract.conftest import Answer, Api, Client, grant, refusal, visitor
from tests.contract.test_openapi import CONTRACT, validator

GONE = "urn:consent-ledger:problem:download-gone"


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpointer runs beside this server: proofs of new entries are waited for in vain."""
    monkeypatch.setattr(config, "PERSON_PROOF_WAIT_SECONDS", 0.0)


async def person(client: Client) -> str:
    """A visitor who said yes and then no."""
    who = visitor()
    for event in (grant(visitor=who), refusal(visitor=who, type="consent.withdrawn", action="withdraw")):
        assert (await client.post(event)).status == 201
    return who


async def link(client: Client, **told: Any) -> str:
    """The path of a new link."""
    answer = await client.call("POST", "downloads", key=client.api.secret, json=told)
    assert answer.status == 201, answer.body
    return str(urlsplit(answer.json["url"]).path)


async def in_database(postgres: Postgres, api: Api, statement: str) -> Any:
    connection = await asyncpg.connect(postgres.url(urlsplit(api.settings.database_url).path[1:]))
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


def export_of(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    validator(CONTRACT["components"]["schemas"]["PersonExport"]).validate(answer.json)
    return answer.json


@pytest.mark.parametrize("scope", ["audit", "admin"])
async def test_a_person_is_exported_with_every_event_and_a_receipt_that_verifies(client: Client, scope: str) -> None:
    who = await person(client)
    answer = await client.call("GET", "export", key=client.api.scoped[scope], headers={"Consent-Visitor": who})
    told = export_of(answer)
    assert answer.headers["Cache-Control"].startswith("private, no-store")
    assert told["consent"]["decisions"]["analytics"]["reason"] == "withdrawn"
    assert told["consent"]["decisions"]["analytics"]["explanation"]
    assert [event["event"]["type"] for event in told["events"]] == ["consent.given", "consent.withdrawn"]
    for event in told["events"]:
        report = verify_receipt(json.dumps(event["receipt"]).encode(), parse_vkey(told["logVkey"], TYPE_ED25519))
        assert Result.FAILED not in {check.result for check in report.checks}
        assert isinstance(report.event, Event)
        assert report.event.visitor == who


async def test_nobody_but_an_auditor_or_an_administrator_exports_a_person(client: Client) -> None:
    for key in (client.api.publishable, client.api.scoped["events"], client.api.scoped["check"]):
        refused = await client.call("GET", "export", key=key, headers={"Consent-Visitor": visitor()})
        assert refused.status == 403
        made = await client.call("POST", "downloads", key=key, json={"what": "person", "visitor": visitor()})
        assert made.status == 403


async def test_a_link_fetches_what_the_export_holds_and_then_nothing_any_more(client: Client) -> None:
    who = await person(client)
    path = await link(client, what="person", visitor=who)
    assert (await client.call("HEAD", path)).status == 405  # looking at a link does not spend it
    fetched = await client.call("GET", path)
    assert export_of(fetched)["visitor"] == who
    assert fetched.headers["Content-Disposition"].startswith("attachment; ")
    assert who not in fetched.headers["Content-Disposition"]
    again = await client.call("GET", path)
    assert (again.status, again.json["type"]) == (410, GONE)


async def test_of_fifty_who_race_with_one_link_one_gets_the_file(client: Client) -> None:
    path = await link(client, what="person", visitor=await person(client))
    answers = await asyncio.gather(*(client.call("GET", path) for _ in range(50)))
    assert Counter(answer.status for answer in answers) == {200: 1, 410: 49}


async def test_a_link_that_is_a_minute_old_never_works_again(client: Client, postgres: Postgres) -> None:
    path = await link(client, what="person", visitor=await person(client))
    left = await in_database(postgres, client.api, "select max(expires_at) - now() as left from ledger.download")
    assert 0 < left[0]["left"].total_seconds() <= 60
    await in_database(
        postgres, client.api, "update ledger.download set expires_at = expires_at - interval '60 seconds'"
    )
    late = await client.call("GET", path)
    assert (late.status, late.json["type"]) == (410, GONE)
    await link(client, what="person", visitor=visitor())  # and whoever makes the next one sweeps it away
    rows = await in_database(postgres, client.api, "select 1 from ledger.download where expires_at <= now()")
    assert rows == []


async def test_a_link_that_never_was_is_answered_like_one_that_is_spent(client: Client) -> None:
    path = await link(client, what="person", visitor=await person(client))
    await client.call("GET", path)
    spent = await client.call("GET", path)
    for token in (path[len("/downloads/") : -1], "x", "x" * 4_000, "%00", "%ED%A0%80", "../downloads"):
        answer = await client.call("GET", f"/downloads/{token}")
        if answer.status != 404:  # no such path at all
            assert (answer.status, answer.json) == (410, spent.json)


async def test_neither_the_database_nor_a_log_knows_a_token_or_whose_data_it_is_for(
    client: Client, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    who = await person(client)
    with caplog.at_level(logging.DEBUG):
        path = await link(client, what="person", visitor=who)
        rows = await in_database(postgres, client.api, "select d.* from ledger.download d")
        await client.call("GET", path)
    token = path.rpartition("/")[2]
    assert len(token) == 43  # 256 bits
    for row in rows:
        assert who.encode() not in row["sealed"]
        assert token.encode() not in row["sealed"] + row["token_hash"]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("ledger")]
    assert not [line for line in ours if token in line or who in line]
    metrics = (await client.call("GET", "/metrics")).body.decode()
    assert token not in metrics
    assert 'path="/downloads/{token}"' in metrics or "/downloads/{token}" in metrics


@pytest.mark.parametrize(
    "told",
    [{"what": "person"}, {"what": "site", "visitor": "v" * 22}, {"what": "log"}, {"visitor": "v" * 22}, {}],
    ids=["nobody", "a site's visitor", "of another kind", "of no kind", "nothing"],
)
async def test_a_link_to_nothing_in_particular_is_refused(client: Client, told: dict[str, Any]) -> None:
    answer = await client.call("POST", "downloads", key=client.api.secret, json=told)
    assert (answer.status, answer.json["type"]) == (422, "urn:consent-ledger:problem:invalid-download")
