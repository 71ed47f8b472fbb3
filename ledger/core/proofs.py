"""Which hash tiles a proof needs, and the proof from them. Sources: RFC 6962 section 2.1, c2sp.org/tlog-tiles.

A tile holds every eighth level of the tree; the levels between are hashed up from it. Where tiles come from, and
whether what they hold is true, is the reader's question: a proof from false tiles leads to another root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ledger.core.errors import Malformed
from ledger.core.merkle import HASH_BYTES, consistency_proof, inclusion_proof, node_hash
from ledger.core.tile import TILE_HEIGHT, TILE_WIDTH, Tile


class Node(NamedTuple):
    """The complete subtree over leaves [n << level, (n + 1) << level)."""

    level: int
    n: int

    @property
    def tile(self) -> tuple[int, int]:
        """Level and number of the lowest tile from which this subtree's root follows."""
        level, above = divmod(self.level, TILE_HEIGHT)
        return level, (self.n << above) >> TILE_HEIGHT


def inclusion_nodes(index: int, size: int) -> list[Node]:
    """The subtrees whose roots the inclusion proof is made of."""
    nodes: list[Node] = []
    inclusion_proof(index, size, _Recorder(nodes))
    return nodes


def consistency_nodes(old: int, new: int) -> list[Node]:
    """The subtrees whose roots the consistency proof is made of."""
    nodes: list[Node] = []
    consistency_proof(old, new, _Recorder(nodes))
    return nodes


def root_nodes(size: int) -> list[Node]:
    """The subtrees whose roots the tree head is made of, from the left."""
    nodes: list[Node] = []
    start = 0
    while start < size:
        level = (size - start).bit_length() - 1
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return nodes


class _Recorder:
    """A `Subtree` that notes what it is asked for."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    def __call__(self, level: int, index: int) -> bytes:
        self._nodes.append(Node(level, index))
        return bytes(HASH_BYTES)


def tiles_for(nodes: Iterable[Node], size: int) -> list[Tile]:
    """The tiles of a tree of `size` leaves in which these subtrees' roots are found, each once."""
    return [tile_at(level, n, size) for level, n in sorted({node.tile for node in nodes})]


def tile_at(level: int, n: int, size: int) -> Tile:
    """Tile `n` of a level as wide as a tree of `size` leaves has it; of width 0 where it has none."""
    width = (size >> (TILE_HEIGHT * level)) - n * TILE_WIDTH
    return Tile(level, n, max(0, min(width, TILE_WIDTH)))


class HashedTile:
    """A hash tile with the roots of its complete subtrees; each is computed once, and only when it is asked for."""

    __slots__ = ("_roots", "hashes")

    def __init__(self, hashes: bytes) -> None:
        self.hashes = hashes
        self._roots: dict[tuple[int, int], bytes] = {}

    @property
    def width(self) -> int:
        return len(self.hashes) // HASH_BYTES

    def root(self, first: int, width: int) -> bytes:
        """The root over `width` hashes from the `first`; the width is a power of two, and the tile reaches so far."""
        if width == 1:
            return self.hashes[first * HASH_BYTES : (first + 1) * HASH_BYTES]
        root = self._roots.get((first, width))
        if root is None:
            half = width // 2
            root = node_hash(self.root(first, half), self.root(first + half, half))
            self._roots[first, width] = root
        return root


class TileHashes:
    """A `Subtree` over tiles at hand, by (level, n): as such, or as their bytes."""

    def __init__(self, tiles: Mapping[tuple[int, int], HashedTile | bytes]) -> None:
        self._tiles = {at: tile if isinstance(tile, HashedTile) else HashedTile(tile) for at, tile in tiles.items()}

    def __call__(self, level: int, index: int) -> bytes:
        """The root of a subtree; `Malformed` where the tile that it follows from is missing or too short."""
        at = Node(level, index).tile
        width = 1 << (level % TILE_HEIGHT)
        first = index * width % TILE_WIDTH
        tile = self._tiles.get(at)
        if tile is None or tile.width < first + width:
            raise Malformed(f"{Tile(*at).path} does not reach hash {first + width - 1}")
        return tile.root(first, width)
