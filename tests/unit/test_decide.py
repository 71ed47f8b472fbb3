"""The rules of decisions, one by one: given this site and these acts, this is the answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger.core import fold as fold_module
from ledger.core.decide import (
    EMPTY_STATE,
    Evaluator,
    Mark,
    Outcome,
    Recorded,
    decide,
    decide_history,
    effective_ms,
    fold,
)
from ledger.core.duration import DAY_MS
from ledger.core.encoding import encode_time
from ledger.core.errors import Malformed
from ledger.core.event import Event
from ledger.core.fold import Act, decode_state, encode_state
from ledger.core.policy import PolicyHistory, Published, SiteDocument, parse_site_document
from tests.devices import device_of, stored

DAY0_MS = 1_767_225_600_000  # 2026-01-01
TEXT = {"en": "text"}


def day(number: float) -> int:
    return DAY0_MS + int(number * DAY_MS)


def document(version: str = "1.0", **members: Any) -> SiteDocument:
    """A site whose `analytics` is opt-in in Germany and opt-out elsewhere, and whose `marketing` is opt-in."""
    policy = {"version": version, "effectiveAt": "2026-01-01", "url": "https://s.example/", "material": False}
    policy |= members.pop("policy", {})
    purposes: dict[str, dict[str, Any]] = {
        "necessary": {"required": True, "title": TEXT, "description": TEXT},
        "analytics": {"title": TEXT, "description": TEXT, "regimes": {"default": "opt-out", "DE": "opt-in"}},
        "marketing": {"title": TEXT, "description": TEXT},
    }
    for name, change in members.pop("purposes", {}).items():
        purposes[name] = purposes.get(name, {"title": TEXT, "description": TEXT}) | change
    whole = {
        "site": "s.example",
        "controller": {"name": "Example"},
        "languages": ["en"],
        "origins": ["https://s.example"],
        "renewAfter": "P6M",
        "policy": policy,
        "purposes": {name: purpose for name, purpose in purposes.items() if purpose.pop("there", True)},
    }
    return parse_site_document(msgspec.json.encode(whole | members))


def published(*documents: SiteDocument, days: tuple[float, ...] = ()) -> PolicyHistory:
    """Each at seq 1, 2, … and on its day; the first on day 0."""
    return PolicyHistory(
        tuple(
            Published(seq, day(days[seq - 1] if days else 0), b"", document_)
            for seq, document_ in enumerate(documents, 1)
        )
    )


def act(
    number: float,
    answer: str,
    *purposes: str,
    seq: int | None = None,
    version: str | None = "1.0",
    action: str = "settings",
    **members: Any,
) -> Recorded:
    """One answer to the purposes (`analytics` unless named), recorded on a day."""
    event = Event(
        id=str(seq),
        site="s.example",
        type="consent.given" if answer == "granted" else "consent.withdrawn",
        visitor="v" * 22,
        decisions=dict.fromkeys(purposes or ("analytics",), answer),  # type: ignore[arg-type]
        action=action,  # type: ignore[arg-type]
        policy_version=version,
        **members,
    )
    return stored(100 + int(number * 10) if seq is None else seq, day(number), event)


def ask(
    policies: PolicyHistory,
    *events: Recorded,
    at: float,
    purpose: str = "analytics",
    region: str | None = "US",
    **given: Any,
) -> Outcome:
    return decide(policies, fold(EMPTY_STATE, events), purpose, at_ms=day(at), region=region, **given)


def short(outcome: Outcome) -> tuple[str, str, bool]:
    return outcome.decision, outcome.reason, outcome.ask


ONE = published(document())


class TestTheOrderOfTheRules:
    def test_before_any_policy_holds_everything_is_denied(self) -> None:
        assert short(ask(ONE, act(0, "granted"), at=-1)) == ("denied", "no_policy", False)
        assert ask(PolicyHistory(), at=1).status == "ConsentUnknown"

    def test_a_purpose_that_the_policy_lacks_or_removed_is_denied(self) -> None:
        assert short(ask(ONE, act(0, "granted"), at=1, purpose="other")) == ("denied", "unknown_purpose", False)
        assert short(ask(ONE, at=1, purpose="*")) == ("denied", "unknown_purpose", False)
        removed = published(document(), document("2.0", purposes={"analytics": {"removedIn": "2.0"}}), days=(0, 10))
        assert ask(removed, act(1, "granted", region="US"), at=9).reason == "granted"
        assert ask(removed, act(1, "granted", region="US"), at=10).reason == "unknown_purpose"

    def test_a_required_purpose_is_granted_without_consent_whatever_was_denied(self) -> None:
        outcome = ask(ONE, act(1, "denied", "*"), act(2, "denied", "necessary"), at=3, purpose="necessary", gpc=True)
        assert (outcome.decision, outcome.reason, outcome.status) == ("granted", "not_required", None)

    def test_a_denial_is_a_refusal_or_after_any_grant_a_withdrawal(self) -> None:
        refused = ask(ONE, act(1, "denied"), at=2)
        assert (refused.decision, refused.reason, refused.status) == ("denied", "refused", "ConsentRefused")
        withdrawn = ask(ONE, act(1, "granted"), act(2, "denied"), at=3)
        assert (withdrawn.decision, withdrawn.reason, withdrawn.status) == ("denied", "withdrawn", "ConsentWithdrawn")
        assert (withdrawn.decided_ms, withdrawn.seq, withdrawn.policy_version) == (day(2), 120, "1.0")

    def test_nothing_turns_a_denial_into_a_grant_but_a_later_grant(self) -> None:
        for years in (1, 10, 100):
            assert ask(ONE, act(1, "denied"), at=365 * years).decision == "denied"
        assert ask(ONE, act(1, "denied"), act(2, "granted"), at=3).decision == "granted"

    def test_a_suppression_mark_denies_what_a_default_or_a_grant_would_allow(self) -> None:
        for events in ((), (act(1, "granted"),)):
            outcome = ask(ONE, *events, at=2, marks=(Mark("analytics", day(1), None, 0),))
            assert (outcome.decision, outcome.reason, outcome.status) == ("denied", "suppressed", "ConsentRefused")
        assert ask(ONE, act(1, "denied"), at=2, marks=(Mark("analytics", day(1), None, 0),)).reason == "refused"

    def test_a_grant_holds(self) -> None:
        outcome = ask(ONE, act(1, "granted", region="US"), at=2)
        assert outcome == Outcome(
            decision="granted",
            status="ConsentGiven",
            reason="granted",
            regime="opt-out",
            decided_ms=day(1),
            valid_until_ms=day(1 + 181),  # 2026-01-02 plus six months is 2026-07-02
            policy_version="1.0",
            seq=110,
        )

    def test_without_an_act_the_regime_answers(self) -> None:
        default = ask(ONE, at=1, region="US")
        assert (default.decision, default.reason, default.status, default.regime, default.ask) == (
            "granted",
            "opt_out_default",
            None,
            "opt-out",
            False,
        )
        asked = ask(ONE, at=1, region="DE")
        assert (asked.decision, asked.reason, asked.status, asked.regime, asked.ask) == (
            "denied",
            "never_asked",
            "ConsentUnknown",
            "opt-in",
            True,
        )

    def test_exempt_grants_by_default_until_someone_objects(self) -> None:
        exempt = published(document(purposes={"analytics": {"regimes": {"default": "exempt"}}}))
        assert ask(exempt, at=1, region="GB").reason == "opt_out_default"
        assert ask(exempt, act(1, "denied"), at=2, region="GB").decision == "denied"


class TestWhoWins:
    def test_a_tie_goes_to_the_denial_whichever_was_recorded_first(self) -> None:
        assert ask(ONE, act(1, "granted", seq=5), act(1, "denied", seq=4), at=2).decision == "denied"
        assert ask(ONE, act(1, "granted", seq=4), act(1, "denied", seq=5), at=2).decision == "denied"

    def test_a_star_denies_every_optional_purpose_also_those_to_come(self) -> None:
        later = published(document(), document("2.0", purposes={"maps": {}}), days=(0, 10))
        for purpose in ("analytics", "marketing", "maps"):
            assert ask(later, act(1, "denied", "*"), at=11, purpose=purpose).reason == "refused"

    def test_within_one_event_a_named_purpose_overrides_the_star(self) -> None:
        mixed = act(1, "granted")
        mixed = mixed._replace(
            event=msgspec.structs.replace(mixed.event, decisions={"analytics": "granted", "*": "denied"})
        )
        assert ask(ONE, mixed, at=2).decision == "granted"
        assert ask(ONE, mixed, at=2, purpose="marketing").decision == "denied"
        assert ask(ONE, mixed, act(2, "denied", "*"), at=3).reason == "withdrawn"
        assert ask(ONE, mixed, act(0.5, "denied", "*"), at=3).decision == "granted"

    def test_a_star_can_never_grant(self) -> None:
        assert ask(ONE, act(1, "granted", "*"), at=2, region="DE").reason == "never_asked"
        odd = act(1, "granted", "*")
        odd = odd._replace(event=msgspec.structs.replace(odd.event, decisions={"*": "granted", "marketing": "denied"}))
        assert ask(ONE, odd, at=2, region="DE").reason == "never_asked"


class TestClocks:
    """When an act counts: recorded at noon of day 5, with the visitor's two clocks saying what they like."""

    @pytest.mark.parametrize(
        ("answer", "occurred", "sent", "action", "effective"),
        [
            ("granted", None, None, "settings", 5),
            ("denied", None, None, "settings", 5),
            ("granted", 3, 4, "settings", 4),
            ("denied", 3, 4, "settings", 4),
            ("granted", 903, 904, "settings", 4),  # a clock years ahead
            ("denied", -903, -902, "settings", 4),  # or years behind: only the difference counts
            ("granted", 4, 3, "settings", 5),  # sent before it occurred
            ("denied", 4, 3, "settings", 5),
            ("granted", 3, None, "settings", 3),
            ("denied", 3, None, "settings", 5),
            ("granted", 900, None, "settings", 5),
            ("granted", None, 3, "settings", 5),
            ("denied", None, 3, "settings", 5),
            ("denied", -3, 4, "settings", -2),  # seven days: still within the window
            ("denied", -3.001, 4, "settings", 5),
            ("granted", -30, 4, "settings", -29),
            ("granted", 3, 4, "import", 3),
            ("denied", -900, 4, "import", -900),
            ("denied", 900, 4, "import", 5),
            ("granted", None, 4, "import", 5),
        ],
    )
    def test_when_an_act_counts(
        self, answer: str, occurred: float | None, sent: float | None, action: str, effective: float
    ) -> None:
        recorded = act(
            5,
            answer,
            action=action,
            occurred_at=None if occurred is None else encode_time(day(occurred)),
            sent_at=None if sent is None else encode_time(day(sent)),
        )
        assert effective_ms(recorded, answer) == day(effective)  # type: ignore[arg-type]

    def test_a_stored_time_that_is_in_no_calendar_says_nothing(self) -> None:
        assert effective_ms(act(5, "granted", occurred_at="2026-13-45T00:00:00.000Z"), "granted") == day(5)

    def test_no_pair_of_clocks_places_an_act_outside_the_calendar(self) -> None:
        first, last = "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"
        grant = act(5, "granted", occurred_at=first, sent_at=last)
        assert encode_time(effective_ms(grant, "granted")) == first

    def test_a_grant_from_a_clock_in_the_future_does_not_outlast_a_withdrawal(self) -> None:
        grant = act(1, "granted", occurred_at=encode_time(day(500)), sent_at=encode_time(day(500)))
        assert ask(ONE, grant, act(2, "denied"), at=3).reason == "withdrawn"

    def test_grants_and_denials_of_one_event_may_count_at_two_times(self) -> None:
        both = act(5, "granted", occurred_at=encode_time(day(1)))
        both = both._replace(
            event=msgspec.structs.replace(both.event, decisions={"analytics": "granted", "marketing": "denied"})
        )
        assert ask(ONE, both, at=6).decided_ms == day(1)
        assert ask(ONE, both, at=6, purpose="marketing").decided_ms == day(5)


