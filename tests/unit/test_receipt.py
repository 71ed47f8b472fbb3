"""Receipts verified offline: what is sound is called so, and nothing else, for the reason that is true."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.checks import Result
from ledger.core.quorum import parse_policy
from ledger.core.receipt import CheckName, ReceiptReport, Verdict, verify_receipt
from tests.logbuilder import key
from tests.receipt_cases import (
    COSIGNED_AT,
    GOOD,
    LOG,
    NO_RECEIPT,
    OTHER_LOG,
    SEQ,
    SIGNED,
    TAMPERED,
    W1,
    W2,
    under_another_logs_checkpoint,
)
from tests.receipts import Receipt, b64, encode, proof_of, receipt_of


def verify(receipt: Receipt | bytes, **brought: Any) -> ReceiptReport:
    data = receipt if isinstance(receipt, bytes) else encode(receipt)
    return verify_receipt(data, **{"log_vkeys": LOG.log_vkey} | brought)


def failed(report: ReceiptReport) -> list[str]:
    return [str(check.name) for check in report.failures]


def policy(quorum: str, *vkeys: Any) -> Any:
    witnesses = "".join(f"witness w{n} {vkey}\n" for n, vkey in enumerate(vkeys, start=1))
    names = " ".join(f"w{n}" for n in range(1, len(vkeys) + 1))
    return parse_policy(f"log {LOG.log_vkey}\n{witnesses}group g {quorum} {names}\nquorum g\n")


# --- sound ones ------------------------------------------------------------------------------------------------------


def test_a_sound_receipt_is_verified_by_the_log_key_alone() -> None:
    report = verify(GOOD)
    assert report.verdict == Verdict.VERIFIED
    assert [check.name for check in report.checks] == list(CheckName)
    not_checked = {check.name for check in report.checks if check.result == Result.NOT_CHECKED}
    assert not_checked == {CheckName.SIGNATURE, CheckName.WITNESSES, CheckName.TIME}
    assert report.event is not None
    assert report.event.decisions["analytics"] == "granted"
    assert report.checkpoint is not None
    assert report.checkpoint.size == len(LOG.leaves)


def test_with_everything_brought_along_nothing_is_left_unchecked() -> None:
    report = verify(GOOD, witnesses=[W1], log_id=LOG.log_id, ingest=LOG.ingest.public)
    assert {check.result for check in report.checks} == {Result.OK}
    assert [(one.witness, one.seconds) for one in report.cosigned] == [(W1, COSIGNED_AT)]


def test_every_event_of_a_log_has_a_receipt_at_every_size() -> None:
    for size in range(3, len(LOG.leaves) + 1):
        for seq in range(2, size):
            assert verify(receipt_of(LOG, seq, LOG.checkpoint(size))).verdict == Verdict.VERIFIED


def test_a_receipt_without_a_proof_is_accepted_where_the_ingest_key_signed_it_and_else_unproven() -> None:
    bare = {name: value for name, value in GOOD.items() if name != "proof"}
    assert verify(bare).verdict == Verdict.UNPROVEN
    assert verify(bare, log_id=LOG.log_id).verdict == Verdict.UNPROVEN
    assert verify(bare, log_id=LOG.log_id, ingest=LOG.ingest.public).verdict == Verdict.ACCEPTED


def test_a_proof_that_was_fetched_apart_completes_a_receipt() -> None:
    bare = {name: value for name, value in GOOD.items() if name != "proof"}
    proof = proof_of(LOG, SEQ, LOG.checkpoint()).encode()
    assert verify(bare, proof=proof).verdict == Verdict.VERIFIED
    assert failed(verify(bare, proof=proof_of(LOG, SEQ + 1, LOG.checkpoint()).encode())) == ["proof"]


def test_the_json_may_be_formatted_in_any_way_and_hold_members_of_a_later_version() -> None:
    later = {"note": "of a later version", "nested": {"a": [1.5, None, False]}} | GOOD
    report = verify(json.dumps(later, indent=4, sort_keys=True).encode() + b"\r\n\t ")
    assert report.verdict == Verdict.VERIFIED
    assert report.receipt is not None
    assert set(report.receipt.ignored) == {"note", "nested"}


def test_during_a_rotation_either_log_key_will_do_and_a_policy_may_bring_them() -> None:
    new = key("log 2")
    receipt = receipt_of(LOG, SEQ, LOG.checkpoint(signers=[LOG.log, new]))
    assert verify(receipt, log_vkeys=LOG.vkey(new)).verdict == Verdict.VERIFIED
    after = receipt_of(LOG, SEQ, LOG.checkpoint(signers=[new]))
    assert failed(verify(after)) == ["checkpoint"]
    assert verify(after, log_vkeys=[LOG.log_vkey, LOG.vkey(new)]).verdict == Verdict.VERIFIED
    brought = parse_policy(f"log {LOG.vkey(new)}\nquorum none\n")
    assert verify(after, log_vkeys=(), policy=brought).verdict == Verdict.VERIFIED


def test_a_quorum_of_a_policy_has_to_have_cosigned() -> None:
    assert verify(GOOD, policy=policy("any", W1, W2)).verdict == Verdict.VERIFIED
    assert failed(verify(GOOD, policy=policy("all", W1, W2))) == ["witnesses"]
    none = parse_policy(f"log {LOG.log_vkey}\nwitness w2 {W2}\nquorum none\n")
    assert verify(GOOD, policy=none).result(CheckName.WITNESSES) == Result.NOT_CHECKED


def test_a_bad_line_of_one_witness_is_not_made_good_by_another() -> None:
    head = LOG.checkpoint(cosigned=[(W1.name, COSIGNED_AT), (W2.name, COSIGNED_AT)])
    value = head.signatures[-1].value
    head = head._replace(signatures=(*head.signatures[:-1], head.signatures[-1]._replace(value=value[:-1] + b"\x00")))
    report = verify(receipt_of(LOG, SEQ, head), policy=policy("any", W1, W2))
    assert failed(report) == ["witnesses"]
    assert "the cosignature of witness.example/w2 is bad" in report.failures[0].detail


def test_the_checkpoint_is_one_of_the_sites_log_even_where_keys_of_other_logs_are_brought() -> None:
    report = verify(under_another_logs_checkpoint(), log_vkeys=[LOG.log_vkey, OTHER_LOG.log_vkey])
    assert failed(report) == ["checkpoint"]
    assert report.result(CheckName.INCLUSION) == Result.OK


def test_every_witness_that_is_named_has_to_have_cosigned() -> None:
    both = receipt_of(LOG, SEQ, cosigned=[(W1.name, COSIGNED_AT + 5), (W2.name, COSIGNED_AT)])
    report = verify(both, witnesses=[W1, W2])
    assert report.verdict == Verdict.VERIFIED
    assert report.checks[-1].detail.startswith(f"the entry existed when {W2.name} cosigned")
    assert failed(verify(GOOD, witnesses=[W1, W2])) == ["witnesses"]


# --- others ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TAMPERED))
def test_a_receipt_that_was_tampered_with_fails_and_tells_by_which_check(name: str) -> None:
    expected, receipt = TAMPERED[name]
    report = verify(receipt, witnesses=[W1])
    assert (failed(report), report.verdict) == (expected, Verdict.FAILED)


@pytest.mark.parametrize("name", list(SIGNED))
def test_an_event_that_the_ingest_key_did_not_sign_fails_where_the_key_is_known(name: str) -> None:
    expected, receipt = SIGNED[name]
    report = verify(receipt, witnesses=[W1], log_id=LOG.log_id, ingest=LOG.ingest.public)
    assert failed(report) == expected


@pytest.mark.parametrize("name", list(NO_RECEIPT))
def test_what_is_no_receipt_in_its_one_form_is_refused_whole(name: str) -> None:
    report = verify(NO_RECEIPT[name])
    assert failed(report) == ["receipt"]
    assert {check.result for check in report.checks[1:]} == {Result.NOT_CHECKED}


def test_a_key_that_is_no_log_key_of_the_site_is_told() -> None:
    assert failed(verify(GOOD, log_vkeys=LOG.log_vkey._replace(name="example.com"))) == ["log"]
    assert failed(verify(GOOD, log_vkeys=())) == ["log"]
    assert failed(verify(GOOD, log_vkeys=LOG.vkey(key("another")))) == ["checkpoint"]


@pytest.mark.parametrize(
    ("log_id", "ingest"),
    [(bytes(32), LOG.ingest.public), (LOG.log_id, key("another").public), (LOG.log_id, LOG.root.public)],
)
def test_a_signature_for_another_log_or_by_another_key_fails(log_id: bytes, ingest: bytes) -> None:
    assert failed(verify(GOOD, log_id=log_id, ingest=ingest)) == ["signature"]


def test_a_witness_of_another_name_or_key_did_not_cosign() -> None:
    assert failed(verify(GOOD, witnesses=[W1._replace(name="witness.example/w3")])) == ["witnesses"]
    assert failed(verify(GOOD, witnesses=[W1._replace(public=key("another").public)])) == ["witnesses"]


BYTES = {name: b64decode(GOOD[name]) for name in ("entry", "salt", "payload", "leafHash")}
PLACES = [(name, at) for name, data in BYTES.items() for at in range(len(data))]


@given(st.sampled_from(PLACES), st.integers(1, 255))
def test_no_byte_of_entry_salt_payload_or_leaf_hash_may_differ(place: tuple[str, int], flip: int) -> None:
    name, at = place
    data = bytearray(BYTES[name])
    data[at] ^= flip
    assert verify(GOOD | {name: b64(bytes(data))}).verdict == Verdict.FAILED


@given(st.integers(0, len(GOOD["proof"]) - 1), st.characters(exclude_categories=["Cs"]))
def test_no_character_of_the_proof_may_differ(at: int, other: str) -> None:
    """The witness is demanded, so that its line too has to be as it was."""
    proof = GOOD["proof"][:at] + other + GOOD["proof"][at + 1 :]
    if proof != GOOD["proof"]:
        assert verify(GOOD | {"proof": proof}, witnesses=[W1]).verdict == Verdict.FAILED


@given(st.data())
def test_no_member_may_be_cut_or_lengthened(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name, value in GOOD.items() if isinstance(value, str)]))
    kept = data.draw(st.integers(0, len(GOOD[name]) - 1))
    assert verify(GOOD | {name: GOOD[name][:kept]}).verdict == Verdict.FAILED
    assert verify(GOOD | {name: GOOD[name] + GOOD[name][kept:]}).verdict == Verdict.FAILED


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_at_all_raise(data: bytes) -> None:
    assert verify(data).verdict == Verdict.FAILED
