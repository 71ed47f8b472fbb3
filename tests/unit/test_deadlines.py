"""By when a request has to be answered: month ends, leap days, weekends, working days, the strictest of the unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.deadlines import (
    Due,
    Period,
    Term,
    deadline,
    due,
    may_hold_gdpr,
    parse_offset,
    parse_period,
)
from ledger.core.encoding import decode_time, encode_time

MINUTE_MS, DAY_MS = 60_000, 86_400_000
MONTH = "P1M"


def period(text: str) -> Period:
    found = parse_period(text)
    assert found is not None
    return found


def ends(received: str, text: str, offset: str = "+00:00", *, moved: bool = False) -> str:
    minutes = parse_offset(offset)
    assert minutes is not None
    return encode_time(deadline(decode_time(f"{received}:00.000Z"), period(text), minutes, to_working_day=moved))[:16]


@pytest.mark.parametrize(
    ("received", "text", "day"),
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
def test_a_calendar_period_is_cut_to_the_end_of_the_month(received: str, text: str, day: str) -> None:
    assert ends(received, text) == day


@pytest.mark.parametrize(
    ("received", "text", "day"),
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
def test_working_days_are_monday_to_friday_after_the_day_of_receipt(received: str, text: str, day: str) -> None:
    assert ends(received, text) == day


def test_days_are_those_of_the_offset_that_the_document_names() -> None:
    # Friday evening in London is Saturday morning in Astana, and the other way round for a month's last day.
    assert ends("2026-11-20T20:00", "1 working day") == "2026-11-23T20:00"
    assert ends("2026-11-20T20:00", "1 working day", "+05:00") == "2026-11-22T20:00"
    assert ends("2026-01-30T20:00", MONTH, "+05:00") == "2026-02-27T20:00"
    assert ends("2026-01-30T20:00", MONTH) == "2026-02-28T20:00"


def test_a_deadline_on_a_weekend_moves_only_where_the_document_says_so() -> None:
    assert ends("2026-10-21T10:00", MONTH) == "2026-11-21T10:00"  # a Saturday
    assert ends("2026-10-21T10:00", MONTH, moved=True) == "2026-11-23T10:00"
    assert ends("2026-10-22T10:00", MONTH, moved=True) == "2026-11-23T10:00"
    assert ends("2026-10-20T10:00", MONTH, moved=True) == "2026-11-20T10:00"
    # In Astana it is Saturday already, so what counts is the Monday there.
    assert ends("2026-10-20T20:00", MONTH, "+05:00", moved=True) == "2026-11-22T20:00"


@pytest.mark.parametrize(
    "text", ["", "P3BD", "0 working days", "366 working days", "3 days", "3  working days", "٣ working days"]
)
def test_what_is_no_period_is_none(text: str) -> None:
    assert parse_period(text) is None


TABLE = {"default": "P30D", "EU": MONTH, "KZ": "3 working days", "US-CA": "P45D"}
RECEIVED = "2026-11-18T10:00:00.000Z"


def term(within: str, extension: str | None) -> Term:
    return Term(period(within), None if extension is None else period(extension))


def asked(region: str | None, table: dict[str, str], extensions: dict[str, str], *, moved: bool = False) -> Due:
    terms = {key: term(text, extensions.get(key)) for key, text in table.items()}
    otherwise = tuple(term(text, "P2M" if may_hold_gdpr(region) else None) for text in ("P30D", MONTH))
    return due(terms, region, decode_time(RECEIVED), otherwise=otherwise, to_working_day=moved)


def in_region(region: str | None, table: dict[str, str]) -> str:
    return encode_time(asked(region, table, {}).due_ms)[:10]


def room(region: str | None, table: dict[str, str], moved: bool = False, **extensions: str) -> str | None:
    """Until when the answer may be put off."""
    found = asked(region, table, extensions, moved=moved).extendable_to_ms
    return None if found is None else encode_time(found)[:10]


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


def test_an_answer_is_put_off_as_far_as_the_document_says_under_the_same_key() -> None:
    assert room("DE", TABLE) is None, "a promise of one month is one"
    assert room("DE", TABLE, EU="P2M") == "2027-02-18"
    assert room("KZ", TABLE, EU="P2M", default="P2M") is None, "three working days, and no more"
    assert room("BR", TABLE, EU="P2M") is None
    assert room("BR", TABLE, default="15 working days") == "2027-01-08"
    for unknown in (None, "ZZ"):
        assert room(unknown, TABLE, EU="P2M", default="P2M") is None, "it may be Kazakhstan"
    assert room("US", {"default": "P30D", "US-CA": "P45D"}, **{"default": "P2M", "US-CA": "P45D"}) == "2027-02-16"


def test_where_the_document_says_nothing_the_gdpr_gives_two_months_where_it_may_hold() -> None:
    for region in ("DE", "NO", "GB", "UK", None, "XX"):
        assert room(region, {}) == "2027-02-18", region
    for region in ("KZ", "US", "CH"):
        assert room(region, {}) is None, region
    assert room(None, {"KZ": "P60D"}) == "2027-01-17", "wherever it is, that is within the term"


def test_an_extension_is_added_to_the_last_day_of_the_term_and_not_to_the_monday_after_it() -> None:
    # 2026-12-19 is a Saturday: due on Monday the 21st. Two months after the 19th is a Friday.
    assert encode_time(asked("DE", {"EU": "P31D"}, {"EU": "P2M"}, moved=True).due_ms)[:10] == "2026-12-21"
    assert room("DE", {"EU": "P31D"}, moved=True, EU="P2M") == "2027-02-19"
    assert room("DE", {"EU": "P31D"}, moved=True, EU="P1D") is None, "Sunday the 20th moves to the same Monday"


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
