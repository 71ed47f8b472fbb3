"""The pruner: erases the records whose time is over, of all sites, in batches that mix people.

The log is looked through in blocks of seqs, each when something in it may be due, or a version was published since. Of
everybody who has an event in a block all events are read, and what goes is decided from those (core/retention). Each
batch is recorded in the administrative log before it is erased, and erased with its marks in one transaction, only if
nothing was recorded of these people meanwhile. A block's next moment is noted when nothing in it is due any more: so
whatever ends us, the next one looks again, and finds what is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

import asyncpg

from ledger import config
from ledger.admin_log import erase_due
from ledger.administration import Administration, Who, named
from ledger.appending import open_sites
from ledger.config import Settings
from ledger.core.admin_act import ActWord
from ledger.core.encoding import encode_time
from ledger.core.entry import MAX_ERASED_SEQS
from ledger.core.erasing import MarkOf, events_hash, evidence_of
from ledger.core.errors import LedgerError
from ledger.core.question import Mark
from ledger.core.retention import counts
from ledger.data_keys import destroy_empty_keys
from ledger.erasing.execution import Unchanged, erase_seqs
from ledger.erasing.gathering import whose
from ledger.erasing.messages import Reason
from ledger.retention import store
from ledger.retention.looking import ClosedLook, Look, Subject
from ledger.retention.store import Block
from ledger.site import Site, SiteRegistry
from ledger.store.errors import is_passing
from ledger.store.reads import Reads

log = logging.getLogger(__name__)

SCHEDULED = Who("retention", "ledger")
"""Who acts where nobody gave the command."""


class Ground(NamedTuple):
    """Why events go: the word of the act, the reason, and the evidence (64 hex digits) that act and record share."""

    act: ActWord
    reason: Reason
    evidence: str


class Pruned(NamedTuple):
    """What a run took: events, erasure entries, people (one may be in several entries); by type, purpose and month."""

    events: int = 0
    entries: int = 0
    people: int = 0
    counts: Mapping[tuple[str, str, str], int] = MappingProxyType({})


class SitePruner:
    """One run of one site, as of one moment."""

    def __init__(self, pool: asyncpg.Pool, sites: SiteRegistry, site: Site, now_ms: int, who: Who = SCHEDULED) -> None:
        self._pool, self._site, self._who, self.now_ms = pool, site, who, now_ms
        self._administration = Administration(sites, Reads(pool))
        self.pruned = Pruned()
        self.more = True
        """Whether something may be due yet."""

    def look(self) -> Look:
        """By what is decided who goes."""
        return Look(self._pool, self._site, self.now_ms)

    def ground(self) -> Ground:
        """The site document that is in force names the period: its hash is the evidence."""
        in_force = self._site.policies.in_force(self.now_ms)
        assert in_force is not None
        return Ground("retention.run", "retention", evidence_of([in_force.document_hash]))

    def knows(self) -> int:
        """What a block is looked at again for, whenever it is due: versions of the policy, up to this seq."""
        return self._site.policies.last_seq

    def noted(self, look: Look) -> int:
        """What is noted of a block that was looked at: versions of the policy, up to this seq."""
        return self.knows()

    async def run(self, rounds: int | None = None) -> Pruned:
        """Until nothing is due, or for so many rounds; `more` says which."""
        while self.more and rounds != 0:
            before = self.pruned.events
            self.more = await self.round(config.RETENTION_ROUND_BLOCKS) or self.pruned.events > before
            rounds = None if rounds is None else rounds - 1
        return self.pruned

    async def round(self, limit: int) -> bool:
        """Look at some blocks; whether there may be more. Raises `Unavailable`."""
        site_id, policy_seq = self._site.site_id, self.knows()
        look = self.look()
        if not look.can_be_due:
            return False
        await store.end_batches(self._pool, site_id, self.now_ms)
        blocks = await store.due_blocks(self._pool, site_id, self.now_ms, policy_seq, limit)
        for block in blocks:
            look.meets_restricted = False
            next_ms = await self._prune(look, block)
            if block.high > await store.size(self._pool, site_id):
                tail_ms = self.now_ms + config.RETENTION_TAIL_SECONDS * 1000
                next_ms = tail_ms if next_ms is None else min(next_ms, tail_ms)
            await store.put_blocks(self._pool, site_id, self.noted(look), [block.block], [next_ms])
        return len(blocks) == limit

    async def _prune(self, look: Look, block: Block) -> int | None:
        """Take what is due of everybody in a block; when it is to be looked at again."""
        moments: list[int] = []
        waiting: list[Subject] = []
        async for subject in look.through(block):
            if subject.plan.due:
                waiting.append(subject)
            elif subject.plan.next_ms is not None:
                moments.append(subject.plan.next_ms)
            due = sum(len(one.plan.due) for one in waiting)
            if due >= config.RETENTION_BATCH_EVENTS or len(waiting) >= config.RETENTION_BATCH_PEOPLE:
                moments += await self._take(look, waiting)
                waiting = []
        moments += await self._take(look, waiting)
        return min(moments, default=None)

    async def _take(self, look: Look, waiting: Sequence[Subject]) -> list[int]:
        """Erase what is due of these people; when each is to be looked at again."""
        moments: list[int] = []
        subjects = [one.subject for one in waiting]
        for _ in range(config.RETENTION_ATTEMPTS):
            if not subjects:
                return moments
            size = await store.size(self._pool, self._site.site_id)
            looked = await look.subjects(subjects)
            going = [one for one in looked if one.plan.due]
            moments += [one.plan.next_ms for one in looked if not one.plan.due and one.plan.next_ms is not None]
            subjects = [one.subject for one in going]  # once more, for what they have left
            for entry in _entries(going):
                await self._erase(entry, size)
                await asyncio.sleep(config.RETENTION_PAUSE_SECONDS)
        return [*moments, self.now_ms] if subjects else moments

    async def _erase(self, going: Sequence[Subject], size: int) -> None:
        """One entry. Nothing is done if something was recorded of these people meanwhile: they are looked at again."""
        site = self._site
        seqs = sorted(seq for one in going for seq in one.plan.due)
        word, reason, evidence = self.ground()
        details = {
            "reason": reason,
            "evidence": evidence,
            "count": str(len(seqs)),
            "events": events_hash(seqs),
            "people": str(len(going)),
        }
        if word == "retention.run":
            details["asOf"] = encode_time(self.now_ms)
        # The same act for the same events: one that was recorded before a crash is found again.
        name = sha256(f"{self.now_ms} {evidence} {events_hash(seqs)}".encode()).digest()
        act = await self._administration.record(
            site.site, self._who.act(word, details), act_id=str(UUID(bytes=name[:16], version=5))
        )
        counted = counts([event for one in going for event in one.going()])
        people = whose(site, [event for one in going for event in one.going()])
        told = {" ".join(key): count for key, count in counted.items()}
        place = (self._pool, site.site_id, self.now_ms, seqs[0], act.position)
        await store.begin_batch(*place, len(seqs), len(going), told)
        done = await erase_seqs(
            site,
            seqs,
            reason=reason,
            evidence=evidence,
            act=named(act),
            requested_ms=self.now_ms,
            marks=[
                MarkOf(one.subject, Mark(mark.purpose, mark.set_ms, mark.until_ms, mark.seq))
                for one in going
                for mark in one.plan.marks
            ],
            unchanged=Unchanged([one.subject for one in going], size, sorted(set().union(*people.values()))),
        )
        await store.end_batches(self._pool, site.site_id, self.now_ms)
        if done is not None:
            was = self.pruned
            self.pruned = Pruned(
                was.events + len(seqs), was.entries + 1, was.people + len(going), Counter(was.counts) + counted
            )


def _entries(going: Sequence[Subject]) -> list[list[Subject]]:
    """Subjects by the entries that they go in."""
    entries: list[list[Subject]] = []
    room = 0
    for one in going:
        if len(one.plan.due) > room:
            entries.append([])
            room = MAX_ERASED_SEQS
        entries[-1].append(one)
        room -= len(one.plan.due)
    return entries


class ClosedPruner(SitePruner):
    """What a closed site has left goes, and what law keeps when its term is over."""

    evidence = ""
    restricted = False
    """Whether somebody was restricted when the run began."""

    def look(self) -> Look:
        return ClosedLook(self._pool, self._site, self.now_ms)

    def ground(self) -> Ground:
        return Ground("erasure.executed", "controller_instruction", self.evidence)

    def knows(self) -> int:
        return _BUT_RESTRICTED if self.restricted else _CLOSED

    def noted(self, look: Look) -> int:
        return _BUT_RESTRICTED if look.meets_restricted else _CLOSED


_CLOSED = 2**53
"""Beyond every seq of a policy: whatever was noted of a block before is no reason to pass it over."""
_BUT_RESTRICTED = _CLOSED - 1
"""Noted where records of somebody restricted were left: no reason to pass a block over once nobody is restricted."""


async def prune(
    pool: asyncpg.Pool,
    sites: SiteRegistry,
    site: Site,
    now_ms: int,
    who: Who = SCHEDULED,
    rounds: int | None = None,
) -> tuple[Pruned, bool]:
    """One run of a site, be it closed or not, or so many rounds of it; what went, and whether more may be due. Raises
    `Unavailable`."""
    closing = await store.closing(pool, site.site_id)
    if closing is None:
        pruner = SitePruner(pool, sites, site, now_ms, who)
        return await pruner.run(rounds), pruner.more
    if now_ms < closing.requested_ms + KNOWN_AFTER_MS:  # somebody may still record for it
        return Pruned(), False
    closed = ClosedPruner(pool, sites, site, now_ms, who)
    closed.evidence = closing.evidence.hex()
    closed.restricted = await store.restricted(pool, site.site_id) > 0
    done = await closed.run(rounds)
    ends = closing.ended_ms is None and not closed.more and not closed.restricted
    if ends and not await store.due_blocks(pool, site.site_id, now_ms, _CLOSED, 1):
        await store.end_closing(pool, site.site_id)
    return done, closed.more


KNOWN_AFTER_MS = 3_000 * int(config.SITE_REFRESH_SECONDS)
"""By then every process refuses what comes for a site that was closed."""


class Pruner:
    """Retention of all sites, on a schedule; one at a time over all replicas is enough, two do no harm."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._said: dict[str, str] = {}
        self._acts_ms: dict[str, int] = {}
        self.events: Counter[str] = Counter()
        """Events that went, by site; `entries` likewise."""
        self.entries: Counter[str] = Counter()
        self.looked_ms: dict[str, int] = {}
        """When nothing was due any more, by site."""

    async def run(self) -> None:
        """Until cancelled. A database that goes away is waited for."""
        async with open_sites(self._settings, Reads(self._pool)) as sites:
            while True:
                more = False
                try:
                    more = await self.round(sites)
                except Exception as error:
                    if not is_passing(error):
                        log.exception("retention failed; it is tried again")
                await asyncio.sleep(config.RETENTION_PAUSE_SECONDS if more else config.RETENTION_IDLE_SECONDS)

    async def round(self, sites: SiteRegistry) -> bool:
        """Some of what is due of every site; whether there may be more. What is wrong with one is told once, and keeps
        no other waiting."""
        waits = False
        await sites.load(max_age_seconds=config.SITE_REFRESH_SECONDS)
        now_ms = await store.now(self._pool)
        for site in sites.loaded():
            try:
                await sites.refresh_policies(site)
                pruned, more = await prune(self._pool, sites, site, now_ms, rounds=1)
                await self._forget_acts(sites, site, now_ms)
            except LedgerError as error:
                if self._said.get(site.site) != str(error):
                    self._said[site.site] = str(error)
                    log.warning("records of %s that are due cannot be erased just now: %s", site.site, error)
                continue
            self._said.pop(site.site, None)
            waits = waits or more
            if not more:
                self.looked_ms[site.site] = now_ms
            if pruned.events:
                await destroy_empty_keys(self._pool, site.site_id)
                self.events[site.site] += pruned.events
                self.entries[site.site] += pruned.entries
                log.info("retention took %d events of %s", pruned.events, site.site)
        return waits

    async def _forget_acts(self, sites: SiteRegistry, site: Site, now_ms: int) -> None:
        """What the site's administrative log holds of persons has terms of its own; once a day is often enough."""
        if now_ms - self._acts_ms.get(site.site, 0) < config.RETENTION_ACTS_SECONDS * 1000:
            return
        acts = await sites.admin_log(site.site)
        await erase_due(Administration(sites, Reads(self._pool)), self._pool, acts, now_ms)
        self._acts_ms[site.site] = now_ms
