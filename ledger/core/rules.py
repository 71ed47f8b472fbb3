"""The rules by which a visitor's acts become an answer: the table, and nothing around it.

The acts on a purpose are those that name it, those that name a purpose that it goes on with (`aliasOf`), and the
denials of `"*"`, which cover every optional purpose. While a browser is linked to an account, the choices made for the
account are acts beside its own. A suppression mark is a denial from the time it was set to the time it ends. Of all
these the **winner** is the one that counts latest; at one time a denial goes before a grant, then the later entry. Two
denials do not count against a grant:

    by signal   one that a GPC signal made, against an earlier grant that was made under the signal and still holds
    barred      one made after a grant that still holds, when the version that the grant cites was in force, where every
                version from that one to the one in force says that the purpose cannot be withdrawn
                (`withdrawable: false`); a mark is never barred

The first rule that applies answers:

    no version is in force                                     denied    no_policy
    the version in force lacks the purpose or has removed it   denied    unknown_purpose
    the purpose is required                                    granted   not_required
    what is on record is blocked                               denied    erasure_pending, or restricted
    the winner is a suppression mark                           denied    suppressed
    the winner is a denial                                     denied    withdrawn, or refused if nothing was granted
    the winner is the account's grant from another browser,
        and by this browser's own acts a denial would win      denied    conflict
    a GPC signal is on, the winner no grant made under one     denied    gpc
    the winner is a grant that cites nothing published, or a
        version that did not ask or was materially replaced,
        or since which one had not the purpose                 default   policy_changed
    the winner is a grant past its renewal                     default   expired
    the winner is a grant, and an attestation that it needs
        is not granted, nor was the grant a guardian's         denied    age_unconfirmed
    the winner is a grant against which a denial is barred     granted   withdrawal_barred
    the winner is a grant                                      granted   granted
    nobody answered                                            default   never_asked, or opt_out_default if granted

**Default**: opt-in denies; opt-out and exempt grant, unless a denial lies beneath, a GPC signal is on, or an
attestation that the purpose needs is not granted (`age_unconfirmed`). The regime is the strictest of the asker's region
and the winner's.

**Asking**: `ask` is true where nobody answered or a grant lapsed, and the default is not a grant that was never asked
for; after a denial, once its interval has passed; in a conflict; where an attestation is missing, if that is asked; and
of a guardian's grant, once the visitor has confirmed their age. A dismissal keeps the first of these away for a while.
A grant that was the price of access (`conditional`) is a grant like any other here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from ledger.core.fold import Act, Heard, newer
from ledger.core.question import Blocked, Mark, Question
from ledger.core.regions import Regime
from ledger.core.terms import Fixed, Interval, Lapse, Terms

Decision = Literal["granted", "denied"]
Reason = Literal[
    Fixed,
    Lapse,
    Blocked,
    "withdrawn",
    "refused",
    "suppressed",
    "conflict",
    "gpc",
    "age_unconfirmed",
    "withdrawal_barred",
    "granted",
    "never_asked",
    "opt_out_default",
]


class Verdict(NamedTuple):
    """What the rules say at one time. `act` is what the answer rests on; `by_default`: it is no consent."""

    decision: Decision
    reason: Reason
    regime: Regime | None = None
    act: Act | None = None
    ask: bool = False
    by_default: bool = False


class Side(NamedTuple):
    """Which act wins among some acts. `denial` is the newest that counts, be it above the grant or beneath it;
    `until_ms` is when the grant expires, where that was asked.
    """

    answer: Decision | None
    grant: Act | None
    denial: Act | None
    lapse: Lapse | None = None
    until_ms: int | None = None
    barred: Act | None = None


class Confirmation(NamedTuple):
    """Whether every attestation that a purpose needs is granted; if so, since when the last one is; if not, whether one
    of those that are missing is to be asked for. `next_ms` as in `View`.
    """

    confirmed: bool
    since_ms: int | None = None
    ask: bool = False
    next_ms: int | None = None


_NEEDS_NOTHING = Confirmation(True)


class View:
    """One question at one time, with what the rules ask of it; each is worked out once.

    `next_ms`, once the rules have answered: the first later moment at which one of these may change under the same
    version of the policy.
    """

    own: Side | None = None
    """Which act wins among the browser's own, where it is linked; `theirs` among those of the account."""
    theirs: Side | None = None
    conflict = False
    elsewhere = False
    """Whether a grant wins that was made for the account in another browser."""
    _confirmation: Confirmation | None = None

    def __init__(self, terms: Terms, question: Question, at_ms: int, own: Heard) -> None:
        """`own` is what the visitor's own state has to say."""
        self.terms, self.question, self.at_ms = terms, question, at_ms
        self.mark = _newest_mark(question.marks, terms.names, at_ms) if question.marks else None
        if question.account is None:
            self.heard = own
            self.side = self._weigh(own, self.mark)
            return
        theirs = question.account.heard(terms.names)
        self.heard = own.joined(theirs)
        self.side = self._weigh(self.heard, self.mark)
        self.own, self.theirs = self._weigh(own, None), self._weigh(theirs, None)
        answers = (self.own.answer, self.theirs.answer)
        self.conflict = None not in answers and answers[0] != answers[1]
        link, grant = question.state.link, self.side.grant
        self.elsewhere = (
            self.side.answer == "granted"
            and grant is not None
            and grant is theirs.grant
            and grant is not own.grant
            and (link is None or grant.device != link.device)
        )

    def _weigh(self, heard: Heard, mark: Act | None) -> Side:
        grant, denial = heard.grant, newer(heard.denial, mark)
        if grant is None:
            denial = newer(denial, heard.signal)
            return Side(None if denial is None else "denied", None, denial)
        lapse, until_ms = None, None
        wins = beats(grant, denial)
        if wins:
            lapse, until_ms = self.terms.lapse(grant, heard.name, self.at_ms)
        if heard.signal is not None and not (wins and grant.gpc and lapse is None):
            denial = newer(denial, heard.signal)
            wins = beats(grant, denial)
        if wins:
            return Side("granted", grant, denial, lapse, until_ms)
        if denial is not None and denial is not mark and self.terms.bars(grant, heard.name, denial):
            lapse, until_ms = self.terms.lapse(grant, heard.name, self.at_ms)
            if lapse is None and self.confirms(grant):
                if beats(grant, mark):
                    return Side("granted", grant, mark, None, until_ms, denial)
                return Side("denied", grant, mark, None, until_ms)
        return Side("denied", grant, denial, lapse, until_ms)

    @property
    def settled(self) -> bool:
        """Whether a person's denial, or a signal's, answers as long as the purpose is asked under the same names."""
        question, side = self.question, self.side
        return side.answer == "denied" and question.account is None and not question.marks and not self.terms.needs

    @property
    def confirmation(self) -> Confirmation:
        found = self._confirmation
        if found is None:
            found = self._confirmation = _confirm(self.terms, self.question, self.at_ms)
        return found

    def confirms(self, grant: Act | None) -> bool:
        """Whether nothing is missing that a grant, or a default, needs."""
        return not self.terms.needs or (grant is not None and grant.guardian) or self.confirmation.confirmed

    @property
    def next_ms(self) -> int | None:
        if self.own is None and self._confirmation is None and not self.question.marks:
            until_ms = self.side.until_ms
            return until_ms if until_ms is not None and until_ms > self.at_ms else None
        moments = [side.until_ms for side in (self.side, self.own, self.theirs) if side is not None]
        if self._confirmation is not None:
            moments.append(self._confirmation.next_ms)
        for mark in self.question.marks:
            moments += [mark.set_ms, mark.until_ms]
        return min([moment for moment in moments if moment is not None and moment > self.at_ms], default=None)

    # --- for the rules ---------------------------------------------------------------------------------------------

    def regime(self, act: Act | None) -> Regime:
        return self.terms.regime(self.question.region, act)

    def quiet(self) -> bool:
        """Whether a dismissal keeps the question away."""
        dismissed = self.question.state.dismissed
        if dismissed is None:
            return False
        until_ms = self.terms.quiet_until_ms(dismissed, "dismissal", self.question.region)
        return until_ms is not None and self.at_ms < until_ms

    def again_ms(self, denial: Act) -> int | None:
        """From when on the winning denial may be asked about again."""
        interval: Interval = "refusal" if self.side.grant is None else "withdrawal"
        return self.terms.quiet_until_ms(denial, interval, self.question.region)

    def default_grants(self, regime: Regime) -> bool:
        return regime != "opt-in" and self.side.denial is None and not self.question.gpc


