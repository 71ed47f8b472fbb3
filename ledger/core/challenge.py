"""How a browser proves that it is a visitor: the id is the hash of a public key, and the key answers a challenge.

A visitor id that is base64url(SHA-256(Ed25519 public key)), 43 characters, can be proven by whoever holds the private
key; knowing the id is not enough. The challenge names the log, the request and a nonce, and nothing of it is kept: the
nonce carries when it was made, bound to everything else by a keyed hash. So a proof serves for one request of one site
within one term; that it serves once is seen to where the request is kept, by the time at which its challenge was made.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import blake2b, sha256
from typing import NamedTuple

from ledger.core import ed25519
from ledger.core.errors import BadSignature, InputRefused, KeyRefused

PROVABLE_CHARS = 43
"""Of a visitor id that can be proven; the ids of others have other lengths, or nobody has their key."""
RANDOM_BYTES = 16

_LABEL = "consent-ledger/v1 subject request"
_TIME_BYTES, _MAC_BYTES = 8, 32
_NONCE = b"ledger challenge"
_TOKEN = b"ledger rq token"


class Challenge(NamedTuple):
    """What a nonce is bound to. `about` is the kind of a request that is to be made, or empty for one that is known."""

    origin: str
    request_id: str
    visitor: str
    about: str


class Asked(NamedTuple):
    """A challenge that was answered: when it was made, and what it is about."""

    made_ms: int
    about: str


def visitor_of(public: bytes) -> str:
    """The visitor id of an Ed25519 public key."""
    return base64.urlsafe_b64encode(sha256(public).digest()).rstrip(b"=").decode("ascii")


def message(origin: str, request_id: str, nonce: str) -> bytes:
    """The bytes that the browser signs: four lines, each ended by a line feed."""
    return f"{_LABEL}\n{origin}\n{request_id}\n{nonce}\n".encode()


def make_nonce(key: bytes, challenge: Challenge, made_ms: int, random: bytes) -> str:
    """A nonce: when it was made, random bytes, what it is about, and the keyed hash over all that it is bound to."""
    head = made_ms.to_bytes(_TIME_BYTES, "big") + random + challenge.about.encode("ascii")
    return _text(head + _mac(key, _NONCE, challenge, head))


def check_proof(
    key: bytes, origin: str, request_id: str, nonce: str, public: bytes, signature: bytes, now_ms: int, valid_ms: int
) -> tuple[str, Asked]:
    """The visitor who answered, and the challenge. `InputRefused` for any proof that is not one.

    `key` is the site's own; `valid_ms` how long a challenge may be answered.
    """
    refused = InputRefused("proof-refused", "This is no answer to the challenge. Ask for a new one and sign that.")
    data = _bytes(nonce)
    if data is None or len(data) < _TIME_BYTES + RANDOM_BYTES + _MAC_BYTES:
        raise refused
    head, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    made_ms = int.from_bytes(head[:_TIME_BYTES], "big")
    about = head[_TIME_BYTES + RANDOM_BYTES :].decode("ascii", "replace")
    visitor = visitor_of(public)
    if not hmac.compare_digest(mac, _mac(key, _NONCE, Challenge(origin, request_id, visitor, about), head)):
        raise refused
    if not 0 <= now_ms - made_ms <= valid_ms:
        raise InputRefused("proof-refused", "The challenge is too old. Ask for a new one and sign that.")
    try:
        ed25519.check_public(public)
        ed25519.verify(public, message(origin, request_id, nonce), signature)
    except (BadSignature, KeyRefused) as error:
        raise refused from error
    return visitor, Asked(made_ms, about)


def make_token(key: bytes, origin: str, request_id: str, until_ms: int) -> str:
    """What lets somebody who proved to be the visitor read the request for a while."""
    head = until_ms.to_bytes(_TIME_BYTES, "big")
    return _text(head + _mac(key, _TOKEN, Challenge(origin, request_id, "", ""), head))


def check_token(key: bytes, origin: str, request_id: str, token: str, now_ms: int) -> bool:
    """Whether it is a token of this request that has not expired."""
    data = _bytes(token)
    if data is None or len(data) != _TIME_BYTES + _MAC_BYTES:
        return False
    head, mac = data[:_TIME_BYTES], data[_TIME_BYTES:]
    right = _mac(key, _TOKEN, Challenge(origin, request_id, "", ""), head)
    return hmac.compare_digest(mac, right) and now_ms <= int.from_bytes(head, "big")


def _mac(key: bytes, person: bytes, bound: Challenge, head: bytes) -> bytes:
    parts = [part.encode("utf-8") for part in bound] + [head]
    data = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return blake2b(data, key=key, digest_size=_MAC_BYTES, person=person).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes | None:
    """The bytes of base64url without padding, in its one encoding."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return data if _text(data) == text else None
