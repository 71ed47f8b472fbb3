"""JSON exports, value by value: one object a line, objects one after another, a list, or a list inside an object.

The file is never held whole: the end of each value is found before it is parsed. An object that cannot be parsed is
told of, and reading goes on behind it; where it has no end, at the next line. In a list there is no next line to go on
at, so a list that is broken, or breaks off, ends the reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from ledger.config import IMPORT_ROW_MAX_CHARACTERS
from ledger.core.errors import ConfigInvalid, RowRefused
from ledger.importing.row import Row
from ledger.importing.table import Broken

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\]"]', re.DOTALL)
_BLANK = re.compile(r"[\s,]*")
_SCALAR_END = re.compile(r"[,\]\n]")
_MEMBER_LIST = re.compile(r"\s*:\s*\[")


def read_values(text: Iterable[str], wrappers: Sequence[str]) -> Iterator[Row | Broken]:
    """The objects of the file. `wrappers`: names of the member that holds the list, where an object holds it all.

    `ConfigInvalid` where a list is not whole.
    """
    source = _Text(text)
    source.skip(_BLANK)
    wrapped = source.enter_list(wrappers)
    number = 0
    while True:
        source.skip(_BLANK)
        ended = source.at_end()
        if ended and wrapped:
            raise ConfigInvalid(f"the list breaks off after {number} values: the file is not whole")
        if ended or (wrapped and source.starts("]")):
            return
        number += 1
        taken = source.take_value()
        value = None if taken is None else _parse(taken)
        if isinstance(value, dict):
            yield Row(number, value)
        elif taken is not None and value is not None:
            yield Broken(number, RowRefused("no-object", "The value is no JSON object."))
        else:
            if not taken and wrapped:
                raise ConfigInvalid(
                    f"value {number} of the list is broken, or has more than {IMPORT_ROW_MAX_CHARACTERS:,} characters: "
                    "nothing behind it can be read"
                )
            if not taken:
                source.skip_line()
            yield Broken(number, RowRefused("invalid-json", "The line is not valid JSON, or too long."))


def _parse(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


class _Text:
    """The text from the place at hand, and as much behind it as was needed."""

    def __init__(self, text: Iterable[str]) -> None:
        self._source = iter(text)
        self._buffer = ""
        self._position = 0

    def _more(self) -> bool:
        piece = next(self._source, None)
        if piece is None:
            return False
        self._buffer = self._buffer[self._position :] + piece
        self._position = 0
        return True

    def at_end(self) -> bool:
        while self._position >= len(self._buffer):
            if not self._more():
                return True
        return False

    def starts(self, mark: str) -> bool:
        return self._buffer.startswith(mark, self._position)

    def skip(self, what: re.Pattern[str]) -> None:
        while True:
            found = what.match(self._buffer, self._position)
            self._position = found.end() if found else self._position
            if self._position < len(self._buffer) or not self._more():
                return

    def skip_line(self) -> None:
        while (end := self._buffer.find("\n", self._position)) < 0:
            self._position = len(self._buffer)
            if not self._more():
                return
        self._position = end + 1

    def enter_list(self, wrappers: Sequence[str]) -> bool:
        """Go into the list that the file is, or that its first object holds under one of these names."""
        if self.starts("["):
            self._position += 1
            return True
        if not self.starts("{"):
            if self.at_end():
                raise ConfigInvalid("the file is empty")
            raise ConfigInvalid("the file begins neither with an object nor with a list: is this JSON?")
        while len(self._buffer) < IMPORT_ROW_MAX_CHARACTERS and self._more():
            pass
        depth = 0
        for token in _TOKEN.finditer(self._buffer, self._position):
            mark = token[0]
            depth += (mark in "{[") - (mark in "}]")
            if depth == 0 or mark == '"':
                return False
            if depth == 1 and mark[1:-1] in wrappers:
                opened = _MEMBER_LIST.match(self._buffer, token.end())
                if opened is not None:
                    self._position = opened.end()
                    return True
        return False

    def take_value(self) -> str | None:
        """The next value's text; None if it has no end within the bound."""
        while True:
            end = self._end()
            if end is not None and end - self._position > IMPORT_ROW_MAX_CHARACTERS:
                return None
            if end is not None:
                taken = self._buffer[self._position : end]
                self._position = end
                return taken
            if len(self._buffer) - self._position > IMPORT_ROW_MAX_CHARACTERS or not self._more():
                return None

    def _end(self) -> int | None:
        if not self.starts("{") and not self.starts("["):
            found = _SCALAR_END.search(self._buffer, self._position)
            return found.start() if found else None
        depth = 0
        for token in _TOKEN.finditer(self._buffer, self._position):
            mark = token[0]
            if mark == '"':
                return None
            depth += (mark in "{[") - (mark in "}]")
            if depth == 0:
                return token.end()
        return None
