"""Cookiebot: the consent log that its account offers for download, as CSV.

Read are the consent's key, the time (a column named for UTC is taken at its word), the country where it is a code, and
the four categories as columns of flags. `Necessary` is never asked. The others (`Preferences`, `Statistics`,
`Marketing`) are mapped like any other name. Page, browser and the shortened address are not read, and of them only the
page stays in the evidence, without its query.

A returning browser carries the key as `stamp` in its cookie `CookieConsent`: the page computes the visitor of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.importing.found import Format, Found, common
from ledger.importing.mapping import Plan
from ledger.importing.row import Cells, as_text, plain

_NAMES = {
    "visitor": ("consent id", "consent key", "key", "user consent id", "stamp", "id"),
    "time": ("date utc", "consent date utc", "timestamp utc", "utc", "date", "timestamp", "time"),
    "region": ("country code", "country", "region"),
    "language": ("language", "culture"),
    "version": ("banner version", "version"),
    "validUntil": ("expires", "expiry date"),
}
_CATEGORIES = frozenset({"necessary", "preferences", "statistics", "marketing"})


def _columns(header: Sequence[str], plan: Plan) -> Sequence[str]:
    mapped = set(map(plain, plan.mapped))
    return [name for name in header if plain(name) in _CATEGORIES | mapped]


def _find(cells: Cells, value: Mapping[str, Any], plan: Plan) -> Found:
    return common(cells, [(name, as_text(value[name])) for name in _columns(tuple(value), plan)])


FORMAT = Format(
    name="cookiebot",
    tables=True,
    json=False,
    names=_NAMES,
    words={},
    find=_find,
    columns=_columns,
    never_asked=("necessary",),
)
