"""The all-clear for an entry bundle of nothing but plain events, judged column by column instead of entry by entry.

Nearly every bundle of a real log is one. It says only that nothing is wrong with the entries; whether something is,
and what, is said by core/chunk, which looks at every entry when there is no all-clear.
"""

from __future__ import annotations

import operator
import struct
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from ledger.core.encoding import MAX_INT
from ledger.core.entry import HEAD_BYTES, Kind, core_bytes

if TYPE_CHECKING:
    from ledger.core.chunk import Chunk

_FRAME = struct.Struct(">HBQQ32sB32s32s64sH")  # an entry's length, and an entry without public part
_NO_PUBLIC = b"\0\0"


class PlainEvents(NamedTuple):
    """Entries that are all sound but for their signatures: `signed` has (seq, public key, core, signature)."""

    leaves: list[bytes]
    commits: tuple[bytes, ...]
    first_prev: bytes
    first_ms: int
    last_ms: int
    signed: list[tuple[int, bytes, bytes, bytes]]


def plain_events(chunk: Chunk) -> PlainEvents | None:
    """None: the bundle holds something else than events in order, by keys active throughout, or something is wrong."""
    bundle, width, first = chunk.bundle, chunk.width, chunk.first
    if len(bundle) != width * _FRAME.size or len(chunk.signers) != 1 or not first:
        return None
    lengths, versions, seqs, times, prevs, kinds, commits, signers, signatures, publics = zip(
        *_FRAME.iter_unpack(bundle), strict=True
    )
    leaves = [sha256(b"\0" + bundle[at : at + HEAD_BYTES]).digest() for at in range(2, len(bundle), HEAD_BYTES + 2)]
    active = chunk.signers[0].active
    if not (
        lengths.count(HEAD_BYTES) == versions.count(1) == kinds.count(Kind.EVENT) == publics.count(0) == width  # 1, 5
        and seqs == tuple(range(first, first + width))  # 3
        and list(prevs[1:]) == leaves[:-1]  # 3
        and all(map(operator.le, times, times[1:]))  # 6
        and times[-1] < MAX_INT  # 1
        and all(times[-1] <= bound.ms for bound in chunk.bounds)  # 6
        and active.keys() >= set(signers)  # 7
    ):
        return None
    log = core_bytes(chunk.log, Kind.EVENT, b"", b"")[: -len(_NO_PUBLIC)]
    signed = [
        (seq, active[signer], log + commit + _NO_PUBLIC, signature)
        for seq, signer, commit, signature in zip(seqs, signers, commits, signatures, strict=True)
        if seq >= chunk.signed_below
    ]
    return PlainEvents(leaves, commits, prevs[0], times[0], times[-1], signed)
