"""The data keys of sites, opened: what is sealed and opened with them, and how new ones are made.

A process reads them once and again every few seconds, so that sealing and opening ask nobody. Keys leave this module
in no form; what they are wrapped under is known to the process by its settings (core/sealing has the bytes).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import asyncpg

from ledger import config
from ledger.core.errors import ConfigInvalid, SealBroken, Unavailable
from ledger.core.merkle import leaf_hash
from ledger.core.opening import Opening
from ledger.core.sealing import (
    KEY_BYTES,
    OPENING,
    ColumnCipher,
    KeyName,
    Master,
    Role,
    hashing_key,
    key_no_of,
    split_opening,
    unwrap,
    wrap,
)
from ledger.store.ask import ask
from ledger.store.errors import MASTER_REPLACED, sqlstate

log = logging.getLogger(__name__)

# `ahead`: made so lately that a process may not have seen it. The first of a site is used at once.
_KEYS = """
select k.site_id, k.key_no, k.role, k.master_version, k.wrapped, e.entry as genesis,
       k.created_at > now() - make_interval(secs => $2)
       and exists (select 1 from ledger.data_key f
                    where f.site_id = k.site_id and f.role = 'opening' and f.key_no < k.key_no) as ahead
  from ledger.data_key k join ledger.entry e on e.site_id = k.site_id and e.seq = 0
 where k.site_id = any ($1::integer[])
 order by k.site_id, k.key_no
"""
# Every change shows here: a key made, destroyed or wrapped anew, and one whose time to be used has come.
_CHANGES = """
select count(*), count(k.destroyed_at), sum(k.master_version),
       count(*) filter (where k.created_at > now() - make_interval(secs => $1))
  from ledger.data_key k
"""
_NEXT = """
select coalesce(max(k.key_no) filter (where k.site_id = $1), 0) + 1 as key_no, max(k.master_version) as version
  from ledger.data_key k
