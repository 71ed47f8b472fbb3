"""What goes, what stays, and what takes the place of what goes: no erasure makes a "yes" of a "no"."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from random import Random

from hypothesis import given
from hypothesis import settings as hypothesis_settings

from ledger.core.decide import EMPTY_STATE, Evaluator, Mark, Outcome, Recorded, fold
from ledger.core.duration import DAY_MS, Duration, parse_duration
from ledger.core.erasing import Kept, MarkOf, Plan, events_hash, evidence_of, links_to, plan, shares
from ledger.core.policy import PolicyHistory
from tests.unit.random_histories import ACCOUNTS, ME, OTHER, SEEDS, START_MS, Case, loosened, random_case
from tests.unit.scenario import event, ms, version

ANNA = "a" * 32
MINE, HERS = b"m" * 16, bytes.fromhex(ANNA)
NOW = ms("06-01")


def period(text: str) -> Duration:
    duration = parse_duration(text)
    assert duration is not None
    return duration


TERM = period("P3Y")
UNTIL = TERM.after(NOW)
HASH = "0" * 64
ACCEPTANCE = {"title": {"en": "Terms"}, "description": {"en": "Terms"}, "kind": "acceptance", "document": HASH}
POLICIES = PolicyHistory(
    (version("1", "01-01", purposes={"terms": ACCEPTANCE | {"retention": "P1Y"}, "oath": ACCEPTANCE}),)
)


def planned(
    *events: Recorded,
    under: bytes = MINE,
    whole: Collection[bytes] = (MINE,),
    beside: Mapping[bytes, Collection[bytes]] | None = None,
    now_ms: int = NOW,
) -> Plan:
    return plan(
        {under: events}, POLICIES, whole=whole, beside=beside or {}, above={}, now_ms=now_ms, last_seq=99, term=TERM
    )


def marks(found: Plan) -> list[tuple[bytes, str, int, int]]:
    return [(subject, mark.purpose, mark.set_ms, mark.seq) for subject, mark in found.marks]


class TestMarks:
    def test_a_refusal_leaves_a_mark_where_silence_would_grant(self) -> None:
        found = planned(event(5, "02-01", "-analytics -marketing"))
        assert found == Plan((5,), (), (MarkOf(MINE, Mark("analytics", ms("02-01"), UNTIL, 5)),))

    def test_a_denial_of_everything_is_a_mark_of_everything(self) -> None:
        found = planned(event(5, "02-01", "-analytics"), event(6, "03-01", "-*"))
        assert marks(found) == [(MINE, "*", ms("03-01"), 6)]

    def test_a_denial_beneath_a_later_grant_leaves_its_mark_too(self) -> None:
        found = planned(event(5, "02-01", "-analytics"), event(6, "03-01", "+analytics"))
        assert marks(found) == [(MINE, "analytics", ms("02-01"), 5)]

    def test_a_denial_by_a_signal_leaves_one(self) -> None:
        assert marks(planned(event(5, "02-01", "-analytics", by="gpc"))) == [(MINE, "analytics", ms("02-01"), 5)]

    def test_a_grant_leaves_nothing(self) -> None:
        assert planned(event(5, "02-01", "+analytics +marketing")).marks == ()

    def test_where_others_grants_stay_every_denial_leaves_one_whatever_the_regime(self) -> None:
        found = planned(event(5, "02-01", "-marketing", account=ANNA), under=HERS, whole=())
        assert marks(found) == [(HERS, "marketing", ms("02-01"), 5)]

    def test_an_accounts_denials_are_marked_for_the_browsers_that_they_had_held_for(self) -> None:
        told = event(5, "02-01", "-marketing", account=ANNA)
        found = planned(told, under=HERS, whole=(HERS,), beside={HERS: (MINE,)})
        assert marks(found) == [(MINE, "marketing", ms("02-01"), 5)]


class TestWhatLawWantsKept:
    def test_an_acceptance_stays_for_its_term_and_nothing_else_does(self) -> None:
        found = planned(event(5, "02-01", "+terms"), event(6, "03-01", "+analytics"), event(7, "03-02", "+oath"))
        assert found.goes == (6, 7)
        assert found.kept == (Kept(5, ms("2027-02-01"), ("terms",)),)

    def test_once_its_term_is_over_it_goes(self) -> None:
        assert planned(event(5, "02-01", "+terms"), now_ms=ms("2027-02-01")).goes == (5,)

    def test_what_else_was_granted_with_it_is_granted_no_more(self) -> None:
        found = planned(event(5, "02-01", "+terms +marketing"))
        assert (found.goes, marks(found)) == ((), [(MINE, "marketing", NOW, 99)])

    def test_a_withdrawal_that_goes_leaves_its_mark_against_a_grant_that_stays(self) -> None:
        found = planned(event(5, "02-01", "+terms +marketing"), event(6, "03-01", "-marketing -terms", by="withdraw"))
        assert found.goes == (6,)
        assert marks(found) == [(MINE, "marketing", NOW, 99), (MINE, "terms", ms("03-01"), 6)]


class TestTheOrder:
    def test_denials_go_last_and_all_else_oldest_first(self) -> None:
        found = planned(
            event(5, "02-01", "-analytics"),
            event(6, "03-01", "+analytics -marketing"),
            event(7, "02-15", "+marketing"),
            event(8, "04-01", by="account.linked", account=ANNA),
            event(9, "05-01", "-*", by="withdraw"),
        )
        assert found.goes == (7, 6, 8, 5, 9)

    def test_a_link_that_an_erased_one_had_ended_goes_with_it(self) -> None:
        other = "b" * 32
        own = [
            event(5, "02-01", by="account.linked", account=other),
            event(6, "03-01", by="account.linked", account=ANNA),
            event(7, "04-01", by="account.linked", account=other),
            event(8, "05-01", "+analytics"),
        ]
        assert [one.seq for one in links_to(ANNA, own)] == [5, 6]
        assert links_to("c" * 32, own) == []


class TestEntries:
    def test_entries_mix_people_and_hold_no_more_than_they_may(self) -> None:
        people = [Plan((1, 2)), Plan(()), Plan((3, 4, 5, 6)), Plan((7,))]
        found = shares(people, limit=3)
        assert [[(share.plan, share.seqs, share.first, share.last) for share in entry] for entry in found] == [
            [(0, (1, 2), True, True), (2, (3,), True, False)],
            [(2, (4, 5, 6), False, True)],
            [(3, (7,), True, True)],
        ]

    def test_a_batchs_evidence_depends_on_which_requests_there_were_alone(self) -> None:
        one, other = b"1" * 32, b"2" * 32
        assert evidence_of([one, other]) == evidence_of([other, one, one]) != evidence_of([one])
        assert events_hash([3, 1]) == events_hash([1, 3]) != events_hash([1])


# --- whatever anybody did ---------------------------------------------------------------------------------------------

LATE_MS = START_MS + 300 * DAY_MS
"""After everything that anybody does."""
BY_A_DENIAL = {"refused", "withdrawn", "suppressed", "conflict"}
SUBJECTS = {ME: b"1" * 16, OTHER: b"2" * 16}


def decided(
    case: Case,
    own: Iterable[Recorded],
    accounts: Mapping[str, Iterable[Recorded]],
    found: Sequence[MarkOf],
    who: str,
    policies: PolicyHistory | None = None,
    at_ms: int = LATE_MS,
) -> Outcome:
    """What is answered of a browser by everything that is there, and the marks of it and of its account."""
    state = fold(EMPTY_STATE, own)
    account = None if state.account is None else fold(EMPTY_STATE, accounts[state.account])
    held = {SUBJECTS[who], None if state.account is None else bytes.fromhex(state.account)}
    evaluator = Evaluator(policies or PolicyHistory(case.published), case.purpose, at_ms=at_ms)
    return evaluator.decide(state, case.ask.region, case.ask.gpc, account, [m.mark for m in found if m.subject in held])


def left(events: Iterable[Recorded], gone: Collection[int]) -> list[Recorded]:
    return [one for one in events if one.seq not in gone]


@given(SEEDS)
@hypothesis_settings(max_examples=400, deadline=None)
def test_who_was_denied_by_an_act_is_denied_once_it_is_erased(seed: int) -> None:
    case = random_case(seed)
    theirs = {
        bytes.fromhex(name): [one for one in found if one.event.visitor == ME] for name, found in case.accounts.items()
    }
    account = fold(EMPTY_STATE, case.events).account
    above = () if account is None else case.accounts[account]
    found = plan(
        {SUBJECTS[ME]: case.events} | theirs,
        PolicyHistory(case.published),
        whole=(SUBJECTS[ME],),
        beside={},
        above={SUBJECTS[ME]: above},
        now_ms=LATE_MS,
        last_seq=99,
        term=TERM,
    )
    linked = [event(2, "01-01", by="account.linked", account=ACCOUNTS[0], device=OTHER)]
    whole = {name: left(events, found.goes) for name, events in case.accounts.items()}
    for who, own, rest in ((ME, case.events, left(case.events, found.goes)), (OTHER, linked, linked)):
        before = decided(case, own, case.accounts, (), who)
        if before.reason in BY_A_DENIAL:
            assert decided(case, rest, whole, found.marks, who).decision == "denied"


@given(SEEDS)
@hypothesis_settings(max_examples=400, deadline=None)
def test_who_was_denied_for_an_account_is_denied_once_that_is_erased(seed: int) -> None:
    case = random_case(seed)
    name = Random(seed).choice(ACCOUNTS)
    links = links_to(name, case.events)
    beside = {bytes.fromhex(name): (SUBJECTS[ME],)} if fold(EMPTY_STATE, case.events).account == name else {}
    found = plan(
        {bytes.fromhex(name): case.accounts[name], SUBJECTS[ME]: links},
        PolicyHistory(case.published),
        whole=(bytes.fromhex(name),),
        beside=beside,
        above={},
        now_ms=LATE_MS,
        last_seq=99,
        term=TERM,
    )
    before = decided(case, case.events, case.accounts, (), ME)
    rest = {account: left(events, found.goes) for account, events in case.accounts.items()}
    if before.reason in BY_A_DENIAL:
        assert decided(case, left(case.events, found.goes), rest, found.marks, ME).decision == "denied"


@given(SEEDS)
@hypothesis_settings(max_examples=400, deadline=None)
def test_half_of_a_person_says_no_more_than_the_whole(seed: int) -> None:
    case = random_case(seed)
    own = [one for one in case.events if not one.event.type.startswith("account.")]
    found = plan(
        {SUBJECTS[ME]: own},
        PolicyHistory(case.published),
        whole=(SUBJECTS[ME],),
        beside={},
        above={},
        now_ms=LATE_MS,
        last_seq=99,
        term=TERM,
    )
    if decided(case, own, {}, (), ME).reason in BY_A_DENIAL:
        for count in range(len(found.goes) + 1):
            outcome = decided(case, left(own, found.goes[:count]), {}, found.marks, ME)
            assert outcome.decision == "denied", count


@given(SEEDS)
@hypothesis_settings(max_examples=200, deadline=None)
def test_where_every_denial_is_remembered_no_later_version_makes_a_yes_of_one_that_was_erased(seed: int) -> None:
    case = random_case(seed)
    if not case.published:
        return
    policies = loosened(case.published, LATE_MS + DAY_MS)
    own = [one for one in case.events if not one.event.type.startswith("account.")]
    found = plan(
        {SUBJECTS[ME]: own},
        policies.known(999),
        whole=(SUBJECTS[ME],),
        beside={},
        above={},
        now_ms=LATE_MS,
        last_seq=99,
        term=TERM,
    )
    later = (policies, LATE_MS + 100 * DAY_MS)
    if decided(case, own, {}, (), ME, *later).reason in BY_A_DENIAL:
        assert decided(case, left(own, found.goes), {}, found.marks, ME, *later).decision == "denied"
