"""The decision: may this visitor be processed for this purpose, at this time, as far as was known?

A pure function of policies, folded acts, marks and the question. The rules and their order are in core/rules; here they
are asked, and the answer gets its status and the time to which it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from ledger.core.explain import Explained, explain
from ledger.core.fold import (
    EMPTY_STATE,
    Recorded,
    State,
    decode_state,
    effective_ms,
    encode_state,
    fold,
    newer,
)
from ledger.core.policy import PolicyHistory
from ledger.core.question import Blocked, Mark, Question
from ledger.core.regions import Regime
from ledger.core.rules import Decision, Reason, Verdict, View, judge
from ledger.core.terms import Terms

__all__ = [
    "EMPTY_STATE",
    "Decision",
    "Evaluator",
    "Mark",
    "Outcome",
    "Reason",
    "Recorded",
    "State",
    "decide",
    "decide_history",
    "decode_state",
    "effective_ms",
    "encode_state",
    "fold",
]

_NONE_LINKED: Mapping[str, Iterable[Recorded]] = {}

Status = Literal[
    "ConsentGiven", "ConsentRefused", "ConsentWithdrawn", "ConsentExpired", "ConsentUnknown", "ConsentInvalidated"
]

_STATUS: dict[Reason, Status] = {
    "no_policy": "ConsentUnknown",
    "unknown_purpose": "ConsentUnknown",
    "erasure_pending": "ConsentUnknown",
    "restricted": "ConsentUnknown",
    "withdrawn": "ConsentWithdrawn",
    "refused": "ConsentRefused",
    "suppressed": "ConsentRefused",
    "conflict": "ConsentRefused",
    "gpc": "ConsentRefused",
    "policy_changed": "ConsentInvalidated",
    "expired": "ConsentExpired",
    "age_unconfirmed": "ConsentInvalidated",
    "withdrawal_barred": "ConsentGiven",
    "granted": "ConsentGiven",
    "never_asked": "ConsentUnknown",
}
"""W3C DPV's names. A default grant has none of them, for it is no consent."""


class Outcome(Struct, frozen=True):
    """The answer for one purpose; times in unix milliseconds.

    `decided_ms`, `policy_version` and `seq` are the winning act's: when it counts, what it cites, its entry (a mark's:
    the last one before it). Without an act, `policy_version` is the version in force. `ask`: the banner should be
    shown. `notify`: a version that the visitor has not acted under is to be announced. `valid_until_ms`: from then on
    decision or reason will be another even if nothing is recorded; None if time alone changes nothing. `conflict`: this
    browser and the account that it is linked to answered differently. `conditional`: the winning grant was the price
    of access.
    """

    decision: Decision
    status: Status | None
    reason: Reason
    regime: Regime | None = None
    ask: bool = False
    notify: bool = False
    decided_ms: int | None = None
    valid_until_ms: int | None = None
    policy_version: str | None = None
    seq: int | None = None
    conflict: bool = False
    conditional: bool = False


def decide(
    policies: PolicyHistory,
    state: State,
    purpose: str,
    *,
    at_ms: int,
    region: str | None,
    gpc: bool = False,
    known_seq: int | None = None,
    account: State | None = None,
    marks: Sequence[Mark] = (),
) -> Outcome:
    """The answer from a visitor's state, all of whose acts count; the arguments are those of `Evaluator`."""
    return Evaluator(policies, purpose, at_ms=at_ms, known_seq=known_seq).decide(state, region, gpc, account, marks)


def decide_history(
    policies: PolicyHistory,
    events: Iterable[Recorded],
    purpose: str,
    *,
    at_ms: int,
    region: str | None,
    gpc: bool = False,
    known_seq: int | None = None,
    account_events: Mapping[str, Iterable[Recorded]] = _NONE_LINKED,
    marks: Sequence[Mark] = (),
) -> Outcome:
    """The answer as of `at_ms`, from the events known at `known_seq` (inclusive): what is later does not count.

    `events` are the visitor's, its links among them; `account_events` are those of accounts, by keyed hash.
    """

    def state_of(recorded: Iterable[Recorded]) -> State:
        known = (one for one in recorded if known_seq is None or one.seq <= known_seq)
        return fold(EMPTY_STATE, known, until_ms=at_ms)

    state = state_of(events)
    account = None if state.account is None else state_of(account_events.get(state.account, ()))
    return Evaluator(policies, purpose, at_ms=at_ms, known_seq=known_seq).decide(state, region, gpc, account, marks)


