"""Reading: decisions, bulk checks, history, receipts, policies and documents."""

from __future__ import annotations

import asyncio
import io
import json
from hashlib import sha256
from typing import Any

import pytest

from ledger.core.encoding import decode_time, encode_time
from tests.contract.conftest import OTHER_SITE, SITE, Answer, Client, grant, refusal, visitor
from tests.contract.test_events import assert_problem


async def consent(client: Client, who: str, query: str = "", *, key: str | None = None, **headers: str) -> Answer:
    sent = {"Consent-Visitor": who} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.call("GET", f"consent{query}", key=key or client.api.publishable, headers=sent)


# --- consent ---------------------------------------------------------------------------------------------------------


async def test_decisions_show_what_was_just_answered(client: Client) -> None:
    who = visitor()
    for _ in range(5):
        granted = await client.post(grant(visitor=who))
        answer = await consent(client, who)
        assert answer.status == 200
        assert answer.json["decisions"]["analytics"]["decision"] == "granted"
        assert answer.json["decisions"]["analytics"]["seq"] == granted.json["seq"]
        await client.post(refusal(visitor=who, type="consent.withdrawn", action="withdraw"))
        answer = await consent(client, who, "?purpose=analytics")
        assert answer.json["decisions"].keys() == {"analytics"}
        assert answer.json["decisions"]["analytics"]["decision"] == "denied"
        assert answer.json["decisions"]["analytics"]["reason"] == "withdrawn"


async def test_a_visitor_who_never_answered_is_denied_what_is_optional(client: Client) -> None:
    answer = await consent(client, visitor(), "?purpose=analytics&purpose=necessary&purpose=analytics&purpose=nonsense")
    assert {purpose: told["decision"] for purpose, told in answer.json["decisions"].items()} == {
        "analytics": "denied",
        "necessary": "granted",
        "nonsense": "denied",
    }
    assert answer.json["decisions"]["analytics"]["ask"] is True
    assert answer.json["visitor"]
    assert answer.json["policyVersion"] == "1.0"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_the_past_is_answered_as_it_was_and_as_it_was_known(client: Client) -> None:
    who = visitor()
    granted = (await client.post(grant(visitor=who))).json
    withdrawn = (await client.post(refusal(visitor=who, type="consent.withdrawn"))).json
    after_grant = encode_time(decode_time(granted["recordedAt"]) + 1).replace("+", "%2B")

    async def decision(query: str) -> Any:
        answer = await consent(client, who, query)
        assert answer.status == 200, answer.body
        return answer.json["decisions"]["analytics"]["decision"]

    assert await decision("") == "denied"
    assert await decision(f"?knownAt={granted['seq']}") == "granted"
    assert await decision(f"?knownAt={granted['seq'] - 1}") == "denied"
    assert await decision(f"?knownAt={withdrawn['seq']}") == "denied"
    assert await decision(f"?knownAt={granted['recordedAt']}") == "denied"
    if decode_time(withdrawn["recordedAt"]) > decode_time(granted["recordedAt"]) + 1:
        assert await decision(f"?at={after_grant}") == "granted"


@pytest.mark.parametrize("signal", ["parameter", "header"])
async def test_a_live_gpc_signal_denies(client: Client, signal: str) -> None:
    who = visitor()
    await client.post(grant(visitor=who))
    query, headers = ("?gpc=1", {}) if signal == "parameter" else ("", {"Sec_GPC": "1"})
    answer = await consent(client, who, query, **headers)
    assert answer.json["decisions"]["analytics"]["reason"] == "gpc"


async def test_a_region_is_believed_from_secret_keys_alone(client: Client) -> None:
    assert_problem(await consent(client, visitor(), "?region=KZ"), 403, "secret-key-needed")
    answer = await consent(client, visitor(), "?region=KZ", key=client.api.secret)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("query", "slug"),
    [
        ("?visitor=0123456789012345678901", "visitor-in-url"),
        ("?purposes=analytics", "unknown-parameter"),
        ("?purpose=*", "invalid-parameter"),
        ("?purpose=", "invalid-parameter"),
        ("?purpose=a%20b", "invalid-parameter"),
        ("?" + "&".join(f"purpose=p{n}" for n in range(65)), "invalid-parameter"),
        ("?at=yesterday", "invalid-parameter"),
        ("?at=2026-11-21", "invalid-parameter"),
        ("?at=2026-11-21T03:00:00+05:00", "invalid-parameter"),
        ("?at=2026-02-30T03:00:00Z", "invalid-parameter"),
        ("?at=2026-11-21T03:00:00Z&at=2026-11-21T03:00:00Z", "invalid-parameter"),
        ("?knownAt=-1", "invalid-parameter"),
        ("?knownAt=01", "invalid-parameter"),
        ("?knownAt=%2B5", "invalid-parameter"),
        ("?knownAt=9007199254740992", "invalid-parameter"),
        ("?gpc=true", "invalid-parameter"),
        ("?gpc=", "invalid-parameter"),
        ("?region=kz", "invalid-parameter"),
        ("?%ff=1", "unknown-parameter"),
    ],
)
async def test_a_question_that_is_not_understood_is_refused(client: Client, query: str, slug: str) -> None:
    assert_problem(await consent(client, visitor(), query, key=client.api.secret), 400, slug)


