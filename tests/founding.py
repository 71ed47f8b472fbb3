"""A log without a policy, for tests of what lies below policies: founded directly through the append function."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

import asyncpg

from ledger.core import keys
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import ZEROS, Kind, commitment, core_bytes, key_hash, origin_hash
from ledger.core.event import Event, encode_payload
from ledger.core.merkle import leaf_hash
from ledger.core.note import TYPE_ED25519, VerifierKey
from ledger.core.sealing import Master
from ledger.secrets import SiteHasher, new_event_id, new_salt
from ledger.sequencer import Signer
from ledger.store.append import ControlDraft, EventDraft, Head, append_one
from ledger.vault import Vault, make_first_keys, read_vault

SITE = "shop.example.com"
ORIGIN = "ledger.test/shop.example.com"
MASTER = Master(1, bytes(32))
"""Under which its data keys are wrapped."""


class Founded(NamedTuple):
    """A log with its genesis entry alone, and the keys of its roles."""

    site_id: int
    log_id: bytes
    root: SigningKey
    ingest: SigningKey
    log: SigningKey
    head: Head
    vault: Vault

    @property
    def hasher(self) -> SiteHasher:
        return SiteHasher(self.vault.hasher_key)

    @property
    def signer(self) -> Signer:
        return Signer(self.log_id, self.ingest)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def found(url: str, site: str = SITE, origin: str = ORIGIN) -> Founded:
    root, ingest, log = (SigningKey(os.urandom(32)) for _ in range(3))
    public = keys.encode_genesis(VerifierKey(origin, TYPE_ED25519, log.public), ingest.public, root.public)
    signature = root.sign(core_bytes(origin_hash(origin), Kind.GENESIS, ZEROS, public))
    draft = ControlDraft(Kind.GENESIS, ZEROS, key_hash(root.public), signature, public)
    connection = await asyncpg.connect(url)
    try:
        site_id = await connection.fetchval("select ledger.create_site($1, $2)", site, origin)
        async with connection.transaction():
            appended, head = await append_one(connection, site_id, now_ms(), Head(0, b""), draft, 5)
            assert appended.entry is not None
            log_id = leaf_hash(appended.entry)
            await make_first_keys(connection, site_id, log_id, MASTER)
        vault = await read_vault(connection, site_id, [MASTER])
    finally:
        await connection.close()
    return Founded(site_id, log_id, root, ingest, log, head, vault)


def event_draft(
    founded: Founded, event_id: str | None = None, visitor: str = "visitor-0123456789abcdef", note: str = "en"
) -> EventDraft:
    """A refusal; drafts of one id and another `note` have other content."""
    event = Event(
        id=event_id or new_event_id(now_ms()),
        site=SITE,
        type="consent.refused",
        visitor=visitor,
        decisions={"analytics": "denied"},
        action="only_necessary",
        language=note,
    )
    payload, salt = encode_payload(event), new_salt()
    commit = commitment(salt, payload)
    return EventDraft(
        key=founded.hasher.event_id(event.id),
        commit=commit,
        signer=founded.signer.key_hash,
        signature=founded.signer.sign(Kind.EVENT, commit),
        sealed=founded.vault.seal_opening(commit, salt, payload),
        visitor=founded.hasher.visitor(visitor),
        content=founded.hasher.content(payload),
        salt=salt,
        payload=payload,
    )
