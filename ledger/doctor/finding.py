"""What `doctor` says of one thing that it looked at."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    GOOD = "good"
    ADVICE = "advice"
    BAD = "bad"


class Finding(NamedTuple):
    """One thing looked at. `detail` tells what to do where the verdict is not good."""

    verdict: Verdict
    what: str
    detail: str


def good(what: str, detail: str) -> Finding:
    return Finding(Verdict.GOOD, what, detail)


def advice(what: str, detail: str) -> Finding:
    return Finding(Verdict.ADVICE, what, detail)


def bad(what: str, detail: str) -> Finding:
    return Finding(Verdict.BAD, what, detail)