class TestGpc:
    def test_a_live_signal_denies_but_for_a_grant_made_under_it(self) -> None:
        assert short(ask(ONE, at=1, gpc=True)) == ("denied", "gpc", False)
        assert short(ask(ONE, at=1, gpc=True, region="DE")) == ("denied", "gpc", True)
        assert short(ask(ONE, act(1, "granted"), at=2, gpc=True)) == ("denied", "gpc", False)
        assert short(ask(ONE, act(1, "granted", gpc=True), at=2, gpc=True)) == ("granted", "granted", False)

    def test_the_absence_of_a_signal_grants_nothing(self) -> None:
        signal = act(1, "denied", action="gpc", gpc=True)
        assert ask(ONE, signal, at=2, gpc=False).reason == "refused"

    def test_a_plain_grant_comes_back_when_a_signal_that_was_only_live_is_gone(self) -> None:
        assert ask(ONE, act(1, "granted"), at=2, gpc=False).reason == "granted"

    def test_a_denial_by_signal_does_not_beat_a_grant_made_under_the_signal_while_that_holds(self) -> None:
        grant, signal = act(1, "granted", gpc=True), act(2, "denied", action="gpc", gpc=True)
        assert ask(ONE, grant, signal, at=3, gpc=True).reason == "granted"
        assert ask(ONE, grant, signal, at=200, region="US").reason == "withdrawn"

    def test_a_denial_by_signal_beats_a_plain_grant(self) -> None:
        assert ask(ONE, act(1, "granted"), act(2, "denied", action="gpc", gpc=True), at=3).reason == "withdrawn"

    def test_a_person_s_denial_beats_a_grant_made_under_the_signal(self) -> None:
        events = (act(1, "granted", gpc=True), act(2, "denied", gpc=True), act(3, "denied", action="gpc", gpc=True))
        assert ask(ONE, *events, at=4).reason == "withdrawn"

    def test_a_lapsed_grant_made_under_the_signal_no_longer_holds_against_it(self) -> None:
        outcome = ask(ONE, act(1, "granted", gpc=True, region="US"), at=200, gpc=True)
        assert short(outcome) == ("denied", "expired", True)


