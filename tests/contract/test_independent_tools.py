"""Tools that nobody here wrote read the log over HTTP and find it right, and refuse what was altered as we do.

metamorphic-log (Rust) checks notes and proofs; tlog-scales fetches tiles and makes its own proofs from them.
"""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import metamorphic_log as metamorphic
import pytest
from cryptography.exceptions import InvalidSignature
from tlog_scales.backend import HttpBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import (
    Checkpoint,
    ConsistencyProof,
    ConsistencyProofInvalid,
    InclusionProof,
    InclusionProofInvalid,
)

from ledger.core import merkle, note
from ledger.core.errors import LedgerError, ProofInvalid
from ledger.core.merkle import leaf_hash
from ledger.core.tlog_proof import TlogProof, parse_proof
from ledger.embedded.postgres import Postgres
from tests.contract.auditing import LOG, serving_log
from tests.contract.conftest import SITE, grant
from tests.logbuilder import key, witness

SIZE = 602
SIZES = [2, 3, 255, 256, 257, 511, 512, 513, 601, SIZE]
"""Of every one there is a checkpoint, cosigned by a witness."""
INDICES = [0, 1, 2, 254, 255, 256, 257, 511, 512, 513, 600, 601]


class Served(NamedTuple):
    """What an auditor knows: where the log is read, by what key, and who signs; and every checkpoint so far."""

    url: str
    secret: str
    vkey: note.VerifierKey
    checkpoints: dict[int, str]
    receipt_id: str

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.secret}"})
        with urllib.request.urlopen(request, timeout=60) as response:
            body: bytes = response.read()
            return body

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def proof(self, index: int) -> TlogProof:
        return parse_proof(self.get(f"{LOG}/proof?index={index}"))

    def consistency(self, old: int, new: int) -> list[bytes]:
        return [b64decode(sibling) for sibling in self.json(f"{LOG}/consistency?old={old}&new={new}")["proof"]]

    def reader(self, size: int = SIZE) -> TilesReader:
        """tlog-scales over HTTP, at a size."""
        backend = HttpBackend(self.url + LOG)
        backend.session.headers["Authorization"] = f"Bearer {self.secret}"
        tiles = TilesReader(backend)
        tiles.set_size(size)
        return tiles

    def root(self, size: int) -> bytes:
        """As the log signed it."""
        return note.parse_checkpoint(self.checkpoints[size].encode()).root


def cosign(checkpoint: note.Checkpoint) -> note.Checkpoint:
    """With the cosignature of a witness, as c2sp.org/tlog-cosignature has it."""
    vkey, seconds = witness(), 1_795_230_100
    value = seconds.to_bytes(8, "big") + key(vkey.name).sign(note.cosignature_message(checkpoint.body, seconds))
    cosignature = note.Signature(vkey.name, vkey.key_id, value)
    return checkpoint._replace(signatures=(*checkpoint.signatures, cosignature))


