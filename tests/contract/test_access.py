"""Who may call what: keys, scopes, and the origins of pages."""

from __future__ import annotations

import pytest

from tests.contract.conftest import SITE, Client, grant, visitor
from tests.contract.test_events import assert_problem

OUR_ORIGINS = ["https://weco.nexaxt.com", "https://shop.weco.nexaxt.com", "https://a.b.weco.nexaxt.com"]
FOREIGN_ORIGINS = [
    "https://example.com",
    "http://weco.nexaxt.com",
    "https://weco.nexaxt.com.evil.example",
    "https://evilweco.nexaxt.com",
    "https://weco.nexaxt.com:8443",
    "https://user@weco.nexaxt.com",
    "https://evil.example/.weco.nexaxt.com",
    "null",
    "",
]
SECRET_CALLS = [
    ("POST", "events:batch", "events"),
    ("POST", "check", "check"),
    ("GET", "history", "audit"),
    ("GET", "receipts/01926e7c-8c00-7000-8000-000000000001", "audit"),
    ("PUT", "policy", "admin"),
]
CALLS = [("POST", "events", "events"), ("GET", "consent", "check"), *SECRET_CALLS]


@pytest.mark.parametrize(("method", "call"), [row[:2] for row in CALLS])
async def test_a_call_without_a_key_is_told_how_to_send_one(client: Client, method: str, call: str) -> None:
    answer = await client.call(method, call)
    assert_problem(answer, 401, "key-missing")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="consent-ledger"'


@pytest.mark.parametrize(
    "header",
    [
        "Bearer pk_unknown",
        "Bearer sk_" + "x" * 5_000,
        "Bearer ",
        "Bearer",
        "Basic cGs6eA==",
        "pk_unknown",
        "Bearer pk_\xff\xfe",
        "",
    ],
)
async def test_an_unknown_key_is_refused(client: Client, header: str) -> None:
    answer = await client.call("POST", "events", json=grant(), headers={"Authorization": header})
    assert_problem(answer, 401, "key-unknown")
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("method", "call"), [row[:2] for row in SECRET_CALLS])
async def test_a_publishable_key_may_not_make_a_secret_call(client: Client, method: str, call: str) -> None:
    answer = await client.call(method, call, key=client.api.publishable)
    assert_problem(answer, 403, "secret-key-needed")


@pytest.mark.parametrize(("method", "call", "scope"), CALLS)
async def test_a_secret_key_needs_the_scope_of_the_call(client: Client, method: str, call: str, scope: str) -> None:
    for has, key in client.api.scoped.items():
        answer = await client.call(method, call, key=key, headers={"Consent-Visitor": visitor()})
        if has == scope:
            assert answer.status not in (401, 403)
        else:
            assert_problem(answer, 403, "scope-missing")
            assert scope in answer.json["detail"]


@pytest.mark.parametrize("origin", OUR_ORIGINS)
async def test_pages_of_the_site_may_post_and_read_the_answer(client: Client, origin: str) -> None:
    answer = await client.post(grant(), Origin=origin)
    assert answer.status == 201
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "Location" in answer.headers["Access-Control-Expose-Headers"]
    assert answer.headers["Vary"] == "Origin"
    preflight = await client.call(
        "OPTIONS",
        "events",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, origin)
    assert preflight.headers["Access-Control-Allow-Methods"] == "POST"
    assert preflight.headers["Vary"] == "Origin"
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower()
    assert all(name in allowed for name in ("authorization", "content-type", "consent-visitor", "prefer"))
    assert int(preflight.headers["Access-Control-Max-Age"]) > 0


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
async def test_pages_of_other_sites_may_not(client: Client, origin: str) -> None:
    answer = await client.post(grant(), Origin=origin)
    assert_problem(answer, 403, "origin-not-allowed")
    assert "Access-Control-Allow-Origin" not in answer.headers
    preflight = await client.call(
        "OPTIONS", "events", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )
    assert_problem(preflight, 403, "origin-not-allowed")
    assert "Access-Control-Allow-Origin" not in preflight.headers


async def test_a_page_may_read_why_it_was_refused(client: Client) -> None:
    origin = OUR_ORIGINS[0]
    for answer in (
        await client.call("POST", "events", json=grant(), headers={"Origin": origin}),
        await client.post(grant(policyVersion="9.9"), Origin=origin),
        await client.call("GET", "consent", key=client.api.publishable, headers={"Origin": origin}),
    ):
        assert answer.status in (400, 401, 422)
        assert answer.headers["Access-Control-Allow-Origin"] == origin


async def test_a_secret_key_is_refused_in_a_browser(client: Client) -> None:
    for origin in (OUR_ORIGINS[0], "https://example.com", client.api.url):
        answer = await client.post(grant(), key=client.api.secret, Origin=origin)
        assert_problem(answer, 403, "secret-key-in-browser")


async def test_secret_calls_have_no_preflight(client: Client) -> None:
    answer = await client.call(
        "OPTIONS", "check", headers={"Origin": OUR_ORIGINS[0], "Access-Control-Request-Method": "POST"}
    )
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"


async def test_our_own_demo_page_may_post(client: Client) -> None:
    answer = await client.post(grant(), Origin=client.api.url)
    assert answer.status == 201


async def test_what_is_published_may_be_read_by_any_page(client: Client) -> None:
    answer = await client.call("GET", "policy", headers={"Origin": "https://example.com"})
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")
    preflight = await client.call(
        "OPTIONS", "policy", headers={"Origin": "https://example.com", "Access-Control-Request-Method": "PUT"}
    )
    assert preflight.headers["Access-Control-Allow-Methods"] == "GET"


async def test_options_of_no_browser_lists_the_methods(client: Client) -> None:
    answer = await client.call("OPTIONS", "events")
    assert (answer.status, answer.headers["Allow"]) == (204, "OPTIONS,POST")
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_preflight_for_an_unknown_site_is_not_found(client: Client) -> None:
    answer = await client.call("OPTIONS", "/v1/sites/no.example.com/events", headers={"Origin": OUR_ORIGINS[0]})
    assert_problem(answer, 404, "unknown-site")


async def test_the_sites_name_is_taken_from_the_path_alone(client: Client) -> None:
    answer = await client.post(grant(site="we-nera.com"))
    assert_problem(answer, 422, "invalid-event")
    assert (await client.post(grant())).json["site"] == SITE
