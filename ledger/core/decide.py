"""The decision: may this visitor be processed for this purpose, at this time, as far as was known (DESIGN section 8).

A pure function of policies, folded acts and the question. The first rule that applies answers:

    no version in force                                          denied    no_policy
    a purpose that the version does not have, or has removed     denied    unknown_purpose
    a required purpose                                           granted   not_required
    the winning act is a denial                                  denied    withdrawn, or refused if nothing was granted
    a suppression mark                                           denied    suppressed
    a live GPC signal, and no winning grant made under one       denied    gpc
    the winning grant cites a version since replaced materially  default   policy_changed
    the winning grant is past its renewal                        default   expired
    a winning grant                                              granted   granted
    no act                                                       default   never_asked, or opt_out_default if granted

The winner is the act with the greatest (effective time, denial over grant, seq); a denial made by a GPC signal does not
beat a grant made under the signal while that grant holds. A default grants under opt-out and exempt, unless a denial
lies beneath or a GPC signal is live; where it grants there is no consent status, for it is no consent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from ledger.core.duration import Duration
from ledger.core.fold import (
    EMPTY_STATE,
    Act,
    Heard,
    Recorded,
    State,
    decode_state,
    effective_ms,
    encode_state,
    fold,
    newer,
)
from ledger.core.policy import PolicyHistory, Published
from ledger.core.regions import Regime, regime_in, strictest

__all__ = [
    "EMPTY_STATE",
    "Evaluator",
    "Mark",
    "Outcome",
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

Decision = Literal["granted", "denied"]
Reason = Literal[
    "no_policy",
    "unknown_purpose",
    "not_required",
    "withdrawn",
    "refused",
    "suppressed",
    "gpc",
    "policy_changed",
    "expired",
    "granted",
    "never_asked",
    "opt_out_default",
    "conflict",
    "withdrawal_barred",
    "age_unconfirmed",
]
Status = Literal[
    "ConsentGiven", "ConsentRefused", "ConsentWithdrawn", "ConsentExpired", "ConsentUnknown", "ConsentInvalidated"
]

_STATUS: dict[Reason, Status] = {
    "no_policy": "ConsentUnknown",
    "unknown_purpose": "ConsentUnknown",
    "withdrawn": "ConsentWithdrawn",
    "refused": "ConsentRefused",
    "suppressed": "ConsentRefused",
    "gpc": "ConsentRefused",
    "policy_changed": "ConsentInvalidated",
    "expired": "ConsentExpired",
    "granted": "ConsentGiven",
    "never_asked": "ConsentUnknown",
}
"""W3C DPV's names. A default grant has none of them."""


class Outcome(Struct, frozen=True):
    """The answer for one purpose; times in unix milliseconds.

    `decided_ms`, `policy_version` and `seq` are the winning act's: when it counts, what it cites, its entry. Without an
    act, `policy_version` is the version in force. `ask`: the banner should be shown. `notify`: a version that the
    visitor has not acted under is to be announced. `valid_until_ms`: from then on decision or reason will be another
    even if nothing is recorded; None if time alone changes nothing. `conflict`: this browser and the account that it is
    linked to answered differently. `conditional`: the winning grant was the price of access.
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


class Mark(NamedTuple):
    """A suppression mark: a denial of a purpose, or of all (`"*"`), that needs no event.

    It counts from `set_ms` until `until_ms` (None: for good); `seq` is the last entry before it was set, which says who
    knew of it.
    """

    purpose: str
    set_ms: int
    until_ms: int | None
    seq: int


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
        self._purpose = purpose
        self._terms = _Terms(policies.known(known_seq), purpose, at_ms)

    def decide(
        self,
        state: State,
        region: str | None,
        gpc: bool = False,
        account: State | None = None,
        marks: Sequence[Mark] = (),
    ) -> Outcome:
        """The answer for one visitor. `region` is the asker's (None: unknown); `gpc`: the signal is on while this is
        asked; `account` is the state of the account that `state.account` names; `marks` are the visitor's.
        """
        terms, at_ms = self._terms, self._at_ms
        suppressed = any(
            mark.purpose in ("*", self._purpose)
            and mark.set_ms <= at_ms
            and (mark.until_ms is None or at_ms < mark.until_ms)
            and (self._known_seq is None or mark.seq <= self._known_seq)
            for mark in marks
        )
        visitor = _Visitor(state.heard((self._purpose,)), region, gpc, suppressed)
        verdict = terms.judge(visitor, at_ms)
        granted_by_default = verdict.decision == "granted" and verdict.reason != "granted"
        act = verdict.act
        return Outcome(
            verdict.decision,
            None if granted_by_default else _STATUS[verdict.reason],
            verdict.reason,
            verdict.regime,
            verdict.ask,
            terms.announces_to(state.last),
            None if act is None else act.effective_ms,
            _valid_until_ms(terms, visitor, verdict),
            terms.version if act is None else act.version,
            None if act is None else act.seq,
        )

    def explain(
        self,
        state: State,
        region: str | None,
        gpc: bool = False,
        account: State | None = None,
        marks: Sequence[Mark] = (),
        events: Iterable[Recorded] = (),
    ) -> tuple[str, ...]:
        """How `decide` comes to its answer, in sentences without a visitor id; the arguments are the same.

        With the events that the state was made of it also says why each act counts when it does.
        """
        outcome = self.decide(state, region, gpc, account, marks)
        return (f"{outcome.decision}: {outcome.reason}",)


class _Visitor(NamedTuple):
    """One question: the acts that count, the asker's region, and the two things that lie outside the ledger."""

    acts: Heard
    region: str | None
    gpc: bool
    suppressed: bool


