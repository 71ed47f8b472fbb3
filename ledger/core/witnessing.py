"""The messages between a log and a witness, and what a witness answers to an offer. Nothing is sent or kept here.

Source: c2sp.org/tlog-witness v1.0.0 (its status codes and their order), with what later drafts only add: a false line
of a trusted key is a 403, and the empty tree has one root.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from ledger.core import merkle
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import decode_base64, decode_decimal, encode_base64
from ledger.core.errors import BadSignature, Malformed, ProofInvalid
from ledger.core.note import (
    MAX_CHECKPOINT_BYTES,
    Checkpoint,
    Signature,
    VerifierKey,
    cosignature_message,
    parse_any_checkpoint,
    parse_signatures,
)

MAX_PROOF_LINES = 63
MAX_OFFER_BYTES = MAX_CHECKPOINT_BYTES + MAX_PROOF_LINES * 45 + 32
SIZE_TYPE = "text/x.tlog.size"
ADD_CHECKPOINT = "/add-checkpoint"


class Offer(NamedTuple):
    """What a log sends: a checkpoint, and the proof that it continues the log of size `old`."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint

    def encode(self) -> bytes:
        lines = [f"old {self.old}\n", *(f"{encode_base64(node)}\n" for node in self.proof), "\n"]
        return "".join(lines).encode() + self.checkpoint.encode()


def parse_offer(data: bytes) -> Offer:
    """The body of an add-checkpoint request; `Malformed` unless it is exactly of the form."""
    if len(data) > MAX_OFFER_BYTES:
        raise Malformed(f"an offer has at most {MAX_OFFER_BYTES} bytes")
    head, gap, note = data.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("the lines above the checkpoint are ASCII") from error
    if not gap or not first.startswith("old "):
        raise Malformed("an offer is: 'old <size>', lines of proof, an empty line, the checkpoint")
    if len(lines) > MAX_PROOF_LINES:
        raise Malformed(f"a proof has at most {MAX_PROOF_LINES} lines")
    proof = tuple(decode_base64(line) for line in lines)
    if any(len(node) != merkle.HASH_BYTES for node in proof):
        raise Malformed("each line of the proof is one hash of 32 bytes in base64")
    return Offer(decode_decimal(first.removeprefix("old ")), proof, parse_any_checkpoint(note))


def encode_size(size: int) -> bytes:
    """The body of a 409 that tells the size which the witness cosigned last."""
    return f"{size}\n".encode()


def parse_size(data: bytes) -> int:
    """That body read; `Malformed` otherwise."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise Malformed("a size is ASCII") from error
    if not text.endswith("\n") or len(text) < 2:
        raise Malformed("a size is a number and a newline")
    return decode_decimal(text[:-1])


def parse_cosignatures(data: bytes) -> tuple[Signature, ...]:
    """The body of a 200: signature lines, not yet verified."""
    try:
        return parse_signatures(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Malformed("signature lines are UTF-8") from error


def cosign(checkpoint: Checkpoint, vkey: VerifierKey, key: SigningKey, seconds: int) -> Signature:
    """A witness's cosignature/v1 at a unix time (c2sp.org/tlog-cosignature)."""
    value = seconds.to_bytes(8, "big") + key.sign(cosignature_message(checkpoint.body, seconds))
    return Signature(vkey.name, vkey.key_id, value)


def origin_path(origin: str) -> str:
    """Where, below its monitoring prefix, a witness shows the checkpoint that it cosigned last."""
    return f"/{sha256(origin.encode()).hexdigest()}/checkpoint"


class Verdict(NamedTuple):
    """What a witness does with an offer: the HTTP status, and the reason in a sentence.

    `size`: the size to tell with a 409, where that is the answer. `suspect`: the log signed something that was not
    shown to continue what the witness holds; where `fork` is true too, the two together prove that it lied.
    """

    status: int
    reason: str = ""
    size: int | None = None
    suspect: bool = False
    fork: bool = False


COSIGN = Verdict(200)


def trusted_lines(checkpoint: Checkpoint, trusted: Sequence[VerifierKey]) -> tuple[Signature, ...]:
    """The verified signature lines of trusted keys (type 1); a false line of one of them is `BadSignature`."""
    keys = [vkey for vkey in trusted if checkpoint.signed_by(vkey)]
    known = {(vkey.name, vkey.key_id) for vkey in keys}
    return tuple(dict.fromkeys(line for line in checkpoint.signatures if (line.name, line.key_id) in known))


def judge(offer: Offer, trusted: Sequence[VerifierKey], held: Checkpoint | None) -> Verdict:
    """Every check of the specification, in its order. `trusted`: the log's keys; `held`: what was cosigned last."""
    checkpoint, size = offer.checkpoint, 0 if held is None else held.size
    if not trusted:
        return Verdict(404, "this witness does not know that log")
    try:
        if not trusted_lines(checkpoint, trusted):
            return Verdict(403, "no signature of a key that this witness trusts for that log")
    except BadSignature:
        return Verdict(403, "a signature of a key that this witness trusts for that log is false")
    if offer.old > checkpoint.size:
        return Verdict(400, "the old size is greater than that of the checkpoint")
    if offer.old != size:
        return Verdict(409, f"the checkpoint that was cosigned last has the size {size}", size=size)
    if held is not None and checkpoint.size == size and checkpoint.root != held.root and not offer.proof:
        return Verdict(409, f"another root was cosigned for the size {size}", suspect=True, fork=True)
    try:
        root = merkle.EMPTY_ROOT if held is None else held.root
        merkle.check_consistency(size, checkpoint.size, offer.proof, root, checkpoint.root)
    except ProofInvalid as error:
        fork = held is not None and checkpoint.size == size and checkpoint.root != held.root
        suspect = fork or (held is not None and checkpoint.size > size)
        return Verdict(422, f"the consistency proof: {error}", suspect=suspect, fork=fork)
    return COSIGN


class Dispute(NamedTuple):
    """A witness and a log do not agree: what was offered, what the witness answered, and what it says it holds.

    `held` is as the witness showed it: who relies on it verifies the log's signature upon it first.
    """

    witness: str
    status: int
    old: int
    offered: Checkpoint
    held: Checkpoint | None

    def proves_two_heads(self, log_vkey: VerifierKey) -> bool:
        """Whether the log's key signed both, and they cannot both be true; `BadSignature` if a line of it is false."""
        held = self.held
        return (
            held is not None
            and (held.origin, held.size) == (self.offered.origin, self.offered.size)
            and held.root != self.offered.root
            and held.signed_by(log_vkey)
            and self.offered.signed_by(log_vkey)
        )
