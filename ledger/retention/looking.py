"""Looking at who has records in a part of the log, and what of them goes: reads alone.

What is due is core/retention; a site that is closed keeps what law keeps, and nothing else. Erasing is the pruner's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.core import erasing
from ledger.core.entry import MAX_ERASED_SEQS
from ledger.core.fold import EMPTY_STATE, Recorded, fold
from ledger.core.retention import Plan, Retention, Suppression, counts
from ledger.erasing.execution import suppress_for
from ledger.erasing.gathering import everything, whose
from ledger.retention import store
from ledger.retention.store import Block
from ledger.site import Site, recorded
from ledger.store.reads import Reads


class Subject(NamedTuple):
    """One visitor or account, by its keyed hash: what is on record, and what of it goes; `left`: seqs of what stays, by
    whomever it was made, as long as somebody is restricted, or to be erased by order."""

    subject: bytes
    events: list[Recorded]
    plan: Plan
    left: Collection[int] = ()

    def going(self) -> list[Recorded]:
        due = set(self.plan.due)
        return [one for one in self.events if one.seq in due]


class Look:
    """One look at a site's records as of one moment. Reads alone: what would go, as `plan` shows it."""

    def __init__(self, pool: asyncpg.Pool, site: Site, now_ms: int) -> None:
        self._pool, self._site, self.now_ms = pool, site, now_ms
        self._reads = Reads(pool)
        self._retention = Retention(site.policies, now_ms, suppress_for(site, now_ms))
        self.meets_restricted = False
        """Whether something was left because somebody is restricted."""
        self._again_ms = now_ms + config.RETENTION_TAIL_SECONDS * 1000
        self.can_be_due = self._retention.terms.keeps_some_for_a_time()

    async def through(self, block: Block, *, first_only: bool = False) -> AsyncIterator[Subject]:
        """Everybody with an event in a block; with `first_only` those alone who have none before it."""
        found = await store.subjects(self._pool, self._site.site_id, block)
        size = config.RETENTION_PAGE_SUBJECTS
        for page in (found[at : at + size] for at in range(0, len(found), size)):
            if first_only:
                earlier = await store.with_earlier(self._pool, self._site.site_id, page, block.low)
                page = [subject for subject in page if subject not in earlier]
            for subject in await self.subjects(page):
                yield subject
            await asyncio.sleep(config.RETENTION_PAUSE_SECONDS)  # the other parts of the worker go on

    async def subjects(self, found: Sequence[bytes]) -> list[Subject]:
        """These subjects as they are now. What is of somebody who is to be erased, or restricted, is left alone."""
        site, limit = self._site, config.ERASURE_PAGE_EVENTS
        pages = await self._reads.histories(site.site_id, found, [-1] * len(found), 2**53, limit)
        events = {
            subject: [recorded(site.vault, row) for row in page] for subject, page in zip(found, pages, strict=True)
        }
        for subject, own in events.items():
            if len(own) == limit:
                events[subject] = await everything(self._reads, site, subject)
        kept = await store.kept(self._pool, site.site_id, [one.seq for own in events.values() for one in own])
        left = await self._left([one for own in events.values() for one in own])
        kept |= dict.fromkeys(left, self._again_ms)
        looked: list[Subject] = []
        for subject, own in events.items():
            if own and all(one.seq in left for one in own):
                looked.append(Subject(subject, own, Plan((), (), self._again_ms), left))
                continue
            account = fold(EMPTY_STATE, own).account
            stands = account is not None and await self._stands(bytes.fromhex(account))
            plan = await self._plan(own, stands, kept)
            plan = plan._replace(due=tuple(seq for seq in plan.due if seq not in left))
            looked.append(Subject(subject, own, plan, left))
        return looked

    async def _left(self, events: Sequence[Recorded]) -> set[int]:
        """Which events are left as they are: those made by, or filed under, somebody who is restricted, or to be erased
        by an order."""
        people = whose(self._site, events)
        blocks = await self._reads.blocks(self._site.site_id, sorted(set().union(*people.values())))
        blocked = {subject for subject, block in blocks.items() if block.state != "erased"}
        left = {seq for seq, both in people.items() if both & blocked}
        restricted = {subject for subject in blocked if blocks[subject].state == "restricted"}
        self.meets_restricted |= any(both & restricted for both in people.values())
        return left

    async def _plan(self, events: Sequence[Recorded], stands: bool, kept: Mapping[int, int]) -> Plan:
        """The others go on meanwhile, where somebody did very much."""

        def plan() -> Plan:
            return self._retention.plan(events, account_stands=stands, kept_until_ms=kept, at_most=MAX_ERASED_SEQS)

        return plan() if len(events) <= config.RETENTION_THREAD_EVENTS else await asyncio.to_thread(plan)

    async def _stands(self, account: bytes) -> bool:
        """Whether an account has anything to say beyond what is due now, be that gone already or not."""
        site_id = self._site.site_id
        if await self._reads.marks(site_id, [account]):
            return True
        events = await everything(self._reads, self._site, account)
        kept = await store.kept(self._pool, site_id, [one.seq for one in events])
        kept |= dict.fromkeys(await self._left(events), self._again_ms)
        plan = self._retention.plan(events, kept_until_ms=kept)
        return len(plan.due) < len(events) or bool(plan.marks)


class ClosedLook(Look):
    """Of a site that is closed every event goes, but those that have to be kept. Whom an order erases is left to it:
    it may say that proof is held; and who is restricted is left until that is lifted."""

    can_be_due = True

    async def subjects(self, found: Sequence[bytes]) -> list[Subject]:
        return [
            one._replace(plan=self._leaving(one.subject, one.events, one.left)) for one in await super().subjects(found)
        ]

    def _leaving(self, subject: bytes, events: Sequence[Recorded], left: Collection[int]) -> Plan:
        until = {one.seq: self._retention.terms.mandatory_until_ms(one) or 0 for one in events}
        kept = {seq: until_ms for seq, until_ms in until.items() if until_ms > self.now_ms}
        kept |= {one.seq: self._again_ms for one in events if one.seq in left}
        goes = tuple(one.seq for one in events if one.seq not in kept)[:MAX_ERASED_SEQS]
        marks: list[Suppression] = []
        if goes and kept:  # what stays is not to say more than all of it did
            term = suppress_for(self._site, self.now_ms)
            found = erasing.plan(
                {subject: events}, self._site.policies, whole=(subject,), beside={}, above={}, now_ms=self.now_ms,
                last_seq=events[-1].seq, term=term, stays=left,
            )  # fmt: skip
            marks = [Suppression(one.purpose, one.set_ms, one.until_ms or 0, one.seq) for _, one in found.marks]
        return Plan(goes, tuple(marks), min(kept.values(), default=None))


async def planned(pool: asyncpg.Pool, site: Site, now_ms: int) -> Counter[tuple[str, str, str]]:
    """What a run would take at a moment, by type, purpose and month of recording. Changes nothing."""
    look = Look(pool, site, now_ms)
    found: Counter[tuple[str, str, str]] = Counter()
    size = await store.size(pool, site.site_id)
    for low in range(0, size, config.RETENTION_BLOCK_SEQS):
        block = Block(low // config.RETENTION_BLOCK_SEQS, low, low + config.RETENTION_BLOCK_SEQS)
        async for subject in look.through(block, first_only=True):
            found += counts(subject.going())
    return found
