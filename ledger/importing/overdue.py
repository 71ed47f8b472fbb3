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
        self._known: dict[object, tuple[str, str]] = {}
        """By all that counts beside the time: up to when an act is due, and from when on it is not. (Times of one form,
        which sort as texts.)"""

    def purposes(self, event: EventInput) -> tuple[str, ...]:
        """The purposes of an imported event whose record is due already; none if it is not."""
        if not self._some or event.occurred_at is None:
            return ()
        answers = tuple(sorted(event.decisions.items()))
        alike = (event.type, answers, event.policy_version is None, event.region, event.gpc)
        due, kept = self._known.get(alike, ("", "~"))
        if due < event.occurred_at < kept:  # an act is never due before an older one that is like it
            if self._is_due(event):
                due = event.occurred_at
            else:
                kept = event.occurred_at
            self._known[alike] = due, kept
        return tuple(name for name, _ in answers) if event.occurred_at <= due else ()

    def _is_due(self, event: EventInput) -> bool:
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
        return self._terms.span(recorded, Ends(self._terms, [recorded])).due_ms <= self._now_ms


def overdue_of(document: bytes, now_ms: int) -> Overdue | None:
    """By a document as a server told it; None where it is newer than we can read: then nothing is told of it."""
    try:
        return Overdue(decode_document(document), now_ms)
    except DocumentInvalid:
        return None
