"""The example sites say what the policies they are made from say: categories, cookies, durations, periods, regimes."""

from __future__ import annotations

from pathlib import Path

import pytest

import ledger
from ledger.core.decide import EMPTY_STATE, Outcome, Recorded, decide, fold
from ledger.core.encoding import decode_time
from ledger.core.event import Event
from ledger.core.policy import (
    PolicyHistory,
    Published,
    SiteDocument,
    decode_document,
    encode_document,
    parse_site_document,
)

SITES = Path(ledger.__file__).parent / "sites"
NAMES = ("weco.nexaxt.com", "we-nera.com", "id.custodian.kz")
PUBLISHED_MS = decode_time("2026-06-01T00:00:00.000Z")


def site(name: str) -> SiteDocument:
    return parse_site_document((SITES / f"{name}.yaml").read_bytes())


def ask(name: str, purpose: str, at: str, *events: Recorded, region: str | None = "KZ", gpc: bool = False) -> Outcome:
    policies = PolicyHistory((Published(1, PUBLISHED_MS, b"", site(name)),))
    at_ms = decode_time(f"{at}T00:00:00.000Z")
    return decide(policies, fold(EMPTY_STATE, events), purpose, at_ms=at_ms, region=region, gpc=gpc)


def act(name: str, on: str, answer: str, *purposes: str, region: str | None = "KZ") -> Recorded:
    recorded_ms = decode_time(f"{on}T00:00:00.000Z")
    event = Event(
        id=on,
        site=name,
        type="consent.given" if answer == "granted" else "consent.refused",
        visitor="v" * 22,
        decisions=dict.fromkeys(purposes, answer),  # type: ignore[arg-type]
        action="customize",
        policy_version="1.0",
        region=region,
    )
    return Recorded(recorded_ms % 1_000_003, recorded_ms, event)


