"""Reads a site's committed rows, in bounded slices, and has them judged by every rule of the audit that applies.

Nothing is signed here. The follower's memory lies beside the anchor; if it is lost or damaged it is made anew from
genesis on, slice by slice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import asyncpg

from ledger import config
from ledger.core.entry import commit_of
from ledger.core.errors import Malformed, Unavailable
from ledger.core.faults import Fault, Faults
from ledger.core.follow import Follower, Step
from ledger.core.heads import COSIGNED_SLACK_MS
from ledger.core.merkle import leaf_hash
from ledger.memory import MemoryDamaged, SqliteMemory, forget
from ledger.store import checkpoints as store
from ledger.store.sites import SiteRow
from ledger.vault import Vaults

log = logging.getLogger(__name__)

_MAX_KNOWN_DOCUMENTS = 4_096
_P = ParamSpec("_P")
_T = TypeVar("_T")


class NotSigned(Exception):
    """The log cannot be signed as it is. `reason` is a stable word, `detail` is for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)


async def in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run what takes the processor or the disk apart from the loop. When cancelled it still waits for the end: what
    runs there must not meet its files closed."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await asyncio.wait([task])
        raise


class LogFollower:
    """One site's rows, followed. Open it before use, and close it."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        vaults: Vaults,
        site: SiteRow,
        path: Path,
        leaves: Callable[[bytes, int], None] = lambda *_: None,
    ) -> None:
        """`leaves` is given the leaf hashes of entries that were judged and kept, with the seq of the first."""
        self._pool = pool
        self._vaults = vaults
        self._site = site
        self._path = path
        self._leaves = leaves
        self._memory: SqliteMemory | None = None
        self._follower: Follower | None = None
        self._documents: OrderedDict[bytes, None] = OrderedDict()

    @property
    def is_open(self) -> bool:
        return self._follower is not None

    @property
    def log(self) -> Follower:
        assert self._follower is not None
        return self._follower

    async def open(self) -> None:
        """`Unavailable` where another process has the memory."""
        if self._follower is not None:
            return
        try:
            await in_thread(self._open)
        except Malformed as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
            log.error("%s: %s; it is moved to %s and made anew", self._site.site, error, aside.name)
            self.close()
            self._path.rename(aside)
            forget(self._path)
            await in_thread(self._open)

    def _open(self) -> None:
        if self._memory is None:
            self._memory = SqliteMemory(self._path, self._site.origin)
        self._follower = Follower(self._site.origin, self._memory)

    def close(self) -> None:
        memory, self._memory, self._follower = self._memory, None, None
        if memory is not None:
            memory.close()

    async def catch_up(self, moment: store.Moment) -> None:
        """Judge every entry up to the moment's, and on to the erasures of events whose openings are gone already.

        `NotSigned` at the first fault; what was sound before it is kept.
        """
        try:
            if not await self._is_continued(moment):
                return
            while True:
                while self.log.size < moment.size:
                    await self._slice(moment.size)
                unopened = self.log.unopened
                if unopened is None:
                    return
                by = (await store.erased_by(self._pool, self._site.site_id, [unopened])).get(unopened, -1)
                if by < self.log.size:  # the entry that is said to erase it was read, and does not
                    raise _fault(Fault(12, "neither opened nor erased", unopened))
                moment = await store.moment(self._pool, self._site.site_id)
                if moment.size <= by:
                    raise _fault(Fault(2, f"entry {by}, which erased it, is missing", unopened))
        except MemoryDamaged:
            self.close()  # opened again, it is made anew
            raise
        except BaseException:
            await self._drop()
            raise

    async def _drop(self) -> None:
        """Back to what was kept last."""
        try:
            await in_thread(self.log.drop)
        except (Malformed, Unavailable):
            self.close()  # opened again, or made anew

    async def _is_continued(self, moment: store.Moment) -> bool:
        """Whether what is there is what was followed, as far as one row tells; the chain tells the rest."""
        size = self.log.size
        if size == 0 or moment.size < size:
            return moment.size > 0 and size == 0  # a shorter log is judged by what is known of it
        last = moment.last
        if moment.size > size:
            rows = await store.entries_at(self._pool, self._site.site_id, [size - 1])
            last = rows[size - 1][0] if rows else None
        if last is None or leaf_hash(last) != self.log.tip:
            detail = f"entry {size - 1} is not the one that was there: the log was rewritten"
            raise NotSigned("memory-disagrees", detail)
        return True

    async def _slice(self, size: int) -> None:
        follower, first = self.log, self.log.size
        end = min(first + config.CHECKPOINT_SLICE_ENTRIES, size)
        entries, sealed = await store.read_slice(self._pool, self._site.site_id, first, end)
        if len(entries) < end - first:
            raise _fault(Fault(2, "it is missing", first + len(entries)))
        latest_ms = time.time_ns() // 1_000_000 + COSIGNED_SLACK_MS
        vault = await self._vaults.of(self._site.site_id)
        openings = await in_thread(vault.openings, sealed)
        step = await in_thread(follower.step, entries, openings, latest_ms)
        if not step.faults:
            await self._settle(step)
        _raise_first(step.faults)
        await in_thread(follower.keep)
        self._leaves(step.leaves, step.first)

    async def _settle(self, step: Step) -> None:
        """What the database has to say to a step."""
        follower, site_id = self.log, self._site.site_id
        wanted = [(digest, seq) for digest, seq in step.documents if digest not in self._documents]
        found = await store.documents(self._pool, [digest for digest, _ in wanted]) if wanted else {}
        for digest, seq in wanted:
            follower.document(step, digest, seq, found.get(digest))
            self._documents[digest] = None
        while len(self._documents) > _MAX_KNOWN_DOCUMENTS:
            self._documents.popitem(last=False)
        if step.suspects:
            earlier = await store.entries_at(self._pool, site_id, [suspect.earlier for suspect in step.suspects])
            for suspect in step.suspects:
                if suspect.earlier in earlier:
                    entry, sealed = earlier[suspect.earlier]
                    found_there = [] if sealed is None else [(suspect.earlier, commit_of(entry), sealed)]
                    openings = (await self._vaults.of(site_id)).openings(found_there)
                    follower.recheck(step, suspect, entry, openings[0].payload if openings else None)
        named = [seq for _, seqs in step.erasures for seq in seqs]
        opened = await store.first_opened(self._pool, site_id, named) if named else None
        if opened is not None:
            follower.refuse(step, 12, "erased, and its opening is still there", opened)
        if step.unopened:
            erased_by = await store.erased_by(self._pool, site_id, step.unopened)
            for seq in step.unopened:
                if erased_by.get(seq, -1) <= seq:
                    follower.refuse(step, 12, "neither opened nor erased", seq)
        if step.faults:
            self._documents.clear()


def _fault(fault: Fault) -> NotSigned:
    return NotSigned(f"rule-{fault.rule}", str(fault.raised()))


def _raise_first(faults: Faults) -> None:
    for fault in faults.first():
        raise _fault(fault)
