"""The last checkpoint outside the database: in a file of this machine, and in a key-value bucket of NATS.

They are outside on purpose: whoever puts the database back to an older copy does not put them back. Each is written
by compare and swap; what a record means, and whether it is believed, is core/agreement.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ledger import config
from ledger.bus import STREAM_NAME_IN_USE, STREAM_NOT_FOUND, WRONG_LAST_SEQUENCE, Bus, Refused, StreamConfig
from ledger.core.errors import LedgerError, Malformed
from ledger.core.note import parse_checkpoint
from ledger.durable import sync_directory

BUCKET = "consent-ledger"
_STREAM = f"KV_{BUCKET}"
_HISTORY = 8
_DELETED = ("DEL", "PURGE")

_SCHEMA = """
create table if not exists checkpoint (one integer primary key check (one = 1), note blob not null);
create table if not exists written (place text primary key, size integer not null) without rowid;
"""


class RecordUnreachable(LedgerError):
    """A record can neither be read nor written just now. `slug` is a stable word."""

    def __init__(self, slug: str, detail: str) -> None:
        self.slug = slug
        super().__init__(detail)


class RecordChanged(LedgerError):
    """Another checkpointer wrote the record since it was read: read again."""


class Anchored(NamedTuple):
    """The anchor's checkpoint, if it has one, and the size that each other place was last written with."""

    note: bytes | None
    written: dict[str, int]


class Anchor:
    """One SQLite file a site, mode 0600. Small; each call opens it anew, so that others may read it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Anchored:
        """`RecordUnreachable` where there is a file that cannot be read."""
        with self._reaching():
            if not self.path.exists():
                return Anchored(None, {})
            with self._open() as db:
                return Anchored(_note(db), dict(db.execute("select place, size from written")))

    def write(self, note: bytes, previous: bytes | None, written: dict[str, int]) -> None:
        """Durable when it returns. `RecordChanged` unless the note that is there is `previous`."""
        with self._reaching():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with self._open() as db:
                db.execute("pragma synchronous = full")
                db.execute("begin immediate")
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                if _note(db) != previous:
                    raise RecordChanged(f"{self.path} was written by another checkpointer")
                db.execute("insert or replace into checkpoint values (1, ?)", (note,))
                db.executemany("insert or replace into written values (?, ?)", written.items())
                db.execute("commit")
            if previous is None:
                sync_directory(self.path.parent)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=config.ANCHOR_TIMEOUT_SECONDS, isolation_level=None)
        try:
            yield db
        finally:
            db.close()  # which rolls back what was not committed

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            detail = f"the anchor {self.path} cannot be read or written: {error}"
            raise RecordUnreachable("anchor-unreachable", detail) from error


def claimed_size(note: bytes) -> int:
    """The size that a record names, whoever signed it; 0 where it is no checkpoint."""
    try:
        return parse_checkpoint(note).size
    except Malformed:
        return 0


def signed_size(path: Path) -> int:
    """The size of the last checkpoint that was signed on this machine, as its anchor says; 0 where nothing says so."""
    try:
        note = Anchor(path).read().note
    except RecordUnreachable:
        return 0  # the checkpointer alarms
    return 0 if note is None else claimed_size(note)


def _note(db: sqlite3.Connection) -> bytes | None:
    if db.execute("select count(*) from sqlite_schema where name = 'checkpoint'").fetchone() == (0,):
        return None  # a process ended between making the file and writing it
    row = db.execute("select note from checkpoint").fetchone()
    return None if row is None else bytes(row[0])


class Revised(NamedTuple):
    """A record of NATS: None where there is none; `revision` is what the next one has to follow upon."""

    note: bytes | None
    revision: int


class NatsRecord:
    """One key of the bucket `consent-ledger`, named after the origin. An ordinary bucket: `nats kv` shows it."""

    def __init__(self, origin: str) -> None:
        self.key = sha256(origin.encode()).hexdigest()
        self._subject = f"$KV.{BUCKET}.{self.key}"

    async def read(self, bus: Bus) -> Revised:
        """From the leader, so never older than what was written."""
        try:
            message = await bus.last_message(_STREAM, self._subject)
        except Refused as refusal:
            if refusal.code != STREAM_NOT_FOUND:
                raise
            message = None
        if message is None:
            return Revised(None, 0)
        if message.header("KV-Operation") in _DELETED:
            return Revised(None, message.seq)
        return Revised(message.data, message.seq)

    async def write(self, bus: Bus, note: bytes, revision: int) -> None:
        """`RecordChanged` if it is not at that revision; any other `BusError`: it may be written, or not."""
        if revision == 0:
            await self._make_bucket(bus)
        try:
            await bus.put(self._subject, note, revision)
        except Refused as refusal:
            if refusal.code == WRONG_LAST_SEQUENCE:
                raise RecordChanged("another checkpointer wrote the record in NATS") from refusal
            raise

    async def _make_bucket(self, bus: Bus) -> None:
        bucket = StreamConfig(
            _STREAM,
            [f"$KV.{BUCKET}.>"],
            "The last signed checkpoint of each consent ledger",
            max_msgs_per_subject=_HISTORY,
            allow_rollup_hdrs=True,
            allow_atomic=False,
        )
        try:
            await bus.create_stream(bucket, 1, 1)
        except Refused as refusal:
            if refusal.code != STREAM_NAME_IN_USE:  # in use: it is there, as an operator set it up
                raise
