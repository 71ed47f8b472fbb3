"""Requests of people over HTTP: from the challenge to the download, and what is refused on the way."""

from __future__ import annotations

import base64
import secrets
from typing import Any

import msgspec
import pytest

from ledger.app import open_service
from ledger.core.admin_act import decode_act
from ledger.core.entry import commit_of
from tests.contract.conftest import SITE, Answer, Client, grant
from tests.requesting import Browser

TOKEN = "Consent-Request-Token"


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["type"].rpartition(":")[2]


async def challenge(client: Client, browser: Browser, **asked: str) -> dict[str, Any]:
    told = await client.call("POST", "requests", key=client.api.publishable, json={"visitor": browser.visitor, **asked})
    assert told.status == 200, told.body
    return dict(told.json)


async def prove(client: Client, proof: dict[str, str], request_id: str, site: str = SITE) -> Answer:
    url = f"/v1/sites/{site}/requests/{request_id}/proof"
    return await client.call("POST", url, key=client.api.publishable, json=proof)


async def make(client: Client, browser: Browser, kind: str) -> Answer:
    told = await challenge(client, browser, kind=kind)
    return await prove(client, browser.answer(told), told["id"])


async def step(client: Client, request_id: str, **told: str) -> Answer:
    headers = {"Consent-Instruction": told["instruction"]} if "instruction" in told else {}
    url = f"requests/{request_id}/steps"
    return await client.call("POST", url, key=client.api.scoped["admin"], json=told, headers=headers)


async def test_a_visitor_gets_what_is_held_once_the_controller_instructed(client: Client) -> None:
    browser = Browser()
    await client.post(grant(visitor=browser.visitor))
    made = await make(client, browser, "access")
    assert made.status == 201, made.body
    request, token = made.json["request"], made.json["token"]
    url = f"requests/{request['id']}"
    assert made.headers["Location"] == f"/v1/sites/{SITE}/{url}"
    assert "visitor" not in request, "who asked is told to operators alone"
    pk, held = client.api.publishable, {TOKEN: token}
    seen = await client.call("GET", url, key=pk, headers=held)
    assert (seen.status, seen.json["state"]) == (200, "proven")
    early = await client.call("POST", f"{url}/download", key=pk, headers=held, json={})
    assert problem(early) == (409, "nothing-to-download")

    assert (await step(client, request["id"], step="forward")).json["state"] == "forwarded"
    assert problem(await step(client, request["id"], step="instruct")) == (422, "invalid-request")
    instructed = await step(client, request["id"], step="instruct", instruction="DSR-7")
    assert (instructed.status, instructed.json["visitor"]) == (201, browser.visitor)
    link = await client.call("POST", f"{url}/download", key=pk, headers=held, json={})
    assert link.status == 201
    path = "/downloads/" + link.json["url"].rpartition("/")[2]
    file = await client.call("GET", path)
    assert browser.visitor in file.body.decode()
    assert problem(await client.call("GET", path))[0] == 410
    fetched = await newest_act(client, "export.downloaded")
    assert (fetched.details["kind"], fetched.address) == ("person", None), "no visitor's address is kept"
    done = await client.call("GET", url, key=pk, headers=held)
    assert [one["step"] for one in done.json["steps"]] == ["prove", "forward", "instruct", "answer"]
    assert problem(await step(client, request["id"], step="answer")) == (409, "request-step-refused")

    told = (await client.call("GET", url, key=client.api.scoped["admin"])).json
    acts = [await act(client, one["act"]) for one in told["steps"]]
    assert [one.act for one in acts] == [
        *("request.registered", "request.forwarded", "request.instructed", "request.answered"),
    ]
    assert (acts[0].role, acts[0].address, acts[2].instruction) == ("visitor", None, "DSR-7")
    assert {one.details["evidence"] for one in acts} == {request["evidence"]}


async def act(client: Client, position: str) -> Any:
    """The administrative act at a position, opened by the server's own keys."""
    async with open_service(client.api.settings) as service:
        log = await service.sites.admin_log(SITE)
        row = await service.reads.receipt_at(log.site_id, int(position.rpartition(":")[2]))
        assert row.sealed is not None
        return decode_act(log.vault.open_opening(commit_of(row.entry), row.sealed)[1])


async def newest_act(client: Client, word: str) -> Any:
    """The newest act of a kind."""
    async with open_service(client.api.settings) as service:
        log = await service.sites.admin_log(SITE)
        head = await service.reads.head(log.site_id)
    for seq in range(head.size - 1, 0, -1):
        found = await act(client, f"{SITE}:{seq}")
        if found.act == word:
            return found
    raise AssertionError(f"no act {word}")


