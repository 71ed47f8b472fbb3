"""The layout of an exported bundle: where one is read from, and how one is written.

A `Source` gives the files of a bundle by their paths. A bundle comes from strangers: nothing outside its directory is
read, no file beyond its bound, and what is no regular file is `Malformed`.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Set
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

from ledger import spool
from ledger.config import OPENINGS_AHEAD_BYTES
from ledger.core.entry import MAX_ENTRY_BYTES
from ledger.core.errors import ConfigInvalid, Malformed
from ledger.core.faults import Faults
from ledger.core.merkle import leaf_hash
from ledger.core.opening import MAX_LINE_BYTES, Opening, encode_line, peek_seq
from ledger.core.tile import ENTRIES, TILE_WIDTH, Tile, encode_bundle
from ledger.core.tree import HashTile, TileTree

CHECKPOINT = "checkpoint"
PAYLOADS = "payloads.ndjson"
KEPT = "checkpoints"
DOCUMENTS = "documents"

_PARTS = frozenset({CHECKPOINT, PAYLOADS, f"{PAYLOADS}.kept", KEPT, DOCUMENTS, "tile"})

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024


def document_path(digest: bytes) -> str:
    """`documents/<sha256 hex>`"""
    return f"{DOCUMENTS}/{digest.hex()}"


class Source(Protocol):
    """The files of a bundle. Paths are relative, with slashes, and made by us, never read from the bundle itself."""

    def read(self, path: str, limit: int) -> bytes | None:
        """A whole file; None if there is none; `Malformed` if it is more than `limit` bytes or no file."""

    def stream(self, path: str) -> BinaryIO | None:
        """A file to be read from its start; None if there is none; `Malformed` if it is no file."""

    def names(self, folder: str, limit: int) -> list[str]:
        """Names of what lies in a folder, sorted; none if there is no such folder; `Malformed` beyond the limit."""


class Directory:
    """A bundle in a directory."""

    def __init__(self, path: Path) -> None:
        self._root = path.resolve(strict=True)

    def stream(self, path: str) -> BinaryIO | None:
        full = self._root / path
        try:
            if not full.resolve(strict=True).is_relative_to(self._root):
                raise Malformed("a link that leads out of the bundle")
            descriptor = os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except RuntimeError as error:  # pathlib's word for a loop of links
            raise Malformed("a link that leads to itself") from error
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise Malformed("not a file") from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Malformed("not a file")
        return os.fdopen(descriptor, "rb")

    def read(self, path: str, limit: int) -> bytes | None:
        file = self.stream(path)
        if file is None:
            return None
        with file:
            if os.fstat(file.fileno()).st_size > limit:
                raise Malformed(f"larger than {limit} bytes")
            return file.read()

    def names(self, folder: str, limit: int) -> list[str]:
        full = self._root / folder
        if full.is_symlink() or not full.is_dir():
            return []
        with os.scandir(full) as found:
            names = sorted(entry.name for entry in islice(found, limit + 1))
        if len(names) > limit:
            raise Malformed(f"more than {limit:,} files in {folder}; thin them out")
        return names


class OpeningLines:
    """`payloads.ndjson`, dealt out so that each entry bundle gets the lines of its own entries.

    Lines are dealt by where their seq says they belong; whether they are in order is judged with their bundle.
    """

    def __init__(self, file: BinaryIO, faults: Faults) -> None:
        self._file = file
        self._faults = faults
        self._read = b""
        self._at = 0
        self._ended = False

    def take(self, first: int, end: int) -> bytes:
        """The next lines, up to one that opens entry `end` or a later one; at most two for each entry."""
        return self._whole(first, end) or self._dealt(end, 2 * (end - first))

    def _whole(self, first: int, end: int) -> bytes:
        """The usual case, no gap: if the lines ascend, which is judged later, they are these and no others."""
        if len(self._read) - self._at < OPENINGS_AHEAD_BYTES:
            self._fill()
        data, at = self._read, self._at
        if not data.startswith(b'{"seq":%d,' % first, at):
            return b""
        stop = data.find(b"\n", data.find(b'\n{"seq":%d,' % (end - 1), at) + 1) + 1
        if data.count(b"\n", at, stop) != end - first:
            return b""
        self._at = stop
        return data[at:stop]

    def _dealt(self, end: int, most: int) -> bytes:
        """Line by line; what is found to come later is put back."""
        lines: list[bytes] = []
        while len(lines) < most and (line := self._next()):
            seq = peek_seq(line)
            if seq is not None and seq >= end:
                self._read, self._at = line + self._read[self._at :], 0
                break
            lines.append(line)
        return b"".join(lines)

    def finish(self, size: int) -> None:
        """After the last bundle: what is left opens entries that are not there, or are open already."""
        line = self._next()
        if line:
            seq = peek_seq(line)
            if seq is None:
                self._faults.add(1, f"{PAYLOADS}: a line behind the last opening is none")
            else:
                self._faults.add(10, f"an opening too many: of entry {seq}, and the log has {size} entries")

    def _fill(self) -> bool:
        """Read on; False at the end."""
        if not self._ended:
            data = self._file.read(OPENINGS_AHEAD_BYTES)
            self._ended = not data
            self._read, self._at = self._read[self._at :] + data, 0
        return not self._ended

    def _next(self) -> bytes:
        """The next line with its newline; empty at the end, or where a line has no end in reach."""
        while not (stop := self._read.find(b"\n", self._at) + 1):
            if len(self._read) - self._at > MAX_LINE_BYTES or not self._fill():
                stop = len(self._read)
                break
        line = self._read[self._at : stop]
        self._at = stop
        if len(line) > MAX_LINE_BYTES:
            self._faults.add(1, f"{PAYLOADS}: a line is longer than {MAX_LINE_BYTES} bytes")
            self._read, self._at, self._ended = b"", 0, True
            return b""
        return line if line.endswith(b"\n") or not line else line + b"\n"


class Writer:
    """Writes a bundle into `<directory>.partial`, and moves it to its place once it is complete.

    Entries come in log order. The directory is readable by its owner alone: openings are personal data.
    """

    def __init__(self, directory: Path) -> None:
        """`ConfigInvalid` if something is at this place already."""
        self.directory = directory.absolute()
        self._partial = self.directory.with_name(self.directory.name + ".partial")
        if self.directory.exists() and (not self.directory.is_dir() or any(self.directory.iterdir())):
            raise ConfigInvalid(f"{directory} is there already, and not empty: name another directory")
        lock = spool.claim(self._partial, _PARTS)
        if lock is None:
            raise ConfigInvalid(f"{self._partial} is there already: another export writes to it, or it is none of ours")
        self._lock = lock
        self._tree = TileTree()
        self._entries: list[bytes] = []
        self._leaves: list[bytes] = []
        self._payloads = (self._partial / PAYLOADS).open("wb")
        (self._partial / KEPT).mkdir()

    @property
    def size(self) -> int:
        return self._tree.size + len(self._entries)

    def entry(self, entry: bytes) -> bytes:
        """Add an entry; its leaf hash."""
        if len(entry) > MAX_ENTRY_BYTES:
            raise Malformed(f"entry {self.size} has {len(entry)} bytes: no bundle can hold it")
        leaf = leaf_hash(entry)
        self._entries.append(entry)
        self._leaves.append(leaf)
        if len(self._entries) == TILE_WIDTH:
            self._flush()
        return leaf

    def _flush(self) -> None:
        bundle = Tile(ENTRIES, self._tree.size // TILE_WIDTH, len(self._entries))
        self._write(bundle.path, encode_bundle(self._entries))
        self._write_tiles(self._tree.add(b"".join(self._leaves)))
        self._entries.clear()
        self._leaves.clear()

    def _write_tiles(self, tiles: list[HashTile]) -> None:
        for tile, hashes in tiles:
            self._write(tile.path, hashes)

    def _write(self, path: str, data: bytes) -> None:
        full = self._partial / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(data)

    def opening(self, opening: Opening) -> None:
        """Add an opening; seqs ascend."""
        self._payloads.write(encode_line(opening))

    def kept_checkpoint(self, size: int, note: bytes) -> None:
        """Add one of the checkpoints that were kept over time."""
        self._write(f"{KEPT}/{size}", note)

    def document(self, digest: bytes, body: bytes) -> None:
        self._write(document_path(digest), body)

    def root(self) -> bytes:
        """All entries are there: write what is left of them; the root."""
        if self._entries:
            self._flush()
        self._write_tiles(self._tree.partial())
        return self._tree.root()

    def finish(self, checkpoint: bytes, forgotten: Set[int]) -> None:
        """After `root`: the bundle gets its checkpoint and its place. Openings of `forgotten` seqs are taken out."""
        self._payloads.close()
        if forgotten:
            self._forget(forgotten)
        self._write(CHECKPOINT, checkpoint)
        self._partial.replace(self.directory)
        self._unlock()

    def _forget(self, forgotten: Set[int]) -> None:
        kept = self._partial / f"{PAYLOADS}.kept"
        with (self._partial / PAYLOADS).open("rb") as lines, kept.open("wb") as file:
            file.writelines(line for line in lines if peek_seq(line) not in forgotten)
        kept.replace(self._partial / PAYLOADS)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._payloads.close()
        shutil.rmtree(self._partial, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
