"""Receipts verified offline (SPEC.md section 16): every check by name, how it ended, and why in plain words.

It takes nothing on trust but the keys that the reader brings. It does not say what a visitor's consent is today: a
receipt is about one event.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple

from ledger.core import ed25519
from ledger.core.admin_act import AdminAct, decode_logged
from ledger.core.checks import Check, Checks, NotChecked, Result
from ledger.core.encoding import encode_base64, encode_time
from ledger.core.entry import SALT_BYTES, Entry, Kind, commitment, core_bytes, decode, key_hash
from ledger.core.errors import BadSignature, KeyRefused, Malformed, ProofInvalid
from ledger.core.event import Event
from ledger.core.heads import COSIGNED_SLACK_MS
from ledger.core.merkle import leaf_hash
from ledger.core.note import Checkpoint, VerifierKey, check_origin
from ledger.core.quorum import TrustPolicy
from ledger.core.receipt_message import Receipt, parse_receipt
from ledger.core.tlog_proof import TlogProof, parse_proof


class CheckName(StrEnum):
    """The checks in their order; SPEC.md section 16 describes each under this name."""

    RECEIPT = "receipt"
    ENTRY = "entry"
    POSITION = "position"
    COMMITMENT = "commitment"
    PAYLOAD = "payload"
    LOG = "log"
    SIGNATURE = "signature"
    PROOF = "proof"
    CHECKPOINT = "checkpoint"
    INCLUSION = "inclusion"
    WITNESSES = "witnesses"
    TIME = "time"


OPTIONAL = frozenset({CheckName.SIGNATURE, CheckName.WITNESSES, CheckName.TIME})
"""Checks that need more than the log's key: a receipt may be called verified without them."""


class Verdict(StrEnum):
    """`accepted`: no proof is there, but the ingest key signed. `unproven`: not even that was checked."""

    VERIFIED = "verified"
    FAILED = "failed"
    ACCEPTED = "accepted"
    UNPROVEN = "unproven"


class Cosigned(NamedTuple):
    """A trusted witness and when it first cosigned the receipt's checkpoint, in unix seconds by its own clock."""

    witness: VerifierKey
    seconds: int


class ReceiptReport(NamedTuple):
    """All checks in order, and what could be read: parts are None where reading them failed."""

    checks: tuple[Check[CheckName], ...]
    receipt: Receipt | None
    entry: Entry | None
    event: Event | AdminAct | None
    checkpoint: Checkpoint | None
    log_vkeys: tuple[VerifierKey, ...]
    cosigned: tuple[Cosigned, ...]

    def result(self, name: CheckName) -> Result:
        return next(check.result for check in self.checks if check.name == name)

    @property
    def verdict(self) -> Verdict:
        if any(check.result == Result.FAILED for check in self.checks):
            return Verdict.FAILED
        if all(self.result(name) == Result.OK for name in CheckName if name not in OPTIONAL):
            return Verdict.VERIFIED
        return Verdict.ACCEPTED if self.result(CheckName.SIGNATURE) == Result.OK else Verdict.UNPROVEN

    @property
    def failures(self) -> tuple[Check[CheckName], ...]:
        return tuple(check for check in self.checks if check.result == Result.FAILED)


