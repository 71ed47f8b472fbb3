"""Bad input to a real server: each kind has its own answer, nothing is recorded, and good neighbours land."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest_asyncio

from ledger.config import Settings
from ledger.provision import SiteCredentials
from tests.harness import Process, check_log, found, grant, refusal

PROBLEM = "urn:consent-ledger:problem:"


def with_raw(member: str, raw: bytes) -> bytes:
    """A good refusal with one member written as these bytes."""
    return json.dumps(refusal()).encode()[:-1] + b', "%s": %s}' % (member.encode(), raw)


def only(**members: Any) -> bytes:
    """A grant of analytics alone, so that it leaves no denial to be kept."""
    return json.dumps(grant(**{"decisions": {"analytics": "granted"}, **members})).encode()


def without(member: str) -> bytes:
    return json.dumps({name: value for name, value in refusal().items() if name != member}).encode()


class Bad(NamedTuple):
    """A body, and the status and type of its refusal; `in_batch` where a line is told something else."""

    body: bytes
    status: int
    slug: str
    in_batch: tuple[int, str] | None = None


NOT_JSON = (400, "invalid-json")
NO_EVENT = (422, "invalid-event")

BAD = {
    "text": Bad(b"hello", *NOT_JSON),
    "half an event": Bad(json.dumps(refusal()).encode()[:-9], *NOT_JSON),
    "two events": Bad(json.dumps(refusal()).encode() * 2, *NOT_JSON),
    "a comma too many": Bad(json.dumps(refusal()).encode()[:-1] + b",}", *NOT_JSON),
    "NaN": Bad(with_raw("gpc", b"NaN"), *NOT_JSON),
    "an array": Bad(b"[" + json.dumps(refusal()).encode() + b"]", *NO_EVENT),
    "a string": Bad(b'"consent"', *NO_EVENT),
    "a number": Bad(b"1", *NO_EVENT),
    "null": Bad(b"null", *NO_EVENT),
    "an empty object": Bad(b"{}", *NO_EVENT),
    "a doubled member": Bad(with_raw("visitor", b'"0123456789012345678901"'), 400, "duplicate-member"),
    "a doubled purpose": Bad(
        json.dumps(refusal()).encode().replace(b'"marketing"', b'"analytics"'), 400, "duplicate-member"
    ),
    "a doubled member, escaped": Bad(with_raw("\\u0076isitor", b'"0123456789012345678901"'), 400, "duplicate-member"),
    "brackets 100,000 deep": Bad(b"[" * 100_000, 413, "body-too-large", (413, "line-too-large")),
    "brackets 8,000 deep": Bad(b"[" * 8_000 + b"]" * 8_000, *NOT_JSON),
    "objects 2,000 deep": Bad(with_raw("gpc", b'{"a":' * 2_000 + b"1" + b"}" * 2_000), *NOT_JSON),
    "depth in an unknown member": Bad(with_raw("note", b"[" * 100 + b"]" * 100), *NO_EVENT),
    "a lone surrogate, escaped": Bad(with_raw("language", b'"\\ud800"'), *NOT_JSON),
    "a lone surrogate as a name": Bad(with_raw("\\udfff", b"1"), *NOT_JSON),
    "a lone surrogate in UTF-8": Bad(with_raw("language", b'"\xed\xa0\x80"'), *NOT_JSON),
    "no UTF-8": Bad(with_raw("language", b'"\xff\xfe"'), *NOT_JSON),
    "overlong UTF-8": Bad(with_raw("language", b'"\xc0\x80"'), *NOT_JSON),
    "NUL between": Bad(b"\x00" + json.dumps(refusal()).encode(), *NOT_JSON),
    "NUL in a string": Bad(with_raw("language", b'"e\x00n"'), *NOT_JSON),
    "NUL in a language, escaped": Bad(with_raw("language", b'"e\\u0000n"'), *NO_EVENT),
    "NUL in a purpose": Bad(only(decisions={"ana\0lytics": "granted"}), *NO_EVENT),
    "NUL in a version": Bad(only(policyVersion="1.0\0"), 422, "unknown-policy-version"),
    "a huge number": Bad(with_raw("gpc", b"9" * 5_000), *NOT_JSON),
    "a number without end": Bad(with_raw("gpc", b"1e999"), *NOT_JSON),
    "a number of 40 digits": Bad(with_raw("gpc", b"1" * 40), *NO_EVENT),
    "a float": Bad(with_raw("gpc", b"1.5"), *NO_EVENT),
    "null for a visitor": Bad(json.dumps({**refusal(), "visitor": None}).encode(), *NO_EVENT),
    "an unknown member": Bad(with_raw("vistor", b'"x"'), *NO_EVENT),
    "a reserved member": Bad(with_raw("signature", b'"x"'), *NO_EVENT),
    "a list for a text": Bad(json.dumps(refusal(visitor=["v" * 22])).encode(), *NO_EVENT),
    "a list for decisions": Bad(json.dumps(refusal(decisions=["analytics"])).encode(), *NO_EVENT),
    "a boolean for an answer": Bad(json.dumps(refusal(decisions={"analytics": False})).encode(), *NO_EVENT),
    "no visitor": Bad(without("visitor"), *NO_EVENT),
    "no type": Bad(without("type"), *NO_EVENT),
    "no decisions": Bad(without("decisions"), *NO_EVENT),
    "decisions about nothing": Bad(json.dumps(refusal(decisions={})).encode(), *NO_EVENT),
    "65 decisions": Bad(json.dumps(refusal(decisions={f"p{n}": "denied" for n in range(65)})).encode(), *NO_EVENT),
    "a short visitor": Bad(json.dumps(refusal(visitor="v" * 21)).encode(), *NO_EVENT),
    "a long visitor": Bad(json.dumps(refusal(visitor="v" * 65)).encode(), *NO_EVENT),
    "a visitor with a space": Bad(json.dumps(refusal(visitor="v" * 22 + " ")).encode(), *NO_EVENT),
    "a visitor of other letters": Bad(json.dumps(refusal(visitor="ж" * 22)).encode(), *NO_EVENT),
    "an id that is none": Bad(json.dumps(refusal(id="1")).encode(), *NO_EVENT),
    "a time that is none": Bad(json.dumps(refusal(occurredAt="yesterday")).encode(), *NO_EVENT),
    "a day that is none": Bad(only(occurredAt="2026-02-30T00:00:00Z"), *NO_EVENT),
    "a number for a time": Bad(with_raw("occurredAt", b"1790000000000"), *NO_EVENT),
    "an unknown purpose": Bad(only(decisions={"video": "granted"}), 422, "unknown-purpose"),
    "a grant of everything": Bad(only(decisions={"*": "granted"}), *NO_EVENT),
    "no published version": Bad(only(policyVersion="9.9"), 422, "unknown-policy-version"),
    "no version": Bad(only(policyVersion=None), 422, "policy-version-missing"),
    "the future": Bad(only(occurredAt="2199-01-01T00:00:00Z"), 422, "grant-in-the-future"),
    "2001": Bad(only(occurredAt="2001-01-01T00:00:00Z"), 422, "grant-too-old"),
    "a body of 10 MB": Bad(b" " * 10_000_000, 413, "body-too-large", (413, "line-too-large")),
    "an event of 17 KB": Bad(
        with_raw("language", b'"' + b"e" * 17_000 + b'"'), 413, "body-too-large", (413, "line-too-large")
    ),
}


class Told(NamedTuple):
    """An answer, read."""

    status: int
    media_type: str
    body: bytes


class Shop(NamedTuple):
    server: Process
    site: SiteCredentials
    session: aiohttp.ClientSession

    async def post(self, body: bytes, path: str = "events", **headers: str) -> Told:
        sent = {"Authorization": f"Bearer {self.site.publishable}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.server.url}/v1/sites/{self.site.site}/{path}"
        async with self.session.post(url, data=io.BytesIO(body), headers=sent) as response:
            return Told(response.status, response.headers["Content-Type"], await response.read())

    async def size(self) -> int:
        return len((await check_log(self.server.settings, self.site)).entries)


@pytest_asyncio.fixture
async def shop(settings: Settings, tmp_path: Path) -> AsyncIterator[Shop]:
    site = await found(settings)
    async with Process(settings, tmp_path) as server, aiohttp.ClientSession() as session:
        yield Shop(server, site, session)
        assert "unexpected" not in server.log
        assert "Traceback" not in server.log


def problem_of(told: Told) -> tuple[int, str]:
    """Status and slug, after a look at what every problem has."""
    if told.media_type != "application/problem+json":
        return told.status, told.media_type
    problem = json.loads(told.body)
    assert problem["status"] == told.status
    assert problem["title"]
    assert problem["detail"]
    return told.status, problem["type"].removeprefix(PROBLEM)


async def test_each_kind_of_bad_body_is_refused_for_its_own_reason_and_nothing_is_recorded(shop: Shop) -> None:
    before = await shop.size()
    told = {what: problem_of(await shop.post(bad.body)) for what, bad in BAD.items()}
    assert told == {what: (bad.status, bad.slug) for what, bad in BAD.items()}
    assert await shop.size() == before


async def test_in_a_batch_the_good_events_land_between_all_the_bad_ones(shop: Shop) -> None:
    before = await shop.size()
    batched = {what: bad for what, bad in BAD.items() if len(bad.body) < 200_000}
    good = [json.dumps((grant if n % 2 else refusal)()).encode() for n in range(len(batched))]
    lines = [line for pair in zip(good, (bad.body for bad in batched.values()), strict=True) for line in pair]
    response = await shop.post(
        b"\n".join(lines),
        "events:batch",
        Authorization=f"Bearer {shop.site.secret}",
        Content_Type="application/x-ndjson",
    )
    assert response.status == 200
    told = [json.loads(line) for line in response.body.splitlines()]
    assert [result["line"] for result in told] == list(range(1, len(lines) + 1))
    assert {result["status"] for result in told[::2]} == {201}
    refused = [
        (result["status"], result.get("problem", {}).get("type", "").removeprefix(PROBLEM)) for result in told[1::2]
    ]
    expected = [bad.in_batch or (bad.status, bad.slug) for bad in batched.values()]
    assert dict(zip(batched, refused, strict=True)) == dict(zip(batched, expected, strict=True))
    assert await shop.size() == before + len(good)


async def test_who_may_not_post_is_told_why_and_nothing_is_recorded(shop: Shop) -> None:
    before, event = await shop.size(), json.dumps(refusal()).encode()
    told = {
        "no key": await shop.post(event, Authorization=""),
        "another scheme": await shop.post(event, Authorization="Basic dTpw"),
        "an unknown key": await shop.post(event, Authorization="Bearer pk_" + "x" * 43),
        "a key of other letters": await shop.post(event, Authorization="Bearer pk_ж"),
        "a publishable key for a batch": await shop.post(event, "events:batch", Content_Type="application/x-ndjson"),
        "another origin": await shop.post(event, Origin="https://evil.example"),
        "no origin": await shop.post(event, Origin="null"),
        "a secret key in a browser": await shop.post(
            event, Authorization=f"Bearer {shop.site.secret}", Origin=f"https://{shop.site.site}"
        ),
        "an unknown site": await shop.post(event, "../no.example.com/events"),
        "a form": await shop.post(event, Content_Type="application/x-www-form-urlencoded"),
        "text": await shop.post(event, Content_Type="text/plain"),
        "compressed": await shop.post(event, Content_Encoding="gzip"),
        "nothing": await shop.post(b""),
    }
    assert {what: problem_of(answer) for what, answer in told.items()} == {
        "no key": (401, "key-unknown"),
        "another scheme": (401, "key-unknown"),
        "an unknown key": (401, "key-unknown"),
        "a key of other letters": (401, "key-unknown"),
        "a publishable key for a batch": (403, "secret-key-needed"),
        "another origin": (403, "origin-not-allowed"),
        "no origin": (403, "origin-not-allowed"),
        "a secret key in a browser": (403, "secret-key-in-browser"),
        "an unknown site": (404, "unknown-site"),
        "a form": (415, "unsupported-media-type"),
        "text": (415, "unsupported-media-type"),
        "compressed": (415, "unsupported-media-type"),
        "nothing": (400, "invalid-json"),
    }
    assert await shop.size() == before
    assert (await shop.post(event, Origin=f"https://{shop.site.site}")).status == 201
