"""When the record of an event is due to go, by what the versions of a site's policy promised about it.

A record is kept for `recordRetention`: a purpose's own, else that of the event's type, else the site's. It counts from
the act, or from when the act stopped to count: a grant that lapsed, a denial after which the question may come back, a
dismissal that keeps nothing away any more, a notice or a link that a newer one replaced, any answer with a newer one
after it. An event that answers for several purposes is kept as long as the longest of them says, for a payload cannot
be erased in part. Of the versions from the one that an event was made under until now the shortest counts: what a
version prolongs does not reach back to those who were promised less. A document's acceptance is kept for the purpose's
`retention` from the act on, as the version says under which it was accepted.

What may go together, and what has to stay though it is due, is in core/retention.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ledger.core.document import SiteDocument
from ledger.core.duration import Duration
from ledger.core.event import ANY_PURPOSE, DECIDING, DENIED, GRANTED, LINKING, Answer, Event
from ledger.core.fold import ACCEPTANCE_WINDOW_MS, Act, Recorded, effective_ms
from ledger.core.policy import PolicyHistory
from ledger.core.terms import Terms

NEVER = 2**62
"""A moment that does not come."""

Key = tuple[int, bool, int]
"""The order in which acts win: when it counts, denial over grant, seq."""


class Answered(NamedTuple):
    """One answer of one event. `name` may be `"*"`; `signal`: a GPC signal denied, no person."""

    key: Key
    name: str
    recorded: Recorded
    signal: bool

    @property
    def when_ms(self) -> int:
        return self.key[0]

    @property
    def denied(self) -> bool:
        return self.key[1]


class Span(NamedTuple):
    """From when on a record is due: `due_ms` if nothing else is recorded, and no earlier than `earliest_ms` whatever is
    recorded from now on. `NEVER`: not by what is known."""

    due_ms: int
    earliest_ms: int


FOREVER = Span(NEVER, NEVER)
AT_ONCE = Span(-NEVER, -NEVER)


def answers_of(recorded: Recorded) -> tuple[Answered, ...]:
    """What an event answers, each with the key by which it wins; nothing for what decides nothing."""
    event = recorded.event
    if event.type not in DECIDING:
        return ()
    when = {answer: effective_ms(recorded, answer) for answer in set(event.decisions.values())}
    signal = event.action == "gpc"
    return tuple(
        Answered((when[answer], answer == DENIED, recorded.seq), name, recorded, signal and answer == DENIED)
        for name, answer in event.decisions.items()
    )


def families_of(policies: PolicyHistory) -> dict[str, str]:
    """Of every purpose that goes on with another (`aliasOf`), in any version, one name for all of them."""
    roots: dict[str, str] = {}

    def root(name: str) -> str:
        while roots.get(name, name) != name:
            name = roots[name]
        return name

    for entry in policies:
        for name, purpose in entry.document.purposes.items():
            roots.setdefault(name, name)
            if purpose.alias_of is not None:
                roots.setdefault(purpose.alias_of, purpose.alias_of)
                roots[root(name)] = root(purpose.alias_of)
    return {name: root(name) for name in roots}


class RecordTerms:
    """How long records are kept under the policies in force at one moment; for any number of subjects."""

    def __init__(self, policies: PolicyHistory, now_ms: int) -> None:
        self.policies, self.now_ms = policies, now_ms
        self.families = families_of(policies)
        self.last = bisect_right(policies.effects_ms, now_ms) - 1
        """The index, in effect order, of the version in force; -1: none is."""
        self._documents = tuple(entry.document for entry in policies.in_effect_order[: self.last + 1])
        self._terms: dict[tuple[str, int], Terms] = {}

    def family(self, name: str) -> str:
        return self.families.get(name, name)

    def keeps_some_for_a_time(self) -> bool:
        """Whether any version in force by now names any period, so that anything can be due at all."""
        return any(
            document.record_retention or document.record_retention_of or any(
                purpose.record_retention or (purpose.kind == "acceptance" and purpose.retention)
                for purpose in document.purposes.values()
            )
            for document in self._documents
        )  # fmt: skip

    def span(self, recorded: Recorded, ends: Ends) -> Span:
        """When the record of an event is due. `ends` knows of all of the subject's events."""
        event = recorded.event
        first = bisect_right(self.policies.effects_ms, recorded.recorded_ms) - 1
        cited = None if event.policy_version is None else self.policies.order_of(event.policy_version)
        if cited is not None:
            first = min(first, cited)
        answers = answers_of(recorded)
        found = FOREVER
        for index in range(max(first, 0), self.last + 1):
            if answers:
                spans = [self._answer(index, answer, ends) for answer in answers]
                span = Span(max(each.due_ms for each in spans), max(each.earliest_ms for each in spans))
            else:
                period = self._documents[index].record_retention_of.get(event.type)
                period = period or self._documents[index].record_retention
                span = self._counted(index, period, ends.began(recorded), lambda i: ends.end(recorded, i))
            found = Span(min(found.due_ms, span.due_ms), min(found.earliest_ms, span.earliest_ms))
        floor_ms = self.mandatory_until_ms(recorded)
        floor_ms = -NEVER if floor_ms is None else floor_ms
        for answer in answers:
            if answer.denied:  # a grant of before it may still be on its way, and would be the last word
                floor_ms = max(floor_ms, answer.when_ms + ACCEPTANCE_WINDOW_MS)
        return Span(max(found.due_ms, floor_ms), max(found.earliest_ms, floor_ms))

    def mandatory_until_ms(self, recorded: Recorded) -> int | None:
        """Until when an acceptance is kept, even of a person who is erased (D14); None: it is none, or has no term."""
        until: list[int] = []
        for answer in answers_of(recorded):
            retention = self._acceptance(answer)
            if retention is not None:
                until.append(retention.after(answer.when_ms))
        return max(until, default=None)

    def _acceptance(self, answer: Answered) -> Duration | None:
        version = answer.recorded.event.policy_version
        cited = None if version is None or answer.denied else self.policies.get(version)
        found = None if cited is None else cited.document.purposes.get(answer.name)
        return found.retention if found is not None and found.kind == "acceptance" else None

    def _answer(self, index: int, answer: Answered, ends: Ends) -> Span:
        document = self._documents[index]
        if answer.name == ANY_PURPOSE:
            named = {self.family(name) for name in answer.recorded.event.decisions}
            names = [name for name in document.purposes if document.asks(name) and self.family(name) not in named]
            spans = [self._named(index, name, answer, ends) for name in names]
            if not spans:  # there was nothing to deny
                period = self._period(document, None, answer)
                return self._counted(index, period, answer.when_ms, lambda _: answer.when_ms)
            return Span(max(span.due_ms for span in spans), max(span.earliest_ms for span in spans))
        if self._acceptance(answer) is not None:
            return AT_ONCE  # its mandatory term is all that keeps it
        return self._named(index, answer.name, answer, ends)

    def _named(self, index: int, name: str, answer: Answered, ends: Ends) -> Span:
        period = self._period(self._documents[index], self.called(index, name), answer)
        return self._counted(index, period, answer.when_ms, lambda i: ends.answer_end(answer, name, i))

    def _period(self, document: SiteDocument, name: str | None, answer: Answered) -> Duration | None:
        own = None if name is None else document.purposes[name].record_retention
        return own or document.record_retention_of.get(answer.recorded.event.type) or document.record_retention

    def _counted(self, index: int, period: Duration | None, act_ms: int, end: Callable[[int], int]) -> Span:
        if period is None:
            return FOREVER
        if self._documents[index].record_retention_counted == "act":
            due_ms = period.after(act_ms)
            return Span(due_ms, due_ms)
        end_ms = end(index)
        due_ms = NEVER if end_ms >= NEVER else period.after(end_ms)
        return Span(due_ms, min(due_ms, period.after(min(end_ms, max(self.now_ms, act_ms)))))

    def called(self, index: int, name: str) -> str | None:
        """Under which name a version has what was answered as `name`; None: it does not know it."""
        document = self._documents[index]
        if name in document.purposes and document.purposes[name].removed_in is None:
            return name
        goes_on = (each for each in document.purposes if document.offers(each) and name in document.names_of(each))
        return next(goes_on, name if name in document.purposes else None)

    def terms(self, index: int, name: str) -> Terms:
        """What a version says of a purpose."""
        found = self._terms.get((name, index))
        if found is None:
            found = self._terms[name, index] = Terms(self.policies, name, self.policies.effects_ms[index])
        return found

    def effect_ms(self, index: int) -> int:
        return self.policies.effects_ms[index]


