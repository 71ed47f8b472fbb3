"""A follower's memory in one SQLite file: survives a crash at any point, and is one process's alone.

What a follower has to know of each entry is 8 bytes of keyed fingerprint with a seq, in tables that stay on disk; so
memory is bounded by SQLite's cache, however long the log. A file that is lost or damaged is no loss: the follower
reads the log again from genesis. What is judged, and by what, is core/follow.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ledger.core.errors import Malformed, Unavailable
from ledger.core.follow import Repeated, Sort, State
from ledger.core.merkle import HASH_BYTES

_FORMAT = 1
_CACHE_KIBIBYTES = 8 * 1024
_MAX_PARAMETERS = 500

_SCHEMA = """
create table log (origin text not null, key blob not null);
create table state (
    one integer primary key check (one = 1),
    size integer not null, edge blob not null, tip blob not null, ms integer, checkpoint blob
);
create table key_entry (seq integer primary key, entry blob not null);
create table policy (version text primary key, seq integer not null) without rowid;
create table commitment (fingerprint integer primary key, seq integer not null) without rowid;
create table event_id (fingerprint integer primary key, seq integer not null) without rowid;
create table other (seq integer primary key) without rowid;
create table unopened (seq integer primary key) without rowid;
create table erased (seq integer primary key, by_seq integer not null) without rowid;
"""
_ADD = {
    Sort.COMMITMENT: "insert or ignore into commitment values (?, ?)",
    Sort.EVENT_ID: "insert or ignore into event_id values (?, ?)",
}
_SEEN = {
    Sort.COMMITMENT: "select seq from commitment where fingerprint = ?",
    Sort.EVENT_ID: "select seq from event_id where fingerprint = ?",
}


class MemoryDamaged(Malformed):
    """The file is no memory, or one of another log, or cannot be read."""


def forget(path: Path) -> None:
    """Remove a memory: who opens it next reads the log from genesis. A process that has it open keeps what it knows."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class SqliteMemory:
    """The `Memory` of core/follow in a file of mode 0600. Close it, or use it as a context.

    `Unavailable` where another process has it open; `MemoryDamaged` where it is not what it should be: move it away,
    and it is made anew. May be used from any thread, by one at a time.
    """

    def __init__(self, path: Path, origin: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite's own files take this mode. A file that is there is not touched: to close it here would drop the lock.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # Exclusive: the lock is taken once and held to the end, and a killed process leaves none behind.
        self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with _damage():
                self._open(path, origin)
        except BaseException:
            self._db.close()
            raise

    def _open(self, path: Path, origin: str) -> None:
        execute = self._db.execute
        try:
            execute("pragma locking_mode = exclusive")
            execute("pragma synchronous = full")
            execute(f"pragma cache_size = -{_CACHE_KIBIBYTES}")
            execute("pragma journal_mode = wal")
            execute("begin exclusive")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise Unavailable("memory-in-use", f"another process has {path} open: one at a time may follow") from error
        (version,) = execute("pragma user_version").fetchone()
        if version == 0 and execute("select count(*) from sqlite_schema").fetchone() == (0,):
            for statement in _SCHEMA.split(";"):
                execute(statement)
            execute("insert into log values (?, ?)", (origin, secrets.token_bytes(32)))
            execute(f"pragma user_version = {_FORMAT}")
        elif version != _FORMAT:
            raise MemoryDamaged(f"{path} is not the memory of this version: move it away, and it is made anew")
        execute("commit")
        (owner, self.key) = execute("select origin, key from log").fetchone()
        if owner != origin:
            raise MemoryDamaged(f"{path} is the memory of {owner}, not of {origin}")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> SqliteMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self) -> tuple[State, list[bytes]]:
        with _damage():
            row = self._db.execute("select size, edge, tip, ms, checkpoint from state").fetchone()
            keys = [entry for (entry,) in self._db.execute("select entry from key_entry order by seq")]
        if row is None:
            return State(), keys
        size, edge, tip, ms, checkpoint = row
        hashes = tuple(edge[i : i + HASH_BYTES] for i in range(0, len(edge), HASH_BYTES))
        if len(hashes) != size.bit_count():
            raise MemoryDamaged("the state of the memory is damaged: move the file away, and it is made anew")
        return State(size, hashes, tip, ms, checkpoint), keys

    def _begun(self) -> sqlite3.Connection:
        if not self._db.in_transaction:
            self._db.execute("begin")
        return self._db

    def add(self, sort: Sort, fingerprints: Sequence[int], seqs: Sequence[int]) -> list[Repeated]:
        with _damage():
            db = self._begun()
            before = db.total_changes
            db.executemany(_ADD[sort], zip(fingerprints, seqs, strict=True))
            if db.total_changes - before == len(seqs):
                return []
            found = []
            for fingerprint, seq in zip(fingerprints, seqs, strict=True):
                (earlier,) = db.execute(_SEEN[sort], (fingerprint,)).fetchone()
                if earlier != seq:
                    found.append(Repeated(seq, earlier))
            return found

    def add_policy(self, version: str, seq: int) -> int:
        with _damage():
            db = self._begun()
            db.execute("insert or ignore into policy values (?, ?)", (version, seq))
            return int(db.execute("select seq from policy where version = ?", (version,)).fetchone()[0])

    def policies(self, versions: Iterable[str]) -> dict[str, int]:
        return dict(self._among("select version, seq from policy where version in", list(versions)))

    def add_key_entry(self, seq: int, entry: bytes) -> None:
        with _damage():
            self._begun().execute("insert into key_entry values (?, ?)", (seq, entry))

    def add_others(self, seqs: Iterable[int]) -> None:
        with _damage():
            self._begun().executemany("insert into other values (?)", ((seq,) for seq in seqs))

    def others(self, seqs: Sequence[int]) -> set[int]:
        return {seq for (seq,) in self._among("select seq from other where seq in", seqs)}

    def add_unopened(self, seqs: Iterable[int]) -> None:
        with _damage():
            self._begun().executemany("insert into unopened values (?)", ((seq,) for seq in seqs))

    def first_unopened(self) -> int | None:
        with _damage():
            (seq,) = self._db.execute("select min(seq) from unopened").fetchone()
        return None if seq is None else int(seq)

    def erase(self, seqs: Sequence[int], by: int) -> list[int]:
        with _damage():
            again = [seq for (seq,) in self._among("select seq from erased where seq in", seqs)]
            db = self._begun()
            db.executemany("insert or ignore into erased values (?, ?)", ((seq, by) for seq in seqs))
            db.executemany("delete from unopened where seq = ?", ((seq,) for seq in seqs))
        return again

    def _among(self, query: str, values: Sequence[object]) -> Iterator[tuple]:  # type: ignore[type-arg]
        with _damage():
            for start in range(0, len(values), _MAX_PARAMETERS):
                part = values[start : start + _MAX_PARAMETERS]
                yield from self._db.execute(f"{query} ({','.join('?' * len(part))})", part).fetchall()

    def save(self, state: State) -> None:
        row = (state.size, b"".join(state.edge), state.tip, state.ms, state.checkpoint)
        with _damage():
            db = self._begun()
            db.execute("insert or replace into state values (1, ?, ?, ?, ?, ?)", row)
            db.execute("commit")

    def rollback(self) -> None:
        with _damage():
            if self._db.in_transaction:
                self._db.execute("rollback")


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """SQLite's errors as ours: a full or vanished disk may pass, anything else is damage."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unavailable("memory-unavailable", f"the memory cannot be read or written: {error}") from error
    except sqlite3.DatabaseError as error:
        raise MemoryDamaged(f"the memory is damaged ({error}): move the file away, and it is made anew") from error
