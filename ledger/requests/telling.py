"""What is told of a request: its row, its steps, and what is sealed of it, as a message. Nothing is asked here."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ledger.core.encoding import encode_time
from ledger.core.subject_request import Details, decode_details
from ledger.requests.messages import RequestStatus, RequestStep
from ledger.site import Site
from ledger.store.requests import RequestRow, StepRow

DETAILS, INSTRUCTION = "request.details", "request.instruction"
"""Names of the sealed columns."""


def binding(request_id: str) -> bytes:
    """What the sealed columns of a request are bound to."""
    return UUID(request_id).bytes


def details_of(site: Site, row: RequestRow) -> Details | None:
    """What is sealed of a request; None once it was forgotten."""
    if row.details is None:
        return None
    return decode_details(site.vault.open(DETAILS, binding(row.id), row.details))


def told(site: Site, row: RequestRow, steps: Sequence[StepRow], now_ms: int, *, to_visitor: bool) -> RequestStatus:
    """A request as it stands. `to_visitor` leaves out what only operators are told."""
    details = None if to_visitor else details_of(site, row)
    instruction = None
    if row.instruction is not None and not to_visitor:
        instruction = site.vault.open(INSTRUCTION, binding(row.id), row.instruction).decode("ascii")
    open_, dates = row.closed_ms is None, row.dates
    extendable = not to_visitor and open_ and dates.extended_from_ms is None and now_ms <= dates.due_ms
    return RequestStatus(
        site=site.site,
        id=row.id,
        kind=row.kind,
        state=row.state,
        received_at=encode_time(row.received_ms),
        due_at=encode_time(row.due_ms),
        evidence=row.evidence.hex(),
        steps=[_step(one, to_visitor=to_visitor) for one in steps],
        late=open_ and row.due_ms < now_ms,
        extended_from=_time(row.extended_from_ms),
        closed_at=_time(row.closed_ms),
        forgotten=row.details is None,
        visitor=None if details is None else details.visitor,
        account=None if details is None else details.account,
        contact=None if details is None else details.contact,
        region=None if details is None else details.region,
        instruction=instruction,
        extendable_to=_time(row.extendable_to_ms) if extendable else None,
    )


def _time(ms: int | None) -> str | None:
    return None if ms is None else encode_time(ms)


def _step(row: StepRow, *, to_visitor: bool) -> RequestStep:
    act = None if to_visitor else row.act
    return RequestStep(row.step, row.state, row.party, encode_time(row.taken_ms), row.reason, act)
