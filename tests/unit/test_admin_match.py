"""Every erasure rests on an act that ordered it, says what it says, and covers what it names."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from ledger.core.admin_act import AdminAct
from ledger.core.admin_match import Erasure, Matcher, Matching
from ledger.core.entry import encode_seqs
from ledger.core.event import ErasureRecord

SITE, LOG = "s.example", "s.example.admin-log"
TIME = "2026-11-21T03:00:00.000Z"
EVIDENCE = "ab" * 32
MS = 1_790_000_000_000


def act(word: str = "erasure.executed", **details: str) -> AdminAct:
    told = {"reason": "subject_request", "evidence": EVIDENCE, "count": "2", **details}
    kept = {name: text for name, text in told.items() if text}
    return AdminAct("01980000-0000-7000-8000-000000000001", LOG, word, "a", "ledger", TIME, "admin.act", details=kept)  # type: ignore[arg-type]


def erasure(seqs: tuple[int, ...] = (4, 5), at: int = 9, ms: int = MS, log: str = SITE, **record: Any) -> Erasure:
    told = {"reason": "subject_request", "evidence": EVIDENCE, "instruction": f"{LOG}:3", **record}
    return Erasure(log, at, ms, seqs, ErasureRecord(site=log, requested_at=TIME, **told))


def matched(acts: dict[int, AdminAct], *erasures: Erasure, erased: tuple[int, ...] = (), ms: int = MS) -> Matching:
    matcher = Matcher(LOG, 5)
    for seq, each in acts.items():
        matcher.act(seq, ms, each)
    for seq in erased:
        matcher.erased(seq)
    for each_erasure in erasures:
        matcher.erasure(each_erasure)
    return matcher.result()


def test_an_erasure_that_is_as_its_act_says_matches() -> None:
    found = matched({3: act()}, erasure())
    assert found == Matching(1, 2, (), 0, (), 0)
    in_two = matched({3: act(events=sha256(encode_seqs([4, 5])).hexdigest())}, erasure((5,)), erasure((4,), 10))
    assert (in_two.matched, in_two.events, in_two.mismatch_count, in_two.pending) == (2, 2, 0, ())


@pytest.mark.parametrize(
    ("what", "acts", "erasures"),
    [
        ("orphan", {3: act()}, [erasure(instruction="ticket 7")]),
        ("orphan", {3: act()}, [erasure(instruction=f"{LOG}:03")]),
        ("orphan", {3: act()}, [erasure(instruction=f"{LOG}:4")]),
        ("orphan", {3: act("export.made")}, [erasure()]),
        ("other_site", {3: act()}, [erasure(instruction="t.example.admin-log:3")]),
        ("other_site", {3: act()}, [erasure(instruction=f"{SITE}:3")]),
        ("reason_differs", {3: act(reason="retention")}, [erasure()]),
        ("reason_differs", {3: act(reason="")}, [erasure()]),
        ("evidence_differs", {3: act(evidence="cd" * 32)}, [erasure()]),
        ("evidence_differs", {3: act(evidence="")}, [erasure()]),
        ("too_many", {3: act(count="1")}, [erasure()]),
        ("too_many", {3: act(count="")}, [erasure()]),
        ("too_many", {3: act()}, [erasure(), erasure((6,), 10)]),
        ("too_many", {3: act(count="4")}, [erasure(), erasure(log=LOG)]),
        ("events_differ", {3: act(events=sha256(encode_seqs([4, 6])).hexdigest())}, [erasure()]),
        # An act that was overtaken, and never carried out, does not cover the one event that somebody took away.
        ("events_differ", {3: act(events=sha256(encode_seqs([4, 5])).hexdigest())}, [erasure((7,))]),
    ],
)
def test_one_that_is_not_is_told_of(what: str, acts: dict[int, AdminAct], erasures: list[Erasure]) -> None:
    found = matched(acts, *erasures)
    assert [each.what for each in found.mismatches] == [what]
    assert found.mismatch_count == 1
    assert found.matched == len(erasures) - 1


def test_an_act_that_is_erased_or_came_later_orders_nothing() -> None:
    assert [each.what for each in matched({}, erasure(), erased=(3,)).mismatches] == ["act_erased"]
    assert [each.what for each in matched({3: act()}, erasure(), ms=MS + 60_001).mismatches] == ["act_later"]
    assert matched({3: act()}, erasure(), ms=MS + 60_000).mismatch_count == 0


def test_an_act_beyond_the_bundle_may_be_in_a_newer_one() -> None:
    (mismatch,) = matched({3: act()}, erasure(instruction=f"{LOG}:5")).mismatches
    assert mismatch.what == "orphan"
    assert "export it again" in mismatch.detail


def test_what_was_not_carried_out_yet_is_pending() -> None:
    name = "01980000-0000-4000-8000-000000000002"
    order = act("erasure.ordered", count="", erasure=name)
    done = act(erasures=f"{name} 01980000-0000-4000-8000-000000000003")
    found = matched({1: order, 3: done}, erasure((4,)))
    assert [(each.seq, each.ordered, each.erased) for each in found.pending] == [(1, None, 0), (3, 2, 1)]
    assert matched({1: order, 3: done}, erasure()).pending == ()
    assert matched({1: act("erasure.ordered", count="", level="restrict", erasure=name)}).pending == ()
    assert [each.seq for each in matched({1: order}).pending] == [1]


def test_a_hostile_log_fills_no_memory_with_mismatches() -> None:
    found = matched({}, *(erasure(at=9 + n) for n in range(300)))
    assert (len(found.mismatches), found.mismatch_count) == (100, 300)
