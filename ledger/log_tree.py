"""The tree of one log as the store holds it: hash tiles, entry bundles, proofs at any size.

Full tiles are read where the checkpointer stored them; what is not full, or not stored yet, follows from the entries
and from the roots of the tiles below. No size is too large for it and no checkpoint is asked: what may be given out
is the caller's question, and so is whether a proof leads to the root that was signed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import asyncpg

from ledger import config
from ledger.core import proofs
from ledger.core.errors import NotFound, Unavailable
from ledger.core.merkle import HASH_BYTES, consistency_proof, inclusion_proof, join_edge
from ledger.core.proofs import HashedTile, Node, TileHashes
from ledger.core.tile import ENTRIES, TILE_WIDTH, Tile
from ledger.core.tree import complete_root
from ledger.store import log as store


class KeptTiles:
    """Hash tiles that were read a moment ago, of any site: proofs of new entries need the same few again and again.

    A tile of a certain width never changes, so what is kept is never stale, unless somebody changed the log.
    """

    def __init__(self, max_tiles: int = config.TILES_KEPT_MAX) -> None:
        self._max_tiles = max_tiles
        self._tiles: OrderedDict[tuple[int, Tile], HashedTile] = OrderedDict()

    def get(self, site_id: int, tile: Tile) -> HashedTile | None:
        found = self._tiles.get((site_id, tile))
        if found is not None:
            self._tiles.move_to_end((site_id, tile))
        return found

    def put(self, site_id: int, tile: Tile, hashed: HashedTile) -> None:
        self._tiles[site_id, tile] = hashed
        if len(self._tiles) > self._max_tiles:
            self._tiles.popitem(last=False)

    def forget(self, site_id: int) -> None:
        """Of one site all of them: they have proven wrong, or what they came from has changed."""
        for at in [at for at in self._tiles if at[0] == site_id]:
            del self._tiles[at]


class LogTree:
    """One site's log. Hashes are bytes of 32. With `kept`, tiles for inclusion proofs are taken from there first.

    Every call raises `NotFound` where the log holds fewer entries than asked for, and `Unavailable` where the database
    does not answer or too many tiles are not stored yet.
    """

    def __init__(self, pool: asyncpg.Pool, site_id: int, kept: KeptTiles | None = None) -> None:
        self._pool = pool
        self._site_id = site_id
        self._kept = kept

    async def inclusion(self, index: int, size: int) -> list[bytes]:
        """PATH(index, D[size]) of RFC 6962, from the leaf upwards; `ValueError` unless 0 <= index < size."""
        return (await self.inclusions([index], size))[0]

    async def inclusions(self, indexes: Sequence[int], size: int) -> list[list[bytes]]:
        """The inclusion proofs of several leaves of one tree, for not much more than the cost of one."""
        nodes = {node for index in indexes for node in proofs.inclusion_nodes(index, size)}
        subtree = await self._hashes(nodes, size, self._kept)
        return [inclusion_proof(index, size, subtree) for index in indexes]

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """PROOF(old, D[new]) of RFC 6962; `ValueError` unless 0 <= old <= new."""
        subtree = await self._hashes(proofs.consistency_nodes(old, new), new)
        return consistency_proof(old, new, subtree)

    async def root(self, size: int) -> bytes:
        """The tree head over the first `size` entries."""
        nodes = proofs.root_nodes(size)
        subtree = await self._hashes(nodes, size)
        return join_edge([subtree(*node) for node in nodes])

    async def hash_tile(self, tile: Tile) -> bytes | None:
        """The bytes of a hash tile, full or partial; None where the log does not reach so far."""
        try:
            return (await self._tiles([tile]))[tile.level, tile.n]
        except NotFound:
            return None

    async def entry_bundle(self, tile: Tile) -> bytes | None:
        """The bytes of an entry bundle (`tile.level` is `ENTRIES`); None where the log does not reach so far."""
        if tile.level != ENTRIES:
            raise ValueError("an entry bundle has the level ENTRIES")
        start = tile.n * TILE_WIDTH
        width, data = await store.bundle(self._pool, self._site_id, start, start + tile.width)
        return data if width == tile.width else None

    async def _hashes(self, nodes: Iterable[Node], size: int, kept: KeptTiles | None = None) -> TileHashes:
        wanted = proofs.tiles_for(nodes, size)
        at_hand = {tile: kept.get(self._site_id, tile) for tile in wanted} if kept is not None else {}
        found = {(tile.level, tile.n): hashed for tile, hashed in at_hand.items() if hashed is not None}
        missing = [tile for tile in wanted if (tile.level, tile.n) not in found]
        read = await self._tiles(missing)
        for tile in missing:
            hashed = found[tile.level, tile.n] = HashedTile(read[tile.level, tile.n])
            if kept is not None:
                kept.put(self._site_id, tile, hashed)
        return TileHashes(found)

    async def _tiles(self, wanted: Sequence[Tile]) -> dict[tuple[int, int], bytes]:
        return await _Reading(self._pool, self._site_id).tiles(wanted)


class _Reading:
    """The tiles of one question. What is not stored is derived, up to a bound."""

    def __init__(self, pool: asyncpg.Pool, site_id: int) -> None:
        self._pool = pool
        self._site_id = site_id
        self._derived = 0

    async def tiles(self, wanted: Sequence[Tile]) -> dict[tuple[int, int], bytes]:
        """(level, n) -> hashes, exactly as many as the tile is wide."""
        found: dict[tuple[int, int], bytes] = {}
        for at in range(0, len(wanted), config.TILES_PER_READ):
            page = wanted[at : at + config.TILES_PER_READ]
            for tile, row in zip(page, await store.tiles(self._pool, self._site_id, page), strict=True):
                hashes = row.hashes
                if hashes is None and tile.level > 0:
                    hashes = await self._from_below(tile, dict(zip(row.below, row.roots, strict=True)))
                if hashes is None or len(hashes) != tile.width * HASH_BYTES:
                    raise NotFound(f"the log does not reach to the end of {tile.path}")
                found[tile.level, tile.n] = hashes
        return found

    async def _from_below(self, tile: Tile, roots: dict[int, bytes]) -> bytes:
        """A tile above level 0 from the roots of the full tiles below it, be they stored or not."""
        numbers = range(tile.n * TILE_WIDTH, tile.n * TILE_WIDTH + tile.width)
        missing = [Tile(tile.level - 1, n) for n in numbers if n not in roots]
        self._derived += len(missing)
        if self._derived > config.TILES_DERIVED_MAX:
            raise Unavailable("tiles-behind", "The log's tiles are not stored yet; try again when they are.", 5)
        for at in range(0, len(missing), config.TILES_PER_READ):
            for (_, n), hashes in (await self.tiles(missing[at : at + config.TILES_PER_READ])).items():
                roots[n] = complete_root(hashes)
        return b"".join(roots[n] for n in numbers)