class Evaluator:
    """`decide` for many visitors: what depends on policy, purpose and time alone is worked out once."""

    def __init__(self, policies: PolicyHistory, purpose: str, *, at_ms: int, known_seq: int | None = None) -> None:
        self._at_ms = at_ms
        self._known_seq = known_seq
        self._terms = Terms(policies.known(known_seq), purpose, at_ms)

    def decide(
        self,
        state: State,
        region: str | None,
        gpc: bool = False,
        account: State | None = None,
        marks: Sequence[Mark] = (),
        blocked: Blocked | None = None,
    ) -> Outcome:
        """The answer for one visitor. `region` is the asker's (None: unknown); `gpc`: the signal is on while this is
        asked; `account` is the state of the account that `state.account` names (None: it has none); `marks` are the
        visitor's and the account's; `blocked`: one of the two is.
        """
        return self._answer(self._question(state, region, gpc, account, marks, blocked))[0]

    def explain(
        self,
        state: State,
        region: str | None,
        gpc: bool = False,
        account: State | None = None,
        marks: Sequence[Mark] = (),
        events: Iterable[Recorded] = (),
        blocked: Blocked | None = None,
    ) -> tuple[str, ...]:
        """How `decide` comes to its answer, in sentences without a visitor id; the arguments are the same.

        With the events that the states were made of it also says why each act counts when it does.
        """
        question = self._question(state, region, gpc, account, marks, blocked)
        outcome, verdict, view = self._answer(question)
        terms, at_ms = self._terms, self._at_ms
        if view is None and terms.fixed is None:
            view = View(terms, question, at_ms, state.heard(terms.names))
        explained = Explained(
            terms, question, at_ms, self._known_seq, verdict, view, outcome.notify, outcome.valid_until_ms
        )
        return explain(explained, {event.seq: event for event in events})

    def _question(
        self,
        state: State,
        region: str | None,
        gpc: bool,
        account: State | None,
        marks: Sequence[Mark],
        blocked: Blocked | None,
    ) -> Question:
        known_seq = self._known_seq
        known = tuple(mark for mark in marks if known_seq is None or mark.seq <= known_seq) if marks else ()
        return Question(state, region, gpc, None if state.account is None else account, known, blocked)

    def _answer(self, question: Question) -> tuple[Outcome, Verdict, View | None]:
        terms, state, account = self._terms, question.state, question.account
        verdict, view = judge(terms, question, self._at_ms)
        act = verdict.act
        notify = False
        if terms.announces:
            last = newer(state.last, state.seen)
            notify = terms.is_news_to(last if account is None else newer(last, account.last))
        outcome = Outcome(
            verdict.decision,
            _status(verdict, view),
            verdict.reason,
            verdict.regime,
            verdict.ask,
            notify,
            None if act is None else act.effective_ms,
            _valid_until_ms(terms, question, verdict, view),
            terms.version if act is None else act.version,
            None if act is None else act.seq,
            view is not None and view.conflict,
            verdict.decision == "granted" and not verdict.by_default and act is not None and act.conditional,
        )
        return outcome, verdict, view


def _status(verdict: Verdict, view: View | None) -> Status | None:
    if verdict.by_default:
        return None
    if verdict.reason == "conflict" and view is not None and view.own is not None and view.own.grant is not None:
        return "ConsentWithdrawn"
    if verdict.reason == "age_unconfirmed" and verdict.act is None:
        return "ConsentUnknown"
    return _STATUS[verdict.reason]


def _valid_until_ms(terms: Terms, question: Question, verdict: Verdict, view: View | None) -> int | None:
    """The first known moment at which decision or reason changes: every moment at which something may is tried."""
    now, names = (verdict.decision, verdict.reason), terms.names
    settled = view is not None and view.settled
    while True:
        ends_ms = terms.ends_ms
        moment = None if view is None or settled else view.next_ms
        if moment is not None and (ends_ms is None or moment < ends_ms):
            if verdict.reason == "granted" and view is not None and moment == view.side.until_ms:
                return moment  # a grant that expires is certainly another answer
        elif ends_ms is None:
            return None
        else:
            moment, terms = ends_ms, terms.following(ends_ms)
            if settled and terms.fixed is None and terms.names == names:
                continue
        settled = False
        verdict, view = judge(terms, question, moment)
        if (verdict.decision, verdict.reason) != now:
            return moment
