"""Every erasure rests on an act that was ordered, says what it says, and names the very events."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from ledger.core.admin_act import ActName, AdminAct, parse_act_name
from ledger.core.admin_match import Erasure, Matcher, Matching
from ledger.core.erasing import events_hash, evidence_of
from ledger.core.errors import Malformed
from ledger.core.event import ErasureRecord

SITE, LOG = "s.example", "s.example.admin-log"
TIME = "2026-11-21T03:00:00.000Z"
MINE, ANOTHERS = "01980000-0000-4000-8000-000000000002", "01980000-0000-4000-8000-000000000003"
ASKED = {MINE: "ab" * 32, ANOTHERS: "cd" * 32}
EVIDENCE = evidence_of(bytes.fromhex(each) for each in ASKED.values())

POLICY = sha256(b"a policy").digest()
PERIOD = {"reason": "retention", "evidence": evidence_of([POLICY])}

Acts = dict[int, AdminAct]


def leaf(seq: int) -> bytes:
    return sha256(b"%d" % seq).digest()


def name(seq: int, log: str = LOG) -> str:
    return str(ActName(log, seq, leaf(seq)))


def act(word: str = "erasure.executed", **details: str) -> AdminAct:
    told = {"reason": "subject_request", "evidence": EVIDENCE, "count": "2", "events": events_hash([4, 5]), **details}
    if word == "erasure.executed":
        told = {"erasures": f"{MINE} {ANOTHERS}", **told}
    kept = {name: text for name, text in told.items() if text}
    return AdminAct("01980000-0000-7000-8000-000000000001", LOG, word, "a", "ledger", TIME, "admin.act", details=kept)  # type: ignore[arg-type]


def order(erasure: str, **details: str) -> AdminAct:
    told = {"evidence": ASKED[erasure], "erasure": erasure, "level": "erase", "count": "", "events": "", **details}
    return act("erasure.ordered", **told)


ORDERS: Acts = {1: order(MINE), 2: order(ANOTHERS, level="hold")}


def erasure(seqs: tuple[int, ...] = (4, 5), at: int = 9, log: str = SITE, **record: Any) -> Erasure:
    told = {"reason": "subject_request", "evidence": EVIDENCE, "instruction": name(3), **record}
    return Erasure(log, at, seqs, ErasureRecord(site=log, requested_at=TIME, **told))


def matched(acts: Acts, *erasures: Erasure, erased: tuple[int, ...] = ()) -> Matching:
    matcher = Matcher(LOG, 5)
    matcher.policy(POLICY)
    for seq, each in sorted(acts.items()):
        matcher.act(seq, leaf(seq), each)
    for seq in erased:
        matcher.erased(seq)
    for each_erasure in erasures:
        matcher.erasure(each_erasure)
    return matcher.result()


def test_an_erasure_that_is_as_its_act_and_its_orders_say_matches() -> None:
    assert matched({**ORDERS, 3: act()}, erasure()) == Matching(1, 2, 0, (), 0, (), 0, 4)
    scheduled = matched({3: act("retention.run", **PERIOD)}, erasure(**PERIOD))
    assert (scheduled.matched, scheduled.by_retention, scheduled.mismatch_count, scheduled.pending) == (1, 1, 0, ())
    own = matched({3: act("retention.run")}, erasure(log=LOG))
    assert (own.matched, own.mismatch_count, own.bound) == (1, 0, 0)


def test_what_is_left_of_a_closed_site_and_what_a_restore_brings_back_goes_by_an_act_told_before() -> None:
    closed = matched({0: act("site.closed", count="", events=""), 3: act(erasures="")}, erasure())
    assert (closed.matched, closed.mismatch_count, closed.pending) == (1, 0, ())
    again = act(erasures="", events=events_hash([4]))
    restored = matched({**ORDERS, 3: act(), 4: again}, erasure(), erasure((4,), 10, instruction=name(4)))
    assert (restored.matched, restored.mismatch_count, restored.bound) == (2, 0, 5)


UNMATCHED: dict[str, tuple[str, Acts, list[Erasure]]] = {
    "a ticket": ("orphan", {3: act()}, [erasure(instruction="ticket 7")]),
    "a position without a hash": ("orphan", {3: act()}, [erasure(instruction=f"{LOG}:3")]),
    "a seq written otherwise": ("orphan", {3: act()}, [erasure(instruction=name(3).replace(":3:", ":03:"))]),
    "no act": ("orphan", {3: act()}, [erasure(instruction=name(4))]),
    "an act of something else": ("orphan", {3: act("export.made")}, [erasure()]),
    "an order itself": ("orphan", {3: order(MINE)}, [erasure()]),
    "an act of another site": ("other_site", {3: act()}, [erasure(instruction=name(3, "t.example.admin-log"))]),
    "an entry of the log itself": ("other_site", {3: act()}, [erasure(instruction=name(3, SITE))]),
    "another act than it was": ("another_act", {3: act()}, [erasure(instruction=str(ActName(LOG, 3, leaf(9))))]),
    "another reason": ("reason_differs", {3: act()}, [erasure(reason="retention")]),
    "other evidence": ("evidence_differs", {3: act()}, [erasure(evidence="cd" * 32)]),
    "an act carried out before": ("act_used", {3: act()}, [erasure(), erasure(at=10)]),
    "an act carried out in the other log": ("act_used", {3: act()}, [erasure(), erasure(log=LOG)]),
    "other events": ("events_differ", {3: act(events=events_hash([4, 6]))}, [erasure()]),
    "some of the events": ("events_differ", {3: act()}, [erasure((5,))]),
    "an act that says no events": ("events_differ", {3: act(events="")}, [erasure()]),
    "an order that nobody gave": ("not_ordered", {1: order(ANOTHERS), 3: act()}, [erasure()]),
    "an order that came later": ("not_ordered", {1: order(ANOTHERS), 3: act(), 4: order(MINE)}, [erasure()]),
    "an order to restrict": ("not_ordered", {1: order(MINE, level="restrict"), 3: act()}, [erasure()]),
    "an order for another reason": ("not_ordered", {1: order(MINE, reason="legal_order"), 3: act()}, [erasure()]),
    "the order of one for two": (
        *("not_ordered", {3: act(erasures=MINE)}),
        [erasure()],
    ),
    "an order with other evidence": ("not_ordered", {1: order(MINE, evidence="ef" * 32), 3: act()}, [erasure()]),
    "an order whose evidence is none": ("not_ordered", {1: order(MINE, evidence="none"), 3: act()}, [erasure()]),
    "a period of no policy": ("not_ordered", {3: act("retention.run")}, [erasure()]),
    "no order and nothing told before": ("not_ordered", {3: act(erasures="", evidence="ef" * 32)}, [erasure()]),
}


@pytest.mark.parametrize(("what", "acts", "erasures"), UNMATCHED.values(), ids=UNMATCHED)
def test_one_that_is_not_is_told_of(what: str, acts: Acts, erasures: list[Erasure]) -> None:
    found = matched({**ORDERS, **acts}, *erasures)
    assert [each.what for each in found.mismatches] == [what]
    assert found.mismatch_count == 1
    assert found.matched == len(erasures) - 1


def test_an_act_that_is_erased_orders_nothing() -> None:
    assert [each.what for each in matched({}, erasure(), erased=(3,)).mismatches] == ["act_erased"]


def test_an_act_beyond_the_bundle_may_be_in_a_newer_one() -> None:
    (mismatch,) = matched({3: act()}, erasure(instruction=name(5))).mismatches
    assert mismatch.what == "orphan"
    assert "export it again" in mismatch.detail


def test_what_was_not_carried_out_yet_is_pending() -> None:
    found = matched({**ORDERS, 3: act()})
    assert [(each.seq, each.events) for each in found.pending] == [(1, None), (2, None), (3, 2)]
    assert matched({1: order(MINE, level="restrict")}).pending == ()
    assert [each.act for each in matched({1: act("site.closed", count="x")}).pending] == ["site.closed"]


def test_orders_for_which_nothing_was_found_are_told_as_such_and_not_as_pending() -> None:
    nothing = act(count="0", events=events_hash([]))
    found = matched({**ORDERS, 3: nothing})
    assert (found.pending, found.nothing_found) == ((), 2)
    both = matched({**ORDERS, 3: act(), 4: nothing}, erasure())
    assert (both.pending, both.nothing_found, both.matched) == ((), 0, 1), "nothing more was found"
    made_up = matched({3: nothing})
    assert ([each.seq for each in made_up.pending], made_up.nothing_found) == ([3], 0), "it rests on no order"


def test_a_hostile_log_fills_no_memory_with_mismatches() -> None:
    found = matched({}, *(erasure(at=9 + n) for n in range(300)))
    assert (len(found.mismatches), found.mismatch_count) == (100, 300)


def test_the_name_of_an_act_is_read_as_it_is_written_and_in_no_other_way() -> None:
    assert parse_act_name(name(3)) == ActName(LOG, 3, leaf(3))
    for wrong in ("", ":", f":3:{leaf(3).hex()}", name(3).upper(), name(3) + "0", name(3)[:-1], f"{LOG}:-3:{'0' * 64}"):
        with pytest.raises(Malformed):
            parse_act_name(wrong)
