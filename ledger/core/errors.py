"""Every error this project raises on purpose, on one screen.

Untrusted input raises nothing but these. Misuse of an API by our own code raises RuntimeError, TypeError or ValueError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.core.place import Path, pointer, readable

if TYPE_CHECKING:
    from ledger.core.witnessing import Dispute


class LedgerError(Exception):
    """Base of everything below. `str(error)` is one sentence that tells a person what to do."""


class Malformed(LedgerError):
    """Bytes that are not what they claim to be: an entry, a note, a checkpoint, a tile, a key, a bundle file."""


class SealBroken(LedgerError):
    """Sealed bytes that their key does not open: altered, cut off, moved from elsewhere, or under another secret."""


class BadSignature(LedgerError):
    """A signature that the named key did not make."""


class KeyRefused(LedgerError):
    """A key, or an act upon keys, that audit rule 8 forbids."""


class ProofInvalid(LedgerError):
    """An inclusion or consistency proof that does not lead to the root."""


class AuditFault(LedgerError):
    """One broken audit rule (1 to 14), at one place. `seq` is None where no single entry is to blame."""

    def __init__(self, rule: int, detail: str, seq: int | None = None) -> None:
        self.rule, self.detail, self.seq = rule, detail, seq
        where = "" if seq is None else f" at entry {seq}"
        super().__init__(f"rule {rule}{where}: {detail}")


class InputRefused(LedgerError):
    """Input that a caller has to change. `kind` is a stable slug; `pointer` is an RFC 6901 JSON pointer or None."""

    def __init__(self, kind: str, detail: str, pointer: str | None = None) -> None:
        self.kind, self.detail, self.pointer = kind, detail, pointer
        super().__init__(detail)


class DocumentInvalid(LedgerError):
    """A site document that cannot be used, and where it is wrong, for a person (`path`) and for HTTP (`pointer`)."""

    def __init__(self, place: Path, detail: str) -> None:
        self.place, self.detail = place, detail
        self.path, self.pointer = readable(place), pointer(place)
        super().__init__(f"{self.path}: {detail}" if place else detail)


class RowRefused(LedgerError):
    """A row of another tool's export that becomes no event. `kind` is a stable slug; the text holds nothing of it."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind, self.detail = kind, detail
        super().__init__(detail)


class IdConflict(LedgerError):
    """The event id is taken by an event with other content."""


class VersionTaken(LedgerError):
    """The version of a policy is published with other content."""


class Erased(LedgerError):
    """The event existed and was erased on request."""


class NotFound(LedgerError):
    """No such site, event, document or version."""


class Unavailable(LedgerError):
    """Try again later: `retry_after` is in seconds; `reason` is a stable slug."""

    def __init__(self, reason: str, detail: str, retry_after: int = 1) -> None:
        self.reason, self.detail, self.retry_after = reason, detail, retry_after
        super().__init__(detail)


class TooMany(LedgerError):
    """One caller asks for more than its share: `retry_after` is in seconds; `kind` is a stable slug."""

    def __init__(self, kind: str, detail: str, retry_after: int) -> None:
        self.kind, self.detail, self.retry_after = kind, detail, retry_after
        super().__init__(detail)


class WitnessUnreachable(LedgerError):
    """No cosignature this time. `permanent`: the witness answered, and will so again until a person acts."""

    def __init__(self, detail: str, *, permanent: bool = False) -> None:
        self.permanent = permanent
        super().__init__(detail)


class WitnessAhead(LedgerError):
    """A witness has cosigned a log of `size` entries, more than were offered to it."""

    def __init__(self, size: int, dispute: Dispute) -> None:
        self.size, self.evidence = size, dispute
        super().__init__(
            f"{dispute.witness} knows this log with {size} entries, but {dispute.offered.size} are offered"
        )


class WitnessConflict(LedgerError):
    """A witness finds that what is offered does not continue what it cosigned."""

    def __init__(self, dispute: Dispute) -> None:
        self.evidence = dispute
        super().__init__(
            f"{dispute.witness} does not find the checkpoint of size {dispute.offered.size} consistent with the one of "
            f"size {dispute.old} that it cosigned"
        )


class LogUnreachable(LedgerError):
    """A log's server did not answer, or not as one: this tells nothing about the log."""


class LogGuarded(LedgerError):
    """A log's server wants a key for this, or another key."""


class ConfigInvalid(LedgerError):
    """The installation is not set up so that the command can run."""