async def test_what_the_log_has_not_reached_cannot_be_known(client: Client) -> None:
    answer = await consent(client, visitor(), "?knownAt=9007199254740991")
    assert_problem(answer, 422, "invalid-query")


async def test_the_visitor_is_named_by_the_header(client: Client) -> None:
    key = client.api.publishable
    assert_problem(await client.call("GET", "consent", key=key), 400, "visitor-missing")
    for wrong in ("short", "x" * 65, "0123456789 0123456789 01", "01234567890123456789é1"):
        assert_problem(await consent(client, wrong), 400, "invalid-header")


async def test_a_minimum_position_that_is_reached_is_answered(client: Client) -> None:
    receipt = (await client.post(grant())).json
    answer = await consent(client, visitor(), Consent_Min_Position=receipt["position"])
    assert answer.status == 200
    for wrong in (str(receipt["seq"]), f"{OTHER_SITE}:1", f"{SITE}:+1", f"{SITE}:", f"{SITE}:1:2"):
        assert_problem(await consent(client, visitor(), Consent_Min_Position=wrong), 400, "invalid-header")


@pytest.mark.slow
async def test_a_minimum_position_that_is_not_reached_is_unavailable(client: Client) -> None:
    answer = await consent(client, visitor(), Consent_Min_Position=f"{SITE}:999999999")
    assert_problem(answer, 503, "position-not-reached")
    assert int(answer.headers["Retry-After"]) >= 1


# --- check, history, receipts ----------------------------------------------------------------------------------------


async def test_many_visitors_are_checked_at_once(client: Client) -> None:
    granted, never = visitor(), visitor()
    await client.post(grant(visitor=granted))
    question = {"visitors": [granted, {"visitor": never, "region": "KZ"}], "purposes": ["analytics", "necessary"]}
    answer = await client.call("POST", "check", key=client.api.scoped["check"], json=question)
    assert answer.status == 200
    assert answer.json["position"].startswith(f"{SITE}:")
    assert {who: told["analytics"]["decision"] for who, told in answer.json["results"].items()} == {
        granted: "granted",
        never: "denied",
    }
    assert answer.json["results"][granted]["analytics"]["validUntil"]
    assert answer.json["results"][never]["necessary"] == {"decision": "granted", "reason": "not_required"}


@pytest.mark.parametrize(
    ("question", "status", "slug", "pointer"),
    [
        ({}, 422, "invalid-check", ""),
        ([], 422, "invalid-check", ""),
        ({"visitors": [], "purposes": ["analytics"]}, 422, "invalid-check", "/visitors"),
        ({"visitors": [visitor()], "purposes": []}, 422, "invalid-check", "/purposes"),
        ({"visitors": ["short"], "purposes": ["analytics"]}, 422, "invalid-check", "/visitors/0"),
        ({"visitors": [{"visitor": "short"}], "purposes": ["a"]}, 422, "invalid-check", "/visitors/0/visitor"),
        ({"visitors": [visitor()], "purposes": ["analytics"], "when": 1}, 422, "invalid-check", ""),
        ({"visitors": [visitor()], "purposes": ["analytics"], "at": "now"}, 422, "invalid-check", "/at"),
        ({"visitors": ["x" * 22] * 10_001, "purposes": ["analytics"]}, 422, "invalid-check", "/visitors"),
        ({"visitors": ["x" * 22] * 10_000, "purposes": ["a"] * 11}, 422, "too-many-answers", "/visitors"),
        ({"visitors": ["x" * 64] * 40_000, "purposes": ["analytics"]}, 413, "body-too-large", ""),
    ],
)
async def test_a_check_that_cannot_be_is_refused_with_its_place(
    client: Client, question: Any, status: int, slug: str, pointer: str
) -> None:
    answer = await client.call(
        "POST",
        "check",
        key=client.api.secret,
        data=io.BytesIO(json.dumps(question).encode()),
        headers={"Content-Type": "application/json"},
    )
    assert_problem(answer, status, slug, pointer)