def blocked(view: View) -> Verdict | None:
    if view.question.blocked is None:
        return None
    return Verdict("denied", view.question.blocked, view.regime(None))


def suppressed(view: View) -> Verdict | None:
    mark = view.mark
    if mark is None or view.side.answer != "denied" or view.side.denial is not mark:
        return None
    return Verdict("denied", "suppressed", view.regime(None), mark)


def denied(view: View) -> Verdict | None:
    denial = view.side.denial
    if view.side.answer != "denied" or denial is None:
        return None
    reason: Literal["refused", "withdrawn"] = "refused" if view.side.grant is None else "withdrawn"
    again_ms = view.again_ms(denial)
    return Verdict("denied", reason, view.regime(denial), denial, again_ms is not None and again_ms <= view.at_ms)


def conflicting(view: View) -> Verdict | None:
    if not view.elsewhere or view.own is None or view.own.answer != "denied":
        return None
    return Verdict("denied", "conflict", view.regime(view.own.denial), view.own.denial, ask=True)


def signalled(view: View) -> Verdict | None:
    grant = view.side.grant
    if not view.question.gpc or (grant is not None and grant.gpc):
        return None
    regime = view.regime(grant)
    ask = (regime == "opt-in" if grant is None else view.side.lapse is not None) and not view.quiet()
    return Verdict("denied", "gpc", regime, grant, ask)


