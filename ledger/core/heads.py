"""The signed tree heads of an audit: the checkpoint audited, the auditor's older one, those kept over time.

Which sizes to compare roots at, by when entries must have been recorded (rule 6), and, once the log's keys are known,
who signed (rule 4). It reads no entries.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from ledger.core.chunk import Bound
from ledger.core.errors import BadSignature
from ledger.core.faults import Faults
from ledger.core.keys import KeySet
from ledger.core.note import Checkpoint, VerifierKey

COSIGNED_SLACK_MS = 60_000
"""Rule 6: how far an entry's time may lie beyond a cosignature that covers it."""
MAX_KEPT_CHECKPOINTS = 10_000
"""One every ten minutes for ten weeks, or every two hours for two years; whoever reads a bundle takes no more."""
MAX_KEPT_BYTES = 32 * 1024 * 1024
"""Of all of them together: they are held to the end of an audit."""


class Pins(NamedTuple):
    """What the auditor brings along: the log's key, and where at hand its id, an older checkpoint and witnesses.

    Without the key (of an administrative log, to which the site's log vouches) the root's word alone counts for keys.
    """

    log_vkey: VerifierKey | None
    log_id: bytes | None = None
    old: Checkpoint | None = None
    witnesses: tuple[VerifierKey, ...] = ()


class Head(NamedTuple):
    """A checkpoint and what to call it in a fault."""

    name: str
    checkpoint: Checkpoint


class Heads:
    """All tree heads at hand. Give the kept ones first, then close, then read entries."""

    def __init__(self, pins: Pins, checkpoint: Checkpoint, faults: Faults) -> None:
        self.pins = pins
        self.checkpoint = checkpoint
        self.faults = faults
        self.at: dict[int, list[Head]] = {}
        """size -> the heads whose root has to be the log's at this size."""
        self.cosigned: dict[str, int] = {str(witness): 0 for witness in pins.witnesses}
        self._cosigned_at: set[int] = set()
        self._earliest: dict[int, int] = {}
        self._sizes: list[int] = []
        self._bounds_ms: list[int] = []
        self._kept: list[Head] = []
        if pins.log_vkey is not None and pins.log_vkey.name != checkpoint.origin:
            faults.add(1, f"the checkpoint's origin is {checkpoint.origin}, the key is {pins.log_vkey.name}'s")  # 1
        self._take(Head("the checkpoint", checkpoint))
        self.old_counts = pins.old is not None and self._take(Head("the older checkpoint", pins.old))

    def keep(self, name: str, checkpoint: Checkpoint) -> None:
        """One of the checkpoints kept over time."""
        head = Head(name, checkpoint)
        if self._take(head):
            self._kept.append(head)

    def _take(self, head: Head) -> bool:
        """Whether the head is one of this log and size; only then does it count."""
        origin, size = head.checkpoint.origin, head.checkpoint.size
        if origin != self.checkpoint.origin:
            self.faults.add(4, f"{head.name} is of another log: {origin}")  # 4
            return False
        if size > self.checkpoint.size:
            self.faults.add(4, f"{head.name} covers {size} entries, more than there are: the log was cut")  # 4
            return False
        self.at.setdefault(size, []).append(head)
        for witness in self.pins.witnesses:
            try:
                times = head.checkpoint.cosignature_times(witness)  # a witness may have signed the same head again
            except BadSignature as error:
                self.faults.add(6, f"{head.name} has a bad cosignature of {witness.name}: {error}")  # 6
                continue
            if times:
                self.cosigned[str(witness)] += 1
                self._cosigned_at.update(times)
                self._earliest[size] = min(*times, self._earliest.get(size, times[0]))
        return True

    def close(self) -> None:
        """All heads are there: an entry is bounded by the earliest cosignature of any head that covers it."""
        earliest: int | None = None
        for size in sorted(self._earliest, reverse=True):
            seconds = self._earliest[size]
            earliest = seconds if earliest is None else min(seconds, earliest)
            self._sizes.append(size)
            self._bounds_ms.append(earliest * 1000 + COSIGNED_SLACK_MS)
        self._sizes.reverse()
        self._bounds_ms.reverse()

    def bounds(self, first: int, width: int) -> tuple[Bound, ...]:
        """Rule 6 for the entries [first, first + width)."""
        bounds: list[Bound] = []
        for i in range(bisect_right(self._sizes, first), len(self._sizes)):
            bounds.append(Bound(self._sizes[i], self._bounds_ms[i]))
            if self._sizes[i] >= first + width:
                break
        return tuple(bounds)

    @property
    def longest_gap_seconds(self) -> int | None:
        """Between neighbouring cosignatures: the room for back-dating. None for fewer than two."""
        times = sorted(self._cosigned_at)
        return max((b - a for a, b in pairwise(times)), default=None)

    def sizes_within(self, first: int, width: int) -> Iterable[int]:
        """Sizes of heads in (first, first + width], ascending; with size 0 for the first chunk."""
        if first == 0 and 0 in self.at:
            yield 0
        if len(self.at) < width:
            yield from sorted(size for size in self.at if first < size <= first + width)
        else:
            yield from (size for size in range(first + 1, first + width + 1) if size in self.at)

    def compare(self, size: int, root: bytes) -> None:
        """The log's root at one of the sizes asked for."""
        for head in self.at[size]:
            if head.checkpoint.root == root:
                continue
            if head.checkpoint is self.checkpoint:
                self.faults.add(2, f"the root rebuilt from {size} entries is not the checkpoint's")  # 2
            else:
                self.faults.add(4, f"{head.name} of size {size} has another root: the log was rewritten")  # 4

    def signed_by_pinned(self, checkpoint: Checkpoint) -> bool:
        """Whether the key given out of band signed; a bad line counts as no signature, and is a fault in `judge`."""
        try:
            return self.pins.log_vkey is not None and checkpoint.signed_by(self.pins.log_vkey)
        except BadSignature:
            return False

    def judge(self, keys: KeySet | None, *, complete: bool) -> None:
        """Rule 4: who signed what, by the keys of the whole log (None where there is no genesis entry).

        If the log could not be read to its end (`complete` is false), nobody knows which log keys are active there.
        """
        pinned = self.pins.log_vkey
        brought = () if pinned is None else (pinned,)
        known = dict.fromkeys((*brought, *(keys.ever_log_keys if keys else ())))
        signed = {head.name: self._signers(head, known) for head in self._all()}
        if (
            pinned is not None
            and pinned not in signed["the checkpoint"]
            and not (self.old_counts and pinned in signed["the older checkpoint"])
        ):
            which = "neither this checkpoint nor the older one" if self.pins.old else "not this checkpoint"
            self.faults.add(4, f"the key given out of band signed {which}")
        active = keys.log_keys if keys else ()
        if complete and not any(key in signed["the checkpoint"] for key in active):
            self.faults.add(4, "no log key that is active at this size signed the checkpoint")
        for head in self._kept:
            if not signed[head.name]:
                self.faults.add(4, f"{head.name} is not signed by any key of this log")

    def _all(self) -> Iterable[Head]:
        yield Head("the checkpoint", self.checkpoint)
        if self.old_counts and self.pins.old is not None:
            yield Head("the older checkpoint", self.pins.old)
        yield from self._kept

    def _signers(self, head: Head, known: Iterable[VerifierKey]) -> set[VerifierKey]:
        signers = set()
        for key in known:
            try:
                if head.checkpoint.signed_by(key):
                    signers.add(key)
            except BadSignature:
                self.faults.add(4, f"{head.name} has a bad signature of log key {key.key_id.hex()}")
        return signers
