"""The rules of decisions once more, as slowly and literally as possible: every act in a list, every rule by search.

It shares no code with ledger/core/fold, terms, rules or decide, so that they can be held against each other. Which
versions are material is the policy history's to say.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ledger.core.decide import Mark, Recorded
from ledger.core.document import ReaskAfter, SiteDocument
from ledger.core.policy import PolicyHistory, Published

DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STRICT = ("opt-in", "opt-out", "exempt")


class Question(NamedTuple):
    at_ms: int
    region: str | None = None
    gpc: bool = False
    known_seq: int | None = None
    marks: tuple[Mark, ...] = ()


class Naive(NamedTuple):
    decision: str
    reason: str
    seq: int | None = None
    regime: str | None = None
    ask: bool = False
    notify: bool = False
    conflict: bool = False
    conditional: bool = False


class NaiveAct(NamedTuple):
    """Ordered as the rules order acts: by effective time, denial over grant, seq. A mark has no event."""

    effective_ms: int
    denied: bool
    seq: int
    recorded: Recorded | None = None
    name: str = "*"

    @property
    def by_signal(self) -> bool:
        return self.denied and self.recorded is not None and self.recorded.event.action == "gpc"

    @property
    def region(self) -> str | None:
        return None if self.recorded is None else self.recorded.event.region


class Told(NamedTuple):
    """All that is known of one visitor, and of whom else."""

    events: list[Recorded]
    accounts: Mapping[str, list[Recorded]]
    until_ms: int | None


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


def once(events: Iterable[Recorded]) -> list[Recorded]:
    return list({event.seq: event for event in events}.values())


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


def offered(document: SiteDocument, purpose: str) -> bool:
    return purpose in document.purposes and document.purposes[purpose].removed_in is None


def names_in(document: SiteDocument, names: list[str], granted: str) -> list[str]:
    """Under which names a version offers what was granted by one of `names`: first that one, then newer ones."""
    return [name for name in reversed(names[: names.index(granted) + 1]) if offered(document, name)]


def replay(
    published: tuple[Published, ...],
    events: Iterable[Recorded],
    purpose: str,
    ask: Question,
    accounts: Mapping[str, Iterable[Recorded]] | None = None,
) -> Naive:
    """The answer; `events` are those that are known, and all their acts count."""
    told = Told(once(events), {name: once(them) for name, them in (accounts or {}).items()}, None)
    return Replay(published, told, ask).answer(purpose)


def replay_history(
    published: tuple[Published, ...],
    events: Iterable[Recorded],
    purpose: str,
    ask: Question,
    accounts: Mapping[str, Iterable[Recorded]] | None = None,
) -> Naive:
    """The answer about the past."""

    def known(them: Iterable[Recorded]) -> list[Recorded]:
        return [event for event in once(them) if ask.known_seq is None or event.seq <= ask.known_seq]

    told = Told(known(events), {name: known(them) for name, them in (accounts or {}).items()}, ask.at_ms)
    return Replay(published, told, ask).answer(purpose)


class Replay:
    def __init__(self, published: tuple[Published, ...], told: Told, ask: Question) -> None:
        versions = [entry for entry in published if ask.known_seq is None or entry.seq <= ask.known_seq]
        self.history = PolicyHistory(tuple(versions))
        versions.sort(key=lambda entry: (max(entry.published_ms, entry.document.effective_ms), entry.seq))
        self.versions, self.told, self.ask = versions, told, ask
        begun = [max(entry.published_ms, entry.document.effective_ms) <= ask.at_ms for entry in versions]
        self.index = sum(begun) - 1
        self.link = self._link()
        linked_to = None if self.link is None else self.link.event.account
        self.account = told.accounts.get(linked_to, []) if linked_to is not None else None

    def _counts_by_then(self, effective_ms: int) -> bool:
        return self.told.until_ms is None or effective_ms <= self.told.until_ms

    def _link(self) -> Recorded | None:
        """The event that links the visitor, if the newest of links and unlinkings is one."""
        links = []
        for recorded in self.told.events:
            if recorded.event.type in {"account.linked", "account.unlinked"}:
                unlinked = recorded.event.type == "account.unlinked"
                effective_ms = when(recorded, unlinked)
                if self._counts_by_then(effective_ms):
                    links.append((effective_ms, unlinked, recorded.seq, recorded))
        links.sort(key=lambda link: link[:3])
        return links[-1][3] if links and not links[-1][1] else None

    def acts_on(self, events: Iterable[Recorded], names: list[str]) -> list[NaiveAct]:
        acts = []
        for recorded in events:
            if recorded.event.type not in {"consent.given", "consent.refused", "consent.withdrawn"}:
                continue
            decisions = recorded.event.decisions
            found = [(name, decisions[name]) for name in names if name in decisions]
            if not found and decisions.get("*") == "denied":
                found = [("*", "denied")]
            for name, answer in reversed(found):  # the newest name has the last word
                denied = answer == "denied"
                acts.append(NaiveAct(when(recorded, denied), denied, recorded.seq, recorded, name))
        return sorted((act for act in acts if self._counts_by_then(act.effective_ms)), key=lambda act: act[:3])

    def marks_on(self, names: list[str]) -> list[NaiveAct]:
        return [
            NaiveAct(mark.set_ms, True, mark.seq)
            for mark in self.ask.marks
            if mark.purpose in {"*", *names}
            and mark.set_ms <= self.ask.at_ms
            and not (mark.until_ms is not None and mark.until_ms <= self.ask.at_ms)
            and (self.ask.known_seq is None or mark.seq <= self.ask.known_seq)
        ]

    def names_of(self, purpose: str) -> list[str]:
        names, document = [purpose], self.versions[self.index].document
        while names[-1] in document.purposes:
            earlier = document.purposes[names[-1]].alias_of
            if earlier is None or earlier in names:
                break
            names.append(earlier)
        return names

    def lapse(self, act: NaiveAct, names: list[str]) -> str | None:
        assert act.recorded is not None
        cited = [i for i, v in enumerate(self.versions) if v.document.version == act.recorded.event.policy_version]
        if not cited or not offered(self.versions[cited[0]].document, act.name):
            return "policy_changed"
        if self.versions[cited[0]].document.purposes[act.name].required:
            return "policy_changed"
        since = range(cited[0] + 1, self.index + 1)
        periods = [(act.name, self.versions[cited[0]].document)]
        for i in {*since, self.index}:
            document = self.versions[i].document
            called = names_in(document, names, act.name)
            if i in since and (not called or self.history.material(i, called[0])):
                return "policy_changed"
            if i != cited[0]:
                periods.append(((called or [act.name])[0], document))
        ends = []
        for name, document in periods:
            own = document.purposes[name].renew_after if name in document.purposes else None
            ends.append(add(own or document.renew_after, act.effective_ms))
        return "expired" if min(ends) <= self.ask.at_ms else None

    def is_barred(self, grant: NaiveAct, denial: NaiveAct, names: list[str]) -> bool:
        """Whether no version lets it be withdrawn. Asked of grants that hold alone, whose version is known."""
        assert grant.recorded is not None
        numbers = [v.document.version for v in self.versions]
        cited = numbers.index(str(grant.recorded.event.policy_version))
        if denial.effective_ms < self.versions[cited].effect_ms:
            return False
        for i in {cited, self.index, *range(cited, self.index + 1)}:
            document = self.versions[i].document
            called = [grant.name] if i == cited else names_in(document, names, grant.name)
            if not called or document.purposes[called[0]].withdrawable:
                return False
        return True

    def winner(self, acts: list[NaiveAct], names: list[str], needs: list[Naive]) -> tuple[NaiveAct | None, bool]:
        """The act that wins, and whether a denial was barred."""
        acts = sorted(acts, key=lambda act: act[:3])
        people = [act for act in acts if not act.by_signal]
        best = people[-1] if people else None
        if best is not None and not best.denied:
            assert best.recorded is not None
            if best.recorded.event.gpc and self.lapse(best, names) is None:
                acts = [act for act in acts if not (act.by_signal and act > best)]
        grants = [act for act in acts if not act.denied]
        if acts and grants and acts[-1].denied and acts[-1].recorded is not None:
            grant = grants[-1]
            assert grant.recorded is not None
            by_guardian = grant.recorded.event.action == "guardian"
            holds = self.lapse(grant, names) is None and (
                by_guardian or all(need.decision == "granted" for need in needs)
            )
            if holds and self.is_barred(grant, acts[-1], names):
                left = [act for act in acts if act.recorded is None or not act[:3] > grant[:3]]
                return left[-1], True
        return (acts[-1] if acts else None), False

    def regime(self, purpose: str, *regions: str | None) -> str:
        document = self.versions[self.index].document
        if document.purposes[purpose].kind != "consent":
            return "opt-in"
        table = {"default": "opt-in", **document.regimes, **document.purposes[purpose].regimes}
        found = [
            table.get(region, table["default"]) if region is not None else min(table.values(), key=STRICT.index)
            for region in regions
        ]
        return min(found, key=STRICT.index)

    def reask(self, purpose: str, *regions: str | None) -> list[ReaskAfter]:
        document = self.versions[self.index].document
        own = document.purposes[purpose].reask_after
        if own is not None:
            return [own]
        everywhere = [*document.reask_after_in.values(), document.reask_after]
        found = []
        for region in regions:
            found += everywhere if region is None else [document.reask_after_in.get(region, document.reask_after)]
        return found

    def is_quiet(self, purpose: str) -> bool:
        """After a dismissal: the newest alone counts."""
        dismissals = [
            (when(recorded, False), recorded.seq, recorded.event.region)
            for recorded in self.told.events
            if recorded.event.type == "consent.dismissed" and self._counts_by_then(when(recorded, False))
        ]
        if not dismissals:
            return False
        effective_ms, _, region = max(dismissals, key=lambda dismissal: dismissal[:2])
        periods = [reask.dismissal for reask in self.reask(purpose, self.ask.region, region)]
        return any(period is not None and self.ask.at_ms < add(period, effective_ms) for period in periods)

    def is_asked_again(self, purpose: str, denial: NaiveAct, withdrawn: bool) -> bool:
        for reask in self.reask(purpose, self.ask.region, denial.region):
            period = reask.withdrawal if withdrawn else reask.refusal
            if period is None or add(period, denial.effective_ms) > self.ask.at_ms:
                return False
        return True

    def notify(self) -> bool:
        """Whether the version in force is news: of everything the person did or was shown, the newest is older."""
        now = self.versions[self.index]
        latest = []
        for recorded in [*self.told.events, *(self.account or [])]:
            decides = recorded.event.type in {"consent.given", "consent.refused", "consent.withdrawn"}
            kinds = {answer == "denied" for answer in recorded.event.decisions.values()} if decides else set()
            if recorded.event.type == "notice.seen":
                kinds = {False}
            for denied in kinds:
                if self._counts_by_then(when(recorded, denied)):
                    latest.append((when(recorded, denied), recorded.seq, recorded.event.policy_version))
        if not latest or now.document.announce_changes != "first-visit":
            return False
        effective_ms, _, version = max(latest, key=lambda act: act[:2])
        return max(now.published_ms, now.document.effective_ms) > effective_ms and version != now.document.version

    def answer(self, purpose: str) -> Naive:
        """The whole answer for a purpose."""
        if self.index < 0:
            return Naive("denied", "no_policy")
        return self._judge(purpose, needed=False)._replace(notify=self.notify())

    def _judge(self, purpose: str, *, needed: bool) -> Naive:
        found = self.versions[self.index].document.purposes.get(purpose)
        if found is None or found.removed_in is not None:
            return Naive("denied", "unknown_purpose")
        if found.required:
            return Naive("granted", "not_required")
        names = self.names_of(purpose)
        needs: list[Naive] = []
        if not needed and found.kind != "attestation":
            needs = [self._judge(need, needed=True) for need in found.needs]
        own = self.acts_on(self.told.events, names)
        theirs = self.acts_on(self.account or [], names)
        acts = sorted([*own, *theirs, *self.marks_on(names)], key=lambda act: act[:3])
        winner, was_barred = self.winner(acts, names, needs)
        own_winner, _ = self.winner(own, names, needs)
        their_winner, _ = self.winner(theirs, names, needs)
        conflict = own_winner is not None and their_winner is not None and own_winner.denied != their_winner.denied
        naive = self._outcome(purpose, names, needs, acts, winner, was_barred, own_winner, theirs)
        return naive._replace(conflict=conflict)

    def _outcome(
        self,
        purpose: str,
        names: list[str],
        needs: list[Naive],
        acts: list[NaiveAct],
        winner: NaiveAct | None,
        was_barred: bool,
        own_winner: NaiveAct | None,
        theirs: list[NaiveAct],
    ) -> Naive:
        asker, at_ms = self.ask.region, self.ask.at_ms
        confirmed = all(need.decision == "granted" for need in needs)
        ask_needs = any(need.ask for need in needs if need.decision == "denied")
        if winner is not None and winner.denied:
            if winner.recorded is None:
                return Naive("denied", "suppressed", winner.seq, self.regime(purpose, asker))
            granted_before = any(not act.denied for act in acts)
            return Naive(
                "denied",
                "withdrawn" if granted_before else "refused",
                winner.seq,
                self.regime(purpose, asker, winner.region),
                self.is_asked_again(purpose, winner, granted_before),
            )
        if winner is not None and winner in theirs and own_winner is not None and own_winner.denied:
            assert winner.recorded is not None
            assert self.link is not None
            if winner.recorded.event.visitor != self.link.event.visitor:
                regime = self.regime(purpose, asker, own_winner.region)
                return Naive("denied", "conflict", own_winner.seq, regime, ask=True)
        event = None if winner is None or winner.recorded is None else winner.recorded.event
        regime = self.regime(purpose, asker) if winner is None else self.regime(purpose, asker, winner.region)
        seq = None if winner is None else winner.seq
        why = None if winner is None else self.lapse(winner, names)
        quiet = self.is_quiet(purpose)
        if self.ask.gpc and (event is None or not event.gpc):
            ask = regime == "opt-in" if winner is None else why is not None
            return Naive("denied", "gpc", seq, regime, ask and not quiet)
        if winner is not None and why is None:
            assert event is not None
            if event.action != "guardian" and not confirmed:
                return Naive("denied", "age_unconfirmed", seq, regime, ask_needs)
            if was_barred:
                return Naive("granted", "withdrawal_barred", seq, regime, conditional=event.conditional)
            of_age = event.action == "guardian" and bool(needs) and confirmed
            came_later = any(self._effective_of(need, at_ms) > winner.effective_ms for need in needs)
            return Naive("granted", "granted", seq, regime, of_age and came_later, conditional=event.conditional)
        default_grants = regime != "opt-in" and not self.ask.gpc and not any(act.denied for act in acts)
        if default_grants and not confirmed:
            return Naive("denied", "age_unconfirmed", seq, regime, ask_needs)
        if why is not None:
            return Naive("granted" if default_grants else "denied", why, seq, regime, not quiet)
        if default_grants:
            return Naive("granted", "opt_out_default", None, regime)
        return Naive("denied", "never_asked", None, regime, not quiet)

    def _effective_of(self, need: Naive, at_ms: int) -> int:
        """When the grant that an attestation's answer rests on counts."""
        for recorded in [*self.told.events, *(self.account or [])]:
            if recorded.seq == need.seq:
                return when(recorded, False)
        return -at_ms
