"""Proofs and tiles out of the database are those of RFC 6962 and c2sp.org/tlog-tiles, be tiles stored or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import asyncpg
import pytest
import pytest_asyncio

from ledger import config
from ledger.core import merkle
from ledger.core.errors import NotFound, Unavailable
from ledger.core.tile import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, decode_bundle, encode_bundle, tiles_of
from ledger.core.tree import HashTile
from ledger.log_tree import KeptTiles, LogTree
from ledger.store import log as store
from ledger.store.pool import open_pool
from tests.checkpointing import tree_of
from tests.conftest import Database

SITE_ID = 1
SIZE = 600
ENTRIES_IN_LOG = [f"entry-{i}".encode() for i in range(SIZE)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES_IN_LOG]
SUBTREE = merkle.subtrees_of(LEAVES)

_FILL = """
insert into ledger.entry (site_id, seq, entry)
select $1, u.i - 1, u.entry from unnest($2::bytea[]) with ordinality u(entry, i)
"""
_PUT = "select ledger.put_checkpoint($1, $2, $3, $4, $5, $6, $7, $8)"


class Filled(NamedTuple):
    """A log of `SIZE` entries that hold no more than their number, as the database has it."""

    pool: asyncpg.Pool
    tree: LogTree


async def fill(database: Database, entries: list[bytes]) -> None:
    superuser = await asyncpg.connect(database.admin_url)
    await superuser.execute(_FILL, SITE_ID, entries)
    await superuser.close()


async def put_tiles(pool: asyncpg.Pool, size: int, tiles: list[HashTile], *, cosigned: bool = True) -> None:
    previous = await pool.fetchval("select coalesce(max(size), 0) from ledger.checkpoint where site_id = $1", SITE_ID)
    levels, numbers, hashes = (
        [f(t) for t in tiles] for f in (lambda t: t.tile.level, lambda t: t.tile.n, lambda t: t.hashes)
    )
    assert await pool.fetchval(_PUT, SITE_ID, previous, size, b"note %d" % size, cosigned, levels, numbers, hashes)


@pytest_asyncio.fixture(params=["tiles stored", "tiles derived", "one tile stored"])
async def log(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[Filled]:
    await fill(database, ENTRIES_IN_LOG)
    pool = await open_pool(database.url)
    full = tree_of(LEAVES)[1]
    stored = {"tiles stored": full, "tiles derived": [], "one tile stored": full[:1]}[request.param]
    await put_tiles(pool, SIZE, stored)
    yield Filled(pool, LogTree(pool, SITE_ID))
    pool.terminate()


def borders(size: int) -> list[int]:
    """The leaves at which a proof of a tree of this size changes its shape."""
    near = {0, 1, size // 2, 254, 255, 256, 257, 511, 512, size - 2, size - 1}
    return sorted(i for i in near if 0 <= i < size)


async def test_proofs_of_every_size_are_those_of_the_tree(log: Filled) -> None:
    for size in range(1, SIZE + 1):
        indexes = borders(size)
        expected = [merkle.inclusion_proof(index, size, SUBTREE) for index in indexes]
        assert await log.tree.inclusions(indexes, size) == expected
        old = (size * 7) % size + 1 if size % 3 else size // 2 + 1
        assert await log.tree.consistency(old, size) == merkle.consistency_proof(old, size, SUBTREE)
        if size % 50 == 0:
            assert await log.tree.root(size) == merkle.root_of(LEAVES[:size])
            assert await log.tree.inclusion(size - 1, size) == merkle.inclusion_proof(size - 1, size, SUBTREE)


async def test_consistency_proofs_between_all_border_sizes(log: Filled) -> None:
    sizes = [1, 2, 3, 255, 256, 257, 511, 512, 513, 599, 600]
    for new in sizes:
        for old in [0, *(size for size in sizes if size <= new)]:
            assert await log.tree.consistency(old, new) == merkle.consistency_proof(old, new, SUBTREE)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 600])
async def test_every_tile_and_bundle_of_a_size_is_there_exactly(log: Filled, size: int) -> None:
    for tile in tiles_of(size):
        if tile.level == ENTRIES:
            data = await log.tree.entry_bundle(tile)
            assert data is not None
            start = tile.n * TILE_WIDTH
            assert data == encode_bundle(ENTRIES_IN_LOG[start : start + tile.width])
            assert decode_bundle(data, tile.width)
        else:
            expected = b"".join(SUBTREE(tile.level * TILE_HEIGHT, tile.n * TILE_WIDTH + i) for i in range(tile.width))
            assert await log.tree.hash_tile(tile) == expected


async def test_what_the_log_does_not_reach_is_not_there(log: Filled) -> None:
    for tile in (Tile(0, 2, 89), Tile(0, 2), Tile(0, 3, 1), Tile(1, 0, 3), Tile(1, 0), Tile(2, 0, 1), Tile(7, 0, 1)):
        assert await log.tree.hash_tile(tile) is None
    for tile in (Tile(ENTRIES, 2, 89), Tile(ENTRIES, 2), Tile(ENTRIES, 3, 1)):
        assert await log.tree.entry_bundle(tile) is None
    with pytest.raises(NotFound):
        await log.tree.inclusion(0, SIZE + 1)
    with pytest.raises(NotFound):
        await log.tree.consistency(5, SIZE + 1)
    for index, size in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(ValueError, match="below the size"):
            await log.tree.inclusion(index, size)


async def test_a_deleted_entry_is_no_silent_gap(database: Database) -> None:
    await fill(database, ENTRIES_IN_LOG)
    pool = await open_pool(database.url)
    superuser = await asyncpg.connect(database.admin_url)
    try:
        tree = LogTree(pool, SITE_ID)
        await superuser.execute("set role ledger_migrate; alter table ledger.entry disable trigger append_only")
        await superuser.execute("reset role; delete from ledger.entry where seq = 300")
        assert await tree.hash_tile(Tile(0, 1)) is None
        assert await tree.entry_bundle(Tile(ENTRIES, 1)) is None
        with pytest.raises(NotFound):
            await tree.inclusion(400, SIZE)
        assert await store.entries(pool, SITE_ID, 299, 302) == [ENTRIES_IN_LOG[299], ENTRIES_IN_LOG[301]]
    finally:
        await superuser.close()
        pool.terminate()


async def test_levels_above_the_first_come_from_the_roots_below(database: Database) -> None:
    size = 65_536 + 256 * 3 + 5
    entries = [i.to_bytes(4, "big") for i in range(size)]
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    subtree = merkle.subtrees_of(leaves)
    await fill(database, entries)
    pool = await open_pool(database.url)
    try:
        tree = LogTree(pool, SITE_ID)
        full = tree_of(leaves)[1]
        for stored in ([], full[:100], full):  # what is stored may only save work
            if stored:
                await put_tiles(pool, size - (stored is not full), stored)
            assert await tree.hash_tile(Tile(1, 1, 3)) == b"".join(subtree(8, 256 + i) for i in range(3))
            assert await tree.hash_tile(Tile(2, 0, 1)) == subtree(16, 0)
            assert await tree.root(size) == merkle.root_of(leaves)
            for index in (0, 65_535, 65_536, size - 1):
                assert await tree.inclusion(index, size) == merkle.inclusion_proof(index, size, subtree)
            for old in (1, 255, 65_535, 65_536, 65_537, size - 1):
                assert await tree.consistency(old, size) == merkle.consistency_proof(old, size, subtree)
    finally:
        pool.terminate()


async def test_a_log_whose_tiles_are_far_behind_is_not_rebuilt_for_one_proof(
    log: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "TILES_DERIVED_MAX", 0)
    stored = await log.pool.fetchval("select count(*) from ledger.tile")
    if stored == 2:
        assert await log.tree.inclusion(0, SIZE) == merkle.inclusion_proof(0, SIZE, SUBTREE)
    else:
        with pytest.raises(Unavailable, match="not stored yet"):
            await log.tree.hash_tile(Tile(1, 0, 2))


async def test_the_served_checkpoint_is_the_newest_cosigned_or_patient_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await open_pool(database.url)
    try:
        assert await store.served_checkpoint(pool, SITE_ID) is None
        assert await store.newest_checkpoint(pool, SITE_ID) is None
        await put_tiles(pool, 1, [])
        await put_tiles(pool, 5, [], cosigned=False)
        served, newest = await store.served_checkpoint(pool, SITE_ID), await store.newest_checkpoint(pool, SITE_ID)
        assert served is not None
        assert newest is not None
        assert (served.size, served.note, served.cosigned) == (1, b"note 1", True)
        assert (newest.size, newest.note, newest.cosigned) == (5, b"note 5", False)
        monkeypatch.setattr(config, "CHECKPOINT_QUORUM_PATIENCE_SECONDS", 0.0)
        assert await store.served_checkpoint(pool, SITE_ID) == newest
        assert await store.cosigned_checkpoint(pool, SITE_ID) == served
        assert await store.checkpoint_at(pool, SITE_ID, 5) == newest
        assert await store.checkpoint_at(pool, SITE_ID, 4) is None
    finally:
        pool.terminate()


async def test_kept_checkpoints_come_in_ascending_order_page_by_page(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "CHECKPOINT_PAGE_ROWS", 3)
    pool = await open_pool(database.url)
    try:
        for size in range(1, 9):
            await put_tiles(pool, size, [])
        assert [row.size async for row in store.kept_checkpoints(pool, SITE_ID, 7)] == [1, 2, 3, 4, 5, 6, 7]
    finally:
        pool.terminate()


async def test_tiles_that_are_kept_spare_a_reading_and_change_no_proof(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, ENTRIES_IN_LOG)
    pool = await open_pool(database.url)
    await put_tiles(pool, SIZE, tree_of(LEAVES)[1])
    read: list[Tile] = []
    look = store.tiles

    async def counted(pool: asyncpg.Pool, site_id: int, wanted: Sequence[Tile]) -> list[store.TileRow]:
        read.extend(wanted)
        return await look(pool, site_id, wanted)

    monkeypatch.setattr(store, "tiles", counted)
    try:
        kept = KeptTiles(max_tiles=4)
        tree = LogTree(pool, SITE_ID, kept)
        for _ in range(3):
            for index in (0, 300, 599):
                assert await tree.inclusion(index, SIZE) == merkle.inclusion_proof(index, SIZE, SUBTREE)
        assert sorted(read) == [Tile(0, 0), Tile(0, 1), Tile(0, 2, 88), Tile(1, 0, 2)]
        read.clear()
        for size in (599, 598, SIZE):  # of another width is another tile; the oldest had to go
            assert await tree.inclusion(size - 1, size) == merkle.inclusion_proof(size - 1, size, SUBTREE)
        assert len(read) >= 2
        kept.forget(SITE_ID)
        read.clear()
        assert await tree.inclusion(0, SIZE) == merkle.inclusion_proof(0, SIZE, SUBTREE)
        assert read
    finally:
        pool.terminate()
