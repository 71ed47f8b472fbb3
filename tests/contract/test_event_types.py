"""Events that decide nothing, and grants that nobody made: each type by each key, twice, in a batch, waited for."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any, NamedTuple

import pytest

from ledger.secrets import new_event_id
from tests.contract.conftest import Answer, Client, grant, refusal, visitor
from tests.contract.test_events import assert_problem
from tests.contract.test_reads import consent


def event(kind: str, **members: Any) -> dict[str, Any]:
    return {"id": new_event_id(1_790_000_000_000), "type": kind, "visitor": visitor(), **members}


def payload(answer: Answer) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(b64decode(answer.json["payload"]))
    return stored


class Row(NamedTuple):
    """`stored`: what the payload holds beside id, site, type and visitor, where a secret key sent it."""

    kind: str
    members: dict[str, Any]
    stored: dict[str, Any]
    secret_only: bool = False

    def event(self) -> dict[str, Any]:
        return event(self.kind, **self.members)


ROWS = [
    Row("consent.dismissed", {}, {"action": "dismiss"}),
    Row("consent.dismissed", {"action": "dismiss", "language": "kk"}, {"action": "dismiss", "language": "kk"}),
    Row("consent.dismissed", {"action": "import", "original": "x"}, {"action": "import", "original": "x"}, True),
    Row("notice.seen", {"policyVersion": "1.0", "tcString": "CPX"}, {"policyVersion": "1.0", "tcString": "CPX"}),
    Row("notice.seen", {"policyVersion": "none"}, {"citedPolicyVersion": "none"}),
    Row("account.linked", {"account": "user-7"}, {}, True),
    Row("account.unlinked", {"account": "user-7"}, {}, True),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind} {sorted(row.members)}")
async def test_an_event_that_decides_nothing_is_recorded_once_and_replayed(client: Client, row: Row) -> None:
    sent = row.event()
    first = await client.post(sent, key=client.api.secret)
    assert first.status == 201, first.body
    stored = payload(first)
    if "account" in row.members:
        assert len(stored.pop("account")) == 32
        assert row.members["account"].encode() not in b64decode(first.json["payload"])
    told = {"id": sent["id"], "site": "weco.nexaxt.com", "type": row.kind, "visitor": sent["visitor"]}
    assert stored == told | row.stored | {"authentication": "secret"}
    again = await client.post(sent, key=client.api.secret)
    assert (again.status, again.json, again.headers["Idempotent-Replayed"]) == (200, first.json, "true")
    assert_problem(await client.post({**sent, "language": "ru"}, key=client.api.secret), 409, "id-conflict")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind} {sorted(row.members)}")
async def test_a_page_may_send_what_speaks_for_nobody_else(client: Client, row: Row) -> None:
    answer = await client.post(row.event())
    if row.secret_only:
        assert_problem(answer, 403, "secret-key-needed")
    else:
        assert answer.status == 201
        assert "authentication" not in payload(answer)


async def test_a_batch_takes_events_of_every_type(client: Client) -> None:
    lines = [row.event() for row in ROWS] + [event("account.linked"), grant(action="api"), grant(action="dismiss")]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await client.call("POST", "events:batch", key=client.api.secret, data=body, headers=headers)
    results = [json.loads(line) for line in answer.body.splitlines()]
    assert [result["status"] for result in results] == [201] * len(ROWS) + [422, 201, 422]
    assert results[-1]["problem"]["type"] == "urn:consent-ledger:problem:visitor-act-needed"


@pytest.mark.parametrize("row", [ROWS[0], ROWS[3], ROWS[5]], ids=lambda row: row.kind)
async def test_a_proof_is_waited_for_whatever_the_type(client: Client, row: Row) -> None:
    answer = await client.call("POST", "events?wait=checkpoint", key=client.api.secret, json=row.event())
    assert (answer.status, answer.headers["Checkpoint-Pending"]) == (201, "true")


@pytest.mark.parametrize("kind", ["consent.expired", "consent.invalidated", "consent.granted"])
async def test_what_only_the_ledger_says_nobody_else_may(client: Client, kind: str) -> None:
    assert_problem(await client.post(event(kind), key=client.api.secret), 422, "invalid-event", "/type")


@pytest.mark.parametrize("kind", ["consent.dismissed", "notice.seen"])
async def test_what_decides_nothing_changes_no_decision(client: Client, kind: str) -> None:
    for before in (None, grant(), refusal()):
        who = visitor()
        if before is not None:
            await client.post({**before, "visitor": who})
        asked = (await consent(client, who)).json["decisions"]
        assert (await client.post(event(kind, visitor=who))).status == 201
        now = (await consent(client, who)).json["decisions"]
        decided = [{purpose: (d["decision"], d["reason"]) for purpose, d in told.items()} for told in (asked, now)]
        assert decided[0] == decided[1]


@pytest.mark.parametrize(
    ("members", "status", "slug"),
    [
        ({"action": "api"}, 422, "visitor-act-needed"),
        ({"action": "gpc", "gpc": True}, 422, "visitor-act-needed"),
        ({"action": "dismiss"}, 422, "visitor-act-needed"),
        ({"action": "guardian"}, 403, "secret-key-needed"),
        ({"scope": "account"}, 422, "not-linked"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
async def test_a_grant_that_nobody_made_is_refused_and_the_denials_beside_it_are_kept(
    client: Client, members: dict[str, Any], status: int, slug: str
) -> None:
    who = visitor()
    decisions = {"analytics": "granted", "marketing": "denied"}
    answer = await client.post(grant(visitor=who, decisions=decisions, **members))
    assert_problem(answer, status, slug)
    stored = json.loads(b64decode(answer.json["recorded"]["payload"]))
    assert (stored["type"], stored["decisions"]) == ("consent.refused", {"marketing": "denied"})
    told = (await consent(client, who)).json["decisions"]
    assert (told["analytics"]["reason"], told["marketing"]["reason"]) == ("never_asked", "refused")


@pytest.mark.parametrize("action", ["api", "gpc", "guardian"])
async def test_a_backend_answers_for_its_grants(client: Client, action: str) -> None:
    assert (await client.post(grant(action=action), key=client.api.secret)).status == 201


async def test_a_page_load_renews_nothing(client: Client) -> None:
    """A page that repeats an earlier choice either replays it, or counts at the choice's own time."""
    chosen = grant(occurredAt="2026-11-20T03:00:00.000Z", sentAt="2026-11-20T03:00:00.000Z")
    first = await client.post(chosen)
    repeated = await client.post({**chosen, "sentAt": "2026-11-21T03:00:00.000Z"})
    assert (repeated.status, repeated.json["seq"]) == (200, first.json["seq"])
    before = (await consent(client, chosen["visitor"])).json["decisions"]["analytics"]["validUntil"]
    under_a_new_id = grant(visitor=chosen["visitor"], action="api", occurredAt=chosen["occurredAt"])
    assert_problem(await client.post(under_a_new_id), 422, "visitor-act-needed")
    assert (await consent(client, chosen["visitor"])).json["decisions"]["analytics"]["validUntil"] == before


async def test_the_account_s_name_is_nowhere_in_what_is_kept(client: Client) -> None:
    name = "mail=someone@example.org"
    who = visitor()
    linked = await client.post(event("account.linked", visitor=who, account=name), key=client.api.secret)
    chosen = await client.post(grant(visitor=who, scope="account"), key=client.api.secret)
    for answer in (linked, chosen):
        assert b"someone" not in answer.body
        assert b"someone" not in b64decode(answer.json["payload"])
