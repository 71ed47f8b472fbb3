"""Whether every erasure of a log rests on an administrative act: the matching of SPEC.md, section 7.1. Pure.

It is told of acts and erasures of logs that were audited before, and says which erasures have no act, or another one
than they claim, and which acts were not carried out yet. Reading the two logs is ledger/verify/admin.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ledger.core.admin_act import AUTHORISING, CARRIED_OUT, AdminAct, parse_act_name
from ledger.core.encoding import decode_decimal
from ledger.core.erasing import events_hash, evidence_of
from ledger.core.errors import Malformed
from ledger.core.event import ErasureRecord

MAX_MISMATCHES = 100
"""Kept; the rest are counted."""

Wrong = Literal[
    "orphan",
    "other_site",
    "act_erased",
    "another_act",
    "act_used",
    "not_ordered",
    "reason_differs",
    "evidence_differs",
    "events_differ",
]
"""What is wrong with an erasure: no act by which anything is erased stands where it says; the position is of another
log; the act is erased by now; is another one than it was; was carried out before, by another erasure; rests on no
order; gives another reason or evidence; says other events."""


class Erasure(NamedTuple):
    """An erasure entry of `log`: which seqs it names, and its record."""

    log: str
    seq: int
    named: tuple[int, ...]
    record: ErasureRecord


class Mismatch(NamedTuple):
    """The erasure entry `seq` of `log` does not match."""

    log: str
    seq: int
    what: Wrong
    detail: str


class Pending(NamedTuple):
    """An act that was not carried out; `events`: of how many (None: it does not say)."""

    seq: int
    act: str
    events: int | None


class Matching(NamedTuple):
    """What came of it. `matched` erasures name `events` events; `by_retention` of them nobody ordered but the policy.
    For `nothing_found` orders there was nothing (more) to erase, as an act of theirs says.

    The site's log names acts by their leaf hashes, and so fixes the first `bound` entries of the administrative log.
    """

    matched: int
    events: int
    by_retention: int
    mismatches: tuple[Mismatch, ...]
    mismatch_count: int
    pending: tuple[Pending, ...]
    flagged: int
    bound: int
    nothing_found: int = 0


_NOTHING = events_hash(())


@dataclass
class _Ground:
    """An act on which erasures rest. `unordered`: why it rests on no order itself."""

    act: AdminAct
    leaf: bytes
    unordered: str | None
    used: bool = False

    @property
    def finds_nothing(self) -> bool:
        """Whether it says that for its orders nothing is to be erased: no erasure can match it."""
        told = self.act.details
        return self.unordered is None and "erasures" in told and told.get("events") == _NOTHING


class Matcher:
    """One matching: first every act of the administrative log, in its order, then the policies and erasures of the
    site's log in theirs, then the erasures of the administrative log, then `result`."""

    def __init__(self, admin_log: str, size: int) -> None:
        """`size`: how many entries of the administrative log are at hand."""
        self._log = admin_log
        self._size = size
        self._grounds: dict[int, _Ground] = {}
        self._orders: dict[str, AdminAct] = {}
        self._told: set[tuple[str | None, str | None]] = set()
        self._erased: set[int] = set()
        self._policies: set[str] = set()
        self._flagged = self._matched = self._events = self._by_retention = self._count = self._bound = 0
        self._mismatches: list[Mismatch] = []

    def act(self, seq: int, leaf: bytes, act: AdminAct) -> None:
        """An opened act, and the leaf hash of its entry."""
        self._flagged += act.flagged is not None
        if act.act not in AUTHORISING:
            return
        unordered = self._unordered(act) if act.act == "erasure.executed" else None
        self._grounds[seq] = _Ground(act, leaf, unordered)
        if act.act == "erasure.ordered":
            self._orders.setdefault(act.details.get("erasure", ""), act)
        elif unordered is None:
            self._told.add((act.details.get("reason"), act.details.get("evidence")))

    def erased(self, seq: int) -> None:
        """An act that is not opened any more."""
        self._erased.add(seq)

    def policy(self, document: bytes) -> None:
        """A version of the policy that the site's log has, by the hash of its document."""
        self._policies.add(evidence_of([document]))

    def erasure(self, erasure: Erasure) -> None:
        """An erasure of the site's log, or of the administrative log itself."""
        wrong = self._match(erasure)
        if wrong is None:
            self._matched += 1
            self._events += len(erasure.named)
            return
        self._count += 1
        if len(self._mismatches) < MAX_MISMATCHES:
            self._mismatches.append(Mismatch(erasure.log, erasure.seq, *wrong))

    def result(self) -> Matching:
        carried_out = _orders_of(ground for ground in self._grounds.values() if ground.used)
        vain = _orders_of(ground for ground in self._grounds.values() if ground.finds_nothing) - carried_out
        return Matching(
            self._matched,
            self._events,
            self._by_retention,
            tuple(self._mismatches),
            self._count,
            tuple(self._pending(carried_out | vain)),
            self._flagged,
            self._bound,
            len(vain),
        )

    def _unordered(self, act: AdminAct) -> str | None:
        """Why an act that was carried out rests on no order before it; None where it does."""
        details, names = act.details, act.details.get("erasures", "").split()
        if not names:  # what is left of a closed site, or what a restore had brought back
            known = (details.get("reason"), details.get("evidence")) in self._told
            return None if known else "it names no order, and no act before it has its reason and evidence"
        orders = [self._orders[name] for name in names if name in self._orders]
        if len(orders) < len(names):
            return "an order that it names is not on record before it"
        if any(order.details.get("level") == "restrict" for order in orders):
            return "an order that it names is to restrict, not to erase"
        if any(order.details.get("reason") != details.get("reason") for order in orders):
            return "an order that it names gives another reason"
        try:
            made = evidence_of(bytes.fromhex(order.details.get("evidence", "")) for order in orders)
        except ValueError:
            made = ""
        return None if made == details.get("evidence") else "its evidence is not made of that of its orders"

    def _match(self, erasure: Erasure) -> tuple[Wrong, str] | None:
        """What is wrong with an erasure; None where nothing is."""
        try:
            name = parse_act_name(erasure.record.instruction)
        except Malformed:
            return "orphan", f"it names no act: its instruction is {erasure.record.instruction[:80]!r}"
        if name.log != self._log:
            return "other_site", f"it names an act of {name.log[:80]}, and this is {self._log}"
        if name.seq >= self._size:
            return "orphan", (
                f"it names the act at {name.seq}, and here are {self._size} entries of {self._log}: cut, or if that "
                "bundle is older than the log's, export it again"
            )
        if name.seq in self._erased:
            return "act_erased", f"the act at {name.seq} is erased, so that nobody can say what it ordered"
        ground = self._grounds.get(name.seq)
        if ground is None or ground.act.act not in CARRIED_OUT:
            return "orphan", f"{self._log} holds no act at {name.seq} by which anything may be erased"
        if ground.leaf != name.leaf:
            return "another_act", (
                f"the act at {name.seq} is not the one that it names: that was made up, or {self._log} was written anew"
            )
        if erasure.log != self._log:
            self._bound = max(self._bound, name.seq + 1)
        return self._compare(erasure, ground)

    def _compare(self, erasure: Erasure, ground: _Ground) -> tuple[Wrong, str] | None:
        record, details = erasure.record, ground.act.details
        if ground.used:
            return "act_used", "the act was carried out before, by another erasure"
        ground.used = True
        if ground.unordered is not None:
            return "not_ordered", f"the act rests on no order: {ground.unordered}"
        if details.get("reason") != record.reason:
            return "reason_differs", f"its reason is {record.reason}, the act's {details.get('reason', 'none')}"
        if details.get("evidence") != record.evidence:
            return "evidence_differs", "its evidence is not the act's"
        if details.get("events") != events_hash(erasure.named):
            return "events_differ", f"the {len(erasure.named)} events that it names are not those of the act"
        if ground.act.act == "retention.run":
            if erasure.log != self._log and record.evidence not in self._policies:
                return "not_ordered", "its evidence is of no version of the policy before it, so no period was over"
            self._by_retention += 1
        return None

    def _pending(self, done: Set[str]) -> list[Pending]:
        """`done`: the orders that an act names which was carried out, or found nothing. What a closed site has left
        goes by acts that have the reason and evidence of its closing."""
        used = [ground.act.details for ground in self._grounds.values() if ground.used]
        told = {(details.get("reason"), details.get("evidence")) for details in used}
        pending = []
        for seq, ground in self._grounds.items():
            act, details = ground.act, ground.act.details
            ordered = act.act == "erasure.ordered"
            if ground.used or ground.finds_nothing:
                continue
            if ordered and (details.get("erasure") in done or details.get("level") == "restrict"):
                continue
            if act.act == "site.closed" and (details.get("reason"), details.get("evidence")) in told:
                continue
            try:
                count = decode_decimal(details.get("count", ""))
            except Malformed:
                count = None
            pending.append(Pending(seq, act.act, count))
        return pending


def _orders_of(grounds: Iterable[_Ground]) -> Set[str]:
    return {name for ground in grounds for name in ground.act.details.get("erasures", "").split()}
