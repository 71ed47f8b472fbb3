"""Certificates of erasure (SPEC.md section 22): what was erased, when, why, what remains and who confirmed.

The statement itself, in its one encoding, signed by a receipt key of the site; checking it against the log is
core/certificate_check's part. It names no person: the id is gone, and who asked for the erasure holds the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from ledger.core import jws
from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import decode_decimal, decode_json, decode_time
from ledger.core.errors import Malformed
from ledger.core.event import DocumentHash, EventId, Time
from ledger.core.tlog_proof import MAX_PROOF_BYTES

FORMAT = "consent-ledger/v1 erasure-certificate"
JWS_TYPE = "consent-ledger-erasure+jws"
MEDIA_TYPE = "application/jose"
MAX_CERTIFICATE_BYTES = 64 * 1024 * 1024

Seq = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Text = Annotated[str, Meta(min_length=1, max_length=512)]
Base64 = Annotated[str, Meta(min_length=4)]
Positions = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,15}(-[1-9][0-9]{0,15})?\Z")]
"""The seq of an entry, or the first and the last of several."""


class Member(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Members at their default are left out, and unknown ones refused."""


class CertifiedEntry(Member, frozen=True):
    """An erasure entry with its record opened and the proof that the log holds it.

    `erased` are the positions that it names, those of others who were erased with it among them; `events` how many of
    them are this erasure's. `requests` are the evidence hashes of all whom the record's evidence is made of.
    """

    seq: Seq
    recorded_at: Time
    events: Annotated[int, Meta(ge=1)]
    erased: Annotated[list[Positions], Meta(min_length=1)]
    requests: Annotated[list[DocumentHash], Meta(min_length=1)]
    entry: Base64
    salt: Base64
    record: Base64
    proof: Annotated[str, Meta(min_length=1, max_length=MAX_PROOF_BYTES)]


class CertifiedKept(Member, frozen=True):
    """An event that stays until then: the acceptance of these purposes has to be kept."""

    seq: Seq
    until: Time
    purposes: list[Text]


class CertifiedMark(Member, frozen=True):
    """A "no" that outlives the erasure: of one purpose, or of all (`*`)."""

    purpose: Text
    until: Time


class CertifiedConsumer(Member, frozen=True):
    """Who else held copies, and up to which position it has confirmed erasures; absent: it has confirmed none."""

    name: Text
    position: Text | None = None
    confirmed_at: Time | None = None
    confirmed: bool = False


class Certificate(Member, frozen=True):
    """The statement. `evidence` is that of the request, `act` the position of the administrative act that ordered it.
    With `evidence_salt` the evidence is SHA-256 of that salt and the instruction; else of the request as its sender
    keeps it.

    What remains is told of the person, whichever order left it: `kept`; `held`, openings under a key of their own,
    until `held_until`; `marks`; `blocked_until`: until then nothing is recorded under the id. Of an account's erasure
    `browsers` are the orders that were made with it, each with a certificate of its own; `browsers_left` is how many
    browsers had to do with the account and had no order, so that their own records stay.

    `published_at`: when a checkpoint that covers all of it was signed. `rewritten_at`: when the tables that had
    held it were written anew, so that the deleted bytes are gone from their pages too; absent: not yet.
    `backups_until`: backups that were taken before are kept until then, sealed; absent: nobody told the ledger.
    """

    format: Text
    site: Text
    origin: Text
    log_id: DocumentHash
    log_vkey: Text
    erasure: EventId
    subject: Literal["visitor", "account"]
    level: Literal["erase", "hold"]
    reason: Literal["subject_request", "retention", "controller_instruction", "legal_order", "capture_error"]
    evidence: DocumentHash
    act: Text
    requested_at: Time
    blocked_at: Time
    erased_at: Time
    issued_at: Time
    published_at: Time | None = None
    events: Count = 0
    entries: list[CertifiedEntry] = []
    kept: list[CertifiedKept] = []
    held: Count = 0
    held_until: Time | None = None
    marks: list[CertifiedMark] = []
    blocked_until: Time | None = None
    rewritten_at: Time | None = None
    backups_until: Time | None = None
    instruction: Text | None = None
    evidence_salt: Base64 | None = None
    consumers: list[CertifiedConsumer] = []
    browsers: list[EventId] = []
    browsers_left: Count = 0


_encoder = msgspec.json.Encoder(order="sorted")


def encode_certificate(certificate: Certificate) -> bytes:
    """The exact bytes that are signed."""
    return _encoder.encode(certificate)


def decode_certificate(payload: bytes) -> Certificate:
    """Parse a statement strictly; `Malformed` if it is not in the one encoding or no certificate."""
    try:
        certificate = msgspec.convert(decode_json(payload), Certificate, strict=True)
    except msgspec.ValidationError as error:
        raise Malformed(f"it is no certificate of erasure: {error}") from error
    if certificate.format != FORMAT:
        raise Malformed(f"its format is not {FORMAT!r}")
    if any(one.seq >= other.seq for one, other in pairwise(certificate.entries)):
        raise Malformed("the entries of a certificate ascend")
    for time in _times(certificate):
        decode_time(time)
    return certificate


def sign_certificate(certificate: Certificate, key: SigningKey) -> bytes:
    """The signed statement, as it is handed out and kept."""
    return jws.sign(encode_certificate(certificate), JWS_TYPE, key)


def ranges(seqs: Iterable[int]) -> list[str]:
    """Ascending seqs as the certificate writes them: `12`, and `15-19` for several in a row."""
    found: list[list[int]] = []
    for seq in seqs:
        if found and seq == found[-1][1] + 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]


def spans(positions: Sequence[str]) -> list[tuple[int, int]]:
    """The first and the last seq of each range, in their order; `Malformed` unless they ascend with gaps between."""
    found: list[tuple[int, int]] = []
    for text in positions:
        first, _, last = text.partition("-")
        span = decode_decimal(first), decode_decimal(last or first)
        if (last and span[0] >= span[1]) or (found and span[0] <= found[-1][1] + 1):
            raise Malformed(f"{text} is not the next range of positions")
        found.append(span)
    return found


def _times(certificate: Certificate) -> Iterable[str]:
    optional = (
        *(certificate.published_at, certificate.held_until, certificate.blocked_until),
        *(certificate.rewritten_at, certificate.backups_until),
        *(one.confirmed_at for one in certificate.consumers),
    )
    yield from (certificate.requested_at, certificate.blocked_at, certificate.erased_at, certificate.issued_at)
    yield from (one.recorded_at for one in certificate.entries)
    yield from (one.until for one in certificate.kept)
    yield from (one.until for one in certificate.marks)
    yield from (time for time in optional if time is not None)
