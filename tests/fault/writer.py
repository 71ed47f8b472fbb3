"""A log that grows as a test wants: events, erasures, policies and keys, by way of the append functions."""

from __future__ import annotations

import itertools
from hashlib import sha256

import asyncpg

from ledger.core import keys
from ledger.core.ed25519 import SigningKey
from ledger.core.entry import ZEROS, Kind, commitment, core_bytes, encode_seqs, key_hash
from ledger.core.event import ErasureRecord, encode_payload
from ledger.secrets import new_salt
from ledger.store.append import ControlDraft, Outcome, append_events, append_one
from ledger.vault import Vault
from tests.founding import Founded, event_draft, now_ms

BATCH = 500


class Writer:
    """Appends to one site and knows how far it came: `last` is the greatest seq."""

    def __init__(self, pool: asyncpg.Pool, founded: Founded) -> None:
        self.site_id = founded.site_id
        self._pool = pool
        self._founded = founded
        self._head = founded.head
        self._visitors = itertools.count()

    @property
    def vault(self) -> Vault:
        return self._founded.vault

    @property
    def last(self) -> int:
        return self._head.size - 1

    async def events(self, count: int) -> list[int]:
        """Append refusals, each of another visitor; their seqs."""
        seqs: list[int] = []
        while len(seqs) < count:
            drafts = [
                event_draft(self._founded, visitor=f"visitor-{next(self._visitors):020d}")
                for _ in range(min(BATCH, count - len(seqs)))
            ]
            async with self._pool.acquire() as connection:
                appended, self._head = await append_events(
                    connection, self.site_id, now_ms(), self._head, drafts[0].signer, drafts, 10
                )
            seqs += [one.seq for one in appended]
        return seqs

    async def erase(self, seqs: list[int]) -> int:
        """Append the erasure of these events; its seq."""
        record = encode_payload(
            ErasureRecord(
                site="shop.example.com",
                reason="subject_request",
                requested_at="2026-11-21T03:00:00.000Z",
                evidence="bm90aGluZw==",
                instruction="ticket-1",
            )
        )
        salt = new_salt()
        return await self._control(Kind.ERASURE, commitment(salt, record), encode_seqs(sorted(seqs)), salt, record)

    async def policy(self, version: str, document: bytes) -> int:
        await self._pool.execute("select ledger.put_document('application/json', $1)", document)
        return await self._control(Kind.POLICY, ZEROS, sha256(document).digest() + version.encode())

    async def key(self, operation: bytes | None = None) -> int:
        """Append a key operation: another ingest key is introduced, if nothing else is asked for."""
        if operation is None:
            operation = keys.introduce_ingest(self._founded.log_id, SigningKey(new_salt()))
        return await self._control(Kind.KEY, ZEROS, operation)

    def draft(
        self, kind: Kind, commit: bytes, public: bytes, salt: bytes | None, payload: bytes | None
    ) -> ControlDraft:
        signer = self._founded.root if kind == Kind.KEY else self._founded.ingest
        signature = signer.sign(core_bytes(self._founded.log_id, kind, commit, public))
        sealed = None if salt is None or payload is None else self.vault.seal_record(commit, salt, payload)
        return ControlDraft(kind, commit, key_hash(signer.public), signature, public, sealed)

    async def _control(
        self, kind: Kind, commit: bytes, public: bytes, salt: bytes | None = None, payload: bytes | None = None
    ) -> int:
        draft = self.draft(kind, commit, public, salt, payload)
        async with self._pool.acquire() as connection:
            appended, self._head = await append_one(connection, self.site_id, now_ms(), self._head, draft, 10)
        assert appended.outcome == Outcome.APPENDED
        return appended.seq
