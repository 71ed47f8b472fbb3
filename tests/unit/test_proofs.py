"""Proofs from hash tiles: for every size from 1 to 600 and every leaf they are those of RFC 6962's recursion."""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import pytest

from ledger.core import merkle, proofs
from ledger.core.errors import Malformed
from ledger.core.tile import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, tiles_of

MAX_SIZE = 600
LEAVES = [merkle.leaf_hash(f"entry-{i}".encode()) for i in range(MAX_SIZE)]
SUBTREE = merkle.subtrees_of(LEAVES)


@cache
def head(start: int, end: int) -> bytes:
    """MTH(D[start:end]), RFC 6962 section 2.1."""
    if end - start == 1:
        return LEAVES[start]
    middle = start + split(end - start)
    return sha256(b"\1" + head(start, middle) + head(middle, end)).digest()


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


@cache
def path(m: int, start: int, end: int) -> tuple[bytes, ...]:
    """PATH(m, D[start:end]), RFC 6962 section 2.1.1."""
    if end - start == 1:
        return ()
    k = split(end - start)
    if m < k:
        return (*path(m, start, start + k), head(start + k, end))
    return (*path(m - k, start + k, end), head(start, start + k))


@cache
def subproof(m: int, start: int, end: int, whole: bool) -> tuple[bytes, ...]:
    """SUBPROOF(m, D[start:end], whole), RFC 6962 section 2.1.2."""
    if m == end - start:
        return () if whole else (head(start, end),)
    k = split(end - start)
    if m <= k:
        return (*subproof(m, start, start + k, whole), head(start + k, end))
    return (*subproof(m - k, start + k, end, False), head(start, start + k))


def tiles(size: int) -> dict[tuple[int, int], proofs.HashedTile]:
    """The hash tiles of a tree of this size and no more, from the definition of c2sp.org/tlog-tiles."""
    return {
        (tile.level, tile.n): proofs.HashedTile(
            b"".join(SUBTREE(tile.level * TILE_HEIGHT, tile.n * TILE_WIDTH + i) for i in range(tile.width))
        )
        for tile in tiles_of(size)
        if tile.level != ENTRIES
    }


@pytest.mark.parametrize("first", range(1, MAX_SIZE + 1, 50))
def test_every_inclusion_proof_of_every_size_comes_from_its_tiles(first: int) -> None:
    for size in range(first, first + 50):
        root, subtree = head(0, size), proofs.TileHashes(tiles(size))
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, subtree)
            assert tuple(proof) == path(index, 0, size)
            merkle.check_inclusion(LEAVES[index], index, size, proof, root)


@pytest.mark.parametrize("first", range(1, MAX_SIZE + 1, 50))
def test_every_consistency_proof_between_two_sizes_comes_from_the_tiles_of_the_larger(first: int) -> None:
    for new in range(first, first + 50):
        root, subtree = head(0, new), proofs.TileHashes(tiles(new))
        for old in range(1, new + 1):
            proof = merkle.consistency_proof(old, new, subtree)
            assert tuple(proof) == subproof(old, 0, new, True)
            merkle.check_consistency(old, new, proof, head(0, old), root)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, 600])
def test_the_tiles_named_for_a_proof_are_enough_and_none_of_them_is_idle(size: int) -> None:
    whole = tiles(size)
    wanted = [(proofs.inclusion_nodes(i, size), merkle.inclusion_proof, i) for i in range(0, size, 17)]
    wanted += [(proofs.consistency_nodes(i, size), merkle.consistency_proof, i) for i in range(1, size + 1, 17)]
    for nodes, prove, i in wanted:
        named = proofs.tiles_for(nodes, size)
        assert all(tile in set(tiles_of(size)) for tile in named)
        hashes = {(tile.level, tile.n): whole[tile.level, tile.n] for tile in named}
        assert prove(i, size, proofs.TileHashes(hashes)) == prove(i, size, SUBTREE)
        for idle in hashes:
            fewer = {at: data for at, data in hashes.items() if at != idle}
            with pytest.raises(Malformed):
                prove(i, size, proofs.TileHashes(fewer))


@pytest.mark.parametrize("size", range(1, MAX_SIZE + 1))
def test_the_tree_head_of_every_size_comes_from_its_tiles(size: int) -> None:
    nodes = proofs.root_nodes(size)
    named = {(tile.level, tile.n) for tile in proofs.tiles_for(nodes, size)}
    subtree = proofs.TileHashes({at: data for at, data in tiles(size).items() if at in named})
    assert merkle.join_edge([subtree(*node) for node in nodes]) == head(0, size)


def test_a_proof_in_a_large_log_needs_two_tiles_a_level_at_most() -> None:
    size = 123_456_789
    for index in (0, 65_535, 65_536, 99_999_999, size - 1):
        named = proofs.tiles_for(proofs.inclusion_nodes(index, size), size)
        assert len(named) <= 8
        assert all(sum(tile.level == level for tile in named) <= 2 for level in range(4))
        assert all(1 <= tile.width <= TILE_WIDTH for tile in named)


def test_a_tile_that_is_too_short_is_told_by_its_name() -> None:
    subtree = proofs.TileHashes({(0, 0): proofs.HashedTile(bytes(32 * 5))})
    assert subtree(0, 4) == bytes(32)
    for level, index in ((0, 5), (2, 1), (8, 0)):
        with pytest.raises(Malformed, match="tile/"):
            subtree(level, index)


def test_a_tile_is_as_wide_as_the_tree() -> None:
    assert proofs.tile_at(0, 0, 70_000) == Tile(0, 0, 256)
    assert proofs.tile_at(0, 273, 70_000) == Tile(0, 273, 112)
    assert proofs.tile_at(1, 1, 70_000) == Tile(1, 1, 17)
    assert proofs.tile_at(2, 0, 70_000) == Tile(2, 0, 1)
    assert proofs.tile_at(0, 274, 70_000).width == 0
