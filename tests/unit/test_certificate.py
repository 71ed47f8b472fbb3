"""Certificates of erasure: what is signed says what the log says, and anything else is found."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from hashlib import sha256
from typing import Any

import jwt
import msgspec
import pytest

from ledger.certificate_report import render
from ledger.core import certificate as certificates
from ledger.core import jws
from ledger.core.certificate import Certificate, CertifiedEntry, CertifiedKept, sign_certificate
from ledger.core.certificate_check import CertificateReport, CheckName, verify_certificate
from ledger.core.checks import Result
from ledger.core.entry import Kind
from ledger.core.errors import Malformed
from tests.logbuilder import LogBuilder, key
from tests.receipts import b64, encode, proof_of, receipt_of, utc

REQUESTED = "2026-11-21T03:00:00.000Z"
MINE, ANOTHER = (sha256(name).digest() for name in (b"my request", b"another person's"))
SIGNER = key("receipt")


def log_with_erasures(**record: Any) -> LogBuilder:
    """Two people's events, erased in two entries that mix them."""
    log = LogBuilder()
    log.policy()
    log.events(12)
    told = {"evidence": sha256(b"".join(sorted((MINE, ANOTHER)))).hexdigest()} | record
    for seqs in ((2, 3, 4, 7), (9, 11)):
        public = b"".join(seq.to_bytes(8, "big") for seq in seqs)
        log.append_opened(Kind.ERASURE, log.record(**told), public)
    log.events(3)
    return log


LOG = log_with_erasures()


def entry_of(log: LogBuilder, seq: int, erased: list[str], events: int) -> CertifiedEntry:
    salt, record = log.openings[seq]
    return CertifiedEntry(
        seq=seq,
        recorded_at=utc(int.from_bytes(log.entries[seq][9:17], "big")),
        events=events,
        erased=erased,
        requests=sorted((MINE.hex(), ANOTHER.hex())),
        entry=b64(log.entries[seq]),
        salt=b64(salt),
        record=b64(record),
        proof=proof_of(log, seq, log.checkpoint()),
    )


def certificate_of(log: LogBuilder = LOG) -> Certificate:
    return Certificate(
        format=certificates.FORMAT,
        site=log.site,
        origin=log.origin,
        log_id=log.log_id.hex(),
        log_vkey=str(log.log_vkey),
        erasure="01980000-0000-7000-8000-000000000001",
        subject="visitor",
        level="erase",
        reason="subject_request",
        evidence=MINE.hex(),
        act=f"{log.site}.admin-log:4",
        requested_at=REQUESTED,
        blocked_at=REQUESTED,
        erased_at=utc(int.from_bytes(log.entries[15][9:17], "big")),
        issued_at=utc(log.now_ms + 60_000),
        events=4,
        entries=[entry_of(log, 14, ["2-4", "7"], 3), entry_of(log, 15, ["9", "11"], 1)],
        kept=[CertifiedKept(5, "2031-11-21T03:00:00.000Z", ["terms"])],
    )


GOOD = certificate_of()


def verify(told: Certificate, **brought: Any) -> CertificateReport:
    brought.setdefault("log_vkeys", [LOG.log_vkey])
    brought.setdefault("signers", [jws.thumbprint(SIGNER.public)])
    return verify_certificate(sign_certificate(told, SIGNER), **brought)


def replace(told: Certificate, **members: Any) -> Certificate:
    return msgspec.structs.replace(told, **members)


def with_entry(**members: Any) -> Certificate:
    return replace(GOOD, entries=[msgspec.structs.replace(GOOD.entries[0], **members), GOOD.entries[1]])


def receipt(at: int, log: LogBuilder = LOG, **members: Any) -> bytes:
    return encode(receipt_of(log, at) | members)


def test_a_certificate_is_verified_with_the_logs_key_and_the_sites_receipt_key() -> None:
    report = verify(GOOD)
    assert not report.failures
    assert report.verified
    assert {check.name for check in report.checks if check.result == Result.NOT_CHECKED} == {CheckName.RECEIPTS}


def test_who_signed_is_proven_by_nothing_but_a_key_that_the_reader_brings() -> None:
    """Whoever has seen the entries of somebody's erasure could have written the rest: what remains, who confirmed."""
    report = verify_certificate(sign_certificate(GOOD, key("anybody")), [LOG.log_vkey])
    assert (report.failures, report.result(CheckName.SIGNER), report.verified) == ((), Result.NOT_CHECKED, False)


def test_with_a_receipt_and_the_evidence_of_ones_request_every_check_is_made() -> None:
    report = verify(GOOD, receipts=[receipt(3), receipt(7), receipt(11)], evidence=MINE.hex())
    assert {check.result for check in report.checks} == {Result.OK}


