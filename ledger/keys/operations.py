"""What can be done to the keys of a log: introduce and retire them, and wait until it is safe to go on.

Each operation is one entry of kind 2, signed by the root key and checked here as an audit would before it is appended:
what is in the log stays. It is safe to run any of it again after any failure. Who asks, and on what machine the keys
lie, is the command's part.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.administration import Acting
from ledger.core import ed25519, keys
from ledger.core.admin_act import ActWord
from ledger.core.entry import ZEROS, Kind, core_bytes, key_hash
from ledger.core.errors import ConfigInvalid
from ledger.core.key_history import KeyHistory, KeyTerm, key_history
from ledger.core.note import TYPE_ED25519, VerifierKey, parse_checkpoint, parse_vkey
from ledger.keys.sealed import key_id
from ledger.store import errors as sql
from ledger.store.append import ControlDraft, Head, append_one
from ledger.store.clock import now_ms
from ledger.store.log import CheckpointRow, newest_checkpoint
from ledger.store.reads import Reads
from ledger.store.sites import find_log

_SIGNED_SINCE = """
select count(*) filter (where substring(e.entry from 83 for 32) = $3)
  from (select s.entry from ledger.entry s where s.site_id = $1 and s.seq >= $2 order by s.seq desc limit $4) e
"""


class Change(NamedTuple):
    """A key operation in the log: at which seq, and whether it was there already."""

    seq: int
    already: bool


class NotYet(ConfigInvalid):
    """A key cannot be retired without harm yet; the message says what is missing."""


class LogKeys:
    """The keys of one site's log, as the database knows them."""

    def __init__(self, pool: asyncpg.Pool, site_id: int, site: str, origin: str, signed: int = 0) -> None:
        """`signed`: how many entries were signed, as this machine knows."""
        self.site_id = site_id
        self.site = site
        self.origin = origin
        self.pool = pool
        self._signed = signed
        self._reads = Reads(pool)
        self.acting: Acting | None = None
        """Puts each change on record in the administrative log, before it is made; None: the caller did."""

    @classmethod
    async def of_site(cls, pool: asyncpg.Pool, site: str, signed: int = 0) -> LogKeys:
        """`ConfigInvalid` if there is no such site."""
        found = await find_log(pool, site)
        return cls(pool, found.site_id, site, found.origin, signed)

    async def history(self) -> KeyHistory:
        """Every key so far; an error if the stored key entries could not be in a sound log."""
        entries = await self._reads.key_entries(self.site_id)
        if not entries:
            raise ConfigInvalid(f"the log of {self.site} was never begun: `consent-ledger site add` founds it")
        return key_history(self.origin, entries[0], entries[1:])

    async def introduce(self, root: ed25519.SigningKey, public: bytes) -> Change:
        """Append an introduction (its public part). `KeyRefused` for an unfit key, before it is in the log for ever."""
        history = await self.history()
        known = introduced_key(public)
        for term in history.terms:
            if term.public == known and term.active and term.role == role_of(public):
                return Change(term.since, already=True)
        return await self._append(history, root, public)

    async def retire(self, root: ed25519.SigningKey, term: KeyTerm) -> Change:
        """Append the retirement of an ingest or log key."""
        history = await self.history()
        now = next((known for known in history.terms if known.public == term.public), term)
        if now.until is not None:
            return Change(now.until, already=True)
        if len(history.active(term.role)) < 2:
            raise ConfigInvalid(
                f"it is the only active {term.role} key of {self.site}: introduce the next one first "
                f"(`consent-ledger key rotate {self.site} {term.role}` does both)"
            )
        return await self._append(history, root, _retired_by(history, term))

    async def _append(self, history: KeyHistory, root: ed25519.SigningKey, public: bytes) -> Change:
        if root.public != history.set.root:
            raise ConfigInvalid(f"this is not the root key of {self.site}'s log")
        await self._check_whole()
        history.set.apply(public)  # the history was read for this one use
        core = core_bytes(history.log_id, Kind.KEY, ZEROS, public)
        signature = root.sign(core)
        ed25519.verify(root.public, core, signature)
        draft = ControlDraft(Kind.KEY, ZEROS, key_hash(root.public), signature, public)
        if self.acting is not None:
            await self.acting(*_act_of(history, public))
        attempt = 0
        while True:
            try:
                async with self.pool.acquire() as connection:
                    ms = await now_ms(connection)
                    timeout = config.APPEND_TIMEOUT_SECONDS
                    appended, _ = await append_one(connection, self.site_id, ms, Head(0, b""), draft, timeout)
                return Change(appended.seq, already=False)
            except Exception as error:
                if sql.sqlstate(error) == sql.AGAINST_RULES:  # somebody else changed the keys at this moment
                    raise ConfigInvalid(f"the log does not take it: {error}") from error
                if not sql.is_transient(error) or attempt == len(config.SETTLE_BACKOFF_SECONDS):
                    raise
                await asyncio.sleep(config.SETTLE_BACKOFF_SECONDS[attempt])  # it may be in: then its core is known
                attempt += 1

    async def _check_whole(self) -> None:
        """Nothing is appended to an older copy: it would begin a second history."""
        size = (await self._reads.head(self.site_id)).size
        lost = f"{self._signed} entries were signed, here are {size}" if self._signed > size else None
        lost = lost or await self._reads.lost_entries(self.site_id)
        if lost is not None:
            raise ConfigInvalid(f"the database holds an older copy of the log of {self.site} ({lost}): see `recover`")

    # --- is it safe to go on? --------------------------------------------------------------------------------------

    async def wait_until_unused(self, term: KeyTerm, timeout_seconds: float) -> None:
        """Until no server signs entries with this ingest key any more. `NotYet` if one still does after that time.

        On a log that nobody writes to there is nothing to see, and nothing that a retirement could interrupt.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            size = (await self._reads.head(self.site_id)).size
            await asyncio.sleep(config.KEYS_FOLLOW_SECONDS)
            used = await self.pool.fetchval(
                _SIGNED_SINCE, self.site_id, size, key_hash(term.public), config.KEYS_LOOKED_AT_ENTRIES
            )
            if not used:
                return
            if time.monotonic() >= deadline:
                raise NotYet(
                    f"a server still signs entries of {self.site} with the old ingest key: it has not got the new one. "
                    "Copy the new key file there, then retire the old key"
                )

    async def wait_until_signed(self, term: KeyTerm, timeout_seconds: float, *, cosigned: bool) -> CheckpointRow:
        """Until the newest checkpoint is signed by this log key, and cosigned where that is asked for."""
        vkey = await self._vkey(term)
        deadline = time.monotonic() + timeout_seconds
        while True:
            row = await newest_checkpoint(self.pool, self.site_id)
            if row is not None and row.size > term.since and parse_checkpoint(row.note).signed_by(vkey):
                if row.cosigned or not cosigned:
                    return row
                missing = "as many witnesses as the quorum asks for have not cosigned it"
            else:
                missing = "is a worker running, and does the new key file lie there?"
            if time.monotonic() >= deadline:
                raise NotYet(f"no checkpoint of {self.site} is signed with the new log key yet: {missing}")
            await asyncio.sleep(config.KEYS_LOOK_SECONDS)

    async def _vkey(self, term: KeyTerm) -> VerifierKey:
        return (await self.history()).vkey(term)


def _act_of(history: KeyHistory, public: bytes) -> tuple[ActWord, dict[str, str]]:
    """The administrative act that a key operation is."""
    operation = public[0]
    if operation in (keys.INTRODUCE_INGEST, keys.INTRODUCE_LOG):
        word: ActWord = "key.introduced"
        role, key = role_of(public), introduced_key(public)
    else:
        word, role = "key.retired", "ingest" if operation == keys.RETIRE_INGEST else "log"
        key = next(term.public for term in history.active(role) if _retired_by(history, term)[1:] == public[1:])
    log = history.origin.rpartition("/")[2]
    return word, {"keyId": key_id(history.origin, role, key), "role": role, "log": log}


def _retired_by(history: KeyHistory, term: KeyTerm) -> bytes:
    """The public part of a key's retirement."""
    return keys.retire_ingest(term.public) if term.role == "ingest" else keys.retire_log(history.vkey(term))


def role_of(public: bytes) -> str:
    """Of which role the key is that an introduction names."""
    return "ingest" if public[0] == keys.INTRODUCE_INGEST else "log"


def introduced_key(public: bytes) -> bytes:
    """The public key that an introduction names; `Malformed` or `KeyRefused` for a vkey that is none."""
    if role_of(public) == "ingest":
        return public[1 : 1 + ed25519.PUBLIC_BYTES]
    return parse_vkey(public[1:].decode("ascii", "replace"), TYPE_ED25519).public
