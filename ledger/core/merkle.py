"""RFC 6962 trees over SHA-256: roots, an incremental frontier, inclusion and consistency proofs.

A tree is given by its leaf hashes. Proofs are built from any function that gives the hash of a complete, aligned
subtree, so that they can come from tiles, from a list or from a database alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from ledger.core.errors import ProofInvalid

HASH_BYTES = 32
EMPTY_ROOT = sha256().digest()
MAX_PROOF_HASHES = 64

Subtree = Callable[[int, int], bytes]
"""(level, index) -> hash of the complete subtree over leaves [index << level, (index + 1) << level)."""


def leaf_hash(entry: bytes) -> bytes:
    """H(0x00 ‖ entry), RFC 6962 section 2.1."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """H(0x01 ‖ left ‖ right), RFC 6962 section 2.1."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: one hash per set bit of its size, enough for the root and the next leaf."""

    __slots__ = ("_edge", "size")

    def __init__(self, size: int = 0, edge: Iterable[bytes] = ()) -> None:
        self.size = size
        self._edge = list(edge)  # largest subtree first
        if len(self._edge) != size.bit_count():
            raise ValueError("a frontier has one hash per set bit of its size")

    @property
    def edge(self) -> tuple[bytes, ...]:
        return tuple(self._edge)

    def add(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        carry, size = leaf, self.size
        while size & 1:
            carry = node_hash(self._edge.pop(), carry)
            size >>= 1
        self._edge.append(carry)
        self.size += 1

    def root(self) -> bytes:
        """The RFC 6962 tree head over all leaves so far."""
        return join_edge(self._edge)

    def copy(self) -> Frontier:
        return Frontier(self.size, self._edge)


def join_edge(edge: Sequence[bytes]) -> bytes:
    """The tree head over the roots of a tree's complete subtrees, largest first (one per set bit of its size)."""
    if not edge:
        return EMPTY_ROOT
    root = edge[-1]
    for left in reversed(edge[:-1]):
        root = node_hash(left, root)
    return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The tree head over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


def subtrees_of(leaves: Sequence[bytes]) -> Subtree:
    """A `Subtree` over an in-memory list of leaf hashes; every level is computed once."""
    levels: list[list[bytes]] = [list(leaves)]

    def subtree(level: int, index: int) -> bytes:
        while len(levels) <= level:
            below = levels[-1]
            levels.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
        return levels[level][index]

    return subtree


def _range_root(start: int, end: int, subtree: Subtree) -> bytes:
    """Tree head over leaves [start, end), where start is aligned as in RFC 6962's recursion."""
    edge: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        edge.append(subtree(level, start >> level))
        start += 1 << level
    return join_edge(edge)


def _split(size: int) -> int:
    """The largest power of two below size (RFC 6962's k)."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """PATH(index, D[size]), RFC 6962 section 2.1.1, from the leaf upwards."""
    if not 0 <= index < size:
        raise ValueError("the index must be below the size")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(middle, end, subtree))
            end = middle
        else:
            path.append(_range_root(start, middle, subtree))
            start = middle
    path.reverse()
    return path


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that `proof` claims for `leaf` (RFC 9162 section 2.1.3.2); `ProofInvalid` if the length is wrong."""
    if not 0 <= index < size:
        raise ProofInvalid("the index is not below the size")
    node, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("the proof has too many hashes")
        if len(sibling) != HASH_BYTES:
            raise ProofInvalid("a hash has 32 bytes")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise ProofInvalid("the proof has too few hashes")
    return root


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raise `ProofInvalid` unless `leaf` is at `index` of the tree with this size and root."""
    if root_from_inclusion(leaf, index, size, proof) != root:
        raise ProofInvalid("the proof leads to another root")


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """PROOF(old, D[new]), RFC 6962 section 2.1.2; empty for old 0 and for old == new."""
    if not 0 <= old <= new:
        raise ValueError("the old size must not exceed the new one")
    if old in (0, new):
        return []
    proof: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range_root(middle, end, subtree))
            end = middle
        else:
            proof.append(_range_root(start, middle, subtree))
            start, whole = middle, False
    if not whole:
        proof.append(_range_root(start, end, subtree))
    proof.reverse()
    return proof


def check_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Raise `ProofInvalid` unless the old tree is a prefix of the new one (RFC 9162 section 2.1.4.2)."""
    if not 0 <= old <= new:
        raise ProofInvalid("the old size exceeds the new one")
    if any(len(sibling) != HASH_BYTES for sibling in proof):
        raise ProofInvalid("a hash has 32 bytes")
    if old in (0, new):
        if proof or (old == new and old_root != new_root) or (old == 0 and old_root != EMPTY_ROOT):
            raise ProofInvalid("trees of equal size, or an empty one, need an empty proof and their own roots")
        return
    hashes = list(proof)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        raise ProofInvalid("the proof has too few hashes")
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofInvalid("the proof has too many hashes")
        if node & 1 or node == last:
            first = node_hash(sibling, first)
            second = node_hash(sibling, second)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            second = node_hash(second, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise ProofInvalid("the proof has too few hashes")
    if first != old_root or second != new_root:
        raise ProofInvalid("the proof leads to other roots")