class _Verdict(NamedTuple):
    """What the rules say at one time. `until_ms`: when the winning grant lapses by age."""

    decision: Decision
    reason: Reason
    regime: Regime | None = None
    act: Act | None = None
    ask: bool = False
    until_ms: int | None = None


class _Standing(NamedTuple):
    """What became of a cited version: materially replaced, or the periods of which the shortest runs."""

    replaced: bool
    renewals: tuple[Duration, ...]


class _Terms:
    """What holds for one purpose from one version's effect to the next, or before the first."""

    def __init__(self, history: PolicyHistory, purpose: str, at_ms: int) -> None:
        self._history = history
        self._purpose = purpose
        self._index = index = bisect_right(history.effects_ms, at_ms) - 1
        self._in_force: Published | None = history.in_effect_order[index] if index >= 0 else None
        self._standings: dict[str | None, _Standing] = {}
        self._regimes: dict[str | None, Regime] = {}
        document = self._in_force.document if self._in_force else None
        self._regime_table = document.regimes_of(purpose) if document else {}
        self._following: _Terms | None = None
        self._without_act: _Verdict | None = None
        if document is None:
            self._without_act = _Verdict("denied", "no_policy")
        elif not document.offers(purpose):
            self._without_act = _Verdict("denied", "unknown_purpose")
        elif not document.asks(purpose):
            self._without_act = _Verdict("granted", "not_required")

    @property
    def version(self) -> str | None:
        return self._in_force.document.version if self._in_force else None

    @property
    def ends_ms(self) -> int | None:
        """When the next known version takes effect."""
        effects_ms = self._history.effects_ms
        following = self._index + 1
        return effects_ms[following] if following < len(effects_ms) else None

    def following(self, ends_ms: int) -> _Terms:
        """The terms from then on; of versions with one time of effect the last in order has the say."""
        if self._following is None:
            self._following = _Terms(self._history, self._purpose, ends_ms)
        return self._following

    def announces_to(self, last: Act | None) -> bool:
        """Whether the version in force took effect after the visitor's last act and the site announces its changes."""
        now = self._in_force
        return (
            now is not None
            and last is not None
            and now.document.announce_changes == "first-visit"
            and self._history.effects_ms[self._index] > last.effective_ms
            and now.document.version != last.version
        )

    def judge(self, visitor: _Visitor, at_ms: int) -> _Verdict:
        """The rules of the module's table, in their order."""
        if self._without_act is not None:
            return self._without_act
        acts, gpc = visitor.acts, visitor.gpc
        grant, denial = acts.grant, acts.denial
        lapse, until_ms = self._lapse(grant, at_ms)
        if acts.signal is not None and not (grant and grant.gpc and lapse is None and _beats(grant, denial)):
            denial = newer(denial, acts.signal)
        if denial is not None and not _beats(grant, denial):
            reason: Reason = "refused" if grant is None else "withdrawn"
            return _Verdict("denied", reason, self._regime(visitor, denial), denial, self._reask(denial, reason, at_ms))
        regime = self._regime(visitor, grant)
        if visitor.suppressed:
            return _Verdict("denied", "suppressed", regime, grant)
        if gpc and not (grant is not None and grant.gpc):
            return _Verdict("denied", "gpc", regime, grant, regime == "opt-in" if grant is None else lapse is not None)
        if grant is not None and lapse is None:
            return _Verdict("granted", "granted", regime, grant, False, until_ms)
        by_default: Decision = "denied" if regime == "opt-in" or denial is not None or gpc else "granted"
        if lapse is not None:
            return _Verdict(by_default, lapse, regime, grant, True)
        if by_default == "granted":
            return _Verdict("granted", "opt_out_default", regime)
        return _Verdict("denied", "never_asked", regime, None, True)

    def _lapse(self, grant: Act | None, at_ms: int) -> tuple[Literal["policy_changed", "expired"] | None, int | None]:
        """Why a grant no longer holds, if so, and when it expires."""
        if grant is None:
            return None, None
        standing = self._standings.get(grant.version)
        if standing is None:
            standing = self._standings[grant.version] = self._standing(grant.version)
        if standing.replaced:
            return "policy_changed", None
        until_ms = min(renewal.after(grant.effective_ms) for renewal in standing.renewals)
        return ("expired" if until_ms <= at_ms else None), until_ms

    def _standing(self, version: str | None) -> _Standing:
        """A grant that cites what was never published, or a version that did not ask, counts as materially replaced."""
        purpose, ordered = self._purpose, self._history.in_effect_order
        cited = None if version is None else self._history.order_of(version)
        if cited is None or not ordered[cited].document.asks(purpose):
            return _Standing(True, ())
        since = range(cited + 1, self._index + 1)
        if any(self._material(index) for index in since):
            return _Standing(True, ())
        renewals = {ordered[index].document.renewal_of(purpose) for index in (cited, self._index, *since)}
        return _Standing(False, tuple(renewals))

    def _material(self, index: int) -> bool:
        """Whether a version asks again: it says so, or it takes up a purpose that its predecessor did not use."""
        document, before = (self._history.in_effect_order[i].document for i in (index, index - 1))
        if document.material_for(self._purpose):
            return True
        used_before = before.asks(self._purpose) and before.purposes[self._purpose].in_use
        return document.offers(self._purpose) and document.purposes[self._purpose].in_use and not used_before

    def _regime(self, visitor: _Visitor, act: Act | None) -> Regime:
        asked = self._regime_at(visitor.region)
        return asked if act is None else strictest((asked, self._regime_at(act.region)))

    def _regime_at(self, region: str | None) -> Regime:
        regime = self._regimes.get(region)
        if regime is None:
            regime = self._regimes[region] = regime_in(self._regime_table, region)
        return regime

    def _reask(self, denial: Act, reason: Reason, at_ms: int) -> bool:
        if self._in_force is None:
            return False
        intervals = self._in_force.document.reask_after
        interval = intervals.withdrawal if reason == "withdrawn" else intervals.refusal
        return interval is not None and interval.after(denial.effective_ms) <= at_ms


def _beats(grant: Act | None, denial: Act | None) -> bool:
    """Whether a grant is the winner over a denial: only if it is truly later, for a tie goes to the denial."""
    return grant is not None and (denial is None or grant.effective_ms > denial.effective_ms)


def _valid_until_ms(terms: _Terms, visitor: _Visitor, verdict: _Verdict) -> int | None:
    """The first known moment at which decision or reason changes: a grant's age, or a version that takes effect."""
    now = (verdict.decision, verdict.reason)
    while True:
        ends_ms = terms.ends_ms
        if verdict.until_ms is not None and (ends_ms is None or verdict.until_ms < ends_ms):
            return verdict.until_ms
        if ends_ms is None:
            return None
        terms = terms.following(ends_ms)
        verdict = terms.judge(visitor, ends_ms)
        if (verdict.decision, verdict.reason) != now:
            return ends_ms
