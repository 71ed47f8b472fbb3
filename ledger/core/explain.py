"""An answer in plain words: what was in force, which acts count and when, which rules were tried, what would change it.

The rules themselves are asked again, in their order, so that the words cannot say other than the answer does. Nothing
is decided here, and no visitor, account or browser is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ledger.core import rules
from ledger.core.encoding import encode_time
from ledger.core.event import DENIED, GRANTED, MAX_TIME_MS, MIN_TIME_MS, Answer
from ledger.core.fold import Act, Placing, Recorded, placed
from ledger.core.question import Question
from ledger.core.rules import Reason, Verdict, View
from ledger.core.terms import Terms


class Explained(NamedTuple):
    """A question, its answer, and what the rules saw; `view` is None where the policy alone answers."""

    terms: Terms
    question: Question
    at_ms: int
    known_seq: int | None
    verdict: Verdict
    view: View | None
    notify: bool
    valid_until_ms: int | None


def explain(it: Explained, events: Mapping[int, Recorded]) -> tuple[str, ...]:
    """The sentences, in the order in which the rules look at things. `events`, by seq, tell why acts count when they
    do; of those that are not there nothing is said.
    """
    view, reason = it.view, it.verdict.reason
    said = [_policy(it)]
    if view is None:
        said.append(f"Rule {reason} applies: {_FIXED[reason]}.")
    else:
        said += _place(it, view)
        said += _acts(it, view, events)
        said += _tried(view)
        said.append(f"Rule {reason} applies: {_APPLIES[reason](it, view)}.")
    said.append(f"So the answer is {it.verdict.decision}, for the reason {reason}.")
    said += _asking(it)
    if it.valid_until_ms is None:
        said.append("Time alone changes nothing in this.")
    else:
        said.append(f"Unless something is recorded, this holds until {_time(it.valid_until_ms)}.")
    if view is not None:
        said.append(_what_would_change(it))
    return tuple(said)


_FIXED: dict[Reason, str] = {
    "no_policy": "without a policy in force nothing is granted",
    "unknown_purpose": "the version in force does not offer this purpose, or has removed it, so nothing is granted",
    "not_required": "the version in force calls the purpose required, so nobody is asked and no denial counts",
}


def _policy(it: Explained) -> str:
    known = "" if it.known_seq is None else f", as far as the entries up to {it.known_seq} tell"
    asked = f"Asked about {it.terms.purpose} at {_time(it.at_ms)}{known}"
    in_force = it.terms.in_force
    if in_force is None:
        return f"{asked}: no version of the policy was in force."
    since = f"published in entry {in_force.seq}, in effect since {_time(in_force.effect_ms)}"
    return f"{asked}: version {in_force.document.version} of the policy was in force ({since})."


def _place(it: Explained, view: View) -> list[str]:
    region, act, regime = it.question.region, it.verdict.act, it.verdict.regime
    said = [f"Asked from {_region(region)}, where this purpose is {it.terms.regime_at(region)}"]
    if act is not None and act is not view.mark:
        said[0] += f"; the act that decides was made in {_region(act.region)}, and the stricter of the two is {regime}"
    said[0] += "."
    if len(it.terms.names) > 1:
        said.append(f"The purpose goes on with {', '.join(it.terms.names[1:])}, whose answers count for it.")
    return said


# --- acts ------------------------------------------------------------------------------------------------------------


def _acts(it: Explained, view: View, events: Mapping[int, Recorded]) -> list[str]:
    said: list[str] = []
    state, account, names = it.question.state, it.question.account, it.terms.names
    sides = [(state.heard(names), "" if account is None else " in this browser")]
    if account is not None:
        sides.append((account.heard(names), " for the account"))
        if state.link is not None:
            since = f"since {_time(state.link.effective_ms)} (entry {state.link.seq})"
            said.append(f"The browser is linked to an account {since}, so choices made for the account count too.")
    for heard, where in sides:
        said += _act(heard.grant, f"grant{where}", GRANTED, events)
        said += _act(heard.denial, f"denial{where}", DENIED, events)
        said += _act(heard.signal, f"denial by a GPC signal{where}", DENIED, events)
    for mark in it.question.marks:
        if mark.covers(names):
            until = "for good" if mark.until_ms is None else f"until {_time(mark.until_ms)}"
            what = "every optional purpose" if mark.purpose == "*" else mark.purpose
            said.append(f"A suppression mark denies {what} from {_time(mark.set_ms)} {until}.")
    said = said or ["Nobody answered: no act on this purpose counts."]
    return [*said, *_act(state.dismissed, "dismissal of the question", GRANTED, events)]


def _act(act: Act | None, kind: str, answer: Answer, events: Mapping[int, Recorded]) -> list[str]:
    if act is None:
        return []
    recorded = events.get(act.seq)
    why = "" if recorded is None else f", {_PLACED[placed(recorded, answer)[1]](recorded)}"
    details = [
        "it cites no published version" if act.version is None else f"it cites version {act.version}",
        f"made in {_region(act.region)}",
        *(["under a GPC signal"] if act.gpc else []),
        *(["by a guardian"] if act.guardian else []),
        *(["as the price of access"] if act.conditional else []),
    ]
    return [
        f"The newest {kind} is entry {act.seq}; it counts from {_time(act.effective_ms)}{why} ({', '.join(details)})."
    ]


_PLACED: dict[Placing, Callable[[Recorded], str]] = {
    "recorded": lambda it: "when it was recorded, for it names no time of its own",
    "imported": lambda it: (
        f"for it was imported and names {it.event.occurred_at}, but never later than {_time(it.recorded_ms)}, when it "
        "was recorded"
    ),
    "own_clocks": lambda it: (
        f"for it was recorded at {_time(it.recorded_ms)}, and by the visitor's own clock made at "
        f"{it.event.occurred_at} and sent at {it.event.sent_at}: that much earlier"
    ),
    "sent_before": lambda it: "when it was recorded, for by its own clock no time had passed when it was sent",
    "said": lambda it: (
        f"for it names {it.event.occurred_at}, but never later than {_time(it.recorded_ms)}, when it was recorded"
    ),
    "no_sent_time": lambda it: "when it was recorded, for without the time of sending its clock proves nothing",
    "beyond_the_window": lambda it: "when it was recorded, for its own clocks place it more than seven days earlier",
}


# --- rules -----------------------------------------------------------------------------------------------------------


def _tried(view: View) -> list[str]:
    """Why the rules before the one that applies do not."""
    said = ["Rules no_policy, unknown_purpose and not_required do not apply: the purpose is offered and optional."]
    for rule in rules.RULES:
        if rule(view) is not None:
            break
        name, why = _PASSED[rule]
        said.append(f"Rule {name} does not apply: {why(view)}.")
    return said


def _no_mark(view: View) -> str:
    return "no suppression mark counts" if view.mark is None else "another act counts later than the mark"


def _no_denial(view: View) -> str:
    side, signal = view.side, view.heard.signal
    if side.grant is None:
        return "nothing was denied"
    if side.barred is not None:
        return f"the denial in entry {side.barred.seq} came after a grant that cannot be withdrawn and still holds"
    if signal is not None and not rules.beats(side.grant, signal):
        return f"a signal does not beat entry {side.grant.seq}, a grant that was made under one and still holds"
    return "nothing was denied" if side.denial is None else f"the grant in entry {side.grant.seq} counts later"


def _no_conflict(view: View) -> str:
    if view.own is None:
        return "the browser is linked to no account"
    if not view.elsewhere:
        return "no grant that was made for the account in another browser wins"
    return "by its own acts this browser does not deny"


def _no_signal(view: View) -> str:
    return "the winning grant was made under a GPC signal" if view.question.gpc else "no GPC signal is on"


def _no_lapse(view: View) -> str:
    if view.side.until_ms is None:
        return "there is no grant that could lapse"
    since = _versions_since(view)
    asks = f"none of the versions since ({', '.join(since)}) asks again" if since else "no version since asks again"
    return f"{asks}, and the grant need not be renewed before {_time(view.side.until_ms)}"


def _versions_since(view: View) -> list[str]:
    """Those that took effect after the one that the grant cites, up to the one in force."""
    history, grant = view.terms.history, view.side.grant
    cited = None if grant is None or grant.version is None else history.order_of(grant.version)
    if cited is None:
        return []
    return [entry.document.version for entry in history.in_effect_order[cited + 1 : view.terms.index + 1]]


def _nothing_missing(view: View) -> str:
    if view.side.grant is None or not view.terms.needs:
        return "no grant that needs an attestation is there"
    if view.side.grant.guardian:
        return "a guardian made the grant"
    return f"{', '.join(need.purpose for need in view.terms.needs)} is granted"


_PASSED: dict[Callable[[View], Verdict | None], tuple[str, Callable[[View], str]]] = {
    rules.blocked: ("erasure_pending or restricted", lambda _: "what is on record may be used"),
    rules.suppressed: ("suppressed", _no_mark),
    rules.denied: ("refused or withdrawn", _no_denial),
    rules.conflicting: ("conflict", _no_conflict),
    rules.signalled: ("gpc", _no_signal),
    rules.lapsed: ("policy_changed or expired", _no_lapse),
    rules.unconfirmed: ("age_unconfirmed", _nothing_missing),
    rules.barred: ("withdrawal_barred", lambda _: "no denial came after a grant"),
    rules.granted: ("granted", lambda _: "there is no grant"),
}


def _withdrawn(it: Explained, view: View) -> str:
    grant = "a grant" if view.side.grant is None else f"the grant in entry {view.side.grant.seq}"
    return f"the denial in entry {_seq(it)} wins over {grant}; at one and the same time a denial goes first"


def _conflict(it: Explained, view: View) -> str:
    return (
        f"a grant was made for the account in another browser, but this one denied in entry {_seq(it)}; until the "
        "visitor says here which of the two is meant, it is the denial"
    )


def _policy_changed(it: Explained, view: View) -> str:
    grant, name = view.side.grant, view.heard.name
    standing = it.terms.standing(name, None if grant is None else grant.version)
    which = f"the grant in entry {_seq(it)} cites"
    if grant is None or grant.version is None or standing.ended == "unpublished":
        return f"{which} no version that was published. {_default(it)}"
    if standing.ended_by is None:
        return f"{which} version {grant.version}, which did not ask for {name}. {_default(it)}"
    by = it.terms.history.in_effect_order[standing.ended_by].document
    if standing.ended == "dropped":
        return f"{which} version {grant.version}, but version {by.version} did not offer {name}. {_default(it)}"
    called = it.terms.called(by, name) or name
    reasons = "; ".join(it.terms.history.why_material(standing.ended_by, called))
    return f"{which} version {grant.version}, but version {by.version} asks again ({reasons}). {_default(it)}"


def _expired(it: Explained, view: View) -> str:
    until = "" if view.side.until_ms is None else f" by {_time(view.side.until_ms)}"
    since = _versions_since(view)
    term = f", the shortest term of its version and those since ({', '.join(since)})" if since else ""
    return f"the grant in entry {_seq(it)} had to be renewed{until}{term}. {_default(it)}"


def _default(it: Explained) -> str:
    regime = it.verdict.regime
    if it.verdict.decision == "granted":
        return f"Under {regime} the default is a grant, which is no consent"
    if regime == "opt-in":
        return "Under opt-in the default is a denial"
    return f"Under {regime} the default would be a grant, but an older denial or a GPC signal stands against it"


def _age_unconfirmed(it: Explained, view: View) -> str:
    answers = [(need.purpose, rules.judge(need, it.question, it.at_ms)[0]) for need in it.terms.needs]
    missing = [f"{name} ({verdict.reason})" for name, verdict in answers if verdict.decision == "denied"]
    return f"without {', '.join(missing)} no grant holds but a guardian's, and there is none"


def _withdrawal_barred(it: Explained, view: View) -> str:
    denial = "the denial" if view.side.barred is None else f"the denial in entry {view.side.barred.seq}"
    return (
        f"every version since the one cited says that the purpose cannot be withdrawn, so {denial} is kept on record "
        f"and does not take back the grant in entry {_seq(it)}"
    )


_APPLIES: dict[Reason, Callable[[Explained, View], str]] = {
    "erasure_pending": lambda it, view: "what is on record of this visitor is about to be erased, and is used no more",
    "restricted": lambda it, view: "the use of what is on record of this visitor is restricted, until that is lifted",
    "suppressed": lambda it, view: "a suppression mark counts later than every grant",
    "refused": lambda it, view: f"the denial in entry {_seq(it)} wins, and nothing was ever granted",
    "withdrawn": _withdrawn,
    "conflict": _conflict,
    "gpc": lambda it, view: "a GPC signal is on, and no grant that was made under one wins",
    "policy_changed": _policy_changed,
    "expired": _expired,
    "age_unconfirmed": _age_unconfirmed,
    "withdrawal_barred": _withdrawal_barred,
    "granted": lambda it, view: f"the grant in entry {_seq(it)} wins and holds",
    "never_asked": lambda it, view: f"nobody answered. {_default(it)}",
    "opt_out_default": lambda it, view: f"nobody answered. {_default(it)}",
}


# --- what follows ----------------------------------------------------------------------------------------------------


def _asking(it: Explained) -> list[str]:
    verdict, view = it.verdict, it.view
    said: list[str] = []
    if verdict.ask:
        said.append("The visitor is to be asked.")
    elif view is not None and verdict.act is not None and verdict.reason in {"refused", "withdrawn"}:
        again_ms = view.again_ms(verdict.act)
        again = "never again unless the visitor wishes" if again_ms is None else f"not before {_time(again_ms)}"
        said.append(f"The visitor is to be asked again {again}.")
    elif view is not None and view.quiet() and verdict.reason in {"never_asked", "policy_changed", "expired", "gpc"}:
        said.append("The visitor closed the question without an answer, and is left in peace for a while.")
    if view is not None and view.conflict:
        said.append("This browser and its account gave different answers.")
    if it.notify:
        said.append("The version in force is to be announced: it took effect after the visitor's last act.")
    return said


def _what_would_change(it: Explained) -> str:
    verdict, version = it.verdict, it.terms.version
    if verdict.reason == "withdrawal_barred":
        return "A version that asks again or allows withdrawal would change it, or the end of the grant's term."
    if verdict.decision == "granted":
        return "A later denial, of this purpose or of everything, would change it, unless withdrawal is barred."
    if verdict.reason == "restricted":
        return "The end of the restriction would change it."
    if verdict.reason == "erasure_pending":
        return "A choice made under a new visitor id is a new one."
    if verdict.reason == "age_unconfirmed":
        return f"A grant of what is missing would change it, or a guardian's grant citing version {version}."
    if it.question.gpc:
        return f"A later grant made under the signal, citing version {version}, would change it."
    return f"A later grant in this browser, citing version {version}, would change it."


def _seq(it: Explained) -> int | None:
    return None if it.verdict.act is None else it.verdict.act.seq


def _region(region: str | None) -> str:
    return "an unknown place" if region is None else region


def _time(ms: int) -> str:
    return encode_time(min(max(ms, MIN_TIME_MS), MAX_TIME_MS))
