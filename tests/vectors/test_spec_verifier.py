"""A verifier written from SPEC.md alone agrees with the known answers and finds what was changed in a bundle."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.core import ed25519, merkle, tile
from tests.vectors import spec_tree
from tests.vectors import spec_verifier as spec
from tests.vectors.spec_notes import acceptable, h, parse_checkpoint, parse_vkey, verifies
from tests.vectors.spec_receipts import check_receipt

VECTORS = Path(__file__).parents[2] / "proto" / "vectors"
WIRE: dict[str, Any] = json.loads((VECTORS / "wire-v1.json").read_text())
MERKLE: dict[str, Any] = json.loads((VECTORS / "merkle.json").read_text())
LOG_ID = bytes.fromhex(WIRE["log_id"])
ENTRIES = [bytes.fromhex(known["entry"]) for known in WIRE["entries"]]
LEAVES = [h(b"\x00", entry) for entry in ENTRIES]
RECORDED_AT = "2026-11-21T03:00:07.000Z"  # 1795230007000 ms


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def opening(known: dict[str, Any]) -> str:
    salt, payload = b64(bytes.fromhex(known["salt"])), b64(known["payload"].encode())
    return f'{{"seq":{known["seq"]},"salt":"{salt}","payload":"{payload}"}}\n'


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The log of the vectors as a bundle: entries 2 and 4 are erased by entry 8."""
    files = {
        "checkpoint": WIRE["checkpoint_10_cosigned"].encode(),
        "tile/0/000.p/10": b"".join(LEAVES),
        "tile/entries/000.p/10": tile.encode_bundle(ENTRIES),
        "payloads.ndjson": "".join(opening(WIRE["entries"][seq]) for seq in (7, 8)).encode(),
        "checkpoints/5": WIRE["checkpoint_5"].encode(),
        "documents/" + sha256(WIRE["policy_document"].encode()).hexdigest(): WIRE["policy_document"].encode(),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_the_log_of_the_vectors_is_sound(bundle: Path) -> None:
    report = spec.audit(bundle, WIRE["log_2_vkey"], LOG_ID, witnesses=(WIRE["witness_vkey"],))
    assert (report.exit, report.size, report.pinned) == (0, 10, True)


def test_a_retired_log_key_vouches_as_long_as_an_active_one_does(bundle: Path) -> None:
    report = spec.audit(bundle, WIRE["log_vkey"], old=WIRE["checkpoint_5"].encode())
    assert report.pinned
    assert not spec.audit(bundle, WIRE["log_vkey"]).pinned


def test_without_payloads_the_verdict_is_log_only(bundle: Path) -> None:
    (bundle / "payloads.ndjson").unlink()
    assert spec.audit(bundle, WIRE["log_2_vkey"]).exit == 3


@pytest.mark.parametrize("known", WIRE["entries"], ids=lambda e: e["what"])
def test_entries(known: dict[str, Any]) -> None:
    entry = spec.parse_entry(bytes.fromhex(known["entry"]))
    assert (entry.seq, entry.ms, entry.kind) == (known["seq"], known["recorded_at_ms"], known["kind"])
    assert entry.core(LOG_ID if entry.seq else h(WIRE["origin"].encode())).hex() == known["core"]
    if "payload" in known:
        spec.parse_payload(known["payload"].encode(), entry.kind, entry.seq)


def test_roots_paths_and_proofs() -> None:
    for size, root in MERKLE["roots"].items():
        assert spec_tree.root_of([h(b"\x00", f"entry-{i}".encode()) for i in range(int(size))]).hex() == root
    for index, path in MERKLE["tile_paths"].items():
        assert spec_tree.tile_path(0, int(index), 256) == f"tile/0/{path}"
    root = spec_tree.root_of(LEAVES)
    for known in WIRE["inclusion"]:
        proof = [bytes.fromhex(p) for p in known["proof"]]
        assert spec_tree.included(LEAVES[known["index"]], known["index"], 10, proof, root)
        assert not spec_tree.included(LEAVES[known["index"]], known["index"], 10, proof[:-1], root)
    for known in WIRE["consistency"]:
        proof = [bytes.fromhex(p) for p in known["proof"]]
        assert spec_tree.consistent(known["old"], 10, proof, spec_tree.root_of(LEAVES[: known["old"]]), root)
        assert not spec_tree.consistent(
            known["old"], 10, [*proof, root], spec_tree.root_of(LEAVES[: known["old"]]), root
        )


def test_every_larger_tree_proves_the_smaller_ones() -> None:
    leaves = [h(bytes([i])) for i in range(20)]
    subtree = merkle.subtrees_of(leaves)
    for new in range(1, 20):
        root = spec_tree.root_of(leaves[:new])
        for old in range(new + 1):
            proof = merkle.consistency_proof(old, new, subtree)
            assert spec_tree.consistent(old, new, proof, spec_tree.root_of(leaves[:old]), root)


def test_signatures() -> None:
    keys = {role: ed25519.SigningKey(bytes(range(n, n + 32))) for role, n in WIRE["seeds"].items()}
    signature = keys["root"].sign(b"message")
    public = keys["root"].public
    assert verifies(public, b"message", signature)
    assert not verifies(public, b"massage", signature)
    raised = (int.from_bytes(signature[32:], "little") + 2**252 + 27742317777372353535851937790883648493).to_bytes(
        32, "little"
    )
    assert not verifies(public, b"message", signature[:32] + raised)
    for role, key in keys.items():
        assert acceptable(key.public), role


@pytest.mark.parametrize(
    "encoding",
    [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "0200000000000000000000000000000000000000000000000000000000000000",
    ],
)
def test_keys_that_are_not_acceptable_are_refused_by_both(encoding: str) -> None:
    """The neutral point, points of order 2 and 8, y not below p, x = 0 with its sign bit, no point at all."""
    assert not acceptable(bytes.fromhex(encoding))
    with pytest.raises(ed25519.KeyRefused):
        ed25519.check_public(bytes.fromhex(encoding))


def test_cosignatures() -> None:
    checkpoint = parse_checkpoint(WIRE["checkpoint_10_cosigned"].encode())
    assert len(checkpoint.cosigned_at(parse_vkey(WIRE["witness_vkey"], 4))) == 1


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(bundle: Path) -> None:
        (bundle / name).write_bytes(change((bundle / name).read_bytes()))

    return apply


def remove(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).unlink()


DOCUMENT = "documents/" + sha256(WIRE["policy_document"].encode()).hexdigest()
CHANGES: list[tuple[int, Callable[[Path], None]]] = [
    (1, rewrite("checkpoint", lambda data: data.replace(b"\n10\n", b"\n010\n"))),
    (1, rewrite("checkpoint", lambda data: data + b"x")),
    (2, rewrite("tile/0/000.p/10", lambda data: data[:-1] + bytes([data[-1] ^ 1]))),
    (1, rewrite("tile/entries/000.p/10", lambda data: data + b"\x00")),
    (2, rewrite("tile/entries/000.p/10", lambda data: data[:400] + bytes([data[400] ^ 1]) + data[401:])),
    (2, remove("tile/entries/000.p/10")),
    (4, rewrite("checkpoint", lambda data: data.replace(b"3LV93HKJ", b"3LV93HKK"))),
    (4, rewrite("checkpoints/5", lambda _: WIRE["checkpoint_5"].replace("\n5\n", "\n4\n").encode())),
    (6, rewrite("checkpoint", lambda data: data[:-9] + (b"B" if data[-9:-8] == b"A" else b"A") + data[-8:])),
    (9, remove(DOCUMENT)),
    (9, rewrite(DOCUMENT, lambda data: data + b" ")),
    (10, rewrite("payloads.ndjson", lambda data: data.replace(b'"seq":7', b'"seq":2'))),
    (10, rewrite("payloads.ndjson", lambda data: data + data.splitlines(keepends=True)[-1])),
    (1, rewrite("payloads.ndjson", lambda data: data.replace(b'{"seq"', b'{"seq":7,"seq"', 1))),
    (1, rewrite("payloads.ndjson", lambda data: data + b"\n")),
    (12, rewrite("payloads.ndjson", lambda data: data.splitlines(keepends=True)[1])),
    (12, rewrite("payloads.ndjson", lambda data: data.splitlines(keepends=True)[0])),
    (12, rewrite("payloads.ndjson", lambda data: opening(WIRE["entries"][2]).encode() + data)),
]


@pytest.mark.parametrize(("rule", "change"), CHANGES, ids=[f"{n}-rule-{rule}" for n, (rule, _) in enumerate(CHANGES)])
def test_a_changed_bundle_breaks_its_rule(bundle: Path, rule: int, change: Callable[[Path], None]) -> None:
    change(bundle)
    with pytest.raises(spec.Fault) as caught:
        spec.audit(bundle, WIRE["log_2_vkey"], LOG_ID, witnesses=(WIRE["witness_vkey"],))
    assert caught.value.rule == rule


def test_another_log_id_breaks_rule_4(bundle: Path) -> None:
    with pytest.raises(spec.Fault) as caught:
        spec.audit(bundle, WIRE["log_2_vkey"], bytes(32))
    assert caught.value.rule == 4


def test_a_receipt_with_its_proof_is_verified() -> None:
    known, inclusion = WIRE["entries"][7], WIRE["inclusion"][7]
    proof = "".join(b64(bytes.fromhex(p)) + "\n" for p in inclusion["proof"])
    receipt = {
        "id": json.loads(known["payload"])["id"],
        "site": "weco.nexaxt.com",
        "seq": 7,
        "recordedAt": RECORDED_AT,
        "leafHash": b64(LEAVES[7]),
        "entry": b64(ENTRIES[7]),
        "salt": b64(bytes.fromhex(known["salt"])),
        "payload": b64(known["payload"].encode()),
        "position": "weco.nexaxt.com:7",
        "proof": f"c2sp.org/tlog-proof@v1\nindex 7\n{proof}\n{WIRE['checkpoint_10']}",
    }
    ingest = ed25519.SigningKey(bytes(range(WIRE["seeds"]["ingest_2"], WIRE["seeds"]["ingest_2"] + 32))).public
    check_receipt(receipt, WIRE["log_vkey"], LOG_ID, ingest)
    for member, wrong in {
        "seq": 6,
        "id": "0",
        "recordedAt": "2026-11-21T03:00:07Z",
        "position": "weco.nexaxt.com:6",
        "leafHash": b64(LEAVES[6]),
    }.items():
        with pytest.raises(spec.Fault):
            check_receipt(receipt | {member: wrong}, WIRE["log_vkey"], LOG_ID, ingest)