async def test_a_doubled_member_among_many_is_found_at_once(client: Client) -> None:
    members = b",".join(b'"m%d":1' % n for n in range(100_000))
    answer = await asyncio.wait_for(
        client.call(
            "POST",
            "check",
            key=client.api.secret,
            data=io.BytesIO(b"{" + members + b', "m99999":1}'),
            headers={"Content-Type": "application/json"},
        ),
        5,
    )
    assert_problem(answer, 400, "duplicate-member")


async def test_a_visitors_history_comes_in_pages(client: Client) -> None:
    who = visitor()
    posted = [(await client.post(grant(visitor=who))).json["seq"] for _ in range(5)]
    key, headers = client.api.scoped["audit"], {"Consent-Visitor": who}
    seen: list[int] = []
    cursor = ""
    for _ in range(3):
        page = await client.call("GET", f"history?limit=2{cursor}", key=key, headers=headers)
        assert page.status == 200
        seen += [item["seq"] for item in page.json["events"]]
        assert all(item["event"]["visitor"] == who for item in page.json["events"])
        cursor = f"&cursor={page.json.get('next')}"
    assert seen == posted
    assert "next" not in page.json
    nobody = await client.call("GET", "history", key=key, headers={"Consent-Visitor": visitor()})
    assert nobody.json["events"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "limit=1&limit=2", "cursor=x", "cursor=-1", "page=2"]
)
async def test_a_page_that_cannot_be_is_refused(client: Client, query: str) -> None:
    answer = await client.call("GET", f"history?{query}", key=client.api.secret, headers={"Consent-Visitor": visitor()})
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_receipt_is_found_again(client: Client) -> None:
    posted = await client.post(grant())
    found = await client.call("GET", posted.headers["Location"], key=client.api.scoped["audit"])
    assert (found.status, found.json) == (200, posted.json)


@pytest.mark.parametrize(
    "event_id", [f"{'0' * 8}-0000-7000-8000-{'0' * 12}", "x", "01926E7C-8C00-7000-8000-000000000001", "%00"]
)
async def test_a_receipt_that_is_not_there_is_not_found(client: Client, event_id: str) -> None:
    answer = await client.call("GET", f"receipts/{event_id}", key=client.api.secret)
    assert_problem(answer, 404, "not-found")


# --- policies and documents ------------------------------------------------------------------------------------------


async def test_the_policy_in_force_is_the_document_that_its_etag_names(client: Client) -> None:
    answer = await client.call("GET", "policy")
    assert answer.status == 200
    assert (answer.json["site"], answer.json["policy"]["version"]) == (SITE, "1.0")
    digest = sha256(answer.body).hexdigest()
    assert answer.headers["ETag"] == f'"{digest}"'
    document = await client.call("GET", answer.headers["Content-Location"])
    assert document.body == answer.body
    assert "immutable" in document.headers["Cache-Control"]
    assert document.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in document.headers["Content-Security-Policy"]
    for path in ("policy", f"/documents/{digest}"):
        again = await client.call("GET", path, headers={"If-None-Match": f'W/"other", "{digest}"'})
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("digest", ["0" * 64, "0" * 63, "A" * 64, "٣" * 64])
async def test_a_document_that_was_not_published_is_not_found(client: Client, digest: str) -> None:
    assert_problem(await client.call("GET", f"/documents/{digest}"), 404, "not-found")


async def test_a_document_that_cannot_be_is_refused_with_its_place(client: Client) -> None:
    document = (await client.call("GET", "policy")).json
    document["policy"]["version"] = "2.0"
    document["purposes"]["analytics"]["cookies"][0]["duration"] = "a while"
    answer = await client.call("PUT", "policy", key=client.api.scoped["admin"], json=document)
    assert_problem(answer, 422, "invalid-document", "/purposes/analytics/cookies/0/duration")
    other = {**(await client.call("GET", f"/v1/sites/{OTHER_SITE}/policy")).json}
    answer = await client.call("PUT", "policy", key=client.api.secret, json=other)
    assert_problem(answer, 422, "wrong-site", "/site")
    for body, media_type in ((b"{", "application/json"), (b"\x00", "application/yaml"), (b"&a [*a]", "text/yaml")):
        answer = await client.call(
            "PUT", "policy", key=client.api.secret, data=body, headers={"Content-Type": media_type}
        )
        assert answer.status == 422