def verify_receipt(
    data: bytes,
    log_vkeys: VerifierKey | Collection[VerifierKey],
    witnesses: Sequence[VerifierKey] = (),
    policy: TrustPolicy | None = None,
    log_id: bytes | None = None,
    ingest: bytes | None = None,
    proof: bytes | None = None,
) -> ReceiptReport:
    """Check a receipt's bytes; never raises on what they hold.

    `log_vkeys`: the log's key, or several of which one must have signed; those of `policy` count beside it.
    `witnesses` must all have cosigned; of those in `policy` its quorum must have. With `log_id` and `ingest` (public
    key, 32 bytes) the core's signature is checked too. `proof`: tlog-proof text that was fetched apart; it takes the
    place of the receipt's own.
    """
    given = (log_vkeys,) if isinstance(log_vkeys, VerifierKey) else tuple(log_vkeys)
    listed = () if policy is None else tuple(log.vkey for log in policy.logs)
    keys = tuple(dict.fromkeys((*given, *listed)))
    run = _Run(data, keys, tuple(witnesses), policy, log_id, ingest, proof)
    run.do(CheckName.RECEIPT, run.read)
    run.do(CheckName.ENTRY, run.check_entry, CheckName.RECEIPT)
    run.do(CheckName.POSITION, run.check_position, CheckName.ENTRY)
    run.do(CheckName.COMMITMENT, run.check_commitment, CheckName.ENTRY)
    run.do(CheckName.PAYLOAD, run.check_payload, CheckName.RECEIPT)
    run.do(CheckName.LOG, run.check_log, CheckName.RECEIPT)
    run.do(CheckName.SIGNATURE, run.check_signature, CheckName.ENTRY)
    run.do(CheckName.PROOF, run.check_proof, CheckName.RECEIPT)
    run.do(CheckName.CHECKPOINT, run.check_checkpoint, CheckName.LOG, CheckName.PROOF)
    run.do(CheckName.INCLUSION, run.check_inclusion, CheckName.ENTRY, CheckName.PROOF)
    run.do(CheckName.WITNESSES, run.check_witnesses, CheckName.PROOF)
    run.do(CheckName.TIME, run.check_time, CheckName.ENTRY)
    return ReceiptReport(
        tuple(run.checks),
        run.receipt,
        run.entry,
        run.event,
        None if run.proof is None else run.proof.checkpoint,
        run.vkeys,
        tuple(run.cosigned),
    )


