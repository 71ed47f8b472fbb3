"""Periods by the calendar, and what a table of regimes says of a place."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.duration import DAY_MS, parse_duration
from ledger.core.encoding import decode_time, encode_time
from ledger.core.regions import COUNTRIES, GROUPS, Regime, is_region, regime_in, strictest


@pytest.mark.parametrize(
    ("start", "period", "end"),
    [
        ("2026-01-15T10:00:00.000Z", "P12M", "2027-01-15T10:00:00.000Z"),
        ("2024-02-29T00:00:00.000Z", "P12M", "2025-02-28T00:00:00.000Z"),
        ("2024-02-29T00:00:00.000Z", "P4Y", "2028-02-29T00:00:00.000Z"),
        ("2026-08-31T23:59:59.999Z", "P6M", "2027-02-28T23:59:59.999Z"),
        ("2026-01-31T00:00:00.000Z", "P1M", "2026-02-28T00:00:00.000Z"),
        ("2026-01-31T00:00:00.000Z", "P30D", "2026-03-02T00:00:00.000Z"),
        ("2026-12-31T12:00:00.000Z", "PT24H", "2027-01-01T12:00:00.000Z"),
        ("2026-01-31T00:00:00.000Z", "P1M2W", "2026-03-14T00:00:00.000Z"),
        ("2026-01-01T00:00:00.000Z", "P1Y2M3W4DT5H6M7S", "2027-03-26T05:06:07.000Z"),
        ("1969-12-31T23:00:00.000Z", "P1M", "1970-01-31T23:00:00.000Z"),
    ],
)
def test_months_are_calendar_months_cut_to_the_end_of_the_month(start: str, period: str, end: str) -> None:
    duration = parse_duration(period)
    assert duration is not None
    assert encode_time(duration.after(decode_time(start))) == end
    assert duration == period


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "P0D", "P0Y0M", "P1.5M", "-P1M", "p1m", "12M", "P1H", "P1MT", "P 1M", "P1M\n", "P101Y", "P99999D",
     "P٣M", "P1M1Y", "PT9999999999S", "session"],
)  # fmt: skip
def test_what_is_no_period(text: str) -> None:
    assert parse_duration(text) is None


@given(st.integers(-(10**15), 2**53), st.integers(1, 1_200))
def test_adding_is_total_and_always_later_and_agrees_with_the_calendar(moment_ms: int, months: int) -> None:
    duration = parse_duration(f"P{months}M")
    assert duration is not None
    end_ms = duration.after(moment_ms)
    assert 28 * months * DAY_MS <= end_ms - moment_ms <= 31 * months * DAY_MS
    assert (end_ms - moment_ms) % DAY_MS == 0
    if 0 <= moment_ms < 4 * 10**12:
        start, end = (datetime.fromtimestamp(ms // 1000, UTC) for ms in (moment_ms, end_ms))
        assert (end.year * 12 + end.month) - (start.year * 12 + start.month) == months
        assert end.day == start.day or (end.day < start.day and end.month != datetime.fromtimestamp(
            (end_ms + DAY_MS) // 1000, UTC).month)  # fmt: skip


TABLE: dict[str, Regime] = {"default": "opt-out", "EU": "opt-in", "UK": "exempt", "US-CA": "opt-in", "CA": "exempt"}


@pytest.mark.parametrize(
    ("region", "regime"),
    [
        ("KZ", "opt-out"),
        ("DE", "opt-in"),
        ("DE-BY", "opt-in"),
        ("GR", "opt-in"),
        ("EL", "opt-in"),
        ("RE", "opt-in"),
        ("NO", "opt-out"),
        ("GB", "exempt"),
        ("UK", "exempt"),
        ("GB-SCT", "exempt"),
        ("US-CA", "opt-in"),
        ("US-NY", "opt-out"),
        ("US", "opt-in"),  # it may be California
        ("CA", "exempt"),
        ("CA-QC", "exempt"),
        (None, "opt-in"),
        ("", "opt-in"),
        ("EU", "opt-in"),
        ("XX", "opt-in"),
        ("de", "opt-in"),
        ("nonsense", "opt-in"),
    ],
)
def test_the_most_specific_entry_counts_and_the_unknown_is_the_strictest(region: str | None, regime: Regime) -> None:
    assert regime_in(TABLE, region) == regime


def test_of_two_groups_the_stricter_counts_unless_the_country_is_named() -> None:
    table: dict[str, Regime] = {"default": "opt-out", "EU": "exempt", "EEA": "opt-in"}
    assert regime_in(table, "FR") == "opt-in"
    assert regime_in(table | {"FR": "exempt"}, "FR") == "exempt"


def test_an_empty_table_is_opt_in() -> None:
    assert regime_in({}, "KZ") == "opt-in"
    assert regime_in({}, None) == "opt-in"
    assert regime_in({"EU": "exempt"}, None) == "opt-in"
    assert strictest(()) == "opt-in"


def test_the_groups_have_their_members() -> None:
    assert len(GROUPS["EU"] - {"AX", "GF", "GP", "MF", "MQ", "RE", "YT"}) == 27
    assert GROUPS["EEA"] - GROUPS["EU"] == {"IS", "LI", "NO"}
    assert GROUPS["UK"] == {"GB"}
    assert all(members <= COUNTRIES for members in GROUPS.values())
    assert len(COUNTRIES) == 249


@pytest.mark.parametrize(
    ("key", "valid"),
    [("EU", True), ("EEA", True), ("UK", True), ("KZ", True), ("US-CA", True), ("FR-75", True), ("XX", False),
     ("XX-1", False), ("kz", False), ("US-CALI", False), ("default", False), ("", False)],
)  # fmt: skip
def test_what_may_stand_in_a_table(key: str, valid: bool) -> None:
    assert is_region(key) is valid
