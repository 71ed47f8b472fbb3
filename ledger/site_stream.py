"""One site's stream beside its log: inspect it, delete what was erased, build it again, publish the next window.

Steps without a loop; when to take them, and what to do when NATS or Postgres is gone, is the relay's part.

What `settle` establishes before anything is published, in this order:

1. the configuration is ours, and the stream is not ahead of the ledger;
2. the last message holds the ledger's entry: the chain inside it vouches for the log below;
3. nothing younger than the horizon has left at the front;
4. as many messages are gone, or tombstones, as events were erased: no hole is unexplained, nothing erased is back;
5. a sample of messages, all of them where they are few, holds the ledger's entries and payloads.

Step 5 once a connection and stream, the others every time. A message replaced in the middle of a long stream is found
by `compare`, which reads everything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.bus import STREAM_NAME_IN_USE, SUBJECTS_OVERLAP, Bus, Refused, StoredMessage, StreamInfo, stream_config
from ledger.core import stream
from ledger.core.entry import Kind, commit_of, decode
from ledger.core.errors import Malformed, SealBroken
from ledger.core.merkle import leaf_hash
from ledger.core.stream import Row
from ledger.store.reads import Reads
from ledger.store.sites import SiteRow
from ledger.vault import Vault, Vaults

log = logging.getLogger(__name__)

# `offset 0` keeps each look-up one by the whole key: joined, a planner without statistics compares every row to each.
_ROW = """
select e.seq, e.entry, o.sealed, r.seq is not null as erased
  from ledger.entry e
  left join lateral (
      select s.sealed from ledger.opening s where s.site_id = $1 and s.seq = e.seq offset 0
  ) o on true
  left join lateral (select s.seq from ledger.erased s where s.site_id = $1 and s.seq = e.seq offset 0) r on true
"""
_ROWS = _ROW + " where e.site_id = $1 and e.seq between $2 and $3 order by e.seq"
_ROWS_AT = _ROW + " where e.site_id = $1 and e.seq = any ($2::bigint[]) order by e.seq"
_DOCUMENT = """
select d.body from ledger.policy p join ledger.document d on d.hash = p.document where p.site_id = $1 and p.seq = $2
"""
_ENTRY = "select entry from ledger.entry where site_id = $1 and seq = $2"
_SIGNER = "select public from ledger.signer where site_id = $1 and key_hash = $2"

# Erased events among seqs $2 to $3: all, and those whose erasure comes after $3.
_ERASED_COUNT = """
select count(*) as total, count(*) filter (where by_seq > $3) as pending
  from ledger.erased where site_id = $1 and seq between $2 and $3
"""
_ERASED_PAGE = """
select seq from ledger.erased
 where site_id = $1 and seq between $2 and $3 and by_seq > $4 order by seq limit $5
"""
_ERASED_PAGE_ROWS = 8_192

_WINDOW_AFTER_ERASURE = 16
_FRONT_SLACK_SECONDS = 60
"""Between our clock, Postgres's and the time a message takes into the stream."""
_PENDING, _ALL, _DONE = range(3)
"""How far a sweep reaches: events whose erasure the stream has not reached yet, or every erased event."""
_MAX_REBUILDS = 3
_DOUBT_SECONDS = 0.2


