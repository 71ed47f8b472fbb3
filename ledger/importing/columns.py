"""Any CSV file: `--format csv`.

One row is one person's choice, with a column for each purpose (`visitor,date,analytics,marketing`), or one answer to
one purpose (`visitor,date,purpose,answer`). Columns are known by the names below, or named in the mapping under
`columns`. Purposes are those columns, or words, that the mapping has under `purposes`, or that are the site's own ids
and titles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.core.errors import ConfigInvalid
from ledger.importing.found import Format, Found, common
from ledger.importing.mapping import Plan
from ledger.importing.row import Cells, as_text, plain

_NAMES = {
    "id": ("id", "event id", "record id"),
    "visitor": ("visitor", "visitor id", "user id", "subject", "subject id", "consent id"),
    "time": ("occurred at", "time", "timestamp", "date", "date utc", "consent date", "created at"),
    "purpose": ("purpose", "purpose id", "category"),
    "answer": ("answer", "decision", "choice", "consent", "status"),
    "language": ("language", "lang", "locale"),
    "region": ("region", "country", "country code"),
    "gpc": ("gpc",),
    "tcString": ("tc string",),
    "version": ("policy version", "version"),
    "validUntil": ("valid until", "expires at"),
}


def _columns(header: Sequence[str], plan: Plan) -> Sequence[str]:
    missing = [name for name in plan.mapped if plain(name) not in set(map(plain, header))]
    long = _is_long(header, plan)
    if missing and not long:
        raise ConfigInvalid(f"no column {', '.join(missing)}, which the mapping has as a purpose")
    return header if long else _purposes(header, plan)


def _is_long(header: Sequence[str], plan: Plan) -> bool:
    there = {plain(name) for name in header}
    return all(
        there & {plain(name) for name in (plan.columns.get(role), *_NAMES[role]) if name}
        for role in ("purpose", "answer")
    )


def _purposes(header: Sequence[str], plan: Plan) -> list[str]:
    taken = {plain(name) for name in plan.columns.values()}
    return [name for name in header if plain(name) in plan.purposes and plain(name) not in taken]


def _find(cells: Cells, value: Mapping[str, Any], plan: Plan) -> Found:
    header = tuple(value)
    if _is_long(header, plan):
        return common(cells, [(cells.need("purpose"), cells.text("answer"))])
    return common(cells, [(name, as_text(value[name])) for name in _purposes(header, plan)])


FORMAT = Format(name="csv", tables=True, json=False, names=_NAMES, words={}, find=_find, columns=_columns)
