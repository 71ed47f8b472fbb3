"""A file as text, piece by piece: gzip is recognised, and what a byte order mark says of the encoding.

Nothing is held but the piece at hand. Text that is not in its encoding ends the reading: half a file is no import.
"""

from __future__ import annotations

import codecs
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ledger.config import IMPORT_READ_BYTES
from ledger.core.errors import ConfigInvalid

_GZIP = b"\x1f\x8b"
_ZIP = b"PK"
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@contextmanager
def opened(path: Path, stdin: BinaryIO) -> Iterator[BinaryIO]:
    """The file, which can be read twice: a pipe is put into a temporary file that nobody else can open."""
    source: BinaryIO = stdin if path == Path("-") else path.open("rb")
    try:
        if path != Path("-") and source.seekable():
            yield source
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(source, copy)
            yield cast(BinaryIO, copy)
    finally:
        if source is not stdin:
            source.close()


def read_text(file: BinaryIO, encoding: str | None) -> Iterator[str]:
    """The whole file from its beginning. Without `encoding` it is what the byte order mark says, else UTF-8."""
    file.seek(0)
    begins = file.read(2)
    file.seek(0)
    if begins == _ZIP:
        raise ConfigInvalid("the file is a ZIP, or a spreadsheet: unpack it, or save it as CSV")
    source: BinaryIO = cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=file))) if begins == _GZIP else file
    try:
        yield from _decode(source, encoding)
    except UnicodeDecodeError as error:
        raise ConfigInvalid(
            f"the file is not {error.encoding}: name its encoding, like --encoding cp1252, or save it as UTF-8"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConfigInvalid("the file breaks off, or is not the gzip that it begins as") from error


def _decode(source: BinaryIO, encoding: str | None) -> Iterator[str]:
    data = source.read(IMPORT_READ_BYTES)
    for mark, name in _MARKS:
        if data.startswith(mark):
            encoding, data = name, data[len(mark) :]
            break
    decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
    while data:
        yield decoder.decode(data)
        data = source.read(IMPORT_READ_BYTES)
    yield decoder.decode(b"", final=True)
