"""What of one visitor's events can still matter: a small state that is a function of the set of events.

Folding is commutative and idempotent: any order, any repetition and any split into batches gives the same state, byte
for byte. Nothing is judged here; what the acts come to is in core/decide. Per purpose three acts are enough, the
newest of each kind, because every rule asks for the newest act or for whether one of a kind exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ledger.core.duration import DAY_MS
from ledger.core.encoding import decode_time
from ledger.core.errors import Malformed
from ledger.core.event import ANY_PURPOSE, DENIED, GRANTED, MIN_TIME_MS, Answer, Event

ACCEPTANCE_WINDOW_MS = 7 * DAY_MS
"""How far back a denial's own two clocks may place it (DESIGN section 8)."""

MAX_TRACKED_PURPOSES = 128
"""Purposes with a record of their own, per visitor. A policy has at most 64; a visitor may deny names it never had."""

_STATE_FORMAT = b"\x01"


class Recorded(NamedTuple):
    """A stored event with its entry's seq and time."""

    seq: int
    recorded_ms: int
    event: Event


class Act(Struct, frozen=True, array_like=True, gc=False):
    """One answer to one purpose: when it counts, its entry, the version it cites, where and under which signal."""

    effective_ms: int
    seq: int
    version: str | None = None
    region: str | None = None
    gpc: bool = False


class Acts(Struct, frozen=True, array_like=True):
    """The newest act of each kind for one purpose; `signal` is a denial that a GPC signal made, not a person."""

    grant: Act | None = None
    denial: Act | None = None
    signal: Act | None = None


class State(Struct, frozen=True, array_like=True):
    """One visitor.

    `every` holds the denials of `"*"`, `purposes` whatever was named (with the denials of `"*"` that did not name it),
    `rest` what stands for purposes beyond the bound, and `last` the newest act of all.
    """

    every: Acts = Acts()
    purposes: dict[str, Acts] = {}
    rest: Acts | None = None
    last: Act | None = None

    def acts(self, purpose: str) -> Acts:
        """What counts for a purpose."""
        found = self.purposes.get(purpose)
        if found is not None:
            return found
        return self.every if self.rest is None else self.rest


EMPTY_STATE = State()


def effective_ms(recorded: Recorded, answer: Answer) -> int:
    """When an act counts (DESIGN section 8): a wrong clock gains a grant nothing and takes nothing from a denial.

    It depends on the answer, so an event with grants and denials may count at two times.
    """
    event, recorded_ms = recorded.event, recorded.recorded_ms
    occurred_ms = _time_ms(event.occurred_at)
    if occurred_ms is None:
        return recorded_ms
    if event.action == "import":
        return min(occurred_ms, recorded_ms)
    sent_ms = _time_ms(event.sent_at)
    if sent_ms is None:
        return min(occurred_ms, recorded_ms) if answer == GRANTED else recorded_ms
    age_ms = max(0, sent_ms - occurred_ms)
    if answer == DENIED and age_ms > ACCEPTANCE_WINDOW_MS:
        return recorded_ms
    return max(recorded_ms - age_ms, MIN_TIME_MS)


def fold(state: State, events: Iterable[Recorded], *, until_ms: int | None = None) -> State:
    """`state` with the events added. With `until_ms`, without the acts that count only after that time."""
    every, rest, last = state.every, state.rest, state.last
    purposes = dict(state.purposes)
    for recorded in events:
        decisions, signal = recorded.event.decisions, recorded.event.action == "gpc"
        grant = _act(recorded, GRANTED, until_ms) if GRANTED in decisions.values() else None
        denial = _act(recorded, DENIED, until_ms) if DENIED in decisions.values() else None
        for purpose, answer in decisions.items():
            if purpose != ANY_PURPOSE:
                # A purpose named for the first time has had every "*" so far, but not this event's.
                acts = purposes.get(purpose, every)
                purposes[purpose] = (
                    _with_grant(acts, grant) if answer == GRANTED else _with_denial(acts, denial, signal)
                )
        if decisions.get(ANY_PURPOSE) == DENIED:
            every = _with_denial(every, denial, signal)
            rest = rest and _with_denial(rest, denial, signal)
            for purpose, acts in purposes.items():
                if purpose not in decisions:
                    purposes[purpose] = _with_denial(acts, denial, signal)
        if len(purposes) > MAX_TRACKED_PURPOSES:
            rest = _evict(purposes, every if rest is None else rest)
        last = newer(newer(last, grant), denial)
    return State(every, purposes, rest, last)


def _evict(purposes: dict[str, Acts], rest: Acts) -> Acts:
    """Keep the names that sort first, whatever order they came in; all else is remembered as denials of the rest.

    A name that is among the first of all is among the first of any part, so it is never evicted and stays exact. What
    is evicted fails safe: its grants too count as denials, and they count for every purpose without a record.
    """
    for purpose in sorted(purposes)[MAX_TRACKED_PURPOSES:]:
        acts = purposes.pop(purpose)
        rest = Acts(None, newer(newer(rest.denial, acts.denial), acts.grant), newer(rest.signal, acts.signal))
    return rest


def _act(recorded: Recorded, answer: Answer, until_ms: int | None) -> Act | None:
    event = recorded.event
    when_ms = effective_ms(recorded, answer)
    if until_ms is not None and when_ms > until_ms:
        return None
    return Act(when_ms, recorded.seq, event.policy_version, event.region, event.gpc)


def _with_grant(acts: Acts, grant: Act | None) -> Acts:
    return Acts(newer(acts.grant, grant), acts.denial, acts.signal)


def _with_denial(acts: Acts, denial: Act | None, signal: bool) -> Acts:
    if signal:
        return Acts(acts.grant, acts.denial, newer(acts.signal, denial))
    return Acts(acts.grant, newer(acts.denial, denial), acts.signal)


def newer(one: Act | None, other: Act | None) -> Act | None:
    """The later of two acts of one kind: by effective time, ties by seq."""
    if one is None or other is None:
        return other if one is None else one
    return other if (other.effective_ms, other.seq) > (one.effective_ms, one.seq) else one


def _time_ms(text: str | None) -> int | None:
    """A stored time. One that is in no calendar says nothing: the fold has to be total."""
    if text is None:
        return None
    try:
        return decode_time(text)
    except Malformed:
        return None


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(State)


def encode_state(state: State) -> bytes:
    """Compact bytes, equal for equal states."""
    return _STATE_FORMAT + _ENCODER.encode(state)


def decode_state(data: bytes) -> State:
    """A state from its bytes; `Malformed` for anything else, such as a state of another format."""
    if data[:1] != _STATE_FORMAT:
        raise Malformed("the visitor state is of another format; rebuild the projection")
    try:
        return _DECODER.decode(data[1:])
    except msgspec.MsgspecError as error:
        raise Malformed("the visitor state cannot be read; rebuild the projection") from error
