"""The register of requests: who proves what, what each step does, what stays when a person is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from ledger import config
from ledger.administration import Administration, Who
from ledger.config import Settings
from ledger.core.encoding import decode_time, encode_time
from ledger.core.errors import InputRefused, NotFound, SealBroken, Unavailable
from ledger.core.jws import base64url, parse
from ledger.core.subject_request import encode_details, evidence_of
from ledger.downloads import Downloads
from ledger.erasing.messages import ErasureInput
from ledger.erasing.orders import Orders
from ledger.keys.receipts import ReceiptKeys
from ledger.requests import register as register_module
from ledger.requests.delivering import NOTICE_TYPE, SIGNATURE, RequestWorker
from ledger.requests.figures import RequestCollector
from ledger.requests.messages import (
    RequestDownload,
    RequestInput,
    RequestNotice,
    RequestProof,
    RequestProven,
    RequestRegistration,
    RequestStatus,
    RequestStepInput,
)
from ledger.requests.register import Requests
from ledger.requests.telling import details_of
from ledger.requests.visitors import VisitorRequests
from ledger.store import requests as store
from tests.e2e.conftest import Shop
from tests.harness import now_ms
from tests.requesting import Acts, Browser, Erasures, Lost

OPERATOR = Who("counsel", "operator")
MINUTE_MS, DAY_MS = 60_000, 86_400_000


class Office:
    """The register of one site, with a clock of its own, and what stands in for the administrative log and orders."""

    def __init__(self, shop: Shop) -> None:
        self.site = shop.site
        self.pool = shop.pool
        self.acts, self.erasures = Acts(), Erasures()
        self.now_ms = now_ms()
        self.requests = Requests(
            shop.pool, cast(Administration, self.acts), cast(Orders, self.erasures), lambda: self.now_ms
        )
        self.visitors = VisitorRequests(self.requests, Downloads(shop.pool))

    def challenge(self, browser: Browser, **asked: Any) -> dict[str, Any]:
        self.now_ms += 1
        told = self.visitors.challenge(self.site, RequestInput(browser.visitor, **asked))
        return cast(dict[str, Any], msgspec.to_builtins(told))

    async def prove(
        self, browser: Browser, challenge: dict[str, Any], region: str | None = "KZ"
    ) -> tuple[RequestProven, bool]:
        proof = msgspec.convert(browser.answer(challenge), RequestProof)
        return await self.visitors.prove(self.site, challenge["id"], proof, region)

    async def make(self, browser: Browser, kind: str = "access", region: str | None = "KZ") -> RequestStatus:
        proven, entered = await self.prove(browser, self.challenge(browser, kind=kind), region)
        assert entered
        return proven.request

    async def take(self, request_id: str, step: str, **named: Any) -> RequestStatus:
        asked = RequestStepInput(cast(Any, step), **named)
        return await self.requests.take(self.site, request_id, asked, OPERATOR)

    async def instructed(self, browser: Browser, kind: str) -> RequestStatus:
        made = await self.make(browser, kind)
        await self.take(made.id, "forward")
        return await self.take(made.id, "instruct", instruction="DSR-1")


@pytest_asyncio.fixture
async def office(shop: Shop) -> AsyncIterator[Office]:
    yield Office(shop)


def kinds(refused: pytest.ExceptionInfo[InputRefused]) -> str:
    return refused.value.kind


async def test_a_request_is_made_by_proof_and_led_to_its_download(office: Office) -> None:
    browser = Browser()
    made = await office.make(browser)
    assert (made.state, made.kind, made.late, made.visitor) == ("proven", "access", False, None)
    assert decode_time(made.due_at) == register_module.terms_of(office.site, "KZ", office.now_ms, office.now_ms).due_ms
    with pytest.raises(InputRefused) as early:
        await office.visitors.download(office.site, made.id, RequestDownload())
    assert kinds(early) == "nothing-to-download"

    await office.take(made.id, "forward")
    told = await office.take(made.id, "instruct", instruction="DSR-1")
    assert (told.state, told.visitor, told.region, told.instruction) == ("instructed", browser.visitor, "KZ", "DSR-1")
    first, second = await asyncio.gather(
        *(office.visitors.download(office.site, made.id, RequestDownload()) for _ in range(2))
    )
    assert first.token != second.token
    done = await office.requests.status(office.site, made.id)
    assert [(step.step, step.by) for step in done.steps] == [
        *(("prove", "visitor"), ("forward", "operator"), ("instruct", "operator"), ("answer", "ledger")),
    ]
    assert office.acts.words == [
        *("request.registered", "request.forwarded", "request.instructed", "request.answered"),
        *("export.made", "export.made"),
    ]
    registered = next(iter(office.acts.recorded.values()))
    assert (registered.actor, registered.role, registered.address) == ("visitor", "visitor", None)
    assert browser.visitor not in repr(office.acts.recorded), "no act says who asked"
    assert [step.act for step in done.steps] == [f"{office.site.site}.admin-log:{n}" for n in (1, 2, 3, 4)]
    office.now_ms += 31 * DAY_MS
    with pytest.raises(InputRefused):
        await office.visitors.download(office.site, made.id, RequestDownload())


async def test_knowing_the_id_is_not_enough_and_a_proof_counts_once(office: Office) -> None:
    browser, thief = Browser(), Browser()
    challenge = office.challenge(browser, kind="access")
    with pytest.raises(InputRefused) as stolen:
        await office.prove(thief, challenge)
    assert kinds(stolen) == "proof-refused"
    other = office.challenge(browser, kind="access")
    with pytest.raises(InputRefused) as swapped:
        await office.prove(browser, {**challenge, "id": other["id"]})
    assert kinds(swapped) == "proof-refused"
    with pytest.raises(InputRefused) as unprovable:
        office.visitors.challenge(office.site, RequestInput("v" * 22, "access"))
    assert kinds(unprovable) == "visitor-unprovable"
    assert (await office.requests.page(office.site)).requests == [], "nothing is kept of what was not proven"

    _, entered = await office.prove(browser, challenge)
    assert entered
    again = office.challenge(browser, kind="access")
    for overheard in (challenge, other):  # the one that was used, and one that is older than the newest used
        await office.prove(browser, again) if overheard is other else None
        with pytest.raises(InputRefused) as spent:
            await office.prove(browser, overheard)
        assert kinds(spent) == "proof-spent"
    late = office.challenge(browser, id=challenge["id"])
    office.now_ms += 10 * MINUTE_MS + 1
    with pytest.raises(InputRefused) as expired:
        await office.prove(browser, late)
    assert kinds(expired) == "proof-refused"
    # Somebody else asks for a challenge about this request, and answers it with a key of their own.
    with pytest.raises(InputRefused) as strange:
        await office.prove(thief, office.challenge(thief, id=challenge["id"]))
    assert kinds(strange) == "proof-spent"
    with pytest.raises(NotFound):
        await office.prove(browser, office.challenge(browser, id=str(UUID(int=1 << 77 | 0x4 << 76 | 0x8 << 60))))


async def test_a_visitor_comes_back_to_one_open_request_of_a_kind(office: Office) -> None:
    browser = Browser()
    made = await office.make(browser)
    proven, entered = await office.prove(browser, office.challenge(browser, kind="access"))
    assert (proven.request.id, entered) == (made.id, False)
    office.visitors.check_token(office.site, made.id, proven.token)
    office.now_ms += 15 * MINUTE_MS + 1
    with pytest.raises(InputRefused) as expired:
        office.visitors.check_token(office.site, made.id, proven.token)
    assert kinds(expired) == "request-token-refused"
    renewed, _ = await office.prove(browser, office.challenge(browser, id=made.id))
    office.visitors.check_token(office.site, made.id, renewed.token)
    # Two tabs at once make one request, and no proof is needed twice.
    other = Browser()
    challenges = [office.challenge(other, kind="erasure") for _ in range(3)]
    answers = await asyncio.gather(*(office.prove(other, one) for one in challenges), return_exceptions=True)
    assert len((await office.requests.page(office.site, kind="erasure")).requests) == 1
    assert sum(1 for one in answers if isinstance(one, tuple) and one[1]) == 1


async def test_an_instructed_erasure_is_ordered_once_whatever_ends_the_process(office: Office) -> None:
    browser = Browser()
    made = await office.make(browser, "erasure")
    await office.take(made.id, "forward")
    office.acts.fails = True
    with pytest.raises(Unavailable):
        await office.take(made.id, "instruct", instruction="DSR-1", level="hold")
    assert (office.erasures.orders, await state(office, made.id)) == ({}, "forwarded"), "the act comes first"
    office.acts.fails = False
    office.erasures.crashes = True
    with pytest.raises(Lost):
        await office.take(made.id, "instruct", instruction="DSR-1", level="hold")
    assert await state(office, made.id) == "forwarded"
    office.erasures.crashes = False
    assert (await office.take(made.id, "instruct", instruction="DSR-1", level="hold")).state == "instructed"
    order = office.erasures.orders[made.id]
    assert (order.visitor, order.level, order.evidence, order.reason) == (
        *(browser.visitor, "hold", made.evidence, "subject_request"),
    )
    assert office.acts.words.count("request.instructed") == 1, "the step that was tried again is the same act"

    row = await office.requests.row(office.site, made.id)
    assert not await office.requests.settle_erasure(office.site, row)
    office.erasures.done.add(made.id)
    assert await office.requests.forget(office.site, [office.site.hasher.visitor(browser.visitor)]) == 1
    assert await office.requests.settle_erasure(office.site, row)
    done = await office.requests.status(office.site, made.id)
    assert (done.state, done.forgotten, done.visitor, done.instruction) == ("answered", True, None, None)
    assert (done.evidence, done.due_at, done.closed_at is not None) == (made.evidence, made.due_at, True)


@pytest.mark.parametrize(("level", "outcome"), [("erase", "erased"), ("hold", "erased"), ("restrict", "restricted")])
async def test_nobody_says_that_an_erasure_is_done_before_it_is(office: Office, level: str, outcome: str) -> None:
    made = await office.make(Browser(), "erasure")
    await office.take(made.id, "forward")
    await office.take(made.id, "instruct", instruction="DSR-1", level=level)
    with pytest.raises(InputRefused) as early:
        await office.take(made.id, "answer")
    assert kinds(early) == "request-step-refused"
    office.erasures.done.add(made.id)
    assert (await office.take(made.id, "answer")).state == "answered"
    assert list(office.acts.recorded.values())[-1].details["outcome"] == outcome


async def test_who_asks_by_account_means_its_browsers_too_and_is_answered_when_those_are_gone(office: Office) -> None:
    asked = RequestRegistration("erasure", account="account-7", identified=True)
    made, _ = await office.requests.register(office.site, asked, OPERATOR)
    await office.take(made.id, "forward")
    browser = office.erasures.orders["browser"] = ErasureInput("subject_request", "DSR-1")
    office.erasures.browsers = ["browser"]
    await office.take(made.id, "instruct", instruction="DSR-1")
    assert (office.erasures.orders[made.id].with_browsers, browser.with_browsers) == (True, False)
    office.erasures.done.add(made.id)
    row = await office.requests.row(office.site, made.id)
    assert not await office.requests.settle_erasure(office.site, row)
    office.erasures.done.add("browser")
    assert await office.requests.settle_erasure(office.site, row)


async def test_an_answer_is_put_off_once_and_the_new_date_is_the_one_that_counts(office: Office) -> None:
    made = await office.make(Browser(), region="DE")
    first, room = made.due_at, (await office.requests.status(office.site, made.id)).extendable_to
    assert (room is not None, made.extendable_to) == (True, None), "how far it may be is told to operators alone"
    named = {"instruction": "DSR-7", "reason": "complexity"}
    with pytest.raises(InputRefused) as beyond:
        await office.take(made.id, "extend", until="2999-01-01T00:00:00Z", **named)
    assert (kinds(beyond), beyond.value.pointer) == ("invalid-request", "/until")
    extended = await office.take(made.id, "extend", **named)
    assert (extended.state, extended.due_at, extended.extended_from) == ("proven", room, first)
    assert (extended.extendable_to, extended.instruction) == (None, None), "that is of the instruction to answer"
    act = list(office.acts.recorded.values())[-1]
    assert (act.act, act.instruction, act.details["until"], act.details["outcome"]) == (
        *("request.extended", "DSR-7", room, "complexity"),
    )
    with pytest.raises(InputRefused) as again:
        await office.take(made.id, "extend", **named)
    assert kinds(again) == "request-step-refused"
    seen = await office.requests.status(office.site, made.id, to_visitor=True)
    assert (seen.due_at, seen.extended_from, seen.steps[-1].reason) == (room, first, "complexity")
    # It is led on as before, and late only after the new date.
    await office.take(made.id, "forward")
    office.now_ms = decode_time(first) + DAY_MS
    assert not (await office.requests.status(office.site, made.id)).late
    office.now_ms = decode_time(room or "") + 1
    assert (await office.requests.status(office.site, made.id)).late

    office.now_ms = now_ms()
    late, short = await office.make(Browser(), region="DE"), await office.make(Browser(), region="KZ")
    part = encode_time(decode_time(late.due_at) + DAY_MS)
    office.now_ms = decode_time(late.due_at) + 1
    for one in (late, short):
        with pytest.raises(InputRefused) as refused:
            await office.take(one.id, "extend", until=part, **named)
        assert kinds(refused) == "request-step-refused"
    office.now_ms = decode_time(late.due_at)
    assert (await office.take(late.id, "extend", until=part, **named)).due_at == part
    with pytest.raises(InputRefused) as stray:
        await office.take(late.id, "forward", until=part)
    assert kinds(stray) == "invalid-request"


async def state(office: Office, request_id: str) -> str:
    return (await office.requests.row(office.site, request_id)).state


async def test_what_is_kept_of_who_asked_is_sealed_and_its_evidence_fits_it_alone(office: Office) -> None:
    browser = Browser()
    made, other = await office.make(browser), await office.make(Browser())
    row = await office.requests.row(office.site, made.id)
    details = details_of(office.site, row)
    assert details is not None
    assert evidence_of(encode_details(details)).hex() == made.evidence
    dump = repr(await office.pool.fetch("select * from ledger.request")) + repr(
        await office.pool.fetch("select * from ledger.request_step")
    )
    for secret in (browser.visitor, details.salt):
        assert secret not in dump
    swapped = row._replace(details=(await office.requests.row(office.site, other.id)).details)
    with pytest.raises(SealBroken):
        details_of(office.site, swapped)


async def test_a_letter_is_registered_identified_and_refused(office: Office) -> None:
    letter = RequestRegistration("objection", contact="DSR-2026/117", region="KZ", received_at="2020-01-01T10:00:00Z")
    entered, is_new = await office.requests.register(office.site, letter, OPERATOR)
    assert (entered.state, entered.late, entered.contact, is_new) == ("received", True, "DSR-2026/117", True)
    with pytest.raises(InputRefused) as nobody:
        await office.take(entered.id, "identify")
    assert kinds(nobody) == "request-step-refused"
    refused = await office.take(entered.id, "refuse", instruction="DSR-2", reason="identity_unproven")
    assert (refused.state, refused.steps[-1].reason, refused.closed_at is not None) == (
        *("refused", "identity_unproven", True),
    )
    known = RequestRegistration(
        "erasure", account="account-7", identified=True, id="01980000-0000-4000-8000-00000000000a"
    )
    first, _ = await office.requests.register(office.site, known, OPERATOR)
    again, is_new = await office.requests.register(office.site, known, OPERATOR)
    assert (first.state, first.account, again.id, is_new) == ("proven", "account-7", first.id, False)
    for wrong in (
        RequestRegistration("access", visitor="v" * 22, account="a"),
        RequestRegistration("access", identified=True),
        RequestRegistration("access", received_at="2999-01-01T00:00:00Z"),
        RequestRegistration("access", received_at="0001-01-01T00:00:00Z"),
        RequestRegistration("access", region="QQ"),
    ):
        with pytest.raises(InputRefused) as invalid:
            await office.requests.register(office.site, wrong, OPERATOR)
        assert kinds(invalid) == "invalid-request"
    with pytest.raises(InputRefused):
        await office.take(first.id, "forward", level="hold")


async def test_two_operators_take_one_step(office: Office) -> None:
    made = await office.make(Browser())
    answers = await asyncio.gather(
        *(
            office.requests.take(office.site, made.id, RequestStepInput("forward"), Who(name, "operator"))
            for name in ("anna", "bolat")
        ),
        return_exceptions=True,
    )
    refusals = [one for one in answers if isinstance(one, InputRefused)]
    assert [one.kind for one in refusals] in (["request-changed"], ["request-step-refused"])
    assert len(await store.steps(office.pool, office.site.site_id, made.id)) == 2


async def test_the_register_is_paged_counted_and_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [(await office.make(Browser(), kind)).id for kind in ("access", "objection", "access")]
    letter = RequestRegistration("access", received_at="2020-01-01T00:00:00Z")
    late, _ = await office.requests.register(office.site, letter, OPERATOR)
    assert late.late
    seen, cursor = [], None
    while True:
        page = await office.requests.page(office.site, cursor=cursor, limit=2)
        seen += [request.id for request in page.requests]
        if (cursor := page.next) is None:
            break
    assert seen == [*reversed(made), late.id]
    assert [one.id for one in (await office.requests.page(office.site, overdue=True)).requests] == [late.id]
    assert [one.id for one in (await office.requests.page(office.site, kind="objection")).requests] == [made[1]]
    figures = {row.state: (row.requests, row.overdue) for row in await store.figures(office.pool)}
    assert figures == {"proven": (3, 0), "received": (1, 1)}
    for cursor in ("1", ".", "x.y", f"-1.{made[0]}"):
        with pytest.raises(InputRefused):
            await office.requests.page(office.site, cursor=cursor)
    monkeypatch.setattr("ledger.config.REQUESTS_OPEN_MAX", 4)
    with pytest.raises(Unavailable) as full:
        await office.make(Browser())
    assert full.value.reason == "register-full"
    assert len(office.acts.recorded) == 4, "nor is the administrative log filled"
    refused = await office.take(late.id, "refuse", instruction="DSR-3", reason="identity_unproven")
    assert refused.state == "refused"
    office.now_ms = decode_time(refused.closed_at or "") + 4 * 365 * DAY_MS
    assert await office.requests.forget_ended(office.site) == 1
    assert (await office.requests.status(office.site, late.id)).forgotten
    ended = await office.take(made[1], "refuse", instruction="DSR-3", reason="excessive")
    office.now_ms = decode_time(ended.closed_at or "") + 1
    assert await office.requests.forget_ended(office.site) == 0
    office.site.closed = True
    assert await office.requests.forget_ended(office.site) == 1, "those that wait are left to be answered"


class Controller:
    """A webhook that fails as often as it is told to, and keeps what it took."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.taken: list[tuple[bytes, str]] = []

    async def take(self, request: web.Request) -> web.Response:
        if self.failures:
            self.failures -= 1
            return web.Response(status=503)
        self.taken.append((await request.read(), request.headers[SIGNATURE]))
        return web.Response()


