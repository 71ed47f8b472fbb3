"""Posting events: receipts, retries, and the refusal that each bad input gets."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
from base64 import b64decode
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.core.entry import commitment
from ledger.core.merkle import leaf_hash
from tests.contract.conftest import OTHER_SITE, SITE, Answer, Api, Client, grant, refusal, visitor

PROBLEM = "application/problem+json"


def assert_problem(answer: Answer, status: int, slug: str, pointer: str | None = None) -> None:
    assert (answer.status, answer.json.get("type")) == (status, f"urn:consent-ledger:problem:{slug}"), answer.body
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert len(answer.json["detail"]) > 10
    if pointer is not None:
        assert answer.json.get("pointer", "") == pointer


async def log_size(client: Client) -> int:
    answer = await client.call("GET", "consent", key=client.api.publishable, headers={"Consent-Visitor": visitor()})
    return int(answer.json["position"].rpartition(":")[2]) + 1


async def test_an_event_gets_a_receipt_that_proves_itself(client: Client) -> None:
    event = grant()
    answer = await client.post(event)
    assert answer.status == 201
    receipt = answer.json
    assert (receipt["id"], receipt["site"]) == (event["id"], SITE)
    assert receipt["position"] == f"{SITE}:{receipt['seq']}"
    assert answer.headers["Location"] == f"/v1/sites/{SITE}/receipts/{event['id']}"
    assert answer.headers["Cache-Control"] == "no-store"
    entry, salt, payload = (b64decode(receipt[name]) for name in ("entry", "salt", "payload"))
    assert leaf_hash(entry) == b64decode(receipt["leafHash"])
    assert commitment(salt, payload) == entry[50:82]


async def test_an_exact_repeat_gets_the_same_receipt(client: Client) -> None:
    event = grant()
    first = await client.post(event)
    again = await client.post(event)
    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers


async def test_fifty_retries_at_once_give_one_entry_and_fifty_equal_receipts(client: Client) -> None:
    event = grant()
    before = await log_size(client)
    answers = await asyncio.gather(*(client.post(event) for _ in range(50)))
    assert sorted({answer.status for answer in answers}) in ([200, 201], [201])
    assert len({answer.body for answer in answers}) == 1
    assert await log_size(client) == before + 1


async def test_a_retry_may_have_another_sent_at(client: Client) -> None:
    event = grant(occurredAt="2026-11-21T03:00:00Z", sentAt="2026-11-21T03:00:00Z")
    first = await client.post(event)
    again = await client.post({**event, "sentAt": "2026-11-21T03:00:09Z"})
    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json


async def test_the_same_id_with_other_content_is_a_conflict(client: Client) -> None:
    event = grant()
    await client.post(event)
    assert_problem(await client.post({**event, "language": "ru"}), 409, "id-conflict")


async def test_an_event_without_an_id_gets_one(client: Client) -> None:
    event = grant()
    del event["id"]
    first, again = await client.post(event), await client.post(event)
    assert (first.status, again.status) == (201, 201)
    assert first.json["id"] != again.json["id"]
    assert first.json["id"][14] == "7"
    named = await client.post({**event, "id": first.json["id"]})
    assert (named.status, named.json) == (200, first.json)


async def test_prefer_minimal_leaves_entry_and_opening_out(client: Client) -> None:
    event = grant()
    answer = await client.post(event, Prefer="respond-async, return=minimal")
    assert answer.status == 201
    assert set(answer.json) == {"id", "site", "seq", "position"}
    assert answer.headers["Preference-Applied"] == "return=minimal"
    whole = await client.post(event, Prefer="return=representation")
    assert "entry" in whole.json
    assert "Preference-Applied" not in whole.headers


async def test_denials_beside_refused_grants_are_stored_and_told(client: Client) -> None:
    event = grant(decisions={"marketing": "denied", "no_such_purpose": "granted"})
    answer = await client.post(event)
    assert_problem(answer, 422, "unknown-purpose", "/decisions/no_such_purpose")
    assert answer.json["recorded"]["seq"] > 0
    again = await client.post(event)
    assert again.json["recorded"] == answer.json["recorded"]


async def test_denials_are_never_refused_for_an_odd_clock_version_or_purpose(client: Client) -> None:
    for odd in (
        {"occurredAt": "2001-01-01T00:00:00Z"},
        {"occurredAt": "2199-01-01T00:00:00Z", "sentAt": "2001-01-01T00:00:00Z"},
        {"policyVersion": "never published"},
        {"decisions": {"no_such_purpose": "denied"}},
        {"decisions": {"*": "denied"}, "shown": sha256(b"").hexdigest()},
    ):
        assert (await client.post(refusal(**odd))).status == 201, odd


REFUSED: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("an unknown purpose", grant(decisions={"profiling": "granted"}), 422, "unknown-purpose", "/decisions/profiling"),
    (
        "no version",
        {k: v for k, v in grant().items() if k != "policyVersion"},
        422,
        "policy-version-missing",
        "/policyVersion",
    ),
    ("an unpublished version", grant(policyVersion="9.9"), 422, "unknown-policy-version", "/policyVersion"),
    ("the future", grant(occurredAt="2199-01-01T00:00:00Z"), 422, "grant-in-the-future", "/occurredAt"),
    ("2001", grant(occurredAt="2001-01-01T00:00:00Z"), 422, "grant-too-old", "/occurredAt"),
    ("no time of the calendar", grant(occurredAt="2026-02-30T00:00:00Z"), 422, "invalid-event", "/occurredAt"),
    ("a short visitor id", grant(visitor="short"), 422, "invalid-event", "/visitor"),
    ("a visitor id with a space", grant(visitor="0123456789 0123456789 01"), 422, "invalid-event", "/visitor"),
    ("a visitor id with a newline", grant(visitor="0123456789012345678901\n"), 422, "invalid-event", "/visitor"),
    ("an id in upper case", grant(id="01926E7C-8C00-7000-8000-000000000001"), 422, "invalid-event", "/id"),
    ("a wildcard grant", grant(decisions={"*": "granted"}), 422, "invalid-event", "/decisions/*"),
    ("given without grants", grant(decisions={"analytics": "denied"}), 422, "invalid-event", "/decisions"),
    ("refused with grants", refusal(decisions={"analytics": "granted"}), 422, "invalid-event", "/decisions"),
    ("no decisions", grant(decisions={}), 422, "invalid-event", "/decisions"),
    ("65 decisions", refusal(decisions={f"p{n}": "denied" for n in range(65)}), 422, "invalid-event", "/decisions"),
    ("an unknown member", grant(note="x"), 422, "invalid-event", ""),
    ("a wrong type", grant(gpc="yes"), 422, "invalid-event", "/gpc"),
    ("null", grant(gpc=None), 422, "invalid-event", "/gpc"),
    ("an unknown action", grant(action="hover"), 422, "invalid-event", "/action"),
    ("an import by a publishable key", grant(action="import"), 403, "secret-key-needed", "/action"),
    ("NUL", grant(policyVersion="1.0\x00"), 422, "", ""),
]


@pytest.mark.parametrize(
    ("event", "status", "slug", "pointer"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_an_event_that_cannot_be_is_refused_with_its_place(
    client: Client, event: dict[str, Any], status: int, slug: str, pointer: str
) -> None:
    before = await log_size(client)
    answer = await client.post(event)
    if slug:
        assert_problem(answer, status, slug, pointer)
    assert answer.status == status
    assert await log_size(client) == before


MALFORMED = [
    ("nothing", b"", "invalid-json"),
    ("half an object", b'{"type":', "invalid-json"),
    ("not UTF-8", b'{"type":"\xff"}', "invalid-json"),
    ("a lone surrogate", b'{"type":"\\ud800"}', "invalid-json"),
    ("NaN", b'{"type":NaN}', "invalid-json"),
    ("a byte order mark", b"\xef\xbb\xbf{}", "invalid-json"),
    ("a doubled member", b'{"type":"consent.given","type":"consent.refused"}', "duplicate-member"),
    ("a doubled inner member", b'{"decisions":{"a":"denied", "a":"granted"}}', "duplicate-member"),
    ("deep arrays", b"[" * 8_000 + b"]" * 8_000, "invalid-json"),
    ("deep objects", b'{"a":' * 2_000 + b"1" + b"}" * 2_000, "invalid-json"),
]


@pytest.mark.parametrize(("body", "slug"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
async def test_what_is_no_json_is_refused(client: Client, body: bytes, slug: str) -> None:
    answer = await client.call(
        "POST", "events", key=client.api.publishable, data=body, headers={"Content-Type": "application/json"}
    )
    assert_problem(answer, 400, slug)


@settings(max_examples=150, derandomize=True, database=None, deadline=None)
@given(st.data())
def test_no_bytes_whatever_make_the_server_fail(api: Api, data: st.DataObject) -> None:
    body = bytearray(json.dumps(refusal(policyVersion="1.0", gpc=True)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4) | st.just(b"\\u0000"))
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=10)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {api.publishable}"}
    connection.request("POST", f"/v1/sites/{SITE}/events", bytes(body), headers)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert answer.status in (200, 201, 400, 409, 422), told


async def test_a_denial_may_cite_whatever_text(client: Client) -> None:
    for odd in ("\x00", "\u2028", "\U0001f36a" * 64, '"\\', "\ufffe"):
        assert (await client.post(refusal(policyVersion=odd))).status == 201


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"', b"{}", b"1e999"])
async def test_json_that_is_no_event_is_refused(client: Client, body: bytes) -> None:
    answer = await client.call(
        "POST", "events", key=client.api.publishable, data=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status in (400, 422)
    assert answer.headers["Content-Type"] == PROBLEM


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": ""},
    ],
)
async def test_another_content_type_is_refused(client: Client, headers: dict[str, str]) -> None:
    answer = await client.call("POST", "events", key=client.api.publishable, data=b"{}", headers=headers)
    assert_problem(answer, 415, "unsupported-media-type")


async def test_json_may_name_its_charset(client: Client) -> None:
    answer = await client.post(grant(), Content_Type="Application/JSON; charset=UTF-8")
    assert answer.status == 201


@pytest.mark.parametrize("size", [16_385, 10 * 1024 * 1024])
async def test_a_body_beyond_the_bound_is_refused(client: Client, size: int) -> None:
    answer = await client.call(
        "POST",
        "events",
        key=client.api.publishable,
        data=io.BytesIO(b" " * size),
        headers={"Content-Type": "application/json"},
    )
    assert_problem(answer, 413, "body-too-large")


async def test_a_body_of_unknown_length_is_bounded_too(client: Client) -> None:
    async def pieces() -> Any:
        for _ in range(20):
            yield b" " * 1_000

    answer = await client.call(
        "POST", "events", key=client.api.publishable, data=pieces(), headers={"Content-Type": "application/json"}
    )
    assert_problem(answer, 413, "body-too-large")


async def test_waiting_for_anything_but_a_checkpoint_is_refused_before_anything_is_recorded(client: Client) -> None:
    before = await log_size(client)
    for query in ("?wait=witness", "?wait=", "?wait=checkpoint&wait=checkpoint"):
        answer = await client.call("POST", f"events{query}", key=client.api.publishable, json=grant())
        assert_problem(answer, 400, "invalid-parameter")
    assert await log_size(client) == before


@pytest.mark.parametrize(("query", "slug"), [("?visitor=x", "visitor-in-url"), ("?dryRun=1", "unknown-parameter")])
async def test_an_unknown_parameter_is_refused(client: Client, query: str, slug: str) -> None:
    answer = await client.call("POST", f"events{query}", key=client.api.publishable, json=grant())
    assert_problem(answer, 400, slug)


async def test_a_site_that_is_not_here_is_not_found(client: Client) -> None:
    for site in ("no.example.com", "%00", "..%2f", "%ff", "x" * 2_000):
        answer = await client.call("POST", f"/v1/sites/{site}/events", key=client.api.publishable, json=grant())
        assert_problem(answer, 404, "unknown-site")


async def test_sites_are_kept_apart(client: Client, api: Api) -> None:
    answer = await client.call("POST", f"/v1/sites/{OTHER_SITE}/events", key=api.publishable, json=grant())
    assert_problem(answer, 401, "key-unknown")
    event = refusal()
    here = await client.post(event)
    there = await client.call("POST", f"/v1/sites/{OTHER_SITE}/events", key=api.other_secret, json=event)
    assert (here.status, there.status) == (201, 201)
