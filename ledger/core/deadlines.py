"""By when a person's request has to be answered, and until when that may be put off: the periods that a site document
writes, and the days they end on.

A period is an ISO 8601 duration (`P30D`, `P1M`) or a number of working days (`15 working days`), for which ISO 8601 has
no notation. A working day is Monday to Friday: public holidays are not counted, so a deadline is never later than the
law's for not knowing one. Days are those of the offset from UTC that the document names; the time of day is kept, so a
deadline lies within the law's last day, never behind it. What a request is, and who answers it, is elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ledger.core.duration import DAY_MS, Duration, parse_duration
from ledger.core.regions import applying

MAX_WORKING_DAYS = 365
UTC_OFFSET = "+00:00"

_WORKING_DAYS = re.compile(r"([1-9][0-9]{0,2}) working days?", re.ASCII)
_OFFSET = re.compile(r"([+-])(0[0-9]|1[0-4]):([0-5][0-9])", re.ASCII)
_FRIDAY, _WEEK_DAYS = 4, 7
_UNIX_WEEKDAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""


class WorkingDays(str):
    """A number of working days, as the text that was written."""

    __slots__ = ("days",)
    days: int


Period = Duration | WorkingDays


def parse_period(text: str) -> Period | None:
    """`P30D`, `P1M` or `15 working days`; None for anything else, and beyond 365 working days."""
    match = _WORKING_DAYS.fullmatch(text)
    if match is None:
        return parse_duration(text)
    count = int(match[1])
    if count > MAX_WORKING_DAYS:
        return None
    period = WorkingDays(text)
    period.days = count
    return period


def parse_offset(text: str) -> int | None:
    """Minutes east of UTC of `+05:00`; None for what is written otherwise or lies beyond 14 hours."""
    match = _OFFSET.fullmatch(text)
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    if minutes > 14 * 60:
        return None
    return -minutes if match[1] == "-" else minutes


class Term(NamedTuple):
    """How soon an answer is due, and by how much more it may be put off; None: not at all."""

    within: Period
    extension: Period | None = None


class Due(NamedTuple):
    """When an answer is due, and the latest moment to which it may be put off (None: there is no room), in unix
    milliseconds."""

    due_ms: int
    extendable_to_ms: int | None


def due(
    terms: Mapping[str, Term],
    region: str | None,
    received_ms: int,
    *,
    otherwise: tuple[Term, ...],
    offset_minutes: int = 0,
    to_working_day: bool = False,
) -> Due:
    """When the answer to a request is due, and how far that may be put off.

    `terms` say it by region, group or `default`. Of all that they may say of the region the earliest moment counts, for
    either: of an unknown place that is all of them. `otherwise` (at least one term) is for a place of which they say
    nothing. With `to_working_day` a moment on a Saturday or Sunday moves to the Monday after it.
    """
    told = applying(terms, region, None)
    found = [term for term in told if term is not None]
    if None in told:
        found += otherwise
    soonest = min(deadline(received_ms, term.within, offset_minutes, to_working_day=to_working_day) for term in found)
    latest = min(_latest(received_ms, term, offset_minutes, to_working_day=to_working_day) for term in found)
    return Due(soonest, latest if latest > soonest else None)


def may_hold_gdpr(region: str | None) -> bool:
    """Whether a request from there may be under the GDPR, of the EEA or of the UK: from an unknown place too."""
    return any(applying({"EEA": True, "UK": True}, region, False))


def _latest(received_ms: int, term: Term, offset_minutes: int, *, to_working_day: bool) -> int:
    """The end of the term with its extension. That is added to the term's own last day, not to the Monday after it."""
    if term.extension is None:
        return deadline(received_ms, term.within, offset_minutes, to_working_day=to_working_day)
    ends_ms = deadline(received_ms, term.within, offset_minutes)
    return deadline(ends_ms, term.extension, offset_minutes, to_working_day=to_working_day)


def deadline(received_ms: int, period: Period, offset_minutes: int = 0, *, to_working_day: bool = False) -> int:
    """The moment one period after a request was received. The day of receipt is not counted among working days."""
    local_ms = received_ms + offset_minutes * 60_000
    if isinstance(period, WorkingDays):
        local_ms = _after_working_days(local_ms, period.days)
    else:
        local_ms = period.after(local_ms)
        if to_working_day:
            local_ms += _days_to_monday(local_ms) * DAY_MS
    return local_ms - offset_minutes * 60_000


def _weekday(local_ms: int) -> int:
    return (local_ms // DAY_MS + _UNIX_WEEKDAY) % _WEEK_DAYS


def _days_to_monday(local_ms: int) -> int:
    """From a Saturday or Sunday; none from a working day."""
    weekday = _weekday(local_ms)
    return _WEEK_DAYS - weekday if weekday > _FRIDAY else 0


def _after_working_days(local_ms: int, count: int) -> int:
    """So many working days after a day. One that was received on a weekend counts as received on the Friday before."""
    weekday = _weekday(local_ms)
    back = max(0, weekday - _FRIDAY)
    weeks, days = divmod(count, 5)
    weekday -= back
    over = 2 if weekday + days > _FRIDAY else 0
    return local_ms + (weeks * _WEEK_DAYS + days + over - back) * DAY_MS