async def test_another_key_request_site_or_time_proves_nothing(client: Client) -> None:
    browser, thief = Browser(), Browser()
    told = await challenge(client, browser, kind="erasure")
    assert problem(await prove(client, thief.answer(told), told["id"])) == (403, "proof-refused")
    other = await challenge(client, browser, kind="erasure")
    assert problem(await prove(client, browser.answer(told), other["id"])) == (403, "proof-refused")
    elsewhere = {**told, "origin": told["origin"].replace(SITE, "we-nera.com")}
    assert problem(await prove(client, browser.answer(elsewhere), told["id"])) == (403, "proof-refused")
    proof = browser.answer(told)
    assert (await prove(client, proof, told["id"])).status == 201
    assert problem(await prove(client, proof, told["id"])) == (409, "proof-spent")
    for broken in ({"nonce": "A" * 80}, {"signature": "A" * 86 + "=="}, {"publicKey": "A" * 43 + "="}):
        answer = await prove(client, {**proof, **broken}, told["id"])
        assert problem(answer) == (403, "proof-refused"), broken


async def test_a_request_is_read_with_its_own_token_or_as_an_operator(client: Client) -> None:
    one, two = [(await make(client, Browser(), "portability")).json for _ in range(2)]
    url = f"requests/{one['request']['id']}"
    for headers in ({}, {TOKEN: two["token"]}, {TOKEN: secrets.token_urlsafe(40)}):
        answer = await client.call("GET", url, key=client.api.publishable, headers=headers)
        assert problem(answer) == (403, "request-token-refused")
    for scope in ("events", "check", "audit"):
        for method, path in (
            ("GET", url),
            ("GET", "requests"),
            ("POST", f"{url}/steps"),
            ("POST", "requests:register"),
        ):
            answer = await client.call(method, path, key=client.api.scoped[scope], json=None)
            assert problem(answer) == (403, "scope-missing"), (scope, method, path)
    for path in ("requests", f"{url}/steps", "requests:register"):
        method = "GET" if path == "requests" else "POST"
        assert problem(await client.call(method, path, key=client.api.publishable)) == (403, "secret-key-needed")


async def test_the_register_is_read_in_pages_and_takes_letters(client: Client) -> None:
    letter = {"kind": "correction", "contact": "DSR-2026/9", "receivedAt": "2020-01-01T00:00:00Z", "region": "KZ"}
    admin = client.api.scoped["admin"]
    entered = await client.call("POST", "requests:register", key=admin, json=letter)
    assert (entered.status, entered.json["state"], entered.json["late"]) == (201, "received", True)
    again = await client.call("POST", "requests:register", key=admin, json={**letter, "id": entered.json["id"]})
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    for changed in ({"kind": "access"}, {"contact": "DSR-2026/10"}, {"receivedAt": "2020-01-02T00:00:00Z"}):
        other = {**letter, "id": entered.json["id"], **changed}
        assert problem(await client.call("POST", "requests:register", key=admin, json=other)) == (409, "id-conflict")
    page = await client.call("GET", "requests?overdue=1&kind=correction&limit=1", key=admin)
    assert [one["id"] for one in page.json["requests"]] == [entered.json["id"]]
    for query in ("state=open", "kind=x", "overdue=0", "limit=0", "cursor=x", "visitor=" + "v" * 43):
        assert (await client.call("GET", f"requests?{query}", key=admin)).status == 400
    refused = await step(client, entered.json["id"], step="refuse", instruction="DSR-9", reason="identity_unproven")
    assert refused.json["steps"][-1]["reason"] == "identity_unproven"


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"visitor": "v" * 22, "kind": "access"}, (422, "visitor-unprovable")),
        ({"visitor": "v" * 43}, (422, "invalid-request")),
        (
            {"visitor": "v" * 43, "kind": "access", "id": "01980000-0000-4000-8000-000000000001"},
            (422, "invalid-request"),
        ),
        ({"visitor": "v" * 43, "kind": "everything"}, (422, "invalid-request")),
        ({"visitor": "v" * 43, "kind": "access", "because": "I say so"}, (422, "invalid-request")),
    ],
)
async def test_what_is_no_request_is_refused(client: Client, body: dict[str, Any], refused: tuple[int, str]) -> None:
    answer = await client.call("POST", "requests", key=client.api.publishable, json=body)
    assert problem(answer) == refused


def test_the_browser_of_the_tests_signs_what_the_page_signs() -> None:
    proof = Browser().answer({"origin": "ledger.test/s.example", "id": "x", "nonce": "n"})
    assert len(base64.b64decode(proof["signature"])) == 64
    assert msgspec.json.decode(msgspec.json.encode(proof)) == proof
