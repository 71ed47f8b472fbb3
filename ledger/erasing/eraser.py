"""The eraser: carries out what was ordered, in batches that mix people, so that an entry does not tie one person's
visits together.

An order that waits has blocked its subject already. Each round gathers what is on record of those that are due, decides
what goes (core/erasing), records the act in the administrative log, and appends erasure entries, each with all that
outlives its events in one transaction. Whatever ends us, the next round gathers what is left and goes on: an entry is
appended only if every event that it names is still there, and nothing was recorded meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple, cast
from uuid import UUID

import asyncpg

from ledger import config
from ledger.administration import Act, Administration, named
from ledger.appending import open_sites
from ledger.config import Settings
from ledger.core.duration import parse_duration
from ledger.core.entry import commit_of
from ledger.core.erasing import Plan, Share, events_hash, evidence_of, shares
from ledger.core.errors import LedgerError
from ledger.erasing import store
from ledger.erasing.execution import BLOCK_MS, Record, append_erasure
from ledger.erasing.gathering import Person, gather, whose
from ledger.erasing.messages import Reason
from ledger.erasing.orders import HELD
from ledger.erasing.store import Job
from ledger.site import Site, SiteRegistry
from ledger.store.append import Outcome
from ledger.store.erase import Effects, HeldRow, JobRow, KeptRow, MarkRow, columns
from ledger.store.errors import is_passing
from ledger.store.reads import Reads
from ledger.vault import make_key

log = logging.getLogger(__name__)


class Lag(NamedTuple):
    """One site as of the last round: how many orders wait, and for how long the oldest has been due (seconds)."""

    waiting: int
    late_seconds: float


class _Work(NamedTuple):
    """What was gathered for orders of one reason; `awaits`: who is restricted, of whose records something
    stays; `size` is the log's before it was gathered."""

    jobs: list[Job]
    people: list[Person]
    plans: list[Plan]
    awaits: list[list[bytes]]
    size: int
    now_ms: int


