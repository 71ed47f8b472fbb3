"""The JSON messages of one person's export, as frozen structs; proto/consentledger/v1/export.proto has the same."""

from __future__ import annotations

from ledger.core.event import Event
from ledger.erasing.messages import ErasureStatus
from ledger.messages import Consent, Message, Receipt
from ledger.requests.messages import RequestStatus


class PersonEvent(Message, frozen=True):
    """One event of a person, as stored, with its receipt; the proof is in there once a checkpoint covers the entry."""

    seq: int
    recorded_at: str
    event: Event
    receipt: Receipt


class PersonExport(Message, frozen=True):
    """Everything that is held of one visitor (schemas/person-export.json), as of the position of `consent`.

    `requests` of the register that were the visitor's; `restrictions` of use that were ordered, and perhaps lifted;
    `events` are the visitor's own and what it chose for accounts, the oldest first.
    """

    format: str
    site: str
    visitor: str
    exported_at: str
    log_id: str
    log_vkey: str
    consent: Consent
    requests: list[RequestStatus] = []  # noqa: RUF012 - a Struct copies it
    restrictions: list[ErasureStatus] = []  # noqa: RUF012 - a Struct copies it
    events: list[PersonEvent] = []  # noqa: RUF012 - a Struct copies it