class TestLapse:
    def test_a_grant_expires_at_its_renewal_to_the_millisecond(self) -> None:
        grant = act(1, "granted")
        last = Evaluator(ONE, "analytics", at_ms=day(182) - 1).decide(fold(EMPTY_STATE, [grant]), "DE")
        assert (last.reason, last.valid_until_ms) == ("granted", day(182))
        outcome = ask(ONE, grant, at=182, region="DE")
        assert (outcome.decision, outcome.reason, outcome.ask, outcome.status) == (
            "denied",
            "expired",
            True,
            "ConsentExpired",
        )

    def test_the_shortest_renewal_of_the_cited_version_and_those_since_runs(self) -> None:
        policies = published(
            document(renewAfter="P12M"), document("1.1", renewAfter="P1M"),
            document("1.2", renewAfter="P12M", policy={"notMaterial": {"analytics": "said before"}}), days=(0, 10, 20),
        )  # fmt: skip
        assert ask(policies, act(1, "granted"), at=9).valid_until_ms == day(32)
        assert ask(policies, act(1, "granted"), at=40).reason == "expired"
        assert ask(policies, act(1, "granted", version="1.2"), at=40).reason == "granted"

    def test_a_purpose_may_have_a_renewal_of_its_own(self) -> None:
        policies = published(document(purposes={"analytics": {"renewAfter": "P1M"}}))
        assert ask(policies, act(1, "granted"), at=40).reason == "expired"
        assert ask(policies, act(1, "granted", "marketing"), at=40, purpose="marketing").reason == "granted"

    def test_a_material_version_invalidates_older_grants_from_its_effect(self) -> None:
        policies = published(document(), document("2.0", policy={"material": True}), days=(0, 10))
        assert ask(policies, act(1, "granted"), at=9.9, region="DE").reason == "granted"
        outcome = ask(policies, act(1, "granted"), at=10, region="DE")
        assert (outcome.decision, outcome.reason, outcome.ask, outcome.status) == (
            "denied",
            "policy_changed",
            True,
            "ConsentInvalidated",
        )
        assert ask(policies, act(11, "granted", version="2.0"), at=12, region="DE").reason == "granted"

    def test_a_version_is_material_unless_it_says_otherwise_and_may_be_for_some_purposes(self) -> None:
        unsaid = document("2.0", policy={"version": "2.0"})
        unsaid = msgspec.structs.replace(unsaid, policy=msgspec.structs.replace(unsaid.policy, material=True))
        some = document("2.0", policy={"material": ["marketing"]})
        grants = act(1, "granted", "analytics", "marketing")
        for second, purpose, reason in (
            (unsaid, "analytics", "policy_changed"),
            (some, "analytics", "granted"),
            (some, "marketing", "policy_changed"),
            (document("2.0"), "marketing", "granted"),
        ):
            assert ask(published(document(), second, days=(0, 10)), grants, at=11, purpose=purpose).reason == reason

    def test_a_rollback_resurrects_nothing(self) -> None:
        policies = published(document(), document("2.0", policy={"material": True}), document("1.0b"), days=(0, 10, 20))
        assert ask(policies, act(1, "granted"), at=21, region="DE").reason == "policy_changed"

    def test_a_grant_that_cites_nothing_published_or_a_version_that_did_not_ask_does_not_hold(self) -> None:
        assert ask(ONE, act(1, "granted", version="9"), at=2, region="DE").reason == "policy_changed"
        assert ask(ONE, act(1, "granted", version=None), at=2, region="DE").reason == "policy_changed"
        for before in ({"there": False}, {"required": "true"}):
            first = document(purposes={"maps": before})
            policies = published(first, document("2.0", purposes={"maps": {}}), days=(0, 10))
            assert ask(policies, act(1, "granted", "maps"), at=11, purpose="maps").reason == "policy_changed"

    def test_taking_up_an_unused_purpose_asks_again(self) -> None:
        policies = published(
            document(purposes={"marketing": {"inUse": "false"}}), document("2.0"), document("3.0"), days=(0, 10, 20)
        )
        grant = act(1, "granted", "marketing")
        assert ask(policies, grant, at=9, purpose="marketing").reason == "granted"
        assert ask(policies, grant, at=11, purpose="marketing").reason == "policy_changed"
        again = act(12, "granted", "marketing", version="2.0")
        assert ask(policies, again, at=21, purpose="marketing").reason == "granted"

    def test_under_opt_out_a_lapsed_grant_falls_back_to_the_default_and_keeps_its_reason(self) -> None:
        outcome = ask(ONE, act(1, "granted", region="US"), at=200, region="US")
        assert short(outcome) == ("granted", "expired", True)
        assert outcome.status is None

    def test_an_older_denial_beneath_a_lapsed_grant_stands(self) -> None:
        for beneath in (act(1, "denied"), act(1, "denied", "*"), act(1, "denied", action="gpc")):
            outcome = ask(ONE, beneath, act(2, "granted", region="US"), at=200, region="US")
            assert short(outcome) == ("denied", "expired", True)
            assert outcome.status == "ConsentExpired"


