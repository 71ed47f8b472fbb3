"""What was seen to go wrong in another consent backend (c15t 2.2.1), defect by defect: it cannot happen here."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from typing import Any

import aiohttp
import asyncpg
import pytest

from ledger.config import Settings
from ledger.core.checks import Result
from ledger.core.receipt import CheckName, verify_receipt
from tests.conftest import Database
from tests.contract.conftest import SITE, Client, grant, refusal, running_api, visitor
from tests.contract.test_accounts import history, link
from tests.contract.test_event_types import event
from tests.contract.test_events import assert_problem
from tests.contract.test_reads import consent
from tests.openings import reseal

GUARDED = ("entry", "opening", "known")


@pytest.mark.parametrize("order", [("given", "withdrawn"), ("withdrawn", "given")], ids=" then ".join)
async def test_a_withdrawal_of_the_very_time_of_the_grant_is_kept_and_wins(
    client: Client, order: tuple[str, str]
) -> None:
    """There: dropped, while the answer echoed it as if it were stored. Imports count at their own time, to the
    millisecond, whichever comes first.
    """
    who = visitor()
    same = {"visitor": who, "action": "import", "occurredAt": "2026-11-20T03:00:00.000Z"}
    events = {"given": grant(**same), "withdrawn": refusal(type="consent.withdrawn", **same)}
    receipts = {name: (await client.post(events[name], key=client.api.secret)).json for name in order}
    stored = json.loads(b64decode(receipts["withdrawn"]["payload"]))
    assert (stored["type"], stored["decisions"]) == ("consent.withdrawn", {"analytics": "denied"})
    items = (await history(client, who)).json["events"]
    assert [item["event"]["type"] for item in items] == [f"consent.{name}" for name in order]
    told = (await consent(client, who)).json["decisions"]["analytics"]
    assert (told["decision"], told["reason"], told["seq"]) == ("denied", "withdrawn", receipts["withdrawn"]["seq"])


async def test_a_refusal_is_never_told_as_consent(client: Client) -> None:
    """There: `hasConsent: true` as soon as anything was recorded, a refusal too."""
    for sent in (refusal(), refusal(decisions={"*": "denied"}), event("consent.dismissed"), event("notice.seen")):
        who = sent["visitor"]
        assert (await client.post(sent)).status == 201
        question = {"visitors": [who], "purposes": ["analytics", "marketing"]}
        answer = await client.call("POST", "check", key=client.api.secret, json=question)
        assert {told["decision"] for told in answer.json["results"][who].values()} == {"denied"}
        told = (await consent(client, who, "?purpose=analytics&purpose=marketing")).json["decisions"]
        assert {decision["decision"] for decision in told.values()} == {"denied"}


async def test_a_refused_purpose_is_stored_beside_the_granted_ones(client: Client) -> None:
    """There: only what was granted."""
    who = visitor()
    decisions = {"analytics": "granted", "marketing": "denied", "preferences": "denied"}
    receipt = (await client.post(grant(visitor=who, decisions=decisions))).json
    assert json.loads(b64decode(receipt["payload"]))["decisions"] == decisions
    assert (await history(client, who)).json["events"][0]["event"]["decisions"] == decisions
    told = (await consent(client, who)).json["decisions"]
    assert {purpose: told[purpose]["reason"] for purpose in decisions} == {
        "analytics": "granted",
        "marketing": "refused",
        "preferences": "refused",
    }


async def test_a_time_in_2001_is_accepted_for_no_grant(client: Client) -> None:
    """There: any time at all. Here an old grant comes as an import with a secret key, and lapses by its own age."""
    old = {"occurredAt": "2001-01-01T00:00:00.000Z"}
    assert_problem(await client.post(grant(**old)), 422, "grant-too-old", "/occurredAt")
    assert_problem(await client.post(grant(**old), key=client.api.secret), 422, "grant-too-old", "/occurredAt")
    assert_problem(await client.post(grant(**old, action="import")), 403, "secret-key-needed", "/action")
    imported = grant(**old, action="import", original="1;2001-01-01;yes")
    receipt = await client.post(imported, key=client.api.secret)
    assert json.loads(b64decode(receipt.json["payload"]))["action"] == "import"
    told = (await consent(client, imported["visitor"])).json["decisions"]["analytics"]
    assert (told["decision"], told["decidedAt"]) == ("denied", old["occurredAt"])


async def test_nobody_is_bound_to_an_identity_without_a_secret_key(client: Client) -> None:
    """There: a post without any authentication bound a subject to another external id, and took its record along."""
    victim, thief, account = visitor(), visitor(), visitor()
    await link(client, victim, account)
    assert (await client.post(grant(visitor=victim, scope="account"))).status == 201
    for kind in ("account.linked", "account.unlinked"):
        for who in (thief, victim):
            sent = event(kind, visitor=who, account=account)
            assert_problem(await client.post(sent), 403, "secret-key-needed", "/type")
            assert (await client.call("POST", "events", json=sent)).status == 401
    assert_problem(await client.post(grant(visitor=thief, scope="account")), 422, "not-linked", "/scope")
    assert_problem(await client.post(grant(visitor=thief, account=account)), 422, "invalid-event", "/account")
    assert (await client.post(refusal(visitor=thief, scope="account", account=account))).status == 201
    assert (await consent(client, victim)).json["decisions"]["analytics"]["decision"] == "granted"
    assert (await consent(client, thief)).json["decisions"]["analytics"]["decision"] == "denied"


async def test_a_dozen_first_posts_at_once_make_no_second_site_and_no_second_visitor(client: Client) -> None:
    """There: a dozen parallel first posts created as many domains."""
    unknown = [
        client.call("POST", "/v1/sites/new.example/events", key=client.api.secret, json=grant()) for _ in "x" * 12
    ]
    assert {answer.status for answer in await asyncio.gather(*unknown)} == {404}
    who = visitor()
    posts = [client.post(grant(visitor=who) if n % 2 else refusal(visitor=who)) for n in range(12)]
    receipts = [answer.json for answer in await asyncio.gather(*posts)]
    assert {receipt["site"] for receipt in receipts} == {SITE}
    assert [item["seq"] for item in (await history(client, who)).json["events"]] == sorted(r["seq"] for r in receipts)


async def test_a_row_rewritten_by_sql_is_refused_or_shows(settings: Settings, database: Database) -> None:
    """There: served as truth. Here the login of the service cannot, the owner's guards will not, what a superuser
    writes who takes the guards down does not open, and what he seals with the master secret no longer fits the entry:
    no receipt of it verifies, and no audit passes (rule 10 in tests/adversary).
    """
    rewrite = "update ledger.opening set sealed = $1 where site_id = 1 and seq = $2"
    async with running_api(settings) as api, aiohttp.ClientSession() as session:
        client = Client(api, session)
        refused = refusal()
        receipt: dict[str, Any] = (await client.post(refused)).json
        forged = (
            b64decode(receipt["payload"]).replace(b"consent.refused", b"consent.given").replace(b"denied", b"granted")
        )
        for url in (database.url, database.admin_url):
            connection = await asyncpg.connect(url)
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(rewrite, forged, receipt["seq"])
            await connection.close()

        superuser = await asyncpg.connect(database.admin_url)
        await superuser.execute("drop event trigger ledger_refuse_ddl; drop event trigger ledger_refuse_drop")
        for table in GUARDED:
            await superuser.execute(f"alter table ledger.{table} disable trigger all")
        stored = "select sealed from ledger.opening where site_id = 1 and seq = $1"
        original = await superuser.fetchval(stored, receipt["seq"])
        assert await superuser.execute(rewrite, forged, receipt["seq"]) == "UPDATE 1"
        assert (await client.call("GET", f"receipts/{refused['id']}", key=api.secret)).status == 500
        await superuser.execute(rewrite, original, receipt["seq"])
        await reseal(superuser, settings.masters, receipt["seq"], forged)  # with the master secret in hand too
        await superuser.close()
        served = (await client.call("GET", f"receipts/{refused['id']}", key=api.secret)).json
        assert served["payload"] != receipt["payload"]
        results = {
            name: {check.name: check.result for check in verify_receipt(json.dumps(told).encode(), ()).checks}
            for name, told in (("kept", receipt), ("served", served))
        }
        assert results["kept"][CheckName.COMMITMENT] == Result.OK
        assert results["served"][CheckName.COMMITMENT] == Result.FAILED
