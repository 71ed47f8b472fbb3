"""A row of an export, and how a format finds its cells; nothing of what they mean.

A cell is looked up by name however an export spells it: `Consent ID`, `consent_id` and `consentId` are one name. In
JSON a name may be a path: `user.id`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ledger.core.errors import RowRefused

Role = str
"""What a cell is for: `visitor`, `time`, `answer`, … (`ROLES`)."""
ROLES = (
    "id", "visitor", "time", "purpose", "answer", "purposes", "language", "region", "gpc", "tcString", "version",
    "validUntil", "status",
)  # fmt: skip
_NOT_A_NAME = re.compile(r"[\W_]+")
_MISSING = object()


class Row(NamedTuple):
    """`number`: the line of a spreadsheet (its header is 1), or the place among JSON values (from 1). `part`: of
    several events in one JSON value, from 1. `pieces`: a table's cells exactly as they stand in the file.
    """

    number: int
    value: Mapping[str, Any]
    part: int = 0
    header: tuple[str, ...] = ()
    pieces: Sequence[str] = ()
    delimiter: str = ","


class Cells:
    """A row's cells by role: under the name that the mapping gives it, else under the first known one it has."""

    def __init__(
        self, value: Mapping[str, Any], names: Mapping[Role, tuple[str, ...]], header: tuple[str, ...] = ()
    ) -> None:
        """`header`: a table's, whose every row has the same cells."""
        self._value, self._names, self._header = value, names, header

    def get(self, role: Role) -> Any:
        """The cell, or None where the row has none."""
        found = self.place(role)
        return None if found is None else pick(self._value, found)

    def text(self, role: Role) -> str:
        """The cell as text, without white space around it; empty where there is none."""
        return as_text(self.get(role))

    def need(self, role: Role) -> str:
        """The cell as text; `RowRefused` where it is missing or empty."""
        text = self.text(role)
        if not text:
            raise RowRefused(f"no-{role}", f"The row has no {role}: {_known(self._names.get(role, ()))}.")
        return text

    def place(self, role: Role) -> str | None:
        """The name, or path, under which the row has the cell."""
        names = self._names.get(role, ())
        if self._header:
            return column_of(self._header, names)
        return next((name for name in names if pick(self._value, name) is not None), None)


def _known(names: Sequence[str]) -> str:
    return "looked for " + ", ".join(map(repr, names)) if names else "name its column in the mapping, under `columns`"


@lru_cache(maxsize=512)
def column_of(header: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    """The column that has the first of these names that any has."""
    columns = {plain(column): column for column in header if column}
    return next((columns[plain(name)] for name in names if plain(name) in columns), None)


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A name without what exports spell differently: case, blanks, underscores, punctuation."""
    return _NOT_A_NAME.sub("", name.casefold())


def pick(value: Any, path: str) -> Any:
    """The member of that name, else of that path; None where there is none."""
    if not isinstance(value, Mapping):
        return None
    found = _member(value, path)
    if found is _MISSING and "." in path:
        first, _, rest = path.partition(".")
        inner = _member(value, first)
        return None if inner is _MISSING else pick(inner, rest)
    return None if found is _MISSING else found


def _member(value: Mapping[str, Any], name: str) -> Any:
    if name in value:
        return value[name]
    wanted = plain(name)
    for key, member in value.items():
        if plain(key) == wanted:
            return member
    return _MISSING


def as_text(cell: Any) -> str:
    """A cell as text: JSON's true is `true`, its null empty; a list or an object is no text."""
    if cell is None or isinstance(cell, list | dict):
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell).strip()


def as_json(cell: Any) -> Any:
    """A cell that holds JSON, in a table as text; `RowRefused` if it is none."""
    if not isinstance(cell, str):
        return cell
    if not cell.strip():
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise RowRefused("bad-cell", "A cell that should hold JSON holds none.") from error
