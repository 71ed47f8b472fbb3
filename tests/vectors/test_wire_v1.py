"""The known answers of proto/vectors hold byte for byte, in both directions."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.core import ed25519, encoding, entry, keys, merkle, note, tile

VECTORS = Path(__file__).parents[2] / "proto" / "vectors"
WIRE: dict[str, Any] = json.loads((VECTORS / "wire-v1.json").read_text())
MERKLE: dict[str, Any] = json.loads((VECTORS / "merkle.json").read_text())
ORIGIN: str = WIRE["origin"]
LOG_ID = bytes.fromhex(WIRE["log_id"])
KEYS = {role: ed25519.SigningKey(bytes(range(start, start + 32))) for role, start in WIRE["seeds"].items()}
BY_HASH = {entry.key_hash(key.public): key for key in KEYS.values()}
LEAVES = [bytes.fromhex(e["leaf_hash"]) for e in WIRE["entries"]]
SUBTREE = merkle.subtrees_of(LEAVES)


@pytest.mark.parametrize("known", WIRE["entries"], ids=lambda e: e["what"])
def test_entry_bytes(known: dict[str, Any]) -> None:
    parsed = entry.decode(bytes.fromhex(known["entry"]))
    log = LOG_ID if parsed.seq else entry.origin_hash(ORIGIN)
    core = entry.core_bytes(log, known["kind"], bytes.fromhex(known["commit"]), bytes.fromhex(known["public"]))
    assert core.hex() == known["core"]
    assert BY_HASH[parsed.signer].sign(core) == parsed.signature
    ed25519.verify(BY_HASH[parsed.signer].public, core, parsed.signature)
    rebuilt = entry.Entry(
        known["seq"],
        known["recorded_at_ms"],
        bytes.fromhex(known["prev"]),
        known["kind"],
        bytes.fromhex(known["commit"]),
        bytes.fromhex(known["signer"]),
        parsed.signature,
        bytes.fromhex(known["public"]),
    )
    assert rebuilt == parsed
    assert entry.encode(rebuilt).hex() == known["entry"]
    assert merkle.leaf_hash(bytes.fromhex(known["entry"])).hex() == known["leaf_hash"]
    if "payload" in known:
        payload = known["payload"].encode()
        assert entry.commitment(bytes.fromhex(known["salt"]), payload).hex() == known["commit"]
        assert encoding.encode_json(encoding.decode_json(payload)) == payload


def test_key_set_follows_the_log() -> None:
    genesis = keys.decode_genesis(bytes.fromhex(WIRE["entries"][0]["public"]), ORIGIN)
    assert keys.encode_genesis(*genesis).hex() == WIRE["entries"][0]["public"]
    key_set = keys.KeySet(ORIGIN, LOG_ID, genesis)
    for known in WIRE["entries"]:
        parsed = entry.decode(bytes.fromhex(known["entry"]))
        assert key_set.signer(parsed) == BY_HASH[parsed.signer].public
        if parsed.kind == entry.Kind.KEY:
            key_set.apply(parsed.public)
    assert [str(k) for k in key_set.log_keys] == [WIRE["log_2_vkey"]]
    assert list(key_set.ingest.values()) == [KEYS["ingest_2"].public]
    publics = {e["seq"]: bytes.fromhex(e["public"]) for e in WIRE["entries"]}
    log, log_2 = (note.parse_vkey(WIRE[k], note.TYPE_ED25519) for k in ("log_vkey", "log_2_vkey"))
    assert keys.introduce_ingest(LOG_ID, KEYS["ingest_2"]) == publics[3]
    assert keys.retire_ingest(KEYS["ingest"].public) == publics[5]
    assert keys.introduce_log(log_2) == publics[6]
    assert entry.encode_seqs([2, 4]) == publics[8]
    assert entry.decode_seqs(publics[8]) == (2, 4)
    assert keys.retire_log(log) == publics[9]
    assert publics[1] == sha256(WIRE["policy_document"].encode()).digest() + b"1.0"


@pytest.mark.parametrize("size", [5, 9, 10])
def test_checkpoints(size: int) -> None:
    text = WIRE[f"checkpoint_{size}"].encode()
    checkpoint = note.parse_checkpoint(text)
    assert checkpoint.encode() == text
    assert checkpoint.root == merkle.root_of(LEAVES[:size])
    unsigned = note.Checkpoint(ORIGIN, size, checkpoint.root)
    signers = ["log"] if size == 5 else ["log", "log_2"]
    for role in signers:
        vkey = note.parse_vkey(WIRE[f"{role}_vkey"], note.TYPE_ED25519)
        assert vkey.public == KEYS[role].public
        assert checkpoint.signed_by(vkey)
        unsigned = note.sign_checkpoint(unsigned, vkey, KEYS[role])
    assert unsigned.encode() == text


def test_cosignature() -> None:
    witness = note.parse_vkey(WIRE["witness_vkey"], note.TYPE_COSIGNATURE)
    assert str(witness) == WIRE["witness_vkey"]
    checkpoint = note.parse_checkpoint(WIRE["checkpoint_10_cosigned"].encode())
    seconds = checkpoint.cosigned_at(witness)
    assert seconds is not None
    signature = KEYS["witness"].sign(note.cosignature_message(checkpoint.body, seconds))
    assert checkpoint.signatures[-1].value == seconds.to_bytes(8, "big") + signature
    assert note.parse_checkpoint(WIRE["checkpoint_10"].encode()).cosigned_at(witness) is None


@pytest.mark.parametrize("known", WIRE["inclusion"], ids=lambda k: f"{k['index']} of {k['size']}")
def test_inclusion(known: dict[str, Any]) -> None:
    proof = [bytes.fromhex(h) for h in known["proof"]]
    assert merkle.inclusion_proof(known["index"], known["size"], SUBTREE) == proof
    root = merkle.root_of(LEAVES[: known["size"]])
    merkle.check_inclusion(LEAVES[known["index"]], known["index"], known["size"], proof, root)


@pytest.mark.parametrize("known", WIRE["consistency"], ids=lambda k: f"{k['old']} to {k['new']}")
def test_consistency(known: dict[str, Any]) -> None:
    proof = [bytes.fromhex(h) for h in known["proof"]]
    old, new = known["old"], known["new"]
    assert merkle.consistency_proof(old, new, SUBTREE) == proof
    merkle.check_consistency(old, new, proof, merkle.root_of(LEAVES[:old]), merkle.root_of(LEAVES[:new]))


@pytest.mark.parametrize(("size", "root"), MERKLE["roots"].items())
def test_roots(size: str, root: str) -> None:
    leaves = (merkle.leaf_hash(f"entry-{i}".encode()) for i in range(int(size)))
    assert merkle.root_of(leaves).hex() == root


@pytest.mark.parametrize(("index", "path"), MERKLE["tile_paths"].items())
def test_tile_paths(index: str, path: str) -> None:
    assert tile.Tile(0, int(index)).path == f"tile/0/{path}"
    assert tile.parse_path(f"tile/0/{path}") == tile.Tile(0, int(index))
