"""The hash tiles of a log as it is read or written from its start, and the root at any size passed on the way.

Fed with the leaf hashes of one entry bundle after another; holds one unfinished tile a level and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from ledger.core.merkle import HASH_BYTES, Frontier
from ledger.core.tile import TILE_HEIGHT, TILE_WIDTH, Tile


class HashTile(NamedTuple):
    """A tile that is due, and the bytes it has to hold."""

    tile: Tile
    hashes: bytes


def complete_root(hashes: bytes) -> bytes:
    """The root over concatenated hashes whose count is a power of two (RFC 6962 section 2.1)."""
    while len(hashes) > HASH_BYTES:
        hashes = b"".join(
            [sha256(b"\x01" + hashes[i : i + 64]).digest() for i in range(0, len(hashes), 2 * HASH_BYTES)]
        )
    return hashes


class TileTree:
    """All levels above the entries. Full bundles come first, at most one partial bundle last."""

    __slots__ = ("_bundles", "_done", "_leaves", "_rows")

    def __init__(self) -> None:
        self._bundles = Frontier()
        """Over the roots of full bundles: the tree of the log from level 8 upwards."""
        self._leaves = b""
        self._rows: list[bytearray] = []
        self._done: list[int] = []

    @classmethod
    def resume(cls, bundles: int, rows: Sequence[bytes]) -> TileTree:
        """The tree behind its first `bundles` full bundles. `rows`: the hashes of the unfinished tile of each level
        from 1 upwards (as many as it has), such as a store holds; whether they are right, the root tells."""
        tree = cls()
        edge: list[bytes] = []
        count = bundles
        for row in rows:
            if len(row) != count % TILE_WIDTH * HASH_BYTES:
                raise ValueError("a row has the hashes of one unfinished tile")
            tree._rows.append(bytearray(row))
            tree._done.append(count // TILE_WIDTH)
            edge = _edge(row) + edge
            count //= TILE_WIDTH
        if count:
            raise ValueError("a row for each level is needed")
        tree._bundles = Frontier(bundles, edge)
        return tree

    @property
    def size(self) -> int:
        return self._bundles.size * TILE_WIDTH + len(self._leaves) // HASH_BYTES

    def root_with(self, leaves: bytes, width: int) -> bytes:
        """The root of the full bundles so far and the first `width` of these leaf hashes."""
        frontier = Frontier(self._bundles.size << TILE_HEIGHT, self._bundles.edge)
        for i in range(width):
            frontier.add(leaves[i * HASH_BYTES : (i + 1) * HASH_BYTES])
        return frontier.root()

    def root(self) -> bytes:
        """The root at the present size."""
        return self.root_with(self._leaves, len(self._leaves) // HASH_BYTES)

    def add(self, leaves: bytes, root: bytes | None = None) -> list[HashTile]:
        """Add a bundle's leaf hashes; the tiles that are full now. `root` saves hashing where it is known."""
        if self._leaves or not leaves:
            raise ValueError("only the last bundle is partial, and none is empty")
        if len(leaves) < TILE_WIDTH * HASH_BYTES:
            self._leaves = leaves
            return []
        root = root or complete_root(leaves)
        due = [HashTile(Tile(0, self._bundles.size), leaves)]
        self._bundles.add(root)
        self._push(1, root, due)
        return due

    def _push(self, level: int, root: bytes, due: list[HashTile]) -> None:
        if len(self._rows) < level:
            self._rows.append(bytearray())
            self._done.append(0)
        row = self._rows[level - 1]
        row += root
        if len(row) == TILE_WIDTH * HASH_BYTES:
            hashes = bytes(row)
            due.append(HashTile(Tile(level, self._done[level - 1]), hashes))
            self._done[level - 1] += 1
            row.clear()
            self._push(level + 1, complete_root(hashes), due)

    def partial(self) -> list[HashTile]:
        """The tiles at the right edge that are not full."""
        due = []
        if self._leaves:
            due.append(HashTile(Tile(0, self._bundles.size, len(self._leaves) // HASH_BYTES), self._leaves))
        for level, row in enumerate(self._rows, 1):
            if row:
                due.append(HashTile(Tile(level, self._done[level - 1], len(row) // HASH_BYTES), bytes(row)))
        return due


def _edge(row: bytes) -> list[bytes]:
    """The hashes of a row as those of complete subtrees, the largest first."""
    edge, at = [], 0
    while at < len(row):
        width = 1 << ((len(row) - at) // HASH_BYTES).bit_length() - 1
        edge.append(complete_root(row[at : at + width * HASH_BYTES]))
        at += width * HASH_BYTES
    return edge