class TestRegion:
    def test_the_strictest_of_the_event_s_and_the_asker_s_region_counts(self) -> None:
        for given, asked, regime in (
            ("US", "US", "opt-out"),
            ("DE", "US", "opt-in"),
            ("US", "DE", "opt-in"),
            (None, "US", "opt-in"),
            ("US", None, "opt-in"),
        ):
            grant = act(1, "granted", region=given)
            assert ask(ONE, grant, at=2, region=asked).regime == regime
            lapsed = ask(ONE, grant, at=200, region=asked)
            assert lapsed.decision == ("granted" if regime == "opt-out" else "denied")

    def test_an_unknown_region_is_the_strictest(self) -> None:
        for region in (None, "XX", "EU", "T1"):
            assert ask(ONE, at=1, region=region).reason == "never_asked"


class TestTwoTimes:
    def test_the_past_is_answered_from_what_counted_and_was_known(self) -> None:
        events = [
            act(1, "granted", seq=10),
            act(2, "denied", seq=11),
            act(5, "denied", seq=12, action="import", occurred_at=encode_time(day(0.5))),
        ]

        def past(at: float, known_seq: int | None = None) -> str:
            return decide_history(
                ONE, events, "analytics", at_ms=day(at), region="DE", known_seq=known_seq
            ).reason  # fmt: skip

        assert past(0.6) == "refused"
        assert past(0.6, known_seq=11) == "never_asked"
        assert past(1.5) == "granted"
        assert past(2) == "withdrawn"
        assert past(2, known_seq=10) == "granted"

    def test_a_version_that_was_not_known_has_no_say(self) -> None:
        policies = PolicyHistory(
            (
                Published(1, day(0), b"", document()),
                Published(20, day(3), b"", document("2.0", policy={"material": True})),
            )
        )
        grant = act(1, "granted", seq=10)
        assert ask(policies, grant, at=4, known_seq=19).reason == "granted"
        assert ask(policies, grant, at=4, known_seq=20, region="DE").reason == "policy_changed"


