"""Receipts as people and other systems read them: formats, access, headers, and what no URL or log may hold."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
import pytest_asyncio
from pyld import jsonld

from ledger import config
from ledger.core.note import TYPE_ED25519, parse_vkey
from ledger.core.receipt import Verdict, verify_receipt
from ledger.embedded.postgres import Postgres
from ledger.keys.files import paths_of
from tests.contract.auditing import Log, serving_log
from tests.contract.conftest import SITE, Answer, grant, refusal, visitor
from tests.contract.test_events import assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORMATS = {"iso27560": "application/ld+json", "kantara": "application/jwt", "html": "text/html; charset=utf-8"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "SERVED_CHECKPOINT_CACHE_SECONDS", 0.0)
    monkeypatch.setattr(config, "RECEIPT_KEYS_CACHE_SECONDS", 0.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(
    postgres: Postgres, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Log]:
    async with serving_log(postgres, template_database, tmp_path_factory.mktemp("keys")) as log:
        yield log


async def recorded(log: Log, event: dict[str, Any]) -> str:
    answer = await log.post(event)
    assert answer.status == 201, answer.json
    return str(event["id"])


async def rendered(log: Log, event_id: str, wanted: str, more: str = "") -> Answer:
    return await log.call("GET", f"receipts/{event_id}?format={wanted}{more}", key=log.api.secret)


# --- what is given out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "media_type"), FORMATS.items())
async def test_a_rendering_is_nobody_elses_to_keep(log: Log, wanted: str, media_type: str) -> None:
    event_id = await recorded(log, grant())
    await log.sign()
    answer = await rendered(log, event_id, wanted)
    assert (answer.status, answer.headers["Content-Type"]) == (200, media_type)
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "ETag" not in answer.headers
    head = await log.call("HEAD", f"receipts/{event_id}?format={wanted}", key=log.api.secret)
    assert (head.status, head.body) == (200, b"")


async def test_without_a_format_the_receipt_is_what_it_was(log: Log) -> None:
    event_id = await recorded(log, grant())
    await log.sign()
    answer = await log.call("GET", f"receipts/{event_id}", key=log.api.secret)
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json) >= {"id", "entry", "salt", "payload", "proof"}
    text = await log.call("GET", f"receipts/{event_id}", key=log.api.secret, headers={"Accept": "text/plain"})
    assert text.body.startswith(b"c2sp.org/tlog-proof@v1\n")


async def test_a_record_of_a_real_event_names_the_published_policy_and_carries_a_receipt_that_verifies(
    log: Log,
) -> None:
    who = visitor()
    event_id = await recorded(log, grant(visitor=who, language="ru"))
    await log.sign()
    answer = await rendered(log, event_id, "iso27560")
    receipt = json.loads(answer.body)
    assert jsonld.expand(receipt)
    record = receipt["dpv:hasRecordOfActivity"]
    assert record["dpv:hasDataSubject"]["dct:identifier"] == who
    notice = record["dpv:hasNotice"][0]["@id"]
    assert notice.startswith(f"{log.api.url}/documents/")
    document = await log.call("GET", notice.removeprefix(log.api.url))
    assert (document.status, document.json["site"]) == (200, SITE)
    status = record["dpv:hasProcess"][0]["dpv:hasConsentStatus"]
    assert status["@type"] == ["dpv:ConsentGiven"]
    assert status["dpv:hasDuration"]["@type"] == "dpv:UntilTimeDuration"
    own = {name.removeprefix("cl:"): value for name, value in receipt["dct:provenance"].items() if name[:3] == "cl:"}
    for name in ("logOrigin", "checkpoint"):
        own.pop(name)
    report = verify_receipt(json.dumps(own).encode(), parse_vkey(own.pop("logKey"), TYPE_ED25519))
    assert report.verdict == Verdict.VERIFIED


async def test_a_consent_receipt_verifies_with_the_published_keys_by_another_library(log: Log) -> None:
    event_id = await recorded(log, grant(decisions={"analytics": "granted", "marketing": "denied"}))
    token = (await rendered(log, event_id, "kantara")).body
    published = await log.call("GET", "/.well-known/jwks.json")
    assert published.headers["Content-Type"] == "application/jwk-set+json"
    assert published.headers["Cache-Control"] == "public, max-age=60"
    assert published.headers["Access-Control-Allow-Origin"] == "*"
    key = jwt.PyJWKSet.from_dict(published.json)[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key.key, algorithms=["EdDSA"], issuer=log.api.url)
    assert claims["consentReceiptID"] == event_id
    kinds = {one["purposeId"]: one["consentType"] for one in claims["services"][0]["purposes"]}
    assert kinds == {"analytics": "EXPLICIT", "marketing": "REFUSED"}
    again = await log.call("GET", "/.well-known/jwks.json", headers={"If-None-Match": published.headers["ETag"]})
    assert again.status == 304


async def test_a_page_shows_the_history_of_the_visitor_and_nothing_of_another(log: Log) -> None:
    who, stranger = visitor(), visitor()
    first = await recorded(log, grant(visitor=who))
    await recorded(log, refusal(visitor=who, type="consent.withdrawn", action="withdraw"))
    await recorded(log, grant(visitor=stranger))
    await log.sign()
    answer = await rendered(log, first, "html")
    page = answer.body.decode()
    assert page.count("<tr") == page.count("</tr>")
    assert page.count('<th scope="row">') >= 2
    assert who in page
    assert stranger not in page
    assert "Consent withdrawn" in page
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Content-Language"] == "en"
    assert f'filename="consent-record-{first}.html"' in answer.headers["Content-Disposition"]


async def test_a_page_speaks_the_visitors_language_or_the_one_asked_for(log: Log) -> None:
    event_id = await recorded(log, grant(language="ru"))
    assert "Запись о согласии" in (await rendered(log, event_id, "html")).body.decode()
    assert "Келісім туралы жазба" in (await rendered(log, event_id, "html", "&language=kk")).body.decode()
    german = await rendered(log, event_id, "html", "&language=de")
    assert (german.headers["Content-Language"], "Record of consent" in german.body.decode()) == ("en", True)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("format=pdf", 400),
        ("format=", 400),
        ("format=html&format=html", 400),
        ("format=html&language=%3Cscript%3E", 400),
        ("format=html&visitor=x", 400),
        ("language=ru", 422),
        ("format=kantara&language=ru", 422),
    ],
)
async def test_a_question_that_says_nothing_is_refused(log: Log, query: str, status: int) -> None:
    event_id = await recorded(log, grant())
    answer = await log.call("GET", f"receipts/{event_id}?{query}", key=log.api.secret)
    assert answer.status == status


@pytest.mark.parametrize("wanted", FORMATS)
async def test_a_rendering_is_as_guarded_as_its_receipt(log: Log, wanted: str) -> None:
    event_id = await recorded(log, grant())
    path = f"receipts/{event_id}?format={wanted}"
    assert_problem(await log.call("GET", path), 401, "key-missing")
    assert_problem(await log.call("GET", path, key=log.api.publishable), 403, "secret-key-needed")
    assert_problem(await log.call("GET", path, key=log.api.scoped["check"]), 403, "scope-missing")
    assert_problem(await log.call("GET", path, key=log.api.other_secret), 401, "key-unknown")
    assert (await log.call("GET", path, key=log.api.scoped["audit"])).status == 200
    unknown = f"receipts/01980000-0000-7000-8000-000000000000?format={wanted}"
    assert_problem(await log.call("GET", unknown, key=log.api.secret), 404, "not-found")


@pytest.mark.parametrize("wanted", FORMATS)
async def test_before_a_checkpoint_it_says_that_a_proof_is_to_come(log: Log, wanted: str) -> None:
    event_id = await recorded(log, grant())
    answer = await rendered(log, event_id, wanted)
    assert answer.status == 200
    assert (answer.headers["Checkpoint-Pending"], answer.headers["Retry-After"]) == ("true", "1")


async def test_without_a_receipt_key_the_other_formats_go_on(log: Log) -> None:
    event_id = await recorded(log, grant())
    moved = [(path, path.with_suffix(".away")) for path in paths_of(log.api.settings, SITE, "receipt")]
    for path, away in moved:
        path.rename(away)
    try:
        answer = await rendered(log, event_id, "kantara")
        assert_problem(answer, 503, "no-receipt-key")
        assert f"consent-ledger key new {SITE} receipt" in json.loads(answer.body)["detail"]
        assert int(answer.headers["Retry-After"]) > 0
        for wanted in ("iso27560", "html"):
            assert (await rendered(log, event_id, wanted)).status == 200
    finally:
        for path, away in moved:
            away.rename(path)
    assert (await rendered(log, event_id, "kantara")).status == 200


async def test_an_event_without_a_choice_has_a_page_and_no_consent_record(log: Log) -> None:
    seen = {name: value for name, value in grant(type="notice.seen").items() if name not in ("decisions", "action")}
    event_id = await recorded(log, seen)
    for wanted in ("iso27560", "kantara"):
        assert_problem(await rendered(log, event_id, wanted), 422, "no-consent-in-event")
    assert (await rendered(log, event_id, "html")).status == 200


async def test_no_log_line_holds_a_visitor(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    who = visitor()
    event_id = await recorded(log, grant(visitor=who))
    with caplog.at_level(logging.DEBUG):
        for wanted in FORMATS:
            await rendered(log, event_id, wanted)
    assert who not in caplog.text