def test_the_certificate_of_another_person_who_went_in_the_same_entry_is_not_mine() -> None:
    (failure,) = verify(GOOD, evidence=ANOTHER.hex()).failures
    assert failure.name == CheckName.EVIDENCE


def test_an_erasure_of_somebody_of_whom_nothing_was_held_is_certified_too() -> None:
    report = verify(replace(GOOD, entries=[], events=0))
    assert report.verified


def test_until_when_backups_are_kept_is_said_or_that_nobody_told_it() -> None:
    told = render(verify(replace(GOOD, backups_until="2026-12-26T03:00:00.000Z")))
    assert "the first one after 2026-12-26T03:00:00.000Z" in " ".join(told.split())
    assert "ask the operator" in " ".join(render(verify(GOOD)).split())
    assert "backups" not in render(verify(replace(GOOD, entries=[], events=0))).partition("What was checked")[0]


def test_evidence_that_was_made_of_the_instruction_can_be_made_again() -> None:
    mine = sha256(b"salt" + b"ticket 7").digest()
    log = log_with_erasures(evidence=sha256(b"".join(sorted((mine, ANOTHER)))).hexdigest())
    told = replace(certificate_of(log), evidence=mine.hex(), instruction="ticket 7", evidence_salt=b64(b"salt"))
    requests = sorted((mine.hex(), ANOTHER.hex()))
    told = replace(told, entries=[msgspec.structs.replace(one, requests=requests) for one in told.entries])
    assert verify(told).verified
    (failure,) = verify(replace(told, instruction="ticket 8")).failures
    assert failure.name == CheckName.EVIDENCE


TAMPERED: dict[str, tuple[Certificate, str]] = {
    "another position": (with_entry(erased=["2-3", "7"]), CheckName.ENTRIES),
    "positions written otherwise": (with_entry(erased=["2", "3", "4", "7"]), CheckName.ENTRIES),
    "another time of an entry": (with_entry(recorded_at=REQUESTED), CheckName.ENTRIES),
    "more events than it names": (with_entry(events=9), CheckName.ENTRIES),
    "another number of events": (replace(GOOD, events=5), CheckName.ENTRIES),
    "an entry of an event": (with_entry(entry=b64(LOG.entries[5])), CheckName.ENTRIES),
    "another record": (with_entry(record=b64(LOG.record(reason="legal_order"))), CheckName.RECORDS),
    "another salt": (with_entry(salt=b64(bytes(32))), CheckName.RECORDS),
    "another reason": (replace(GOOD, reason="retention"), CheckName.RECORDS),
    "an act of another site": (replace(GOOD, act="we-nera.com.admin-log:4"), CheckName.LOG),
    "backups that end before": (replace(GOOD, backups_until=REQUESTED), CheckName.TIMES),
    "another log": (replace(GOOD, origin="ledger.example/we-nera.com"), CheckName.LOG),
    "evidence that is not the request's": (replace(GOOD, evidence="0" * 64), CheckName.EVIDENCE),
    "a request left out": (with_entry(requests=[MINE.hex()]), CheckName.EVIDENCE),
    "requests in another order": (with_entry(requests=sorted((MINE.hex(), ANOTHER.hex()))[::-1]), CheckName.EVIDENCE),
    "the proof of another entry": (with_entry(proof=GOOD.entries[1].proof), CheckName.INCLUSION),
    "a proof that leads elsewhere": (
        with_entry(proof=GOOD.entries[0].proof.replace(GOOD.entries[0].proof.split("\n")[2], b64(bytes(32)))),
        CheckName.INCLUSION,
    ),
    "a checkpoint by another key": (
        with_entry(proof=proof_of(LOG, 14, LOG.checkpoint(signers=[key("thief")]))),
        CheckName.INCLUSION,
    ),
    "erased before it was blocked": (replace(GOOD, blocked_at=GOOD.issued_at), CheckName.TIMES),
    "erased before the entry": (replace(GOOD, erased_at=REQUESTED), CheckName.TIMES),
}


@pytest.mark.parametrize(("told", "fails"), TAMPERED.values(), ids=TAMPERED)
def test_a_certificate_that_says_anything_else_than_the_log_fails(told: Certificate, fails: str) -> None:
    report = verify(told)
    assert [check.name for check in report.failures] == [fails]
    assert not report.verified


def test_a_record_of_another_site_or_a_later_request_fails() -> None:
    other = log_with_erasures(site="we-nera.com")
    assert [check.name for check in verify(certificate_of(other)).failures] == [CheckName.RECORDS]
    later = log_with_erasures(requestedAt="2027-01-01T00:00:00.000Z")
    assert [check.name for check in verify(certificate_of(later)).failures] == [CheckName.TIMES]


ELSEWHERE = LogBuilder("ledger.example/we-nera.com")
ELSEWHERE.policy()
ELSEWHERE.events(12)


