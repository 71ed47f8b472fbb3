"""Whether every erasure of a log rests on an administrative act: the matching of SPEC.md, section 7.1. Pure.

It is told of acts and erasures of logs that were audited before, and says which erasures have no act, or another one
than they claim, and which acts were not carried out yet. Reading the two logs is ledger/verify/admin.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, NamedTuple

from ledger.core.admin_act import AUTHORISING, AdminAct
from ledger.core.encoding import decode_decimal
from ledger.core.errors import Malformed
from ledger.core.event import ErasureRecord

ACT_LATER_MS = 60_000
"""An act may be recorded so much later than its erasure by the times of the two logs, which no one clock gave."""
MAX_MISMATCHES = 100
"""Kept; the rest are counted."""

Wrong = Literal[
    "orphan",
    "other_site",
    "act_erased",
    "act_later",
    "reason_differs",
    "evidence_differs",
    "too_many",
    "events_differ",
]
"""What is wrong with an erasure: no act that orders one stands where it says; the position is of another log; the act
is erased by now; came after it; gives another reason or evidence; covers fewer events, or other ones."""


class Erasure(NamedTuple):
    """An erasure entry of `log`, recorded at `ms`: which seqs it names, and its record."""

    log: str
    seq: int
    ms: int
    named: tuple[int, ...]
    record: ErasureRecord


class Mismatch(NamedTuple):
    """The erasure entry `seq` of `log` does not match."""

    log: str
    seq: int
    what: Wrong
    detail: str


class Pending(NamedTuple):
    """An act under which fewer events were erased than it says: `erased` of `ordered` (None: it does not say)."""

    seq: int
    act: str
    ordered: int | None
    erased: int


class Matching(NamedTuple):
    """What came of it. `matched` erasures name `events` events."""

    matched: int
    events: int
    mismatches: tuple[Mismatch, ...]
    mismatch_count: int
    pending: tuple[Pending, ...]
    flagged: int


@dataclass
class _Order:
    """An act that may be named, and what was erased under it, by log (a site's, or the administrative one itself)."""

    act: AdminAct
    ms: int
    erased: array[int] = field(default_factory=lambda: array("q"))
    last: int = -1
    log: str = ""

    @property
    def count(self) -> int | None:
        text = self.act.details.get("count")
        return None if text is None or not text.isdigit() else int(text)


class Matcher:
    """One matching: first every act of the administrative log, then every erasure, then `result`."""

    def __init__(self, admin_log: str, size: int) -> None:
        """`size`: how many entries of the administrative log are at hand."""
        self._log = admin_log
        self._size = size
        self._orders: dict[int, _Order] = {}
        self._others: set[int] = set()
        self._flagged = 0
        self._matched = self._events = self._count = 0
        self._mismatches: list[Mismatch] = []

    def act(self, seq: int, ms: int, act: AdminAct) -> None:
        """An opened act."""
        self._flagged += act.flagged is not None
        if act.act in AUTHORISING:
            self._orders[seq] = _Order(act, ms)

    def erased(self, seq: int) -> None:
        """An act that is not opened any more."""
        self._others.add(seq)

    def erasure(self, erasure: Erasure) -> None:
        """An erasure of the site's log, or of the administrative log itself."""
        found = self._find(erasure)
        if isinstance(found, _Order):
            found = self._compare(erasure, found) or found
        if isinstance(found, _Order):
            self._matched += 1
            self._events += len(erasure.named)
            return
        what, detail = found
        self._count += 1
        if len(self._mismatches) < MAX_MISMATCHES:
            self._mismatches.append(Mismatch(erasure.log, erasure.seq, what, detail))

    def result(self) -> Matching:
        for order in self._orders.values():
            self._judge_events(order)
        return Matching(
            self._matched,
            self._events,
            tuple(self._mismatches),
            self._count,
            tuple(self._pending()),
            self._flagged,
        )

    def _find(self, erasure: Erasure) -> _Order | tuple[Wrong, str]:
        """The act that the record names."""
        instruction = erasure.record.instruction
        log, _, number = instruction.rpartition(":")
        if not log:
            return "orphan", f"it names no act: its instruction is {instruction[:80]!r}"
        if log != self._log:
            return "other_site", f"it names an act of {log[:80]}, and this is {self._log}"
        try:
            seq = decode_decimal(number)
        except Malformed:
            return "orphan", f"it names no act: its instruction is {instruction[:80]!r}"
        order = self._orders.get(seq)
        if order is not None:
            return order
        if seq >= self._size:
            return "orphan", (
                f"it names the act at {seq}, and here are {self._size} entries of {self._log}: if that bundle is older "
                "than the log's, export it again"
            )
        if seq in self._others:
            return "act_erased", f"the act at {seq} is erased, so that nobody can say what it ordered"
        return "orphan", f"{self._log} holds no act at {seq} by which anything may be erased"

    def _compare(self, erasure: Erasure, order: _Order) -> tuple[Wrong, str] | None:
        record, details = erasure.record, order.act.details
        if order.ms > erasure.ms + ACT_LATER_MS:
            return "act_later", f"the act was recorded {(order.ms - erasure.ms) / 1000:.0f} s after it"
        if details.get("reason") != record.reason:
            return "reason_differs", f"its reason is {record.reason}, the act's {details.get('reason', 'none')}"
        if details.get("evidence") != record.evidence:
            return "evidence_differs", "its evidence is not the act's"
        if order.log not in ("", erasure.log):
            return "too_many", f"the act was carried out in {order.log} already"
        total = len(order.erased) + len(erasure.named)
        if order.count is None or total > order.count:
            allowed = "does not say how many" if order.count is None else f"allows {order.count}"
            return "too_many", f"{total} events are erased under an act that {allowed}"
        order.log, order.last = erasure.log, erasure.seq
        order.erased.extend(erasure.named)
        return None

    def _judge_events(self, order: _Order) -> None:
        """Under an act that says which events, it is these, all of them or none: of some, nobody can tell whether they
        are among those that it says, so an act that was never carried out would cover whatever somebody takes away."""
        digest = order.act.details.get("events")
        if digest is None or not order.erased:
            return
        seqs = b"".join(seq.to_bytes(8, "big") for seq in sorted(order.erased))
        if sha256(seqs).hexdigest() == digest:
            return
        self._count += 1
        self._matched -= 1
        if len(self._mismatches) < MAX_MISMATCHES:
            detail = "the events erased under its act are others than the act says"
            if len(order.erased) != order.count:
                detail = f"{len(order.erased)} events are erased under an act that names {order.count} together"
            self._mismatches.append(Mismatch(order.log, order.last, "events_differ", detail))

    def _pending(self) -> list[Pending]:
        """An order is carried out by an act of its own, which names its id; that one by erasures."""
        done = {
            name
            for order in self._orders.values()
            if order.act.act != "erasure.ordered" and order.count == len(order.erased)
            for name in _ids(order.act)
        }
        pending = []
        for seq, order in self._orders.items():
            if order.count is not None and order.count == len(order.erased):
                continue
            if order.act.act == "erasure.ordered":
                names = _ids(order.act)
                if order.act.details.get("level") == "restrict" or (names and done.issuperset(names)):
                    continue
            pending.append(Pending(seq, order.act.act, order.count, len(order.erased)))
        return pending


def _ids(act: AdminAct) -> set[str]:
    details = act.details
    return {*details.get("erasures", "").split(), *details.get("erasure", "").split()}
