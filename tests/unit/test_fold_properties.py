"""The fold and the decision against a naive replay, over random histories of random sites."""

from __future__ import annotations

from random import Random
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ledger.core import fold as fold_module
from ledger.core.decide import (
    EMPTY_STATE,
    Evaluator,
    Mark,
    Outcome,
    Recorded,
    State,
    decide,
    decide_history,
    fold,
)
from ledger.core.document import Controller, PolicyVersion, Purpose, SiteDocument
from ledger.core.duration import DAY_MS
from ledger.core.encoding import encode_time
from ledger.core.event import Event, Type
from ledger.core.fold import decode_state, encode_state
from ledger.core.policy import PolicyHistory, Published
from tests.devices import stored
from tests.unit.naive_replay import Naive, Question, replay, replay_history
from tests.unit.random_histories import (
    ACCOUNTS,
    CASES,
    HISTORIES,
    ME,
    OTHER,
    PURPOSES,
    SEEDS,
    START_MS,
    STORIES,
    Case,
    Story,
    day,
    period,
    random_case,
    random_document,
    random_event,
    random_history,
)


def settings(examples: int) -> hypothesis_settings:
    """So many examples, however slow the machine is."""
    return hypothesis_settings(max_examples=examples, deadline=None)


def same(outcome: Outcome, naive: Naive) -> bool:
    return naive == Naive(
        outcome.decision,
        outcome.reason,
        outcome.seq,
        outcome.regime,
        outcome.ask,
        outcome.notify,
        outcome.conflict,
        outcome.conditional,
    )


def agrees(case: Case, outcome: Outcome, naive: Naive) -> bool:
    """Where events deny all but one name of a purpose, and others all but another, a denial too many may be kept."""
    if same(outcome, naive):
        return True
    named: set[tuple[str, ...]] = set()
    for event in [*case.events, *(event for events in case.accounts.values() for event in events)]:
        if "*" in event.event.decisions:
            named.add(tuple(sorted(name for name in ("a", "o") if name in event.event.decisions)))
    return case.purpose == "a" and len(named - {()}) > 1 and outcome.decision == "denied"


def account_of(state: State, accounts: dict[str, list[Recorded]]) -> State | None:
    return None if state.account is None else fold(EMPTY_STATE, accounts[state.account])


def answer(
    published: tuple[Published, ...], state: State, purpose: str, ask: Question, account: State | None = None
) -> Outcome:
    return decide(
        PolicyHistory(published),
        state,
        purpose,
        at_ms=ask.at_ms,
        region=ask.region,
        gpc=ask.gpc,
        known_seq=ask.known_seq,
        account=account,
        marks=ask.marks,
    )


def answer_now(case: Case, ask: Question | None = None) -> Outcome:
    """The answer from the states, all of whose acts count."""
    state = fold(EMPTY_STATE, case.events)
    return answer(case.published, state, case.purpose, ask or case.ask, account_of(state, case.accounts))


def answer_past(case: Case) -> Outcome:
    published, events, accounts, purpose, ask = case
    return decide_history(
        PolicyHistory(published),
        events,
        purpose,
        at_ms=ask.at_ms,
        region=ask.region,
        gpc=ask.gpc,
        known_seq=ask.known_seq,
        account_events=accounts,
        marks=ask.marks,
    )


@settings(1_500)
@given(CASES)
def test_a_decision_from_the_state_equals_a_naive_replay_of_all_events(case: Case) -> None:
    naive = replay(case.published, case.events, case.purpose, case.ask, case.accounts)
    assert agrees(case, answer_now(case), naive)


@settings(1_500)
@given(CASES)
def test_a_decision_about_the_past_equals_a_naive_replay_of_what_was_known(case: Case) -> None:
    naive = replay_history(case.published, case.events, case.purpose, case.ask, case.accounts)
    assert agrees(case, answer_past(case), naive)