class _Next(NamedTuple):
    """The first answers after one, of its family: when the next grant counts, a person's denial, a signal's."""

    grant_ms: int = NEVER
    denial_ms: int = NEVER
    signal_ms: int = NEVER


class Ends:
    """When each of one subject's acts stopped to count."""

    def __init__(self, terms: RecordTerms, events: Sequence[Recorded]) -> None:
        self._terms = terms
        self.answers = tuple(answer for recorded in events for answer in answers_of(recorded))
        self._families: dict[str, dict[Key, _Next]] = {}
        self._granted = {terms.family(answer.name) for answer in self.answers if not answer.denied}
        self._decided_ms = sorted(answer.when_ms for answer in self.answers)
        self._others: dict[str, list[int]] = {}
        self._links = sorted(map(link_key, (one for one in events if one.event.type in LINKING)))
        for recorded in events:
            if recorded.event.type in ("consent.dismissed", "notice.seen"):
                self._others.setdefault(recorded.event.type, []).append(self.began(recorded))
        for moments in self._others.values():
            moments.sort()

    def began(self, recorded: Recorded) -> int:
        """When what decides nothing counts."""
        if recorded.event.type in ("consent.expired", "consent.invalidated"):
            return recorded.recorded_ms
        return effective_ms(recorded, DENIED if recorded.event.type == "account.unlinked" else GRANTED)

    def end(self, recorded: Recorded, index: int) -> int:
        """When an event without answers stopped to count, as the version at `index` has it."""
        event, began_ms = recorded.event, self.began(recorded)
        if event.type == "account.linked":
            later = self._links[bisect_right(self._links, link_key(recorded)) :]
            return later[0][0] if later else NEVER
        if event.type not in self._others:
            return began_ms
        moments = [_first_after(self._decided_ms, began_ms), _first_after(self._others[event.type], began_ms)]
        if event.type == "notice.seen":
            moments.append(_first_after(self._terms.policies.effects_ms, began_ms))
        else:
            moments.append(self._quiet_until_ms(event, Act(began_ms, recorded.seq, region=event.region), index))
        return min(moments)

    def _quiet_until_ms(self, event: Event, dismissed: Act, index: int) -> int:
        document = self._terms.policies.in_effect_order[index].document
        terms = [self._terms.terms(index, name) for name in document.purposes if document.asks(name)]
        until = [each.quiet_until_ms(dismissed, "dismissal", event.region) for each in terms if each.fixed is None]
        return max([moment for moment in until if moment is not None], default=dismissed.effective_ms)

    def answer_end(self, answer: Answered, name: str, index: int) -> int:
        """When an answer for `name` stopped to count, as the version at `index` has it; at the latest when it was
        replaced."""
        following = self._following(self._terms.family(name))[answer.key]
        event = answer.recorded.event
        act = Act(answer.when_ms, answer.recorded.seq, event.policy_version, event.region, event.gpc)
        if answer.denied:
            replaced_ms = min(following.grant_ms, following.denial_ms)
            if answer.signal:
                replaced_ms = min(replaced_ms, following.signal_ms)
            return min(replaced_ms, self._asked_again_ms(act, name, index))
        lapse_ms, barred = self._lapse(act, name)
        replaced_ms = following.grant_ms
        if not barred:
            replaced_ms = min(replaced_ms, following.denial_ms)
            if not event.gpc:
                replaced_ms = min(replaced_ms, following.signal_ms)
        return min(replaced_ms, lapse_ms)

    def _asked_again_ms(self, denial: Act, name: str, index: int) -> int:
        """When the question may come back: at once where a version does not ask it."""
        called = self._terms.called(index, name)
        terms = None if called is None else self._terms.terms(index, called)
        if terms is None or terms.fixed is not None:
            return max(denial.effective_ms, self._terms.effect_ms(index))
        interval = "withdrawal" if self._terms.family(name) in self._granted else "refusal"
        until_ms = terms.quiet_until_ms(denial, interval, denial.region)  # type: ignore[arg-type]
        return NEVER if until_ms is None else until_ms

    def _lapse(self, grant: Act, name: str) -> tuple[int, bool]:
        """When a grant lapsed, or will by what is known, and whether nobody could take it back."""
        terms, barred = self._terms, False
        cited = None if grant.version is None else terms.policies.order_of(grant.version)
        if cited is None or cited > terms.last:
            return grant.effective_ms, False
        until_ms = NEVER
        for index in range(cited, terms.last + 1):
            since_ms = max(grant.effective_ms, terms.effect_ms(index))
            called = terms.called(index, name)
            held = None if called is None else terms.terms(index, called)
            if until_ms <= since_ms:
                return until_ms, False
            if held is None or held.fixed is not None or name not in held.names:
                return since_ms, False
            lapse, expires_ms = held.lapse(grant, name, since_ms)
            if lapse is not None:
                return since_ms, False
            until_ms = NEVER if expires_ms is None else expires_ms
            barred = held.standing(name, grant.version).barred
        return until_ms, barred

    def _following(self, family: str) -> dict[Key, _Next]:
        """What comes after each answer of a family, those for everything among them."""
        found = self._families.get(family)
        if found is None:
            found = self._families[family] = {}
            following = _Next()
            for answer in sorted(self._of(family), reverse=True, key=lambda each: each.key):
                found.setdefault(answer.key, following)  # one event may answer twice for a family
                if not answer.denied:
                    following = following._replace(grant_ms=answer.when_ms)
                elif answer.signal:
                    following = following._replace(signal_ms=answer.when_ms)
                else:
                    following = following._replace(denial_ms=answer.when_ms)
        return found

    def _of(self, family: str) -> Iterable[Answered]:
        for answer in self.answers:
            decisions = answer.recorded.event.decisions
            if answer.name == ANY_PURPOSE:
                if all(self._terms.family(name) != family for name in decisions):
                    yield answer
            elif self._terms.family(answer.name) == family:
                yield answer


def link_key(recorded: Recorded) -> tuple[int, bool, int]:
    """The order in which links win: by time, unlinked over linked, then by seq."""
    unlinked = recorded.event.type == "account.unlinked"
    answer: Answer = DENIED if unlinked else GRANTED
    return effective_ms(recorded, answer), unlinked, recorded.seq


def _first_after(moments: Sequence[int], moment_ms: int) -> int:
    place = bisect_right(moments, moment_ms)
    return moments[place] if place < len(moments) else NEVER