def test_exactly_the_three_sites_are_shipped() -> None:
    assert {path.stem for path in SITES.glob("*.yaml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestEverySite:
    def test_is_named_after_its_host_and_is_at_version_1_0(self, name: str) -> None:
        assert (site(name).site, site(name).version) == (name, "1.0")

    def test_comes_back_from_its_published_form(self, name: str) -> None:
        data = encode_document(site(name))
        assert decode_document(data) == site(name)
        assert encode_document(decode_document(data)) == data

    def test_speaks_its_languages_everywhere(self, name: str) -> None:
        document = site(name)
        for purpose in document.purposes.values():
            texts = [purpose.title, purpose.description, *(cookie.description for cookie in purpose.cookies)]
            assert all(set(text) == set(document.languages) for text in texts)

    def test_allows_its_own_pages_and_its_subdomains_and_no_other(self, name: str) -> None:
        document = site(name)
        assert document.allows_origin(f"https://{name}")
        assert document.allows_origin(f"https://shop.{name}")
        for other in (f"http://{name}", f"https://{name}.evil.test", "http://localhost:8080"):
            assert not document.allows_origin(other)

    def test_has_a_regime_for_every_purpose_everywhere(self, name: str) -> None:
        for purpose in site(name).purposes:
            assert ask(name, purpose, "2026-07-01", region=None).decision == (
                "granted" if site(name).purposes[purpose].required else "denied"
            )


class TestWeco:
    NAME = "weco.nexaxt.com"

    def test_its_purposes_and_controller(self) -> None:
        document = site(self.NAME)
        assert list(document.purposes) == ["necessary", "preferences", "analytics", "marketing"]
        assert [name for name, purpose in document.purposes.items() if purpose.required] == ["necessary"]
        assert document.controller.bin == "230940021527"
        assert document.languages == ("en", "ru")
        assert document.policy.effective_at == "2026-05-11T00:00:00.000Z"

    def test_its_cookies_and_their_durations(self) -> None:
        cookies = {
            cookie.name: (name, cookie.duration, cookie.conditional)
            for name, purpose in site(self.NAME).purposes.items()
            for cookie in purpose.cookies
        }
        assert cookies == {
            "session_id": ("necessary", "session", False),
            "csrf_token": ("necessary", "session", False),
            "cookie_consent": ("necessary", "P12M", False),
            "lang": ("preferences", "P12M", False),
            "theme": ("preferences", "P12M", False),
            "_ga": ("analytics", "P24M", True),
            "_gid": ("analytics", "PT24H", True),
        }

    def test_marketing_is_declared_unused(self) -> None:
        assert [name for name, purpose in site(self.NAME).purposes.items() if not purpose.in_use] == ["marketing"]

    def test_everyone_is_asked_wherever_they_are(self) -> None:
        for region in (None, "KZ", "DE", "US", "US-CA", "GB"):
            assert ask(self.NAME, "analytics", "2026-07-01", region=region).reason == "never_asked"

    def test_a_choice_is_kept_for_twelve_months(self) -> None:
        granted = act(self.NAME, "2026-06-15", "granted", "analytics")
        assert ask(self.NAME, "analytics", "2027-06-14", granted).decision == "granted"
        assert ask(self.NAME, "analytics", "2027-06-15", granted).reason == "expired"
        refused = act(self.NAME, "2026-06-15", "denied", "analytics")
        assert not ask(self.NAME, "analytics", "2027-06-14", refused).ask
        assert ask(self.NAME, "analytics", "2027-06-15", refused).ask


class TestNera:
    NAME = "we-nera.com"

    def test_its_purposes_and_periods(self) -> None:
        document = site(self.NAME)
        assert list(document.purposes) == ["necessary", "analytics"]
        session, choice = document.purposes["necessary"].cookies
        assert (session.inactivity, session.duration) == ("P2W", None)
        assert choice.duration == "P6M"
        assert document.purposes["analytics"].retention == "P12M"
        assert [(r.name, r.region) for r in document.purposes["analytics"].recipients] == [("PostHog", "EU")]
        assert document.controller.bin == "231240009149"

    @pytest.mark.parametrize("region", ["DE", "FR", "IS", "NO", "LI", "GB", "GB-NIR", None, "XX", "RE"])
    def test_analytics_waits_for_consent_in_europe_and_where_the_place_is_unknown(self, region: str | None) -> None:
        assert ask(self.NAME, "analytics", "2026-07-01", region=region).reason == "never_asked"

    @pytest.mark.parametrize("region", ["KZ", "US", "CH", "RU", "US-CA"])
    def test_analytics_runs_elsewhere_until_the_visitor_objects(self, region: str) -> None:
        outcome = ask(self.NAME, "analytics", "2026-07-01", region=region)
        assert (outcome.decision, outcome.reason, outcome.status) == ("granted", "opt_out_default", None)
        objection = act(self.NAME, "2026-06-15", "denied", "analytics")
        for later in ("2026-07-01", "2036-07-01"):
            assert ask(self.NAME, "analytics", later, objection, region=region).decision == "denied"

    def test_the_choice_is_kept_for_six_months(self) -> None:
        granted = act(self.NAME, "2026-08-31", "granted", "analytics", region="DE")
        assert ask(self.NAME, "analytics", "2027-02-27", granted, region="DE").decision == "granted"
        assert ask(self.NAME, "analytics", "2027-02-28", granted, region="DE").reason == "expired"

    def test_a_visitor_who_travels_has_the_stricter_of_the_two_places(self) -> None:
        lapsed = act(self.NAME, "2026-06-15", "granted", "analytics", region="DE")
        assert ask(self.NAME, "analytics", "2027-06-15", lapsed, region="KZ").decision == "denied"


class TestCustodian:
    NAME = "id.custodian.kz"

    def test_its_five_purposes_of_which_two_are_required(self) -> None:
        document = site(self.NAME)
        assert list(document.purposes) == ["necessary", "session", "analytics", "functional", "targeting"]
        assert [name for name, purpose in document.purposes.items() if purpose.required] == ["necessary", "session"]
        assert document.languages == ("ru",)
        assert document.policy.effective_at == "2025-11-17T00:00:00.000Z"

    def test_session_and_persistent_cookies_are_told_apart(self) -> None:
        purposes = site(self.NAME).purposes
        assert [cookie.duration for cookie in purposes["session"].cookies] == ["session"]
        assert [cookie.duration for cookie in purposes["functional"].cookies] == ["persistent"]

    def test_changes_are_announced_and_the_inventory_is_reviewed_every_thirty_days(self) -> None:
        document = site(self.NAME)
        assert document.announce_changes == "first-visit"
        assert document.review_cookies_every == "P30D"

    def test_the_optional_ones_are_opt_in(self) -> None:
        for purpose in ("analytics", "functional", "targeting"):
            assert ask(self.NAME, purpose, "2026-07-01").reason == "never_asked"