class TestValidUntil:
    def test_a_known_future_version_ends_an_answer_that_it_changes(self) -> None:
        coming = document("2.0", policy={"material": True, "effectiveAt": "2026-02-01"})
        policies = published(document(), coming)
        assert ask(policies, act(1, "granted"), at=2).valid_until_ms == day(31)
        assert ask(policies, act(1, "denied"), at=2).valid_until_ms is None
        assert ask(policies, act(1, "granted"), at=2, known_seq=1).valid_until_ms == day(182)

    def test_a_future_version_that_changes_nothing_ends_nothing(self) -> None:
        policies = published(document(), document("2.0", policy={"effectiveAt": "2026-02-01"}))
        assert ask(policies, act(1, "granted"), at=2).valid_until_ms == day(182)
        assert ask(policies, at=2).valid_until_ms is None

    def test_of_two_versions_that_take_effect_at_once_only_the_last_has_a_say(self) -> None:
        coming = {"effectiveAt": "2026-02-01"}
        stricter = {"analytics": {"regimes": {"default": "opt-in"}}}
        policies = published(
            document(), document("2.0", policy=coming, purposes=stricter), document("3.0", policy=coming)
        )
        assert ask(policies, at=2, region="US").valid_until_ms is None
        assert ask(policies, at=31, region="US").decision == "granted"

    def test_a_way_through_many_versions_is_gone_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        count, looked = 40, 0
        material = PolicyHistory.material

        def counted(self: PolicyHistory, index: int, purpose: str) -> bool:
            nonlocal looked
            looked += 1
            return material(self, index, purpose)

        monkeypatch.setattr(PolicyHistory, "material", counted)
        versions = [document(f"{n}.0", policy={"effectiveAt": encode_time(day(n))}) for n in range(1, count)]
        assert ask(published(document("0.0"), *versions), act(0, "granted", version="0.0"), at=0).decision == "granted"
        assert looked < 2 * count

    def test_a_default_ends_where_a_stricter_regime_begins(self) -> None:
        stricter = document(
            "2.0", policy={"effectiveAt": "2026-02-01"}, purposes={"analytics": {"regimes": {"default": "opt-in"}}}
        )
        outcome = ask(published(document(), stricter), at=2, region="US")
        assert (outcome.reason, outcome.valid_until_ms) == ("opt_out_default", day(31))


