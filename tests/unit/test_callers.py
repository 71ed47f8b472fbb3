"""How often a caller may: tokens come back with time, callers are told apart, and nobody's address is kept."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

from ledger import config
from ledger.config import Settings
from ledger.doctor import surroundings
from ledger.doctor.finding import Verdict
from ledger.http.callers import Callers

SITE = "a.example"
V4, V6 = "198.51.100.7", "2001:db8:1:2::3"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def made(burst: int, clock: Clock) -> Callers:
    """With a key of our own: by chance two callers could share a bucket."""
    callers = Callers(burst, 60.0, clock)
    vars(callers)["_key"] = bytes(32)
    return callers


def waits(callers: Callers, times: int, address: str | None = V4, site: str = SITE) -> list[int]:
    return [callers.take(address, site) for _ in range(times)]


def test_a_burst_is_let_through_and_then_one_as_often_as_tokens_come_back() -> None:
    clock = Clock()
    callers = made(3, clock)
    assert waits(callers, 5) == [0, 0, 0, 60, 60]
    clock.seconds += 59.5
    assert waits(callers, 1) == [1], "in whole seconds, and never too soon"
    clock.seconds += 0.5
    assert waits(callers, 2) == [0, 60], "who was refused took nothing"
    clock.seconds += 10_000
    assert waits(callers, 4) == [0, 0, 0, 60], "no more is saved than a burst"


def test_callers_and_sites_are_told_apart_and_unknown_addresses_are_not() -> None:
    callers = made(1, Clock())
    assert waits(callers, 2) == [0, 60]
    assert waits(callers, 1, V4, "b.example") == [0]
    assert waits(callers, 2, V6) == [0, 60]
    assert waits(callers, 1, "2001:db8:1:2:ffff::1") == [60], "a /64 is one subscriber's"
    assert waits(callers, 1, "2001:db8:1:3::3") == [0]
    assert waits(callers, 2, None) == [0, 60]


def test_the_table_neither_grows_nor_tells_who_called_and_no_two_processes_share_a_key() -> None:
    clock = Clock()
    callers = Callers(1, 60.0, clock)
    for n in range(2_000):
        callers.take(f"10.0.{n >> 8}.{n & 255}", SITE)
    kept = vars(callers)
    assert len(kept["_full_at"]) == config.CALLERS_BUCKETS
    told = pickle.dumps([value for name, value in kept.items() if name != "_clock"])
    assert b"10.0." not in told
    assert bytes([10, 0, 3, 4]) not in told
    assert kept["_key"] != vars(Callers(1, 60.0, clock))["_key"]


def test_doctor_tells_where_all_callers_may_look_like_one() -> None:
    alone = Settings(database_url="", keys_dir=Path("keys"), master_secret=bytes(32))
    wide, proxied = replace(alone, host="10.0.0.1"), replace(alone, trusted_proxies="127.0.0.1")
    verdicts = [surroundings.callers(settings).verdict for settings in (alone, wide, proxied)]
    assert verdicts == [Verdict.ADVICE, Verdict.GOOD, Verdict.GOOD]
