"""Trees and proofs equal the recursive definitions of RFC 6962 section 2.1, and nothing else is accepted."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core import merkle
from ledger.core.errors import ProofInvalid
from ledger.core.tile import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, tiles_of
from ledger.core.tree import TileTree, complete_root

MAX_SIZE = 600
LEAVES = [merkle.leaf_hash(f"entry-{i}".encode()) for i in range(MAX_SIZE)]
SUBTREE = merkle.subtrees_of(LEAVES)
sizes = st.integers(1, MAX_SIZE)


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    """MTH, RFC 6962 section 2.1."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH, RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF, RFC 6962 section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


@pytest.mark.parametrize("size", [*range(70), 255, 256, 257, 511, 512, 513, 600])
def test_a_root_equals_the_recursive_definition(size: int) -> None:
    assert merkle.root_of(LEAVES[:size]) == mth(LEAVES[:size])


@given(sizes, st.data())
def test_an_inclusion_proof_equals_the_recursive_definition_and_is_accepted(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, SUBTREE)
    assert proof == path(index, LEAVES[:size])
    merkle.check_inclusion(LEAVES[index], index, size, proof, mth(LEAVES[:size]))


@given(sizes, st.data())
def test_a_consistency_proof_equals_the_recursive_definition_and_is_accepted(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    proof = merkle.consistency_proof(old, size, SUBTREE)
    assert proof == subproof(old, LEAVES[:size], True)
    merkle.check_consistency(old, size, proof, mth(LEAVES[:old]), mth(LEAVES[:size]))


def wrong_proofs(proof: list[bytes]) -> list[list[bytes]]:
    """One hash more at either end, one less at either end, two exchanged, one altered, one short."""
    wrong = [[*proof, bytes(32)], [bytes(32), *proof]]
    if proof:
        wrong += [
            proof[:-1],
            proof[1:],
            [*proof[:-1], bytes(32)],
            [bytes(32), *proof[1:]],
            [*proof[:-1], proof[-1][:31]],
        ]
    if len(proof) > 1:
        wrong.append([*proof[:-2], proof[-1], proof[-2]])
    return wrong


@pytest.mark.parametrize("size", [*range(1, 34), 256, 257, 600])
def test_every_other_inclusion_proof_is_refused(size: int) -> None:
    root = mth(LEAVES[:size])
    for index in {*range(min(size, 34)), size // 2, size - 1}:
        proof = merkle.inclusion_proof(index, size, SUBTREE)
        for wrong in wrong_proofs(proof):
            with pytest.raises(ProofInvalid):
                merkle.check_inclusion(LEAVES[index], index, size, wrong, root)
        for other in (index - 1, index + 1, -1, size):
            if other != index:
                with pytest.raises(ProofInvalid):
                    merkle.check_inclusion(LEAVES[index], other, size, proof, root)
        with pytest.raises(ProofInvalid):
            merkle.check_inclusion(LEAVES[index], index, size, proof, bytes(32))
        with pytest.raises(ProofInvalid):
            merkle.check_inclusion(bytes(32), index, size, proof, root)
        for other in (size - 1, size + 1):
            if 0 < other <= MAX_SIZE:
                with pytest.raises(ProofInvalid):
                    merkle.check_inclusion(LEAVES[index], index, other, proof, mth(LEAVES[:other]))


@pytest.mark.parametrize("size", [*range(1, 34), 256, 257, 600])
def test_every_other_consistency_proof_is_refused(size: int) -> None:
    root = mth(LEAVES[:size])
    for old in {*range(1, min(size + 1, 34)), size // 2 or 1, size}:
        old_root = mth(LEAVES[:old])
        proof = merkle.consistency_proof(old, size, SUBTREE)
        for wrong in wrong_proofs(proof):
            with pytest.raises(ProofInvalid):
                merkle.check_consistency(old, size, wrong, old_root, root)
        with pytest.raises(ProofInvalid):
            merkle.check_consistency(old, size, proof, bytes(32), root)
        with pytest.raises(ProofInvalid):
            merkle.check_consistency(old, size, proof, old_root, bytes(32))
        with pytest.raises(ProofInvalid):
            merkle.check_consistency(size + 1, size, proof, old_root, root)


def test_an_empty_tree_is_a_prefix_of_every_tree() -> None:
    merkle.check_consistency(0, 5, [], merkle.EMPTY_ROOT, mth(LEAVES[:5]))
    merkle.check_consistency(0, 0, [], merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)
    for old_root, proof in ((bytes(32), []), (merkle.EMPTY_ROOT, [bytes(32)])):
        with pytest.raises(ProofInvalid):
            merkle.check_consistency(0, 5, proof, old_root, mth(LEAVES[:5]))


def test_proofs_outside_the_tree_are_misuse() -> None:
    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(ValueError, match="below the size"):
            merkle.inclusion_proof(index, size, SUBTREE)
    for old, new in ((6, 5), (-1, 5)):
        with pytest.raises(ValueError, match="exceed"):
            merkle.consistency_proof(old, new, SUBTREE)


@given(st.integers(0, MAX_SIZE), st.integers(0, 40))
def test_a_frontier_can_be_put_away_and_taken_up_again(size: int, more: int) -> None:
    frontier = merkle.Frontier()
    for leaf in LEAVES[:size]:
        frontier.add(leaf)
    again = merkle.Frontier(frontier.size, frontier.edge)
    copy = frontier.copy()
    for leaf in LEAVES[size : size + more]:
        again.add(leaf)
    assert again.root() == mth(LEAVES[: size + more])
    assert copy.root() == frontier.root() == mth(LEAVES[:size])


def test_a_frontier_has_one_hash_per_set_bit() -> None:
    with pytest.raises(ValueError, match="set bit"):
        merkle.Frontier(3, [bytes(32)])


def test_the_root_of_a_complete_subtree() -> None:
    for level in range(9):
        assert complete_root(b"".join(LEAVES[: 1 << level])) == mth(LEAVES[: 1 << level])


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 600])
def test_a_tile_tree_gives_every_hash_tile_once_with_the_hashes_of_its_level(size: int) -> None:
    tree = TileTree()
    due = []
    for start in range(0, size, TILE_WIDTH):
        leaves = b"".join(LEAVES[start : min(start + TILE_WIDTH, size)])
        for width in range(1, len(leaves) // 32 + 1, 51):
            assert tree.root_with(leaves, width) == mth(LEAVES[: start + width])
        due += tree.add(leaves)
    due += tree.partial()
    assert tree.size == size
    assert tree.root() == mth(LEAVES[:size])
    wanted = {
        tile: b"".join(SUBTREE(tile.level * TILE_HEIGHT, tile.n * TILE_WIDTH + i) for i in range(tile.width))
        for tile in tiles_of(size)
        if tile.level != ENTRIES
    }
    assert len(due) == len(wanted)
    assert dict(due) == wanted


def test_a_tile_tree_of_65_536_leaves_has_three_levels() -> None:
    tree, leaves = TileTree(), bytes(32 * TILE_WIDTH)
    due = [tile for _ in range(TILE_WIDTH) for tile in tree.add(leaves)] + tree.partial()
    assert [tile for tile, _ in due if tile.level] == [Tile(1, 0), Tile(2, 0, 1)]
    assert tree.root() == merkle.root_of([bytes(32)] * 65_536)


def test_only_the_last_bundle_of_a_tile_tree_is_partial() -> None:
    tree = TileTree()
    tree.add(bytes(32))
    for leaves in (bytes(32), b""):
        with pytest.raises(ValueError, match="partial"):
            tree.add(leaves)