class TestAskAndNotify:
    def test_a_denial_is_asked_again_only_after_the_interval_of_its_kind(self) -> None:
        policies = published(document(reaskAfter={"refusal": "P1M", "withdrawal": "P2M"}))
        refusal = act(0, "denied")
        assert not ask(policies, refusal, at=30.9).ask
        assert ask(policies, refusal, at=31).ask
        withdrawal = (act(-1, "granted"), act(0, "denied"))
        assert not ask(policies, *withdrawal, at=58.9).ask
        assert ask(policies, *withdrawal, at=59).ask

    def test_the_interval_is_that_of_the_most_specific_place_and_of_several_the_longest(self) -> None:
        policies = published(
            document(
                reaskAfter={"refusal": "P3M"},
                reaskAfterIn={
                    "EU": {"refusal": "P6M"},
                    "EEA": {"refusal": "P9M"},
                    "US": {"refusal": "P12M"},
                    "US-CA": {"refusal": "P2M"},
                    "GB": {},
                },
            )
        )
        for acted, asked, days in (
            ("KZ", "KZ", 90),
            ("FR", "FR", 273),
            ("KZ", "FR", 273),
            ("US-CA", "US-CA", 59),
            ("US", "US-CA", 365),
            ("US-NY", "KZ", 365),
            ("GB", "KZ", None),
            (None, "KZ", None),
        ):
            refusal = act(0, "denied", region=acted)
            assert not ask(policies, refusal, at=(days or 3_650) - 0.1, region=asked).ask
            assert ask(policies, refusal, at=days or 3_650, region=asked).ask == (days is not None)

    def test_without_an_interval_a_denial_is_never_asked_again(self) -> None:
        assert not ask(ONE, act(0, "denied"), at=36_500).ask

    def test_a_change_is_announced_to_those_who_acted_before_it_also_when_it_is_not_material(self) -> None:
        first, second = document(announceChanges="first-visit"), document("1.1", announceChanges="first-visit")
        policies = published(first, second, days=(0, 10))
        assert not ask(policies, act(1, "granted"), at=9).notify
        outcome = ask(policies, act(1, "granted"), at=10)
        assert (outcome.reason, outcome.notify, outcome.ask) == ("granted", True, False)
        assert ask(policies, act(1, "granted"), at=10, purpose="marketing").notify
        assert not ask(policies, at=10).notify
        early = act(10, "granted", version="1.1", occurred_at=encode_time(day(9.9)))
        assert not ask(policies, early, at=11).notify, "it was given under the new version, whatever its clock says"
        assert not ask(policies, act(1, "granted"), act(11, "denied", "marketing"), at=12).notify
        assert not ask(published(first, document("1.1"), days=(0, 10)), act(1, "granted"), at=12).notify