"""
_ADD_KEY = "select ledger.add_data_key($1, $2, $3, $4, $5)"


class KeyRow(NamedTuple):
    """A row of `ledger.data_key`; `wrapped` is None once it is destroyed."""

    key_no: int
    role: Role
    master_version: int
    wrapped: bytes | None
    ahead: bool


class Vault:
    """The keys of one site. It is kept up in place, so whoever holds it need not ask for it again."""

    def __init__(self, log_id: bytes, unknown: Callable[[], None] = lambda: None) -> None:
        """`unknown` is called when bytes name a key that was not read yet."""
        self.log_id = log_id
        self.hasher_key = b""
        self._unknown = unknown
        self._said = ""
        self._rows: dict[int, KeyRow] = {}
        self._ciphers: dict[int, ColumnCipher] = {}
        self._sealing: ColumnCipher | None = None
        self._register: ColumnCipher | None = None

    def learn(self, rows: Sequence[KeyRow], masters: Mapping[int, bytes]) -> None:
        """Take over the site's keys as they are stored now. A key that was opened once needs no master secret again.

        `ConfigInvalid` if a key cannot be opened that is needed at all times; others are missed when they are used.
        """
        problem: ConfigInvalid | None = None
        for row in rows:
            self._rows[row.key_no] = row
            if row.wrapped is None:
                self._ciphers.pop(row.key_no, None)
            elif row.key_no not in self._ciphers:
                try:
                    self._open_key(row, masters)
                except ConfigInvalid as error:
                    problem = problem or error
        self._sealing = self._last("opening", [row for row in rows if not row.ahead])
        self._register = self._last("register", rows)
        if not self.hasher_key or self._sealing is None or self._register is None:
            raise problem or ConfigInvalid("a data key of the site is missing: it is restored from another database")
        if problem is not None and str(problem) != self._said:
            log.error("a data key cannot be opened, and what it sealed is missed: %s", problem)
        self._said = "" if problem is None else str(problem)

    def _open_key(self, row: KeyRow, masters: Mapping[int, bytes]) -> None:
        assert row.wrapped is not None
        secret = masters.get(row.master_version)
        if secret is None:
            raise unknown_version(row.master_version, masters.items())
        try:
            name = KeyName(self.log_id, row.key_no, row.role)
            key = unwrap(row.wrapped, name, Master(row.master_version, secret))
        except SealBroken as error:
            raise ConfigInvalid(
                "LEDGER_MASTER_SECRET is not the one that this ledger was written with, or a data key was altered"
            ) from error
        if row.role == "lookup":
            self.hasher_key = hashing_key(key)
        self._ciphers[row.key_no] = ColumnCipher(self.log_id, row.key_no, key)

    def _last(self, role: Role, rows: Sequence[KeyRow]) -> ColumnCipher | None:
        numbers = [row.key_no for row in rows if row.role == role and row.key_no in self._ciphers]
        return self._ciphers.get(max(numbers, default=0))

    def seal_opening(self, commit: bytes, salt: bytes, payload: bytes) -> bytes:
        """An event's opening, under the key of this period."""
        return _needed(self._sealing).seal(OPENING, commit, salt + payload)

    def seal_record(self, commit: bytes, salt: bytes, payload: bytes) -> bytes:
        """The opening of an erasure's record: it is never erased, so its key must never be destroyed."""
        return _needed(self._register).seal(OPENING, commit, salt + payload)

    def open_opening(self, commit: bytes, sealed: bytes) -> tuple[bytes, bytes]:
        """Salt and payload. `SealBroken` if it is not the opening of this commitment, `Unavailable` for a key that is
        not known yet."""
        return split_opening(self._cipher(sealed).open(OPENING, commit, sealed))

    def openings(self, sealed: Iterable[tuple[int, bytes, bytes]]) -> list[Opening]:
        """Of (seq, commitment, sealed). One that does not open is left out: the rules of the audit find it missing."""
        found: list[Opening] = []
        for seq, commit, each in sealed:
            with contextlib.suppress(SealBroken):
                found.append(Opening(seq, *self.open_opening(commit, each)))
        return found

    def seal(self, column: str, binding: bytes, plaintext: bytes) -> bytes:
        """Anything else that is kept, under the register key; it opens for this column and binding alone."""
        return _needed(self._register).seal(column, binding, plaintext)

    def seal_under(self, key_no: int, column: str, binding: bytes, plaintext: bytes) -> bytes:
        """The same under one certain key, made for what it is to be destroyed with; `Unavailable` where it is not known
        yet."""
        cipher = self._ciphers.get(key_no)
        if cipher is None:
            self._unknown()
        return _needed(cipher).seal(column, binding, plaintext)

    def open(self, column: str, binding: bytes, sealed: bytes) -> bytes:
        """What was sealed. `SealBroken` or `Unavailable` as for an opening."""
        return self._cipher(sealed).open(column, binding, sealed)

    def _cipher(self, sealed: bytes) -> ColumnCipher:
        key_no = key_no_of(sealed)
        cipher = self._ciphers.get(key_no)
        if cipher is not None:
            return cipher
        row = self._rows.get(key_no)
        if row is not None and row.wrapped is None:
            raise SealBroken(f"the data key {key_no} that sealed these bytes was destroyed")
        self._unknown()
        return _needed(None)


def _needed(cipher: ColumnCipher | None) -> ColumnCipher:
    if cipher is None:
        raise Unavailable("data-key-unknown", "A data key of this site is not known to this server yet; try again.")
    return cipher


def unknown_version(version: int, masters: Iterable[tuple[int, bytes]]) -> ConfigInvalid:
    """Keys are wrapped under a master secret that this process was not told."""
    known = ", ".join(str(version) for version, _ in masters)
    return ConfigInvalid(
        f"the data keys are wrapped under version {version} of the master secret, and version {known} is known here: "
        "set LEDGER_MASTER_SECRET and LEDGER_MASTER_KEY_VERSION to the one in force"
    )


