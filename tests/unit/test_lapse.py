"""What lapses, against a site that is polled every day; and who follows the stream alone, against who asks."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ledger.core.decide import (
    EMPTY_STATE,
    Evaluator,
    Outcome,
    Recorded,
    State,
    decide,
    effective_ms,
    encode_state,
    fold,
)
from ledger.core.document import Controller, PolicyVersion, Purpose, SiteDocument
from ledger.core.duration import DAY_MS, Duration, parse_duration
from ledger.core.encoding import encode_time
from ledger.core.errors import Malformed
from ledger.core.event import Answer, Event, decode_event, encode_payload
from ledger.core.lapse import (
    NOTHING_TOLD,
    Lapse,
    Lapses,
    Told,
    decode_told,
    encode_told,
    fold_told,
    lapse_event,
)
from ledger.core.policy import PolicyHistory, Published
from tests.devices import stored

START_MS = 1_769_817_600_000
PURPOSES = ("a", "o", "b", "n")
"""`a` goes on with `o` in some versions, `n` is required in some."""
ENDED = ("expired", "policy_changed", "unknown_purpose")
DAYS = 40
ME = "v" * 22
SEEDS = st.integers(0, 2**64 - 1)


def settings(examples: int) -> hypothesis_settings:
    return hypothesis_settings(max_examples=examples, deadline=None)


def day(number: float) -> int:
    return START_MS + round(number * DAY_MS)


def days(number: int) -> Duration:
    duration = parse_duration(f"P{number}D")
    assert duration is not None
    return duration


def document(version: str = "1", effective: float = -100, **members: object) -> SiteDocument:
    """Three optional purposes that are asked for again after thirty days, and one that is required."""
    names = {name: Purpose(title={"en": name}, description={"en": name}, required=name == "n") for name in "abn"}
    plain = SiteDocument(
        site="site.example",
        controller=Controller(name="c"),
        languages=("en",),
        origins=("https://site.example",),
        policy=PolicyVersion(
            version=version, effective_at=encode_time(day(effective)), url="https://site.example/", material=False
        ),
        purposes=names,
        renew_after=days(30),
        regimes={"default": "opt-in"},
    )
    return msgspec.structs.replace(plain, **members)


def asking_again(version: str, effective: float = -100) -> SiteDocument:
    """A version that says that it is material."""
    plain = document(version, effective)
    return msgspec.structs.replace(plain, policy=msgspec.structs.replace(plain.policy, material=True))


def choice(seq: int, at: float, version: str | None = "1", account: str | None = None, **decisions: Answer) -> Recorded:
    """An event that is recorded when it is made; a purpose that is called `every` is `"*"`."""
    named = {("*" if name == "every" else name): answer for name, answer in decisions.items()}
    event = Event(
        id=f"01980000-0000-7000-8000-{seq:012d}",
        site="site.example",
        type="consent.given" if "granted" in named.values() else "consent.refused",
        visitor=ME,
        decisions=named,
        action="customize",
        policy_version=version,
        account=account,
    )
    return stored(seq, day(at), event)


def published(*documents: SiteDocument, at: tuple[float, ...] = ()) -> PolicyHistory:
    """Each at its day (the first long ago), with the seqs 0, 1, and so on."""
    moments = (*at, *(-100.0 for _ in documents))
    return PolicyHistory(
        tuple(Published(seq, day(moments[seq]), bytes(32), found) for seq, found in enumerate(documents))
    )


def lapses_of(policies: PolicyHistory, at: float, *events: Recorded, told: Told = NOTHING_TOLD) -> list[Lapse]:
    return Lapses(policies).untold(fold(EMPTY_STATE, events), told, day(at))


def due_of(policies: PolicyHistory, at: float, *events: Recorded, told: Told = NOTHING_TOLD) -> float | None:
    due_ms = Lapses(policies).due_ms(fold(EMPTY_STATE, events), told, day(at))
    return None if due_ms is None else (due_ms - START_MS) / DAY_MS


class TestWhatLapses:
    def test_a_grant_expires_by_its_age(self) -> None:
        events = [choice(10, 0, a="granted", b="denied"), choice(11, 5, b="granted")]
        policies = published(document())
        assert due_of(policies, 6, *events) == 30
        assert lapses_of(policies, 29.999, *events) == []
        assert lapses_of(policies, 30, *events) == [Lapse("consent.expired", day(30), (("a", 10),))]
        assert due_of(policies, 30, *events, told={"a": 10}) == 35
        assert due_of(policies, 35, *events, told={"a": 10, "b": 11}) is None

    def test_what_lapses_at_one_moment_is_told_in_one_event(self) -> None:
        events = [choice(10, 0, a="granted"), choice(11, 5, b="granted")]
        policies = published(document(), asking_again("2", 20), at=(-100, 10))
        assert due_of(policies, 6, *events) == 20
        assert lapses_of(policies, 20, *events) == [Lapse("consent.invalidated", day(20), (("a", 10), ("b", 11)))]

    def test_a_version_that_changes_nothing_leaves_the_age_alone(self) -> None:
        policies = published(document(), document("2", 20), at=(-100, 10))
        assert due_of(policies, 6, choice(10, 0, a="granted")) == 30

    def test_a_version_that_asks_again_sooner_makes_it_lapse_sooner(self) -> None:
        sooner = document("2", 20, renew_after=days(25))
        policies = published(document(), sooner, at=(-100, 10))
        # The shorter period is itself no reason to ask again before it is over.
        expected = 25 if not policies.material(1, "a") else 20
        assert due_of(policies, 6, choice(10, 0, a="granted")) == expected

    def test_a_purpose_that_is_dropped_ends_its_grants(self) -> None:
        kept = document().purposes
        dropped = document("2", 20, purposes={**kept, "a": msgspec.structs.replace(kept["a"], removed_in="2")})
        policies = published(document(), dropped, at=(-100, 10))
        assert lapses_of(policies, 21, choice(10, 0, a="granted")) == [
            Lapse("consent.invalidated", day(20), (("a", 10),))
        ]

    def test_a_purpose_that_goes_on_under_another_name_lapses_under_that(self) -> None:
        kept = document().purposes
        renamed = document(
            "2",
            20,
            purposes={
                **kept,
                "a": msgspec.structs.replace(kept["a"], removed_in="2"),
                "c": msgspec.structs.replace(kept["a"], alias_of="a"),
            },
        )
        policies = published(document(), renamed, at=(-100, 10))
        grant = choice(10, 0, a="granted")
        assert lapses_of(policies, 20, grant) == [Lapse("consent.invalidated", day(20), (("a", 10),))]
        assert due_of(policies, 20, grant, told={"a": 10}) == 30
        assert lapses_of(policies, 40, grant, told={"a": 10}) == [Lapse("consent.expired", day(30), (("c", 10),))]

    def test_a_purpose_that_becomes_required_needs_no_grant(self) -> None:
        kept = document().purposes
        needed = document("2", 20, purposes={**kept, "a": msgspec.structs.replace(kept["a"], required=True)})
        policies = published(document(), needed, at=(-100, 10))
        assert lapses_of(policies, 50, choice(10, 0, a="granted")) == []
        assert due_of(policies, 6, choice(10, 0, a="granted")) is None

    @pytest.mark.parametrize("denial", [{"a": "denied"}, {"every": "denied"}])
    def test_a_grant_that_was_denied_since_is_not_told(self, denial: dict[str, Answer]) -> None:
        events = [choice(10, 0, a="granted"), choice(11, 5, None, **denial)]
        policies = published(document(), asking_again("2", 20), at=(-100, 10))
        assert due_of(policies, 6, *events) is None
        assert lapses_of(policies, 50, *events) == []

    def test_a_grant_that_was_renewed_lapses_later(self) -> None:
        events = [choice(10, 0, a="granted"), choice(11, 20, a="granted")]
        assert due_of(published(document()), 21, *events) == 50

    def test_a_grant_that_never_held_is_told_where_it_counts_first(self) -> None:
        policies = published(document(), asking_again("2", -50))
        assert lapses_of(policies, 3, choice(10, 0, a="granted")) == [
            Lapse("consent.invalidated", day(0), (("a", 10),))
        ]

    def test_an_imported_grant_that_is_too_old_is_told_as_of_when_it_was_over(self) -> None:
        grant = choice(10, 0, a="granted")
        event = msgspec.structs.replace(grant.event, action="import", occurred_at=encode_time(day(-70)))
        assert lapses_of(published(document()), 0, grant._replace(event=event)) == [
            Lapse("consent.expired", day(-40), (("a", 10),))
        ]

    def test_a_signal_counts_once_the_grant_under_it_is_over_and_that_is_told(self) -> None:
        grant, denial = choice(10, 0, a="granted"), choice(11, 5, None, every="denied")
        events = [
            grant._replace(event=msgspec.structs.replace(grant.event, gpc=True)),
            denial._replace(event=msgspec.structs.replace(denial.event, action="gpc")),
        ]
        policies = published(document())
        assert decide(policies, fold(EMPTY_STATE, events), "a", at_ms=day(31), region=None).reason == "withdrawn"
        assert lapses_of(policies, 31, *events) == [Lapse("consent.expired", day(30), (("a", 10),))]
        assert lapses_of(policies, 31, grant, events[1]) == []

    def test_a_withdrawal_that_is_barred_stays_one_when_the_grant_is_over(self) -> None:
        kept = document().purposes
        bound = document(purposes={**kept, "a": msgspec.structs.replace(kept["a"], withdrawable=False)})
        events = [choice(10, 0, a="granted"), choice(11, 5, None, a="denied")]
        assert lapses_of(published(bound), 31, *events) == []

    def test_an_attestation_is_told_of_and_what_needs_it_is_not(self) -> None:
        kept = document().purposes
        adult = document(
            purposes={
                **kept,
                "a": msgspec.structs.replace(kept["a"], needs=("b",), renew_after=days(90)),
                "b": msgspec.structs.replace(kept["b"], kind="attestation"),
            }
        )
        grants = choice(10, 0, a="granted", b="granted")
        state = fold(EMPTY_STATE, [grants])
        assert decide(published(adult), state, "a", at_ms=day(31), region=None).reason == "age_unconfirmed"
        assert lapses_of(published(adult), 31, grants) == [Lapse("consent.expired", day(30), (("b", 10),))]
        assert due_of(published(adult), 31, grants, told={"b": 10}) == 90

    def test_whoever_only_denied_is_never_looked_at(self) -> None:
        assert due_of(published(document()), 0, choice(10, 0, None, every="denied")) is None

    def test_without_a_policy_nothing_lapses(self) -> None:
        assert lapses_of(PolicyHistory(), 50, choice(10, 0, a="granted")) == []
        assert due_of(PolicyHistory(), 50, choice(10, 0, a="granted")) is None


class TestTheEvent:
    def test_it_names_the_grants_and_the_version_and_is_well_formed(self) -> None:
        policies = published(document(), asking_again("2", 20), at=(-100, 10))
        grant = choice(10, 0, a="granted", account="ab" * 16)
        (lapse,) = lapses_of(policies, 21, grant)
        event = lapse_event(policies, lapse, grant.event, "01980000-0000-8000-8000-000000000001")
        assert decode_event(encode_payload(event)) == event
        assert event == Event(
            id="01980000-0000-8000-8000-000000000001",
            site="site.example",
            type="consent.invalidated",
            visitor=ME,
            authentication="ledger",
            policy_version="2",
            account="ab" * 16,
            lapsed={"a": 10},
            occurred_at=encode_time(day(20)),
        )

    def test_of_an_expiry_it_names_no_version(self) -> None:
        grant = choice(10, 0, a="granted")
        (lapse,) = lapses_of(published(document()), 31, grant)
        event = lapse_event(published(document()), lapse, grant.event, "01980000-0000-8000-8000-000000000001")
        assert (event.policy_version, event.account, event.occurred_at) == (None, None, encode_time(day(30)))
        assert decode_event(encode_payload(event)) == event


class TestWhatIsTold:
    def test_it_is_the_same_in_any_order_and_read_back(self) -> None:
        events = [telling(seq, Lapse("consent.expired", day(3), (("a", seq - 5), ("b", 2)))) for seq in (9, 12, 10)]
        told = fold_told(NOTHING_TOLD, events)
        assert told == {"a": 7, "b": 2}
        assert fold_told(fold_told(NOTHING_TOLD, events[::-1]), events) == told
        assert decode_told(encode_told(told)) == told

    def test_nothing_takes_no_room(self) -> None:
        assert fold_told(NOTHING_TOLD, [choice(3, 0, a="granted")]) is NOTHING_TOLD
        assert encode_told(NOTHING_TOLD) is None
        assert decode_told(None) == {}

    @pytest.mark.parametrize("data", [b"", b"junk", b"\x81\xa1a\xa1b", b"\x81\xa1a\x01\x00"])
    def test_other_bytes_are_refused(self, data: bytes) -> None:
        with pytest.raises(Malformed):
            decode_told(data)


def telling(seq: int, lapse: Lapse, at_ms: int = START_MS) -> Recorded:
    event = Event(
        id=f"01980000-0000-8000-8000-{seq:012d}",
        site="site.example",
        type=lapse.type,
        visitor=ME,
        authentication="ledger",
        lapsed=dict(lapse.grants),
        occurred_at=encode_time(lapse.at_ms),
    )
    return stored(seq, at_ms, event)


# --- a site that is lived in, day by day ----------------------------------------------------------------------------


class World:
    """One visitor of a site whose policy changes, at random; what happens on a day is recorded at its beginning."""

    def __init__(self, draw: Random, *, late: bool = False, signals: bool = False) -> None:
        self._draw, self._late, self._signals = draw, late, signals
        self._documents = [self._document(str(n)) for n in range(draw.randint(1, 5))]
        self._published: list[Published] = []
        self.policies = PolicyHistory()
        self.events: list[Recorded] = []
        self.told: list[tuple[int, Lapse]] = []
        self.seq = 0
        self.now = -1

    def _document(self, version: str) -> SiteDocument:
        draw = self._draw
        purposes = {
            name: Purpose(
                title={"en": name},
                description={"en": name},
                required=draw.random() < (0.6 if name == "n" else 0.05),
                in_use=draw.random() < 0.9,
                removed_in="x" if draw.random() < 0.1 else None,
                renew_after=draw.choice((None, None, days(2), days(15))),
                retention=None,
            )
            for name in draw.choice(("aob", "aobn", "abn", "obn"))
        }
        if "o" in purposes and "a" in purposes and draw.random() < 0.3:
            purposes["o"] = msgspec.structs.replace(purposes["o"], removed_in=version)
            purposes["a"] = msgspec.structs.replace(purposes["a"], alias_of="o")
        policy = PolicyVersion(
            version=version,
            effective_at=encode_time(day(draw.randint(-5, DAYS - 10))),
            url="https://site.example/",
            material=draw.choice((True, False, False, False, ("a",), ("b",))),
            not_material=dict.fromkeys(purposes, "so the lawyers say") if draw.random() < 0.7 else {},
        )
        renew, regime = days(draw.choice((1, 5, 10, 30))), draw.choice(("opt-in", "opt-out"))
        return document(purposes=purposes, policy=policy, renew_after=renew, regimes={"default": regime})

    @property
    def state(self) -> State:
        return fold(EMPTY_STATE, self.events)

    @property
    def told_by_events(self) -> Told:
        return fold_told(NOTHING_TOLD, self.events)

    def tomorrow(self) -> None:
        """One more day: perhaps a version is published, perhaps the visitor acts."""
        self.now += 1
        draw = self._draw
        if self._documents and (self.now == 0 or draw.random() < 0.1):
            self._published.append(Published(self._next(), day(self.now), bytes(32), self._documents.pop(0)))
            self.policies = PolicyHistory(tuple(self._published))
        if draw.random() < 0.2:
            self._act()

    def _next(self) -> int:
        self.seq += 1
        return self.seq

    def _act(self) -> None:
        draw = self._draw
        citable = [each for each in self._published if each.effect_ms <= day(self.now)]
        gpc = self._signals and draw.random() < 0.4
        if citable and draw.random() < 0.7:
            cited = draw.choice(citable).document
            offered = [name for name in cited.purposes if cited.offers(name)]
            chosen = draw.sample(offered, draw.randint(0, len(offered)))
            decisions: dict[str, Answer] = dict.fromkeys(chosen, "granted")
            found = choice(self._next(), self.now, cited.version, **decisions) if chosen else None
        else:
            names = draw.sample(PURPOSES, draw.randint(1, 2))
            found = choice(self._next(), self.now, None, **dict.fromkeys(draw.choice((names, ["every"])), "denied"))
            if gpc:
                found = found._replace(event=msgspec.structs.replace(found.event, action="gpc"))
        if found is None:
            return
        changes: dict[str, object] = {"gpc": gpc}
        if self._late and draw.random() < 0.4:
            age = draw.choice((1, 3, 6))
            changes |= {"occurred_at": encode_time(day(self.now - age)), "sent_at": encode_time(day(self.now))}
        self.events.append(found._replace(event=msgspec.structs.replace(found.event, **changes)))

    def tell(self) -> list[Lapse]:
        """What the lapser does: it says when it would look, looks, and records what it found."""
        lapses, state, told, now_ms = Lapses(self.policies), self.state, self.told_by_events, day(self.now)
        found = lapses.untold(state, told, now_ms)
        assert (lapses.due_ms(state, told, now_ms) == now_ms) == bool(found)
        for lapse in found:
            seq = self._next()
            self.events.append(telling(seq, lapse, now_ms))
            self.told.append((self.now, lapse))
        assert lapses.untold(state, self.told_by_events, now_ms) == []
        return found

    def ask(self, purpose: str, at: float | None = None) -> Outcome:
        at_ms = day(self.now if at is None else at)
        return Evaluator(self.policies, purpose, at_ms=at_ms).decide(self.state, None)

    def latest(self, purpose: str) -> tuple[int, Answer] | None:
        """The seq and answer of the newest act that names a purpose, or all: denials first on one day."""
        acts = [
            (each.recorded_ms, answer == "denied", each.seq, answer)
            for each in self.events
            if (answer := each.event.decisions.get(purpose, each.event.decisions.get("*"))) is not None
        ]
        return None if not acts else max(acts)[2:]


@given(SEEDS)
@settings(60)
def test_what_is_told_is_what_polling_shows(seed: int) -> None:
    """Each day each purpose is asked for: a grant that is no longer the answer has to be told that day, once."""
    world = World(Random(seed))
    shown: dict[str, int] = {}
    for _ in range(DAYS):
        world.tomorrow()
        expected = set()
        for purpose in PURPOSES:
            outcome, latest = world.ask(purpose), world.latest(purpose)
            grant = outcome.seq if outcome.reason in ("expired", "policy_changed") else None
            if outcome.reason == "unknown_purpose" and latest is not None and latest[1] == "granted":
                grant = latest[0]
            if grant is not None and shown.get(purpose, -1) < grant:
                shown[purpose] = grant
                kind = "consent.expired" if outcome.reason == "expired" else "consent.invalidated"
                expected.add((kind, purpose, grant))
        found = world.tell()
        assert {(lapse.type, purpose, seq) for lapse in found for purpose, seq in lapse.grants} == expected
        assert {lapse.at_ms for lapse in found} <= {day(world.now)}
    told = [(purpose, seq) for _, lapse in world.told for purpose, seq in lapse.grants]
    assert len(told) == len(set(told))


@given(SEEDS, st.booleans(), st.booleans())
@settings(30)
def test_decisions_are_the_same_without_the_events(seed: int, late: bool, signals: bool) -> None:
    world = World(Random(seed), late=late, signals=signals)
    for _ in range(DAYS):
        world.tomorrow()
        world.tell()
    told = [each for each in world.events if each.event.lapsed]
    without = [each for each in world.events if not each.event.lapsed]
    assert encode_state(fold(EMPTY_STATE, without)) == encode_state(world.state)
    at_ms = day(Random(seed).randint(-10, DAYS))
    assert fold(EMPTY_STATE, without, until_ms=at_ms) == fold(EMPTY_STATE, [*told, *without], until_ms=at_ms)


@given(SEEDS, st.booleans(), st.booleans())
@settings(60)
def test_a_lapser_that_comes_late_tells_what_still_stands_as_of_when_it_happened(
    seed: int, late: bool, signals: bool
) -> None:
    draw = Random(seed)
    world = World(draw, late=late, signals=signals)
    ended = (*ENDED, "withdrawn") if signals else ENDED
    for _ in range(DAYS):
        world.tomorrow()
        if draw.random() < 0.9:
            continue
        for lapse in world.tell():
            since = (lapse.at_ms - START_MS) / DAY_MS
            for purpose, seq in lapse.grants:
                assert all(world.ask(purpose, since + n).reason in ended for n in range(world.now - round(since) + 1))
                made = next(each for each in world.events if each.seq == seq)
                began = Evaluator(world.policies, purpose, at_ms=lapse.at_ms - 1).decide(world.state, None)
                another = purpose not in made.event.decisions or began.seq not in (seq, None)  # by another's name
                assert began.reason not in ended or since == made_at(made) or another


def made_at(recorded: Recorded) -> float:
    """On which day a grant counts first."""
    return (effective_ms(recorded, "granted") - START_MS) / DAY_MS


@given(SEEDS, st.booleans(), st.booleans())
@settings(60)
def test_a_row_is_looked_at_when_something_lapses_and_not_before(seed: int, late: bool, signals: bool) -> None:
    draw = Random(seed)
    world = World(draw, late=late, signals=signals)
    for _ in range(draw.randint(1, DAYS)):
        world.tomorrow()
        if draw.random() < 0.5:
            world.tell()
    lapses, state, told, now_ms = Lapses(world.policies), world.state, world.told_by_events, day(world.now)
    due_ms = lapses.due_ms(state, told, now_ms)
    if due_ms is None:
        assert all(lapses.untold(state, told, now_ms + n * DAY_MS) == [] for n in range(2 * DAYS))
    else:
        assert lapses.untold(state, told, due_ms) != []
        assert due_ms == now_ms or lapses.untold(state, told, due_ms - 1) == []
        assert due_ms == now_ms or {lapse.at_ms for lapse in lapses.untold(state, told, due_ms)} == {due_ms}


class Follower:
    """A consumer that knows nothing of policies and periods: it reads each event once, in the order of the log."""

    def __init__(self) -> None:
        self.holds: dict[str, int] = {}
        self._read = 0

    def read(self, events: list[Recorded]) -> None:
        for recorded in events[self._read :]:
            for purpose, answer in recorded.event.decisions.items():
                if answer == "granted":
                    self.holds[purpose] = recorded.seq
                elif purpose == "*":
                    self.holds = {name: seq for name, seq in self.holds.items() if name in recorded.event.decisions}
                else:
                    self.holds.pop(purpose, None)
            for purpose, seq in recorded.event.lapsed.items():
                if self.holds.get(purpose, seq + 1) <= seq:
                    del self.holds[purpose]
        self._read = len(events)


@given(SEEDS)
@settings(60)
def test_who_follows_the_stream_knows_what_asking_would_tell(seed: int) -> None:
    """Which grants hold, day by day. What the policy alone tells is that a purpose is required for now, or goes on with
    another's answers; and a grant that a later version takes up again stays ended for who was told so, to be safe."""
    world, follower = World(Random(seed)), Follower()
    for _ in range(DAYS):
        world.tomorrow()
        world.tell()
        follower.read(world.events)
        ended = {each for _, lapse in world.told for each in lapse.grants}
        for purpose in PURPOSES:
            outcome = world.ask(purpose)
            made = next((each for each in world.events if each.seq == outcome.seq), None)
            if made is not None and not {purpose, "*"} & set(made.event.decisions):
                continue  # an answer to the purpose that this one goes on with
            if purpose in follower.holds:
                assert outcome.reason in ("granted", "not_required")
                assert outcome.reason != "granted" or outcome.seq == follower.holds[purpose]
            elif outcome.reason == "granted":
                assert (purpose, outcome.seq) in ended
