"""Lapses: grants that ended because time went by or a version took effect, and the events that tell of them.

The events are for those who read the stream and do not ask; no rule reads them, so decisions are the same without
them. A lapse belongs to one row of the projection, a visitor's or an account's, and names the grants that ended by
their seq: a later grant is never meant. A grant that never held has lapsed when it counted first, for nobody who only
reads could tell. A grant that was denied afterwards is not told, nor one of a purpose that is required by now. One that
holds for itself has not lapsed, though the attestation it needs has: that is told of the attestation.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from ledger.core.encoding import encode_time
from ledger.core.errors import Malformed
from ledger.core.event import MAX_PURPOSES, Event
from ledger.core.fold import Act, Recorded, State
from ledger.core.policy import PolicyHistory
from ledger.core.rules import beats
from ledger.core.terms import Terms

LapseType = Literal["consent.expired", "consent.invalidated"]

_TELLING = frozenset({"consent.expired", "consent.invalidated"})

Told = Mapping[str, int]
"""Purpose -> the newest grant, by seq, of which the log tells that it lapsed."""
NOTHING_TOLD: Told = {}


class Lapse(NamedTuple):
    """Grants that ended at one moment (unix milliseconds) for one reason: (purpose, seq), sorted."""

    type: LapseType
    at_ms: int
    grants: tuple[tuple[str, int], ...]


class _Standing(NamedTuple):
    """A grant that no denial stands against: why it has ended, if so, and when it does by its age."""

    grant: Act
    ended: LapseType | None
    until_ms: int | None


class Lapses:
    """What lapses under one history of policies, for many visitors and accounts."""

    def __init__(self, policies: PolicyHistory) -> None:
        self._policies = policies
        self._terms: dict[tuple[str, int], Terms] = {}
        documents = [entry.document for entry in policies]
        self._aliases = {name for each in documents for name, found in each.purposes.items() if found.alias_of}

    def due_ms(self, state: State, told: Told, now_ms: int) -> int | None:
        """When to look at the state next: now, if something is untold; None if nothing will lapse by itself."""
        due_ms: int | None = None
        for purpose in self._purposes(state):
            at_ms = self._ends_ms(state, purpose, told.get(purpose, -1), now_ms)
            if at_ms is not None and (due_ms is None or at_ms < due_ms):
                due_ms = at_ms
        return due_ms

    def untold(self, state: State, told: Told, now_ms: int) -> list[Lapse]:
        """What has lapsed and is not told, oldest first."""
        found: dict[tuple[int, LapseType], list[tuple[str, int]]] = {}
        for purpose in self._purposes(state):
            standing = self._standing(state, purpose, now_ms, self._terms_at(purpose, now_ms))
            if standing is not None and standing.ended and told.get(purpose, -1) < standing.grant.seq:
                since = self._ended_at(state, purpose, standing.grant, now_ms)
                found.setdefault(since, []).append((purpose, standing.grant.seq))
        return [
            Lapse(kind, at_ms, tuple(sorted(grants)[start : start + MAX_PURPOSES]))
            for (at_ms, kind), grants in sorted(found.items())
            for start in range(0, len(grants), MAX_PURPOSES)
        ]

    def _purposes(self, state: State) -> list[str]:
        """For which there may be a grant: those that were granted, and those that go on with others."""
        granted = [purpose for purpose, acts in state.purposes.items() if acts.grant is not None]
        return [*granted, *self._aliases.difference(granted)] if granted and self._aliases else granted

    def _terms_at(self, purpose: str, at_ms: int) -> Terms:
        key = purpose, bisect_right(self._policies.effects_ms, at_ms)
        found = self._terms.get(key)
        if found is None:
            found = self._terms[key] = Terms(self._policies, purpose, at_ms)
        return found

    def _standing(self, state: State, purpose: str, at_ms: int, terms: Terms) -> _Standing | None:
        """None: nobody granted, or a denial came after it, or it makes no difference."""
        if terms.fixed in ("no_policy", "not_required"):
            return None
        heard = state.heard(terms.names)
        grant = heard.grant
        # A signal counts against a grant that was made under it only once that has ended: the end comes first.
        if grant is None or not beats(grant, heard.denial) or not (grant.gpc or beats(grant, heard.signal)):
            return None
        if terms.fixed is not None:
            return _Standing(grant, "consent.invalidated", None)
        lapse, until_ms = terms.lapse(grant, heard.name, at_ms)
        if lapse is None:
            return _Standing(grant, None, until_ms)
        return _Standing(grant, "consent.expired" if lapse == "expired" else "consent.invalidated", until_ms)

    def _ends_ms(self, state: State, purpose: str, told: int, now_ms: int) -> int | None:
        """When a grant ends that is not told of: now, if it has ended; None if there is none that does."""
        at_ms = now_ms
        while True:
            terms = self._terms_at(purpose, at_ms)
            standing = self._standing(state, purpose, at_ms, terms)
            if standing is not None and standing.grant.seq > told:
                if standing.ended is not None:
                    return at_ms
                if standing.until_ms is not None and (terms.ends_ms is None or standing.until_ms < terms.ends_ms):
                    return standing.until_ms
            if terms.ends_ms is None:
                return None
            at_ms = terms.ends_ms

    def _ended_at(self, state: State, purpose: str, grant: Act, now_ms: int) -> tuple[int, LapseType]:
        """Since when a grant that has ended by now does not hold, and why it ended."""
        at_ms = min(grant.effective_ms, now_ms)
        since: tuple[int, LapseType] | None = None
        while True:
            terms = self._terms_at(purpose, at_ms)
            standing = self._standing(state, purpose, at_ms, terms)
            if standing is None or standing.grant.seq != grant.seq:  # another one, under a name that is gone
                since = None
            elif standing.ended is None:
                until_ms, ends_ms = standing.until_ms, terms.ends_ms
                in_time = until_ms is not None and until_ms <= now_ms and (ends_ms is None or until_ms < ends_ms)
                since = (until_ms, "consent.expired") if until_ms is not None and in_time else None
            elif since is None:
                since = at_ms, standing.ended
            if terms.ends_ms is None or terms.ends_ms > now_ms:
                assert since is not None
                return since
            at_ms = terms.ends_ms


def lapse_event(policies: PolicyHistory, lapse: Lapse, grant: Event, event_id: str) -> Event:
    """The event that tells of a lapse; `grant` is one of the events whose grants ended, under the same visitor."""
    in_force = policies.in_force(lapse.at_ms) if lapse.type == "consent.invalidated" else None
    return Event(
        id=event_id,
        site=grant.site,
        type=lapse.type,
        visitor=grant.visitor,
        authentication="ledger",
        policy_version=None if in_force is None else in_force.document.version,
        account=grant.account,
        lapsed=dict(lapse.grants),
        occurred_at=encode_time(lapse.at_ms),
    )


# --- what is told already -------------------------------------------------------------------------------------------


def fold_told(told: Told, events: Iterable[Recorded]) -> Told:
    """What is told, with these events too: in any order, any number of times."""
    added: dict[str, int] | None = None
    for recorded in events:
        if recorded.event.type in _TELLING:
            added = dict(told) if added is None else added
            for purpose, seq in recorded.event.lapsed.items():
                added[purpose] = max(seq, added.get(purpose, seq))
    return told if added is None else added


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(dict[str, int])


def encode_told(told: Told) -> bytes | None:
    """Compact bytes, equal for equal content; None for nothing."""
    return _ENCODER.encode(told) if told else None


def decode_told(data: bytes | None) -> Told:
    """The inverse; `Malformed` for other bytes."""
    if data is None:
        return NOTHING_TOLD
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise Malformed("what is told of a visitor cannot be read; rebuild the projection") from error
