"""What a witness knows, durably: its key, the logs it trusts, the last checkpoint of each that it cosigned, evidence.

One SQLite file and one key file in a directory. An offer is judged, cosigned and recorded in one transaction that holds
the write lock from its first read, and only after its commit has reached the disk does the cosignature exist for
anybody: two offers at once, or a process killed at any point, can never make two histories. Times never go backwards.

A database put back to an older copy would have forgotten what it cosigned, so there is no command that does that.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ledger import config
from ledger.core.ed25519 import SEED_BYTES, SigningKey
from ledger.core.errors import ConfigInvalid, KeyRefused, Malformed, Unavailable
from ledger.core.note import (
    MAX_CHECKPOINT_BYTES,
    MAX_SIGNATURES,
    TYPE_COSIGNATURE,
    TYPE_ED25519,
    Checkpoint,
    Signature,
    VerifierKey,
    parse_any_checkpoint,
    parse_vkey,
)
from ledger.core.witnessing import Offer, Verdict, cosign, judge, trusted_lines
from ledger.durable import sync_directory, write_new

KEY_NAME = "witness.key"
DATABASE_NAME = "witness.sqlite"
FORK = "two-heads"
UNPROVEN = "not-shown-to-continue"

_SCHEMA = """
create table witness (
    id               integer primary key check (id = 1),
    name             text    not null,
    public           blob    not null,
    last_cosigned_at integer not null default 0  -- seconds; no cosignature of this witness is older than one before it
) strict;
create table log_key (
    origin   text    not null,
    vkey     text    not null unique,
    added_at integer not null,
    primary key (origin, vkey)
) strict;
create table head (
    -- What was cosigned last. Stays when a log's keys are removed: who comes back goes on where it was.
    origin      text    primary key,
    origin_hash text    not null unique,
    size        integer not null,
    note        blob    not null,  -- as it is shown: the trusted signatures of the log, and the cosignature
    cosigned_at integer not null
) strict;
create table evidence (
    id       integer primary key,
    origin   text    not null,
    kind     text    not null,
    found_at integer not null,
    held     blob    not null,
    offered  blob    not null,  -- with the trusted signatures of the log
    digest   blob    not null,
    unique (origin, kind, digest)
) strict;
"""
_VERSION = 1

_KEYS = "select vkey from log_key where origin = ? order by added_at, vkey"
_HEAD = "select note, cosigned_at from head where origin = ?"
_PUT_HEAD = """
insert into head (origin, origin_hash, size, note, cosigned_at) values (?, ?, ?, ?, ?)
    on conflict (origin) do update set size = excluded.size, note = excluded.note, cosigned_at = excluded.cosigned_at
"""
_PUT_EVIDENCE = """
insert into evidence (origin, kind, found_at, held, offered, digest) select ?1, ?2, ?3, ?4, ?5, ?6
 where (select count(*) from evidence where origin = ?1 and kind = ?2) < ?7
    on conflict do nothing
"""
_LOGS = """
select k.origin, k.vkey, h.size, h.cosigned_at from log_key k left join head h using (origin)
 order by k.origin, k.added_at, k.vkey