@pytest.fixture(scope="module")
def log(postgres: Postgres, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server runs on a thread of its own, for the tools that read it know no event loop."""
    ready: Future[Served] = Future()
    stopping: Future[Callable[[], Any]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stopping.set_result(lambda: loop.call_soon_threadsafe(stop.set))
        async with serving_log(postgres, template_database, tmp_path_factory.mktemp("keys")) as log:
            event = grant()
            await log.post(event)
            await log.fill(SIZE - 3)
            signed = {size: (await log.sign(size, cosign=cosign)).checkpoint for size in SIZES}
            vkey = note.VerifierKey(signed[SIZE].origin, note.TYPE_ED25519, log.log_key.public)
            texts = {size: checkpoint.encode().decode() for size, checkpoint in signed.items()}
            ready.set_result(Served(log.api.url, log.api.secret, vkey, texts, event["id"]))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="server for independent tools")
    thread.start()
    try:
        yield ready.result(120)
    finally:
        stopping.result(10)()
        thread.join(60)


def test_both_accept_the_checkpoint_that_is_served(log: Served) -> None:
    served = log.get(f"{LOG}/checkpoint").decode()
    assert served == log.checkpoints[SIZE]
    head = metamorphic.checkpoint_verify(served, [str(log.vkey)])
    assert (head.origin, head.size) == (log.vkey.name, SIZE)
    read = log.reader().get_checkpoint()
    read.verify(Vkey.from_string(str(log.vkey)))
    assert (read.origin, read.size, read.root_hash) == (log.vkey.name, SIZE, head.root)


def test_tlog_scales_accepts_the_cosignature_of_the_witness(log: Served) -> None:
    log.reader().get_checkpoint().verify(Vkey.from_string(str(witness())))
    with pytest.raises(RuntimeError, match="no signature"):
        log.reader().get_checkpoint().verify(Vkey.from_string(str(witness("witness.example/w2"))))


@pytest.mark.parametrize("size", SIZES)
def test_tlog_scales_rebuilds_every_signed_root_from_the_tiles_of_its_size(log: Served, size: int) -> None:
    assert log.reader(size).calculate_root_hash() == log.root(size)


def test_tlog_scales_reads_every_entry_and_each_is_in_its_tile(log: Served) -> None:
    tiles = log.reader()
    for seq in range(SIZE):
        assert leaf_hash(tiles.get_entry(seq)) == tiles.mth(seq, seq + 1)


@pytest.mark.parametrize("index", INDICES)
def test_both_accept_the_inclusion_proofs_that_are_served_and_theirs_are_the_same(log: Served, index: int) -> None:
    proof, tiles = log.proof(index), log.reader()
    leaf, hashes = leaf_hash(tiles.get_entry(index)), list(proof.hashes)
    checkpoint = proof.checkpoint.encode().decode()
    metamorphic.checkpoint_verify_inclusion(checkpoint, [str(log.vkey)], index, leaf, hashes)
    InclusionProof(index, SIZE, hashes).check(leaf, proof.checkpoint.root)
    assert tiles.get_inclusion_proof(index, SIZE).node_hashes == hashes


def test_both_accept_the_proof_of_a_receipt(log: Served) -> None:
    receipt = log.json(f"/v1/sites/{SITE}/receipts/{log.receipt_id}")
    proof = parse_proof(receipt["proof"].encode())
    leaf = leaf_hash(b64decode(receipt["entry"]))
    checkpoint = proof.checkpoint.encode().decode()
    metamorphic.checkpoint_verify_inclusion(checkpoint, [str(log.vkey)], receipt["seq"], leaf, list(proof.hashes))
    Checkpoint.from_text(checkpoint).verify(Vkey.from_string(str(witness())))


@pytest.mark.parametrize("old", SIZES)
def test_both_accept_the_consistency_proofs_that_are_served_and_theirs_are_the_same(log: Served, old: int) -> None:
    for new in [size for size in SIZES if size >= old]:
        proof = log.consistency(old, new)
        metamorphic.verify_consistency(old, new, proof, log.root(old), log.root(new))
        ConsistencyProof(old, new, proof).check(log.root(old), log.root(new))
        assert log.reader(new).get_consistency_proof(old, new).node_hashes == proof
        if new == SIZE:
            metamorphic.checkpoint_verify_consistency(
                log.checkpoints[old], log.checkpoints[new], [str(log.vkey)], proof
            )


def mutations(proof: list[bytes]) -> list[list[bytes]]:
    """One hash more, at either end; one less; one altered; two exchanged."""
    more = [[*proof, bytes(32)], [bytes(32), *proof]]
    less = [proof[:-1], proof[1:]] if proof else []
    altered = [[*proof[:i], bytes(32), *proof[i + 1 :]] for i in range(len(proof))]
    exchanged = [[*proof[:i], proof[i + 1], proof[i], *proof[i + 2 :]] for i in range(len(proof) - 1)]
    return more + less + altered + exchanged


@pytest.mark.parametrize("index", INDICES)
def test_all_refuse_an_inclusion_proof_that_was_altered(log: Served, index: int) -> None:
    proof, tiles = log.proof(index), log.reader()
    leaf, hashes, root = leaf_hash(tiles.get_entry(index)), list(proof.hashes), proof.checkpoint.root

    def refused(leaf: bytes, index: int, size: int, hashes: list[bytes], root: bytes) -> None:
        with pytest.raises(ProofInvalid):
            merkle.check_inclusion(leaf, index, size, hashes, root)
        with pytest.raises(InclusionProofInvalid):
            InclusionProof(index, size, hashes).check(leaf, root)
        with pytest.raises(metamorphic.VerifyError):
            metamorphic.verify_inclusion(index, size, leaf, hashes, root)

    for wrong in mutations(hashes):
        refused(leaf, index, SIZE, wrong, root)
    for other in [i for i in (index - 1, index + 1) if i >= 0]:
        refused(leaf, other, SIZE, hashes, root)
    refused(leaf, index, SIZE - 1, hashes, log.root(SIZE - 1))
    refused(leaf, index, SIZE, hashes, log.root(SIZE - 1))
    refused(bytes(32), index, SIZE, hashes, root)


@pytest.mark.parametrize("old", [size for size in SIZES if size < SIZE])
def test_all_refuse_a_consistency_proof_that_was_altered(log: Served, old: int) -> None:
    proof = log.consistency(old, SIZE)

    def refused(old: int, new: int, hashes: list[bytes], old_root: bytes, new_root: bytes) -> None:
        with pytest.raises(ProofInvalid):
            merkle.check_consistency(old, new, hashes, old_root, new_root)
        with pytest.raises(ConsistencyProofInvalid):
            ConsistencyProof(old, new, hashes).check(old_root, new_root)
        with pytest.raises(metamorphic.VerifyError):
            metamorphic.verify_consistency(old, new, hashes, old_root, new_root)

    old_root, new_root = log.root(old), log.root(SIZE)
    for wrong in mutations(proof):
        refused(old, SIZE, wrong, old_root, new_root)
    for other in (old - 1, old + 1):
        refused(other, SIZE, proof, log.reader(other).calculate_root_hash(), new_root)
    if old != SIZE - 1:
        refused(old, SIZE - 1, proof, old_root, log.root(SIZE - 1))
    refused(old, SIZE, proof, new_root, new_root)
    refused(old, SIZE, proof, old_root, old_root)
    refused(old, SIZE, proof, new_root, old_root)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (f"\n{SIZE}\n", f"\n{SIZE - 1}\n"),
        (f"\n{SIZE}\n", f"\n{SIZE + 1}\n"),
        ("index 300\n", "index 299\n"),
        ("index 300\n", "index 301\n"),
        (f"/{SITE}\n", f"/x.{SITE}\n"),
    ],
)
def test_all_refuse_the_text_of_a_proof_that_was_altered(log: Served, was: str, becomes: str) -> None:
    text = log.get(f"{LOG}/proof?index=300").decode()
    assert was in text
    leaf = leaf_hash(log.reader().get_entry(300))
    proof = parse_proof(text.replace(was, becomes, 1).encode())

    def ours() -> None:
        assert proof.checkpoint.signed_by(log.vkey)
        proof.check(leaf)

    with pytest.raises((LedgerError, AssertionError)):
        ours()
    checkpoint = proof.checkpoint.encode().decode()
    with pytest.raises(metamorphic.VerifyError):
        metamorphic.checkpoint_verify_inclusion(checkpoint, [str(log.vkey)], proof.index, leaf, list(proof.hashes))

    def theirs() -> None:
        Checkpoint.from_text(checkpoint).verify(Vkey.from_string(str(log.vkey)))
        InclusionProof(proof.index, proof.checkpoint.size, list(proof.hashes)).check(leaf, proof.checkpoint.root)

    with pytest.raises((InvalidSignature, InclusionProofInvalid, RuntimeError)):
        theirs()


def test_a_root_exchanged_in_a_checkpoint_is_refused_by_all(log: Served) -> None:
    old, new = (note.parse_checkpoint(log.checkpoints[size].encode()) for size in (SIZE - 1, SIZE))
    exchanged = new._replace(root=old.root)
    with pytest.raises(LedgerError):
        exchanged.signed_by(log.vkey)
    with pytest.raises(metamorphic.VerifyError):
        metamorphic.checkpoint_verify(exchanged.encode().decode(), [str(log.vkey)])
    for vkey in (log.vkey, witness()):
        with pytest.raises(InvalidSignature):
            Checkpoint.from_text(exchanged.encode().decode()).verify(Vkey.from_string(str(vkey)))
