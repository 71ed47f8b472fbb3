"""What of a person goes, in which order, and what has to outlive it: pure, from the events of that person.

Erasure must not turn a "no" into a "yes". Therefore:

- Older acts go before newer ones, and denials last, so that what is left of somebody who goes in several entries never
  says more than the whole did.
- Where something is left that a denial which goes had stood against, a mark takes that denial's place: another
  browser's grants for the same account, a browser's own grants where the account goes, an event that law wants kept.
- Where nothing is left, a mark takes its place if the purpose is anywhere asked under another regime than opt-in, for
  there silence would grant. Where all is opt-in there is nothing to keep it for, unless the version in force names
  `suppressFor`: so a site says beforehand that a later version may count on silence.
- A link that an erased link had ended goes with it.

A mark counts from when the denial counted, and was known with the denial's entry, so that an answer about the past does
not become a grant either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple

from ledger.core.duration import Duration
from ledger.core.entry import MAX_ERASED_SEQS
from ledger.core.event import ANY_PURPOSE, DENIED, GRANTED, LINKING
from ledger.core.fold import EMPTY_STATE, Act, Acts, Recorded, effective_ms, fold, newer
from ledger.core.policy import PolicyHistory
from ledger.core.question import Mark


class MarkOf(NamedTuple):
    """A mark, and the subject (keyed hash) under which it is set."""

    subject: bytes
    mark: Mark


class Kept(NamedTuple):
    """An event that stays until then, for the acceptance of these purposes has to be kept."""

    seq: int
    until_ms: int
    purposes: tuple[str, ...]


class Plan(NamedTuple):
    """What becomes of one person: which events go, in this order; which stay; which marks are set before any goes."""

    goes: tuple[int, ...]
    kept: tuple[Kept, ...] = ()
    marks: tuple[MarkOf, ...] = ()


class Share(NamedTuple):
    """How much of an entry is one plan's (its index), and whether that begins (`first`) or ends (`last`) with it."""

    plan: int
    seqs: tuple[int, ...]
    first: bool
    last: bool


def plan(
    events: Mapping[bytes, Sequence[Recorded]],
    policies: PolicyHistory,
    *,
    whole: Collection[bytes],
    beside: Mapping[bytes, Collection[bytes]],
    above: Mapping[bytes, Iterable[Recorded]],
    now_ms: int,
    last_seq: int,
    term: Duration,
    inherited: Mapping[bytes, Collection[Mark]] = MappingProxyType({}),
    stays: Collection[int] = (),
) -> Plan:
    """What becomes of `events` (subject -> what of it is the person's).

    Of the subjects `whole` nothing else is left, of the others something is. `beside`: subject -> others that its
    denials had held for too; `above`: subject -> all events of the account that it is linked to, whose denials had held
    for it. `inherited`: subject -> marks of the account that it is linked to: what stands in for a denial that was
    erased before goes on to whom it had held for. `stays`: seqs that may not go yet, for whoever made them is
    restricted. `term` is for how long marks stand; `last_seq` the log's last entry.
    """
    kept = {one.seq: keep for found in events.values() for one in found if (keep := _kept(one, policies, now_ms))}
    staying = {*kept, *stays}
    in_force = policies.in_force(now_ms)
    always = in_force is not None and in_force.document.suppress_for is not None
    goes = sorted((one for found in events.values() for one in found if one.seq not in staying), key=_going)
    marks: dict[tuple[bytes, str], Mark] = {}

    def put(subject: bytes, mark: Mark) -> None:
        old = marks.get((subject, mark.purpose))
        if old is None or (mark.set_ms, mark.seq) > (old.set_ms, old.seq):
            marks[subject, mark.purpose] = mark

    for subject, standing in inherited.items():
        left = subject not in whole or any(one.seq in staying for one in events.get(subject, ()))
        for mark in standing:
            if left or always or _may_be_granted_by_default(policies, mark.purpose):
                put(subject, mark)

    for subject, found in events.items():
        remaining = [one for one in found if one.seq in staying]
        by_law = [one for one in remaining if one.seq in kept]
        until_ms = max([term.after(now_ms), *(kept[one.seq].until_ms for one in by_law)])
        denials = _denials([*(one for one in found if one.seq not in staying), *above.get(subject, ())])
        for purpose, act in denials.items():
            mark = Mark(purpose, act.effective_ms, until_ms, act.seq)
            if subject not in whole or remaining or always or _may_be_granted_by_default(policies, purpose):
                put(subject, mark)
            for other in beside.get(subject, ()):
                put(other, mark)
        for one in by_law:
            for purpose, answer in one.event.decisions.items():
                if answer == GRANTED and purpose not in kept[one.seq].purposes:
                    put(subject, Mark(purpose, now_ms, until_ms, last_seq))
    return Plan(
        tuple(one.seq for one in goes),
        tuple(sorted(kept.values())),
        tuple(MarkOf(subject, mark) for (subject, _), mark in sorted(marks.items())),
    )


