"""The JSON messages about requests, as frozen structs; proto/consentledger/v1/request.proto has the same."""

from __future__ import annotations

from typing import Annotated, Literal

from ledger.core import forms
from ledger.core.event import AccountId, AnyTime, EventId, Language, Region, VisitorId
from ledger.core.subject_request import Kind, OperatorStep, Party, Reason, Reference, State, Step
from ledger.messages import Input, Message

KeyText = Annotated[str, forms.KEY.meta]
SignatureText = Annotated[str, forms.SIGNATURE.meta]
NonceText = Annotated[str, forms.NONCE.meta]
ErasureLevel = Literal["erase", "hold", "restrict"]


class RequestInput(Input, frozen=True):
    """What a visitor asks for: a `kind` of request that is to be made, or the `id` of one that was made."""

    visitor: VisitorId
    kind: Kind | None = None
    id: EventId | None = None


class RequestChallenge(Message, frozen=True):
    """What the browser has to sign (SPEC.md, section 20), until when. Nothing is kept of it."""

    id: str
    origin: str
    nonce: str
    expires_at: str


class RequestProof(Input, frozen=True):
    """The answer to a challenge: the Ed25519 public key whose hash the visitor id is, and the signature, in base64."""

    nonce: NonceText
    public_key: KeyText
    signature: SignatureText


class RequestRegistration(Input, frozen=True):
    """A request that came otherwise, as by letter. `identified`: who asks was found out. With an `id` it is entered
    once, however often it is sent."""

    kind: Kind
    visitor: VisitorId | None = None
    account: AccountId | None = None
    contact: Reference | None = None
    region: Region | None = None
    received_at: AnyTime | None = None
    identified: bool = False
    id: EventId | None = None


class RequestStepInput(Input, frozen=True):
    """A step that is to be taken. `instruction` goes with `extend`, `instruct` and `refuse`, `reason` with `extend` and
    `refuse`, `level` with the instruction to erase, `until` with `extend`: the latest moment there is, if left out."""

    step: OperatorStep
    instruction: Reference | None = None
    reason: Reason | None = None
    level: ErasureLevel = "erase"
    until: AnyTime | None = None


class RequestStep(Message, frozen=True):
    """A step that was taken. `act`: the position of the administrative act, told to operators alone."""

    step: Step
    state: State
    by: Party
    at: str
    reason: Reason | None = None
    act: str | None = None


class RequestStatus(Message, frozen=True):
    """A request as it stands. What says who asked is told to operators alone, and is absent once it was forgotten.

    `evidence`: the hash that fits what was sealed of it alone (hex). `late`: open, and beyond its deadline.
    `extended_from`: when it was due before it was put off; `extendable_to`: how far that may be done now.
    """

    site: str
    id: str
    kind: Kind
    state: State
    received_at: str
    due_at: str
    evidence: str
    steps: list[RequestStep] = []  # noqa: RUF012 - a Struct copies it
    late: bool = False
    closed_at: str | None = None
    forgotten: bool = False
    visitor: str | None = None
    account: str | None = None
    contact: str | None = None
    region: str | None = None
    instruction: str | None = None
    extended_from: str | None = None
    extendable_to: str | None = None


class RequestProven(Message, frozen=True):
    """The request of a visitor who proved to be it. The token reads it until then: header Consent-Request-Token."""

    request: RequestStatus
    token: str
    token_expires_at: str


class RequestList(Message, frozen=True):
    """A page of a site's requests, the newest first. `next` is the cursor of the next page."""

    site: str
    requests: list[RequestStatus]
    next: str | None = None


class RequestDownload(Input, frozen=True):
    """As what the visitor wants the data."""

    format: Literal["json", "html"] = "json"
    language: Language | None = None


class RequestNotice(Message, frozen=True):
    """What the controller's webhook is told of a request. No visitor id: `contact` leads to the controller's own."""

    id: str
    event: Literal["request.forwarded"]
    site: str
    request: str
    kind: Kind
    received_at: str
    due_at: str
    evidence: str
    contact: str | None = None
    region: str | None = None
