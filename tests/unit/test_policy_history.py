"""What follows from the order of a site's versions: which of them asks again, and which documents are published."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger.core.decide import EMPTY_STATE, Evaluator, fold
from ledger.core.document import Controller, Notice, PolicyVersion, Purpose, Recipient, SiteDocument
from ledger.core.duration import parse_duration
from ledger.core.event import Event
from ledger.core.policy import PolicyHistory, Published
from tests.devices import stored

YEAR = parse_duration("P12M")
assert YEAR is not None
ANALYTICS = Purpose(title={"en": "Analytics"}, description={"en": "Counting"})
FIRST = SiteDocument(
    site="shop.example",
    controller=Controller(name="Shop"),
    languages=("en",),
    origins=("https://shop.example",),
    policy=PolicyVersion(
        version="1", effective_at="2026-05-11T00:00:00.000Z", url="https://shop.example", material=False
    ),
    purposes={"analytics": ANALYTICS},
    renew_after=YEAR,
)


def version(number: str, **changes: Any) -> SiteDocument:
    """The first version with other members; not material by its author's word unless `material` says so."""
    about = {name: changes.pop(name) for name in ("material", "not_material", "effective_at") if name in changes}
    policy = msgspec.structs.replace(FIRST.policy, version=number, **about)
    return msgspec.structs.replace(FIRST, policy=policy, **changes)


def history(*documents: SiteDocument) -> PolicyHistory:
    return PolicyHistory(
        tuple(Published(10 * n, 1_800_000_000_000 + n, bytes([n]) * 32, each) for n, each in enumerate(documents, 1))
    )


def test_the_first_version_ends_no_grants_for_there_are_none() -> None:
    assert history(version("1", material=True)).why_material("1", "analytics") == ()


def test_a_version_asks_again_where_its_author_says_so() -> None:
    versions = history(FIRST, version("2", material=("analytics",)))
    assert versions.material(1, "analytics")
    assert versions.why_material("2", "analytics") == versions.why_material(1, "analytics") != ()


def test_a_purpose_that_is_taken_in_use_is_asked_again() -> None:
    unused = {"analytics": msgspec.structs.replace(ANALYTICS, in_use=False)}
    versions = history(version("1", purposes=unused), version("2"))
    assert versions.material(1, "analytics")


@pytest.mark.parametrize("place", ["policy", "notice", "acceptance"])
def test_a_document_is_shown_from_the_seq_on_that_names_it(place: str) -> None:
    terms = msgspec.structs.replace(ANALYTICS, kind="acceptance", document="cc" * 32)
    notices = {"banner": Notice(document="bb" * 32, media_type="application/json")}
    versions = history(FIRST, version("2", notices=notices, purposes={**FIRST.purposes, "terms": terms}))
    digest = {"policy": "02" * 32, "notice": "bb" * 32, "acceptance": "cc" * 32}[place]
    assert versions.shows(digest)
    assert versions.shows(digest, known_seq=20)
    assert not versions.shows(digest, known_seq=19)


def test_what_no_version_names_is_not_shown() -> None:
    assert not history(FIRST).shows("dd" * 32)


def with_recipient(name: str, *, of: SiteDocument = FIRST) -> dict[str, Purpose]:
    grown = msgspec.structs.replace(of.purposes["analytics"], recipients=(Recipient(name=name),))
    return {**of.purposes, "analytics": grown}


def test_a_version_asks_again_for_what_it_changes_though_its_author_says_it_does_not() -> None:
    versions = history(FIRST, version("2", purposes=with_recipient("PostHog")))
    assert versions.why_material("2", "analytics") == ("a new recipient: PostHog",)


def test_a_reason_on_record_keeps_a_change_from_asking_again() -> None:
    reason = {"analytics": "PostHog was there all along, under the name of its company"}
    versions = history(FIRST, version("2", purposes=with_recipient("PostHog"), not_material=reason))
    assert not versions.material(1, "analytics")
    assert versions.diff_at(1).reasons("analytics") == ("a new recipient: PostHog",)


def test_the_version_before_is_that_in_the_order_of_effect_as_far_as_was_known() -> None:
    later = version("2", purposes=with_recipient("PostHog"), effective_at="2030-01-01T00:00:00.000Z")
    between = version("3", purposes=with_recipient("PostHog"))
    versions = history(FIRST, later, between)
    assert [entry.document.version for entry in versions.in_effect_order] == ["1", "3", "2"]
    assert versions.why_material("3", "analytics") != ()
    assert versions.why_material("2", "analytics") == ()
    assert versions.known(20).why_material("2", "analytics") != ()


def test_a_purpose_that_comes_back_under_an_alias_does_not_revive_its_own_grants() -> None:
    gone = {"other": ANALYTICS}
    joined = {
        "other": msgspec.structs.replace(ANALYTICS, removed_in="3"),
        "analytics": msgspec.structs.replace(ANALYTICS, alias_of="other"),
    }
    versions = history(FIRST, version("2", purposes=gone), version("3", purposes=joined))
    assert versions.why_material("3", "analytics") == ("a purpose comes back: analytics",)


def test_a_purpose_that_is_taken_in_brings_no_grant_that_its_own_versions_had_ended() -> None:
    wider = with_recipient("PostHog")["analytics"]
    taken_in = {
        "analytics": msgspec.structs.replace(wider, removed_in="3"),
        "other": msgspec.structs.replace(wider, alias_of="analytics"),
    }
    versions = history(
        version("1", purposes={"analytics": ANALYTICS, "other": wider}),
        version("2", purposes={"analytics": wider, "other": wider}),
        version("3", purposes=taken_in),
    )
    for cited, decision in (("1", "denied"), ("2", "granted")):
        event = Event(
            id="01980000-0000-7000-8000-000000000001",
            site="shop.example",
            type="consent.given",
            visitor="v" * 22,
            decisions={"analytics": "granted"},
            action="customize",
            policy_version=cited,
        )
        state = fold(EMPTY_STATE, [stored(35, 1_800_000_000_002, event)])
        answer = Evaluator(versions, "other", at_ms=1_800_000_100_000).decide(state, None)
        assert answer.decision == decision