class _Run(Checks[CheckName]):
    """One verification: what was brought, what was read so far, and the checks done."""

    def __init__(
        self,
        data: bytes,
        vkeys: tuple[VerifierKey, ...],
        witnesses: tuple[VerifierKey, ...],
        policy: TrustPolicy | None,
        log_id: bytes | None,
        ingest: bytes | None,
        given_proof: bytes | None,
    ) -> None:
        super().__init__()
        self.data, self.vkeys, self.witnesses, self.policy = data, vkeys, witnesses, policy
        self.log_id, self.ingest, self.given_proof = log_id, ingest, given_proof
        self.receipt: Receipt | None = None
        self.entry: Entry | None = None
        self.event: Event | AdminAct | None = None
        self.proof: TlogProof | None = None
        self.cosigned: list[Cosigned] = []

    def _receipt(self) -> Receipt:
        assert self.receipt is not None
        return self.receipt

    def _entry(self) -> Entry:
        assert self.entry is not None
        return self.entry

    def _proof(self) -> TlogProof:
        assert self.proof is not None
        return self.proof

    def read(self) -> str:
        self.receipt = parse_receipt(self.data)
        return "the file is a receipt, and every member has its one form"

    def check_entry(self) -> str:
        entry = decode(self._receipt().entry)
        if entry.kind != Kind.EVENT or entry.public:
            raise Malformed("the entry is not one of an event")
        self.entry = entry
        return f"{len(self._receipt().entry)} bytes are an entry of version 1, of the kind 'event'"

    def check_position(self) -> str:
        receipt, entry = self._receipt(), self._entry()
        if receipt.seq != entry.seq:
            raise Malformed(f"the receipt says seq {receipt.seq}, its entry {entry.seq}")
        if receipt.recorded_at != encode_time(entry.ms):
            raise Malformed(f"the entry was recorded at {encode_time(entry.ms)}, the receipt says another time")
        if receipt.leaf_hash != leaf_hash(receipt.entry):
            raise Malformed("the leaf hash is not that of the entry")
        if receipt.position != f"{receipt.site}:{entry.seq}":
            raise Malformed("the position is not <site>:<seq>")
        return f"seq {entry.seq}, time, leaf hash and position are those of the entry"

    def check_commitment(self) -> str:
        receipt = self._receipt()
        if len(receipt.salt) != SALT_BYTES:
            raise Malformed(f"a salt has {SALT_BYTES} bytes, this one {len(receipt.salt)}")
        if commitment(receipt.salt, receipt.payload) != self._entry().commit:
            raise Malformed("salt and payload are not what the entry commits to: the payload was changed or exchanged")
        return "the entry commits to exactly this payload"

    def check_payload(self) -> str:
        receipt = self._receipt()
        event = decode_logged(receipt.payload, receipt.site)
        if event.id != receipt.id:
            raise Malformed("the payload is of an event with another id")
        if event.site != receipt.site:
            raise Malformed("the payload is of another site")
        self.event = event
        return "the payload is an event in its one encoding, with the receipt's id and site"

    def check_log(self) -> str:
        site = self._receipt().site
        for vkey in self.vkeys:
            try:
                if check_origin(vkey.name) == site:
                    return f"the log key brought along is that of {vkey.name}"
            except Malformed:
                continue  # a key that is no log's of this kind may stand in a policy beside ours
        raise KeyRefused("no log key brought along is of this site's log")

    def check_signature(self) -> str:
        if self.log_id is None or self.ingest is None:
            raise NotChecked("it needs the log id and the ingest key, and they were not both given")
        entry = self._entry()
        if entry.signer != key_hash(self.ingest):
            raise BadSignature("the entry names another signer than the ingest key brought along")
        core = core_bytes(self.log_id, entry.kind, entry.commit, entry.public)
        ed25519.verify(self.ingest, core, entry.signature)
        return "the ingest key signed this entry for the log with this id"

    def check_proof(self) -> str:
        text = self._receipt().proof
        if self.given_proof is None and text is None:
            raise NotChecked("there is no proof in the receipt")
        try:
            proof = parse_proof((text or "").encode() if self.given_proof is None else self.given_proof)
        except UnicodeEncodeError as error:
            raise Malformed("the proof holds what no UTF-8 text can") from error
        if proof.index != self._receipt().seq:
            raise ProofInvalid(f"the proof is of entry {proof.index}, the receipt of entry {self._receipt().seq}")
        self.proof = proof
        return f"the proof is of entry {proof.index}, under a checkpoint over {proof.checkpoint.size} entries"

    def check_checkpoint(self) -> str:
        checkpoint = self._proof().checkpoint
        if check_origin(checkpoint.origin) != self._receipt().site:
            raise Malformed("the checkpoint is of another site's log")
        mine = [vkey for vkey in self.vkeys if vkey.name == checkpoint.origin]
        if not mine:
            raise KeyRefused(f"the checkpoint is of {checkpoint.origin}, and no key brought along is of that log")
        signed = [checkpoint.signed_by(vkey) for vkey in mine]  # all of them: a bad line beside a good one fails too
        if True not in signed:
            raise BadSignature("the log key brought along did not sign the checkpoint")
        return f"the log key signed the checkpoint of {checkpoint.origin} at size {checkpoint.size}"

    def check_inclusion(self) -> str:
        proof = self._proof()
        proof.check(leaf_hash(self._receipt().entry))
        return f"{len(proof.hashes)} hashes lead from the entry to the root {encode_base64(proof.checkpoint.root)}"

    def check_witnesses(self) -> str:
        listed = () if self.policy is None else tuple(witness.vkey for witness in self.policy.witnesses)
        trusted = tuple(dict.fromkeys((*self.witnesses, *listed)))
        if not trusted:
            raise NotChecked("no witness was given, so nobody but the operator vouches for the checkpoint")
        bad: BadSignature | None = None
        for vkey in trusted:
            try:
                times = self._proof().checkpoint.cosignature_times(vkey)
            except BadSignature as error:
                bad = bad or BadSignature(f"the cosignature of {vkey.name} is bad: {error}")
                continue
            if times:
                self.cosigned.append(Cosigned(vkey, min(times)))
        if bad is not None:
            raise bad
        seen = [vkey for vkey, _ in self.cosigned]
        missing = [vkey.name for vkey in self.witnesses if vkey not in seen]
        if missing:
            raise BadSignature(f"no cosignature of {', '.join(missing)}")
        if self.policy is not None and not self.policy.satisfied(seen):
            raise BadSignature(f"{len(seen)} of {len(trusted)} witnesses cosigned: the policy's quorum is not reached")
        if not seen:
            raise NotChecked("the policy demands no witness, and none has cosigned")
        return f"{len(seen)} of {len(trusted)} witnesses cosigned the checkpoint"

    def check_time(self) -> str:
        if not self.cosigned:
            raise NotChecked("the recorded time is the operator's word: no witness bounds it")
        earliest = min(self.cosigned, key=lambda cosigned: cosigned.seconds)
        if self._entry().ms > earliest.seconds * 1000 + COSIGNED_SLACK_MS:
            raise ProofInvalid(f"the entry's time lies more than 60 s after {earliest.witness.name} cosigned it")
        return f"the entry existed when {earliest.witness.name} cosigned, at {_second(earliest.seconds)}"


def _second(unix_seconds: int) -> str:
    try:
        return encode_time(unix_seconds * 1000)
    except Malformed:
        return f"{unix_seconds} s after 1970"
