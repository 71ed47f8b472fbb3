"""What becomes of an event: recorded, replayed, refused with its denials kept, or refused whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ledger import config
from ledger.app import open_service
from ledger.config import Settings
from ledger.core.encoding import encode_time
from ledger.core.errors import Erased, IdConflict, InputRefused, NotFound
from ledger.core.event import Event
from ledger.service import GrantsRefused
from ledger.site import Site
from tests.e2e.conftest import Shop
from tests.harness import document, grant, new_visitor, now_ms, refusal

DAY_MS = 24 * 3600 * 1000


async def stored(shop: Shop, visitor: str) -> list[Event]:
    return [recorded.event for recorded in await shop.events(visitor)]


async def refusal_of(shop: Shop, event: dict[str, Any], *, secret: bool = False) -> InputRefused:
    """Why the event is refused, after seeing that the log did not grow."""
    before = await shop.size()
    with pytest.raises(InputRefused) as refused:
        await shop.record(event, secret=secret)
    assert await shop.size() == before
    return refused.value


# --- retries ----------------------------------------------------------------------------------------------------------


async def test_a_retry_gets_its_receipt_though_the_event_would_be_refused_by_now(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = grant()
    first = await shop.record(event)
    monkeypatch.setattr(config, "GRANT_MAX_AGE_SECONDS", -1)
    retried = await shop.record(event)
    assert (retried.receipt, retried.replayed) == (first.receipt, True)
    with pytest.raises(IdConflict):
        await shop.record({**event, "language": "ru"})
    assert (await refusal_of(shop, grant(decisions={"analytics": "granted"}))).kind == "grant-too-old"


async def test_a_retry_gets_its_receipt_though_its_policy_has_changed(shop: Shop) -> None:
    given, denied = grant(), refusal(policyVersion="2.0", visitor=new_visitor())
    first = [await shop.record(event) for event in (given, denied)]
    await shop.publish("2.0")
    again = [await shop.record(event) for event in (given, denied)]
    assert [each.receipt for each in again] == [each.receipt for each in first]
    assert all(each.replayed for each in again)
    assert (await stored(shop, denied["visitor"]))[0].cited_policy_version == "2.0"


async def test_fifty_retries_at_once_give_one_entry_and_fifty_equal_receipts(shop: Shop) -> None:
    event = grant()
    before = await shop.size()
    recordings = await asyncio.gather(*(shop.record({**event, "sentAt": encode_time(now_ms() + n)}) for n in range(50)))
    assert all(recording.receipt == recordings[0].receipt for recording in recordings)
    assert [recording.replayed for recording in recordings].count(False) == 1
    assert await shop.size() == before + 1


@pytest.mark.parametrize(
    "change",
    [
        {"visitor": "v" * 22},
        {"decisions": {"analytics": "granted"}},
        {"decisions": {"analytics": "granted", "marketing": "granted"}},
        {"action": "accept_all"},
        {"language": "kk"},
        {"gpc": True},
        {"occurredAt": encode_time(now_ms() - 5_000)},
        {"component": "dismiss"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_the_same_id_with_other_content_is_a_conflict(shop: Shop, change: dict[str, Any]) -> None:
    event = grant()
    first = await shop.record(event)
    before = await shop.size()
    with pytest.raises(IdConflict):
        await shop.record({**event, **change})
    assert await shop.size() == before
    assert (await shop.record(event)).receipt == first.receipt


async def test_an_erased_event_is_gone_for_retries_and_receipts(shop: Shop) -> None:
    event = grant()
    receipt = (await shop.record(event)).receipt
    await shop.erase([receipt.seq])
    before = await shop.size()
    for retry in (event, {**event, "language": "ru"}):
        with pytest.raises(Erased):
            await shop.record(retry)
    with pytest.raises(Erased):
        await shop.service.receipt(shop.site, event["id"])
    with pytest.raises(NotFound):
        await shop.service.receipt(shop.site, refusal()["id"])
    assert await shop.size() == before


# --- grants -----------------------------------------------------------------------------------------------------------


def ago(**how_long: float) -> str:
    seconds = how_long.get("days", 0) * 86_400 + how_long.get("seconds", 0)
    return encode_time(now_ms() - int(seconds * 1000))


GRANTS_REFUSED = {
    "no version": ({"policyVersion": None}, "policy-version-missing", "/policyVersion"),
    "a version never published": ({"policyVersion": "7"}, "unknown-policy-version", "/policyVersion"),
    "a purpose of no version": ({"decisions": {"x/y": "granted"}}, "invalid-event", "/decisions"),
    "an unknown purpose": ({"decisions": {"video": "granted"}}, "unknown-purpose", "/decisions/video"),
    "one unknown among known": (
        {"decisions": {"analytics": "granted", "video": "granted"}},
        "unknown-purpose",
        "/decisions/video",
    ),
    "2001": ({"occurredAt": "2001-01-01T00:00:00Z", "sentAt": None}, "grant-too-old", "/occurredAt"),
    "2001, sent now": ({"occurredAt": "2001-01-01T00:00:00Z"}, "grant-too-old", "/occurredAt"),
    "9999": ({"occurredAt": "9999-12-31T23:59:59Z", "sentAt": None}, "grant-in-the-future", "/occurredAt"),
    "9999, sent now": ({"occurredAt": "9999-12-31T23:59:59Z"}, "grant-in-the-future", "/occurredAt"),
    "six hours ahead": ({"occurredAt": ago(seconds=-6 * 3600), "sentAt": None}, "grant-in-the-future", "/occurredAt"),
    "eight days old": ({"occurredAt": ago(days=8), "sentAt": None}, "grant-too-old", "/occurredAt"),
    "a document never published": ({"shown": "0" * 64}, "unknown-document", "/shown"),
}


@pytest.mark.parametrize(("change", "kind", "pointer"), GRANTS_REFUSED.values(), ids=list(GRANTS_REFUSED))
async def test_a_grant_has_to_be_right(shop: Shop, change: dict[str, Any], kind: str, pointer: str) -> None:
    refused = await refusal_of(shop, grant(**{"decisions": {"analytics": "granted"}, **change}))
    assert (refused.kind, refused.pointer) == (kind, pointer)
    assert str(refused)


async def test_a_grant_by_a_wrong_clock_that_knows_its_own_age_is_taken(shop: Shop) -> None:
    """Both times come from one clock, which may be off by years."""
    for year in ("2001", "2199"):
        await shop.record(grant(occurredAt=f"{year}-01-01T00:00:00Z", sentAt=f"{year}-01-03T00:00:00Z"))
    assert (await refusal_of(shop, grant(
        decisions={"analytics": "granted"}, occurredAt="2001-01-01T00:00:00Z", sentAt="2001-01-09T00:00:00Z"
    ))).kind == "grant-too-old"  # fmt: skip


async def test_a_grant_may_not_cite_a_version_before_it_is_in_force(shop: Shop) -> None:
    await shop.publish("2.0", effective="2199-01-01")
    assert (await refusal_of(shop, grant(policyVersion="2.0", decisions={"analytics": "granted"}))).kind == (
        "policy-not-in-force"
    )
    await shop.record(refusal(policyVersion="2.0"))


async def test_the_denials_of_a_refused_event_are_kept_and_every_retry_tells_the_same_of_them(shop: Shop) -> None:
    event = grant(decisions={"video": "granted", "marketing": "denied", "*": "denied"}, action="settings")
    receipts = []
    for _ in range(3):
        with pytest.raises(GrantsRefused) as refused:
            await shop.record({**event, "sentAt": encode_time(now_ms())})
        assert refused.value.kind == "unknown-purpose"
        receipts.append(refused.value.recorded)
    assert receipts[0] is not None
    assert receipts == [receipts[0]] * 3
    kept = await stored(shop, event["visitor"])
    assert [(each.type, each.decisions) for each in kept] == [
        ("consent.refused", {"marketing": "denied", "*": "denied"})
    ]
    assert kept[0].id == receipts[0].id != event["id"]
    assert (await shop.service.receipt(shop.site, receipts[0].id)) == receipts[0]
    with pytest.raises(NotFound):
        await shop.service.receipt(shop.site, event["id"])
    answers = await shop.consent(event["visitor"])
    assert {answer.reason for purpose, answer in answers.decisions.items() if purpose != "necessary"} == {"refused"}


async def test_an_event_that_was_refused_is_recorded_once_its_version_is_published(shop: Shop) -> None:
    event = grant(policyVersion="2.0")
    with pytest.raises(GrantsRefused):
        await shop.record(event)
    await shop.publish("2.0")
    recording = await shop.record(event)
    assert (recording.receipt.id, recording.replayed) == (event["id"], False)
    assert (await shop.consent(event["visitor"])).decisions["analytics"].decision == "granted"


# --- denials ----------------------------------------------------------------------------------------------------------

ODD = {
    "an unknown version": {"policyVersion": "never published"},
    "a version of odd characters": {"policyVersion": "\u0000 \u202e💥 ' ; --"},
    "an unknown purpose": {"decisions": {"video": "denied", "analytics": "denied"}},
    "2001": {"occurredAt": "2001-01-01T00:00:00Z"},
    "2001 on both clocks": {"occurredAt": "2001-01-01T00:00:00Z", "sentAt": "2001-01-01T00:00:00Z"},
    "occurred in 2001, sent in 9999": {"occurredAt": "2001-01-01T00:00:00Z", "sentAt": "9999-12-31T23:59:59Z"},
    "9999": {"occurredAt": "9999-12-31T23:59:59.999999999-23:59"},
    "year 1": {"occurredAt": "0001-01-01T00:00:00+23:59", "sentAt": "0001-01-01T00:00:00+00:00"},
    "sent before it occurred": {"occurredAt": "9999-01-01T00:00:00Z", "sentAt": "2001-01-01T00:00:00Z"},
    "a document never published": {"shown": "f" * 64},
    "everything": {"decisions": {"*": "denied"}},
    "a GPC signal": {"action": "gpc", "gpc": True},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("kind", ["consent.refused", "consent.withdrawn"])
async def test_a_denial_is_never_refused_and_beats_the_grant_before_it(
    shop: Shop, odd: dict[str, Any], kind: str
) -> None:
    given = grant(decisions={"analytics": "granted"})
    await shop.record(given)
    event = refusal(type=kind, visitor=given["visitor"], **odd)
    recording = await shop.record(event)
    assert not recording.replayed
    assert (await shop.record(event)).receipt == recording.receipt
    answer = (await shop.consent(given["visitor"])).decisions["analytics"]
    assert (answer.decision, answer.reason) == ("denied", "withdrawn")
    after = await shop.record(grant(visitor=given["visitor"]))
    assert (await shop.consent(given["visitor"])).decisions["analytics"].seq == after.receipt.seq


@pytest.mark.parametrize("clock_off_days", [0, -9_000, 60_000])
async def test_a_grant_retried_for_days_never_beats_a_withdrawal_made_after_it(shop: Shop, clock_off_days: int) -> None:
    """Its first try got lost, and the browser came online again long after the withdrawal was recorded elsewhere."""

    def on_its_clock(ms: int) -> str:
        return encode_time(ms + clock_off_days * DAY_MS)

    granted_ms = now_ms() - 3 * DAY_MS
    withdrawn = on_its_clock(granted_ms + 1_000)
    withdrawal = refusal(type="consent.withdrawn", action="withdraw", occurredAt=withdrawn, sentAt=withdrawn)
    late = grant(visitor=withdrawal["visitor"], occurredAt=on_its_clock(granted_ms), sentAt=on_its_clock(now_ms()))
    await shop.record(withdrawal)
    await shop.record(late)
    answer = (await shop.consent(late["visitor"])).decisions["analytics"]
    assert (answer.decision, answer.reason) == ("denied", "withdrawn")


async def test_a_denial_cites_what_it_cited(shop: Shop) -> None:
    visitor = new_visitor()
    await shop.record(refusal(visitor=visitor, policyVersion="1.0"))
    await shop.record(refusal(visitor=visitor, policyVersion="9.9", shown="f" * 64))
    known, unknown = await stored(shop, visitor)
    assert (known.policy_version, known.cited_policy_version) == ("1.0", None)
    assert (unknown.policy_version, unknown.cited_policy_version) == (None, "9.9")
    assert (unknown.shown, unknown.cited_shown) == (None, "f" * 64)


async def test_the_star_covers_every_optional_purpose_but_those_named_beside_it(shop: Shop) -> None:
    event = grant(decisions={"*": "denied", "analytics": "granted"})
    await shop.record(event)
    answers = (await shop.consent(event["visitor"], purposes=["analytics", "marketing", "necessary"])).decisions
    assert [(name, each.decision, each.reason) for name, each in answers.items()] == [
        ("analytics", "granted", "granted"),
        ("marketing", "denied", "refused"),
        ("necessary", "granted", "not_required"),
    ]
    assert (await refusal_of(shop, grant(decisions={"*": "granted"}))).pointer == "/decisions/*"


# --- who may say what -------------------------------------------------------------------------------------------------


async def test_an_import_needs_a_secret_key_and_may_be_old(shop: Shop) -> None:
    old = {"action": "import", "occurredAt": ago(days=400), "sentAt": ago(days=0)}
    for event in (grant(**old), refusal(**old)):
        assert (await refusal_of(shop, event)).kind == "secret-key-needed"
        await shop.record(event, secret=True)
    future = grant(action="import", occurredAt="2199-01-01T00:00:00Z", decisions={"analytics": "granted"})
    assert (await refusal_of(shop, future, secret=True)).kind == "grant-in-the-future"


async def test_a_region_is_stored_from_secret_keys_alone(shop: Shop) -> None:
    event = refusal(region="KZ")
    receipt = (await shop.record(event)).receipt
    assert (await shop.record(event)).receipt == receipt
    trusted = refusal(region="KZ")
    await shop.record(trusted, secret=True)
    assert [(await stored(shop, each["visitor"]))[0].region for each in (event, trusted)] == [None, "KZ"]


async def test_a_version_that_another_process_published_is_usable_at_once(shop: Shop, settings: Settings) -> None:
    async with open_service(settings) as other:
        site = await other.site(shop.site.site)
        for version in ("2.0", "3.0", "4.0"):
            await other.publish(site, document(site.site, version))
            event = grant(policyVersion=version)
            await shop.record(event)
            answer = await shop.consent(event["visitor"])
            assert answer.policy_version == version
            assert answer.decisions["analytics"].policy_version == version


async def test_a_flood_of_unknown_versions_costs_the_database_few_questions(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    refresh = shop.service.sites.refresh_policies

    async def counted(site: Site) -> None:
        nonlocal asked
        asked += 1
        await refresh(site)

    monkeypatch.setattr(shop.service.sites, "refresh_policies", counted)
    await asyncio.gather(*(shop.record(refusal(policyVersion=f"none-{n}")) for n in range(300)))
    assert asked == 1


async def test_whoever_asks_for_the_versions_has_none_read_again(shop: Shop, settings: Settings) -> None:
    await shop.service.publish(shop.site, document(shop.site.site, "2.0"))
    known = shop.site.policies
    for _ in range(2):
        assert len((await shop.service.publishing.versions(shop.site, None, 10)).policies) == len(known)
        await shop.service.publishing.difference(shop.site, None, None)
        assert shop.site.policies is known
    async with open_service(settings) as other:
        await other.publish(await other.site(shop.site.site), document(shop.site.site, "3.0"))
    assert len((await shop.service.publishing.versions(shop.site, None, 10)).policies) == len(known) + 1
    assert shop.site.policies.diff_at(1) is known.diff_at(1)


async def test_a_version_is_published_once_by_however_many_at_once(shop: Shop, settings: Settings) -> None:
    async with open_service(settings) as other:
        site = await other.site(shop.site.site)
        before = await shop.size()
        same = await asyncio.gather(
            *(shop.service.publish(shop.site, document(site.site, "2.0")) for _ in range(5)),
            *(other.publish(site, document(site.site, "2.0")) for _ in range(5)),
        )
        assert all(each == same[0] for each in same)
        assert await shop.size() == before + 1
        contested = await asyncio.gather(
            shop.service.publish(shop.site, document(site.site, "3.0")),
            other.publish(site, document(site.site, "3.0", effective="2026-02-02")),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in contested) == ["PolicyPublished", "VersionTaken"]
        assert await shop.size() == before + 2