"""


class Outcome(NamedTuple):
    """The answer to an offer. `signature`: where the verdict is 200. `found`: evidence that is new."""

    verdict: Verdict
    signature: Signature | None = None
    found: str | None = None


class KnownLog(NamedTuple):
    """A log with one of its trusted keys; `size` and `cosigned_at` (seconds) are None before its first cosignature."""

    origin: str
    vkey: str
    size: int | None
    cosigned_at: int | None


class Evidence(NamedTuple):
    """Two checkpoints that the log signed: `held` was cosigned, `offered` was not shown to continue it.

    Of the kind `two-heads` they have one size and two roots: that alone proves that the log lied.
    """

    origin: str
    kind: str
    found_at: int
    held: str
    offered: str


class WitnessState:
    """One witness's directory, opened. Used from one thread at a time; several processes may share a directory."""

    def __init__(self, connection: sqlite3.Connection, key: SigningKey, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._key = key
        self._clock = clock
        name, public = connection.execute("select name, public from witness").fetchone()
        if public != key.public:
            raise ConfigInvalid(f"{KEY_NAME} is not the key of this {DATABASE_NAME}: they belong to two witnesses")
        self.vkey = VerifierKey(name, TYPE_COSIGNATURE, public)

    def close(self) -> None:
        self._connection.close()

    def add_log(self, vkey: VerifierKey) -> int:
        """Trust a key for the log that it names; how many keys that log has now. Known already: nothing changes."""
        if vkey.public == self.vkey.public:
            raise KeyRefused("that is this witness's own key: a log has keys of its own")
        with self._transaction() as connection:
            keys = [row[0] for row in connection.execute(_KEYS, (vkey.name,))]
            if str(vkey) in keys:
                return len(keys)
            if len(keys) >= config.WITNESS_MAX_LOG_KEYS:
                raise ConfigInvalid(f"{vkey.name} has {len(keys)} keys here; `witness remove-log` those that retired")
            if connection.execute("select count(*) from log_key").fetchone()[0] >= config.WITNESS_MAX_LOGS:
                raise ConfigInvalid(f"a witness knows at most {config.WITNESS_MAX_LOGS} keys of logs")
            connection.execute("insert into log_key values (?, ?, ?)", (vkey.name, str(vkey), int(self._clock())))
            return len(keys) + 1

    def remove_log(self, vkey: str) -> bool:
        """Trust a key no longer; what was cosigned is remembered. False if it was not trusted."""
        with self._transaction() as connection:
            return connection.execute("delete from log_key where vkey = ?", (vkey,)).rowcount > 0

    def logs(self) -> list[KnownLog]:
        return [KnownLog(*row) for row in self._connection.execute(_LOGS)]

    def last_cosigned_at(self) -> int:
        """Unix seconds of the newest cosignature of all; 0 before the first."""
        seconds: int = self._connection.execute("select last_cosigned_at from witness").fetchone()[0]
        return seconds

    def shown(self, origin_hash: str) -> bytes | None:
        """The last cosigned checkpoint of the log whose origin has this SHA-256 (lower-case hex)."""
        row = self._connection.execute("select note from head where origin_hash = ?", (origin_hash,)).fetchone()
        return None if row is None else row[0]

    def evidence(self) -> list[Evidence]:
        rows = self._connection.execute("select origin, kind, found_at, held, offered from evidence order by id")
        return [
            Evidence(origin, kind, found_at, held.decode(), offered.decode())
            for origin, kind, found_at, held, offered in rows
        ]

    def evidence_counts(self) -> dict[tuple[str, str], int]:
        """(origin, kind) -> how many pairs are kept."""
        rows = self._connection.execute("select origin, kind, count(*) from evidence group by origin, kind")
        return {(origin, kind): count for origin, kind, count in rows}

    def consider(self, offer: Offer) -> Outcome:
        """Judge an offer; cosign and record it where it continues what was cosigned before.

        `Unavailable` if the clock was set back too far, or the database is held by another process.
        """
        checkpoint = offer.checkpoint
        with self._transaction() as connection:
            trusted = [parse_vkey(row[0], TYPE_ED25519) for row in connection.execute(_KEYS, (checkpoint.origin,))]
            row = connection.execute(_HEAD, (checkpoint.origin,)).fetchone()
            held = None if row is None else parse_any_checkpoint(row[0])
            verdict = judge(offer, trusted, held)
            if verdict.status != 200:
                found = self._keep(verdict, held, checkpoint, trusted) if verdict.suspect and held else None
                return Outcome(verdict, found=found)
            seconds = self._next_time()
            if held is not None and row[1] == seconds and held.body == checkpoint.body:
                return Outcome(verdict, held.signatures[-1])  # asked again within the second
            signature = cosign(checkpoint, self.vkey, self._key, seconds)
            signatures = (*trusted_lines(checkpoint, trusted), signature)
            note = checkpoint._replace(signatures=signatures).encode()
            if len(note) > MAX_CHECKPOINT_BYTES or len(signatures) > MAX_SIGNATURES:  # it could not be read again
                return Outcome(Verdict(400, "with a cosignature the checkpoint would be longer than one may be"))
            origin_hash = sha256(checkpoint.origin.encode()).hexdigest()
            connection.execute(_PUT_HEAD, (checkpoint.origin, origin_hash, checkpoint.size, note, seconds))
            connection.execute("update witness set last_cosigned_at = ?", (seconds,))
        return Outcome(verdict, signature)

    def _next_time(self) -> int:
        now, last = int(self._clock()), self.last_cosigned_at()
        if last - now > config.WITNESS_CLOCK_BACK_SECONDS:
            raise Unavailable(
                "clock-set-back",
                f"the clock of this witness stands {last - now} s before its last cosignature",
                retry_after=min(last - now, 3600),
            )
        return max(now, last)

    def _keep(
        self, verdict: Verdict, held: Checkpoint, checkpoint: Checkpoint, trusted: list[VerifierKey]
    ) -> str | None:
        kind = FORK if verdict.fork else UNPROVEN
        offered = checkpoint._replace(signatures=trusted_lines(checkpoint, trusted))
        cursor = self._connection.execute(
            _PUT_EVIDENCE,
            (
                checkpoint.origin,
                kind,
                int(self._clock()),
                held.encode(),
                offered.encode(),
                sha256(held.body + offered.body).digest(),
                config.WITNESS_EVIDENCE_MAX_ROWS,
            ),
        )
        return kind if cursor.rowcount > 0 else None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Holds the write lock from the start, so that what is read is what is replaced."""
        try:
            self._connection.execute("begin immediate")
        except sqlite3.OperationalError as error:
            raise Unavailable("busy", "another process holds this witness's database; try again") from error
        try:
            yield self._connection
            self._connection.execute("commit")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise


def create(directory: Path, name: str) -> VerifierKey:
    """Make a witness: a fresh key (mode 0600) and an empty database. `ConfigInvalid` where there is one already."""
    key = SigningKey(os.urandom(SEED_BYTES))
    vkey = VerifierKey(name, TYPE_COSIGNATURE, key.public)
    try:
        parse_vkey(str(vkey), TYPE_COSIGNATURE)
    except Malformed as error:
        raise ConfigInvalid("a witness's name has no space and no '+', like witness.example.org/w1") from error
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        write_new(directory / KEY_NAME, f"{key.seed.hex()}\n".encode())
        os.close(os.open(directory / DATABASE_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise ConfigInvalid(f"{directory} holds a witness already; its history must go on under its key") from error
    connection = _connect(directory / DATABASE_NAME)
    try:
        connection.executescript(f"begin;\n{_SCHEMA}pragma user_version = {_VERSION};\n")
        connection.execute("insert into witness (id, name, public) values (1, ?, ?)", (name, key.public))
        connection.execute("commit")
    finally:
        connection.close()
    for folder in (directory, directory.parent):
        sync_directory(folder)
    return vkey


def open_state(directory: Path, clock: Callable[[], float]) -> WitnessState:
    """The witness in a directory; `clock` gives unix seconds. `ConfigInvalid` says what is missing."""
    key_path, database = directory / KEY_NAME, directory / DATABASE_NAME
    if not key_path.is_file():
        if database.is_file():
            raise ConfigInvalid(
                f"{key_path} is gone, and only it can go on with what {database} remembers: put it back from a copy, "
                "or make a new witness, with another name, in another directory"
            )
        raise ConfigInvalid(
            f"no witness in {directory}: `consent-ledger witness init {directory} --name NAME` makes one"
        )
    if not database.is_file():
        raise ConfigInvalid(f"{database} is gone, and with it what was cosigned: make a new witness with a new key")
    if key_path.stat().st_mode & 0o077:
        raise ConfigInvalid(f"others may read {key_path}: chmod 600 it, and if they did, make a new witness")
    try:
        key = SigningKey(bytes.fromhex(key_path.read_text(encoding="ascii").strip()))
    except ValueError as error:
        raise ConfigInvalid(f"{key_path} should hold 64 hex digits") from error
    try:
        connection = _connect(database)
    except sqlite3.Error as error:
        raise ConfigInvalid(f"{database} cannot be opened: {error}") from error
    try:
        if connection.execute("pragma user_version").fetchone()[0] != _VERSION:
            raise ConfigInvalid(f"{database} is no database of this version; an unfinished `init` is to be made anew")
        return WitnessState(connection, key, clock)
    except BaseException:
        connection.close()
        raise


def _connect(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{database.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=config.WITNESS_BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # opened in one thread, then used in the one that serves
    )
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")  # a commit has reached the disk when it returns
    return connection
