"""Which of one subject's records go at a moment, and which suppression marks stand in for the denials among them.

When each record is due by itself is in core/record_terms. Here is what has to go together, so that forgetting never
makes a yes of a no:

- An answer goes only together with, or after, the earlier grants of its purposes: nothing older that said yes comes to
  the top. `"*"` counts as an answer to every purpose.
- A link goes only together with, or after, the links before it; one that is in force stays as long as an answer of its
  browser stays, or the account still has something to say.
- Where silence could grant, a denial that goes leaves a mark, which denies from when the denial counted and has a term.
  A purpose that is opt-in everywhere needs none: there, what is forgotten is denied, and asked anew. A version that
  names `suppressFor` has every denial leave one, for a later version may count on silence.
- The ledger's own word that a grant lapsed goes with the grant, unless its type has a period of its own.

A grant that lapsed leaves no mark: who once agreed has refused nothing. Where silence grants, a lapsed grant is no more
than silence either (core/rules), so whoever is forgotten is answered as before: as anybody else is.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ledger.core.duration import DAY_MS, Duration
from ledger.core.encoding import encode_time
from ledger.core.event import ANY_PURPOSE, LINKING
from ledger.core.fold import EMPTY_STATE, Recorded, fold
from ledger.core.policy import PolicyHistory
from ledger.core.record_terms import NEVER, Answered, Ends, Key, RecordTerms, Span, answers_of, link_key

HELD_AGAIN_MS = 7 * DAY_MS
"""What is due and held by somebody else's records is looked at again after this long."""

_LAPSES = frozenset({"consent.expired", "consent.invalidated"})


class Suppression(NamedTuple):
    """A mark to be set when its denial goes: it denies `purpose` (or `"*"`) from `set_ms` until `until_ms`, and was
    known with the denial (`seq`)."""

    purpose: str
    set_ms: int
    until_ms: int
    seq: int


class Plan(NamedTuple):
    """What goes now of one subject. `due` holds seqs in an order in which they may go one after another; `next_ms`:
    when to look again at the soonest, if no version is published meanwhile (None: nothing is left, or kept for good).
    """

    due: tuple[int, ...]
    marks: tuple[Suppression, ...]
    next_ms: int | None


_NONE_KEPT: Mapping[int, int] = {}


