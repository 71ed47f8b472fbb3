"""Secrets on this side of the database: keyed hashes by which rows are looked up, and fresh ids, salts and API keys.

Signing keys lie in files (keys/files), the keys that seal rows are the vault's. None of the secrets is written to
Postgres, logs or error texts.
"""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b, sha256

from ledger.core.encoding import encode_uuid
from ledger.core.event import Event

HASH_BYTES = 16
API_KEY_BYTES = 32


class SiteHasher:
    """Keyed BLAKE2b of what must not stand in an index in clear; another site's key gives other hashes."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """`key`: the `hasher_key` of the site's vault."""
        self._key = key

    def event_id(self, event_id: str) -> bytes:
        return blake2b(event_id.encode(), key=self._key, digest_size=HASH_BYTES, person=b"ledger event").digest()

    def visitor(self, visitor: str) -> bytes:
        return blake2b(visitor.encode(), key=self._key, digest_size=HASH_BYTES, person=b"ledger visitor").digest()

    def account(self, account: str) -> str:
        """What is stored of an account: 32 hex digits. The name itself is kept nowhere."""
        return blake2b(account.encode(), key=self._key, digest_size=HASH_BYTES, person=b"ledger account").hexdigest()

    def subject(self, event: Event) -> bytes:
        """Under whom an event is found: a choice for an account under the account, everything else under its visitor.

        Events of the two never meet in one row, for their hashes are made apart.
        """
        if event.account is not None and event.type.startswith("consent."):
            return bytes.fromhex(event.account)
        return self.visitor(event.visitor)

    def actor(self, event: Event) -> bytes | None:
        """The other one whom an event is about: the visitor where its subject is an account, the account of a link."""
        if event.account is None:
            return None
        return self.visitor(event.visitor) if event.type.startswith("consent.") else bytes.fromhex(event.account)

    def device(self, visitor: str) -> bytes:
        """What tells the browser of an act for an account from the others of that account, in folded states."""
        return blake2b(visitor.encode(), key=self._key, digest_size=HASH_BYTES, person=b"ledger device").digest()

    def content(self, content: bytes) -> bytes:
        return blake2b(content, key=self._key, digest_size=HASH_BYTES, person=b"ledger content").digest()

    def derived_id(self, event_id: str) -> str:
        """The id (UUID v8) of the denials that are kept of a refused event: the same again on every retry."""
        return self._derived(event_id.encode(), b"ledger denials")

    def lapse_id(self, lapse: str) -> str:
        """The id (UUID v8) of the event that tells of a lapse: the same again, whoever tells of it."""
        return self._derived(lapse.encode(), b"ledger lapse")

    def _derived(self, name: bytes, person: bytes) -> str:
        return encode_uuid(blake2b(name, key=self._key, digest_size=HASH_BYTES, person=person).digest(), 8)


def new_event_id(unix_ms: int) -> str:
    """A UUID v7 (RFC 9562 section 5.7): time first, so that ids minted together lie together in an index."""
    return encode_uuid(unix_ms.to_bytes(6, "big") + os.urandom(10), 7)


def new_salt() -> bytes:
    """32 fresh bytes of the operating system, never derived (SPEC.md, "Commitments")."""
    return os.urandom(32)


def new_api_key(key_class: str) -> str:
    """`pk_…` or `sk_…` with 256 random bits."""
    prefix = {"publishable": "pk_", "secret": "sk_"}[key_class]
    return prefix + secrets.token_urlsafe(API_KEY_BYTES)


def api_key_hash(key: str) -> bytes:
    return sha256(key.encode()).digest()


def api_key_id(key_hash: bytes) -> str:
    """What a key is called where people read of it: the first half of its hash, which opens nothing."""
    return key_hash[:8].hex()
