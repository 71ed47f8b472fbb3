"""What a readable site document is advised to think over, and what it is left in peace about."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.core.document_advice import Advice, advise
from ledger.core.policy import parse_site_document
from tests.documents import FULL, SMALL, changed, encoded

A = "purposes/analytics"


def advice(*changes: tuple[str, Any]) -> tuple[Advice, ...]:
    return advise(parse_site_document(encoded(changed(SMALL, *changes))))


def cookie(**members: Any) -> dict[str, Any]:
    return {"name": "c", "duration": "P12M", **members}


def test_a_document_without_anything_to_think_over_is_left_in_peace() -> None:
    assert advice() == ()


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ([("reaskAfter", {"refusal": "P3M"})], "reaskAfter.refusal", "six months"),
        ([("reaskAfter", {"refusal": "P179D"})], "reaskAfter.refusal", "P179D"),
        ([("reaskAfter", {"refusal": "P12M"}), ("reaskAfterIn", {"FR": {"refusal": "P1M"}})],
         "reaskAfterIn.FR.refusal", "P1M"),
        ([("reaskAfterIn", {"EU": {"refusal": "P5M"}, "EEA": {"refusal": "P1M"}})], "reaskAfterIn.EU.refusal", "P5M"),
        ([(f"{A}/reaskAfter", {"refusal": "P1M"})], "purposes.analytics.reaskAfter.refusal", "P1M"),
        ([("recordRetention", "P6M"), ("recordRetentionCounted", "act")], "recordRetention", "lasts P12M"),
        ([(f"{A}/recordRetention", "P1Y"), ("reaskAfter", {})], "purposes.analytics.recordRetention", "for good"),
        ([("residency", ["KZ"]), ("storedIn", ["DE"])], "storedIn", "lies in DE, but KZ"),
        ([("residency", ["KZ"])], "storedIn", "does not say"),
        ([("controller/country", "KZ")], "residency", "94-V"),
        ([(f"{A}/cookies", [cookie(party="third")])], "purposes.analytics.recipients", "third parties"),
        ([(f"{A}/cookies", [cookie(duration="P24M")])], "purposes.analytics.cookies[0]", "P24M, the consent P12M"),
        ([(f"{A}/cookies", [cookie(duration="persistent")])], "purposes.analytics.cookies[0]", "nobody deletes"),
        ([(f"{A}/cookies", [cookie(duration="P24M", clearOnWithdrawal=False)])], "purposes.analytics.cookies[0]",
         "nothing deletes it"),
        ([("renewAfter", "P6M"), (f"{A}/cookies", [cookie()])], "purposes.analytics.cookies[0]", "the consent P6M"),
        ([("regimes", {"default": "opt-out"})], "regimes", "opt-out) in EEA, UK, where"),
        ([(f"{A}/regimes", {"default": "opt-in", "EU": "opt-out"})], "purposes.analytics.regimes", "in EU,"),
        ([(f"{A}/regimes", {"NO": "opt-out", "GB": "opt-out"})], "purposes.analytics.regimes", "in UK, NO,"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_it_names_the_place_and_the_reason(changes: list[tuple[str, Any]], path: str, says: str) -> None:
    found = advice(*changes)
    assert path in [one.path for one in found]
    assert any(says in one.text for one in found if one.path == path)


@pytest.mark.parametrize(
    "changes",
    [
        [("reaskAfter", {"refusal": "P6M"})],
        [("reaskAfter", {"refusal": "P180D"})],
        [("reaskAfter", {"withdrawal": "P1D", "dismissal": "P1D"})],
        [("reaskAfter", {"refusal": "P1M"}), ("reaskAfterIn", {"EU": {"refusal": "P6M"}, "EEA": {}})],
        [("reaskAfterIn", {"US-CA": {"refusal": "P1M"}})],
        [("reaskAfter", {"refusal": "P1M"}), (f"{A}/reaskAfter", {"refusal": "P6M"})],
        [("reaskAfter", {"refusal": "P1M"}), (f"{A}/required", True)],
        [("residency", ["KZ"]), ("storedIn", ["DE", "KZ"]), ("controller/country", "KZ")],
        [(f"{A}/cookies", [cookie(party="third")]), (f"{A}/recipients", [{"name": "x"}])],
        [(f"{A}/cookies", [cookie(), cookie(name="s", duration="session")])],
        [(f"{A}/cookies", [cookie(duration="persistent")]), (f"{A}/required", True)],
        [(f"{A}/cookies", [cookie(duration="persistent")]), (f"{A}/removedIn", "1.0")],
        [("regimes", {"default": "opt-out", "EEA": "opt-in", "UK": "opt-in"})],
        [("regimes", {"UK": "exempt"})],
        [("regimes", {"default": "opt-out"}), (f"{A}/required", True)],
    ],
    ids=str,
)
def test_it_is_silent_where_nothing_is_the_matter(changes: list[tuple[str, Any]]) -> None:
    assert advice(*changes) == ()


def test_each_place_is_told_once_however_many_purposes_share_it() -> None:
    document = parse_site_document(encoded(changed(FULL, ("reaskAfter/refusal", "P1M"), ("reaskAfterIn", {}))))
    assert [one.path for one in advise(document)].count("reaskAfter.refusal") == 1
