"""What the checkpointer reads of a log, and where it writes what it signed. What may be signed is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from ledger.core.entry import commit_of
from ledger.core.tree import HashTile
from ledger.store.ask import ask

_HEADS = """
select s.site_id, s.site, s.origin,
       coalesce((select e.seq + 1 from ledger.entry e where e.site_id = s.site_id order by e.seq desc limit 1), 0)
         as size
  from ledger.site s order by s.site_id
"""

# The record and what it is compared and swapped by, and the last entry, at one moment.
_MOMENT = """
select h.seq, h.entry, c.note, coalesce(c.size, 0) as noted, coalesce(w.size, 0) as written
  from (select 1) one
  left join lateral (
      select e.seq, e.entry from ledger.entry e where e.site_id = $1 order by e.seq desc limit 1
  ) h on true
  left join lateral (
      select k.note, k.size from ledger.checkpoint k where k.site_id = $1 order by k.size desc limit 1
  ) c on true
  left join ledger.checkpointer w on w.site_id = $1
"""

# `offset 0` keeps each look-up one by the whole key: joined, a planner without statistics compares every row to each.
_SLICE = """
select e.seq, e.entry, o.sealed
  from ledger.entry e
  left join lateral (
      select s.sealed from ledger.opening s where s.site_id = $1 and s.seq = e.seq offset 0
  ) o on true
 where e.site_id = $1 and e.seq >= $2 and e.seq < $3 order by e.seq
"""
_ENTRIES_AT = """
select e.seq, e.entry, o.sealed
  from unnest($2::bigint[]) w(seq)
  join lateral (select s.entry, s.seq from ledger.entry s where s.site_id = $1 and s.seq = w.seq offset 0) e on true
  left join lateral (select s.sealed from ledger.opening s where s.site_id = $1 and s.seq = w.seq offset 0) o on true
"""
_OPENED = "select min(o.seq) as seq from ledger.opening o where o.site_id = $1 and o.seq = any ($2::bigint[])"
_ERASED = "select seq, by_seq from ledger.erased where site_id = $1 and seq = any ($2::bigint[])"
_DOCUMENTS = "select hash, body from ledger.document where hash = any ($1::bytea[])"
_PUT = "select ledger.put_checkpoint($1, $2, $3, $4, $5, $6, $7, $8)"
_COSIGNED = "select ledger.put_cosignatures($1, $2, $3, $4)"
_REPORT = "select ledger.report_checkpointer($1, $2, $3, $4, $5)"
_THIN = "select ledger.thin_checkpoints($1, make_interval(secs => $2), $3)"
_READY = "select exists (select 1 from ledger.checkpoint where site_id = $1 and cosigned)"


class HeadRow(NamedTuple):
    """A site, and how many entries its log has."""

    site_id: int
    site: str
    origin: str
    size: int


class Moment(NamedTuple):
    """A log as the database has it: its size and last entry, the newest checkpoint and the size that its row has, and
    the size that was written last, which the next checkpoint is compared and swapped by."""

    size: int
    last: bytes | None
    note: bytes | None
    noted: int
    written: int


class Slice(NamedTuple):
    """Consecutive entries with the openings that there are, as they are stored: (seq, commitment, sealed)."""

    entries: list[bytes]
    sealed: list[tuple[int, bytes, bytes]]


async def heads(pool: asyncpg.Pool) -> list[HeadRow]:
    """Every site with the size of its log."""
    return [HeadRow(*row) for row in await ask(pool, _HEADS)]


async def moment(pool: asyncpg.Pool, site_id: int) -> Moment:
    row = (await ask(pool, _MOMENT, site_id))[0]
    return Moment(0 if row["seq"] is None else row["seq"] + 1, row["entry"], row["note"], row["noted"], row["written"])


async def read_slice(pool: asyncpg.Pool, site_id: int, start: int, end: int) -> Slice:
    """The entries [start, end) up to the first that is missing."""
    entries: list[bytes] = []
    openings: list[tuple[int, bytes, bytes]] = []
    for seq, entry, sealed in await ask(pool, _SLICE, site_id, start, end):
        if seq != start + len(entries):
            break
        entries.append(entry)
        if sealed is not None:
            openings.append((seq, commit_of(entry), sealed))
    return Slice(entries, openings)


async def entries_at(pool: asyncpg.Pool, site_id: int, seqs: Sequence[int]) -> dict[int, tuple[bytes, bytes | None]]:
    """seq -> entry, and its opening as it is stored, where they are."""
    return {row["seq"]: (row["entry"], row["sealed"]) for row in await ask(pool, _ENTRIES_AT, site_id, seqs)}


async def first_opened(pool: asyncpg.Pool, site_id: int, seqs: Sequence[int]) -> int | None:
    """The first of these entries that has an opening."""
    seq: int | None = (await ask(pool, _OPENED, site_id, seqs))[0]["seq"]
    return seq


async def erased_by(pool: asyncpg.Pool, site_id: int, seqs: Sequence[int]) -> dict[int, int]:
    """Which entry erased each of these, as the database says."""
    return dict(await ask(pool, _ERASED, site_id, seqs))


async def documents(pool: asyncpg.Pool, digests: Sequence[bytes]) -> dict[bytes, bytes]:
    return {row["hash"]: row["body"] for row in await ask(pool, _DOCUMENTS, digests)}


async def put_checkpoint(
    pool: asyncpg.Pool, site_id: int, previous: int, size: int, note: bytes, cosigned: bool, tiles: Sequence[HashTile]
) -> bool:
    """Publish a checkpoint with the tiles that became full. False: another was written since `previous`."""
    levels, numbers, hashes = [t.tile.level for t in tiles], [t.tile.n for t in tiles], [t.hashes for t in tiles]
    rows = await ask(pool, _PUT, site_id, previous, size, note, cosigned, levels, numbers, hashes)
    return bool(rows[0][0])


async def put_cosignatures(pool: asyncpg.Pool, site_id: int, size: int, note: bytes, cosigned: bool) -> bool:
    """The same checkpoint with more signature lines. False: it is not kept any more."""
    return bool((await ask(pool, _COSIGNED, site_id, size, note, cosigned))[0][0])


async def report(pool: asyncpg.Pool, site_id: int, state: str, reason: str, detail: str, witnesses: str) -> None:
    """How the checkpointer fares with a site; `witnesses` is JSON."""
    await ask(pool, _REPORT, site_id, state, reason, detail, witnesses)


async def thin(pool: asyncpg.Pool, site_id: int, older_than_seconds: float, limit: int) -> int:
    """Thin out older checkpoints; how many went."""
    return int((await ask(pool, _THIN, site_id, older_than_seconds, limit))[0][0])


async def is_ready(pool: asyncpg.Pool, site_id: int) -> bool:
    """Whether the site has a checkpoint with its quorum: before that it takes no events."""
    return bool((await ask(pool, _READY, site_id))[0][0])
