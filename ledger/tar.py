"""A bundle as one tar file: packed after an export, and read as a `Source` for an audit.

A tar comes from strangers. It is read by the block here, and not by a library that unpacks: nothing is ever written
under a name that the file brings, links and sparse members are no files, and what is remembered of a member is where
it lies. What cannot be read from any place (a pipe, gzip) is put into a temporary file first, without a name.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ledger.bundle import CHECKPOINT, DOCUMENTS, KEPT, PAYLOADS
from ledger.config import (
    TAR_MAX_EXTENDED_BYTES,
    TAR_MAX_MEMBERS,
    TAR_SPOOL_BYTES,
    TAR_UNPACKED_BASE_BYTES,
    TAR_UNPACKED_MAX_FACTOR,
)
from ledger.core.errors import Malformed

_BLOCK_BYTES = 512
_GZIP_MAGIC = b"\x1f\x8b"
_REGULAR = {b"0", b"\0", b"7"}
_FOLDER, _LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL = b"5", b"L", b"K", b"x", b"g"
_ORDER = (CHECKPOINT, KEPT, DOCUMENTS, PAYLOADS, "tile")
"""What has to be known of the whole log comes before what is read along it."""


class _Member(NamedTuple):
    """Where a file's bytes lie. `size` is -1 for what is no file, such as a link."""

    at: int
    size: int


class _Part(io.RawIOBase):
    """The bytes of one member, read with positions of its own; the file stays open behind it."""

    def __init__(self, descriptor: int, member: _Member) -> None:
        self._descriptor, self._member, self._done = descriptor, member, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._member.size - self._done)
        got = os.preadv(self._descriptor, [memoryview(buffer)[:wanted]], self._member.at + self._done)
        self._done += got
        return got

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._done, os.SEEK_END: self._member.size}[whence]
        self._done = min(max(0, base + offset), self._member.size)
        return self._done


class Tar:
    """A bundle in a tar, plain or gzip; closed by `with`. `Malformed` if it is none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = _from_any_place(file)
        self._members: dict[str, _Member] = {}
        try:
            self._index()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Tar:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _index(self) -> None:
        for name, member in _members(self._file):
            if name in self._members:
                raise Malformed(f"{name[:100]!r} is in the tar twice: nobody can say which one is meant")
            if len(self._members) >= TAR_MAX_MEMBERS:
                raise Malformed(f"a tar of more than {TAR_MAX_MEMBERS:,} files")
            self._members[name] = member
        if CHECKPOINT not in self._members:
            # As `tar c bundle` makes it: everything below one folder.
            below = [name for name in self._members if name.count("/") == 1 and name.endswith(f"/{CHECKPOINT}")]
            if len(below) == 1:
                folder = below[0].removesuffix(CHECKPOINT)
                self._members = {
                    name.removeprefix(folder): member
                    for name, member in self._members.items()
                    if name.startswith(folder)
                }

    def stream(self, path: str) -> BinaryIO | None:
        member = self._members.get(path)
        if member is None:
            return None
        if member.size < 0:
            raise Malformed("not a file")
        return io.BufferedReader(_Part(self._file.fileno(), member), 256 * 1024)

    def read(self, path: str, limit: int) -> bytes | None:
        member = self._members.get(path)
        if member is None:
            return None
        if member.size < 0:
            raise Malformed("not a file")
        if member.size > limit:
            raise Malformed(f"larger than {limit} bytes")
        return os.pread(self._file.fileno(), member.size, member.at)

    def names(self, folder: str, limit: int) -> list[str]:
        start = folder + "/"
        names = [name.removeprefix(start) for name in self._members if name.startswith(start)]
        names = sorted(name for name in names if "/" not in name)
        if len(names) > limit:
            raise Malformed(f"more than {limit:,} files in {folder}; thin them out")
        return names


def _from_any_place(file: BinaryIO) -> BinaryIO:
    """The tar itself, where it can be read from any place; else a temporary file with what it holds."""
    if file.seekable():
        start = file.read(2)
        file.seek(0)
        if start != _GZIP_MAGIC:
            return file
    spooled = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with file:
            for data in _unpacked(file):
                spooled.write(data)
        spooled.flush()
    except BaseException:
        spooled.close()
        raise
    return spooled


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of a stream, or what its gzip holds, in pieces; never much more than what was read for it."""
    data = file.read(TAR_SPOOL_BYTES)
    if not data.startswith(_GZIP_MAGIC):
        while data:
            yield data
            data = file.read(TAR_SPOOL_BYTES)
        return
    read = unpacked = 0
    inflate = zlib.decompressobj(wbits=31)
    while data:
        read += len(data)
        while data:
            try:
                piece = inflate.decompress(data, TAR_SPOOL_BYTES)
            except zlib.error as error:
                raise Malformed(f"gzip that cannot be unpacked: {error}") from error
            unpacked += len(piece)
            if unpacked > TAR_UNPACKED_BASE_BYTES + TAR_UNPACKED_MAX_FACTOR * read:
                raise Malformed(f"gzip that unpacks to more than {TAR_UNPACKED_MAX_FACTOR} times its size: no bundle")
            yield piece
            data = inflate.unconsumed_tail
            if inflate.eof:
                data = inflate.unused_data.lstrip(b"\0")
                inflate = zlib.decompressobj(wbits=31)  # gzip may be of several parts
        data = file.read(TAR_SPOOL_BYTES)