class Stopped(Exception):
    """A stream that must not be touched before a person has looked. `reason` is a stable slug."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class Seen(NamedTuple):
    """A stream as it was left; anything else when it is looked at again is somebody else's doing, or time's."""

    created: str
    first_seq: int
    last_seq: int
    num_deleted: int


class Window(NamedTuple):
    """What `publish_next` did, and the messages to delete before it is called again (none: empty)."""

    seen: Seen
    forget: tuple[int, ...]


class Difference(NamedTuple):
    """A place where stream and ledger differ; `what` is a slug."""

    seq: int
    what: str


class SiteStream:
    """The steps for one site. `published`, `forgotten` and `rebuilt` count since the start."""

    def __init__(self, pool: asyncpg.Pool, vaults: Vaults, site: SiteRow, horizon_seconds: int, replicas: int) -> None:
        self.published = 0
        self.forgotten = 0
        self.rebuilt = 0
        self._pool = pool
        self._vaults = vaults
        self._reads = Reads(pool)
        self._site = site
        self._names = stream.names(site.site)
        self._horizon_seconds = horizon_seconds
        self._replicas = replicas
        self._config = stream_config(
            self._names.stream, self._names.subjects, f"Consent ledger of {site.site}", horizon_seconds
        )
        self._window = config.RELAY_BATCH_MAX_MESSAGES
        self._cleared = -1  # the erasure entry whose messages are gone
        self._sampled = ("", "")  # server and stream whose sample was compared

    async def settle(self, bus: Bus) -> Seen:
        """Make the stream one that can be gone on with; `Stopped` if a person has to look first.

        A fault has to be seen twice before the stream is built again: another relay may be at work on it.
        """
        self._cleared = -1
        doubt = ""
        rebuilds = 0
        while True:
            info = await bus.stream_info(self._names.stream, self._names.tombstones)
            if info is None:
                await self._create(bus)
                continue
            fault = await self._inspect(bus, info)
            if not fault:
                return _seen(info)
            if fault != doubt:
                doubt = fault
                await asyncio.sleep(_DOUBT_SECONDS)
                continue
            if rebuilds == _MAX_REBUILDS:
                raise Stopped("rebuilt-in-vain", f"the stream is wrong again after {rebuilds} rebuilds: {fault}")
            rebuilds += 1
            doubt = ""
            log.warning("site %s: the stream is built again: %s", self._site.site, fault)
            self.rebuilt += 1
            await bus.delete_stream(self._names.stream)

    async def is_as_left(self, bus: Bus, seen: Seen) -> bool:
        """Whether nothing happened to the stream since it was seen."""
        info = await bus.stream_info(self._names.stream, self._names.tombstones)
        return info is not None and _seen(info) == seen

    async def publish_next(self, bus: Bus, seen: Seen, head: int) -> Window:
        """Publish the entries behind `seen.last_seq`, up to `head`, one window of them or as far as an erasure."""
        last = seen.last_seq
        upto = min(head, last + self._window)
        vault = await self._vaults.of(self._site.site_id)
        records = await self._pool.fetch(_ROWS, self._site.site_id, last + 1, upto)
        rows = [await self._row(_opened(vault, record)) for record in records]
        if [row.seq for row in rows] != list(range(last + 1, upto + 1)):
            raise Stopped("ledger-damaged", f"the ledger has a gap between {last + 1} and {upto}")
        try:
            plan = stream.plan(
                rows,
                self._site.site,
                self._site.origin,
                forgotten=self._cleared,
                max_payload=bus.max_payload,
                max_messages=config.RELAY_BATCH_MAX_MESSAGES,
                max_bytes=config.RELAY_BATCH_MAX_BYTES,
            )
        except Malformed as error:
            raise Stopped("ledger-damaged", str(error)) from error
        for batch in plan.batches:
            last = await bus.publish(batch, last)
            self.published += len(batch)
        # What lies behind an erasure is read again after the deletions, so read little while erasures follow closely.
        self._window = _WINDOW_AFTER_ERASURE if plan.forget else min(self._window * 4, config.RELAY_BATCH_MAX_MESSAGES)
        return Window(seen._replace(last_seq=last), plan.forget)

    async def clear(self, bus: Bus, seen: Seen, seqs: Sequence[int]) -> Seen:
        """Delete what the erasure at `seen.last_seq + 1` names, so that it can be published."""
        deleted = await self._forget(bus, [seq for seq in seqs if seq >= seen.first_seq])
        self._cleared = seen.last_seq + 1
        return seen._replace(num_deleted=seen.num_deleted + deleted)

    async def compare(
        self, bus: Bus, pause_seconds: float = config.RELAY_FORGET_PAUSE_SECONDS
    ) -> AsyncIterator[Difference]:
        """Read the whole stream beside the ledger, slowly, and tell every difference. Changes nothing."""
        info = await bus.stream_info(self._names.stream, self._names.tombstones)
        if info is None:
            yield Difference(0, "no-stream")
            return
        step = config.RELAY_FORGET_BATCH_MESSAGES
        for first in range(info.state.first_seq, info.state.last_seq + 1, step):
            seqs = range(first, min(first + step, info.state.last_seq + 1))
            for difference in await self._differences(bus, seqs):
                yield difference
            await asyncio.sleep(pause_seconds)

    async def _row(self, row: Row) -> Row:
        if row.entry[stream.KIND_AT] != Kind.POLICY:
            return row
        return row._replace(document=await self._pool.fetchval(_DOCUMENT, self._site.site_id, row.seq))

    async def _create(self, bus: Bus) -> None:
        first = 1 + await self._reads.last_seq_before(self._site.site_id, _now_ms() - self._horizon_seconds * 1000)
        try:
            await bus.create_stream(self._config, max(first, 1), self._replicas)
        except Refused as refusal:
            if refusal.code == SUBJECTS_OVERLAP:
                raise Stopped("subjects-overlap", "another stream takes this site's subjects") from refusal
            if refusal.code != STREAM_NAME_IN_USE:  # in use: another relay was first
                raise

    async def _inspect(self, bus: Bus, info: StreamInfo) -> str:
        """What is wrong with the stream so that it has to be built again; empty if nothing is."""
        size = (await self._reads.head(self._site.site_id)).size
        if info.state.last_seq >= max(size, 1):
            raise Stopped("ahead-of-ledger", f"the stream is at {info.state.last_seq}, the ledger at {size - 1}")
        if info.state.messages and await self._is_last_foreign(bus):
            return "a message that is not the ledger's"
        if not info.is_configured(self._config):
            try:
                await bus.update_stream(info, self._config)
            except Refused:
                return "a configuration that cannot be put right"
        if await self._has_lost_front(info):
            return "messages missing at the front"
        if await self._has_unexplained_holes(bus, info):
            return "holes that no erasure explains"
        identity = (bus.server_id, info.created)
        if self._sampled != identity:
            seqs = stream.sample(info.state.first_seq, info.state.last_seq, config.RELAY_SAMPLE_MESSAGES)
            if await self._differences(bus, seqs):
                return "messages that differ from the ledger"
            self._sampled = identity
        return ""

    async def _is_last_foreign(self, bus: Bus) -> bool:
        """Whether the last message holds something else than the ledger's entry; `Stopped` if we signed it."""
        last = await bus.last_message(self._names.stream, self._names.subjects)
        if last is None:
            return False
        published = stream.published_entry(last.header("ce-entry"))
        if published is not None and published == await self._entry(last.seq):
            return False
        if published is None:
            return True
        entry = decode(published)
        genesis = await self._entry(0)
        public = await self._pool.fetchval(_SIGNER, self._site.site_id, entry.signer)
        if genesis is None or public is None or published == await self._entry(entry.seq):
            return True
        if stream.is_signed_by(published, leaf_hash(genesis), public):
            raise Stopped("fork", f"message {last.seq} holds an entry of this log that the ledger does not have")
        return True

    async def _entry(self, seq: int) -> bytes | None:
        entry: bytes | None = await self._pool.fetchval(_ENTRY, self._site.site_id, seq)
        return entry

    async def _has_lost_front(self, info: StreamInfo) -> bool:
        """Whether messages have gone that max_age cannot have taken yet, and that were not erased."""
        due_ms = _now_ms() - (self._horizon_seconds - _FRONT_SLACK_SECONDS) * 1000
        due = max(1, 1 + await self._reads.last_seq_before(self._site.site_id, due_ms))
        gone = info.state.first_seq - due
        if gone <= 0:
            return False
        counted = await self._pool.fetchrow(_ERASED_COUNT, self._site.site_id, due, info.state.first_seq - 1)
        return bool(gone > counted["total"])

    async def _has_unexplained_holes(self, bus: Bus, info: StreamInfo) -> bool:
        """Delete what was erased and is there still, or again; then whether more is missing than was erased.

        Erasures that the stream has not reached yet count too: forgetting early is right, and prompt after a restore.
        """
        site_id, state, reach = self._site.site_id, info.state, _PENDING
        while True:
            counted = await self._pool.fetchrow(_ERASED_COUNT, site_id, state.first_seq, state.last_seq)
            gone = state.num_deleted + state.subjects.get(self._names.tombstones, 0)
            if gone >= counted["total"] or reach == _DONE:
                return bool(gone > counted["total"])
            if reach == _PENDING and gone < counted["total"] - counted["pending"]:
                reach = _ALL  # the deletions of an erasure that is published already are undone
            after = state.last_seq if reach == _PENDING else -1
            deleted = await self._sweep(bus, state.first_seq, state.last_seq, after)
            if reach == _ALL:
                reach = _DONE
            elif not deleted:
                reach = _ALL
            fresh = await bus.stream_info(self._names.stream, self._names.tombstones)
            if fresh is None:
                return False  # the next look finds it missing
            state = fresh.state

    async def _sweep(self, bus: Bus, first: int, last: int, by_after: int) -> int:
        """Delete the messages from first to last of events that entries beyond `by_after` erased; how many were."""
        deleted = 0
        while True:
            page = await self._pool.fetch(_ERASED_PAGE, self._site.site_id, first, last, by_after, _ERASED_PAGE_ROWS)
            deleted += await self._forget(bus, [row["seq"] for row in page])
            if len(page) < _ERASED_PAGE_ROWS:
                return deleted
            first = page[-1]["seq"] + 1

    async def _forget(self, bus: Bus, seqs: Sequence[int]) -> int:
        """Overwrite these messages where they are there, tombstones excepted; how many were. Paced."""
        deleted = 0
        for start in range(0, len(seqs), config.RELAY_FORGET_BATCH_MESSAGES):
            for message in await self._messages(bus, seqs[start : start + config.RELAY_FORGET_BATCH_MESSAGES]):
                if message is not None and message.subject != self._names.tombstones:
                    await bus.delete_message(self._names.stream, message.seq)
                    deleted += 1
                    self.forgotten += 1
            await asyncio.sleep(config.RELAY_FORGET_PAUSE_SECONDS)
        return deleted

    async def _messages(self, bus: Bus, seqs: Sequence[int]) -> list[StoredMessage | None]:
        return await asyncio.gather(*(bus.message(self._names.stream, seq) for seq in seqs))

    async def _differences(self, bus: Bus, seqs: Sequence[int]) -> list[Difference]:
        """Where these messages are not what the ledger says; what was erased may be gone or a tombstone."""
        messages = await self._messages(bus, seqs)
        records = await self._pool.fetch(_ROWS_AT, self._site.site_id, list(seqs))
        vault = await self._vaults.of(self._site.site_id)
        rows = {record["seq"]: _opened(vault, record) for record in records}
        found = ((seq, self._difference(rows.get(seq), message)) for seq, message in zip(seqs, messages, strict=True))
        return [Difference(seq, what) for seq, what in found if what]

    def _difference(self, row: Row | None, message: StoredMessage | None) -> str:
        if row is None:
            return "" if message is None else "unknown"
        if message is None:
            return "" if row.erased else "missing"
        if stream.published_entry(message.header("ce-entry")) != row.entry:
            return "other-entry"
        if row.erased:
            return "" if message.subject == self._names.tombstones else "not-deleted"
        if row.payload is not None and message.data != row.payload:
            return "other-payload"
        return ""


def _opened(vault: Vault, record: asyncpg.Record) -> Row:
    """A row with its opening, if it has one. `Stopped` if that does not open: the stream may hold the only copy."""
    seq, entry, sealed = record["seq"], record["entry"], record["sealed"]
    try:
        salt, payload = (None, None) if sealed is None else vault.open_opening(commit_of(entry), sealed)
    except SealBroken as error:
        raise Stopped("ledger-damaged", f"the opening of entry {seq} was altered: {error}") from error
    return Row(seq, entry, salt, payload, record["erased"])


def _seen(info: StreamInfo) -> Seen:
    return Seen(info.created, info.state.first_seq, info.state.last_seq, info.state.num_deleted)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
