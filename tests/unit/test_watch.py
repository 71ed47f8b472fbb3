"""What a monitor concludes from notes and tiles: growth is told from forks, and forks from tiles that are wrong."""

from __future__ import annotations

from functools import cache

import pytest

from ledger.core import merkle, note
from ledger.core.merkle import HASH_BYTES, leaf_hash
from ledger.core.proofs import tile_at
from ledger.core.quorum import parse_policy
from ledger.core.tile import Tile
from ledger.core.watch import (
    Finding,
    Growth,
    Head,
    Kind,
    check_parents,
    compare_leaves,
    cosignatures,
    fork,
    fresh,
    judge_growth,
    parents,
    read_note,
    signers,
    tiles_of_growth,
)
from tests.logbuilder import ORIGIN, LogBuilder, key, witness

MAX_SIZE = 70_000
SIZES = (0, 1, 2, 3, 7, 8, 255, 256, 257, 300, 511, 512, 600, 65_535, 65_536, 65_537, 70_000)


class Tree:
    """A tree of numbered leaves; from `differs` on they are other ones."""

    def __init__(self, differs: int = MAX_SIZE) -> None:
        self.leaves = [leaf_hash(b"%d" % i + b"other" * (i >= differs)) for i in range(MAX_SIZE)]
        self.subtree = merkle.subtrees_of(self.leaves)
        self._heads: dict[int, Head] = {}

    def head(self, size: int) -> Head:
        if size not in self._heads:
            self._heads[size] = Head(size, merkle.root_of(self.leaves[:size]))
        return self._heads[size]

    def tiles(self, wanted: list[Tile]) -> dict[tuple[int, int], bytes]:
        return {
            (t.level, t.n): b"".join(self.subtree(t.level * 8, t.n * 256 + i) for i in range(t.width)) for t in wanted
        }


@cache
def tree(differs: int = MAX_SIZE) -> Tree:
    return Tree(differs)


@pytest.mark.parametrize("new", SIZES)
def test_a_log_that_only_grew_is_sound_between_any_two_sizes(new: int) -> None:
    log = tree()
    for old in (size for size in SIZES if size <= new):
        tiles = log.tiles(tiles_of_growth(old, new))
        assert judge_growth(log.head(old), log.head(new), tiles) is Growth.SOUND, (old, new)


@pytest.mark.parametrize("new", [size for size in SIZES if size > 1])
def test_a_log_that_was_changed_anywhere_below_the_old_size_is_a_fork(new: int) -> None:
    log = tree()
    for differs in (1, 299):
        other = tree(differs)
        for old in (size for size in SIZES if differs < size <= new):
            tiles = other.tiles(tiles_of_growth(old, new))
            assert judge_growth(log.head(old), other.head(new), tiles) is Growth.FORK, (differs, old, new)


def test_tiles_that_are_not_those_of_the_new_root_convict_nobody() -> None:
    log, other = tree(), tree(1)
    for old in (2, 256, 300, 65_537):
        wanted = tiles_of_growth(old, 70_000)
        assert judge_growth(log.head(old), log.head(70_000), other.tiles(wanted)) is Growth.TILES
        assert judge_growth(log.head(old), log.head(70_000), {}) is Growth.TILES


def test_a_first_look_takes_no_tiles_that_are_not_those_of_the_root() -> None:
    log, other, nothing = tree(), tree(1), Head(0, merkle.EMPTY_ROOT)
    assert judge_growth(nothing, log.head(300), log.tiles(tiles_of_growth(0, 300))) is Growth.SOUND
    assert judge_growth(nothing, log.head(300), other.tiles(tiles_of_growth(0, 300))) is Growth.TILES
    assert judge_growth(Head(0, bytes(32)), log.head(300), log.tiles(tiles_of_growth(0, 300))) is Growth.FORK


def test_no_byte_of_the_tiles_can_be_altered_so_that_a_fork_is_claimed_of_an_honest_log() -> None:
    log, old, new = tree(), 300, 600
    tiles = log.tiles(tiles_of_growth(old, new))
    outcomes = set()
    for place, hashes in tiles.items():
        for at in range(0, len(hashes), HASH_BYTES):
            altered = hashes[:at] + bytes([hashes[at] ^ 1]) + hashes[at + 1 :]
            outcomes.add(judge_growth(log.head(old), log.head(new), tiles | {place: altered}))
        for length in (0, len(hashes) - 1):
            outcomes.add(judge_growth(log.head(old), log.head(new), tiles | {place: hashes[:length]}))
    assert Growth.FORK not in outcomes
    assert Growth.TILES in outcomes


