"""ISO 8601 durations, added to a moment by the calendar, and terms in hours, days or weeks. Says nothing of what a
period means.

Years and months are calendar months in UTC: the day of the month is kept and cut to the month's last day, so that
2024-02-29 plus P12M is 2025-02-28 and 2026-08-31 plus P6M is 2027-02-28. Weeks, days and less are fixed lengths of
86,400 s a day, added after the months.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date
from functools import lru_cache

from ledger.core.errors import ConfigInvalid

HOUR_MS = 3600 * 1000
DAY_MS = 24 * 3600 * 1000
MAX_DURATION_YEARS = 100

_FORM = re.compile(
    r"P(?:(?P<years>\d{1,3})Y)?(?:(?P<months>\d{1,4})M)?(?:(?P<weeks>\d{1,4})W)?(?:(?P<days>\d{1,5})D)?"
    r"(?P<time>T(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,8})M)?(?:(?P<seconds>\d{1,10})S)?)?",
    re.ASCII,
)
_KEEP = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_UNITS_MS = {"h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
_UNIX_ORDINAL = date(1970, 1, 1).toordinal()
_CYCLE_DAYS = 146_097
"""The Gregorian calendar repeats itself every 400 years, so dates beyond Python's are computed in the first cycle."""


class Duration(str):
    """A period, as the text that was written, with its calendar months and its fixed part in milliseconds."""

    __slots__ = ("fixed_ms", "months")
    months: int
    fixed_ms: int

    def after(self, moment_ms: int) -> int:
        """The moment one such period later, in unix milliseconds. Total: any integer will do."""
        if self.months:
            moment_ms += _month_days(moment_ms // DAY_MS, self.months) * DAY_MS
        return moment_ms + self.fixed_ms


def parse_duration(text: str) -> Duration | None:
    """`P12M`, `P2W`, `PT24H` and the like; None for anything else, for nothing at all and for over 100 years."""
    match = _FORM.fullmatch(text)
    if match is None or match["time"] == "T":
        return None
    part = {name: int(value or 0) for name, value in match.groupdict().items() if name != "time"}
    months = part["years"] * 12 + part["months"]
    minutes = ((part["weeks"] * 7 + part["days"]) * 24 + part["hours"]) * 60 + part["minutes"]
    seconds = minutes * 60 + part["seconds"]
    if not months and not seconds:
        return None
    if months + seconds / (30 * 86_400) > MAX_DURATION_YEARS * 12:
        return None
    duration = Duration(text)
    duration.months, duration.fixed_ms = months, seconds * 1000
    return duration


def parse_keep(text: str) -> int:
    """`35d`, `12h` or `8w` in milliseconds; `ConfigInvalid` otherwise."""
    match = _KEEP.fullmatch(text)
    if match is None:
        raise ConfigInvalid("what is kept is kept for a number of hours, days or weeks, like 12h, 35d or 8w")
    return int(match[1]) * _UNITS_MS[match[2]]


@lru_cache(maxsize=8_192)
def _month_days(unix_day: int, months: int) -> int:
    """How many days `months` calendar months are, from the day `unix_day` (days since 1970-01-01)."""
    start = date.fromordinal((unix_day + _UNIX_ORDINAL - 1) % _CYCLE_DAYS + 1)
    years, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    end = date(years, month + 1, min(start.day, monthrange(years, month + 1)[1]))
    return end.toordinal() - start.toordinal()