class Eraser:
    """Carries out the erasures of all sites; one at a time over all replicas is enough, two do no harm."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._reads = Reads(pool)
        self._said: dict[str, str] = {}
        self._swept_at = float("-inf")
        self.erased: Counter[str] = Counter()
        """Events that were erased here, by site; `entries` and `people` likewise."""
        self.entries: Counter[str] = Counter()
        self.people: Counter[str] = Counter()
        self.lags: dict[str, Lag] = {}

    async def run(self) -> None:
        """Until cancelled. A database that goes away is waited for."""
        async with open_sites(self._settings, self._reads) as sites:
            while True:
                try:
                    await self.round(sites)
                except Exception as error:
                    if not is_passing(error):
                        log.exception("the eraser failed; it tries again")
                await asyncio.sleep(config.ERASURE_IDLE_SECONDS)

    async def round(self, sites: SiteRegistry) -> None:
        """Carry out what is due, of every site. What is wrong with one is told once, and keeps no other waiting."""
        found = await store.waiting(self._pool)
        self.lags = {one.site: Lag(one.orders, max(0, one.now_ms - one.due_ms) / 1000) for one in found}
        for one in found:
            if one.due_ms > one.now_ms and one.orders < self._settings.erasure_batch_people:
                continue
            try:
                await self.carry_out(sites, await sites.get(one.site))
            except LedgerError as error:
                if self._said.get(one.site) != str(error):
                    self._said[one.site] = str(error)
                    log.warning("erasures of %s cannot be carried out just now: %s", one.site, error)
            else:
                self._said.pop(one.site, None)
        if time.monotonic() - self._swept_at > config.ERASURE_SWEEP_SECONDS:
            await self.sweep(sites)
            self._swept_at = time.monotonic()

    async def sweep(self, sites: SiteRegistry) -> None:
        """Forget what was to outlive an erasure only until now."""
        for site in sites.loaded():
            gone = config.ERASURE_SWEEP_ROWS
            while gone >= config.ERASURE_SWEEP_ROWS:
                gone = await store.sweep(self._pool, site.site_id, config.ERASURE_SWEEP_ROWS)

    async def carry_out(self, sites: SiteRegistry, site: Site) -> None:
        """Everything of a site that waits, those that are due first; an entry holds what was ordered for one reason.

        Of two orders about one person the one that holds proof goes first: nobody could hold it after the other.
        """
        administration = Administration(sites, self._reads)
        jobs = await store.jobs(self._pool, site.site_id, config.ERASURE_BATCH_MAX_PEOPLE)
        held = {job.subject for job in jobs if job.level == "hold"}
        groups: dict[tuple[bool, str], list[Job]] = {}
        for job in jobs:
            waits = job.subject in held and job.level != "hold"
            groups.setdefault((waits, job.reason), []).append(job)
        is_put_off = False
        for (waits, _), group in sorted(groups.items(), key=lambda each: each[0][0]):
            if waits and is_put_off:
                continue
            for _ in range(config.ERASURE_ATTEMPTS):
                if await self._erase(sites, administration, site, group):
                    break
            else:
                is_put_off = True

    async def _erase(self, sites: SiteRegistry, administration: Administration, site: Site, jobs: list[Job]) -> bool:
        """False: something was recorded or erased meanwhile, and it is to be gathered again."""
        work = await self._gather(sites, site, jobs)
        for entry in shares(work.plans):
            if not await self._append(sites, administration, site, work, entry):
                return False
            await asyncio.sleep(config.ERASURE_PAUSE_SECONDS)
        for index, awaits in enumerate(work.awaits):
            if awaits:
                await store.wait_for(self._pool, site.site_id, work.jobs[index].id, awaits)
        ended = [index for index, found in enumerate(work.plans) if not found.goes and not work.awaits[index]]
        if ended:
            await self._tell_of_nothing(administration, site, [work.jobs[index] for index in ended])
            marks = [mark for index in ended for mark in _marks(work, index)]
            kept = [keep for index in ended for keep in _kept(work, index)]
            taken = [*columns(MarkRow, marks), *columns(KeptRow, kept), [work.jobs[index].id for index in ended]]
            await store.end(self._pool, site.site_id, taken, BLOCK_MS)
            self.people[site.site] += len(ended)
        return True

    async def _gather(self, sites: SiteRegistry, site: Site, jobs: list[Job]) -> _Work:
        size = await store.size(self._pool, site.site_id)
        await sites.refresh_policies(site)
        now_ms = time.time_ns() // 1_000_000
        people: list[Person] = []
        plans: list[Plan] = []
        awaits: list[list[bytes]] = []
        taken: set[int] = set()
        for job in jobs:
            person = await gather(self._reads, self._pool, site, job.subject, is_account=job.is_account)
            found = person.plan(site, now_ms, size - 1)
            # What goes for one order already does not go again for another.
            plans.append(found._replace(goes=tuple(seq for seq in found.goes if seq not in taken)))
            taken.update(found.goes)
            people.append(person)
            by_law = {one.seq for one in found.kept}
            awaits.append(sorted({each for seq, each in person.restricted.items() if seq not in by_law}))
            await asyncio.sleep(0)
        return _Work(jobs, people, plans, awaits, size, now_ms)

    async def _append(
        self, sites: SiteRegistry, administration: Administration, site: Site, work: _Work, entry: tuple[Share, ...]
    ) -> bool:
        """One entry; False where it has to be gathered again."""
        seqs = sorted(seq for share in entry for seq in share.seqs)
        jobs = [work.jobs[share.plan] for share in entry]
        evidence = evidence_of(job.evidence for job in jobs)
        going = [one for share in entry for one in work.people[share.plan].find(set(share.seqs))]
        effects = Effects(
            subjects=[job.subject for job in jobs],
            upto=work.size,
            whose=sorted(set().union(*whose(site, going).values())),
            keys=[site.hasher.event_id(one.event.id) for one in going],
            marks=[mark for share in entry if share.first for mark in _marks(work, share.plan)],
            held=await self._held(sites, site, work, entry),
            kept=[keep for share in entry if share.first for keep in _kept(work, share.plan)],
            jobs=[
                JobRow(work.jobs[share.plan].id, len(share.seqs), share.last and not work.awaits[share.plan])
                for share in entry
            ],
            block_ms=BLOCK_MS,
        )
        act = _executed(jobs, evidence, seqs)
        # The same act for the same events: one that was recorded before a crash is found again.
        name = sha256(b"".join((evidence.encode(), *(seq.to_bytes(8, "big") for seq in seqs)))).digest()
        receipt = await administration.record(site.site, act, act_id=str(UUID(bytes=name[:16], version=5)))
        requested_ms = min(job.requested_ms for job in jobs)
        record = Record(cast(Reason, jobs[0].reason), requested_ms, evidence, named(receipt))
        appended = await append_erasure(site, seqs, record, effects)
        if appended.outcome == Outcome.OVERTAKEN:
            return False
        self.entries[site.site] += 1
        self.erased[site.site] += len(seqs)
        self.people[site.site] += sum(share.last and not work.awaits[share.plan] for share in entry)
        return True

    async def _tell_of_nothing(self, administration: Administration, site: Site, jobs: list[Job]) -> None:
        """Put on record that nothing (more) was found to erase for these orders, so that an auditor does not wait."""
        evidence = evidence_of(job.evidence for job in jobs)
        act = _executed(jobs, evidence, [])
        name = sha256(b"".join((evidence.encode(), *(job.id.bytes for job in jobs)))).digest()
        await administration.record(site.site, act, act_id=str(UUID(bytes=name[:16], version=5)))

    async def _held(self, sites: SiteRegistry, site: Site, work: _Work, entry: tuple[Share, ...]) -> Sequence[HeldRow]:
        """The openings that are to be held, each order's sealed under a new key of its own."""
        rows: list[HeldRow] = []
        for share in entry:
            job = work.jobs[share.plan]
            if job.level != "hold":
                continue
            term = parse_duration(job.hold_for or config.ERASURE_HOLD_FOR)
            assert term is not None
            key_no = await make_key(self._pool, site.site_id, site.log_id, "hold", *self._settings.masters)
            assert key_no is not None
            await sites.vaults.refresh()
            events = {one.seq: one.event for one in work.people[share.plan].find(set(share.seqs))}
            for row in await self._reads.events_at(site.site_id, share.seqs):
                event = events[row.seq]
                whose = site.hasher.visitor(event.visitor), site.hasher.subject(event)
                commit = commit_of(row.entry)
                salt, payload = site.vault.open_opening(commit, row.sealed)
                sealed = site.vault.seal_under(key_no, HELD, commit, salt + payload)
                rows.append(HeldRow(row.seq, sealed, term.after(work.now_ms), job.id, *whose))
        return rows


def _executed(jobs: Sequence[Job], evidence: str, seqs: Sequence[int]) -> Act:
    """The act by which these events (ascending) go for these orders, or none do."""
    details = {
        "reason": jobs[0].reason,
        "evidence": evidence,
        "count": str(len(seqs)),
        "events": events_hash(seqs),
        "erasures": " ".join(str(job.id) for job in jobs),
        "people": str(len(jobs)),
    }
    return Act("erasure.executed", "eraser", "ledger", details=details)


def _marks(work: _Work, index: int) -> list[MarkRow]:
    job = work.jobs[index].id
    return [
        MarkRow(subject, mark.purpose, mark.set_ms, mark.until_ms or 0, mark.seq, job)
        for subject, mark in work.plans[index].marks
    ]


def _kept(work: _Work, index: int) -> list[KeptRow]:
    job = work.jobs[index].id
    return [KeptRow(one.seq, one.until_ms, " ".join(one.purposes), job) for one in work.plans[index].kept]
