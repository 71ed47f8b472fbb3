"""What an audit finds: faults by rule and entry, in log order, and bounded: a hostile log fills no memory."""

from __future__ import annotations

import heapq
from typing import NamedTuple

from ledger.core.errors import AuditFault

MAX_FAULTS = 100
"""Kept, the earliest in the log first; the rest are counted."""


class Fault(NamedTuple):
    """One broken rule (1 to 14). `seq` is None where no single entry is to blame."""

    rule: int
    detail: str
    seq: int | None = None

    def raised(self) -> AuditFault:
        return AuditFault(self.rule, self.detail, self.seq)


def _order(fault: Fault) -> tuple[int, int, str]:
    return (-1 if fault.seq is None else fault.seq, fault.rule, fault.detail)


class Faults:
    """The first `MAX_FAULTS` faults in log order, whatever the order in which they are found, and the count of all."""

    __slots__ = ("_kept", "count")

    def __init__(self) -> None:
        self._kept: list[Fault] = []
        self.count = 0

    def add(self, rule: int, detail: str, seq: int | None = None) -> None:
        self._kept.append(Fault(rule, detail, seq))
        self.count += 1
        if len(self._kept) > 8 * MAX_FAULTS:
            self._kept = heapq.nsmallest(MAX_FAULTS, self._kept, key=_order)

    def extend(self, faults: Faults) -> None:
        """Take in what was found elsewhere; its uncounted rest stays counted."""
        for fault in faults.first():
            self.add(*fault)
        self.count += faults.count - len(faults.first())

    def first(self) -> list[Fault]:
        """At most `MAX_FAULTS`, in log order; those of no single entry come first."""
        return heapq.nsmallest(MAX_FAULTS, self._kept, key=_order)

    def __bool__(self) -> bool:
        return self.count > 0

    def __getstate__(self) -> tuple[list[Fault], int]:
        return self.first(), self.count

    def __setstate__(self, state: tuple[list[Fault], int]) -> None:
        self._kept, self.count = state