def test_two_roots_at_one_size_are_a_fork() -> None:
    log, other = tree(), tree(1)
    for size in (2, 256, 600):
        tiles = other.tiles(tiles_of_growth(size, size))
        assert judge_growth(log.head(size), other.head(size), tiles) is Growth.FORK


def test_only_the_tiles_at_the_edges_are_asked_for() -> None:
    assert len(tiles_of_growth(65_537, 70_000)) <= 6


def test_a_fork_names_both_checkpoints_the_smaller_one_first() -> None:
    small, large = note.Checkpoint(ORIGIN, 3, bytes(32)), note.Checkpoint(ORIGIN, 9, bytes(32))
    assert fork(large, small).notes == (small, large)
    assert fork(small, small._replace(root=b"\1" * 32)).kind is Kind.FORK


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff", b"a\n1\n"])
def test_what_is_no_note_is_malformed(data: bytes) -> None:
    finding = read_note(data, ORIGIN)
    assert isinstance(finding, Finding)
    assert (finding.kind, finding.rule) == (Kind.MALFORMED, 1)


def test_signers_are_the_known_keys_that_signed() -> None:
    log = LogBuilder()
    made = log.checkpoint(signers=[log.log, key("stranger")])
    known = (log.log_vkey, log.vkey(key("log 2")))
    assert signers(made, known) == {log.log_vkey}
    assert signers(log.checkpoint(signers=[key("stranger")]), known) == set()
    false = made._replace(signatures=(made.signatures[0]._replace(value=bytes(64)),))
    finding = signers(false, known)
    assert isinstance(finding, Finding)
    assert finding.kind is Kind.BAD_SIGNATURE


W1, W2 = "witness.example/w1", "witness.example/w2"
POLICY = parse_policy(f"witness a {witness(W1)}\nwitness b {witness(W2)}\ngroup g any a b\nquorum g\n")


def test_cosignatures_are_those_of_the_trusted_witnesses() -> None:
    log = LogBuilder()
    made = log.checkpoint(cosigned=[(W1, 100), (W1, 90), ("witness.example/other", 5)])
    assert cosignatures(made, POLICY) == {witness(W1): 100}
    false = made.signatures[1]._replace(value=bytes(72))
    finding = cosignatures(made._replace(signatures=(false,)), POLICY)
    assert isinstance(finding, Finding)
    assert finding.kind is Kind.COSIGNATURE


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({}, False),
        ({W1: 900}, True),
        ({W1: 899}, False),
        ({W1: 899, W2: 1000}, True),
        ({W1: 1010}, True),
        ({W1: 1011}, False),
    ],
)
def test_a_sign_of_life_is_neither_old_nor_of_the_future(seen: dict[str, int], expected: bool) -> None:
    times = {str(witness(name)): seconds for name, seconds in seen.items()}
    assert fresh(POLICY, times, now=1000, max_age=100, max_ahead=10) is expected


def test_a_bottom_tile_names_the_first_entry_that_it_does_not_hold() -> None:
    leaves = tree().leaves[256:300]
    tile = Tile(0, 1, 44)
    assert compare_leaves(tile, b"".join(leaves), leaves) is None
    found = compare_leaves(tile, b"".join([*leaves[:9], bytes(32), *leaves[10:]]), leaves)
    assert found is not None
    assert (found.kind, found.rule, found.seq) == (Kind.TILES, 2, 265)
    for hashes in (None, b"", b"".join(leaves[:-1])):
        assert compare_leaves(tile, hashes, leaves) is not None


def test_a_tile_above_holds_the_roots_of_the_full_tiles_below() -> None:
    log = tree()
    roots = {i: log.subtree(8, i) for i in parents(300, 70_000, 1)}
    assert list(roots) == list(range(1, 273))
    above = log.tiles([tile_at(1, 0, 70_000), tile_at(1, 1, 70_000)])
    assert check_parents(1, roots, above, 70_000) is None
    finding = check_parents(1, roots, above | {(1, 1): above[1, 1][:-1]}, 70_000)
    assert finding is not None
    assert finding.detail == "tile/1/001.p/17 does not hold the root of tile/0/272"
