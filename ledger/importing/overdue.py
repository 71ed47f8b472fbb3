"""Which imported acts are older than the site keeps its records, so that its next retention run would erase them again.

Each act by itself and by the version in force alone, which is all that an import knows: the run, which knows the other
acts and versions, may keep one longer. Nothing is refused for it; it is told, in a dry run before anything is sent.
"""

from __future__ import annotations

from ledger.core.document import SiteDocument
from ledger.core.errors import DocumentInvalid
from ledger.core.event import Event, EventInput
from ledger.core.fold import Recorded
from ledger.core.policy import PolicyHistory, Published, decode_document
from ledger.core.record_terms import Ends, RecordTerms


class Overdue:
    """What a version of a site's policy keeps no longer at one moment."""

    def __init__(self, document: SiteDocument, now_ms: int) -> None:
        self._version, self._now_ms = document.version, now_ms
        self._terms = RecordTerms(PolicyHistory((Published(1, 0, b"", document),)), now_ms)
        self._some = self._terms.keeps_some_for_a_time()

    def purposes(self, event: EventInput) -> tuple[str, ...]:
        """The purposes of an event whose record is due already; none if it is not."""
        if not self._some:
            return ()
        stored = Event(
            id="",
            site="",
            type=event.type,
            visitor=event.visitor,
            decisions=event.decisions,
            action=event.action,
            policy_version=event.policy_version and self._version,
            region=event.region,
            gpc=event.gpc,
            occurred_at=event.occurred_at,
        )
        recorded = Recorded(0, self._now_ms, stored)
        due_ms = self._terms.span(recorded, Ends(self._terms, [recorded])).due_ms
        return tuple(sorted(event.decisions)) if due_ms <= self._now_ms else ()


def overdue_of(document: bytes, now_ms: int) -> Overdue | None:
    """By a document as a server told it; None where it is newer than we can read: then nothing is told of it."""
    try:
        return Overdue(decode_document(document), now_ms)
    except DocumentInvalid:
        return None
