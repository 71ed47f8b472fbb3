"""The full hash tiles that a new checkpoint brings, made from leaf hashes that the follower computed.

The unfinished tiles of the higher levels are read from the store when it begins, and believed for as long as the root
over them is the one that the follower knows from the entries alone.
"""

from __future__ import annotations

import asyncpg

from ledger import config
from ledger.checkpointer.follower import NotSigned
from ledger.core.merkle import HASH_BYTES, leaf_hash
from ledger.core.tile import TILE_HEIGHT, TILE_WIDTH, Tile
from ledger.core.tree import HashTile, TileTree
from ledger.log_tree import LogTree
from ledger.store import log as store

_FULL_BYTES = TILE_WIDTH * HASH_BYTES


class NewTiles:
    """The tiles between what the database has (`written` entries are covered) and the next checkpoint."""

    def __init__(self, pool: asyncpg.Pool, site_id: int) -> None:
        self._pool = pool
        self._site_id = site_id
        self._tree: TileTree | None = None
        self._written = 0
        self._size = 0
        self._rest = bytearray()
        self._due: list[HashTile] = []

    def forget(self) -> None:
        """What was written is not known any more: read it again."""
        self._tree = None

    async def up_to(self, written: int, size: int, root: bytes) -> list[HashTile]:
        """The tiles that are full at `size` and were not at `written`; `root` is the log's at `size`.

        `NotSigned` where what is stored does not lead to that root.
        """
        for _ in range(2):
            if self._tree is None or self._written != written or self._size > size:
                await self._begin(written)
            assert self._tree is not None
            while self._size < size:
                await self._read(min(self._size + config.CHECKPOINT_SLICE_ENTRIES, size))
            if self._tree.root_with(bytes(self._rest), len(self._rest) // HASH_BYTES) == root:
                return self._due
            self._tree = None
        raise NotSigned("tiles-differ", "the stored tiles or entries do not lead to the root of the log that was read")

    def done(self, size: int) -> None:
        """They are in the database."""
        self._written = size
        self._due = []

    async def _begin(self, written: int) -> None:
        """The unfinished tile of each level from 1 upwards, as the database has it."""
        tree = LogTree(self._pool, self._site_id)
        bundles = written >> TILE_HEIGHT
        rows: list[bytes] = []
        level, count = 1, bundles
        while count:
            row = b""
            if count % TILE_WIDTH:
                row = await tree.hash_tile(Tile(level, count // TILE_WIDTH, count % TILE_WIDTH)) or b""
                if not row:
                    raise NotSigned("tiles-differ", f"the log is shorter than the {written} entries that were signed")
            rows.append(row)
            level, count = level + 1, count // TILE_WIDTH
        self._tree = TileTree.resume(bundles, rows)
        self._written, self._size = written, bundles * TILE_WIDTH
        self._rest = bytearray()
        self._due = []

    def add(self, leaves: bytes, first: int) -> None:
        """Leaf hashes that the follower computed, from seq `first` on; those that do not continue are read again."""
        if self._tree is not None and first == self._size:
            self._take(leaves)

    async def _read(self, end: int) -> None:
        entries = await store.entries(self._pool, self._site_id, self._size, end)
        if len(entries) != end - self._size:
            raise NotSigned("rule-2", f"rule 2 at entry {self._size + len(entries)}: it is missing")
        self._take(b"".join(map(leaf_hash, entries)))

    def _take(self, leaves: bytes) -> None:
        assert self._tree is not None
        self._rest += leaves
        self._size += len(leaves) // HASH_BYTES
        while len(self._rest) >= _FULL_BYTES:
            self._due += self._tree.add(bytes(self._rest[:_FULL_BYTES]))
            del self._rest[:_FULL_BYTES]
