"""What of one visitor's events can still matter: a small state that is a function of the set of events.

Folding is commutative and idempotent: any order, any repetition and any split into batches gives the same state, byte
for byte. Nothing is judged here; what the acts come to is in core/rules. Per purpose the newest act of each kind is
enough, because every rule asks for the newest act or for whether one of a kind exists. An account has a state of its
own, made of the choices that were made for the account.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from ledger.core.duration import DAY_MS
from ledger.core.encoding import decode_time
from ledger.core.errors import Malformed
from ledger.core.event import ANY_PURPOSE, DENIED, GRANTED, MIN_TIME_MS, Answer, Event

ACCEPTANCE_WINDOW_MS = 7 * DAY_MS
"""How far back a denial's own two clocks may place it."""

MAX_TRACKED_PURPOSES = 128
"""Purposes with a record of their own, per visitor. A policy has at most 64; a visitor may deny names it never had."""

DEVICE_BYTES = 8

_STATE_FORMAT = b"\x02"
_DECIDING = frozenset({"consent.given", "consent.refused", "consent.withdrawn"})
_LINKING = frozenset({"account.linked", "account.unlinked"})


class Recorded(NamedTuple):
    """A stored event with its entry's seq and time. `device` tells the visitor's browser from the others of an account:
    a keyed hash, of events that name an account alone."""

    seq: int
    recorded_ms: int
    event: Event
    device: bytes | None = None


class Act(Struct, frozen=True, array_like=True, gc=False):
    """One answer to one purpose: when it counts, its entry, the version it cites, where and under which signal.

    `guardian`: a guardian made it. `conditional`: it was the price of access. `device`, for choices made for an account
    alone: which browser made it, by the first bytes of a keyed hash.
    """

    effective_ms: int
    seq: int
    version: str | None = None
    region: str | None = None
    gpc: bool = False
    guardian: bool = False
    conditional: bool = False
    device: bytes | None = None


class Link(Struct, frozen=True, array_like=True, gc=False):
    """That this browser belongs to an account from then on (its keyed hash), or to none. `device` as in `Act`."""

    effective_ms: int
    seq: int
    account: str | None = None
    device: bytes | None = None


class Acts(Struct, frozen=True, array_like=True):
    """The newest act of each kind for one purpose.

    The first three name the purpose, the last two are denials of `"*"` by events that do not. A `signal` is a denial
    that a GPC signal made, not a person.
    """

    grant: Act | None = None
    denial: Act | None = None
    signal: Act | None = None
    denial_of_all: Act | None = None
    signal_of_all: Act | None = None


class Heard(NamedTuple):
    """The newest act of each kind for a purpose and those that it goes on with; `name` is what the grant named."""

    grant: Act | None
    denial: Act | None
    signal: Act | None
    name: str

    def joined(self, other: Heard) -> Heard:
        """What both have to say together."""
        grant = newer(self.grant, other.grant)
        return Heard(
            grant,
            newer(self.denial, other.denial),
            newer(self.signal, other.signal),
            self.name if grant is self.grant else other.name,
        )


class State(Struct, frozen=True, array_like=True):
    """One visitor, or one account.

    `every` holds the denials of `"*"`, `purposes` whatever was named, `rest` what stands for purposes beyond the bound,
    `last` the newest act of all, `link` the account that the visitor is linked to or was unlinked from last,
    `dismissed` the newest closing of the banner without a choice, `seen` the newest announcement that was shown.
    """

    every: Acts = Acts()
    purposes: dict[str, Acts] = {}
    rest: Acts | None = None
    last: Act | None = None
    link: Link | None = None
    dismissed: Act | None = None
    seen: Act | None = None

    @property
    def account(self) -> str | None:
        """The keyed hash of the account that the visitor is linked to."""
        return None if self.link is None else self.link.account

    def acts(self, purpose: str) -> Acts:
        """What counts for a purpose."""
        found = self.purposes.get(purpose)
        if found is not None:
            return found
        if self.rest is None:
            return self.every
        return Acts(None, self.rest.denial, self.rest.signal, self.every.denial_of_all, self.every.signal_of_all)

    def heard(self, names: tuple[str, ...]) -> Heard:
        """What counts for a purpose of several names, its own first.

        An event that names one of them overrides its own `"*"` for all. Of `"*"` the older of the newest denials that
        each name escaped is taken: exact, unless events named one of them beside `"*"` and later ones another; then a
        denial is remembered that may have named the purpose otherwise, which errs on the side of denial.
        """
        acts = self.acts(names[0])
        grant, denial, signal, name = acts.grant, acts.denial, acts.signal, names[0]
        denial_of_all, signal_of_all = acts.denial_of_all, acts.signal_of_all
        for other in names[1:]:
            acts = self.acts(other)
            if newer(grant, acts.grant) != grant:
                grant, name = acts.grant, other
            denial, signal = newer(denial, acts.denial), newer(signal, acts.signal)
            denial_of_all = _older(denial_of_all, acts.denial_of_all)
            signal_of_all = _older(signal_of_all, acts.signal_of_all)
        if denial_of_all is not None:
            denial = newer(denial, denial_of_all)
        if signal_of_all is not None:
            signal = newer(signal, signal_of_all)
        return Heard(grant, denial, signal, name)


EMPTY_STATE = State()

Placing = Literal["recorded", "imported", "own_clocks", "sent_before", "said", "no_sent_time", "beyond_the_window"]
"""Why an act counts when it does; core/explain has the words."""


