"""Tools that nobody here wrote accept what an export holds: checkpoint, tiles, inclusion and consistency proofs.

metamorphic-log (Rust) checks notes and proofs; tlog-scales reads the tiles and makes its own proofs from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import metamorphic_log as metamorphic
import pytest
from cryptography.exceptions import InvalidSignature
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint, ConsistencyProof, InclusionProof

from ledger.bundle import Writer
from ledger.core import merkle
from ledger.core.merkle import leaf_hash
from ledger.core.note import sign_checkpoint
from ledger.core.opening import Opening
from tests.logbuilder import LogBuilder, full_log, key, witness

SIZE = 600


class Bundle(NamedTuple):
    """A log, and the directory into which the exporter's writer put it."""

    log: LogBuilder
    directory: Path

    @property
    def checkpoint(self) -> str:
        return (self.directory / "checkpoint").read_text()

    def older(self, size: int) -> str:
        return self.log.checkpoint(size=size).encode().decode()


def write(log: LogBuilder, directory: Path) -> Path:
    writer = Writer(directory)
    for seq, entry in enumerate(log.entries):
        writer.entry(entry)
        if seq in log.openings:
            writer.opening(Opening(seq, *log.openings[seq]))
    root = writer.root()
    checkpoint = log.checkpoint(root=root, cosigned=[("witness.example/w1", log.now_ms // 1000)])
    writer.finish(checkpoint.encode(), frozenset())
    return directory


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    log = full_log(SIZE - 9)
    assert len(log.entries) == SIZE
    return Bundle(log, write(log, tmp_path_factory.mktemp("export") / "bundle"))


def reader(bundle: Bundle, size: int = SIZE) -> TilesReader:
    """tlog-scales on the directory, at a size."""
    tiles = TilesReader(LocalBackend(bundle.directory))
    tiles.set_size(size)
    return tiles


INDICES = [0, 1, 254, 255, 256, 257, 511, 512, 513, 598, 599]
SIZES = [1, 2, 255, 256, 257, 511, 512, 513, 599]


def test_both_accept_the_checkpoint(bundle: Bundle) -> None:
    vkey = str(bundle.log.log_vkey)
    head = metamorphic.checkpoint_verify(bundle.checkpoint, [vkey])
    assert (head.origin, head.size, head.root) == (bundle.log.origin, SIZE, bundle.log.root_hash(SIZE))
    read = reader(bundle).get_checkpoint()
    read.verify(Vkey.from_string(vkey))
    assert (read.origin, read.size, read.root_hash) == (bundle.log.origin, SIZE, bundle.log.root_hash(SIZE))


def test_both_refuse_a_checkpoint_that_was_touched(bundle: Bundle) -> None:
    vkey = str(bundle.log.log_vkey)
    touched = bundle.checkpoint.replace(f"\n{SIZE}\n", f"\n{SIZE - 1}\n")
    with pytest.raises(metamorphic.VerifyError):
        metamorphic.checkpoint_verify(touched, [vkey])
    with pytest.raises(InvalidSignature):
        Checkpoint.from_text(touched).verify(Vkey.from_string(vkey))


def test_tlog_scales_accepts_a_witnesss_cosignature(bundle: Bundle) -> None:
    reader(bundle).get_checkpoint().verify(Vkey.from_string(str(witness())))


def test_tlog_scales_rebuilds_the_root_from_the_tiles(bundle: Bundle) -> None:
    assert reader(bundle).calculate_root_hash() == bundle.log.root_hash(SIZE)


def test_tlog_scales_reads_every_entry_from_the_entry_bundles(bundle: Bundle) -> None:
    tiles = reader(bundle)
    assert [tiles.get_entry(seq) for seq in range(SIZE)] == bundle.log.entries


def test_tiles_of_every_level_are_read_by_tlog_scales(tmp_path: Path) -> None:
    count = 65_536 + 600
    writer = Writer(tmp_path / "bundle")
    leaves = [writer.entry(seq.to_bytes(4, "big")) for seq in range(count)]
    root = writer.root()
    log = LogBuilder()
    checkpoint = sign_checkpoint(log.checkpoint(root=root)._replace(size=count, signatures=()), log.log_vkey, log.log)
    writer.finish(checkpoint.encode(), frozenset())
    assert root == merkle.root_of(leaves)
    tiles = TilesReader(LocalBackend(tmp_path / "bundle"))
    assert tiles.get_checkpoint().size == count
    assert tiles.calculate_root_hash() == root
    for index in (0, 65_535, 65_536, count - 1):
        assert tiles.get_entry(index) == index.to_bytes(4, "big")
        tiles.get_inclusion_proof(index, count).check(leaves[index], root)
    assert (tmp_path / "bundle/tile/2/000.p/1").stat().st_size == 32
    assert (tmp_path / "bundle/tile/1/000").stat().st_size == 8192
    assert (tmp_path / "bundle/tile/1/001.p/2").stat().st_size == 64


@pytest.mark.parametrize("index", INDICES)
def test_both_accept_our_inclusion_proofs_and_theirs_are_ours(bundle: Bundle, index: int) -> None:
    leaves, vkey = bundle.log.leaves, str(bundle.log.log_vkey)
    proof = merkle.inclusion_proof(index, SIZE, merkle.subtrees_of(leaves))
    metamorphic.checkpoint_verify_inclusion(bundle.checkpoint, [vkey], index, leaves[index], proof)
    InclusionProof(index, SIZE, proof).check(leaf_hash(bundle.log.entries[index]), bundle.log.root_hash(SIZE))
    assert reader(bundle).get_inclusion_proof(index, SIZE).node_hashes == proof


@pytest.mark.parametrize("size", SIZES)
def test_both_accept_our_consistency_proofs_and_theirs_are_ours(bundle: Bundle, size: int) -> None:
    log, vkey = bundle.log, str(bundle.log.log_vkey)
    proof = merkle.consistency_proof(size, SIZE, merkle.subtrees_of(log.leaves))
    metamorphic.checkpoint_verify_consistency(bundle.older(size), bundle.checkpoint, [vkey], proof)
    ConsistencyProof(size, SIZE, proof).check(log.root_hash(size), log.root_hash(SIZE))
    assert reader(bundle).get_consistency_proof(size, SIZE).node_hashes == proof


@pytest.mark.parametrize("index", INDICES)
def test_all_refuse_an_inclusion_proof_that_was_touched(bundle: Bundle, index: int) -> None:
    leaves, root = bundle.log.leaves, bundle.log.root_hash(SIZE)
    proof = merkle.inclusion_proof(index, SIZE, merkle.subtrees_of(leaves))
    for wrong in (proof[:-1], [*proof, bytes(32)], [bytes(32), *proof[1:]]):
        with pytest.raises(merkle.ProofInvalid):
            merkle.check_inclusion(leaves[index], index, SIZE, wrong, root)
        with pytest.raises(metamorphic.VerifyError):
            metamorphic.verify_inclusion(index, SIZE, leaves[index], wrong, root)


def test_the_pinned_key_alone_is_what_they_trust(bundle: Bundle) -> None:
    stranger = str(bundle.log.vkey(key("stranger")))
    with pytest.raises(metamorphic.VerifyError):
        metamorphic.checkpoint_verify(bundle.checkpoint, [stranger])