class Vaults:
    """The vaults of all sites, over a pool of the service's connections; `masters` as the settings give them.

    Every few seconds one question tells whether anything has changed; keys are read only then.
    """

    def __init__(self, pool: asyncpg.Pool, masters: Sequence[Master]) -> None:
        self._pool = pool
        self._masters = dict(masters)
        self._vaults: dict[int, Vault] = {}
        self._unusable: dict[int, ConfigInvalid] = {}
        self._seen: tuple[object, ...] = ()
        self._looked_at = float("-inf")
        self._reading = asyncio.Lock()

    async def of(self, site_id: int) -> Vault:
        """The vault of a site, as it was a few seconds ago at most. `ConfigInvalid` where its keys cannot be opened,
        `Unavailable` where they cannot be read, or the site is being founded at this moment."""
        if not self._is_fresh() or site_id not in self._vaults:
            async with self._reading:
                if not self._is_fresh():
                    await self._look()
                if site_id not in self._vaults:
                    await self._read([site_id])
        if site_id in self._unusable:
            raise self._unusable[site_id]
        if site_id not in self._vaults:
            raise Unavailable("data-key-unknown", "The site has no data keys yet; try again.")
        return self._vaults[site_id]

    async def refresh(self) -> None:
        """Take over what has changed, of every site that was asked for. What is wrong with one is told, and keeps the
        others not."""
        async with self._reading:
            await self._look()

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._looked_at < config.SITE_REFRESH_SECONDS

    async def _look(self) -> None:
        ahead = float(config.DATA_KEY_AHEAD_SECONDS)
        seen = tuple((await ask(self._pool, _CHANGES, ahead))[0])
        if seen != self._seen or self._unusable:
            await self._read(list(self._vaults))
            self._seen = seen
        self._looked_at = time.monotonic()

    async def _read(self, site_ids: list[int]) -> None:
        of_site: dict[int, list[asyncpg.Record]] = {}
        for row in await ask(self._pool, _KEYS, site_ids, float(config.DATA_KEY_AHEAD_SECONDS)):
            of_site.setdefault(row["site_id"], []).append(row)
        for site_id, rows in of_site.items():
            vault = self._vaults.get(site_id) or Vault(leaf_hash(rows[0]["genesis"]), self._stale)
            try:
                vault.learn(_key_rows(rows), self._masters)
            except ConfigInvalid as error:
                if str(self._unusable.get(site_id)) != str(error):
                    log.error("data keys of site %d cannot be used: %s", site_id, error)
                self._unusable[site_id] = error
            else:
                self._unusable.pop(site_id, None)
            self._vaults[site_id] = vault

    def _stale(self) -> None:
        """Bytes name a key that is not known: whoever asks for a vault next reads anew."""
        self._looked_at, self._seen = float("-inf"), ()


class Fetches(Protocol):
    """What asks one question: a connection, or a pool."""

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]: ...

    async def fetchval(self, query: str, *arguments: object) -> object: ...


async def read_vault(connection: Fetches, site_id: int, masters: Iterable[Master]) -> Vault:
    """The vault of a site as one connection sees it now, for commands. `ConfigInvalid` without keys that open."""
    rows = await connection.fetch(_KEYS, [site_id], float(config.DATA_KEY_AHEAD_SECONDS))
    if not rows:
        raise ConfigInvalid("the site has no data keys: its founding was broken off, or they were not restored")
    vault = Vault(leaf_hash(rows[0]["genesis"]))
    vault.learn(_key_rows(rows), dict(masters))
    return vault


def _key_rows(rows: Sequence[asyncpg.Record]) -> list[KeyRow]:
    return [
        KeyRow(row["key_no"], row["role"], row["master_version"], row["wrapped"], row["ahead"] and bool(row["wrapped"]))
        for row in rows
    ]


async def make_first_keys(connection: Fetches, site_id: int, log_id: bytes, *masters: Master) -> None:
    """The keys that a site has from its genesis on; to be made in one transaction with it."""
    for role in ("lookup", "register", "opening"):
        await make_key(connection, site_id, log_id, role, *masters)


async def make_key(connection: Fetches, site_id: int, log_id: bytes, role: Role, *masters: Master) -> int | None:
    """A new data key of a site; its number, or None where the site has the one key of that role already.

    Of the master secrets the one is taken under which the database's keys are wrapped by now; `ConfigInvalid` where it
    is not among them.
    """
    key = os.urandom(KEY_BYTES)
    for _ in range(config.DATA_KEY_ATTEMPTS):
        (following,) = await connection.fetch(_NEXT, site_id)
        key_no: int = following["key_no"]
        version: int = following["version"] or masters[0].version
        secret = dict(masters).get(version)
        if secret is None:
            raise unknown_version(version, masters)
        wrapped = wrap(key, KeyName(log_id, key_no, role), Master(version, secret))
        try:
            if await connection.fetchval(_ADD_KEY, site_id, key_no, role, version, wrapped):
                return key_no
        except asyncpg.PostgresError as error:
            if sqlstate(error) != MASTER_REPLACED:
                raise
    if role in ("lookup", "register"):
        return None
    raise Unavailable("data-key-unknown", "Others make data keys of this site all the time; try again.")
