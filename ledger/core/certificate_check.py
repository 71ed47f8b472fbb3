"""Certificates of erasure verified offline (SPEC.md section 22): every check by name, how it ended, and why.

It takes nothing on trust but the keys that the reader brings. That openings are gone from a database, what remains and
who confirmed is the operator's word, which this makes evidence: whoever later shows such an opening, or answers from
it, has signed that it was erased.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from ledger.core import jws, receipt
from ledger.core.admin_act import admin_log_of
from ledger.core.certificate import (
    JWS_TYPE,
    MAX_CERTIFICATE_BYTES,
    Certificate,
    CertifiedEntry,
    decode_certificate,
    ranges,
    spans,
)
from ledger.core.checks import Check, Checks, NotChecked, Result
from ledger.core.encoding import MAX_INT, decode_base64, decode_time, encode_time
from ledger.core.entry import Entry, Kind, commitment, decode, decode_seqs
from ledger.core.erasing import evidence_of
from ledger.core.errors import BadSignature, KeyRefused, Malformed, ProofInvalid
from ledger.core.event import ErasureRecord, decode_payload
from ledger.core.merkle import leaf_hash
from ledger.core.note import VerifierKey, check_origin
from ledger.core.tlog_proof import parse_proof


class CheckName(StrEnum):
    """The checks in their order; SPEC.md section 22 describes each under this name."""

    CERTIFICATE = "certificate"
    SIGNATURE = "signature"
    SIGNER = "signer"
    LOG = "log"
    ENTRIES = "entries"
    RECORDS = "records"
    EVIDENCE = "evidence"
    INCLUSION = "inclusion"
    TIMES = "times"
    RECEIPTS = "receipts"


OPTIONAL = frozenset({CheckName.RECEIPTS})
"""Checks that need more than the keys: without them a certificate may be called verified all the same."""


class CertificateReport(NamedTuple):
    """All checks in order, and the certificate, None where it could not be read."""

    checks: tuple[Check[CheckName], ...]
    certificate: Certificate | None
    key_name: str

    def result(self, name: CheckName) -> Result:
        return next(check.result for check in self.checks if check.name == name)

    @property
    def failures(self) -> tuple[Check[CheckName], ...]:
        return tuple(check for check in self.checks if check.result == Result.FAILED)

    @property
    def verified(self) -> bool:
        """Whether nothing failed, and everything was checked that the keys are enough for."""
        return not self.failures and all(
            check.result == Result.OK for check in self.checks if check.name not in OPTIONAL
        )


def verify_certificate(
    data: bytes,
    log_vkeys: Collection[VerifierKey],
    signers: Collection[str] = (),
    receipts: Collection[bytes] = (),
    evidence: str | None = None,
) -> CertificateReport:
    """Check a certificate's bytes; never raises on what they hold.

    `log_vkeys`: keys of the log, of which one has to have signed each checkpoint. `signers`: names (RFC 7638
    thumbprints) of the site's receipt keys. `receipts`: files of the reader's, of events that the certificate has to
    name. `evidence`: of the reader's own request (64 hex digits), so that it is no other person's certificate.
    """
    run = _Run(data, tuple(log_vkeys), frozenset(signers), tuple(receipts), evidence)
    run.do(CheckName.CERTIFICATE, run.read)
    run.do(CheckName.SIGNATURE, run.check_signature, CheckName.CERTIFICATE)
    run.do(CheckName.SIGNER, run.check_signer, CheckName.SIGNATURE)
    run.do(CheckName.LOG, run.check_log, CheckName.CERTIFICATE)
    run.do(CheckName.ENTRIES, run.check_entries, CheckName.CERTIFICATE)
    run.do(CheckName.RECORDS, run.check_records, CheckName.ENTRIES)
    run.do(CheckName.EVIDENCE, run.check_evidence, CheckName.RECORDS)
    run.do(CheckName.INCLUSION, run.check_inclusion, CheckName.LOG, CheckName.ENTRIES)
    run.do(CheckName.TIMES, run.check_times, CheckName.RECORDS)
    run.do(CheckName.RECEIPTS, run.check_receipts, CheckName.LOG, CheckName.ENTRIES)
    return CertificateReport(tuple(run.checks), run.certificate, "" if run.signed is None else run.signed.key_name)


class _Run(Checks[CheckName]):
    """One verification: what was brought, what was read so far, and the checks done."""

    def __init__(
        self,
        data: bytes,
        vkeys: tuple[VerifierKey, ...],
        signers: frozenset[str],
        receipts: tuple[bytes, ...],
        evidence: str | None,
    ) -> None:
        super().__init__()
        self.data, self.vkeys, self.signers = data, vkeys, signers
        self.receipts, self.evidence = receipts, evidence
        self.signed: jws.Signed | None = None
        self.certificate: Certificate | None = None
        self.entries: list[tuple[CertifiedEntry, Entry]] = []
        self.records: list[ErasureRecord] = []

    def _told(self) -> Certificate:
        assert self.certificate is not None
        return self.certificate

    def read(self) -> str:
        if len(self.data) > MAX_CERTIFICATE_BYTES:
            raise Malformed(f"a certificate has at most {MAX_CERTIFICATE_BYTES} bytes")
        self.signed = jws.parse(self.data.removesuffix(b"\n"), JWS_TYPE)
        self.certificate = decode_certificate(self.signed.payload)
        return "the file is a certificate of erasure in its one form"

    def check_signature(self) -> str:
        assert self.signed is not None
        self.signed.check()
        return f"the key {self.signed.key_name} signed exactly this certificate"

    def check_signer(self) -> str:
        assert self.signed is not None
        if not self.signers:
            raise NotChecked("no receipt key of the site was brought along, so the signer is whoever made the file")
        if self.signed.key_name not in self.signers:
            raise BadSignature(f"{self.signed.key_name} is none of the site's receipt keys brought along")
        return "the key that signed is a receipt key of the site"

    def check_log(self) -> str:
        told = self._told()
        if check_origin(told.origin) != told.site:
            raise Malformed("the origin is of another site's log")
        if not any(vkey.name == told.origin for vkey in self.vkeys):
            raise KeyRefused("no log key brought along is of this site's log")
        if told.act.rpartition(":")[0] != admin_log_of(told.site):
            raise Malformed("the act that ordered it is none of this site's administrative log")
        return f"the log key brought along is that of {told.origin}"

    def check_entries(self) -> str:
        told = self._told()
        for one in told.entries:
            entry = decode(decode_base64(one.entry))
            if entry.kind != Kind.ERASURE:
                raise Malformed(f"entry {one.seq} is none of an erasure")
            if entry.seq != one.seq or encode_time(entry.ms) != one.recorded_at:
                raise Malformed(f"what is called entry {one.seq} is entry {entry.seq}, or has another time")
            named = decode_seqs(entry.public)
            if one.erased != ranges(named):
                raise Malformed(f"entry {one.seq} names other positions than the certificate says")
            if named[-1] >= entry.seq:
                raise Malformed(f"entry {one.seq} names a position that is not before it")
            if one.events > len(named):
                raise Malformed(f"entry {one.seq} names {len(named)} events, and {one.events} are said to be of this")
            self.entries.append((one, entry))
        if sum(one.events for one in told.entries) != told.events:
            raise Malformed("the events of the entries are not as many as the certificate says")
        if not told.entries:
            return "nothing of it was on record, so there is no entry"
        return f"{len(told.entries)} erasure entries name {told.events} events of this erasure, all before them"

    def check_records(self) -> str:
        told = self._told()
        for one, entry in self.entries:
            salt, payload = decode_base64(one.salt), decode_base64(one.record)
            if commitment(salt, payload) != entry.commit:
                raise Malformed(f"salt and record are not what entry {one.seq} commits to")
            record = decode_payload(payload, ErasureRecord)
            if record.site != told.site:
                raise Malformed(f"the record of entry {one.seq} is of another site")
            if record.reason != told.reason:
                raise Malformed(f"the record of entry {one.seq} says another reason: {record.reason}")
            self.records.append(record)
        return "each entry commits to the record that says why"

    def check_evidence(self) -> str:
        told = self._told()
        if self.evidence not in (None, told.evidence):
            raise Malformed("its evidence is not that of your request: it is another person's, or of another request")
        if told.evidence_salt is not None:
            preimage = decode_base64(told.evidence_salt) + (told.instruction or "").encode("utf-8", "surrogatepass")
            if sha256(preimage).hexdigest() != told.evidence:
                raise Malformed("the evidence is not that of this salt and instruction")
        for (one, _), record in zip(self.entries, self.records, strict=True):
            if one.requests != sorted(set(one.requests)):
                raise Malformed(f"the requests of entry {one.seq} are not in their one order")
            if told.evidence not in one.requests:
                raise Malformed(f"the request's evidence is not among those of entry {one.seq}")
            if evidence_of(map(bytes.fromhex, one.requests)) != record.evidence:
                raise Malformed(f"the requests are not those that the record of entry {one.seq} is made of")
        return "the evidence in each record is made of this request's, and of those that were erased with it"

    def check_inclusion(self) -> str:
        told = self._told()
        mine = [vkey for vkey in self.vkeys if vkey.name == told.origin]
        for one, _ in self.entries:
            try:
                proof = parse_proof(one.proof.encode())
            except UnicodeEncodeError as error:
                raise Malformed("a proof holds what no UTF-8 text can") from error
            if proof.index != one.seq or proof.checkpoint.origin != told.origin:
                raise ProofInvalid(f"the proof is of another entry or log than entry {one.seq}")
            # All keys are tried: a bad line beside a good one fails too.
            if True not in [proof.checkpoint.signed_by(vkey) for vkey in mine]:
                raise BadSignature("the log key brought along did not sign the checkpoint")
            proof.check(leaf_hash(decode_base64(one.entry)))
        if not told.entries:
            return "there is no entry to look for"
        return "each entry is in the log, under a checkpoint that the log key signed"

    def check_times(self) -> str:
        told = self._told()
        in_order = (told.requested_at, told.blocked_at, told.erased_at, told.issued_at)
        if list(in_order) != sorted(in_order, key=decode_time):
            raise Malformed("it was requested, blocked, erased and certified in another order")
        if told.backups_until is not None and decode_time(told.backups_until) < decode_time(told.erased_at):
            raise Malformed("backups are said to be kept until before the erasure, which took what they hold")
        for (one, entry), record in zip(self.entries, self.records, strict=True):
            if decode_time(record.requested_at) > decode_time(told.requested_at):
                raise Malformed(f"the record of entry {one.seq} is of requests that came later")
            if entry.ms > decode_time(told.erased_at):
                raise Malformed(f"entry {one.seq} was recorded after the erasure is said to have ended")
        if self.entries and decode_time(told.blocked_at) > self.entries[0][1].ms:
            raise Malformed("the first entry was recorded before the block is said to have begun")
        return "requested, then blocked, then erased, then certified"

    def check_receipts(self) -> str:
        told = self._told()
        if not self.receipts:
            raise NotChecked("no receipt was brought along that the erasure should cover")
        kept = {one.seq for one in told.kept}
        named = sorted(span for one, _ in self.entries for span in spans(one.erased))
        for data in self.receipts:
            found = receipt.verify_receipt(data, self.vkeys)
            if found.receipt is None or found.failures:
                raise Malformed(f"a receipt brought along is none itself: {found.failures[0].detail}")
            if found.receipt.site != told.site:
                raise Malformed(f"a receipt brought along is of another site: {found.receipt.site}")
            seq = found.receipt.seq
            at = bisect_right(named, (seq, MAX_INT)) - 1
            if at < 0 or named[at][1] < seq:
                why = "it is listed as kept" if seq in kept else "the certificate does not name it"
                raise Malformed(f"entry {seq}, of which there is a receipt, was not erased: {why}")
        return f"all {len(self.receipts)} entries of the receipts brought along are among those that were erased"
