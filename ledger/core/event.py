"""Events: what a client sends, what is stored as payload, and the erasure record (SPEC.md, "Payloads").

`parse_input` reads untrusted JSON; `encode_payload` and `decode_payload` are the one encoding of what is stored.
Whether an event is admitted under a policy is decided in core/admission.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
import orjson
from msgspec import Meta, Struct

from ledger.core import forms
from ledger.core.encoding import decode_json, decode_time, encode_time
from ledger.core.errors import InputRefused, Malformed

MAX_PURPOSES = 64
MAX_PAYLOAD_BYTES = 16_384
ANY_PURPOSE = "*"

GRANTED: Literal["granted"] = "granted"
DENIED: Literal["denied"] = "denied"

Answer = Literal["granted", "denied"]
InputType = Literal[
    "consent.given",
    "consent.refused",
    "consent.withdrawn",
    "consent.dismissed",
    "notice.seen",
    "account.linked",
    "account.unlinked",
]
"""What a client may say. The first three hold decisions, `dismissed` and `seen` none, the last two an account."""

Type = Literal[InputType, "consent.expired", "consent.invalidated"]
"""What is stored. The last two are the ledger's own: they tell consumers of a lapse, and decide nothing."""

EVENT_TYPES: tuple[str, ...] = (*get_args(InputType), "consent.expired", "consent.invalidated")

Action = Literal[
    "accept_all",
    "only_necessary",
    "customize",
    "settings",
    "withdraw",
    "dismiss",
    "gpc",
    "api",
    "import",
    "guardian",
]
Authentication = Literal["publishable", "secret", "ledger"]
"""Which key an event came with: one that every page shows, a backend's, or none (the ledger's own event)."""

Scope = Literal["device", "account"]
"""How far a choice reaches, as the visitor was told beforehand: this browser, or every browser of the account."""

Component = Action
"""The words are one enumeration: an action says what the visitor did, a component what control it was done with."""

PurposeId = Annotated[str, forms.PURPOSE.meta]
VisitorId = Annotated[str, forms.VISITOR.meta]
EventId = Annotated[str, forms.UUID.meta]
Language = Annotated[str, forms.LANGUAGE.meta]
Region = Annotated[str, forms.REGION.meta]
Version = Annotated[str, forms.VERSION.meta]
CitedVersion = Annotated[str, Meta(min_length=1, max_length=64)]
DocumentHash = Annotated[str, forms.HASH.meta]
AccountId = Annotated[str, forms.ACCOUNT.meta]
"""An account as a site's backend names it; stored is a keyed hash of it, `AccountHash`."""
AccountHash = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
SignalText = Annotated[str, forms.SIGNAL.meta]
"""An IAB string, kept as it came and never read."""
Original = Annotated[str, Meta(min_length=1, max_length=8192)]
"""The row of another system's export, as it stood there."""
Decisions = Annotated[dict[PurposeId, Answer], Meta(max_length=MAX_PURPOSES)]
Lapsed = Annotated[dict[PurposeId, Annotated[int, Meta(ge=1, lt=2**53)]], Meta(max_length=MAX_PURPOSES)]
Time = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")]
AnyTime = Annotated[str, forms.ANY_TIME.meta]
ClockTime = Annotated[str, forms.CLOCK_TIME.meta]
"""What a visitor's clock may say: also a leap second, a year beyond 9999, a missing offset. Such a time is none of the
calendar; a denial is recorded without it, a grant is refused."""


