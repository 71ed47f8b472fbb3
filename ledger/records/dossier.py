"""What a record of consent is made of: one stored event, the policy it was made under, and what followed.

Everything here was looked up by the caller; the renderings ask nobody. What they have in common is in records/facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger.core.document import SiteDocument
from ledger.core.event import Event
from ledger.messages import PurposeDecision, Receipt

After = Mapping[str, PurposeDecision]
"""What the ledger answered for each purpose right after an entry."""


class Shown(NamedTuple):
    """A published document that a visitor was shown, byte for byte."""

    sha256: str
    media_type: str
    body: bytes


class Moment(NamedTuple):
    """One event of the visitor's history. `own`: made in this browser, not in another one of the same account."""

    seq: int
    recorded_ms: int
    event: Event
    own: bool
    after: After


class Dossier(NamedTuple):
    """`document` is the policy that the event cites, or else the one in force when it was recorded (`cited` tells
    which), None where there was none; `in_force` is the version in force then. `base_url` is this server's address
    without a slash at its end, `generated_ms` the time of rendering. The last members are for people: what was shown
    with its pictures, the visitor's events in the order of the log, how many older ones are left out, and the entries
    to which these events point though they were erased.
    """

    receipt: Receipt
    event: Event
    recorded_ms: int
    document: SiteDocument | None
    document_sha256: str
    cited: bool
    in_force: str | None
    after: After
    log_vkey: str
    base_url: str
    generated_ms: int
    notice: Shown | None = None
    pictures: tuple[Shown, ...] = ()
    timeline: tuple[Moment, ...] = ()
    left_out: int = 0
    erased: tuple[int, ...] = ()
