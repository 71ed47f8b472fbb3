"""What a format finds in a row: who, when and what was answered, in the export's own words.

A format is a table of names and one pure function; what the words mean for this site is the plan's to say (act).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ledger.core.errors import ConfigInvalid
from ledger.importing.mapping import Plan, Word
from ledger.importing.moment import read_moment
from ledger.importing.row import Cells, Role, Row, plain

_NO_ZONE = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?")


class Found(NamedTuple):
    """The cells that were read. `answers`: the export's name of a purpose and its word for the answer, as text.

    `forced`: what the row as a whole says of its grants (`withdrawn`, or `none`: not confirmed yet). `set_aside`: why
    the row does not count at all, as a slug.
    """

    visitor: str
    time: str
    answers: Sequence[tuple[str, str]]
    id: str = ""
    language: str = ""
    region: str = ""
    gpc: str = ""
    tc_string: str = ""
    version: str = ""
    valid_until: str = ""
    forced: Word | None = None
    set_aside: str = ""


class Format(NamedTuple):
    """`tables`, `json`: which of the two an export may be. `names`: under which names it has each cell.

    `find`: the cells of one row. `columns`: of a table's header those that are a purpose each, where it has such.
    `split`: the events of one JSON value; `wrappers`: the member that holds the list, where one object holds it all.
    `never_asked`: its names of what needs no consent. `needed`: without which no row can be read.
    """

    name: str
    tables: bool
    json: bool
    names: Mapping[Role, tuple[str, ...]]
    words: Mapping[str, Word]
    find: Callable[[Cells, Mapping[str, Any], Plan], Found]
    wrappers: Sequence[str] = ()
    columns: Callable[[Sequence[str], Plan], Sequence[str]] | None = None
    split: Callable[[Row], Iterator[Row]] = lambda row: iter((row,))
    never_asked: Sequence[str] = ()
    needed: Sequence[Role] = ("visitor", "time")


def names_of(form: Format, plan: Plan) -> Mapping[Role, tuple[str, ...]]:
    """Under which names a cell is looked for: the mapping's alone where it has one, else all that are known."""
    return {**form.names, **{role: (name,) for role, name in plan.columns.items()}}


def check_header(header: Sequence[str], form: Format, plan: Plan) -> None:
    """`ConfigInvalid` where a table lacks what every row needs, or a column that the mapping names."""
    names = names_of(form, plan)
    there = {plain(name) for name in header}
    shown = f"the file has {', '.join(filter(None, header))}; name the right one in the mapping, under `columns`"
    for role in form.needed:
        if not there & {plain(name) for name in names.get(role, ())}:
            looked_for = ", ".join(names.get(role, ()))
            raise ConfigInvalid(f"no column for the {role}, which is looked for as {looked_for}: {shown}")
    missing = sorted(name for role, name in plan.columns.items() if plain(name) not in there)
    if missing:
        raise ConfigInvalid(f"no column {', '.join(missing)}, which the mapping names: {shown}")
    if form.columns is not None and not form.columns(header, plan):
        raise ConfigInvalid(
            f"no column is one of the site's purposes: the file has {', '.join(filter(None, header))}; "
            "say in the mapping which column is which purpose, under `purposes`"
        )


def common(cells: Cells, answers: Sequence[tuple[str, str]], forced: Word | None = None) -> Found:
    """A row whose cells all lie under their roles. `RowRefused` without a visitor or a time."""
    return Found(
        visitor=cells.need("visitor"),
        time=_time(cells),
        answers=answers,
        id=cells.text("id"),
        language=cells.text("language"),
        region=cells.text("region"),
        gpc=cells.text("gpc"),
        tc_string=cells.text("tcString"),
        version=cells.text("version"),
        valid_until=cells.text("validUntil"),
        forced=forced,
    )


def _time(cells: Cells) -> str:
    """A column that is called `Date (UTC)` names the zone of its times."""
    time = cells.need("time")
    return f"{time}Z" if "utc" in plain(cells.place("time") or "") and _NO_ZONE.fullmatch(time) else time


def has_lapsed(text: str, plan: Plan) -> bool:
    """Whether a consent that was valid until then had ended, by the old tool's own word."""
    return bool(text) and read_moment(text, plan.zone, plan.form).latest_ms <= plan.now_ms
