"""The cookie inventory: what may be kept of a name, which names are declared, and when a review is due."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.cookies import Index, Observed, compare, fold, matches, refuse_name, review_due
from ledger.core.document import SiteDocument
from ledger.core.encoding import decode_time
from ledger.core.policy import PolicyHistory, Published, parse_site_document

DOCUMENT = """
site: shop.example.com
controller: {{name: A shop, email: dpo@shop.example.com}}
languages: [en]
origins: [https://shop.example.com]
policy: {{version: "{version}", effectiveAt: {effective}, url: https://shop.example.com/cookies}}
regimes: {{default: opt-in}}
renewAfter: P12M
{review}
purposes:
  necessary:
    required: true
    title: {{en: Necessary}}
    description: {{en: Nothing works without them.}}
    cookies:
      - {{name: sid, description: {{en: The session}}, duration: session}}
      - {{name: draft, description: {{en: A draft}}, storage: localStorage, duration: P1D}}
      - {{description: {{en: What has no name}}, duration: P1D}}
  analytics:
    title: {{en: Analytics}}
    description: {{en: Counts visits.}}
    cookies:
      - {{pattern: ph_*_posthog, description: {{en: PostHog}}, duration: P12M}}
      - {{name: _ga_ABC1234, description: {{en: Google}}, duration: P24M}}
      - {{pattern: _ga_*, description: {{en: Google}}, duration: P24M}}
"""


def document(version: str = "1.0", effective: str = "2026-01-01", review: str = "") -> SiteDocument:
    return parse_site_document(DOCUMENT.format(version=version, effective=effective, review=review).encode())


def history(*versions: tuple[str, str, str]) -> PolicyHistory:
    """(version, effective, period of reviews) of each."""
    entries = []
    for n, (version, effective, every) in enumerate(versions):
        review = f"reviewCookiesEvery: {every}" if every else ""
        entries.append(Published(n + 1, 0, bytes(32), document(version, effective, review)))
    return PolicyHistory(tuple(entries))


@pytest.mark.parametrize("name", ["_ga", "__Host-sid", "ph_phc_x_posthog", "a" * 128, "amp_#$%&'*+.^_`|~", "a/b:c[1]"])
def test_a_name_may_be_reported(name: str) -> None:
    assert refuse_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "a" * 129,
            "_ga=GA1.2.3",
            "a;b",
            "a,b",
            'a"b',
            "a\\b",
            "a b",
            "a\tb",
            "a\nb",
            "a\x00",
            "a\x7f",
            "имя",
            "naïve",
        ),
        *("anna@example.com", "user:anna@example.com:draft", "mail_anna%40example.com", "\ud800"),
    ],
)
def test_a_name_that_is_a_value_an_address_or_no_name_may_not_and_is_not_quoted(name: str) -> None:
    reason = refuse_name(name)
    assert reason is not None
    assert not name or len(name) < 4 or name not in reason


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        # Names as they are
        *(
            (name, name)
            for name in ("_ga", "_gid", "sid", "theme", "cookie_consent", "rememberMeChoice", "isFirstVisitDoneFlag")
        ),
        *(
            (name, name)
            for name in ("feedback_seen", "v2_layout", "wp-settings-1", "utm_source", "s3_bucket", "PHPSESSID")
        ),
        # Identifiers
        ("_ga_ABC123", "_ga_*"),
        ("_ga_G1X2Y3Z4", "_ga_*"),
        ("abc_8f3a01b2", "abc_*"),
        ("mp_0123456789abcdef0123456789abcdef_mixpanel", "mp_*_mixpanel"),
        ("amplitude_id_550e8400-e29b-41d4-a716-446655440000", "amplitude_id_*"),
        ("550E8400E29B41D4A716446655440000", "*"),
        ("_hjSessionUser_1234567", "_hjSessionUser_*"),
        ("order-2026-11-21", "order-*"),
        ("call_+7-707-762-8700", "call_*"),
        ("phone:8(707)7628700", "phone:*"),
        ("from_81.2.69.142", "from_*"),
        ("from_2a00:5da0:1::77", "from_*"),
        ("iin870412300123", "*"),
        ("k3j2h1x9", "*"),
        ("deadbeefcafe", "*"),
        ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "*"),
        ("x" * 40, "*"),
        ("kJhQwZxTyPoIuYtReWqA", "*"),
        ("id_aXbYcZdWeVfU_x", "id_*_x"),
        ("a_12345678_87654321_b", "a_*_b"),
    ],
)
def test_what_looks_like_an_identifier_is_not_kept(name: str, kept: str) -> None:
    assert fold(name) == kept


@given(st.text(alphabet="abcdefXYZ0123456789_-.*:", min_size=1, max_size=128))
def test_a_folded_name_holds_no_number_of_any_length_and_folds_to_itself(name: str) -> None:
    folded = fold(name)
    assert re.search(r"[0-9]{4}", folded) is None
    assert len(folded) <= len(name)
    assert refuse_name(folded) is None
    assert fold(folded) == folded


@given(st.text(alphabet="ab*", max_size=12), st.text(alphabet="ab", max_size=12))
def test_a_pattern_fits_as_a_regular_expression_would(pattern: str, name: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    assert matches(pattern, name) == expected


def test_a_pattern_of_many_stars_comes_to_an_end() -> None:
    assert not matches("a*" * 2_000 + "c", "a" * 128 + "b")
    assert not matches("a*" * 60 + "b*c", "a" * 127 + "c")


def test_what_is_declared_is_kept_as_it_is_declared_and_the_rest_is_folded() -> None:
    index = Index([document()])
    assert index.kept_as("cookie", "sid") == "sid"
    assert index.kept_as("cookie", "_ga_ABC1234") == "_ga_ABC1234"
    assert index.kept_as("cookie", "_ga_XYZ9876") == "_ga_*"
    assert index.kept_as("cookie", "ph_phc_4f5e6d7c8b9a_posthog") == "ph_*_posthog"
    assert index.kept_as("localStorage", "ph_phc_4f5e6d7c8b9a_posthog") == "ph_phc_*_posthog"
    assert index.kept_as("cookie", "draft") == "draft"
    assert Index([]).kept_as("cookie", "_ga_ABC1234") == "_ga_*"


SINCE = "2026-11-20"


def seen(
    name: str, storage: str = "cookie", first: str = "2026-11-01", last: str = "2026-11-20", days: int = 3
) -> Observed:
    return Observed(storage, name, first, last, days)


def test_the_inventory_tells_declared_and_seen_declared_and_never_seen_and_seen_but_not_declared() -> None:
    rows = [seen("sid"), seen("draft"), seen("ph_*_posthog"), seen("_ga_*", first="2026-10-01", days=9), seen("zz_*")]
    found = compare(document(), rows, SINCE)
    told = [(one.purpose, one.cookie.name or one.cookie.pattern, one.seen is not None) for one in found.declared]
    assert told == [
        ("necessary", "sid", True),
        ("necessary", "draft", False),
        ("necessary", None, False),
        ("analytics", "ph_*_posthog", True),
        ("analytics", "_ga_ABC1234", True),
        ("analytics", "_ga_*", True),
    ]
    # `draft` is declared for the local storage, and was seen as a cookie.
    assert [row.name for row in found.undeclared] == ["draft", "zz_*"]


def test_a_name_that_was_seen_before_it_was_declared_is_declared_and_one_that_looks_like_it_is_not() -> None:
    named = document().purposes["analytics"].cookies[1]
    alone = msgspec.structs.replace(
        document(), purposes={"analytics": msgspec.structs.replace(document().purposes["analytics"], cookies=(named,))}
    )
    before, after = seen("_ga_*", last="2026-11-10"), seen("_ga_*", last="2026-11-11")
    for rows in ([before], [before, seen("_ga_ABC1234")]):
        found = compare(alone, rows, "2026-11-10")
        assert (found.declared[0].seen is not None, found.undeclared) == (True, ())
    assert compare(alone, [after], "2026-11-10").undeclared == (after,)
    assert compare(alone, [after], "2026-11-10").declared[0].seen is None


def test_several_names_that_one_pattern_covers_are_told_as_one() -> None:
    rows = [seen("_ga_*", first="2026-10-01", last="2026-10-05", days=5), seen("_ga_abc", first="2026-10-03", days=2)]
    found = compare(document(), rows, SINCE).declared[-1].seen
    assert found is not None
    assert (found.first_seen, found.last_seen, found.days) == ("2026-10-01", "2026-11-20", 5)


def test_the_hash_of_an_inventory_is_that_of_what_a_reviewer_judges() -> None:
    rows = [seen("sid"), seen("zz")]
    digest = compare(document(), rows, SINCE).digest("1.0")
    later = [seen("sid", last="2026-11-21", days=4), seen("zz", last="2026-11-21", days=4)]
    assert compare(document(), later, SINCE).digest("1.0") == digest
    for changed in ([seen("sid")], [*rows, seen("new")], [seen("zz")], [seen("sid"), seen("zz", storage="pixel")]):
        assert compare(document(), changed, SINCE).digest("1.0") != digest
    assert compare(document(), rows, SINCE).digest("1.1") != digest


def ms(day: str) -> int:
    return decode_time(f"{day}T00:00:00.000Z")


def test_a_review_is_due_after_the_period_of_the_policy_in_force() -> None:
    policies = history(("1.0", "2026-01-01", "P30D"))
    assert review_due(policies, None, ms("2025-12-01")) is None
    due = review_due(policies, None, ms("2026-01-30"))
    assert due is not None
    assert (due.every, due.due_ms, due.overdue_seconds) == ("P30D", ms("2026-01-31"), 0)
    due = review_due(policies, None, ms("2026-02-02"))
    assert due is not None
    assert due.overdue_seconds == 2 * 86_400
    due = review_due(policies, ms("2026-02-01"), ms("2026-02-02"))
    assert due is not None
    assert (due.due_ms, due.overdue_seconds) == (ms("2026-03-03"), 0)


def test_reviews_begin_with_the_version_that_asks_for_them() -> None:
    policies = history(
        ("1.0", "2026-01-01", ""),
        ("1.1", "2026-03-01", "P30D"),
        ("1.2", "2026-03-10", "P1M"),
        ("2.0", "2026-06-01", ""),
    )
    assert review_due(policies, None, ms("2026-02-01")) is None
    due = review_due(policies, None, ms("2026-04-05"))
    assert due is not None
    assert (due.every, due.due_ms) == ("P1M", ms("2026-04-01"))
    assert review_due(policies, None, ms("2026-06-02")) is None
