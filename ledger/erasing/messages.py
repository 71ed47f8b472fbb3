"""The JSON messages about erasures, as frozen structs; proto/consentledger/v1/erasure.proto has the same."""

from __future__ import annotations

from typing import Literal

from ledger.core.event import AccountId, DocumentHash, EventId, VisitorId
from ledger.core.subject_request import Reference
from ledger.messages import Input, Message

Level = Literal["erase", "hold", "restrict"]
"""Erase; erase, but hold the openings as proof for a term; or keep everything and use nothing."""
Reason = Literal["subject_request", "retention", "controller_instruction", "legal_order", "capture_error"]
State = Literal["pending", "erased", "restricted", "lifted", "superseded"]
"""`superseded`: a restriction that an erasure took the place of."""


class ErasureInput(Input, frozen=True):
    """An order about one visitor or one account. `instruction`: where the instruction is kept, a reference, for the act
    that holds it is never erased. `evidence`: SHA-256 (hex) of the request as you keep it. `holdFor`: ISO 8601, with
    the level `hold`. With an `id` the order is made once, however often it is sent; another under it is refused.
    `withBrowsers`: with an account, which is not restricted, every browser that is or was linked to it has an order of
    its own made with this one, under the same instruction; those that are restricted are left.
    """

    reason: Reason
    instruction: Reference
    visitor: VisitorId | None = None
    account: AccountId | None = None
    level: Level = "erase"
    evidence: DocumentHash | None = None
    id: EventId | None = None
    hold_for: str | None = None
    with_browsers: bool = False


class ErasureLift(Input, frozen=True):
    """The end of a restriction."""

    instruction: Reference
    evidence: DocumentHash | None = None


class ErasureEntry(Message, frozen=True):
    """An erasure entry of the log, and how many of the events that it names went for this order."""

    seq: int
    position: str
    recorded_at: str
    events: int


class ErasureKept(Message, frozen=True):
    """An event that stays until then, for the acceptance of these purposes has to be kept."""

    seq: int
    until: str
    purposes: list[str]


class ErasureMark(Message, frozen=True):
    """A denial that outlives the erasure: of one purpose, or of all (`*`)."""

    purpose: str
    until: str


class ErasureStatus(Message, frozen=True):
    """An order, and how far it is. `evidence` is what the erasures' records were made of; `act` the position of the
    administrative act. What stays is told of the person, whichever order left it: `kept`; `held`, how many openings are
    held as proof, until `heldUntil`; `marks`; `blockedUntil`: until then nothing is recorded under the visitor's id,
    absent while the work is to be done, or if nothing is blocked any more. `restricted`: a pending order waits for so
    many people, whose records are left until their restriction is lifted. Of an account's: `browsers` are the orders
    that were made with it, `browsersLeft` is how many browsers had to do with it and had no order: their own records
    stay.
    """

    site: str
    id: str
    level: Level
    reason: Reason
    state: State
    requested_at: str
    due_at: str
    evidence: str
    act: str
    ended_at: str | None = None
    events: int = 0
    entries: list[ErasureEntry] = []  # noqa: RUF012 - a Struct copies it
    kept: list[ErasureKept] = []  # noqa: RUF012 - a Struct copies it
    held: int = 0
    held_until: str | None = None
    marks: list[ErasureMark] = []  # noqa: RUF012 - a Struct copies it
    blocked_until: str | None = None
    restricted: int = 0
    browsers: list[str] = []  # noqa: RUF012 - a Struct copies it
    browsers_left: int = 0


class HeldOpening(Message, frozen=True):
    """An opening that was held as proof: with its entry it shows what was recorded. Bytes in base64."""

    seq: int
    entry: str
    salt: str
    payload: str
