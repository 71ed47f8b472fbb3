"""The fold and the decision against a naive replay, over random histories of random sites."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.core import fold as fold_module
from ledger.core.decide import EMPTY_STATE, Evaluator, Mark, Outcome, Recorded, State, decide, decide_history, fold
from ledger.core.document import Controller, PolicyVersion, Purpose, ReaskAfter, SiteDocument
from ledger.core.duration import DAY_MS, Duration, parse_duration
from ledger.core.encoding import encode_time
from ledger.core.event import Answer, Event
from ledger.core.fold import decode_state, encode_state
from ledger.core.policy import PolicyHistory, Published
from ledger.core.regions import Regime
from tests.unit.naive_replay import Naive, Question, replay, replay_history

START_MS = 1_769_817_600_000  # 2026-01-31, so that months have ends to be cut to
PURPOSES = ("a", "b", "n", "never-offered")
REGIMES: tuple[Regime, ...] = ("opt-in", "opt-out", "exempt")
REGIONS = (None, "KZ", "US")  # the naive replay knows exact countries only
MATERIAL: tuple[bool | tuple[str, ...], ...] = (True, False, False, False, False, ("a",))
SEEDS = st.integers(0, 2**64 - 1)
"""Histories are drawn from a seeded generator, not member by member: it is a hundred times faster."""


def period(text: str) -> Duration:
    duration = parse_duration(text)
    assert duration is not None
    return duration


PERIODS = tuple(map(period, ("P1M", "P2M", "P4M", "P30D", "P1D")))


def day(draw: Random, first: int = 0, last: int = 40) -> int:
    """A time in half weeks, so that ties are frequent."""
    return START_MS + draw.randint(first, last) * 7 * DAY_MS // 2


def regimes(draw: Random, *keys: str) -> dict[str, Regime]:
    return {key: draw.choice(REGIMES) for key in keys if draw.random() < 0.5}


def random_purpose(draw: Random, name: str) -> Purpose:
    return Purpose(
        title={"en": name},
        description={"en": name},
        required=name == "n",
        in_use=draw.random() < 0.8,
        removed_in="x" if draw.random() < 0.05 else None,
        regimes=regimes(draw, "default", "KZ"),
        renew_after=draw.choice((None, *PERIODS)),
    )


def random_policies(draw: Random) -> tuple[Published, ...]:
    count = draw.choice((0, 1, 2, 2, 3, 3, 4, 4))
    seqs = sorted(draw.sample(range(13), count))
    times = sorted(day(draw, -8, 25) for _ in range(count))
    return tuple(
        Published(seq, published_ms, b"", random_document(draw, str(index)))
        for index, (seq, published_ms) in enumerate(zip(seqs, times, strict=True))
    )


def random_document(draw: Random, version: str) -> SiteDocument:
    return SiteDocument(
        site="site.example",
        controller=Controller(name="c"),
        languages=("en",),
        origins=("https://site.example",),
        policy=PolicyVersion(
            version=version,
            effective_at=encode_time(day(draw, -90, 25)),
            url="https://site.example/",
            material=draw.choice(MATERIAL),
        ),
        purposes={name: random_purpose(draw, name) for name in draw.choice(["abn", "abn", "abn", "an", "bn", "ab"])},
        renew_after=draw.choice(PERIODS),
        reask_after=ReaskAfter(refusal=draw.choice((None, *PERIODS))),
        regimes=regimes(draw, "default", "US"),
    )


def random_history(draw: Random, names: Sequence[str] = PURPOSES) -> list[Recorded]:
    times = sorted(day(draw) for _ in range(draw.randint(0, 7)))
    return [Recorded(seq, recorded_ms, random_event(draw, str(seq), names)) for seq, recorded_ms in enumerate(times, 3)]


def random_event(draw: Random, event_id: str, names: Sequence[str]) -> Event:
    answers: tuple[Answer, ...] = draw.choice([("granted", "denied"), ("granted",), ("granted",), ("denied",)])
    decisions = {name: draw.choice(answers) for name in draw.sample(names, draw.randint(0, 3))}
    if not decisions or draw.random() < 0.1:
        decisions["*"] = "denied"
    clocks = draw.choice(["none", "occurred", "sent", "both", "both"])
    return Event(
        id=event_id,
        site="site.example",
        type="consent.given" if "granted" in decisions.values() else "consent.refused",
        visitor="v" * 22,
        decisions=decisions,
        action=draw.choice(("customize", "customize", "gpc", "import")),
        policy_version=draw.choice((None, "0", "0", "0", "1", "1", "2", "3")),
        region=draw.choice(REGIONS),
        gpc=draw.random() < 0.5,
        occurred_at=encode_time(day(draw)) if clocks in ("occurred", "both") else None,
        sent_at=encode_time(day(draw)) if clocks in ("sent", "both") else None,
    )


def random_question(draw: Random) -> Question:
    return Question(
        at_ms=day(draw, 0, 60),
        region=draw.choice(REGIONS),
        gpc=draw.random() < 0.2,
        known_seq=draw.choice((None, None, None, draw.randint(3, 12))),
        suppressed=draw.random() < 0.05,
    )


class Case(NamedTuple):
    published: tuple[Published, ...]
    events: list[Recorded]
    purpose: str
    ask: Question


def random_case(seed: int, names: Sequence[str] = PURPOSES) -> Case:
    draw = Random(seed)
    return Case(
        random_policies(draw),
        random_history(draw, names),
        draw.choice((*names, "a", "a", "a", "b", "b")),
        random_question(draw),
    )


CASES = st.builds(random_case, SEEDS)
HISTORIES = st.builds(lambda seed: random_history(Random(seed)), SEEDS)


def same(outcome: Outcome, naive: Naive) -> bool:
    return (outcome.decision, outcome.reason, outcome.seq, outcome.regime) == naive


def answer(published: tuple[Published, ...], state: State, purpose: str, ask: Question) -> Outcome:
    return decide(
        PolicyHistory(published),
        state,
        purpose,
        at_ms=ask.at_ms,
        region=ask.region,
        gpc=ask.gpc,
        known_seq=ask.known_seq,
        marks=(Mark("*", 0, None, -1),) if ask.suppressed else (),
    )


def answer_past(published: tuple[Published, ...], events: Sequence[Recorded], purpose: str, ask: Question) -> Outcome:
    return decide_history(
        PolicyHistory(published),
        events,
        purpose,
        at_ms=ask.at_ms,
        region=ask.region,
        gpc=ask.gpc,
        known_seq=ask.known_seq,
        marks=(Mark("*", 0, None, -1),) if ask.suppressed else (),
    )


@settings(max_examples=3_000)
@given(CASES)
def test_a_decision_from_the_state_equals_a_naive_replay_of_all_events(
    case: Case,
) -> None:
    published, events, purpose, ask = case
    outcome = answer(published, fold(EMPTY_STATE, events), purpose, ask)
    assert same(outcome, replay(published, events, purpose, ask))


@settings(max_examples=3_000)
@given(CASES)
def test_a_decision_about_the_past_equals_a_naive_replay_of_what_was_known(
    case: Case,
) -> None:
    published, events, purpose, ask = case
    outcome = answer_past(published, events, purpose, ask)
    assert same(outcome, replay_history(published, events, purpose, ask))


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


@settings(max_examples=500)
@given(CASES, HISTORIES)
def test_events_recorded_later_never_change_an_answer_about_what_was_known(case: Case, later: list[Recorded]) -> None:
    published, events, purpose, ask = case
    known_seq = max((event.seq for event in events), default=3)
    ask = ask._replace(known_seq=known_seq)
    after = [event._replace(seq=event.seq + known_seq) for event in later]
    assert answer_past(published, events, purpose, ask) == answer_past(published, [*after, *events], purpose, ask)


@given(CASES)
def test_the_state_says_the_same_as_the_history_once_every_act_counts(
    case: Case,
) -> None:
    published, events, purpose, ask = case
    ask = ask._replace(known_seq=None, at_ms=max([ask.at_ms, *(event.recorded_ms for event in events)]))
    assert answer(published, fold(EMPTY_STATE, events), purpose, ask) == answer_past(published, events, purpose, ask)


@settings(max_examples=300)
@given(CASES, st.lists(st.tuples(HISTORIES, st.sampled_from(REGIONS), st.booleans()), max_size=6))
def test_an_evaluator_answers_many_visitors_as_if_each_were_alone(
    case: Case, visitors: list[tuple[list[Recorded], str | None, bool]]
) -> None:
    evaluator = Evaluator(
        PolicyHistory(case.published), case.purpose, at_ms=case.ask.at_ms, known_seq=case.ask.known_seq
    )
    for events, region, gpc in visitors:
        state = fold(EMPTY_STATE, events)
        alone = answer(case.published, state, case.purpose, case.ask._replace(region=region, gpc=gpc, suppressed=False))
        assert evaluator.decide(state, region, gpc) == alone


@settings(max_examples=1_000)
@given(CASES, st.lists(st.integers(0, 400), max_size=8))
def test_an_answer_is_the_same_until_its_valid_until_and_another_from_then_on(case: Case, days: list[int]) -> None:
    published, events, purpose, ask = case
    state = fold(EMPTY_STATE, events)
    now = answer(published, state, purpose, ask)
    until_ms = now.valid_until_ms
    if until_ms is not None:
        assert until_ms > ask.at_ms
        then = answer(published, state, purpose, ask._replace(at_ms=until_ms))
        assert (then.decision, then.reason) != (now.decision, now.reason)
        days = [*days, (until_ms - ask.at_ms - 1) // DAY_MS]
    for day in days:
        later_ms = ask.at_ms + day * DAY_MS
        if until_ms is None or later_ms < until_ms:
            then = answer(published, state, purpose, ask._replace(at_ms=later_ms))
            assert (then.decision, then.reason) == (now.decision, now.reason)


@given(CASES)
def test_time_alone_never_turns_a_denial_by_a_person_into_a_grant_of_consent(
    case: Case,
) -> None:
    published, events, purpose, ask = case
    state = fold(EMPTY_STATE, events)
    now = answer(published, state, purpose, ask)
    later = answer(published, state, purpose, ask._replace(at_ms=ask.at_ms + 4_000 * DAY_MS))
    if now.reason in {"refused", "withdrawn"} and state.acts(purpose).signal is None:
        assert later.reason in {"refused", "withdrawn", "not_required", "unknown_purpose"}


@settings(max_examples=500)
@given(CASES, st.integers(0, 1), st.integers(0, 30))
def test_a_later_denial_always_wins_whatever_its_clock_says(case: Case, kind: int, ahead: int) -> None:
    """Without `sentAt`, or with one beyond the window, a denial counts when it is recorded."""
    published, events, purpose, ask = case
    recorded_ms = max((event.recorded_ms for event in events), default=START_MS)
    denial = Event(
        id="denial",
        site="site.example",
        type="consent.withdrawn",
        visitor="v" * 22,
        decisions={"*": "denied"} if kind else {purpose: "denied"},
        action="withdraw",
        occurred_at=encode_time(START_MS - ahead * DAY_MS),
        sent_at=encode_time(START_MS + 8 * DAY_MS) if kind else None,
    )
    state = fold(EMPTY_STATE, [*events, Recorded(1_000, recorded_ms, denial)])
    outcome = answer(published, state, purpose, ask)
    assert outcome.reason in {"withdrawn", "refused", "no_policy", "unknown_purpose", "not_required"}


@given(st.integers(-400, 400), st.integers(1, 5_000), st.lists(st.integers(0, 7 * 24 * 3600), max_size=4), st.data())
def test_a_retried_grant_never_beats_a_withdrawal_made_after_it(
    clock_days: int, gap_seconds: int, tries: list[int], data: st.DataObject
) -> None:
    """One of a grant's tries is stored, maybe the last, long after the withdrawal; `sentAt` is each try's own.

    The way to the server takes less than lies between the two acts, and the visitor's clock is off by any amount.
    """

    def stored(seq: int, made_s: int, sent_s: int, answer_: str) -> Recorded:
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
        return Recorded(seq, START_MS + sent_s * 1000 + way_ms, event)

    grant = stored(data.draw(st.sampled_from([1, 9])), 0, data.draw(st.sampled_from([0, *tries])), "granted")
    withdrawal = stored(5, gap_seconds, gap_seconds, "denied")
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


NAMES = ("a", "b", "c", "d", "e", "f")


class TestTheBoundOnPurposes:
    """With room for two purposes, so that small histories go beyond it."""

    @pytest.fixture(autouse=True)
    def _room_for_two(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fold_module, "MAX_TRACKED_PURPOSES", 2)

    @given(st.builds(lambda seed: random_history(Random(seed), NAMES), SEEDS), st.data())
    def test_the_state_stays_a_function_of_the_set_of_events(self, events: list[Recorded], data: st.DataObject) -> None:
        shuffled = data.draw(st.permutations([*events, *events]))
        cut = data.draw(st.integers(0, len(shuffled)))
        state = fold(decode_state(encode_state(fold(EMPTY_STATE, shuffled[:cut]))), shuffled[cut:])
        assert encode_state(state) == encode_state(fold(EMPTY_STATE, events))
        assert len(state.purposes) <= 2

    @settings(max_examples=1_000)
    @given(st.builds(random_case, SEEDS, st.just(NAMES)))
    def test_what_does_not_fit_is_denied_and_what_fits_is_exact(self, case: Case) -> None:
        published, events, purpose, ask = case
        state = fold(EMPTY_STATE, events)
        outcome = answer(published, state, purpose, ask)
        naive = replay(published, events, purpose, ask)
        named = sorted({name for event in events for name in event.event.decisions if name != "*"})
        if purpose in named[:2] or len(named) <= 2:
            assert same(outcome, naive)
        elif naive.decision == "denied" or outcome.decision == "granted":
            assert outcome.decision == naive.decision


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
        return Recorded(seq, START_MS + seq, event)

    state = fold(EMPTY_STATE, map(denials, range(100)))
    assert len(state.purposes) == fold_module.MAX_TRACKED_PURPOSES
    assert len(encode_state(state)) < 16_384
    for purpose in ("analytics", "x" * 64):
        assert answer((Published(0, 0, b"", _with(purpose)),), state, purpose, Question(START_MS)).reason == "refused"


def _with(purpose: str) -> SiteDocument:
    document = _one_purpose()
    policy = msgspec.structs.replace(document.policy, effective_at=encode_time(0))
    return msgspec.structs.replace(document, policy=policy, purposes={purpose: document.purposes["a"]})