def _members(file: BinaryIO) -> Iterator[tuple[str, _Member]]:
    """Every file, link and device of a tar by its name, without a leading `./`; folders are left out.

    POSIX.1-2017, pax interchange format, and the GNU extensions for long names and sizes.
    """
    end = os.fstat(file.fileno()).st_size
    at, name, size = 0, None, None
    while True:
        header = os.pread(file.fileno(), _BLOCK_BYTES, at)
        if not header.strip(b"\0"):
            if not header and not at:
                raise Malformed("an empty file: no tar")
            return
        if len(header) < _BLOCK_BYTES or _number(header[148:156]) != _checksum(header):
            raise Malformed("no tar, or a damaged one")
        kind = header[156:157]
        length = _number(header[124:136]) if size is None else size
        body, at = at + _BLOCK_BYTES, at + _BLOCK_BYTES + -(-length // _BLOCK_BYTES) * _BLOCK_BYTES
        if at > end + _BLOCK_BYTES or body + length > end:
            raise Malformed("a tar that is cut short")
        if kind in (_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL):
            if length > TAR_MAX_EXTENDED_BYTES:
                raise Malformed(f"a tar with a name of more than {TAR_MAX_EXTENDED_BYTES} bytes")
            data = os.pread(file.fileno(), length, body)
            if kind == _LONG_NAME:
                name = _text(data)
            elif kind == _EXTENDED:
                name, size = _extended(data, name)
            continue
        if name is None:
            name = _text(header[:100])
            if header[257:263] == b"ustar\0" and header[345] != 0:
                name = f"{_text(header[345:500])}/{name}"
        if kind != _FOLDER and not name.endswith("/"):
            yield name.removeprefix("./"), _Member(body, length if kind in _REGULAR else -1)
        name, size = None, None


def _extended(data: bytes, name: str | None) -> tuple[str | None, int | None]:
    """Name and size of a pax header, `<length> <word>=<value>\\n` each."""
    size: int | None = None
    sparse = False
    while data:
        digits = data.partition(b" ")[0]
        if not digits.isdigit() or len(digits) > 6 or not len(digits) + 1 < int(digits) <= len(data):
            raise Malformed("a tar with a pax header that is none")
        record, data = data[len(digits) + 1 : int(digits)], data[int(digits) :]
        word, _, value = record.removesuffix(b"\n").partition(b"=")
        if word == b"path":
            name = _text(value)
        elif word == b"size":
            if not value.isdigit() or len(value) > 18:
                raise Malformed("a tar with a size that is none")
            size = int(value)
        sparse = sparse or word.startswith(b"GNU.sparse.")
    if sparse:
        raise Malformed("a tar with sparse files: pack the bundle without --sparse")
    return name, size


def _number(field: bytes) -> int:
    """Octal digits, or base 256 where the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if value >= 1 << 62:
            raise Malformed("a tar with a number that is none")
        return value
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        if not digits:
            return 0
        raise Malformed("no tar, or a damaged one")
    return int(digits, 8)


def _checksum(header: bytes) -> int:
    return sum(header) - sum(header[148:156]) + 8 * 0x20


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def pack(directory: Path, file: BinaryIO, *, compress: bool, order: Sequence[str] = _ORDER) -> None:
    """Write a directory as a tar, what lies in it in this order; else as a bundle is read.

    The same files give the same bytes: owner, times and modes are left out.
    """
    mode = "w|gz" if compress else "w|"
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.GNU_FORMAT, bufsize=256 * 1024) as tar:  # type: ignore[call-overload]
        for path in _in_order(directory, order):
            info = tarfile.TarInfo(path.relative_to(directory).as_posix())
            info.size, info.mode = path.stat().st_size, 0o600
            with path.open("rb") as content:
                tar.addfile(info, content)


def _in_order(directory: Path, order: Sequence[str]) -> Iterator[Path]:
    for name in order:
        path = directory / name
        if path.is_dir():
            for folder, folders, files in os.walk(path):
                folders.sort()
                yield from (Path(folder, one) for one in sorted(files))
        elif path.exists():
            yield path