def lapsed(view: View) -> Verdict | None:
    grant, lapse = view.side.grant, view.side.lapse
    if lapse is None:
        return None
    regime = view.regime(grant)
    if not view.default_grants(regime):
        return Verdict("denied", lapse, regime, grant, not view.quiet())
    if not view.confirms(None):
        return Verdict("denied", "age_unconfirmed", regime, grant, view.confirmation.ask)
    return Verdict("granted", lapse, regime, grant, not view.quiet(), by_default=True)


def unconfirmed(view: View) -> Verdict | None:
    grant = view.side.grant
    if grant is None or view.confirms(grant):
        return None
    return Verdict("denied", "age_unconfirmed", view.regime(grant), grant, view.confirmation.ask)


def barred(view: View) -> Verdict | None:
    grant = view.side.grant
    if view.side.barred is None:
        return None
    return Verdict("granted", "withdrawal_barred", view.regime(grant), grant)


def granted(view: View) -> Verdict | None:
    grant = view.side.grant
    if grant is None:
        return None
    ask = False
    if grant.guardian and view.terms.needs:
        since_ms = view.confirmation.since_ms
        ask = view.confirmation.confirmed and since_ms is not None and since_ms > grant.effective_ms
    return Verdict("granted", "granted", view.regime(grant), grant, ask)


def unanswered(view: View) -> Verdict:
    regime = view.regime(None)
    if not view.default_grants(regime):
        return Verdict("denied", "never_asked", regime, None, not view.quiet())
    if not view.confirms(None):
        return Verdict("denied", "age_unconfirmed", regime, None, view.confirmation.ask)
    return Verdict("granted", "opt_out_default", regime, None, by_default=True)


RULES: tuple[Callable[[View], Verdict | None], ...] = (
    blocked,
    suppressed,
    denied,
    conflicting,
    signalled,
    lapsed,
    unconfirmed,
    barred,
    granted,
)
"""In this order; `unanswered` answers where none of them applies."""

_FIXED: dict[Fixed, Verdict] = {
    "no_policy": Verdict("denied", "no_policy"),
    "unknown_purpose": Verdict("denied", "unknown_purpose"),
    "not_required": Verdict("granted", "not_required", by_default=True),
}


def judge(terms: Terms, question: Question, at_ms: int) -> tuple[Verdict, View | None]:
    """The answer at a time at which `terms` hold, and what it was found in, unless it rests on no act at all."""
    if terms.fixed is not None:
        return _FIXED[terms.fixed], None
    own = question.state.heard(terms.names)
    plain = question.account is None and not question.marks and not terms.needs and question.blocked is None
    if plain and own.grant is None and own.denial is None and own.signal is None and question.state.dismissed is None:
        place = (question.region, question.gpc)
        found: Verdict | None = terms.unanswered.get(place)
        if found is None:
            found = terms.unanswered[place] = answer(View(terms, question, at_ms, own))
        return found, None
    view = View(terms, question, at_ms, own)
    return answer(view), view


def answer(view: View) -> Verdict:
    """What the first rule that applies says."""
    for rule in RULES:
        verdict = rule(view)
        if verdict is not None:
            return verdict
    return unanswered(view)


def beats(grant: Act | None, denial: Act | None) -> bool:
    """Whether a grant is the winner over a denial: only if it is truly later, for a tie goes to the denial."""
    return grant is not None and (denial is None or grant.effective_ms > denial.effective_ms)


def _newest_mark(marks: tuple[Mark, ...], names: tuple[str, ...], at_ms: int) -> Act | None:
    """The mark that wins over the others for a purpose of these names, as an act."""
    newest: Act | None = None
    for mark in marks:
        stands = mark.set_ms <= at_ms and (mark.until_ms is None or at_ms < mark.until_ms)
        if stands and mark.covers(names):
            newest = newer(newest, Act(mark.set_ms, mark.seq))
    return newest


def _confirm(terms: Terms, question: Question, at_ms: int) -> Confirmation:
    if not terms.needs:
        return _NEEDS_NOTHING
    confirmed, ask = True, False
    since_ms: int | None = None
    next_ms: int | None = None
    for need in terms.needs:
        verdict, view = judge(need, question, at_ms)
        if verdict.decision == "denied":
            confirmed, ask = False, ask or verdict.ask
        elif verdict.act is not None and (since_ms is None or verdict.act.effective_ms > since_ms):
            since_ms = verdict.act.effective_ms
        moment = None if view is None else view.next_ms
        if moment is not None and (next_ms is None or moment < next_ms):
            next_ms = moment
    return Confirmation(confirmed, since_ms, ask, next_ms)