@settings(100)
@given(HISTORIES, st.data())
def test_the_state_is_a_function_of_the_set_of_events(events: list[Recorded], data: st.DataObject) -> None:
    once = encode_state(fold(EMPTY_STATE, events))
    repeated = data.draw(
        st.permutations(events + data.draw(st.lists(st.sampled_from(events)) if events else st.just([])))
    )
    state, rest = EMPTY_STATE, list(repeated)
    while rest:
        batch = data.draw(st.integers(1, len(rest)))
        state = decode_state(encode_state(fold(state, rest[:batch])))
        rest = rest[batch:]
    assert encode_state(state) == once


@settings(300)
@given(CASES, st.data())
def test_any_order_repetition_or_split_of_the_entries_gives_the_same_answer_at_every_time(
    case: Case, data: st.DataObject
) -> None:
    def mixed(events: list[Recorded]) -> list[Recorded]:
        again = data.draw(st.lists(st.sampled_from(events), max_size=3)) if events else []
        return list(data.draw(st.permutations(events + again)))

    other = case._replace(
        events=mixed(case.events), accounts={name: mixed(events) for name, events in case.accounts.items()}
    )
    for half_weeks in (0, 9, 21, 40, 60):
        ask = case.ask._replace(at_ms=START_MS + half_weeks * 7 * DAY_MS // 2)
        assert answer_past(case._replace(ask=ask)) == answer_past(other._replace(ask=ask))
    assert answer_now(case) == answer_now(other)


@settings(600)
@given(CASES, STORIES, SEEDS)
def test_what_is_recorded_later_never_changes_an_answer_about_what_was_known(
    case: Case, later: Story, seed: int
) -> None:
    """Events, links, choices for accounts, versions of the policy, and marks."""
    draw = Random(seed)
    known_seq = draw.randint(3, 15)
    known = case._replace(ask=case.ask._replace(known_seq=known_seq))

    def after(events: list[Recorded]) -> list[Recorded]:
        return [event._replace(seq=event.seq + known_seq) for event in events]

    known_policies = tuple(entry for entry in case.published if entry.seq <= known_seq)
    latest_ms = max((entry.published_ms for entry in known_policies), default=START_MS)
    policy = Published(known_seq + 1, latest_ms, b"", random_document(draw, "later"))
    marks = tuple(Mark("*", day(draw), None, known_seq + 1 + index) for index in range(2))
    grown = known._replace(
        published=(*known_policies, policy),
        events=[*after(later.events), *case.events],
        accounts={name: [*case.accounts[name], *after(later.accounts[name])] for name in ACCOUNTS},
        ask=known.ask._replace(marks=(*marks, *known.ask.marks)),
    )
    assert answer_past(known) == answer_past(grown)


@settings(500)
@given(CASES)
def test_the_state_says_the_same_as_the_history_once_every_act_counts(case: Case) -> None:
    events = [*case.events, *(event for events in case.accounts.values() for event in events)]
    at_ms = max([case.ask.at_ms, *(event.recorded_ms for event in events)])
    case = case._replace(ask=case.ask._replace(known_seq=None, at_ms=at_ms))
    assert answer_now(case) == answer_past(case)


@settings(300)
@given(CASES, st.lists(CASES, max_size=6))
def test_an_evaluator_answers_many_visitors_as_if_each_were_alone(case: Case, others: list[Case]) -> None:
    """With the regions, signals, accounts and marks of each."""
    evaluator = Evaluator(
        PolicyHistory(case.published), case.purpose, at_ms=case.ask.at_ms, known_seq=case.ask.known_seq
    )
    for other in others:
        ask = case.ask._replace(region=other.ask.region, gpc=other.ask.gpc, marks=other.ask.marks)
        state = fold(EMPTY_STATE, other.events)
        account = account_of(state, other.accounts)
        alone = answer(case.published, state, case.purpose, ask, account)
        assert evaluator.decide(state, ask.region, ask.gpc, account, ask.marks) == alone


@settings(700)
@given(CASES, st.lists(st.integers(0, 800), max_size=8))
def test_an_answer_is_the_same_until_its_valid_until_and_another_from_then_on(case: Case, half_days: list[int]) -> None:
    now, ask = answer_now(case), case.ask
    until_ms = now.valid_until_ms
    moments = [ask.at_ms + half_day * DAY_MS // 2 for half_day in half_days]
    if until_ms is not None:
        assert until_ms > ask.at_ms
        then = answer_now(case, ask._replace(at_ms=until_ms))
        assert (then.decision, then.reason) != (now.decision, now.reason)
        moments += [until_ms - 1, *(START_MS + half_week * 7 * DAY_MS // 2 for half_week in range(0, 60, 2))]
    for moment in moments:
        if ask.at_ms <= moment and (until_ms is None or moment < until_ms):
            then = answer_now(case, ask._replace(at_ms=moment))
            assert (then.decision, then.reason) == (now.decision, now.reason)


@settings(100)
@given(CASES)
def test_time_alone_never_turns_a_denial_by_a_person_into_a_grant_of_consent(case: Case) -> None:
    """The purpose keeps its name and needs nothing else, for other purposes have their own time."""
    documents = [entry.document for entry in case.published]
    if any(found.alias_of or found.needs for document in documents for found in document.purposes.values()):
        return
    case = case._replace(ask=case.ask._replace(marks=()))
    now = answer_now(case)
    later = answer_now(case, case.ask._replace(at_ms=case.ask.at_ms + 4_000 * DAY_MS))
    if now.reason in {"refused", "withdrawn"}:
        assert later.reason in {"refused", "withdrawn", "not_required", "unknown_purpose"}


@settings(500)
@given(CASES, st.integers(0, 1), st.integers(0, 30))
def test_a_later_denial_always_wins_whatever_its_clock_says(case: Case, kind: int, ahead: int) -> None:
    """Without `sentAt`, or with one beyond the window, a denial counts when it is recorded."""
    events = [*case.events, *(event for events in case.accounts.values() for event in events)]
    recorded_ms = max((event.recorded_ms for event in events), default=START_MS)
    denial = Event(
        id="denial",
        site="site.example",
        type="consent.withdrawn",
        visitor=ME,
        decisions={"*": "denied"} if kind else {case.purpose: "denied"},
        action="withdraw",
        occurred_at=encode_time(START_MS - ahead * DAY_MS),
        sent_at=encode_time(START_MS + 8 * DAY_MS) if kind else None,
    )
    outcome = answer_now(case._replace(events=[*case.events, stored(1_000, recorded_ms, denial)]))
    barred = any(not found.withdrawable for entry in case.published for found in entry.document.purposes.values())
    if barred:
        assert outcome.decision == "denied" or outcome.reason in {"withdrawal_barred", "not_required"}
    else:
        policy_alone = {"no_policy", "unknown_purpose", "not_required"}
        assert outcome.reason in {"withdrawn", "refused", "suppressed"} | policy_alone


@settings(500)
@given(CASES, SEEDS)
def test_the_ledgers_own_events_about_lapses_change_no_answer(case: Case, seed: int) -> None:
    draw = Random(seed)

    def with_lapses(events: list[Recorded]) -> list[Recorded]:
        lapses = [
            stored(
                1_000 + draw.randint(0, 10_000),
                day(draw),
                Event(
                    id="lapse",
                    site="site.example",
                    type=draw.choice(("consent.expired", "consent.invalidated")),
                    visitor=ME,
                    authentication="ledger",
                    lapsed={draw.choice(PURPOSES): 3},
                    account=draw.choice((None, *ACCOUNTS)),
                    occurred_at=encode_time(day(draw)),
                ),
            )
            for _ in range(draw.randint(1, 4))
        ]
        mixed = [*events, *lapses]
        draw.shuffle(mixed)
        return mixed

    told = case._replace(
        events=with_lapses(case.events),
        accounts={name: with_lapses(events) for name, events in case.accounts.items()},
        ask=case.ask._replace(known_seq=None),
    )
    untold = case._replace(ask=told.ask)
    assert answer_past(told) == answer_past(untold)
    assert encode_state(fold(EMPTY_STATE, told.events)) == encode_state(fold(EMPTY_STATE, case.events))


@settings(300)
@given(CASES, SEEDS)
def test_any_stored_event_at_all_can_be_folded_and_asked_about(case: Case, seed: int) -> None:
    """Also one with members that its type does not have, and with times that are in no calendar."""
    draw = Random(seed)
    odd = [
        stored(
            seq,
            day(draw),
            random_event(
                draw,
                seq,
                draw.choice(((), PURPOSES)),
                type=draw.choice(get_args(Type)),
                account=draw.choice((None, *ACCOUNTS)),
                occurred_at=draw.choice((None, "2026-13-45T25:61:00.000Z", "0001-01-01T00:00:00.000Z")),
                sent_at=draw.choice((None, "9999-12-31T23:59:59.999Z", "2026-02-30T00:00:00.000Z")),
            ),
        )
        for seq in range(200, 206)
    ]
    outcome = answer_past(case._replace(events=[*case.events, *odd], accounts=dict.fromkeys(ACCOUNTS, odd)))
    state = fold(EMPTY_STATE, odd)
    assert decode_state(encode_state(state)) == state
    assert outcome.decision in {"granted", "denied"}


@settings(500)
@given(CASES, STORIES)
def test_an_account_that_the_visitor_is_not_linked_to_now_has_no_say(case: Case, other: Story) -> None:
    state = fold(EMPTY_STATE, case.events, until_ms=case.ask.at_ms)
    ask = case.ask._replace(known_seq=None)
    changed = {
        name: case.accounts[name] if name == state.account else [*case.accounts[name], *other.accounts[name]]
        for name in ACCOUNTS
    }
    assert answer_past(case._replace(ask=ask)) == answer_past(case._replace(ask=ask, accounts=changed))


@settings(300)
@given(CASES)
def test_every_answer_can_be_explained_and_names_nobody(case: Case) -> None:
    ask = case.ask
    evaluator = Evaluator(PolicyHistory(case.published), case.purpose, at_ms=ask.at_ms, known_seq=ask.known_seq)
    state = fold(EMPTY_STATE, case.events)
    account = account_of(state, case.accounts)
    outcome = evaluator.decide(state, ask.region, ask.gpc, account, ask.marks)
    events = [*case.events, *(event for events in case.accounts.values() for event in events)]
    for known in ((), events):
        said = evaluator.explain(state, ask.region, ask.gpc, account, ask.marks, known)
        text = "\n".join(said)
        assert f"So the answer is {outcome.decision}, for the reason {outcome.reason}." in said
        assert f"Rule {outcome.reason}" in text
        assert outcome.seq is None or f"entry {outcome.seq}" in text or outcome.reason == "suppressed"
        assert not any(name in text for name in (ME, OTHER, *ACCOUNTS))
        assert "None" not in text


@settings(100)
@given(st.integers(-400, 400), st.integers(1, 5_000), st.lists(st.integers(0, 7 * 24 * 3600), max_size=4), st.data())
def test_a_retried_grant_never_beats_a_withdrawal_made_after_it(
    clock_days: int, gap_seconds: int, tries: list[int], data: st.DataObject
) -> None:
    """One of a grant's tries is stored, maybe the last, long after the withdrawal; `sentAt` is each try's own.

    The way to the server takes less than lies between the two acts, and the visitor's clock is off by any amount.
    """

    def tried(seq: int, made_s: int, sent_s: int, answer_: str) -> Recorded:
        way_ms = data.draw(st.integers(0, gap_seconds * 1000 - 1))
        event = Event(
            id=str(seq),
            site="site.example",
            type="consent.given" if answer_ == "granted" else "consent.withdrawn",
            visitor="v" * 22,
            decisions={"a": answer_},  # type: ignore[dict-item]
            action="settings",
            policy_version="1",
            occurred_at=encode_time(START_MS + clock_days * DAY_MS + made_s * 1000),
            sent_at=encode_time(START_MS + clock_days * DAY_MS + sent_s * 1000),
        )
        return stored(seq, START_MS + sent_s * 1000 + way_ms, event)

    grant = tried(data.draw(st.sampled_from([1, 9])), 0, data.draw(st.sampled_from([0, *tries])), "granted")
    withdrawal = tried(5, gap_seconds, gap_seconds, "denied")
    state = fold(EMPTY_STATE, data.draw(st.permutations([grant, withdrawal])))
    published = (Published(0, START_MS - DAY_MS, b"", _one_purpose()),)
    for days in (0, 1, 8, 30):
        outcome = answer(published, state, "a", Question(START_MS + days * DAY_MS + gap_seconds * 2000))
        assert (outcome.decision, outcome.reason) == ("denied", "withdrawn")


def _one_purpose() -> SiteDocument:
    return SiteDocument(
        site="site.example",
        controller=Controller(name="c"),
        languages=("en",),
        origins=("https://site.example",),
        policy=PolicyVersion(version="1", effective_at=encode_time(START_MS - DAY_MS), url="https://site.example/"),
        purposes={"a": Purpose(title={"en": "a"}, description={"en": "a"})},
        renew_after=period("P12M"),
    )


NAMES = ("a", "b", "c", "o", "t", "u")


class TestTheBoundOnPurposes:
    """With room for two purposes, so that small histories go beyond it."""

    @pytest.fixture(autouse=True)
    def _room_for_two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fold_module, "MAX_TRACKED_PURPOSES", 2)

    @settings(100)
    @given(st.builds(lambda seed: random_history(Random(seed), NAMES), SEEDS), st.data())
    def test_the_state_stays_a_function_of_the_set_of_events(self, events: list[Recorded], data: st.DataObject) -> None:
        shuffled = data.draw(st.permutations([*events, *events]))
        cut = data.draw(st.integers(0, len(shuffled)))
        state = fold(decode_state(encode_state(fold(EMPTY_STATE, shuffled[:cut]))), shuffled[cut:])
        assert encode_state(state) == encode_state(fold(EMPTY_STATE, events))
        assert len(state.purposes) <= 2

    @settings(1_000)
    @given(st.builds(random_case, SEEDS, st.just(NAMES)))
    def test_what_does_not_fit_is_denied_and_what_fits_is_exact(self, case: Case) -> None:
        published, events, _, purpose, ask = case
        case = case._replace(accounts={name: [] for name in ACCOUNTS})
        outcome = answer_now(case)
        naive = replay(published, events, purpose, ask, case.accounts)
        named = sorted({name for event in events for name in event.event.decisions if name != "*"})
        asked = [entry.document.purposes[purpose] for entry in published if purpose in entry.document.purposes]
        alone = not any(found.needs or found.alias_of for found in asked)
        if len(named) <= 2 or (purpose in named[:2] and alone):
            assert agrees(case, outcome, naive)
        else:
            # A grant that was forgotten may be the one after which a denial counted, though an older grant was barred.
            assert outcome.decision == "denied" or naive.decision == "granted" or outcome.reason == "withdrawal_barred"


def test_a_hostile_visitor_cannot_grow_the_state() -> None:
    def denials(seq: int) -> Recorded:
        decisions = {f"{'x' * 58}{seq:03d}{index:03d}": "denied" for index in range(64)}
        event = Event(
            id=str(seq),
            site="s.example",
            type="consent.refused",
            visitor="v" * 22,
            decisions=decisions,  # type: ignore[arg-type]
            action="api",
        )
        return stored(seq, START_MS + seq, event)

    state = fold(EMPTY_STATE, map(denials, range(100)))
    assert len(state.purposes) == fold_module.MAX_TRACKED_PURPOSES
    assert len(encode_state(state)) < 16_384
    for purpose in ("analytics", "x" * 64):
        assert answer((Published(0, 0, b"", _with(purpose)),), state, purpose, Question(START_MS)).reason == "refused"


def _with(purpose: str) -> SiteDocument:
    document = _one_purpose()
    policy = msgspec.structs.replace(document.policy, effective_at=encode_time(0))
    return msgspec.structs.replace(document, policy=policy, purposes={purpose: document.purposes["a"]})