@pytest.mark.parametrize(
    ("brought", "why"),
    [
        (receipt(5), "kept"),
        (receipt(8), "not name it"),
        (receipt(13), "not name it"),
        (receipt(3, ELSEWHERE), "log key brought along"),
        (receipt(8, seq=3, position=f"{LOG.site}:3"), "its entry 8"),
        (b"{}", "missing"),
    ],
    ids=["kept", "left", "the last", "another site's", "another position's", "none"],
)
def test_a_receipt_that_the_erasure_does_not_cover_fails(brought: bytes, why: str) -> None:
    (failure,) = verify(GOOD, receipts=[receipt(2), brought]).failures
    assert failure.name == CheckName.RECEIPTS
    assert why in failure.detail


def test_a_certificate_by_another_key_than_the_sites_fails() -> None:
    (failure,) = verify(GOOD, signers=[jws.thumbprint(key("thief").public)]).failures
    assert failure.name == CheckName.SIGNER


def test_a_payload_that_was_changed_after_signing_fails() -> None:
    header, _, signature = sign_certificate(GOOD, SIGNER).split(b".")
    other = certificates.encode_certificate(replace(GOOD, level="hold"))
    report = verify_certificate(b".".join((header, jws.base64url(other).encode(), signature)), [LOG.log_vkey])
    assert [check.name for check in report.failures] == [CheckName.SIGNATURE]
    assert report.certificate is not None
    assert not report.verified


def with_header(**members: Any) -> bytes:
    """The good certificate under another header, signed anew."""
    header, payload, _ = sign_certificate(GOOD, SIGNER).split(b".")
    told = json.loads(urlsafe_b64decode(header + b"==")) | members
    signed = jws.base64url(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).encode() + b"." + payload
    return signed + b"." + jws.base64url(SIGNER.sign(signed)).encode()


NO_CERTIFICATE: dict[str, bytes] = {
    "nothing": b"",
    "text": "Свидетельство".encode(),
    "two parts": b"a.b",
    "padding": sign_certificate(GOOD, SIGNER).replace(b".", b"=.", 1),
    "white space": sign_certificate(GOOD, SIGNER) + b" \n",
    "no certificate": jws.sign(b'{"format":"x"}', certificates.JWS_TYPE, SIGNER),
    "a member more": jws.sign(
        certificates.encode_certificate(GOOD)[:-1] + b',"zzz":"x"}', certificates.JWS_TYPE, SIGNER
    ),
    "another encoding": jws.sign(
        json.dumps(json.loads(certificates.encode_certificate(GOOD))).encode(), certificates.JWS_TYPE, SIGNER
    ),
    "entries that do not ascend": sign_certificate(replace(GOOD, entries=GOOD.entries[::-1]), SIGNER),
    "a time that is none": sign_certificate(replace(GOOD, issued_at="2026-02-30T00:00:00.000Z"), SIGNER),
    "a key that is no point": with_header(jwk=jws.public_jwk(bytes(32)), kid=jws.thumbprint(bytes(32))),
    "another name of the key": with_header(kid=jws.thumbprint(key("thief").public)),
    "no signature at all": with_header(alg="none"),
    "a JWT that a secret signed": jwt.encode({"a": "b"}, "x" * 32, algorithm="HS256").encode(),
}


@pytest.mark.parametrize("data", NO_CERTIFICATE.values(), ids=NO_CERTIFICATE)
def test_a_file_that_is_no_certificate_fails_and_nothing_else_is_checked(data: bytes) -> None:
    report = verify_certificate(data, [LOG.log_vkey])
    assert [check.name for check in report.failures] == [CheckName.CERTIFICATE]
    assert {check.result for check in report.checks[1:]} == {Result.NOT_CHECKED}
    assert not report.verified


def test_another_library_finds_the_signature_good() -> None:
    token = sign_certificate(GOOD, SIGNER).decode()
    header = jwt.get_unverified_header(token)
    assert header["typ"] == certificates.JWS_TYPE
    shown = jwt.PyJWK.from_dict({**header["jwk"], "alg": "EdDSA"})
    told = jwt.decode(token, shown.key, algorithms=["EdDSA"])
    assert told["events"] == 4
    assert json.loads(urlsafe_b64decode(token.split(".")[1] + "==")) == told


def test_seqs_become_ranges_and_ranges_seqs() -> None:
    seqs = [1, 2, 3, 5, 9, 10]
    assert certificates.ranges(seqs) == ["1-3", "5", "9-10"]
    assert certificates.spans(["1-3", "5", "9-10"]) == [(1, 3), (5, 5), (9, 10)]
    for wrong in (["3-1"], ["1-1"], ["1", "2"], ["5", "3"], ["01"]):
        with pytest.raises(Malformed):
            certificates.spans(wrong)
