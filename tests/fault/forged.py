"""Messages of a stream as somebody would forge them who may write to it, and perhaps holds keys of the log."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import msgspec

from ledger.core.ed25519 import SigningKey
from ledger.core.encoding import encode_base64
from ledger.core.entry import commitment, core_bytes, decode, encode, key_hash
from ledger.core.event import decode_event, encode_payload
from tests.fault.streams import Stored
from tests.founding import Founded


def entry_of(stored: Stored) -> bytes:
    return base64.b64decode(stored.headers["ce-entry"])


def with_entry(stored: Stored, **members: Any) -> Stored:
    entry = encode(decode(entry_of(stored))._replace(**members))
    return replace(stored, headers=stored.headers | {"ce-entry": encode_base64(entry)})


def signed_by(stored: Stored, founded: Founded, key: SigningKey, *, named: bool) -> Stored:
    entry = decode(entry_of(stored))
    signature = key.sign(core_bytes(founded.log_id, entry.kind, entry.commit, entry.public))
    return with_entry(stored, signature=signature, signer=key_hash(key.public) if named else entry.signer)


def other_payload(stored: Stored, founded: Founded, **members: str) -> Stored:
    """A payload of our own key's making, so that only what it says can be wrong."""
    return recommitted(stored, founded, encode_payload(msgspec.structs.replace(decode_event(stored.data), **members)))


def recommitted(stored: Stored, founded: Founded, payload: bytes) -> Stored:
    commit = commitment(base64.b64decode(stored.headers["ce-salt"]), payload)
    return signed_by(with_entry(replace(stored, data=payload), commit=commit), founded, founded.ingest, named=True)


def with_headers(stored: Stored, **headers: str) -> Stored:
    return replace(stored, headers={name.replace("_", "-"): value for name, value in headers.items()})


def body_is_entry(stored: Stored) -> Stored:
    return replace(stored, data=entry_of(stored))


def erasing(stored: Stored, founded: Founded, seq: int) -> Stored:
    return signed_by(with_entry(stored, public=seq.to_bytes(8, "big")), founded, founded.ingest, named=True)
