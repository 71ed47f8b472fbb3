"""DESIGN section 8 once more, as slowly and literally as possible: every act in a list, every rule by search.

It shares no code with ledger/core/fold or ledger/core/decide, so that the two can be held against each other.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ledger.core.decide import Recorded
from ledger.core.document import SiteDocument
from ledger.core.policy import Published

DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Question(NamedTuple):
    at_ms: int
    region: str | None = None
    gpc: bool = False
    known_seq: int | None = None
    suppressed: bool = False


class Naive(NamedTuple):
    decision: str
    reason: str
    seq: int | None
    regime: str | None


class NaiveAct(NamedTuple):
    """Ordered as section 8 orders acts: by effective time, denial over grant, seq."""

    effective_ms: int
    denied: bool
    seq: int
    recorded: Recorded


def milliseconds(time: str) -> int:
    return (datetime.fromisoformat(time) - EPOCH) // timedelta(milliseconds=1)


def when(recorded: Recorded, denied: bool) -> int:
    event = recorded.event
    if event.occurred_at is None:
        return recorded.recorded_ms
    occurred = milliseconds(event.occurred_at)
    if event.action == "import":
        return min(occurred, recorded.recorded_ms)
    if event.sent_at is None:
        return recorded.recorded_ms if denied else min(occurred, recorded.recorded_ms)
    age = max(0, milliseconds(event.sent_at) - occurred)
    if denied and age > 7 * DAY_MS:
        return recorded.recorded_ms
    return recorded.recorded_ms - age


def acts_on(events: Iterable[Recorded], purpose: str, until_ms: int | None) -> list[NaiveAct]:
    acts = []
    for recorded in {event.seq: event for event in events}.values():
        answer = recorded.event.decisions.get(purpose, recorded.event.decisions.get("*"))
        if answer is not None:
            denied = answer == "denied"
            acts.append(NaiveAct(when(recorded, denied), denied, recorded.seq, recorded))
    return sorted((act for act in acts if until_ms is None or act.effective_ms <= until_ms), key=lambda act: act[:3])


def add(period: str, start_ms: int) -> int:
    """Only the periods that the tests use: `PnM` and `PnD`."""
    count, unit = int(period[1:-1]), period[-1]
    start = EPOCH + timedelta(milliseconds=start_ms)
    if unit == "D":
        end = start + timedelta(days=count)
    else:
        months = start.year * 12 + start.month - 1 + count
        last = calendar.monthrange(months // 12, months % 12 + 1)[1]
        end = start.replace(year=months // 12, month=months % 12 + 1, day=min(start.day, last))
    return (end - EPOCH) // timedelta(milliseconds=1)


def in_use(document: SiteDocument, purpose: str) -> bool:
    found = document.purposes.get(purpose)
    return found is not None and found.removed_in is None and not found.required and found.in_use


def replay(published: tuple[Published, ...], events: Iterable[Recorded], purpose: str, ask: Question) -> Naive:
    """The answer; `events` are those that are known, and all their acts count."""
    return _judge(published, acts_on(events, purpose, None), purpose, ask)


def replay_history(published: tuple[Published, ...], events: Iterable[Recorded], purpose: str, ask: Question) -> Naive:
    """The answer about the past."""
    known = [event for event in events if ask.known_seq is None or event.seq <= ask.known_seq]
    return _judge(published, acts_on(known, purpose, ask.at_ms), purpose, ask)


def _judge(published: tuple[Published, ...], acts: list[NaiveAct], purpose: str, ask: Question) -> Naive:
    versions = [entry for entry in published if ask.known_seq is None or entry.seq <= ask.known_seq]
    versions.sort(key=lambda entry: (max(entry.published_ms, entry.document.effective_ms), entry.seq))
    begun = [entry for entry in versions if max(entry.published_ms, entry.document.effective_ms) <= ask.at_ms]
    if not begun:
        return Naive("denied", "no_policy", None, None)
    here = begun[-1].document
    found = here.purposes.get(purpose)
    if found is None or found.removed_in is not None:
        return Naive("denied", "unknown_purpose", None, None)
    if found.required:
        return Naive("granted", "not_required", None, None)

    def lapse(act: NaiveAct) -> str | None:
        cited = [i for i, entry in enumerate(versions) if entry.document.version == act.recorded.event.policy_version]
        if not cited:
            return "policy_changed"
        offered = versions[cited[0]].document.purposes.get(purpose)
        if offered is None or offered.removed_in is not None or offered.required:
            return "policy_changed"
        since = [i for i in range(cited[0] + 1, len(versions)) if versions[i] in begun]
        for i in since:
            material = versions[i].document.policy.material
            if material is True or (isinstance(material, tuple) and purpose in material):
                return "policy_changed"
            before, after = versions[i - 1].document, versions[i].document.purposes.get(purpose)
            if after and after.removed_in is None and after.in_use and not in_use(before, purpose):
                return "policy_changed"
        held = [versions[i].document for i in (*cited, *since)] + [here]
        periods = [(d.purposes[purpose].renew_after if purpose in d.purposes else None) or d.renew_after for d in held]
        return "expired" if min(add(period, act.effective_ms) for period in periods) <= ask.at_ms else None

    def counts(act: NaiveAct) -> bool:
        """A denial by signal does not, where what it would beat is a grant under the signal that holds."""
        if not (act.denied and act.recorded.event.action == "gpc"):
            return True
        people = [other for other in acts if not (other.denied and other.recorded.event.action == "gpc")]
        best = people[-1] if people else None
        return not (
            best is not None and not best.denied and best < act and best.recorded.event.gpc and lapse(best) is None
        )

    counting = [act for act in acts if counts(act)]
    winner = counting[-1] if counting else None

    def regime() -> str:
        table = {"default": "opt-in", **here.regimes, **found.regimes}
        strict = ["opt-in", "opt-out", "exempt"]
        asked = [ask.region] if winner is None else [ask.region, winner.recorded.event.region]
        names = [
            table.get(region, table["default"]) if region is not None else min(table.values(), key=strict.index)
            for region in asked
        ]
        return min(names, key=strict.index)

    if winner is not None and winner.denied:
        granted_before = any(not act.denied for act in counting)
        return Naive("denied", "withdrawn" if granted_before else "refused", winner.seq, regime())
    seq = None if winner is None else winner.seq
    if ask.suppressed:
        return Naive("denied", "suppressed", seq, regime())
    if ask.gpc and (winner is None or not winner.recorded.event.gpc):
        return Naive("denied", "gpc", seq, regime())
    why = None if winner is None else lapse(winner)
    if winner is not None and why is None:
        return Naive("granted", "granted", seq, regime())
    default_grants = regime() != "opt-in" and not ask.gpc and not any(act.denied for act in acts)
    if why is not None:
        return Naive("granted" if default_grants else "denied", why, seq, regime())
    return (
        Naive("granted", "opt_out_default", None, regime())
        if default_grants
        else Naive("denied", "never_asked", None, regime())
    )
