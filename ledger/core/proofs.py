"""Which hash tiles a proof needs, and the proof from them. Sources: RFC 6962 section 2.1, c2sp.org/tlog-tiles.

A tile holds every eighth level of the tree; the levels between are hashed up from it. Where tiles come from, and
whether what they hold is true, is the reader's question: a proof from false tiles leads to another root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ledger.core.errors import Malformed
from ledger.core.merkle import HASH_BYTES, consistency_proof, inclusion_proof
from ledger.core.tile import TILE_HEIGHT, TILE_WIDTH, Tile
from ledger.core.tree import complete_root


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


class TileHashes:
    """A `Subtree` over tiles at hand: (level, n) -> the tile's hashes, concatenated."""

    def __init__(self, tiles: Mapping[tuple[int, int], bytes]) -> None:
        self._tiles = tiles
        self._roots: dict[Node, bytes] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """The root of a subtree; `Malformed` where the tile that it follows from is missing or too short."""
        node = Node(level, index)
        root = self._roots.get(node)
        if root is None:
            width = 1 << (level % TILE_HEIGHT)
            first = index * width % TILE_WIDTH
            hashes = self._tiles.get(node.tile, b"")[first * HASH_BYTES : (first + width) * HASH_BYTES]
            if len(hashes) != width * HASH_BYTES:
                tile = Tile(*node.tile)
                raise Malformed(f"{tile.path} does not reach hash {first + width - 1}")
            root = self._roots[node] = complete_root(hashes)
        return root
