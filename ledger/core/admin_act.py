"""Administrative acts: the events of a site's administrative log (SPEC.md, "Administrative acts"), and their encoding.

Who did what, in which role, under which instruction and when. It says what an act may hold, and no more: writing one is
ledger/administration, and whether erasures match their acts is core/admin_match.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

from ledger.core import forms
from ledger.core.encoding import decode_decimal, decode_json, decode_time
from ledger.core.errors import ConfigInvalid, Malformed
from ledger.core.event import Event, EventId, Time, decode_event

ADMIN_SUFFIX = ".admin-log"
ADMIN_TYPE: Literal["admin.act"] = "admin.act"
MAX_DETAILS = 16
MAX_ERASURES_NAMED = 100
"""Ids that `erasures` can name: more people make a second batch, under an act of its own."""

ActWord = Literal[
    "site.added",
    "site.closed",
    "key.created",
    "key.revoked",
    "key.introduced",
    "key.retired",
    "key.rotated",
    "master.rotated",
    "policy.published",
    "document.uploaded",
    "cookies.reviewed",
    "erasure.ordered",
    "erasure.executed",
    "erasure.lifted",
    "erasure.confirmed",
    "held.opened",
    "held.released",
    "retention.run",
    "request.registered",
    "request.forwarded",
    "request.extended",
    "request.instructed",
    "request.answered",
    "export.made",
    "export.downloaded",
    "backup.made",
    "backup.restored",
    "log.recovered",
]
"""What was done. `key.created` and `key.revoked` are API keys; `introduced`, `retired`, `rotated` are signing keys."""

Role = Literal["operator", "controller", "api_key", "visitor", "ledger"]
"""In what capacity: at the command line of the installation; for the controller; with an API key of the site; as the
person concerned; or the ledger itself, on a schedule or carrying out what was ordered."""

Flag = Literal["infringes_law", "infringes_rights", "no_legal_basis", "exceeds_contract", "unclear"]
"""Why an instruction is believed unlawful: it was followed, refused or asked about, and this says what was wrong."""

Actor = Annotated[str, forms.ACTOR.meta]
InstructionText = Annotated[str, forms.INSTRUCTION.meta]
Address = Annotated[str, Meta(pattern=r"^[0-9a-f.:]{2,45}\Z")]
DetailName = Annotated[str, Meta(pattern=r"^[a-z][A-Za-z0-9]{0,31}\Z")]
DetailText = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,4096}\Z")]
Details = Annotated[dict[DetailName, DetailText], Meta(max_length=MAX_DETAILS)]


class AdminAct(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """An act as stored. `site` is the log's own, `<site>.admin-log`; `address` is where the actor was."""

    id: EventId
    site: str
    act: ActWord
    actor: Actor
    role: Role
    occurred_at: Time
    type: Literal["admin.act"]
    instruction: InstructionText | None = None
    details: Details = {}
    address: Address | None = None
    flagged: Flag | None = None


AUTHORISING = frozenset({"erasure.ordered", "erasure.executed", "retention.run", "site.closed"})
"""Acts on which erasures rest. They are never erased themselves, so they hold no address."""
CARRIED_OUT = frozenset({"erasure.executed", "retention.run"})
"""Those of them that the record of an erasure names as its instruction: each is about one entry."""