async def test_the_controller_is_told_until_it_takes_it_and_can_tell_that_it_is_ours(
    office: Office, shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "REQUEST_WEBHOOK_PAUSES_SECONDS", (0.0,))
    controller, browser = Controller(failures=2), Browser()
    app = web.Application()
    app.router.add_post("/told", controller.take)
    made = await office.make(browser)
    reads = shop.service.reads
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        worker = RequestWorker(replace(settings, request_webhook=str(server.make_url("/told"))), shop.pool)
        keys = ReceiptKeys(settings, reads)
        for _ in range(4):
            await worker.round(shop.service.sites, office.requests, keys, session)
    assert (worker.failures, worker.told[office.site.site], len(controller.taken)) == (2, 1, 1)
    body, signature = controller.taken[0]
    assert browser.visitor.encode() not in body
    notice = msgspec.json.decode(body, type=RequestNotice)
    assert (notice.request, notice.kind, notice.due_at, notice.region) == (made.id, "access", made.due_at, "KZ")
    header, nothing, signed = signature.split(".")
    assert nothing == ""
    statement = parse(f"{header}.{base64url(body)}.{signed}".encode(), NOTICE_TYPE)
    statement.check()
    assert statement.public in await keys.published(shop.service.sites.loaded())
    told = await office.requests.status(office.site, made.id)
    assert [(step.step, step.by) for step in told.steps] == [("prove", "visitor"), ("forward", "ledger")]
    figures = {metric.name: metric.samples for metric in RequestCollector(worker).collect()}
    assert [sample.value for sample in figures["consent_ledger_requests_overdue"]] == [0]


async def test_the_worker_answers_what_was_erased(office: Office, shop: Shop, settings: Settings) -> None:
    made = await office.instructed(Browser(), "erasure")
    worker, keys = RequestWorker(settings, shop.pool), ReceiptKeys(settings, shop.service.reads)
    async with aiohttp.ClientSession() as session:
        await worker.round(shop.service.sites, office.requests, keys, session)
        assert await state(office, made.id) == "instructed"
        office.erasures.done.add(made.id)
        await worker.round(shop.service.sites, office.requests, keys, session)
    assert await state(office, made.id) == "answered"