class EventInput(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """An event as a client posts it. Times are RFC 3339; everything else as in proto/openapi.yaml."""

    type: InputType
    visitor: VisitorId
    decisions: Decisions = {}
    action: Action | None = None
    id: EventId | None = None
    policy_version: CitedVersion | None = None
    language: Language | None = None
    component: Component | None = None
    shown: DocumentHash | None = None
    region: Region | None = None
    gpc: bool = False
    tc_string: SignalText | None = None
    gpp_string: SignalText | None = None
    conditional: bool = False
    scope: Scope = "device"
    account: AccountId | None = None
    original: Original | None = None
    occurred_at: ClockTime | None = None
    sent_at: ClockTime | None = None


class Event(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A stored event. `citedPolicyVersion`, `citedShown`: what was cited beside no grant, and was never published.

    `conditional`: the choice was the price of access (a wall). `account`: the account that is linked, or for whose
    every browser the choice was made. `original`: the row that was imported. `lapsed`: the grants that ended, by seq.
    """

    id: EventId
    site: str
    type: Type
    visitor: VisitorId
    decisions: Decisions = {}
    action: Action | None = None
    authentication: Authentication = "publishable"
    policy_version: Version | None = None
    cited_policy_version: CitedVersion | None = None
    language: Language | None = None
    component: Component | None = None
    shown: DocumentHash | None = None
    cited_shown: DocumentHash | None = None
    region: Region | None = None
    gpc: bool = False
    tc_string: SignalText | None = None
    gpp_string: SignalText | None = None
    conditional: bool = False
    account: AccountHash | None = None
    original: Original | None = None
    lapsed: Lapsed = {}
    occurred_at: Time | None = None
    sent_at: Time | None = None


class ErasureRecord(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Why events were erased; free of personal data and never erased itself. `evidence` is a hash over the hashes of
    the requests, in hex; `instruction` is the administrative act (core/admin_act.ActName)."""

    site: str
    reason: Literal["subject_request", "retention", "controller_instruction", "legal_order", "capture_error"]
    requested_at: Time
    evidence: str
    instruction: str


Payload = TypeVar("Payload", Event, ErasureRecord)


def encode_payload(payload: Event | ErasureRecord) -> bytes:
    """The exact bytes that are committed to and stored: the encoder's form of a struct is the one encoding."""
    return _sorted_encoder.encode(payload)


_content_encoder = msgspec.json.Encoder(order="deterministic")


def encode_content(event: EventInput) -> bytes:
    """What a client said, for telling a retry from a conflict: without `sentAt`, which belongs to the attempt, and the
    id, by which the two are found: who was given one by the server may name it in a retry."""
    return _content_encoder.encode(msgspec.structs.replace(event, sent_at=None, id=None))


DECIDING = frozenset({"consent.given", "consent.refused", "consent.withdrawn"})
LINKING = frozenset({"account.linked", "account.unlinked"})
_LAPSING = frozenset({"consent.expired", "consent.invalidated"})


def is_formed(event: Event) -> bool:
    """Whether an event has the members that its type needs and none that another type needs (SPEC.md section 7)."""
    deciding = event.type in DECIDING
    return (
        bool(event.decisions) == deciding
        and (event.action is not None) == (deciding or event.type == "consent.dismissed")
        and (event.account is not None or event.type not in LINKING)
        and (event.account is None or deciding or event.type in LINKING or event.type in _LAPSING)
        and bool(event.lapsed) == (event.type in _LAPSING) == (event.authentication == "ledger")
    )


_event_decoder = msgspec.json.Decoder(Event)
_sorted_encoder = msgspec.json.Encoder(order="sorted")


def decode_event(data: bytes) -> Event:
    """`decode_payload` of an event, three times faster: audits and projections read millions.

    An `Event` that encodes to the very bytes it was read from was in the one encoding: no doubled, unknown or
    defaulted member and no other spelling survives that.
    """
    try:
        event = _event_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return decode_payload(data, Event)  # which says what is wrong
    if _sorted_encoder.encode(event) != data or not event.site or not is_formed(event):
        return decode_payload(data, Event)
    for time in (event.occurred_at, event.sent_at):
        if time is not None:
            decode_time(time)
    return event


def decode_payload(data: bytes, kind: type[Payload]) -> Payload:
    """Parse stored bytes strictly (audit rule 10); `Malformed` if they are not in the one encoding."""
    try:
        payload = msgspec.convert(decode_json(data), kind, strict=True)
    except msgspec.ValidationError as error:
        raise Malformed(f"the payload does not fit its schema: {error}") from error
    if isinstance(payload, Event) and not is_formed(payload):
        raise Malformed(f"a payload of type {payload.type} has other members")
    times = (payload.occurred_at, payload.sent_at) if isinstance(payload, Event) else (payload.requested_at,)
    for time in times:
        if time is not None:
            decode_time(time)
    return payload


def parse_json(body: bytes) -> Any:
    """Untrusted JSON. Doubled members, lone surrogates and excessive nesting are `InputRefused`, never a crash."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputRefused("invalid-json", f"The body is not valid UTF-8 JSON: {error.msg}.") from error
    # A doubled member is lost by the parser, so compact JSON that comes back the same held none.
    if orjson.dumps(value) != body:
        _refuse_doubled_members(body)
    return value


def _refuse_doubled_members(body: bytes) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for name, value in pairs:
            if name in members:
                raise InputRefused(
                    "duplicate-member", f"The member {name[:64]!r} appears twice in one object; send it once."
                )
            members[name] = value
        return members

    try:
        json.loads(body, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputRefused("invalid-json", "The body is not valid JSON, or nested too deeply.") from error


Message = TypeVar("Message")


def convert(value: Any, kind: type[Message]) -> Message:
    """Untrusted, parsed JSON as a struct; a misfit is `InputRefused` with the JSON pointer of the place."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `")
        path = path.rstrip("`")
        raise InputRefused("invalid-event", f"{forms.said(text, _name(path))}.", _pointer(path, value)) from error


def _name(path: str) -> str:
    """What a person calls a place that msgspec names `$.a[0]`, or `key` in `$.a`: its last member."""
    key, _, inside = path.rpartition("` in `")
    name = inside.removesuffix("[...]").rpartition(".")[2].strip("$") or "it"
    return f"a name in {name}" if key else name


def _pointer(path: str, value: Any) -> str:
    """msgspec's `$.a[0]` as an RFC 6901 pointer; for a map's entry msgspec writes `[...]`, which ends the pointer."""
    pointer = ""
    for member, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path.partition("[...]")[0]):
        pointer += "/" + (member or index).replace("~", "~0").replace("/", "~1")
    return pointer


