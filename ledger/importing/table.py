"""CSV as spreadsheets and consent tools write it, row by row, with each cell as it stands in the file.

RFC 4180, and what is common beside it: semicolons, tabs, bare newlines, a `sep=;` line. A quote that never closes
spoils its own row alone. The csv module is not used: it does not tell what a cell looked like, which is evidence.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ledger.config import IMPORT_ROW_MAX_CHARACTERS
from ledger.core.errors import ConfigInvalid, RowRefused
from ledger.importing.row import Row, plain

_DELIMITERS = (",", ";", "\t", "|")
_QUOTED = re.compile(r'"((?:[^"]|"")*+)"')
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?")


class Broken(NamedTuple):
    """A row that cannot be read, and why."""

    number: int
    problem: RowRefused


def read_table(text: Iterable[str], check: Callable[[list[str]], None] = lambda header: None) -> Iterator[Row | Broken]:
    """The rows after the header, which `check` may refuse. `ConfigInvalid`: there is none, or it has a name twice."""
    lines = _Lines(text)
    delimiter: str | None = None
    first = lines.next()
    if first is not None and (marked := _SEPARATOR_LINE.fullmatch(first)):
        delimiter, first = marked[1], lines.next()
    while first is not None and not first.strip():
        first = lines.next()
    if first is None:
        raise ConfigInvalid("the file is empty")
    lines.push_back([first])
    delimiter = delimiter or _delimiter_of(first)
    number = 1
    header: list[str] | None = None
    while (record := _record(lines, delimiter)) is not None:
        if header is None:
            if isinstance(record, RowRefused):
                raise ConfigInvalid("the first row, which names the columns, cannot be read")
            header = [_value(piece).strip() for piece in record]
            _check_header(header)
            check(header)
            continue
        number += 1
        if isinstance(record, RowRefused):
            yield Broken(number, record)
        elif any(_value(piece).strip() for piece in record):
            yield _row(number, header, record, delimiter)


def _check_header(header: list[str]) -> None:
    names = [plain(name) for name in header if plain(name)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigInvalid(f"two columns have the same name: {', '.join(doubled)}")
    if len(names) < 2:
        raise ConfigInvalid("the first row names fewer than two columns: is it the header, and is this CSV?")


def _row(number: int, header: list[str], pieces: list[str], delimiter: str) -> Row | Broken:
    if any(piece.strip() for piece in pieces[len(header) :]):
        told = f"The row has {len(pieces)} cells under {len(header)} columns."
        return Broken(number, RowRefused("too-many-cells", told))
    value = {name: _value(piece) for name, piece in zip(header, pieces, strict=False) if name}
    return Row(number, value, header=tuple(header), pieces=pieces, delimiter=delimiter)


def _value(piece: str) -> str:
    quoted = _QUOTED.fullmatch(piece)
    return quoted[1].replace('""', '"') if quoted else piece


def _delimiter_of(header: str) -> str:
    bare = _QUOTED.sub("", header)
    return max(_DELIMITERS, key=bare.count)


class _Lines:
    """Lines without their newline; some may be put back."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text = iter(text)
        self._waiting: deque[str] = deque()
        self._rest = ""
        self._ended = False

    def next(self) -> str | None:
        while not self._waiting:
            if self._ended:
                return None
            piece = next(self._text, None)
            if piece is None:
                self._ended = True
                if self._rest:
                    self._waiting.append(self._rest)
                break
            *complete, self._rest = (self._rest + piece).split("\n")
            self._waiting.extend(complete)
            if len(self._rest) > IMPORT_ROW_MAX_CHARACTERS:
                raise ConfigInvalid(f"a line has more than {IMPORT_ROW_MAX_CHARACTERS:,} characters: is this CSV?")
        return self._waiting.popleft() if self._waiting else None

    def push_back(self, lines: list[str]) -> None:
        self._waiting.extendleft(reversed(lines))


def _record(lines: _Lines, delimiter: str) -> list[str] | RowRefused | None:
    """The cells of the next row as they stand there; a quoted cell may go on over several lines."""
    first = lines.next()
    if first is None:
        return None
    pieces = _split(first, delimiter)
    if pieces is not None:
        return pieces
    taken, text, line = [first], first, lines.next()
    while line is not None and len(text) + len(line) <= IMPORT_ROW_MAX_CHARACTERS:
        taken.append(line)
        text += "\n" + line
        pieces = _split(text, delimiter) if '"' in line else None
        if isinstance(pieces, list):
            return pieces
        line = lines.next() if pieces is None else None
    lines.push_back(taken[1:] if line is None else [*taken[1:], line])
    return RowRefused("open-quote", "The row opens a quote that nothing closes.")


def _split(text: str, delimiter: str) -> list[str] | RowRefused | None:
    """None: a quote is still open."""
    if '"' not in text:
        return text.removesuffix("\r").split(delimiter)
    pieces: list[str] = []
    text = text.removesuffix("\r")
    position = 0
    while True:
        if text.startswith('"', position):
            quoted = _QUOTED.match(text, position)
            if quoted is None:
                return None
            end = quoted.end()
            if end < len(text) and not text.startswith(delimiter, end):
                return RowRefused("text-after-quote", "A quoted cell of the row goes on after its quote.")
        else:
            end = text.find(delimiter, position)
            end = len(text) if end < 0 else end
        pieces.append(text[position:end])
        if end == len(text):
            return pieces
        position = end + len(delimiter)