class TestTheState:
    def test_its_bytes_come_back(self) -> None:
        state = fold(EMPTY_STATE, [act(1, "granted", region="DE", gpc=True), act(2, "denied", "*"), act(3, "denied")])
        assert decode_state(encode_state(state)) == state
        assert decode_state(encode_state(EMPTY_STATE)) == EMPTY_STATE

    @pytest.mark.parametrize(
        "data", [b"", b"\x02", b"\x01\x90", b"\x02\xc0", b"\x02\x91\x01", b"\x02" + b"\x91" * 5000]
    )
    def test_other_bytes_are_malformed(self, data: bytes) -> None:
        with pytest.raises(Malformed):
            decode_state(data)

    def test_a_grant_that_found_no_room_counts_as_a_denial(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fold_module, "MAX_TRACKED_PURPOSES", 1)
        events = [act(1, "granted", region="US"), act(2, "denied", "aaa"), act(3, "granted", "marketing")]
        for order in (events, events[::-1]):
            state = fold(EMPTY_STATE, order)
            assert list(state.purposes) == ["aaa"]
            assert decide(ONE, state, "analytics", at_ms=day(4), region="US").reason == "refused"

    def test_the_newest_link_counts_an_unlinking_before_a_link_and_then_the_later_entry(self) -> None:
        def linked(number: float, seq: int, account: str | None) -> Recorded:
            event = Event(
                id=str(seq),
                site="s.example",
                type="account.linked" if account else "account.unlinked",
                visitor="v" * 22,
                account=account or "1" * 32,
            )
            return stored(seq, day(number), event)

        first, second, none = linked(1, 1, "1" * 32), linked(1, 2, "2" * 32), linked(1, 0, None)
        later = linked(2, 3, "1" * 32)
        for events, account in (
            ((first,), "1" * 32),
            ((first, second), "2" * 32),
            ((first, second, none), None),
            ((first, second, none, later), "1" * 32),
        ):
            for told in (events, events[::-1]):
                assert fold(EMPTY_STATE, told).account == account
        assert fold(EMPTY_STATE, (first, later), until_ms=day(0)).link is None

    def test_an_account_says_of_each_choice_in_which_browser_it_was_made_and_a_browser_does_not(self) -> None:
        grant = act(1, "granted")
        own = fold(EMPTY_STATE, [grant]).acts("analytics").grant
        grant = grant._replace(event=msgspec.structs.replace(grant.event, account="1" * 32))
        account = fold(EMPTY_STATE, [grant]).acts("analytics").grant
        assert own is not None
        assert own.device is None
        assert account is not None
        assert account.device == device_of("v" * 22)

    def test_it_keeps_no_more_than_three_acts_a_purpose(self) -> None:
        state = fold(EMPTY_STATE, [act(n, "granted" if n % 2 else "denied") for n in range(1_000)])
        kept = state.acts("analytics")
        assert (kept.grant, kept.denial) == (
            Act(day(999), 10_090, "1.0", None, False),
            Act(day(998), 10_080, "1.0", None, False),
        )
        assert len(encode_state(state)) < 200


