"""What the database holds of a log for those who audit it: entries, tiles, checkpoints. It computes no proof and writes
nothing; every question is one statement.

Nothing that is read here is trusted for being stored: a proof is compared with the checkpoint's root before it is
given out, and whoever gets it compares again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.core.tile import Tile
from ledger.store.ask import ask


class CheckpointRow(NamedTuple):
    """A stored checkpoint: the signed note's bytes; `cosigned` by as many witnesses as the quorum asks for."""

    size: int
    note: bytes
    cosigned: bool
    signed_at_ms: int


class TileRow(NamedTuple):
    """What there is of one hash tile: its hashes, or, above level 0, the roots of those stored tiles below that there
    are, with their numbers."""

    hashes: bytes | None
    below: Sequence[int]
    roots: Sequence[bytes]


_NEWEST_CHECKPOINT = """
select c.size, c.note, c.cosigned, c.signed_at from ledger.checkpoint c
 where c.site_id = $1 order by c.size desc limit 1
"""

# Never an older one than before: cosigned stays cosigned, and what was patient enough once stays so.
_SERVED_CHECKPOINT = """
select c.size, c.note, c.cosigned, c.signed_at from ledger.checkpoint c
 where c.site_id = $1 and (c.cosigned or c.signed_at <= now() - make_interval(secs => $2))
 order by c.size desc limit 1
"""

_COSIGNED_CHECKPOINT = """
select c.size, c.note, c.cosigned, c.signed_at from ledger.checkpoint c
 where c.site_id = $1 and c.cosigned order by c.size desc limit 1
"""

_CHECKPOINT_AT = """
select c.size, c.note, c.cosigned, c.signed_at from ledger.checkpoint c where c.site_id = $1 and c.size = $2
"""

_KEPT_CHECKPOINTS = """
select c.size, c.note, c.cosigned, c.signed_at from ledger.checkpoint c
 where c.site_id = $1 and c.size > $2 and c.size <= $3 order by c.size limit $4
"""

_ENTRIES = "select e.entry from ledger.entry e where e.site_id = $1 and e.seq >= $2 and e.seq < $3 order by e.seq"

# Framed by the database: one row comes back instead of 256.
_BUNDLE = """
select count(*) as width,
       string_agg(substring(int4send(octet_length(e.entry)) from 3) || e.entry, ''::bytea order by e.seq) as entries
  from ledger.entry e where e.site_id = $1 and e.seq >= $2 and e.seq < $3
"""

# A tile that is stored is read, or its beginning is. Else the leaf hashes are made from the entries, and higher levels
# from the roots of the stored tiles below.
_TILES = """
select substring(f.hashes for 32 * w.width) as stored, l.hashes as leaves, r.below, r.roots
  from unnest($2::smallint[], $3::bigint[], $4::integer[]) with ordinality w(level, n, width, i)
  left join lateral (
      select t.hashes from ledger.tile t where t.site_id = $1 and t.level = w.level and t.n = w.n offset 0
  ) f on true
  left join lateral (
      select string_agg(sha256('\\x00'::bytea || e.entry), ''::bytea order by e.seq) as hashes
        from ledger.entry e
       where f.hashes is null and w.level = 0
         and e.site_id = $1 and e.seq >= w.n * 256 and e.seq < w.n * 256 + w.width
  ) l on true
  left join lateral (
      select array_agg(t.n order by t.n) as below, array_agg(t.root order by t.n) as roots
        from ledger.tile t
       where f.hashes is null and w.level > 0
         and t.site_id = $1 and t.level = w.level - 1 and t.n >= w.n * 256 and t.n < w.n * 256 + w.width
  ) r on true
 order by w.i
"""


async def served_checkpoint(pool: asyncpg.Pool, site_id: int) -> CheckpointRow | None:
    """The checkpoint that is shown: the newest that is cosigned, or that has waited for its quorum long enough.

    None before a site's first one. Its size never goes back.
    """
    return await _checkpoint(pool, _SERVED_CHECKPOINT, site_id, config.CHECKPOINT_QUORUM_PATIENCE_SECONDS)


async def cosigned_checkpoint(pool: asyncpg.Pool, site_id: int) -> CheckpointRow | None:
    """The newest checkpoint with its quorum."""
    return await _checkpoint(pool, _COSIGNED_CHECKPOINT, site_id)


async def newest_checkpoint(pool: asyncpg.Pool, site_id: int) -> CheckpointRow | None:
    """The newest checkpoint that was signed, be it cosigned or not."""
    return await _checkpoint(pool, _NEWEST_CHECKPOINT, site_id)


async def checkpoint_at(pool: asyncpg.Pool, site_id: int, size: int) -> CheckpointRow | None:
    """The checkpoint of this very size, if one was signed and kept."""
    return await _checkpoint(pool, _CHECKPOINT_AT, site_id, size)


async def kept_checkpoints(pool: asyncpg.Pool, site_id: int, up_to: int) -> AsyncIterator[CheckpointRow]:
    """Every checkpoint kept, of sizes up to `up_to`, ascending, a page at a time."""
    after = -1
    while True:
        rows = await ask(pool, _KEPT_CHECKPOINTS, site_id, after, up_to, config.CHECKPOINT_PAGE_ROWS)
        for row in rows:
            yield _row(row)
        if len(rows) < config.CHECKPOINT_PAGE_ROWS:
            return
        after = rows[-1]["size"]


async def entries(pool: asyncpg.Pool, site_id: int, start: int, end: int) -> list[bytes]:
    """The bytes of the entries [start, end), as many as there are; the caller bounds the range."""
    return [row["entry"] for row in await ask(pool, _ENTRIES, site_id, start, end)]


async def bundle(pool: asyncpg.Pool, site_id: int, start: int, end: int) -> tuple[int, bytes]:
    """How many of the entries [start, end) there are, and they in the form of an entry bundle."""
    row = (await ask(pool, _BUNDLE, site_id, start, end))[0]
    return row["width"], row["entries"] or b""


async def tiles(pool: asyncpg.Pool, site_id: int, wanted: Sequence[Tile]) -> list[TileRow]:
    """What there is of these hash tiles, in the order asked; the caller bounds their number."""
    levels, numbers, widths = ([tile[k] for tile in wanted] for k in range(3))
    rows = await ask(pool, _TILES, site_id, levels, numbers, widths)
    return [TileRow(row["stored"] or row["leaves"], row["below"] or (), row["roots"] or ()) for row in rows]


async def _checkpoint(pool: asyncpg.Pool, query: str, *arguments: object) -> CheckpointRow | None:
    rows = await ask(pool, query, *arguments)
    return _row(rows[0]) if rows else None


def _row(row: asyncpg.Record) -> CheckpointRow:
    return CheckpointRow(row["size"], row["note"], row["cosigned"], int(row["signed_at"].timestamp() * 1000))
