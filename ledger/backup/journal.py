"""Files of lines beside the backups that only grow: what happened since a backup and must not be lost with it.

A line is 16 hex digits of SHA-256 over what follows, a blank, and JSON. So a line that was torn by a crash is known:
the last one is dropped, any other is a damaged file. What the lines say is in the two structs here.

Neither holds anything of a person in clear: entries are public, openings are sealed under data keys, which are in the
keyring or nowhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from ledger.backup.stream import Damaged
from ledger.core.entry import decode, decode_seqs
from ledger.core.merkle import leaf_hash
from ledger.core.tail import Gone
from ledger.durable import replace, sync_directory

_DIGITS = 16
LEAF_BYTES = 8
"""Of a leaf hash: enough to see that a position holds the event that was meant, and not one of another continuation."""


class ErasureLine(msgspec.Struct, frozen=True, rename="camel"):
    """An erasure entry of a log, with its record (sealed) and the first bytes of the leaf hash of each erased event.

    `entries`: those of the younger events. The erasure took their messages from the stream, and where the database is
    put back to before them, what is behind them in the stream can only be taken with them.
    """

    origin: str
    seq: int
    entry: bytes
    sealed: bytes
    leaves: bytes
    entries: tuple[bytes, ...] = ()

    def positions(self) -> list[tuple[int, bytes]]:
        """Each erased event and the beginning of its leaf hash. `Damaged` where the two do not fit."""
        seqs = decode_seqs(decode(self.entry).public)
        if len(self.leaves) != LEAF_BYTES * len(seqs):
            raise Damaged(
                f"the erasure at entry {self.seq} in the journal does not tell the events that it names apart"
            )
        return [(seq, self.leaves[i * LEAF_BYTES : (i + 1) * LEAF_BYTES]) for i, seq in enumerate(seqs)]

    def gone(self) -> Iterator[tuple[int, Gone]]:
        """Each event whose entry is here. `Damaged` for one that is none of the erased."""
        leaves = dict(self.positions())
        for entry in self.entries:
            seq = decode(entry).seq
            if leaves.get(seq) != leaf_hash(entry)[:LEAF_BYTES]:
                raise Damaged(f"the erasure at entry {self.seq} in the journal holds an entry that it does not name")
            yield seq, Gone(entry, self.entry)

    def without_entries(self, before_ms: int) -> ErasureLine:
        """The same, of an erasure of before then without the entries: no stream reaches back so far."""
        old = bool(self.entries) and decode(self.entry).ms < before_ms
        return msgspec.structs.replace(self, entries=()) if old else self


class ActLine(msgspec.Struct, frozen=True, rename="camel"):
    """An entry of an administrative log, as the database has it."""

    origin: str
    seq: int
    entry: bytes
    sealed: bytes | None


Line = TypeVar("Line", ErasureLine, ActLine)


def gone_of(lines: Iterable[ErasureLine], origin: str, size: int) -> dict[int, list[Gone]]:
    """What is left of the events that were erased behind the first `size` entries of a log, by seq."""
    found: dict[int, list[Gone]] = {}
    for line in lines:
        if line.origin == origin and line.seq >= size:
            for seq, gone in line.gone():
                if seq >= size:
                    found.setdefault(seq, []).append(gone)
    return found


class Journal(Generic[Line]):
    """One such file. Whoever appends holds a lock on it, so that a worker and a `backup` may both."""

    def __init__(self, path: Path, kind: type[Line]) -> None:
        self.path = path
        self._kind: type[Line] = kind
        self._known: set[bytes] = set()
        self._left: tuple[int, int] = (0, 0)

    def read(self) -> Iterator[Line]:
        """Every line; none where there is no file."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.endswith(b"\n"):
                    return  # torn: whoever wrote it had not told anybody
                yield self._parse(raw, number)

    def append(self, lines: Sequence[Line]) -> None:
        """Those that are not there yet. Durable when it returns; the file is there then, if it was not."""
        with self._locked() as file:
            number, end = os.fstat(file.fileno()).st_ino, self._whole(file)
            if (number, end) != self._left:  # somebody else wrote, or nobody of this process
                self._known = {_name(line) for line in self.read()}
            file.seek(end)
            file.truncate()
            new = {name: line for line in lines if (name := _name(line)) not in self._known}
            file.write(b"".join(_encode(line) for line in new.values()))
            file.flush()
            os.fsync(file.fileno())
            self._known.update(new)
            self._left = (number, file.tell())
        sync_directory(self.path.parent)

    def keep(self, wanted: Callable[[Line], bool]) -> None:
        """Drop what is not wanted any more."""
        self.change(lambda line: line if wanted(line) else None)

    def change(self, change: Callable[[Line], Line | None]) -> None:
        """Write each line as this says, the same entry of the same log, or none."""
        with self._locked():
            lines = list(self.read())
            kept = [changed for line in lines if (changed := change(line)) is not None]
            if kept != lines:
                replace(self.path, b"".join(_encode(line) for line in kept))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                with contextlib.suppress(FileNotFoundError):
                    if self.path.stat().st_ino == os.fstat(descriptor).st_ino:  # else it was replaced meanwhile
                        yield file
                        return

    @staticmethod
    def _whole(file: BinaryIO) -> int:
        """Where the last whole line ends."""
        end = at = file.seek(0, os.SEEK_END)
        while at > 0:
            start = max(0, at - 65_536)
            file.seek(start)
            block = file.read(at - start)
            if at == end and block.endswith(b"\n"):
                return end
            if b"\n" in block:
                return start + block.rindex(b"\n") + 1
            at = start
        return 0

    def _parse(self, raw: bytes, number: int) -> Line:
        digest, _, body = raw.rstrip(b"\n").partition(b" ")
        try:
            if digest != _digest(body):
                raise Damaged(f"line {number} of {self.path} is damaged: put back a copy of the file that is whole")
            line: Line = msgspec.json.decode(body, type=self._kind)
        except msgspec.MsgspecError as error:
            raise Damaged(f"line {number} of {self.path} is not what it should be: {error}") from error
        return line


def _encode(line: ErasureLine | ActLine) -> bytes:
    body = msgspec.json.encode(line)
    return _digest(body) + b" " + body + b"\n"


def _name(line: ErasureLine | ActLine) -> bytes:
    return sha256(line.origin.encode() + b"\n" + line.entry).digest()


def _digest(body: bytes) -> bytes:
    return sha256(body).hexdigest()[:_DIGITS].encode("ascii")