def links_to(account: str, own: Iterable[Recorded]) -> list[Recorded]:
    """Of a visitor's events those that go with an account (keyed hash, hex): what names it, and the links, be they to
    whom they may, that were ended thereby."""
    linking = [one for one in own if one.event.type in LINKING]
    last = max((_link_order(one) for one in linking if one.event.account == account), default=None)
    return [] if last is None else [one for one in linking if _link_order(one) <= last]


def _link_order(one: Recorded) -> tuple[int, bool, int]:
    """As core/fold has it: by when it counts, an end after a beginning."""
    ends = one.event.type == "account.unlinked"
    return effective_ms(one, DENIED if ends else GRANTED), ends, one.seq


def shares(plans: Sequence[Plan], limit: int = MAX_ERASED_SEQS) -> list[tuple[Share, ...]]:
    """The entries that take away everything that goes, people mixed, each of at most `limit` seqs.

    A plan by which nothing goes is in none of them.
    """
    entries: list[tuple[Share, ...]] = []
    open_shares: list[Share] = []
    room = limit
    for index, found in enumerate(plans):
        done = 0
        while done < len(found.goes):
            taken = found.goes[done : done + room]
            open_shares.append(Share(index, taken, done == 0, done + len(taken) == len(found.goes)))
            done += len(taken)
            room -= len(taken)
            if room == 0:
                entries.append(tuple(open_shares))
                open_shares, room = [], limit
    if open_shares:
        entries.append(tuple(open_shares))
    return entries


def evidence_of(requests: Iterable[bytes]) -> str:
    """The evidence (64 hex digits) of an erasure for requests with these evidence hashes (32 bytes each)."""
    return sha256(b"".join(sorted(set(requests)))).hexdigest()


def events_hash(seqs: Iterable[int]) -> str:
    """What the administrative act says of the events that are to be erased (64 hex digits)."""
    return sha256(b"".join(seq.to_bytes(8, "big") for seq in sorted(seqs))).hexdigest()


# --- what stays -------------------------------------------------------------------------------------------------------


def _kept(one: Recorded, policies: PolicyHistory, now_ms: int) -> Kept | None:
    """Whether an event has to stay: it accepts a document, and the cited version says for how long that is kept."""
    version = one.event.policy_version
    cited = None if version is None else policies.get(version)
    if cited is None or GRANTED not in one.event.decisions.values():
        return None
    until: dict[str, int] = {}
    for purpose, answer in one.event.decisions.items():
        terms = cited.document.purposes.get(purpose)
        if answer == GRANTED and terms is not None and terms.kind == "acceptance" and terms.retention is not None:
            until[purpose] = terms.retention.after(effective_ms(one, GRANTED))
    until = {purpose: until_ms for purpose, until_ms in until.items() if until_ms > now_ms}
    return Kept(one.seq, max(until.values()), tuple(sorted(until))) if until else None


# --- in which order it goes -------------------------------------------------------------------------------------------


def _going(one: Recorded) -> tuple[bool, int, int]:
    """Whatever holds no denial alone first, then denials; each by when it counts."""
    answers = one.event.decisions.values()
    return (
        DENIED in answers and GRANTED not in answers,
        effective_ms(one, DENIED if DENIED in answers or one.event.type == "account.unlinked" else GRANTED),
        one.seq,
    )


# --- what takes its place ---------------------------------------------------------------------------------------------


def _denials(events: Iterable[Recorded]) -> dict[str, Act]:
    """Purpose (or `*`) -> the newest denial of it, unless a newer one of `*` covers it."""
    state = fold(EMPTY_STATE, events)
    every = newer(state.every.denial_of_all, state.every.signal_of_all)
    if state.rest is not None:
        every = newer(every, _denial(state.rest))
    found: dict[str, Act] = {} if every is None else {ANY_PURPOSE: every}
    for purpose, acts in state.purposes.items():
        denial = _denial(acts)
        if denial is not None and (every is None or _later(denial, every)):
            found[purpose] = denial
    return found


def _denial(acts: Acts) -> Act | None:
    return newer(acts.denial, acts.signal)


def _later(one: Act, other: Act) -> bool:
    return (one.effective_ms, one.seq) > (other.effective_ms, other.seq)


def _may_be_granted_by_default(policies: PolicyHistory, purpose: str) -> bool:
    """Whether some version asks for it, or for what goes on with it, anywhere under another regime than opt-in."""
    for document in (published.document for published in policies):
        for name in {*document.purposes, purpose}:
            covered = purpose in (ANY_PURPOSE, name) or purpose in document.names_of(name)
            if covered and any(regime != "opt-in" for regime in document.regimes_of(name).values()):
                return True
    return False
