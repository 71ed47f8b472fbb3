"""Accounts under the projection and its rebuild, and checks of very many visitors: the answers are the same."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any

import pytest

from ledger.administration import Who
from ledger.core.encoding import decode_time, encode_time
from ledger.core.errors import InputRefused
from ledger.core.event import GRANTED
from ledger.erasing.messages import ErasureInput
from ledger.messages import CheckInput, CheckVisitor
from ledger.projector import rebuild
from ledger.secrets import new_event_id
from ledger.store.reads import VisitorRows
from tests.e2e.conftest import Shop
from tests.harness import grant, new_visitor, now_ms, refusal

PURPOSES = ("necessary", "analytics", "marketing", "never-offered", "other")
ASKED = 10_000
SEED = 20261121


class Households:
    """Visitors who share accounts, change them, and choose now for the device and now for the account."""

    def __init__(self, shop: Shop, visitors: int, accounts: int) -> None:
        self.visitors = [new_visitor() for _ in range(visitors)]
        self._shop = shop
        self._random = random.Random(SEED)
        self._accounts = [f"account-{n}" for n in range(accounts)]

    async def live(self, events: int) -> None:
        for start in range(0, events, 16):
            await asyncio.gather(*(self._act() for _ in range(min(16, events - start))))

    async def _act(self) -> None:
        visitor, draw = self._random.choice(self.visitors), self._random.random()
        event: dict[str, Any] = {"id": new_event_id(now_ms()), "visitor": visitor}
        if draw < 0.3:
            event |= {"type": "account.linked", "account": self._random.choice(self._accounts)}
        elif draw < 0.4:
            event |= {"type": "account.unlinked", "account": self._random.choice(self._accounts)}
        elif draw < 0.45:
            event |= {"type": self._random.choice(("consent.dismissed", "notice.seen"))}
        else:
            scope = self._random.choice(("device", "account"))
            answers = {purpose: self._random.choice((GRANTED, "denied")) for purpose in ("analytics", "marketing")}
            linked = (await self._shop.consent(visitor)).linked
            if GRANTED in answers.values() and (scope == "device" or linked):
                event |= grant(visitor=visitor, decisions=answers, scope=scope)
            else:
                event |= refusal(visitor=visitor, scope=scope)
        with contextlib.suppress(InputRefused):  # of an account that it is not linked to, or by now no more
            await self._shop.record(event, secret=True)


Told = dict[tuple[str, str], tuple[str, str, str | None]]


async def singly(shop: Shop, visitors: list[str], region: str | None = None, **question: Any) -> Told:
    found: Told = {}
    for visitor in visitors:
        consent = await shop.consent(visitor, purposes=PURPOSES, region=region, **question)
        for purpose, each in consent.decisions.items():
            found[visitor, purpose] = (each.decision, each.reason, each.valid_until)
    return found


async def at_once(shop: Shop, visitors: list[Any], **question: Any) -> Told:
    answer = await shop.service.check(shop.site, CheckInput(visitors=visitors, purposes=list(PURPOSES), **question))
    return {
        (visitor, purpose): (each.decision, each.reason, each.valid_until)
        for visitor, told in answer.results.items()
        for purpose, each in told.items()
    }


async def test_the_answers_are_the_same_however_far_the_projection_came_and_after_its_rebuild(shop: Shop) -> None:
    households = Households(shop, visitors=12, accounts=4)
    before: Told = {}
    for _ in range(4):
        await households.live(40)
        unprojected = await singly(shop, households.visitors)
        await shop.project(batches=1)
        assert await singly(shop, households.visitors) == await at_once(shop, households.visitors) == unprojected
        assert unprojected != before
        before = unprojected
    await shop.project()
    states = await shop.pool.fetch("select visitor, seq, body from ledger.state order by visitor")
    assert await rebuild(shop.pool, shop.vaults, shop.site.site_id) == await shop.size()
    assert await shop.pool.fetch("select visitor, seq, body from ledger.state order by visitor") == states
    assert await singly(shop, households.visitors) == before


async def test_a_check_of_ten_thousand_visitors_says_what_single_answers_say(shop: Shop) -> None:
    households = Households(shop, visitors=150, accounts=40)
    await households.live(500)
    await shop.project(batches=1)
    middle = await shop.service.history(shop.site, households.visitors[0], None, 500)
    at = middle.events[len(middle.events) // 2].recorded_at
    await households.live(300)  # which the projection does not hold
    strangers = [new_visitor() for _ in range(ASKED - len(households.visitors))]
    everybody = households.visitors + strangers
    random.Random(SEED).shuffle(everybody)
    sample = households.visitors + strangers[:20]

    answers = await at_once(shop, everybody)
    assert len(answers) == ASKED * len(PURPOSES)
    assert {place: answers[place] for place in ((v, p) for v in sample for p in PURPOSES)} == await singly(shop, sample)
    assert {answers[visitor, "analytics"] for visitor in strangers} == {("denied", "never_asked", None)}
    assert {answer[:2] for (_, purpose), answer in answers.items() if purpose == "other"} == {
        ("denied", "unknown_purpose")
    }

    regional: list[Any] = [CheckVisitor(visitor, "KZ") if n % 2 else visitor for n, visitor in enumerate(sample)]
    told = await at_once(shop, regional, region="DE")
    for n, visitor in enumerate(sample):
        alone = await singly(shop, [visitor], "KZ" if n % 2 else "DE")
        assert {place: told[place] for place in alone} == alone

    past = await at_once(shop, everybody, at=at)
    known = await singly(shop, sample, at_ms=decode_time(at))
    assert {place: past[place] for place in known} == known


async def test_only_a_choice_for_an_account_and_the_end_of_a_link_ask_first_to_which(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, read = [], shop.service.reads.visitors

    async def counted(site_id: int, visitors: Sequence[bytes]) -> list[VisitorRows]:
        asked.append(len(visitors))
        return await read(site_id, visitors)

    monkeypatch.setattr(shop.service.reads, "visitors", counted)
    visitor = new_visitor()
    for event in (grant(visitor=visitor), refusal(visitor=visitor), link(visitor, "a"), link(visitor, "a", "unlinked")):
        await shop.record(event, secret=True)
    assert asked == [1]  # for the end of the link
    await shop.record(link(visitor, "a"), secret=True)
    assert asked == [1]
    await shop.record(grant(visitor=visitor, scope="account"))
    assert asked == [1, 1]


async def test_a_visitor_that_changes_accounts_while_it_is_asked_about_is_answered_by_one_of_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state and that of its account are of one moment, whatever happened between two questions."""
    visitor, housemate = new_visitor(), new_visitor()
    for account, who in (("granting", visitor), ("granting", housemate), ("refusing", housemate)):
        await shop.record(link(who, account), secret=True)
        if who == housemate:
            chosen = grant(visitor=who) if account == "granting" else refusal(visitor=who)
            await shop.record(chosen | {"scope": "account"})
    asked, read = [], shop.service.reads.visitors

    async def meddled(site_id: int, visitors: Sequence[bytes]) -> list[VisitorRows]:
        asked.append(len(visitors))
        if len(asked) == 2:  # the visitor was seen linked to one, and is linked to the other when that one is read
            await shop.record(link(visitor, "refusing"), secret=True)
        return await read(site_id, visitors)

    monkeypatch.setattr(shop.service.reads, "visitors", meddled)
    answer = await shop.consent(visitor, purposes=["analytics"])
    assert (answer.decisions["analytics"].decision, answer.decisions["analytics"].reason) == ("denied", "refused")
    assert asked == [1, 2, 2]


def link(visitor: str, account: str, kind: str = "linked") -> dict[str, Any]:
    return {"id": new_event_id(now_ms()), "type": f"account.{kind}", "visitor": visitor, "account": account}


@pytest.mark.parametrize(("level", "reason"), [("restrict", "restricted"), ("erase", "erasure_pending")])
async def test_what_holds_an_account_back_holds_for_questions_about_the_past_too(
    shop: Shop, level: str, reason: str
) -> None:
    visitor = new_visitor()
    await shop.record({"type": "account.linked", "visitor": visitor, "account": "family"}, secret=True)
    await shop.record(grant(visitor=visitor, scope="account"))
    past = encode_time(now_ms())
    ordered = ErasureInput(reason="subject_request", instruction="DSR-7", account="family", level=level)
    await shop.service.erasures.order(shop.site, ordered, Who("counsel", "controller"))
    for at in (None, past):
        asked = CheckInput(visitors=[visitor], purposes=["analytics"], at=at)
        told = (await shop.service.check(shop.site, asked)).results[visitor]["analytics"]
        assert (told.decision, told.reason) == ("denied", reason), at
