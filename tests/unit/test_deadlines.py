"""By when a request has to be answered: month ends, leap days, weekends, working days, the strictest of the unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.deadlines import Period, deadline, due_ms, parse_offset, parse_period
from ledger.core.encoding import decode_time, encode_time

MINUTE_MS, DAY_MS = 60_000, 86_400_000
MONTH = "P1M"


def period(text: str) -> Period:
    found = parse_period(text)
    assert found is not None
    return found


def due(received: str, text: str, offset: str = "+00:00", *, moved: bool = False) -> str:
    minutes = parse_offset(offset)
    assert minutes is not None
    return encode_time(deadline(decode_time(f"{received}:00.000Z"), period(text), minutes, to_working_day=moved))[:16]


@pytest.mark.parametrize(
    ("received", "text", "ends"),
    [
        ("2026-01-31T10:00", MONTH, "2026-02-28T10:00"),
        ("2028-01-31T10:00", MONTH, "2028-02-29T10:00"),
        ("2028-02-29T10:00", MONTH, "2028-03-29T10:00"),
        ("2026-03-31T10:00", MONTH, "2026-04-30T10:00"),
        ("2026-01-31T10:00", "P30D", "2026-03-02T10:00"),
        ("2028-02-28T10:00", "P1D", "2028-02-29T10:00"),
        ("2026-12-31T23:59", MONTH, "2027-01-31T23:59"),
    ],
)
def test_a_calendar_period_is_cut_to_the_end_of_the_month(received: str, text: str, ends: str) -> None:
    assert due(received, text) == ends


@pytest.mark.parametrize(
    ("received", "text", "ends"),
    [
        ("2026-11-19T10:00", "1 working day", "2026-11-20T10:00"),  # a Thursday
        ("2026-11-20T10:00", "1 working day", "2026-11-23T10:00"),  # a Friday
        ("2026-11-21T10:00", "1 working day", "2026-11-23T10:00"),  # a Saturday
        ("2026-11-22T10:00", "1 working day", "2026-11-23T10:00"),
        ("2026-11-18T10:00", "3 working days", "2026-11-23T10:00"),  # K4
        ("2026-11-20T10:00", "5 working days", "2026-11-27T10:00"),
        ("2026-11-21T10:00", "5 working days", "2026-11-27T10:00"),
        ("2028-02-25T10:00", "3 working days", "2028-03-01T10:00"),  # over a leap day
        ("2026-11-16T10:00", "15 working days", "2026-12-07T10:00"),
    ],
)
def test_working_days_are_monday_to_friday_after_the_day_of_receipt(received: str, text: str, ends: str) -> None:
    assert due(received, text) == ends


def test_days_are_those_of_the_offset_that_the_document_names() -> None:
    # Friday evening in London is Saturday morning in Astana, and the other way round for a month's last day.
    assert due("2026-11-20T20:00", "1 working day") == "2026-11-23T20:00"
    assert due("2026-11-20T20:00", "1 working day", "+05:00") == "2026-11-22T20:00"
    assert due("2026-01-30T20:00", MONTH, "+05:00") == "2026-02-27T20:00"
    assert due("2026-01-30T20:00", MONTH) == "2026-02-28T20:00"


def test_a_deadline_on_a_weekend_moves_only_where_the_document_says_so() -> None:
    assert due("2026-10-21T10:00", MONTH) == "2026-11-21T10:00"  # a Saturday
    assert due("2026-10-21T10:00", MONTH, moved=True) == "2026-11-23T10:00"
    assert due("2026-10-22T10:00", MONTH, moved=True) == "2026-11-23T10:00"
    assert due("2026-10-20T10:00", MONTH, moved=True) == "2026-11-20T10:00"
    # In Astana it is Saturday already, so what counts is the Monday there.
    assert due("2026-10-20T20:00", MONTH, "+05:00", moved=True) == "2026-11-22T20:00"


@pytest.mark.parametrize(
    "text", ["", "P3BD", "0 working days", "366 working days", "3 days", "3  working days", "٣ working days"]
)
def test_what_is_no_period_is_none(text: str) -> None:
    assert parse_period(text) is None


TABLE = {"default": "P30D", "EU": MONTH, "KZ": "3 working days", "US-CA": "P45D"}
RECEIVED = "2026-11-18T10:00:00.000Z"
OTHERWISE = (period("P30D"), period(MONTH))


def in_region(region: str | None, table: dict[str, str]) -> str:
    read = {key: period(text) for key, text in table.items()}
    return encode_time(due_ms(read, region, decode_time(RECEIVED), otherwise=OTHERWISE))[:10]


def test_the_earliest_moment_counts_of_all_that_the_table_may_say() -> None:
    assert in_region("KZ", TABLE) == "2026-11-23"
    assert in_region("DE", TABLE) == "2026-12-18"
    assert in_region("BR", TABLE) == "2026-12-18"
    assert in_region("US-CA", TABLE) == "2027-01-02"
    assert in_region("US", TABLE) == "2026-12-18", "it may be California or not"
    for unknown in (None, "ZZ", "XX"):
        assert in_region(unknown, TABLE) == "2026-11-23", "the strictest of the whole table"
    assert in_region(None, {"KZ": "P60D"}) == "2026-12-18", "elsewhere the table says nothing, so 30 days or a month"
    assert in_region("KZ", {}) == "2026-12-18"
    assert in_region("KZ", {"KZ": "P60D"}) == "2027-01-17"


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1)),
    st.integers(1, 365),
    st.integers(-14 * 60, 14 * 60),
)
def test_working_days_are_what_a_calendar_counts(received: datetime, count: int, offset: int) -> None:
    received_ms = int(received.replace(tzinfo=UTC).timestamp() * 1000)
    ends = deadline(received_ms, period(f"{count} working days"), offset)
    day, left = (received + timedelta(minutes=offset)).date(), count
    while left:
        day += timedelta(days=1)
        left -= day.weekday() < 5
    local = datetime.fromtimestamp((ends + offset * MINUTE_MS) / 1000, UTC)
    assert local.date() == day
    assert (ends - received_ms) % DAY_MS == 0, "the time of day is kept"