class Retention:
    """The plans for any number of subjects at one moment."""

    def __init__(self, policies: PolicyHistory, now_ms: int, suppress_for: Duration) -> None:
        """`suppress_for` holds where the version in force names no `suppressFor`."""
        self.now_ms = now_ms
        self.terms = RecordTerms(policies, now_ms)
        in_force = policies.in_force(now_ms)
        own = None if in_force is None else in_force.document.suppress_for
        self._always_marks = own is not None
        self._suppress_until_ms = (own or suppress_for).after(now_ms)
        self._loose = frozenset(_loose(policies, max(self.terms.last, 0)))

    def plan(
        self,
        events: Sequence[Recorded],
        *,
        account_stands: bool = False,
        kept_until_ms: Mapping[int, int] = _NONE_KEPT,
        at_most: int | None = None,
    ) -> Plan:
        """`events` are all that a subject has left, in any order. `account_stands`: the account that the browser is
        linked to has answers or marks left, by which the browser is decided. `kept_until_ms`, by seq: what an erasure
        left, for a mandatory term. At most `at_most` go; the rest is due again at once.
        """
        gone: list[int] = []
        left, room, more = list(events), at_most, False
        while True:  # without what goes, more may be due: a denial is a refusal once its grants are forgotten
            ends = Ends(self.terms, left)
            spans = {recorded.seq: self.terms.span(recorded, ends) for recorded in left}
            spans |= {seq: Span(until_ms, until_ms) for seq, until_ms in kept_until_ms.items() if seq in spans}
            due = {seq for seq, span in spans.items() if span.due_ms <= self.now_ms}
            going = self._together(left, due, account_stands)
            if room is not None and len(going) > room:
                more = True
                first = [recorded.seq for recorded in _ordered(left) if recorded.seq in going][:room]
                going = self._together(left, set(first), account_stands)
            if not going:
                break
            gone += (recorded.seq for recorded in _ordered(left) if recorded.seq in going)
            left = [recorded for recorded in left if recorded.seq not in going]
            room = None if room is None else room - len(going)
        marks = self._marks(events, set(gone)) if gone else ()
        return Plan(tuple(gone), marks, self.now_ms if more else self._next_ms(spans, due))

    def _next_ms(self, spans: Mapping[int, Span], held: Collection[int]) -> int | None:
        """Of records that all stay; `held`: those that are due and stay for others' sake."""
        moments = [
            self.now_ms + HELD_AGAIN_MS if seq in held else max(span.earliest_ms, self.now_ms + 1)
            for seq, span in spans.items()
        ]
        soonest = min(moments, default=NEVER)
        return None if soonest >= NEVER else soonest

    # --- what goes together ----------------------------------------------------------------------------------------

    def _together(self, events: Sequence[Recorded], due: set[int], account_stands: bool) -> set[int]:
        going = set(due)
        own = {one.seq for one in events if one.event.type in _LAPSES and self._has_own_period(one)}
        going -= {one.seq for one in events if one.event.type in _LAPSES and one.seq not in own}
        self._hold_answers(events, going)
        self._hold_links(events, going, account_stands)
        kept = {one.seq for one in events if one.seq not in going and one.event.type not in _LAPSES}
        for one in events:
            if one.event.type in _LAPSES and one.seq not in own and kept.isdisjoint(one.event.lapsed.values()):
                going.add(one.seq)
        return going

    def _has_own_period(self, recorded: Recorded) -> bool:
        in_force = self.terms.policies.in_effect_order[self.terms.last] if self.terms.last >= 0 else None
        return in_force is not None and recorded.event.type in in_force.document.record_retention_of

    def _hold_answers(self, events: Sequence[Recorded], going: set[int]) -> None:
        """Take out of `going` whatever goes above an earlier grant that stays, until nothing does."""
        waiting: dict[str, list[tuple[Key, int]]] = {}
        grants: dict[int, list[tuple[str, Key]]] = {}
        for recorded in events:
            for answer in answers_of(recorded):
                family = ANY_PURPOSE if answer.name == ANY_PURPOSE else self.terms.family(answer.name)
                if recorded.seq in going:
                    insort(waiting.setdefault(family, []), (answer.key, recorded.seq))
                if not answer.denied:
                    grants.setdefault(recorded.seq, []).append((family, answer.key))
        staying = [seq for seq in grants if seq not in going]
        while staying:
            for family, key in grants.get(staying.pop(), ()):
                for over in (waiting.get(family, []), waiting.get(ANY_PURPOSE, [])):
                    while over and over[-1][0] > key:
                        _, seq = over.pop()
                        if seq in going:
                            going.remove(seq)
                            staying.append(seq)

    def _hold_links(self, events: Sequence[Recorded], going: set[int], account_stands: bool) -> None:
        links = sorted((one for one in events if one.event.type in LINKING), key=link_key)
        if not links:
            return
        if links[-1].event.type == "account.linked":
            answers_stay = any(answers_of(one) for one in events if one.seq not in going)
            if account_stands or answers_stay:
                going.discard(links[-1].seq)
        stays = False
        for link in links:
            if stays:
                going.discard(link.seq)
            stays = stays or link.seq not in going

    # --- marks -----------------------------------------------------------------------------------------------------

    def _marks(self, events: Sequence[Recorded], going: set[int]) -> tuple[Suppression, ...]:
        """One for each purpose that a denial among them named, unless a later one that stays says the same."""
        state = fold(EMPTY_STATE, events)
        shared = any(one.event.account is not None for one in events)  # what others say may count beside it
        newest: dict[str, Answered] = {}
        kept: dict[str, Key] = {}
        granted: dict[str, Key] = {}
        for answer in _answers(events):
            if not answer.denied:
                family = self.terms.family(answer.name)
                granted[family] = max(answer.key, granted.get(family, answer.key))
            elif answer.recorded.seq in going:
                newest[answer.name] = max((answer, newest.get(answer.name, answer)), key=lambda each: each.key)
            elif not answer.signal:
                kept[answer.name] = max(answer.key, kept.get(answer.name, answer.key))
        marks = []
        for name, answer in sorted(newest.items()):
            if (name in kept and kept[name] > answer.key) or not (shared or self._needs_mark(name)):
                continue
            above = {family for family, key in granted.items() if key > answer.key}
            # As a linked browser's own no it stood against what others granted for the account later.
            names = self._names(name) if state.account is not None else ()
            stands = [each for each in names if self.terms.family(each) not in above]
            if name not in stands:
                marks.append(self._mark(name, answer, answer.when_ms))
            marks += [self._mark(each, answer, max(answer.when_ms, self.now_ms)) for each in stands]
        return tuple(_newest(marks))

    def _mark(self, name: str, denial: Answered, set_ms: int) -> Suppression:
        return Suppression(name, set_ms, self._suppress_until_ms, denial.recorded.seq)

    def _names(self, name: str) -> tuple[str, ...]:
        """What a denial of this name denies, by the version in force."""
        if name != ANY_PURPOSE or self.terms.last < 0:
            return (name,)
        document = self.terms.policies.in_effect_order[self.terms.last].document
        return tuple(each for each in document.purposes if document.asks(each))

    def _needs_mark(self, name: str) -> bool:
        """Whether silence about the purpose grants anywhere, by the versions in force now or later, or may one day."""
        return self._always_marks or (bool(self._loose) if name == ANY_PURPOSE else name in self._loose)


