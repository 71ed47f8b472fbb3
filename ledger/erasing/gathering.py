"""Gathering what is on record of a person: under the visitor, and under every account it ever had to do with.

Read in pages, opened here; what of it goes, and what has to outlive it, is core/erasing.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    restricted: dict[int, bytes] = {}  # noqa: RUF012 - a NamedTuple's default, that nobody changes
    """Seq -> who is restricted, of events that stay meanwhile."""

    def plan(self, site: Site, now_ms: int, last_seq: int) -> Plan:
        """What becomes of it."""
        return plan(
            self.events,
            site.policies,
            whole=(self.whole,),
            beside=self.beside,
            above=self.above,
            inherited=self.inherited,
            stays=self.restricted.keys(),
            now_ms=now_ms,
            last_seq=last_seq,
            term=suppress_for(site, now_ms),
        )

    def find(self, seqs: set[int]) -> list[Recorded]:
        """The events of these seqs."""
        return [one for found in self.events.values() for one in found if one.seq in seqs]


async def gather(reads: Reads, pool: asyncpg.Pool, site: Site, subject: bytes, *, is_account: bool) -> Person:
    """Everything that goes with a visitor, or with an account, and what of it may not go yet."""
    person = await _gather(reads, pool, site, subject, is_account=is_account)
    found = [one for events in person.events.values() for one in events]
    people = whose(site, found)
    blocks = await reads.blocks(site.site_id, sorted(set().union(*people.values())))
    restricted = {each for each, block in blocks.items() if block.state == "restricted"}
    return person._replace(restricted={seq: min(by) for seq, both in people.items() if (by := both & restricted)})


def whose(site: Site, events: Iterable[Recorded]) -> dict[int, set[bytes]]:
    """Seq -> whose an event is (keyed hashes): who made it, and under whom it is filed."""
    visitors: dict[str, bytes] = {}
    found: dict[int, set[bytes]] = {}
    for one in events:
        name = one.event.visitor
        if name not in visitors:
            visitors[name] = site.hasher.visitor(name)
        found[one.seq] = {visitors[name], site.hasher.subject(one.event)}
    return found


async def _gather(reads: Reads, pool: asyncpg.Pool, site: Site, subject: bytes, *, is_account: bool) -> Person:
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
