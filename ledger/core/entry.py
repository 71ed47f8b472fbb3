"""Entries, the leaves of the log (SPEC.md, "Entries"): their bytes, parsed strictly, and the core that is signed.

Nothing here knows which keys count (core/keys) or what a payload says (core/event).
"""

from __future__ import annotations

import itertools
import struct
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple

from ledger.core.encoding import MAX_INT
from ledger.core.errors import Malformed

COMMIT_LABEL = b"consent-ledger/v1 commit\n"
ENTRY_LABEL = b"consent-ledger/v1 entry\n"

HEAD_BYTES = 180
MAX_ENTRY_BYTES = 65_535
MAX_PUBLIC_BYTES = MAX_ENTRY_BYTES - HEAD_BYTES
MAX_ERASED_SEQS = 4_096
SALT_BYTES = 32
ZEROS = bytes(32)

_HEAD = struct.Struct(">BQQ32sB32s32s64sH")


class Kind(IntEnum):
    GENESIS = 0
    EVENT = 1
    KEY = 2
    ERASURE = 3
    POLICY = 4


HAS_OPENING = frozenset({Kind.EVENT, Kind.ERASURE})


class Entry(NamedTuple):
    """One parsed entry. `prev`, `commit` and `signer` have 32 bytes, `signature` 64; `ms` is unix milliseconds."""

    seq: int
    ms: int
    prev: bytes
    kind: int
    commit: bytes
    signer: bytes
    signature: bytes
    public: bytes


def commitment(salt: bytes, payload: bytes) -> bytes:
    """The salted hash that stands in the log for a payload."""
    return sha256(COMMIT_LABEL + salt + payload).digest()


def key_hash(public: bytes) -> bytes:
    """What an entry stores of its signer: H(signer_public)."""
    return sha256(public).digest()


def origin_hash(origin: str) -> bytes:
    """L of the genesis core; at every later seq L is the log id."""
    return sha256(origin.encode("ascii")).digest()


def core_bytes(log: bytes, kind: int, commit: bytes, public: bytes) -> bytes:
    """What a signer signs: free of position and time. `log` is L: H(origin) at seq 0, else the log id."""
    return ENTRY_LABEL + log + bytes((kind,)) + commit + len(public).to_bytes(2, "big") + public


def ms_of(entry: bytes) -> int:
    """When an entry was recorded (unix milliseconds), without reading the rest of its bytes."""
    return int.from_bytes(entry[9:17], "big")


def commit_of(entry: bytes) -> bytes:
    """The commitment in the bytes of an entry, without reading the rest."""
    return entry[50:82]


def encode(entry: Entry) -> bytes:
    """The 180 bytes and `public`."""
    if len(entry.public) > MAX_PUBLIC_BYTES:
        raise ValueError(f"public has at most {MAX_PUBLIC_BYTES} bytes")
    head = _HEAD.pack(
        1,
        entry.seq,
        entry.ms,
        entry.prev,
        entry.kind,
        entry.commit,
        entry.signer,
        entry.signature,
        len(entry.public),
    )
    return head + entry.public


def decode(data: bytes) -> Entry:
    """Parse exactly one entry; `Malformed` if a length, the version or a bound is off. Kinds are judged by rule 5."""
    if not HEAD_BYTES <= len(data) <= MAX_ENTRY_BYTES:
        raise Malformed(f"an entry has {HEAD_BYTES} to {MAX_ENTRY_BYTES} bytes, this one {len(data)}")
    version, seq, ms, prev, kind, commit, signer, signature, length = _HEAD.unpack_from(data)
    if version != 1:
        raise Malformed(f"entry version {version} is not 1")
    if seq >= MAX_INT or ms >= MAX_INT:
        raise Malformed("seq and time are below 2^53")
    if length != len(data) - HEAD_BYTES:
        raise Malformed("the length of public does not match the entry")
    return Entry(seq, ms, prev, kind, commit, signer, signature, data[HEAD_BYTES:])


def encode_seqs(seqs: list[int]) -> bytes:
    """The public part of an erasure: 1 to 4,096 seqs, strictly ascending."""
    if not 0 < len(seqs) <= MAX_ERASED_SEQS or any(a >= b for a, b in itertools.pairwise(seqs)):
        raise ValueError(f"an erasure names 1 to {MAX_ERASED_SEQS} seqs, strictly ascending")
    return struct.pack(f">{len(seqs)}Q", *seqs)


def decode_seqs(public: bytes) -> tuple[int, ...]:
    """The seqs an erasure names, strictly ascending; `Malformed` otherwise."""
    count, rest = divmod(len(public), 8)
    if rest or not 0 < count <= MAX_ERASED_SEQS:
        raise Malformed(f"an erasure names 1 to {MAX_ERASED_SEQS} seqs of 8 bytes")
    seqs = struct.unpack(f">{count}Q", public)
    if any(a >= b for a, b in itertools.pairwise(seqs)):
        raise Malformed("the seqs of an erasure must ascend strictly")
    return seqs