def placed(recorded: Recorded, answer: Answer) -> tuple[int, Placing]:
    """When an act counts and why then: a wrong clock gains a grant nothing and takes nothing from a denial.

    It depends on the answer, so an event with grants and denials may count at two times. What is neither (a link, a
    dismissal) counts like a grant, an unlinking like a denial.
    """
    event, recorded_ms = recorded.event, recorded.recorded_ms
    occurred_ms = _time_ms(event.occurred_at)
    if occurred_ms is None:
        return recorded_ms, "recorded"
    if event.action == "import":
        return min(occurred_ms, recorded_ms), "imported"
    sent_ms = _time_ms(event.sent_at)
    if sent_ms is None:
        if answer == GRANTED:
            return min(occurred_ms, recorded_ms), "said"
        return recorded_ms, "no_sent_time"
    age_ms = sent_ms - occurred_ms
    if age_ms <= 0:
        return recorded_ms, "sent_before"
    if answer == DENIED and age_ms > ACCEPTANCE_WINDOW_MS:
        return recorded_ms, "beyond_the_window"
    return max(recorded_ms - age_ms, MIN_TIME_MS), "own_clocks"


def effective_ms(recorded: Recorded, answer: Answer) -> int:
    """When an act counts."""
    return placed(recorded, answer)[0]


def fold(state: State, events: Iterable[Recorded], *, until_ms: int | None = None) -> State:
    """`state` with the events added. With `until_ms`, without the acts that count only after that time.

    Any stored event will do: the ledger's own events, and what no rule asks for, leave the state as it is.
    """
    every, rest, last, link = state.every, state.rest, state.last, state.link
    dismissed, seen = state.dismissed, state.seen
    purposes = dict(state.purposes)
    for recorded in events:
        event = recorded.event
        if event.type not in _DECIDING:
            if event.type in _LINKING:
                link = newer_link(link, _link(recorded, until_ms))
            elif event.type == "consent.dismissed":
                dismissed = newer(dismissed, _act(recorded, GRANTED, until_ms))
            elif event.type == "notice.seen":
                seen = newer(seen, _act(recorded, GRANTED, until_ms))
            continue
        decisions, signal = event.decisions, event.action == "gpc"
        answers = decisions.values()
        grant = _act(recorded, GRANTED, until_ms) if GRANTED in answers else None
        denial = _act(recorded, DENIED, until_ms) if DENIED in answers else None
        for purpose, answer in decisions.items():
            if purpose != ANY_PURPOSE:
                # A purpose named for the first time has had every "*" so far, but not this event's.
                acts = purposes.get(purpose, every)
                purposes[purpose] = (
                    _with_grant(acts, grant) if answer == GRANTED else _with_denial(acts, denial, signal)
                )
        if decisions.get(ANY_PURPOSE) == DENIED:
            every = _with_denial_of_all(every, denial, signal)
            for purpose, acts in purposes.items():
                if purpose not in decisions:
                    purposes[purpose] = _with_denial_of_all(acts, denial, signal)
        if len(purposes) > MAX_TRACKED_PURPOSES:
            rest = _evict(purposes, rest or Acts())
        last = newer(newer(last, grant), denial)
    return State(every, purposes, rest, last, link, dismissed, seen)


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
    when_ms = placed(recorded, answer)[0]
    if until_ms is not None and when_ms > until_ms:
        return None
    return Act(
        when_ms,
        recorded.seq,
        event.policy_version,
        event.region,
        event.gpc,
        event.action == "guardian",
        event.conditional,
        None if event.account is None else _device(recorded),
    )


def _link(recorded: Recorded, until_ms: int | None) -> Link | None:
    event = recorded.event
    linked = event.type == "account.linked"
    when_ms = placed(recorded, GRANTED if linked else DENIED)[0]
    if until_ms is not None and when_ms > until_ms:
        return None
    return Link(when_ms, recorded.seq, event.account if linked else None, _device(recorded))


def _device(recorded: Recorded) -> bytes:
    if recorded.device is None:
        raise ValueError("an act for an account is told with the browser that made it")
    return recorded.device[:DEVICE_BYTES]


def _with_grant(acts: Acts, grant: Act | None) -> Acts:
    return Acts(newer(acts.grant, grant), acts.denial, acts.signal, acts.denial_of_all, acts.signal_of_all)


def _with_denial(acts: Acts, denial: Act | None, signal: bool) -> Acts:
    if signal:
        return Acts(acts.grant, acts.denial, newer(acts.signal, denial), acts.denial_of_all, acts.signal_of_all)
    return Acts(acts.grant, newer(acts.denial, denial), acts.signal, acts.denial_of_all, acts.signal_of_all)


def _with_denial_of_all(acts: Acts, denial: Act | None, signal: bool) -> Acts:
    if signal:
        return Acts(acts.grant, acts.denial, acts.signal, acts.denial_of_all, newer(acts.signal_of_all, denial))
    return Acts(acts.grant, acts.denial, acts.signal, newer(acts.denial_of_all, denial), acts.signal_of_all)


def newer(one: Act | None, other: Act | None) -> Act | None:
    """The later of two acts of one kind: by effective time, ties by seq."""
    if one is None or other is None:
        return other if one is None else one
    return other if (other.effective_ms, other.seq) > (one.effective_ms, one.seq) else one


def _older(one: Act | None, other: Act | None) -> Act | None:
    """The earlier of two; none if there is none on one side."""
    if one is None or other is None:
        return None
    return other if (other.effective_ms, other.seq) < (one.effective_ms, one.seq) else one


def newer_link(one: Link | None, other: Link | None) -> Link | None:
    """The later of two: by effective time, then unlinked over linked, then by seq."""
    if one is None or other is None:
        return other if one is None else one
    return other if _link_order(other) > _link_order(one) else one


def _link_order(link: Link) -> tuple[int, bool, int]:
    return link.effective_ms, link.account is None, link.seq


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
