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
from ledger.core.fold import Acts
from ledger.site import Site, recorded, state_of
from ledger.store.reads import Reads


class Standing(NamedTuple):
    """A visitor's state, and that of the account that it is linked to (None: to none)."""

    state: State
    account: State | None = None


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
    for n, row in enumerate(rows):
        if n and n % config.CHECK_SLICE_VISITORS == 0:
            await asyncio.sleep(0)  # other requests go on while many are folded
        states.append(state_of(site.vault, row))
    del rows
    accounts: dict[str, State] = {}
    linked = [n for n, state in enumerate(states) if state.account is not None]
    while linked and not {states[n].account for n in linked} <= accounts.keys() | {None}:
        wanted = sorted({account for n in linked if (account := states[n].account) is not None})
        subjects = [*(visitors[n] for n in linked), *map(bytes.fromhex, wanted)]
        again = await reads.visitors(site.site_id, subjects)
        now_ms = again[0].now_ms
        for n, row in zip(linked, again, strict=False):
            states[n] = state_of(site.vault, row)
        accounts = {name: state_of(site.vault, row) for name, row in zip(wanted, again[len(linked) :], strict=True)}
    standings = [Standing(state, accounts[state.account] if state.account else None) for state in states]
    return Now(size, policy_seq, now_ms, standings)


async def standing_then(
    reads: Reads, site: Site, visitors: Sequence[bytes], at_ms: int, known_seq: int
) -> list[Standing]:
    """Where visitors stood at a time, by the entries up to `known_seq`: their histories are folded anew."""
    states = await _past_states(reads, site, visitors, at_ms, known_seq)
    wanted = sorted({state.account for state in states if state.account is not None})
    past = await _past_states(reads, site, [bytes.fromhex(account) for account in wanted], at_ms, known_seq)
    accounts = dict(zip(wanted, past, strict=True))
    return [Standing(state, accounts[state.account] if state.account else None) for state in states]


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
    for state in standing:
        if state is not None:
            every: list[Acts | None] = [state.every, state.rest, *state.purposes.values()]
            held = [act for acts in every if acts is not None for act in msgspec.structs.astuple(acts)]
            found |= {
                act.seq for act in (*held, state.last, state.link, state.dismissed, state.seen) if act is not None
            }
    return sorted(found)
