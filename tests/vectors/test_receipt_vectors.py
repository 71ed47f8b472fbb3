"""proto/vectors/receipt.json, as two verifiers judge it: the ledger's, and the one made from the specification."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.core.note import TYPE_COSIGNATURE, TYPE_ED25519, parse_vkey
from ledger.core.receipt import CheckName, verify_receipt
from tests.receipt_cases import GOOD, LOG, NO_RECEIPT, W1
from tests.receipts import b64, encode
from tests.vectors.receipt_vectors import PATH, text
from tests.vectors.spec_receipts import NEEDS, Judgement, Receipts

VECTORS: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = VECTORS["cases"]
INGEST = b64decode(VECTORS["ingest_public"])


def file_of(case: dict[str, Any]) -> bytes:
    return b64decode(case["file_base64"]) if "file_base64" in case else case["file"].encode()


def test_the_file_is_what_its_maker_makes() -> None:
    assert PATH.read_text(encoding="utf-8") == text()


def test_both_know_the_same_checks_in_the_same_order() -> None:
    assert [str(name) for name in CheckName] == list(NEEDS)


@pytest.mark.parametrize("case", CASES, ids=[case["what"] for case in CASES])
def test_both_judge_a_receipt_as_the_vectors_say(case: dict[str, Any]) -> None:
    witnesses = [VECTORS["witness_vkeys"][name] for name in case.get("witnesses", ())]
    log_id, ingest = (bytes.fromhex(VECTORS["log_id"]), INGEST) if case.get("signature") else (None, None)
    expected = (case["verdict"], case["failed"])
    report = verify_receipt(
        file_of(case),
        parse_vkey(VECTORS["log_vkey"], TYPE_ED25519),
        [parse_vkey(witness, TYPE_COSIGNATURE) for witness in witnesses],
        log_id=log_id,
        ingest=ingest,
    )
    assert (str(report.verdict), [str(check.name) for check in report.failures]) == expected
    second = Receipts([VECTORS["log_vkey"]], witnesses, log_id, ingest).judge(file_of(case))
    assert (second.verdict, second.failed) == expected
    assert second.results == {str(name): str(result) for name, result, _ in report.checks}


def both(file: bytes) -> None:
    report = verify_receipt(file, LOG.log_vkey, [W1])
    second = SECOND.judge(file)
    assert second == Judgement(str(report.verdict), {str(name): str(result) for name, result, _ in report.checks}), (
        report.checks
    )


SECOND = Receipts([str(LOG.log_vkey)], [str(W1)])
FILE = encode(GOOD)


@pytest.mark.parametrize("name", list(NO_RECEIPT))
def test_both_refuse_what_is_no_receipt(name: str) -> None:
    both(NO_RECEIPT[name])


@settings(deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_both_judge_a_changed_byte_of_the_file_alike(at: int, flip: int) -> None:
    both(FILE[:at] + bytes([FILE[at] ^ flip]) + FILE[at + 1 :])


@settings(deadline=None)
@given(st.sampled_from(["entry", "salt", "payload", "leafHash"]), st.data())
def test_both_judge_changed_bytes_of_a_member_alike(name: str, data: st.DataObject) -> None:
    member = bytearray(b64decode(GOOD[name]))
    for at in data.draw(st.lists(st.integers(0, len(member) - 1), min_size=1, max_size=3)):
        member[at] ^= data.draw(st.integers(0, 255))
    both(encode(GOOD | {name: b64(bytes(member))}))


@settings(deadline=None)
@given(st.integers(0, len(GOOD["proof"]) - 1), st.text(max_size=3))
def test_both_judge_a_changed_proof_alike(at: int, other: str) -> None:
    both(encode(GOOD | {"proof": GOOD["proof"][:at] + other + GOOD["proof"][at + 1 :]}))
