"""Forgetting a person: nothing is left behind, nothing comes back, and no "no" becomes a "yes"."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest
from click.testing import CliRunner

from ledger import config
from ledger.admin_log import Wanted, acts
from ledger.administration import Who
from ledger.cli import main
from ledger.config import Settings
from ledger.core.encoding import encode_time
from ledger.core.entry import Kind, decode, decode_seqs
from ledger.core.errors import Erased, InputRefused, NotFound
from ledger.core.event import ErasureRecord, decode_payload, parse_input
from ledger.erasing.eraser import Eraser
from ledger.erasing.messages import ErasureInput, ErasureLift, ErasureStatus
from ledger.messages import CheckInput
from ledger.recording import draft_of
from ledger.store.append import Condition, Head, Outcome, append_lapses
from tests.conftest import Database
from tests.e2e.conftest import Shop
from tests.harness import check_log, document, grant, new_visitor, now_ms, refusal

COUNSEL = Who("counsel", "controller")


async def order(shop: Shop, visitor: str | None = None, **members: Any) -> ErasureStatus:
    request = ErasureInput(**{"reason": "subject_request", "instruction": "DSR-7", "visitor": visitor, **members})
    return await shop.service.erasures.order(shop.site, request, COUNSEL)


async def carry_out(shop: Shop, settings: Settings) -> Eraser:
    eraser = Eraser(settings, shop.pool)
    await eraser.carry_out(shop.service.sites, shop.site)
    return eraser


async def opt_out(shop: Shop) -> None:
    """A version under which silence grants, and terms are accepted whose acceptance is kept for five years."""
    text = document(shop.site.site, "2.0").decode().replace("default: opt-in", "default: opt-out")
    members = f"kind: acceptance, document: {await terms(shop)}, retention: P5Y"
    text += f"  terms: {{{members}, title: {{en: Terms}}, description: {{en: Terms}}}}\n"
    await shop.service.publish(shop.site, text.encode())


async def terms(shop: Shop) -> str:
    return (await shop.service.publishing.upload("text/plain", b"Terms of use"))[0].document


async def checked(shop: Shop, *visitors: str, purpose: str = "analytics") -> list[tuple[str, str]]:
    asked = CheckInput(visitors=list(visitors), purposes=[purpose])
    results = (await shop.service.check(shop.site, asked)).results
    return [(results[visitor][purpose].decision, results[visitor][purpose].reason) for visitor in visitors]


async def refused(shop: Shop, event: dict[str, Any], *, secret: bool = False) -> str:
    with pytest.raises(InputRefused) as error:
        await shop.record(event, secret=secret)
    return error.value.kind


async def left(shop: Shop, visitor: str) -> list[int]:
    """The living events of a visitor, wherever they lie."""
    return [one.seq for one in await shop.events() if one.event.visitor == visitor]


@pytest.fixture
async def owner(database: Database) -> Any:
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute("set role ledger_owner")
    yield connection
    await connection.close()


async def test_who_refused_under_opt_out_is_denied_after_erasure_and_a_new_id_is_asked_anew(
    shop: Shop, settings: Settings, owner: asyncpg.Connection
) -> None:
    await opt_out(shop)
    visitor = new_visitor()
    first = refusal(visitor=visitor)
    receipt = (await shop.record(first)).receipt
    assert await checked(shop, visitor, new_visitor()) == [("denied", "refused"), ("granted", "opt_out_default")]

    ordered = await order(shop, visitor, id="01980000-0000-7000-8000-00000000000a")
    assert (ordered.state, ordered.events, ordered.blocked_until) == ("pending", 0, None)
    assert await order(shop, visitor, id=ordered.id) == ordered
    assert await refused(shop, refusal(visitor=visitor)) == await refused(shop, first) == "visitor-erased"
    for question in (shop.consent(visitor), shop.service.history(shop.site, visitor, None, 10)):
        with pytest.raises(InputRefused, match="forgotten"):
            await question
    with pytest.raises(InputRefused, match="forgotten"):
        await shop.service.receipt(shop.site, receipt.id)
    assert await checked(shop, visitor) == [("denied", "erasure_pending")]

    await carry_out(shop, settings)
    assert await left(shop, visitor) == []
    done = await shop.service.erasures.status(shop.site, ordered.id)
    assert (done.state, done.events, [entry.events for entry in done.entries]) == ("erased", 1, [1])
    assert {mark.purpose for mark in done.marks} == {"analytics", "marketing"}
    with pytest.raises(InputRefused, match="forgotten"):
        await shop.service.history(shop.site, visitor, None, 10)
    after = await shop.consent(visitor)
    assert after.erased
    assert (after.decisions["analytics"].decision, after.decisions["analytics"].reason) == ("denied", "suppressed")
    assert await refused(shop, first) == await refused(shop, grant(visitor=visitor)) == "visitor-erased"
    with pytest.raises(Erased):
        await shop.service.receipt(shop.site, receipt.id)

    # Retention meets another "no" of the same purpose: it stays the order's mark.
    subject = shop.site.hasher.visitor(visitor)
    marked = ([subject], ["analytics"], [done_ms := now_ms()], [done_ms + 1], [2], [None])
    put = "select ledger.put_after_erasure($1, $2, null, $3, $4, $5, $6, $7, $8, {}, 0)"
    await owner.execute(put.format(", ".join(["'{}'"] * 13)), shop.site.site_id, done_ms, *marked)
    assert len((await shop.service.erasures.status(shop.site, ordered.id)).marks) == 2

    # The window is over: the id is as any other, and the no still stands.
    await owner.execute("update ledger.block set until_ms = 1; update ledger.fading set until_ms = 1")
    await Eraser(settings, shop.pool).sweep(shop.service.sites)
    assert (await order(shop, visitor, id=ordered.id)).state == "erased", "it is known by what is left of it"
    with pytest.raises(InputRefused) as taken:
        await order(shop, new_visitor(), id=ordered.id)
    assert taken.value.kind == "id-conflict"
    again = await shop.consent(visitor)
    assert (again.erased, again.decisions["analytics"].reason) == (False, "suppressed")
    assert again.decisions["analytics"].valid_until == done.marks[0].until
    assert await checked(shop, visitor, new_visitor()) == [("denied", "suppressed"), ("granted", "opt_out_default")]
    assert await shop.pool.fetchval("select count(*) from ledger.known k join ledger.erased using (site_id, seq)") == 0
    await shop.record(grant(visitor=visitor, policyVersion="2.0"))
    assert await checked(shop, visitor) == [("granted", "granted")]


async def test_another_order_under_the_id_of_one_is_refused_and_the_same_is_that_one(shop: Shop) -> None:
    first = ErasureInput(
        "subject_request", "DSR-7", new_visitor(), level="hold", hold_for="P1Y",
        evidence="ab" * 32, id="01980000-0000-7000-8000-00000000000d",
    )  # fmt: skip
    told = await shop.service.erasures.order(shop.site, first, COUNSEL)
    others: list[dict[str, Any]] = [
        {"visitor": new_visitor()}, {"visitor": None, "account": "family"}, {"level": "erase", "hold_for": None},
        {"hold_for": "P2Y"}, {"reason": "legal_order"}, {"instruction": "DSR-8"}, {"evidence": "cd" * 32},
    ]  # fmt: skip
    for changed in others:
        with pytest.raises(InputRefused, match="under a new id") as refused:
            await shop.service.erasures.order(shop.site, msgspec.structs.replace(first, **changed), COUNSEL)
        assert refused.value.kind == "id-conflict", changed
    with pytest.raises(InputRefused, match="flag"):
        await shop.service.erasures.order(shop.site, first, COUNSEL._replace(flagged="unclear"))
    assert await shop.service.erasures.order(shop.site, first, Who("somebody else", "operator")) == told
    assert await shop.pool.fetchval("select count(*) from ledger.block") == 1, "the others blocked nobody"


async def test_a_visitor_who_is_written_to_at_the_same_moment_leaves_nothing_behind(
    shop: Shop, settings: Settings
) -> None:
    visitors = [new_visitor() for _ in range(3)]
    for visitor in visitors:
        await shop.record({"type": "account.linked", "visitor": visitor, "account": "family"}, secret=True)
    erased = visitors[0]
    stop = False
    told: set[str] = set()

    async def write(n: int) -> None:
        kinds: list[dict[str, Any]] = [
            grant(visitor=erased),
            refusal(visitor=erased, scope="account"),
            {"type": "account.linked", "visitor": erased, "account": "family"},
            refusal(visitor=visitors[1], scope="account"),
        ]
        while not stop:
            for kind in kinds:
                try:
                    await shop.record({name: value for name, value in kind.items() if name != "id"}, secret=True)
                except InputRefused as error:
                    told.add(error.kind)

    writers = [asyncio.create_task(write(n)) for n in range(4)]
    await asyncio.sleep(0.2)
    ordered = await order(shop, erased)
    await carry_out(shop, settings)
    await asyncio.sleep(0.2)
    stop = True
    await asyncio.gather(*writers)
    assert "visitor-erased" in told <= {"visitor-erased", "not-linked"}
    assert await left(shop, erased) == []
    assert len(await left(shop, visitors[1])) > 1
    subject = shop.site.hasher.visitor(erased)
    assert await shop.pool.fetchval("select count(*) from ledger.state where visitor = $1", subject) == 0
    assert (await shop.service.erasures.status(shop.site, ordered.id)).state == "erased"
    await check_log(settings, shop.credentials)


async def test_nothing_is_told_of_a_lapse_of_somebody_who_is_forgotten(shop: Shop) -> None:
    visitor = new_visitor()
    given = (await shop.record(grant(visitor=visitor))).receipt
    (event,) = [one.event for one in await shop.events(visitor)]
    lapse = msgspec.structs.replace(
        event, id="01980000-0000-8000-8000-00000000000b", type="consent.expired", decisions={}, action=None,
        authentication="ledger", lapsed={"analytics": given.seq}, sent_at=None,
    )  # fmt: skip
    assert shop.site.sequencer is not None
    await order(shop, visitor)
    draft = draft_of(shop.site, shop.site.sequencer, lapse, shop.site.hasher.visitor(visitor))
    async with shop.pool.acquire() as connection:
        (told,), _ = await append_lapses(
            *(connection, shop.site.site_id, now_ms(), Head(0, b""), draft.signer, [draft], 10),
            [Condition(await shop.size(), (given.seq,))],
        )
    assert told.outcome == Outcome.FORGOTTEN


async def test_erasing_one_browsers_denial_brings_no_other_browsers_grant_to_life(
    shop: Shop, settings: Settings
) -> None:
    mine, other = new_visitor(), new_visitor()
    for visitor in (mine, other):
        await shop.record({"type": "account.linked", "visitor": visitor, "account": "family"}, secret=True)
    await shop.record(grant(visitor=other, scope="account", decisions={"analytics": "granted"}))
    assert await checked(shop, other) == [("granted", "granted")]
    await shop.record(refusal(visitor=mine, scope="account"))
    assert await checked(shop, other) == [("denied", "withdrawn")]
    await order(shop, mine)
    await carry_out(shop, settings)
    assert (await left(shop, mine), len(await left(shop, other))) == ([], 2)
    assert await checked(shop, other) == [("denied", "suppressed")]
    explained = await shop.consent(other, explain=True)
    assert any("suppression mark" in line for line in explained.decisions["analytics"].explanation)

    # Then the account itself: the links to it go too, and the browser's own choices stay.
    await shop.record(grant(visitor=other, decisions={"marketing": "granted"}))
    status = await order(shop, account="family")
    await carry_out(shop, settings)
    assert (await shop.service.erasures.status(shop.site, status.id)).events == 2
    assert len(await left(shop, other)) == 1
    assert not (await shop.consent(other)).linked
    assert await checked(shop, other, purpose="marketing") == [("granted", "granted")]
    link = {"type": "account.linked", "visitor": other, "account": "family"}
    assert await refused(shop, link, secret=True) == "visitor-erased"


async def test_a_denial_outlives_the_erasure_of_who_made_it_and_then_of_the_account_it_held_for(
    shop: Shop, settings: Settings
) -> None:
    await opt_out(shop)
    author, other, late = new_visitor(), new_visitor(), new_visitor()
    await shop.record(grant(visitor=other, policyVersion="2.0"))
    for visitor in (author, other, late):
        await shop.record({"type": "account.linked", "visitor": visitor, "account": "family"}, secret=True)
    await shop.record(refusal(visitor=author, scope="account", account="family"), secret=True)
    for ordered in ({"visitor": author}, {"visitor": late}, {"account": "family"}):
        await order(shop, **ordered)
        await carry_out(shop, settings)
        assert await checked(shop, other) == [("denied", "suppressed")]
    marked = "select count(*) from ledger.mark where subject = $1 and purpose = 'analytics'"
    assert await shop.pool.fetchval(marked, shop.site.hasher.visitor(late)) == 1  # who comes back later is still denied


async def test_a_retry_gets_no_receipt_of_a_choice_for_an_account_that_is_about_to_be_erased(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = new_visitor()
    await shop.record({"type": "account.linked", "visitor": visitor, "account": "family"}, secret=True)
    made = {"scope": "account", "occurredAt": encode_time(now_ms() - 60_000)}
    event = grant(visitor=visitor, **made)
    receipt = (await shop.record(event, secret=True)).receipt
    monkeypatch.setattr(config, "GRANT_MAX_AGE_SECONDS", 1)  # a retry that would be refused, were it not known
    assert (await shop.record(event, secret=True)).receipt == receipt
    await order(shop, account="family")
    assert await refused(shop, event, secret=True) == "visitor-erased"


async def test_two_whose_denials_held_for_one_account_are_erased_together(shop: Shop, settings: Settings) -> None:
    visitors = [new_visitor() for _ in range(2)]
    for visitor in visitors:
        await shop.record({"type": "account.linked", "visitor": visitor, "account": "family"}, secret=True)
        await shop.record(refusal(visitor=visitor, scope="account"))
    ordered = [await order(shop, visitor) for visitor in visitors]
    await carry_out(shop, settings)
    assert [(await shop.service.erasures.status(shop.site, one.id)).state for one in ordered] == ["erased"] * 2


async def linked(shop: Shop, account: str) -> str:
    """A browser that chose for itself, and is linked to the account."""
    visitor = new_visitor()
    await shop.record(grant(visitor=visitor))
    await shop.record({"type": "account.linked", "visitor": visitor, "account": account}, secret=True)
    return visitor


async def test_the_erasure_of_an_account_tells_how_many_browsers_it_leaves_or_covers_them(
    shop: Shop, settings: Settings
) -> None:
    stays, goes, wary = [await linked(shop, account) for account in ("left", "family", "family")]
    await order(shop, wary, level="restrict")
    alone = await order(shop, account="left")
    wide = await order(shop, account="family", with_browsers=True, id="01980000-0000-7000-8000-00000000000a")
    assert (alone.browsers, alone.browsers_left, len(wide.browsers), wide.browsers_left) == ([], 1, 1, 1)
    assert await order(shop, account="family", with_browsers=True, id=wide.id) == wide
    with pytest.raises(InputRefused) as error:
        await order(shop, account="family", id=wide.id)
    assert error.value.kind == "id-conflict"
    await carry_out(shop, settings)
    assert [len(await left(shop, visitor)) for visitor in (stays, goes, wary)] == [1, 0, 2], "what is restricted stays"
    browser = await shop.service.erasures.status(shop.site, wide.browsers[0])
    assert (browser.state, browser.events, browser.reason) == ("erased", 2, wide.reason)
    assert (await shop.service.erasures.status(shop.site, alone.id)).browsers_left == 1


async def test_an_order_that_is_refused_leaves_no_act_and_one_that_finds_nothing_leaves_that(
    shop: Shop, settings: Settings
) -> None:
    visitor = new_visitor()
    ordered = await order(shop, visitor)
    with pytest.raises(InputRefused, match="nothing that could be restricted"):
        await order(shop, visitor, level="restrict")
    await carry_out(shop, settings)
    log = await shop.service.sites.admin_log(shop.site.site)
    told = [each.act async for each in acts(shop.pool, log, Wanted(act="erasure")) if each.act is not None]
    assert [act.act for act in told] == ["erasure.ordered", "erasure.executed"]
    assert (told[1].details["erasures"], told[1].details["count"]) == (ordered.id, "0")


async def test_a_restriction_keeps_everything_and_uses_nothing_until_it_is_lifted(
    shop: Shop, settings: Settings
) -> None:
    visitor = new_visitor()
    await shop.record(grant(visitor=visitor))
    status = await order(shop, visitor, level="restrict")
    assert (status.state, await checked(shop, visitor)) == ("restricted", [("denied", "restricted")])
    with pytest.raises(InputRefused, match="restricted") as error:
        await shop.consent(visitor, asked_by="frontend")
    assert error.value.kind == "visitor-restricted"
    assert (await shop.consent(visitor)).decisions["analytics"].reason == "restricted"
    await shop.record(refusal(visitor=visitor, decisions={"marketing": "denied"}))
    await carry_out(shop, settings)
    assert len(await left(shop, visitor)) == 2
    lifted = await shop.service.erasures.lift(shop.site, status.id, ErasureLift("DSR-8"), COUNSEL)
    assert (lifted.state, await checked(shop, visitor)) == ("lifted", [("granted", "granted")])
    assert await shop.service.erasures.lift(shop.site, status.id, ErasureLift("DSR-8"), COUNSEL) == lifted
    with pytest.raises(InputRefused, match="another instruction"):
        await shop.service.erasures.lift(shop.site, status.id, ErasureLift("DSR-9"), COUNSEL)
    with pytest.raises(NotFound):
        await shop.service.erasures.lift(shop.site, "01980000-0000-7000-8000-00000000000c", ErasureLift("no"), COUNSEL)


async def test_what_a_restricted_visitor_did_for_an_account_outlives_its_erasure_until_that_is_lifted(
    shop: Shop, settings: Settings
) -> None:
    wary, other = new_visitor(), new_visitor()
    for visitor in (wary, other):
        await shop.record({"type": "account.linked", "visitor": visitor, "account": "family"}, secret=True)
        await shop.record(grant(visitor=visitor, scope="account"))
    restriction = await order(shop, wary, level="restrict")
    ordered = await order(shop, account="family")
    for _ in range(2):
        eraser = await carry_out(shop, settings)
    assert (len(await left(shop, wary)), await left(shop, other)) == (2, [])
    assert eraser.entries == {}, "it waits, and is not gathered over and over"
    waits = await shop.service.erasures.status(shop.site, ordered.id)
    assert (waits.state, waits.restricted) == ("pending", 1)
    await shop.service.erasures.lift(shop.site, restriction.id, ErasureLift("DSR-8"), COUNSEL)
    await carry_out(shop, settings)
    assert await left(shop, wary) == []
    told = await shop.service.erasures.status(shop.site, ordered.id)
    assert (told.state, [entry.events for entry in told.entries]) == ("erased", [2, 2])


async def test_proof_is_held_under_a_key_of_its_own_that_goes_with_it(
    shop: Shop, settings: Settings, owner: asyncpg.Connection
) -> None:
    visitor = new_visitor()
    receipt = (await shop.record(grant(visitor=visitor))).receipt
    await order(shop, visitor)  # whichever was sent first: what is gone could not be held
    status = await order(shop, visitor, level="hold", hold_for="P1Y", reason="legal_order")
    await carry_out(shop, settings)
    await shop.service.sites.vaults.refresh()
    told = await shop.service.erasures.status(shop.site, status.id)
    assert (told.events, told.held, await left(shop, visitor)) == (1, 1, [])
    (opened,) = await shop.service.erasures.open_held(shop.site, status.id, "court-order-3", COUNSEL)
    assert (opened.seq, opened.salt, opened.payload) == (receipt.seq, receipt.salt, receipt.payload)
    other = await shop.service.erasures.status(shop.site, (await order(shop, visitor)).id)
    assert (other.held, other.held_until) == (1, told.held_until), "told of the person, whichever order left it"
    await owner.execute("update ledger.held set until_ms = 1")
    await Eraser(settings, shop.pool).sweep(shop.service.sites)
    assert await shop.pool.fetchval("select wrapped from ledger.data_key where role = 'hold'") is None
    with pytest.raises(NotFound):
        await shop.service.erasures.open_held(shop.site, status.id, "court-order-4", COUNSEL)


async def test_an_order_waits_while_proof_of_the_same_person_could_not_be_held_yet(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = new_visitor()
    await shop.record(grant(visitor=visitor))
    ordered = [await order(shop, visitor), await order(shop, visitor, level="hold")]
    erased: list[list[str]] = []

    async def overtaken(eraser: Eraser, *arguments: Any) -> bool:
        erased.append([job.level for job in arguments[-1]])
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Eraser, "_erase", overtaken)
        await carry_out(shop, settings)
    assert erased == [["hold"]] * config.ERASURE_ATTEMPTS
    await carry_out(shop, settings)
    assert [(await shop.service.erasures.status(shop.site, one.id)).held for one in ordered] == [1, 1]


async def test_proof_outlives_a_further_order_until_it_is_let_go(shop: Shop, settings: Settings) -> None:
    """It is held for a claim: an order that says nothing of the claim leaves it, and says so."""
    visitor = new_visitor()
    await opt_out(shop)
    await shop.record(refusal(visitor=visitor, policyVersion="2.0"))
    hold = await order(shop, visitor, level="hold")
    await carry_out(shop, settings)
    ordered = await order(shop, visitor, instruction="claim-is-over")
    await carry_out(shop, settings)
    first, told = [await shop.service.erasures.status(shop.site, one.id) for one in (hold, ordered)]
    assert (ordered.held, told.held, told.held_until) == (1, 1, first.held_until)
    assert (told.state, told.events, told.marks) == ("erased", 0, first.marks)
    assert told.marks != []
    again = await shop.service.erasures.release_held(shop.site, ordered.id, ErasureLift("claim-is-over"), COUNSEL)
    assert (again.held, (await shop.service.erasures.status(shop.site, hold.id)).held) == (0, 0)
    assert await shop.pool.fetchval("select wrapped from ledger.data_key where role = 'hold'") is None
    with pytest.raises(NotFound):
        await shop.service.erasures.release_held(shop.site, hold.id, ErasureLift("claim-is-over"), COUNSEL)


async def test_whom_an_order_was_about_is_known_as_long_as_something_is_left_of_it(
    shop: Shop, settings: Settings, owner: asyncpg.Connection
) -> None:
    """A certificate that is got when the block has gone tells the proof of another order all the same."""
    visitor = new_visitor()
    await shop.record(grant(visitor=visitor))
    for level in ("hold", "erase"):
        status = await order(shop, visitor, level=level)
        await carry_out(shop, settings)
    await owner.execute("update ledger.block set until_ms = 1")
    sweeper = Eraser(settings, shop.pool)
    await sweeper.sweep(shop.service.sites)
    assert (await shop.service.erasures.status(shop.site, status.id)).held == 1
    await owner.execute("update ledger.held set until_ms = 1")
    await sweeper.sweep(shop.service.sites)
    assert (await shop.service.erasures.status(shop.site, status.id)).held == 0
    assert await shop.pool.fetchval("select count(subject) from ledger.erasure") == 0


async def test_an_entry_mixes_people_and_what_law_wants_kept_is_listed(shop: Shop, settings: Settings) -> None:
    await opt_out(shop)
    shown = await terms(shop)
    visitors = [new_visitor() for _ in range(3)]
    for visitor in visitors:
        await shop.record(grant(visitor=visitor, policyVersion="2.0"))
    accepted = grant(visitor=visitors[0], policyVersion="2.0", shown=shown, decisions={"terms": "granted"})
    kept = (await shop.record(accepted)).receipt
    orders = [await order(shop, visitor) for visitor in visitors]
    eraser = await carry_out(shop, settings)
    site = shop.site.site
    assert (eraser.entries[site], eraser.erased[site], eraser.people[site]) == (1, 3, 3)
    statuses = [await shop.service.erasures.status(shop.site, one.id) for one in orders]
    (seq,) = {entry.seq for status in statuses for entry in status.entries}
    assert [(one.seq, one.purposes) for one in statuses[0].kept] == [(kept.seq, ["terms"])]
    assert await left(shop, visitors[0]) == [kept.seq]
    row = await shop.service.reads.receipt_at(shop.site.site_id, seq)
    entry = decode(row.entry)
    assert (entry.kind, len(decode_seqs(entry.public))) == (Kind.ERASURE, 3)
    assert row.sealed is not None
    _, payload = shop.site.vault.open_opening(entry.commit, row.sealed)
    record = decode_payload(payload, ErasureRecord)
    assert record.reason == "subject_request"
    assert record.instruction.startswith(f"{site}.admin-log:")
    await check_log(settings, shop.credentials)


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({}, "invalid-erasure"),
        ({"visitor": "v" * 22, "account": "a"}, "invalid-erasure"),
        ({"visitor": "v" * 22, "hold_for": "P1Y"}, "invalid-erasure"),
        ({"visitor": "v" * 22, "level": "hold", "hold_for": "P11Y"}, "invalid-erasure"),
        ({"visitor": "v" * 22, "with_browsers": True}, "invalid-erasure"),
        ({"account": "a", "level": "restrict", "with_browsers": True}, "invalid-erasure"),
    ],
    ids=["nobody", "two", "nothing to hold", "for too long", "a browser's browsers", "restricted with browsers"],
)
async def test_an_order_that_makes_no_sense_is_refused(shop: Shop, members: dict[str, Any], kind: str) -> None:
    with pytest.raises(InputRefused) as error:
        await order(shop, **members)
    assert error.value.kind == kind
    assert parse_input(msgspec.json.encode(refusal())).type == "consent.refused"


async def test_the_command_orders_tells_lifts_and_reads_no_id_from_its_arguments(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    visitor = new_visitor()
    await shop.record(grant(visitor=visitor))

    async def erase(*arguments: str, given: str = "") -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, main, ["erase", *arguments], given)
        return result.exit_code, result.output

    asked = ("--instruction", "DSR-7", "--as", "counsel")
    assert (await erase("order", shop.site.site, *asked, given="short"))[0] == 2
    code, told = await erase("order", shop.site.site, *asked, "--level", "restrict", "--json", given=visitor)
    assert (code, await checked(shop, visitor)) == (0, [("denied", "restricted")])
    erasure = msgspec.json.decode(told, type=dict[str, Any])["id"]
    again = ("order", shop.site.site, "--level", "restrict", "--id", erasure, "--as", "counsel")
    assert (await erase(*again, "--instruction", "DSR-7", given=visitor))[0] == 0
    code, refused_as = await erase(*again, "--instruction", "DSR-8", given=visitor)
    assert (code, "under a new id" in refused_as) == (2, True)
    assert "like DSR-2026/117" in (await erase(*again, "--instruction", "Mrs A. wants it", given=visitor))[1]
    assert "restricted: everything stays" in (await erase("status", shop.site.site, erasure))[1]
    assert "lifted" in (await erase("lift", shop.site.site, erasure, *asked))[1]
    assert (await erase("lift", shop.site.site, "no-id", *asked))[0] == 2
    assert (await erase("open-held", shop.site.site, erasure, *asked))[0] == 2
    code, told = await erase("order", shop.site.site, *asked, "--level", "hold", given=visitor)
    assert (code, "goes soon" in told, visitor in told) == (0, True, False)
    await carry_out(shop, settings)
    held = await shop.pool.fetchval("select id::text from ledger.erasure where level = 'hold'")
    assert "held as proof until" in (await erase("status", shop.site.site, held))[1]
    code, told = await erase("open-held", shop.site.site, held, *asked)
    assert (code, msgspec.json.decode(told, type=dict[str, Any])["seq"]) == (0, 2)
    code, told = await erase("release-held", shop.site.site, held, *asked)
    assert (code, "nothing is held as proof" in told) == (0, True)
