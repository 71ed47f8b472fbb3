"""What a record is made of, gathered from a real service: the answers after each event, links, other browsers."""

from __future__ import annotations

import pytest

from ledger import config, dossiers
from ledger.core.encoding import decode_base64
from ledger.http import record_page
from ledger.messages import Receipt
from ledger.records.dossier import Dossier
from tests.e2e.conftest import Shop
from tests.harness import grant, new_visitor, refusal


async def gathered(shop: Shop, receipt: Receipt, *, whole: bool = True) -> Dossier:
    return await dossiers.gather(shop.service, shop.site, receipt, "https://ledger.example", whole=whole)


def held(dossier: Dossier) -> list[tuple[int, bool, str]]:
    """Each event of the history with whether it is the browser's own and what it left of analytics."""
    return [(moment.seq, moment.own, moment.after["analytics"].decision) for moment in dossier.timeline]


async def test_each_event_stands_with_what_the_ledger_answered_right_after_it(shop: Shop) -> None:
    who = new_visitor()
    first = await shop.record(grant(visitor=who))
    second = await shop.record(refusal(visitor=who, type="consent.withdrawn", action="withdraw"))
    await shop.record(grant())
    made = await gathered(shop, first.receipt)
    assert held(made) == [(first.receipt.seq, True, "granted"), (second.receipt.seq, True, "denied")]
    assert (made.after["analytics"].decision, made.after["analytics"].reason) == ("granted", "granted")
    assert (await gathered(shop, second.receipt)).after["analytics"].reason == "withdrawn"
    brief = await gathered(shop, first.receipt, whole=False)
    assert (brief.timeline, brief.after) == ((), made.after)


async def test_the_policy_is_the_one_cited_or_else_the_one_in_force_when_it_was_recorded(shop: Shop) -> None:
    old = await shop.record(grant())
    uncited = await shop.record(refusal())
    await shop.publish("2.0")
    late = await shop.record(grant(policyVersion="1.0"))
    made = await gathered(shop, old.receipt)
    assert (made.document.version if made.document else None, made.cited, made.in_force) == ("1.0", True, "1.0")
    made = await gathered(shop, uncited.receipt)
    assert (made.document.version if made.document else None, made.cited, made.in_force) == ("1.0", False, "1.0")
    made = await gathered(shop, late.receipt)
    assert (made.document.version if made.document else None, made.cited, made.in_force) == ("1.0", True, "2.0")
    assert made.document_sha256 == shop.published()[0].document_hash.hex()


async def test_choices_for_an_account_stand_in_the_history_of_its_browsers_without_their_ids(shop: Shop) -> None:
    phone, laptop, stranger = new_visitor(), new_visitor(), new_visitor()
    plain = {"action": None, "decisions": None, "policyVersion": None, "occurredAt": None, "sentAt": None}
    for who, account in ((phone, "anna"), (laptop, "anna"), (stranger, "boris")):
        await shop.record(grant(visitor=who, type="account.linked", account=account, **plain), secret=True)
    first = await shop.record(grant(visitor=phone))
    everywhere = await shop.record(
        refusal(visitor=laptop, type="consent.withdrawn", action="withdraw", scope="account"), secret=True
    )
    await shop.record(refusal(visitor=stranger, scope="account"), secret=True)
    made = await gathered(shop, first.receipt)
    assert held(made)[-2:] == [(first.receipt.seq, True, "granted"), (everywhere.receipt.seq, False, "denied")]
    assert not {moment.event.visitor for moment in made.timeline} & {stranger}
    page = record_page.of(made, "en").body.decode()
    assert "in another browser of the account" in page
    assert laptop not in page
    of_account = await gathered(shop, everywhere.receipt)
    assert (everywhere.receipt.seq, True, "denied") in held(of_account)


async def test_what_is_chosen_for_an_account_after_the_link_ended_is_not_this_browsers_affair(shop: Shop) -> None:
    shared, phone = new_visitor(), new_visitor()
    plain = {"action": None, "decisions": None, "policyVersion": None, "occurredAt": None, "sentAt": None}

    async def linked(who: str, account: str, what: str = "account.linked") -> None:
        await shop.record(grant(visitor=who, type=what, account=account, **plain), secret=True)

    async def chosen_on_the_phone() -> int:
        return (await shop.record(refusal(visitor=phone, scope="account"), secret=True)).receipt.seq

    await linked(phone, "anna")
    await linked(shared, "anna")
    while_linked = await chosen_on_the_phone()
    await linked(shared, "boris")  # ends the link to Anna
    after_boris = await chosen_on_the_phone()
    await linked(shared, "boris", "account.unlinked")
    kept = await shop.record(refusal(visitor=shared))
    there = {moment.seq for moment in (await gathered(shop, kept.receipt)).timeline}
    assert while_linked in there
    assert after_boris not in there
    await linked(shared, "anna")
    there = {moment.seq for moment in (await gathered(shop, kept.receipt)).timeline}
    assert after_boris in there, "linked anew, the account's choices count here again"


async def test_a_history_says_at_each_event_what_the_service_answers_of_that_moment(shop: Shop) -> None:
    who, other = new_visitor(), new_visitor()
    plain = {"action": None, "decisions": None, "policyVersion": None, "occurredAt": None, "sentAt": None}
    last = await shop.record(grant(visitor=who))
    await shop.record(grant(visitor=who, type="account.linked", account="anna", **plain), secret=True)
    await shop.record(grant(visitor=other, type="account.linked", account="anna", **plain), secret=True)
    await shop.record(refusal(visitor=other, scope="account"), secret=True)
    await shop.record(grant(visitor=who, scope="account", action="settings"), secret=True)
    await shop.publish("2.0")
    await shop.record(refusal(visitor=who, decisions={"*": "denied"}, type="consent.withdrawn", action="withdraw"))
    await shop.record(grant(visitor=who, type="account.unlinked", account="anna", **plain), secret=True)
    await shop.record(grant(visitor=who, policyVersion="2.0", action="settings"))
    made = await gathered(shop, last.receipt)
    assert len(made.timeline) == 7
    reasons = set()
    for moment in made.timeline:
        told = await shop.consent(who, at_ms=moment.recorded_ms, known=moment.seq, region=moment.event.region)
        assert moment.after == told.decisions, moment.seq
        reasons |= {decision.reason for decision in told.decisions.values()}
    assert len(reasons) >= 4, reasons


async def test_a_long_history_is_told_by_its_newest_events(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "RECORD_TIMELINE_MAX_EVENTS", 2)
    monkeypatch.setattr(config, "HISTORY_PAGE_MAX_EVENTS", 2)
    who = new_visitor()
    receipts = [(await shop.record(grant(visitor=who))).receipt for _ in range(5)]
    made = await gathered(shop, receipts[0])
    assert [moment.seq for moment in made.timeline] == [receipt.seq for receipt in receipts[-2:]]
    assert made.left_out == 3


async def test_what_was_erased_is_in_no_history(shop: Shop) -> None:
    who = new_visitor()
    gone = await shop.record(grant(visitor=who))
    kept = await shop.record(refusal(visitor=who))
    await shop.erase([gone.receipt.seq])
    made = await gathered(shop, kept.receipt)
    assert [moment.seq for moment in made.timeline] == [kept.receipt.seq]
    assert decode_base64(gone.receipt.payload).decode() not in record_page.of(made, "en").body.decode()