def _loose(policies: PolicyHistory, first: int) -> Iterator[str]:
    """The names of purposes that are not opt-in everywhere, those that they go on with among them."""
    for entry in policies.in_effect_order[first:]:
        for name in entry.document.purposes:
            if entry.document.asks(name) and set(entry.document.regimes_of(name).values()) != {"opt-in"}:
                yield from entry.document.names_of(name)


def _newest(marks: Iterable[Suppression]) -> list[Suppression]:
    """One for each name."""
    found: dict[str, Suppression] = {}
    for mark in marks:
        found[mark.purpose] = max(mark, found.get(mark.purpose, mark))
    return [found[name] for name in sorted(found)]


def _answers(events: Iterable[Recorded]) -> Iterator[Answered]:
    for recorded in events:
        yield from answers_of(recorded)


def _ordered(events: Sequence[Recorded]) -> list[Recorded]:
    """Such that no answer comes before an earlier grant of its purposes, and no link before an earlier one."""

    def place(recorded: Recorded) -> tuple[int, Key]:
        if recorded.event.type in LINKING:
            return 2, link_key(recorded)
        if recorded.event.type in _LAPSES:
            return 3, (recorded.recorded_ms, False, recorded.seq)
        keys = [answer.key for answer in answers_of(recorded)]
        if not keys:
            return 0, (recorded.recorded_ms, False, recorded.seq)
        return 1, max(keys)

    return sorted(events, key=place)


def counts(events: Iterable[Recorded]) -> Counter[tuple[str, str, str]]:
    """How many records there are, by type, purpose and month (`2026-11`) of recording; `-` where none is named."""
    found: Counter[tuple[str, str, str]] = Counter()
    for recorded in events:
        month = encode_time(recorded.recorded_ms)[:7]
        for purpose in sorted(recorded.event.decisions) or ["-"]:
            found[recorded.event.type, purpose, month] += 1
    return found
