"""Where visitors stand: the folded state of each and of the account that it is linked to, now or as of a time.

A visitor's link is known only once its events are folded, so accounts are asked for in a second question, for all
visitors at once. It asks for the linked visitors again, so that each stands at one moment together with its account.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ledger import config
from ledger.core.decide import EMPTY_STATE, State, fold
from ledger.core.event import ANY_PURPOSE
from ledger.core.fold import Acts
from ledger.core.question import Blocked, Mark
from ledger.site import Site, recorded, state_of
from ledger.store.reads import Block, Reads


class Standing(NamedTuple):
    """A visitor's state, and that of the account that it is linked to (None: to none); the marks of both, and whether
    nothing on record of one of them may be used. `block` is the visitor's own: it is about to be erased (`pending`), or
    was a moment ago and is to take another id (`erased`), or nothing on record of it may be used (`restricted`).
    """

    state: State
    account: State | None = None
    marks: tuple[Mark, ...] = ()
    blocked: Blocked | None = None
    block: str | None = None


class Now(NamedTuple):
    """The log's size, its newest policy and the ledger's time when visitors were asked for, and where each stands."""

    size: int
    policy_seq: int
    now_ms: int
    standings: list[Standing]


async def standing_now(reads: Reads, site: Site, visitors: Sequence[bytes]) -> Now:
    """Where visitors (keyed hashes, at least one) stand, by everything that is in the log."""
    rows = await reads.visitors(site.site_id, visitors)
    size, policy_seq, now_ms = rows[0].size, rows[0].policy_seq, rows[0].now_ms
    states: list[State] = []
    held: list[_Held] = []
    for n, row in enumerate(rows):
        if n and n % config.CHECK_SLICE_VISITORS == 0:
            await asyncio.sleep(0)  # other requests go on while many are folded
        states.append(state_of(site.vault, row))
        held.append(_Held(row.marks, row.block))
    del rows
    accounts: dict[str, State] = {}
    held_of: dict[str, _Held] = {}
    linked = [n for n, state in enumerate(states) if state.account is not None]
    while linked and not {states[n].account for n in linked} <= accounts.keys() | {None}:
        wanted = sorted({account for n in linked if (account := states[n].account) is not None})
        subjects = [*(visitors[n] for n in linked), *map(bytes.fromhex, wanted)]
        again = await reads.visitors(site.site_id, subjects)
        now_ms = again[0].now_ms
        for n, row in zip(linked, again, strict=False):
            states[n], held[n] = state_of(site.vault, row), _Held(row.marks, row.block)
        held_of = {name: _Held(row.marks, row.block) for name, row in zip(wanted, again[len(linked) :], strict=True)}
        accounts = {name: state_of(site.vault, row) for name, row in zip(wanted, again[len(linked) :], strict=True)}
    standings = [
        _standing(state, own, accounts[state.account], held_of[state.account])
        if state.account
        else _standing(state, own)
        for state, own in zip(states, held, strict=True)
    ]
    return Now(size, policy_seq, now_ms, _of(site, standings))


class _Held(NamedTuple):
    """What is held against a subject beside its acts."""

    marks: tuple[Mark, ...] = ()
    block: Block | None = None


_NOTHING = _Held()


def _standing(state: State, own: _Held, account: State | None = None, its: _Held = _NOTHING) -> Standing:
    if not (own.marks or own.block or its.marks or its.block):
        return Standing(state, account)  # as nearly all
    marks = (*own.marks, *its.marks)
    if own.block is not None and own.block.state == "erased":
        marks = (*marks, Mark(ANY_PURPOSE, own.block.since_ms, own.block.until_ms, 0))
    blocks = {block.state for block in (own.block, its.block) if block is not None}
    blocked: Blocked | None = (
        "erasure_pending" if "pending" in blocks else "restricted" if "restricted" in blocks else None
    )
    return Standing(state, account, marks, blocked, None if own.block is None else own.block.state)


async def standing_then(
    reads: Reads, site: Site, visitors: Sequence[bytes], at_ms: int, known_seq: int
) -> list[Standing]:
    """Where visitors stood at a time, by the entries up to `known_seq`: their histories are folded anew."""
    states = await _past_states(reads, site, visitors, at_ms, known_seq)
    wanted = sorted({state.account for state in states if state.account is not None})
    past = await _past_states(reads, site, [bytes.fromhex(account) for account in wanted], at_ms, known_seq)
    accounts = dict(zip(wanted, past, strict=True))
    held = await _held(reads, site, [*visitors, *map(bytes.fromhex, wanted)])
    standings = [
        _standing(
            state,
            held.get(visitor, _NOTHING),
            accounts[state.account] if state.account else None,
            held.get(bytes.fromhex(state.account), _NOTHING) if state.account else _NOTHING,
        )
        for visitor, state in zip(visitors, states, strict=True)
    ]
    return _of(site, standings)


def _of(site: Site, standings: list[Standing]) -> list[Standing]:
    """Of a site that was closed the refusals are gone without a mark: nobody is granted by default for it."""
    if not site.closed:
        return standings
    return [one if one.blocked else one._replace(blocked="restricted") for one in standings]


async def _held(reads: Reads, site: Site, subjects: Sequence[bytes]) -> dict[bytes, _Held]:
    """What is held now against subjects; of those that are not in it nothing is."""
    marks, blocks = await reads.marks(site.site_id, subjects), await reads.blocks(site.site_id, subjects)
    return {subject: _Held(marks.get(subject, ()), blocks.get(subject)) for subject in {*marks, *blocks}}


async def _past_states(reads: Reads, site: Site, subjects: Sequence[bytes], at_ms: int, known_seq: int) -> list[State]:
    """Each subject's state, read in pages: whoever has more events than a page is asked for again."""
    states = [EMPTY_STATE] * len(subjects)
    for start in range(0, len(subjects), config.PAST_SLICE_SUBJECTS):
        after = dict.fromkeys(range(start, min(start + config.PAST_SLICE_SUBJECTS, len(subjects))), -1)
        while after:
            asked = list(after)
            pages = await reads.histories(
                site.site_id,
                [subjects[n] for n in asked],
                list(after.values()),
                known_seq,
                config.PAST_PAGE_EVENTS,
            )
            for n, page in zip(asked, pages, strict=True):
                states[n] = fold(states[n], [recorded(site.vault, row) for row in page], until_ms=at_ms)
                if len(page) < config.PAST_PAGE_EVENTS:
                    del after[n]
                else:
                    after[n] = page[-1].seq
    return states


def acts_of(standing: Standing) -> list[int]:
    """The entries (seqs, ascending) that a standing was made of, as far as they still can matter."""
    found: set[int] = set()
    for state in (standing.state, standing.account):
        if state is not None:
            every: list[Acts | None] = [state.every, state.rest, *state.purposes.values()]
            held = [act for acts in every if acts is not None for act in msgspec.structs.astuple(acts)]
            found |= {
                act.seq for act in (*held, state.last, state.link, state.dismissed, state.seen) if act is not None
            }
    return sorted(found)
