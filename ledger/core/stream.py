"""What a site's stream holds: its name, one CloudEvents message for each entry, and the order of publishing them.

Pure. The stream's sequence is the ledger's, so an entry has exactly one message; consumers are told in asyncapi.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ledger.core import ed25519
from ledger.core.encoding import decode_base64, encode_base64, encode_time
from ledger.core.entry import Entry, Kind, core_bytes, decode, decode_seqs
from ledger.core.errors import BadSignature, Malformed
from ledger.core.event import Type as EventType

SUBJECTS: dict[EventType, str] = {
    "consent.given": "given",
    "consent.refused": "refused",
    "consent.withdrawn": "withdrawn",
    "consent.dismissed": "dismissed",
    "consent.expired": "expired",
    "consent.invalidated": "invalidated",
    "notice.seen": "seen",
    "account.linked": "linked",
    "account.unlinked": "unlinked",
}
"""The last part of the subject of an event that has its opening."""

SCHEMA = "urn:consentledger:v1:"
JSON = "application/json"
OCTETS = "application/octet-stream"
MAX_HEADERS_BYTES = 60 * 1024
"""Of the server's 64 KB. The largest erasure entry, 4,096 seqs, is 44 KB in base64."""
HEADERS_ROOM_BYTES = 2 * 1024
"""More than the headers take beside a large `ce-entry`."""
KIND_AT = 49
"""Where an entry has its kind (SPEC.md, "Entries")."""


class Row(NamedTuple):
    """An entry as the ledger holds it at one moment. `document` is set for policies alone."""

    seq: int
    entry: bytes
    salt: bytes | None
    payload: bytes | None
    erased: bool
    document: bytes | None = None


class Message(NamedTuple):
    subject: str
    headers: tuple[tuple[str, str], ...]
    data: bytes


class Names(NamedTuple):
    """How a site is called in NATS. A site holds no underscore, so two sites never share a name."""

    stream: str
    prefix: str

    @property
    def subjects(self) -> str:
        return f"{self.prefix}.>"

    @property
    def tombstones(self) -> str:
        return f"{self.prefix}.erased"


class Plan(NamedTuple):
    """What can be published at once, in atomic batches; then, if set, the messages to delete before going on."""

    batches: list[list[Message]]
    forget: tuple[int, ...]
    """What the next entry, an erasure, names. Empty: nothing has to be deleted first."""


class _Typed(msgspec.Struct):
    type: EventType


_type_of = msgspec.json.Decoder(_Typed)


def names(site: str) -> Names:
    token = site.replace(".", "_")
    return Names(f"consent-v1-{token}", f"consent.v1.{token}")


def message(row: Row, site: str, origin: str, max_payload: int) -> Message:
    """The one message of an entry. `Malformed` if the row cannot be one of a sound ledger.

    The data is what the entry stands for: an event's or erasure's exact payload, a policy's document; a key entry,
    which stands for nothing else, is its own data. A document beyond `max_payload` bytes is named by `ce-dataref`.
    """
    entry = decode(row.entry)
    if entry.seq != row.seq:
        raise Malformed(f"the row of seq {row.seq} holds entry {entry.seq}")
    type_, subject, schema, media, data, extra = _content(row, entry, max_payload)
    prefix = names(site).prefix
    headers = (
        ("ce-specversion", "1.0"),
        ("ce-id", f"{site}:{row.seq}"),
        ("ce-source", origin),
        ("ce-type", type_),
        ("ce-time", encode_time(entry.ms)),
        ("ce-sequence", f"{row.seq:020d}"),
        ("ce-datacontenttype", media),
        ("ce-dataschema", SCHEMA + schema),
        ("ce-entry", encode_base64(row.entry)),
        *extra,
    )
    return Message(f"{prefix}.{subject}", headers, data)


Content = tuple[str, str, str, str, bytes, tuple[tuple[str, str], ...]]


def _content(row: Row, entry: Entry, max_payload: int) -> Content:
    """Type, end of the subject, schema, media type, data and the headers that only this kind has."""
    if entry.kind in (Kind.EVENT, Kind.ERASURE) and not row.erased:
        if row.salt is None or row.payload is None:
            raise Malformed(f"the opening of entry {row.seq} is missing, and no erasure names it")
        salt = (("ce-salt", encode_base64(row.salt)),)
        if entry.kind == Kind.ERASURE:
            return "consent.erasure", "erasure", "erasure-record", JSON, row.payload, salt
        typed = event_type(row.payload)
        return typed, SUBJECTS[typed], "event", JSON, row.payload, salt
    if entry.kind == Kind.EVENT:
        return "consent.erased", "erased", "entry", OCTETS, b"", ()
    if entry.kind == Kind.KEY:
        return "consent.key", "key", "entry", OCTETS, row.entry, ()
    if entry.kind == Kind.POLICY:
        if row.document is None:
            raise Malformed(f"the document of policy entry {row.seq} is missing")
        if len(row.document) > max_payload - HEADERS_ROOM_BYTES:
            where = (("ce-dataref", f"/documents/{entry.public[:32].hex()}"),)
            return "consent.policy", "policy", "site-document", JSON, b"", where
        return "consent.policy", "policy", "site-document", JSON, row.document, ()
    raise Malformed(f"entry {row.seq} has kind {entry.kind}, which is not published")


def event_type(payload: bytes) -> EventType:
    try:
        return _type_of.decode(payload).type
    except msgspec.DecodeError as error:
        raise Malformed("an event's payload has no known type") from error


def plan(
    rows: Sequence[Row], site: str, origin: str, *, forgotten: int, max_payload: int, max_messages: int, max_bytes: int
) -> Plan:
    """Cut ascending rows into batches, up to the first erasure whose messages are still to be deleted.

    `forgotten` is the seq of the erasure entry whose messages are gone (-1: none). An erasure stands first in its
    batch: everything before it is in the stream when its messages are deleted, so none can come after.
    """
    batches: list[list[Message]] = []
    batch: list[Message] = []
    size = 0
    for row in rows:
        erasure = row.entry[KIND_AT] == Kind.ERASURE
        if erasure and row.seq != forgotten:
            if batch:
                batches.append(batch)
            return Plan(batches, decode_seqs(decode(row.entry).public))
        built = message(row, site, origin, max_payload)
        bytes_ = len(built.data) + len(row.entry) * 4 // 3 + HEADERS_ROOM_BYTES
        if batch and (erasure or len(batch) == max_messages or size + bytes_ > max_bytes):
            batches.append(batch)
            batch, size = [], 0
        batch.append(built)
        size += bytes_
    if batch:
        batches.append(batch)
    return Plan(batches, ())


def sample(first: int, last: int, count: int) -> list[int]:
    """Up to `count` seqs from first to last inclusive, evenly spaced, both ends among them; all if they are few."""
    span = last - first
    if span < count:
        return list(range(first, last + 1))
    return [first + span * i // (count - 1) for i in range(count)]


def published_entry(header: str | None) -> bytes | None:
    """The entry in a stored message's `ce-entry`, None if it holds none."""
    if header is None:
        return None
    try:
        data = decode_base64(header)
        decode(data)
    except Malformed:
        return None
    return data


def is_signed_by(data: bytes, log_id: bytes, public: bytes) -> bool:
    """Whether an entry (past genesis) was made for this log by the holder of this key."""
    entry = decode(data)
    try:
        ed25519.verify(public, core_bytes(log_id, entry.kind, entry.commit, entry.public), entry.signature)
    except BadSignature:
        return False
    return True