class TestTheWords:
    """Each says which acts count, when and why then; what was tried; what would change it."""

    def said(self, *events: Recorded, at: float, policies: PolicyHistory = ONE, **given: Any) -> str:
        state = fold(EMPTY_STATE, events)
        evaluator = Evaluator(policies, "analytics", at_ms=day(at))
        return "\n".join(evaluator.explain(state, "US", events=events, **given))

    def test_the_clocks_of_an_act_are_told(self) -> None:
        both: dict[str, Any] = {"occurred_at": encode_time(day(903)), "sent_at": encode_time(day(904))}
        for members, words in (
            (both, "sent at 2028-06-23T00:00:00.000Z: that much earlier"),
            ({"occurred_at": encode_time(day(0))}, "for it names 2026-01-01T00:00:00.000Z, but never later than"),
            ({}, "for it names no time of its own"),
            ({"occurred_at": encode_time(day(3)), "action": "import"}, "for it was imported and names"),
            ({"occurred_at": encode_time(day(4)), "sent_at": encode_time(day(3))}, "no time had passed"),
        ):
            assert words in self.said(act(1, "granted", **members), at=2)
        denial: dict[str, Any] = {"occurred_at": encode_time(day(0))}
        assert "without the time of sending its clock proves nothing" in self.said(act(1, "denied", **denial), at=2)
        old: dict[str, Any] = {"occurred_at": encode_time(day(0)), "sent_at": encode_time(day(8))}
        assert "more than seven days earlier" in self.said(act(1, "denied", **old), at=2)

    def test_the_versions_are_told_with_what_makes_one_ask_again(self) -> None:
        policies = published(document(), document("1.1"), document("2.0", policy={"material": True}), days=(0, 10, 20))
        grant = act(1, "granted")
        assert "none of the versions since (1.1) asks again" in self.said(grant, at=11, policies=policies)
        said = self.said(grant, at=21, policies=policies)
        assert "cites version 1.0, but version 2.0 asks again (its author says that visitors are asked again)" in said
        assert "A later grant in this browser, citing version 2.0, would change it." in said

    def test_where_the_policy_alone_answers_that_is_all(self) -> None:
        evaluator = Evaluator(ONE, "necessary", at_ms=day(1))
        said = evaluator.explain(fold(EMPTY_STATE, [act(0, "denied", "*")]), "US")
        assert said[1:] == (
            "Rule not_required applies: the version in force calls the purpose required, so nobody is asked and no "
            "denial counts.",
            "So the answer is granted, for the reason not_required.",
            "Time alone changes nothing in this.",
        )

    def test_a_question_that_is_kept_away_is_told(self) -> None:
        policies = published(document(reaskAfter={"refusal": "P1M", "dismissal": "P7D"}))
        assert "asked again not before 2026-02-02T00:00:00.000Z" in self.said(act(1, "denied"), at=2, policies=policies)
        assert "never again unless the visitor wishes" in self.said(act(1, "denied"), at=2)
