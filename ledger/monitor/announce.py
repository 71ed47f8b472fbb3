"""Says what was found: once for each fault, and for each alarm when it begins to count and when it is over.

To the log and to the record, from where the webhook takes it; nothing here waits for anybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from ledger.core.encoding import encode_time
from ledger.core.watch import Finding, Kind
from ledger.monitor.record import Notice, Record
from ledger.terminal import plain

log = logging.getLogger(__name__)

Conditions = Mapping[tuple[Kind, str], str]
"""What is amiss now, faults apart: (kind, url) -> detail; without a url it is of the log as a whole."""


class Announcer:
    """The findings about one log."""

    def __init__(self, record: Record, origin: str) -> None:
        self.told = asyncio.Event()
        """Set when there is something for the webhook."""
        self.to_webhook = False
        """Whether there is one; else nothing is kept for it."""
        self.listener: Callable[[Notice], None] | None = None
        self._record, self._origin = record, origin

    def fault(self, finding: Finding, url: str, now: int) -> None:
        """Keep a fault with its evidence, and tell it, unless it is known."""
        fault = self._record.add_fault(finding, url, now)
        if fault is None:
            return
        where = [f"rule {fault.rule}"] if fault.rule else []
        where += [f"entry {fault.seq}"] if fault.seq is not None else []
        log.error("FAULT %s at %s: %s (%s)", fault.kind, plain(url), fault.detail, ", ".join(where) or "no entry")
        self._tell(
            now,
            event="fault",
            kind=fault.kind,
            detail=fault.detail,
            url=url,
            rule=fault.rule,
            seq=fault.seq,
            evidence=fault.evidence,
        )
        self._record.save()

    def alarms(self, conditions: Conditions, now: int, patience_seconds: Callable[[Kind], int]) -> None:
        """What is amiss as of now, all of it: what lasts longer than its patience is told; what has ended, too."""
        state = self._record.state
        present = {f"{kind} {url}".rstrip(): (kind, url) for kind, url in conditions}
        for key, (kind, url) in present.items():
            since = state.alarms.setdefault(key, now)
            if key not in state.raised and now - since >= patience_seconds(kind):
                state.raised.append(key)
                detail = plain(conditions[kind, url])
                log.warning("ALARM %s%s: %s", kind, f" at {plain(url)}" if url else "", detail)
                self._tell(now, event="alarm", kind=str(kind), detail=detail, url=url)
        for key in [key for key in state.alarms if key not in present]:
            del state.alarms[key]
            if key in state.raised:
                state.raised.remove(key)
                word, _, url = key.partition(" ")
                log.warning("over: %s%s", word, f" at {plain(url)}" if url else "")
                self._tell(now, event="over", kind=word, detail="", url=url)

    def _tell(
        self,
        now: int,
        *,
        event: str,
        kind: str,
        detail: str,
        url: str,
        rule: int = 0,
        seq: int | None = None,
        evidence: str = "",
    ) -> None:
        state = self._record.state
        state.told += 1
        number = f"{self._record.directory.name}-{state.told}"
        at = encode_time(now * 1000)
        notice = Notice(number, event, kind, detail, self._origin, at, url, rule, seq, state.size, evidence=evidence)
        if self.to_webhook:
            self._record.tell(notice)
            self.told.set()
        if self.listener is not None:
            self.listener(notice)
