"""Periods in words, and which of two is the longer. How a period is added to a moment is in core/duration."""

from __future__ import annotations

from functools import lru_cache

from ledger.core.duration import DAY_MS, Duration

_FIRST_DAY = 19_723
"""2024-01-01 in days since 1970: four years from here on hold every month, and a leap day."""
_STARTS_MS = tuple((_FIRST_DAY + day) * DAY_MS for day in range(0, 4 * 365 + 1, 5))
_UNITS = (("day", 24 * 3600), ("hour", 3600), ("minute", 60), ("second", 1))


@lru_cache(maxsize=1_024)
def is_longer(duration: Duration, than: Duration) -> bool:
    """Whether it ends later from some day on. 31 days and a month are each longer than the other at times."""
    if duration.months == than.months:
        return duration.fixed_ms > than.fixed_ms
    return any(duration.after(start) > than.after(start) for start in _STARTS_MS)


def period(duration: Duration) -> str:
    """`12 months`, `2 weeks`, `1 day and 12 hours`: in the units that were written as far as one can tell."""
    parts = []
    written = str(duration)
    years, months = divmod(duration.months, 12) if "Y" in written else (0, duration.months)
    seconds = duration.fixed_ms // 1000
    parts += [_count(years, "year"), _count(months, "month")]
    if "W" in written and seconds % (7 * 86_400) == 0:
        parts.append(_count(seconds // (7 * 86_400), "week"))
        seconds = 0
    for unit, length in _UNITS:
        if unit == "day" and "D" not in written and "W" not in written:
            continue  # 24 hours that somebody wrote stay hours
        count, seconds = divmod(seconds, length)
        parts.append(_count(count, unit))
    return " and ".join(part for part in parts if part)


def _count(count: int, unit: str) -> str:
    return "" if not count else f"{count} {unit}" if count == 1 else f"{count} {unit}s"
