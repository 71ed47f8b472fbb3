"""When a row says that it happened, as milliseconds since 1970; two of them where the row leaves room.

A day without a time, and an hour that a clock shows twice, could be several moments: a grant is dated at the earliest
of them and a denial at the latest, so that no doubt makes a consent win or last. A time without an offset is not
guessed at: whoever imports names the time zone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from ledger.core.errors import RowRefused

_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?\s*(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?",
    re.IGNORECASE,
)
_SECONDS = re.compile(r"[1-9]\d{9}(?:\.\d{1,9})?")
_MILLISECONDS = re.compile(r"[1-9]\d{12}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


class Moment(NamedTuple):
    """The same twice where the row is definite."""

    earliest_ms: int
    latest_ms: int


def read_moment(text: str, zone: tzinfo | None, form: str | None) -> Moment:
    """Of an ISO 8601 time, of seconds or milliseconds since 1970, or of a text in the form that strptime(3) knows.

    `RowRefused`: `time-zone-missing` where only a zone is lacking, else `bad-time`.
    """
    try:
        if form is not None:
            moment = datetime.strptime(text, form)
            return _between(moment, moment, zone)
        if _MILLISECONDS.fullmatch(text):
            return Moment(int(text), int(text))
        if _SECONDS.fullmatch(text):
            return Moment(int(float(text) * 1000), int(float(text) * 1000))
        return _of_iso(text, zone)
    except (ValueError, OverflowError) as error:
        raise RowRefused(
            "bad-time", "The row's time is none of the calendar, or not ISO 8601: say in the mapping its `timeForm`."
        ) from error


def _of_iso(text: str, zone: tzinfo | None) -> Moment:
    parts = _TIME.fullmatch(text)
    if parts is None:
        raise ValueError
    day, minute, second, fraction, offset = parts.groups()
    written = f"{day}T{minute or '00:00'}:{second or '00'}.{(fraction or '0')[:6]:0<6}"
    moment = datetime.fromisoformat(written)
    if offset is not None:
        zone = (
            UTC
            if offset.isalpha()
            else datetime.strptime(offset.ljust(3, "0").replace(":", "").ljust(5, "0"), "%z").tzinfo
        )
    return _between(moment, moment if minute else moment + _DAY - timedelta(milliseconds=1), zone)


def _between(earliest: datetime, latest: datetime, zone: tzinfo | None) -> Moment:
    if earliest.tzinfo is None and zone is None:
        raise RowRefused(
            "time-zone-missing", "The row's time has no offset: name the zone in which it was written by --time-zone."
        )
    if earliest.tzinfo is not None:
        return Moment(_ms(earliest), _ms(latest))
    return Moment(_ms(earliest.replace(tzinfo=zone)), _ms(latest.replace(tzinfo=zone, fold=1)))


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
