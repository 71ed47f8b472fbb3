"""When records go, counted as the site's document says, and what goes together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger.core.decide import Mark, decide_history
from ledger.core.document import SiteDocument
from ledger.core.encoding import encode_time
from ledger.core.fold import Recorded
from ledger.core.policy import PolicyHistory, Published, parse_site_document
from ledger.core.retention import Plan, Retention, Suppression, counts
from tests.unit.random_histories import period
from tests.unit.scenario import ANNA, event, ms, version

SITES = Path(ledger.__file__).parent / "sites"
SUPPRESS_FOR = period("P3Y")


def site(*versions: Published) -> PolicyHistory:
    return PolicyHistory(versions)


def keeps(retention: str = "P1Y", counted: str = "end", **changes: Any) -> PolicyHistory:
    """A site whose only version keeps records so."""
    return site(version("1", "2025-01-02", recordRetention=retention, recordRetentionCounted=counted, **changes))


def plan(policies: PolicyHistory, at: str | int, *events: Recorded, **arguments: Any) -> Plan:
    moment = ms(at) if isinstance(at, str) else at
    return Retention(policies, moment, SUPPRESS_FOR).plan(events, **arguments)


def goes_at(policies: PolicyHistory, *events: Recorded) -> dict[int, str]:
    """By seq, the first moment before 2040 at which each record goes: `2026-02-01`, with the time if not 00:00."""
    found: dict[int, str] = {}
    left, now_ms = list(events), max(one.recorded_ms for one in events)
    while left and now_ms < ms("2040-01-01"):
        done = plan(policies, now_ms, *left)
        for seq in done.due:
            found[seq] = encode_time(now_ms).replace("T00:00:00.000Z", "")
        left = [one for one in left if one.seq not in done.due]
        if done.next_ms is None:
            break
        now_ms = done.next_ms
    return found


class TestTheYearOfWeNera:
    """N5: preferences about cookies are kept 1 year, and its document counts from the act."""

    document: SiteDocument = parse_site_document((SITES / "we-nera.com.yaml").read_bytes())
    policies = PolicyHistory((Published(1, ms("2026-04-14"), b"", document),))

    @pytest.mark.parametrize(
        ("made", "goes"),
        [
            ("2026-05-31", "2027-05-31"),
            ("2027-02-28", "2028-02-28"),  # not the 29th: a year by the calendar, whatever the month's last day is
            ("2028-02-29", "2029-02-28"),  # which 2029 does not have
            ("2028-03-01", "2029-03-01"),
            ("2026-12-31 23:59:59.999", "2027-12-31T23:59:59.999Z"),
        ],
    )
    def test_runs_by_the_calendar_from_the_choice_on(self, made: str, goes: str) -> None:
        assert goes_at(self.policies, event(5, made, "+analytics", cites="1.0", region="DE")) == {5: goes}

    def test_ends_to_the_millisecond(self) -> None:
        choice = event(5, "2028-02-29 12:00:00.000", "-analytics", cites="1.0", region="US")
        due_ms = ms("2029-02-28 12:00:00.000")
        assert plan(self.policies, due_ms - 1, choice).due == ()
        assert plan(self.policies, due_ms, choice).due == (5,)

    def test_is_not_begun_anew_by_a_later_choice(self) -> None:
        yes, no = event(5, "2026-05-01", "+analytics", cites="1.0"), event(6, "2026-11-01", "-analytics", cites="1.0")
        assert goes_at(self.policies, yes, no) == {5: "2027-05-01", 6: "2027-11-01"}

    def test_leaves_an_objection_standing_for_a_year_where_silence_would_grant(self) -> None:
        no = event(5, "2026-05-01", "-analytics", cites="1.0", region="US")
        found = plan(self.policies, "2027-05-01", no)
        assert found == Plan((5,), (Suppression("analytics", ms("2026-05-01"), ms("2028-05-01"), 5),), None)
        marks = [Mark(*mark) for mark in found.marks]
        asked = {at: decide_history(self.policies, [], "analytics", at_ms=ms(at), region="US", marks=marks)
                 for at in ("2027-05-02", "2028-04-30", "2028-05-01")}  # fmt: skip
        assert [(one.decision, one.reason) for one in asked.values()] == [
            ("denied", "suppressed"), ("denied", "suppressed"), ("granted", "opt_out_default"),
        ]  # fmt: skip


class TestCountedFromTheEnd:
    def test_a_grant_that_lapsed_is_kept_from_its_lapse_on(self) -> None:
        assert goes_at(keeps(), event(5, "2026-01-31", "+marketing")) == {5: "2027-07-31"}  # six months, and a year

    def test_a_grant_that_was_taken_back_is_kept_from_then_on(self) -> None:
        yes, no = event(5, "2026-01-01", "+marketing"), event(6, "2026-02-01", "-marketing", by="withdraw")
        assert goes_at(keeps(), yes, no)[5] == "2027-02-01"

    def test_a_withdrawal_is_kept_from_when_the_question_may_come_back_and_is_a_refusal_once_the_grant_is_gone(
        self,
    ) -> None:
        yes, no = event(5, "2026-01-01", "+marketing"), event(6, "2026-02-01", "-marketing", by="withdraw")
        assert goes_at(keeps("P1M"), yes, no) == {5: "2026-03-01", 6: "2026-09-01"}
        kept = keeps("P1M", recordRetentionOf={"consent.given": "P3Y"})
        assert goes_at(kept, yes, no) == {5: "2029-02-01", 6: "2029-02-01"}

    def test_a_refusal_is_kept_from_when_the_question_may_come_back(self) -> None:
        assert goes_at(keeps(), event(5, "2026-01-01", "-marketing")) == {5: "2027-07-01"}
        assert goes_at(keeps(), event(5, "2026-01-01", "-marketing", region="US")) == {5: "2028-01-01"}

    def test_a_refusal_that_counts_for_good_is_kept_for_good(self) -> None:
        policies = keeps(reaskAfter={}, reaskAfterIn={})
        assert goes_at(policies, event(5, "2026-01-01", "-marketing")) == {}

    def test_a_grant_that_a_version_ended_is_kept_from_that_version_on(self) -> None:
        later = version("2", "2026-03-01", recordRetention="P1Y", policy={"material": True})
        policies = site(*keeps(), later._replace(seq=4))
        assert goes_at(policies, event(5, "2026-01-01", "+marketing")) == {5: "2027-03-01"}

    def test_a_dismissal_is_kept_from_when_it_keeps_nothing_away_any_more(self) -> None:
        policies = keeps(recordRetentionOf={"consent.dismissed": "P1D"})
        assert goes_at(policies, event(5, "2026-01-01", by="consent.dismissed")) == {5: "2026-01-09"}

    def test_everything_denied_at_once_is_kept_as_long_as_it_counts_for_any_purpose(self) -> None:
        no = event(5, "2026-01-01", "-*")
        yes = event(6, "2026-02-01", "+marketing")
        assert goes_at(keeps(), no, yes) == {5: "2027-07-01", 6: "2027-08-01"}


class TestPeriods:
    def test_of_a_purpose_go_over_the_type_s_and_the_site_s_and_the_longest_of_an_event_counts(self) -> None:
        policies = keeps("P1M", "act", purposes={"marketing": {"recordRetention": "P2M"}},
                         recordRetentionOf={"consent.refused": "P3M"})  # fmt: skip
        first = event(5, "2026-01-01", "-marketing")
        second = event(6, "2026-01-01", "-analytics")
        both = event(7, "2026-01-01", "+marketing +analytics")
        assert goes_at(policies, first) == {5: "2026-03-01"}
        assert goes_at(policies, second) == {6: "2026-04-01"}
        assert goes_at(policies, both) == {7: "2026-03-01"}

    def test_that_a_version_prolongs_do_not_reach_back_and_those_that_it_shortens_do(self) -> None:
        def then(retention: str) -> PolicyHistory:
            later = version("2", "2026-03-01", recordRetention=retention, recordRetentionCounted="act")
            return site(*keeps("P1Y", "act"), later._replace(seq=6))

        early, late = event(5, "2026-01-01", "-marketing"), event(7, "2026-04-01", "-marketing", cites="2")
        assert goes_at(then("P3Y"), early, late) == {5: "2027-01-01", 7: "2029-04-01"}
        assert goes_at(then("P6M"), early, late) == {5: "2026-07-01", 7: "2026-10-01"}

    def test_that_nobody_named_have_no_end(self) -> None:
        assert goes_at(site(version("1", "2025-01-02")), event(5, "2026-01-01", "+marketing")) == {}

    def test_of_an_acceptance_are_its_own_from_the_act_on(self) -> None:
        terms = {"kind": "acceptance", "document": "ab" * 32, "retention": "P5Y"}
        policies = keeps(purposes={"terms": terms})
        assert goes_at(policies, event(5, "2026-01-01", "+terms +marketing")) == {5: "2031-01-01"}
        assert goes_at(policies, event(5, "2026-01-01", "-terms")) == {5: "2027-07-01"}

    def test_of_what_an_erasure_left_are_those_that_it_named(self) -> None:
        left = event(5, "2026-01-01", "+marketing")
        until = {5: ms("2026-02-01")}
        assert plan(keeps("P9Y"), "2026-01-31", left, kept_until_ms=until).next_ms == ms("2026-02-01")
        assert plan(keeps("P9Y"), "2026-02-01", left, kept_until_ms=until).due == (5,)

    def test_are_never_shorter_than_a_grant_may_be_on_its_way(self) -> None:
        assert goes_at(keeps("P1D", "act"), event(5, "2026-01-01", "-marketing")) == {5: "2026-01-08"}


class TestWhatGoesTogether:
    policies = keeps("P1M", "act", purposes={"marketing": {"recordRetention": "P1Y"}})

    def test_a_no_waits_for_the_yes_that_it_ended(self) -> None:
        yes = event(5, "2026-01-01", "+analytics +marketing")
        no = event(6, "2026-02-01", "-analytics")
        assert goes_at(self.policies, yes, no) == {5: "2027-01-01", 6: "2027-01-01"}

    def test_a_no_to_everything_waits_for_every_yes_before_it(self) -> None:
        policies = keeps("P1Y", "act", recordRetentionOf={"consent.refused": "P1M"})
        assert goes_at(policies, event(5, "2026-01-01", "+marketing"), event(6, "2026-02-01", "-*")) == {
            5: "2027-01-01",
            6: "2027-01-01",
        }

    def test_a_no_does_not_wait_for_a_yes_that_came_later(self) -> None:
        no, yes = event(5, "2026-01-01", "-analytics"), event(6, "2026-02-01", "+analytics +marketing")
        assert goes_at(self.policies, no, yes) == {5: "2026-02-01", 6: "2027-02-01"}

    def test_who_is_not_asked_of_by_default_needs_no_mark(self) -> None:
        no = event(5, "2026-01-01", "-marketing -analytics", region="DE")
        found = plan(self.policies, "2027-01-01", no)
        assert [mark.purpose for mark in found.marks] == ["analytics"]  # opt-out in the United States

    def test_an_account_s_link_stays_while_the_account_has_something_to_say(self) -> None:
        linked = event(5, "2026-01-01", by="account.linked", account=ANNA)
        assert plan(self.policies, "2026-03-01", linked, account_stands=True).due == ()
        assert plan(self.policies, "2026-03-01", linked).due == (5,)

    def test_the_end_of_a_link_goes_no_sooner_than_the_link(self) -> None:
        policies = keeps("P1Y", "act", recordRetentionOf={"account.unlinked": "P1M"})
        linked = event(5, "2026-01-01", by="account.linked", account=ANNA)
        ended = event(6, "2026-02-01", by="account.unlinked", account=ANNA)
        assert goes_at(policies, linked, ended) == {5: "2027-01-01", 6: "2027-01-01"}

    def test_the_word_of_a_lapse_goes_with_the_grant(self) -> None:
        yes = event(5, "2026-01-01", "+marketing")
        told = event(6, "2026-07-01", by="consent.expired", lapsed={"marketing": 5}, authentication="ledger")
        assert goes_at(self.policies, yes, told) == {5: "2027-01-01", 6: "2027-01-01"}

    def test_no_more_goes_at_once_than_is_allowed_and_the_rest_is_due_again_at_once(self) -> None:
        events = [event(seq, "2026-01-01", "-analytics") for seq in range(5, 10)]
        now_ms = ms("2027-01-01")
        part = plan(self.policies, now_ms, *events, at_most=2)
        assert part.due == (5, 6)
        assert part.next_ms == now_ms
        assert plan(self.policies, now_ms, *events[2:]).due == (7, 8, 9)


def test_a_report_counts_by_type_purpose_and_month() -> None:
    events = [event(5, "2026-01-31", "+a -b"), event(6, "2026-02-01", "+a"), event(7, "2026-02-28", by="notice.seen")]
    assert counts(events) == {
        ("consent.given", "a", "2026-01"): 1,
        ("consent.given", "b", "2026-01"): 1,
        ("consent.given", "a", "2026-02"): 1,
        ("notice.seen", "-", "2026-02"): 1,
    }
