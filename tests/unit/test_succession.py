"""Which version may follow which: against the one in effect before it, be that published earlier or later."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from ledger.core.document import Purpose, Recipient, SiteDocument
from ledger.core.errors import DocumentInvalid
from ledger.core.policy import PolicyHistory, Published
from ledger.core.succession import check_succession
from tests.unit.test_policy_history import ANALYTICS, FIRST, version

NOW_MS = 1_900_000_000_000
LATER = "2199-01-01T00:00:00.000Z"
BOTH = {"analytics": ANALYTICS, "marketing": ANALYTICS}


def published(*documents: SiteDocument) -> PolicyHistory:
    return PolicyHistory(
        tuple(Published(10 * n, NOW_MS - 1_000 + n, bytes([n]) * 32, each) for n, each in enumerate(documents, 1))
    )


def removed(in_version: str) -> dict[str, Purpose]:
    return {"analytics": ANALYTICS, "marketing": replace(ANALYTICS, removed_in=in_version)}


def refused(history: PolicyHistory, document: SiteDocument, words: str) -> None:
    with pytest.raises(DocumentInvalid, match=re.escape(words)):
        check_succession(history, document, NOW_MS)


def test_the_first_version_follows_nothing() -> None:
    check_succession(PolicyHistory(), version("1", purposes=removed("0")), NOW_MS)
    refused(PolicyHistory(), version("1", not_material={"analytics": "Why?"}), "this is the first version")


def test_a_dropped_purpose_is_named_and_a_removed_one_may_leave_the_record() -> None:
    history = published(version("1", purposes=BOTH))
    refused(history, version("2"), "version 1 has the purpose marketing, and this one drops it")
    gone = version("2", purposes=removed("2"))
    check_succession(history, gone, NOW_MS)
    check_succession(published(version("1", purposes=BOTH), gone), version("3"), NOW_MS)


def test_a_removal_is_of_this_version_or_of_the_one_that_removed_it() -> None:
    history = published(version("1", purposes=BOTH))
    refused(history, version("2", purposes=removed("1")), "still offers marketing, so it is removed in 2")
    after = published(version("1", purposes=BOTH), version("2", purposes=removed("2")))
    check_succession(after, version("3", purposes=removed("2")), NOW_MS)
    refused(after, version("3", purposes=removed("3")), "was removed in 2: that does not change any more")
    check_succession(after, version("3", purposes=BOTH), NOW_MS)
    refused(published(FIRST), version("2", purposes=removed("9")), "9 is neither this version nor one in effect")


def test_a_version_is_judged_beside_the_one_in_effect_before_it() -> None:
    history = published(FIRST, version("2", purposes=BOTH, effective_at=LATER))
    check_succession(history, version("1.1"), NOW_MS)
    refused(history, version("3", effective_at="2199-01-02T00:00:00.000Z"), "version 2 has the purpose marketing")
    refused(history, version("1.1", purposes=removed("2")), "2 is neither this version nor one in effect before it")


def test_what_a_purpose_goes_on_with_is_in_the_version_before() -> None:
    renamed = {"stats": replace(ANALYTICS, alias_of="marketing"), **removed("2")}
    check_succession(published(version("1", purposes=BOTH)), version("2", purposes=renamed), NOW_MS)
    refused(published(FIRST), version("2", purposes=renamed), "version 1 has no purpose marketing to go on with")


def test_a_name_that_comes_back_goes_on_with_the_one_that_stood_in_for_it() -> None:
    renamed = version("2", purposes={"stats": replace(ANALYTICS, alias_of="marketing"), **removed("2")})
    history = published(version("1", purposes=BOTH), renamed)
    gone = {"stats": replace(ANALYTICS, removed_in="3")}
    back = {**BOTH, "marketing": replace(ANALYTICS, alias_of="stats"), **gone}
    check_succession(history, version("3", purposes=back), NOW_MS)
    refused(
        history,
        version("3", purposes={**BOTH, **gone}),
        "in version 2 marketing and stats are one: give it `aliasOf: stats`",
    )
    still_gone = version("3", purposes={**removed("2"), "stats": replace(gone["stats"], alias_of="marketing")})
    check_succession(history, still_gone, NOW_MS)
    later = published(version("1", purposes=BOTH), renamed, still_gone)
    refused(later, version("4", purposes=BOTH), "in version 3 marketing and stats are one: give it `aliasOf: stats`")


def test_a_purpose_goes_on_with_another_as_long_as_it_is_offered() -> None:
    renamed = version("2", purposes={"stats": replace(ANALYTICS, alias_of="marketing"), **removed("2")})
    history = published(version("1", purposes=BOTH), renamed)
    for others in (BOTH, removed("2"), {"analytics": ANALYTICS}):
        document = version("3", purposes={"stats": ANALYTICS, **others})
        refused(history, document, "in version 2 stats and marketing are one: give it `aliasOf: marketing`")
    check_succession(history, version("3", purposes=renamed.purposes), NOW_MS)


def test_nothing_is_renamed_before_a_version_that_does_not_know_of_it() -> None:
    history = published(version("1", purposes=BOTH), version("2", purposes=BOTH, effective_at=LATER))
    renamed = {"stats": replace(ANALYTICS, alias_of="marketing"), **removed("3")}
    refused(history, version("3", purposes=renamed), "version 2, which is to take effect after this one, offers market")
    check_succession(history, version("3", purposes={**BOTH, "stats": ANALYTICS}), NOW_MS)
    check_succession(history, version("3", purposes=renamed, effective_at=LATER), NOW_MS)


def test_a_reason_on_record_is_about_something_and_contradicts_nothing() -> None:
    wider = {"analytics": replace(ANALYTICS, recipients=(Recipient(name="PostHog"),))}
    reason = {"analytics": "It was there all along"}
    check_succession(published(FIRST), version("2", purposes=wider, not_material=reason), NOW_MS)
    refused(published(FIRST), version("2", not_material=reason), "nothing changes for analytics")
    contradicted = version("2", purposes=wider, not_material=reason, material=True)
    refused(published(FIRST), contradicted, "policy.material says that visitors are asked again for analytics")
