"""What a simulation counts: answers by status, latencies by call, what was recorded, and what was not as it should be.

No line of it holds a visitor's id.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

MISMATCHES_MAX_KEPT = 20
LATENCIES_MAX_KEPT = 1_000_000


@dataclass
class Tally:
    """Counters of one run. `recorded` is how many entries the log has to have grown by."""

    recorded: int = 0
    unsettled: int = 0
    visits: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    latencies_ms: dict[str, list[float]] = field(default_factory=dict)
    mismatches: int = 0
    mismatch_texts: list[str] = field(default_factory=list)

    def answered(self, call: str, answer: str, latency_ms: float) -> None:
        """One attempt at a call: its status, or what came instead of one."""
        self.answers[answer] += 1
        kept = self.latencies_ms.setdefault(call, [])
        if len(kept) < LATENCIES_MAX_KEPT:
            kept.append(latency_ms)

    def mismatch(self, text: str) -> None:
        """Something that contradicts what the ledger promises."""
        self.mismatches += 1
        if len(self.mismatch_texts) < MISMATCHES_MAX_KEPT:
            self.mismatch_texts.append(text)