_WORD = r"[a-z][a-z0-9_]{0,31}"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NUMBER = r"0|[1-9][0-9]{0,15}"
_HASH = r"[0-9a-f]{64}"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"
_LABEL = r"[^\x00-\x1f\x7f@]{1,64}"
_FORMS = {
    name: re.compile(form)
    for name, form in {
        "asOf": _TIME,
        "checkpoint": _NUMBER,  # a size
        "class": "publishable|secret",
        "consumer": r"[A-Za-z0-9_.:-]{1,64}",
        "count": _NUMBER,  # of events
        "document": _HASH,
        "download": _UUID,
        "entries": _NUMBER,
        "erasure": _UUID,
        "erasures": rf"{_UUID}(?: {_UUID}){{0,{MAX_ERASURES_NAMED - 1}}}",
        "events": _HASH,  # SHA-256 of the seqs to be erased, ascending, as u64 each
        "evidence": _HASH,
        "inventory": _HASH,
        "keyId": "[0-9a-f]{8,64}",
        "kind": _WORD,
        "label": _LABEL,
        "level": "erase|hold|restrict",
        "log": r"[a-z0-9.-]{1,200}",  # which of a site's two
        "logId": _HASH,
        "masterVersion": _NUMBER,
        "mediaType": r"[a-z0-9.+-]+/[a-z0-9.+-]+(?:; ?charset=[a-z0-9-]+)?",
        "outcome": _WORD,
        "people": _NUMBER,
        "position": r"[a-z0-9.-]{1,200}:(?:0|[1-9][0-9]{0,15})",
        "reason": "subject_request|retention|controller_instruction|legal_order|capture_error",
        "region": "[A-Z]{2}(?:-[A-Z0-9]{1,3})?",
        "request": _UUID,
        "role": "ingest|log|root|receipt",
        "scopes": r"(?:events|check|audit|admin)(?: (?:events|check|audit|admin)){0,3}",
        "size": _NUMBER,  # in bytes
        "state": _WORD,
        "target": "file|directory|stream|download",
        "until": _TIME,
        "version": r"[0-9A-Za-z.-]{1,32}",
    }.items()
}
_ERASING = frozenset({"reason", "evidence", "count", "events", "erasure", "erasures", "people", "level", "request"})
_REQUEST = frozenset({"request", "kind", "state", "outcome", "region", "until", "evidence", "erasure", "download"})
_EXPORT = frozenset(
    {"target", "log", "checkpoint", "entries", "kind", "request", "download", "until", "size", "evidence"}
)
_SIGNING_KEY = frozenset({"keyId", "role", "log"})
DETAILS: Mapping[str, frozenset[str]] = {
    "site.added": frozenset({"logId"}),
    "site.closed": _ERASING | {"entries"},
    "key.created": frozenset({"keyId", "class", "scopes", "label"}),
    "key.revoked": frozenset({"keyId"}),
    "key.introduced": _SIGNING_KEY,
    "key.retired": _SIGNING_KEY,
    "key.rotated": _SIGNING_KEY,
    "master.rotated": frozenset({"masterVersion"}),
    "policy.published": frozenset({"version", "document"}),
    "document.uploaded": frozenset({"document", "mediaType", "size"}),
    "cookies.reviewed": frozenset({"inventory", "version", "label"}),
    "erasure.ordered": _ERASING | {"until"},
    "erasure.executed": _ERASING,
    "erasure.lifted": frozenset({"erasure", "level", "evidence", "request", "reason"}),
    "erasure.confirmed": frozenset({"consumer", "position", "erasure"}),
    "held.opened": frozenset({"erasure", "count", "evidence", "request"}),
    "held.released": frozenset({"erasure", "count", "evidence", "request"}),
    "retention.run": _ERASING | {"asOf", "entries"},
    "request.registered": _REQUEST,
    "request.forwarded": _REQUEST,
    "request.extended": _REQUEST,
    "request.instructed": _REQUEST,
    "request.answered": _REQUEST,
    "export.made": _EXPORT,
    "export.downloaded": _EXPORT,
    "backup.made": frozenset({"target", "checkpoint", "entries", "size", "masterVersion"}),
    "backup.restored": frozenset({"asOf", "checkpoint", "entries", "count", "masterVersion"}),
    "log.recovered": frozenset({"entries", "checkpoint", "outcome"}),
}
"""What the details of each act may hold when the ledger writes one: hashes, numbers, words and ids of this ledger, and
nowhere a free text beyond the label of a key. So an act says nothing of a visitor, in whatever words it was ordered."""

_encoder = msgspec.json.Encoder(order="sorted")


def encode_act(act: AdminAct) -> bytes:
    """The exact bytes that are committed to and stored."""
    return _encoder.encode(act)


def decode_act(data: bytes) -> AdminAct:
    """Parse a stored act strictly (audit rule 10); `Malformed` if it is not in the one encoding or no act."""
    try:
        act = msgspec.convert(decode_json(data), AdminAct, strict=True)
    except msgspec.ValidationError as error:
        raise Malformed(f"the payload is no administrative act: {error}") from error
    decode_time(act.occurred_at)
    return act


def decode_logged(data: bytes, site: str) -> Event | AdminAct:
    """The payload of an event in the log of `site`: in administrative logs every event is an act, and nowhere else."""
    return decode_act(data) if is_admin_log(site) else decode_event(data)


def check_details(act: str, details: Mapping[str, str]) -> None:
    """What the ledger itself writes: names that the act's table has, each in its form. `ConfigInvalid` otherwise."""
    allowed = DETAILS.get(act)
    if allowed is None:
        raise ConfigInvalid(f"there is no administrative act {act!r}; those that are: {', '.join(get_args(ActWord))}")
    for name, text in details.items():
        if name not in allowed:
            raise ConfigInvalid(f"an act {act} has no detail {name!r}")
        if _FORMS[name].fullmatch(text) is None:
            raise ConfigInvalid(f"the detail {name} of an act {act} has another form than it may have")


class ActName(NamedTuple):
    """How the record of an erasure names its act: the log, the seq, and the leaf hash of the entry, by which the whole
    administrative log up to there is part of what the site's log holds."""

    log: str
    seq: int
    leaf: bytes

    def __str__(self) -> str:
        return f"{self.log}:{self.seq}:{self.leaf.hex()}"


def parse_act_name(text: str) -> ActName:
    """`<site>.admin-log:<seq>:<64 hex digits>`; `Malformed` for anything else."""
    log, seq, leaf = ("", "", *text.rsplit(":", 2))[-3:]
    if not log or re.fullmatch(_HASH, leaf) is None:
        raise Malformed("it names no act")
    return ActName(log, decode_decimal(seq), bytes.fromhex(leaf))


def is_admin_log(site: str) -> bool:
    """Whether a log's name is that of an administrative log."""
    return site.endswith(ADMIN_SUFFIX)


def admin_log_of(site: str) -> str:
    """The name of a site's administrative log."""
    return site + ADMIN_SUFFIX


def site_of(admin_log: str) -> str:
    """The site whose administrative log it is."""
    return admin_log.removesuffix(ADMIN_SUFFIX)
