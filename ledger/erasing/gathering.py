"""Gathering what is on record of a person: under the visitor, and under every account it ever had to do with.

Read in pages, opened here; what of it goes, and what has to outlive it, is core/erasing.
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.core.decide import EMPTY_STATE, Recorded, fold
from ledger.core.erasing import Plan, links_to, plan
from ledger.core.question import Mark
from ledger.erasing import store
from ledger.erasing.execution import suppress_for
from ledger.site import Site, recorded
from ledger.store.reads import Reads


class Person(NamedTuple):
    """What is on record of a person by subject, and what stands beside it; the members are those
    of `core.erasing.plan`."""

    events: dict[bytes, list[Recorded]]
    whole: bytes
    beside: dict[bytes, tuple[bytes, ...]]
    above: dict[bytes, list[Recorded]]
    inherited: dict[bytes, tuple[Mark, ...]]

    def plan(self, site: Site, now_ms: int, last_seq: int) -> Plan:
        """What becomes of it."""
        return plan(
            self.events,
            site.policies,
            whole=(self.whole,),
            beside=self.beside,
            above=self.above,
            inherited=self.inherited,
            now_ms=now_ms,
            last_seq=last_seq,
            term=suppress_for(site, now_ms),
        )

    def find(self, seqs: set[int]) -> list[Recorded]:
        """The events of these seqs."""
        return [one for found in self.events.values() for one in found if one.seq in seqs]


async def gather(reads: Reads, pool: asyncpg.Pool, site: Site, subject: bytes, *, is_account: bool) -> Person:
    """Everything that goes with a visitor, or with an account."""
    own = await everything(reads, site, subject)
    others = await store.related(pool, site.site_id, subject)
    events, beside, above = {subject: own}, dict[bytes, tuple[bytes, ...]](), dict[bytes, list[Recorded]]()
    if is_account:
        held_for: list[bytes] = []
        for visitor in others:
            acts = await everything(reads, site, visitor)
            if links := links_to(subject.hex(), acts):
                events[visitor] = links
            if fold(EMPTY_STATE, acts).account == subject.hex():
                held_for.append(visitor)
        beside[subject] = tuple(held_for)
        marks = (await reads.marks(site.site_id, [subject])).get(subject, ())
        return Person(events, subject, beside, above, dict.fromkeys(held_for, marks))
    linked = fold(EMPTY_STATE, own).account
    for account in others:
        found = await everything(reads, site, account)
        mine = [one for one in found if site.hasher.visitor(one.event.visitor) == subject]
        if mine:
            events[account] = mine
        if account.hex() == linked:
            above[subject] = found
    inherited: dict[bytes, tuple[Mark, ...]] = {}
    if linked is not None:
        inherited[subject] = tuple(chain(*(await reads.marks(site.site_id, [bytes.fromhex(linked)])).values()))
    return Person(events, subject, beside, above, inherited)


async def everything(reads: Reads, site: Site, subject: bytes) -> list[Recorded]:
    """Every living event under a subject (keyed hash), in the order of the log."""
    found: list[Recorded] = []
    while True:
        after = found[-1].seq if found else -1
        page = await reads.history(site.site_id, subject, after, config.ERASURE_PAGE_EVENTS)
        found += [recorded(site.vault, row) for row in page]
        if len(page) < config.ERASURE_PAGE_EVENTS:
            return found