def parse_input(body: bytes) -> EventInput:
    """One event as a client posts it."""
    return convert(parse_json(body), EventInput)


def matches(kind: Any, text: str) -> bool:
    """Whether the text is one of these (`VisitorId`, `Region`), by the same pattern as in a body."""
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True


def parse_time(text: str, pointer: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 time, cut to the millisecond."""
    try:
        moment = datetime.fromisoformat(text.upper())
        offset = moment.utcoffset()
        whole = moment.replace(tzinfo=None) - datetime(1970, 1, 1)
    except ValueError as error:
        raise InputRefused("invalid-event", f"{text!r} is not a time of the calendar (RFC 3339).", pointer) from error
    if offset is None:
        raise InputRefused("invalid-event", f"{text!r} lacks its offset: end it with Z.", pointer)
    milliseconds = (whole - offset) // (datetime.resolution * 1000)
    return min(max(milliseconds, MIN_TIME_MS), MAX_TIME_MS)


MIN_TIME_MS = -62_135_596_800_000
"""0001-01-01T00:00:00.000Z"""
MAX_TIME_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z"""


def normal_time(text: str | None, pointer: str) -> str | None:
    """The one encoding of a client's time."""
    if text is None or _is_normal(text):
        return text
    return encode_time(parse_time(text, pointer))


def _is_normal(text: str) -> bool:
    """What browsers send is in the one encoding already, unless it is not in the calendar."""
    if len(text) != 24 or text[10] != "T" or text[23] != "Z" or text[11:13] == "24":
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
