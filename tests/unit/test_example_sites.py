"""The example sites say what the policies they are made from say, figure by figure.

Each class goes through one policy; the ids (W1, N5, C3 …) are those of the clauses, each with its figure beside it.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

import ledger
from ledger.core.decide import EMPTY_STATE, Outcome, Recorded, decide, fold
from ledger.core.document_advice import advise
from ledger.core.encoding import decode_time
from ledger.core.event import Event
from ledger.core.notice import check_notice, read_notice
from ledger.core.policy import (
    PolicyHistory,
    Published,
    SiteDocument,
    decode_document,
    encode_document,
    parse_site_document,
)
from tests.devices import stored

DPV_TERMS = {
    *(f"dpv:{term}" for term in (
        "AccountManagement", "EnforceAccessControl", "EnforceSecurity", "IdentityAuthentication",
        "ImproveExistingProductsAndServices", "LegalCompliance", "MisusePreventionAndDetection", "RecordManagement",
        "RequestedServiceProvision", "ServicePersonalisation", "ServiceUsageAnalytics", "TargetedAdvertising",
        "TechnicalServiceProvision", "UserInterfacePersonalisation",
    )),
    *(f"pd:{term}" for term in (
        "Authenticating", "BrowsingBehavior", "Contact", "Country", "DeviceBased", "IPAddress", "IndividualProfile",
        "Language", "LinkClicked", "Name", "Preference", "PrivacyPreference", "UID",
    )),
}  # fmt: skip
"""Of https://w3id.org/dpv/2.0 and its extension https://w3id.org/dpv/2.0/pd."""
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
    return stored(recorded_ms % 1_000_003, recorded_ms, event)


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
        texts = [contact.about for contact in document.contacts] + [one.name for one in document.authorities]
        for purpose in document.purposes.values():
            texts += [purpose.title, purpose.description, *(cookie.description for cookie in purpose.cookies)]
            texts += [kind.title for kind in purpose.data.values()]
        assert all(set(text) == set(document.languages) for text in texts)

    def test_names_the_notice_that_is_shipped_with_it_and_fits_it(self, name: str) -> None:
        document = site(name)
        body = (SITES / "notices" / f"{name}-banner.json").read_bytes()
        assert document.notices["banner"].document == sha256(body).hexdigest()
        notice = read_notice(body)
        check_notice(notice, document.languages, document.purposes)
        assert set(notice.texts) == set(document.languages)
        assert notice.layout.refusing == "equal"
        for text in notice.texts.values():
            assert set(text.purposes) == set(document.purposes)
            assert {"accept_all", "only_necessary", "customize", "withdraw"} <= text.labels.keys()
        beforehand = {purpose for purpose, answer in notice.defaults.items() if answer == "granted"}
        assert beforehand == {purpose for purpose, is_ in document.purposes.items() if is_.required}

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

    def test_names_what_a_consent_has_to_name_in_kazakhstan(self, name: str) -> None:
        """K1: operator, term, data, recipients abroad or none, publication. K3: where the database has to be."""
        document = site(name)
        assert document.controller.country == "KZ"
        assert document.residency == ("KZ",)
        # One policy does not tell the operator's BIN.
        assert (document.controller.bin is None) == (name == "id.custodian.kz")
        for purpose in document.purposes.values():
            assert not purpose.publication
            assert purpose.data or not purpose.in_use
            assert purpose.legal_basis
            assert purpose.dpv

    def test_rests_optional_purposes_on_consent_where_they_are_opt_in(self, name: str) -> None:
        document = site(name)
        for key, purpose in document.purposes.items():
            if purpose.required:
                assert set(purpose.legal_basis.values()) == {"exemption"}
                continue
            for region in ("default", "EU", "EEA", "UK"):
                regime = document.regimes_of(key).get(region, document.regimes_of(key)["default"])
                basis = purpose.legal_basis.get(region, purpose.legal_basis["default"])
                assert (regime, basis) in (("opt-in", "consent"), ("opt-out", "legitimate_interest"))

    def test_names_kinds_of_data_and_purposes_by_terms_of_dpv_2(self, name: str) -> None:
        found = {term for purpose in site(name).purposes.values() for term in purpose.dpv}
        found |= {kind.dpv for purpose in site(name).purposes.values() for kind in purpose.data.values() if kind.dpv}
        assert found <= DPV_TERMS

    def test_turns_each_signal_of_consent_mode_on_by_one_purpose(self, name: str) -> None:
        signals = [signal for purpose in site(name).purposes.values() for signal in purpose.consent_mode]
        assert len(signals) == len(set(signals))
        assert set(site(name).purposes["analytics"].consent_mode) == {"analytics_storage"}

    def test_lets_a_refusal_rest_for_half_a_year_at_least_and_a_dismissal_for_a_day(self, name: str) -> None:
        """E2."""
        for table in (site(name).reask_after, *site(name).reask_after_in.values()):
            assert {table.refusal, table.withdrawal} <= {"P6M", "P12M"}
            assert table.dismissal == "P1D"

    def test_shows_an_authority_to_visitors_of_kazakhstan(self, name: str) -> None:
        """N12."""
        assert [one.regions for one in site(name).authorities].count(("KZ",)) == 1

    def test_is_advised_of_nothing_but_what_its_policy_s_text_leaves_open(self, name: str) -> None:
        """K3 and W11."""
        cookies = ("analytics", "functional", "targeting") if name == "id.custodian.kz" else ("analytics",)
        expected = {"storedIn", *(f"purposes.{purpose}.cookies[0]" for purpose in cookies)}
        assert {one.path for one in advise(site(name))} == expected


class TestWeco:
    NAME = "weco.nexaxt.com"

    def test_its_purposes_and_controller(self) -> None:
        document = site(self.NAME)
        assert list(document.purposes) == ["necessary", "preferences", "analytics", "marketing"]
        assert [name for name, purpose in document.purposes.items() if purpose.required] == ["necessary"]
        assert document.controller.bin == "230940021527"
        assert document.languages == ("en", "ru")
        assert document.policy.effective_at == "2026-05-11T00:00:00.000Z"

    def test_w1_w2_its_cookies_their_durations_and_which_are_conditional(self) -> None:
        cookies = {
            cookie.name: (name, cookie.duration, cookie.conditional)
            for name, purpose in site(self.NAME).purposes.items()
            for cookie in purpose.cookies
        }
        # W7: sub-processors' cookies are declared without a name, in case a page embeds their files.
        assert cookies.pop(None) == ("necessary", "persistent", True)
        assert cookies == {
            "session_id": ("necessary", "session", False),
            "csrf_token": ("necessary", "session", False),
            "cookie_consent": ("necessary", "P12M", False),
            "lang": ("preferences", "P12M", False),
            "theme": ("preferences", "P12M", False),
            "_ga": ("analytics", "P24M", True),
            "_gid": ("analytics", "PT24H", True),
        }

    def test_w12_marketing_is_declared_unused(self) -> None:
        assert [name for name, purpose in site(self.NAME).purposes.items() if not purpose.in_use] == ["marketing"]

    def test_w11_third_parties_set_the_two_of_google_alone_and_withdrawal_clears_them(self) -> None:
        analytics = site(self.NAME).purposes["analytics"]
        assert [cookie.name for cookie in analytics.cookies if cookie.party == "third"] == ["_ga", "_gid"]
        assert all(cookie.clear_on_withdrawal for cookie in analytics.cookies)
        (recipient,) = analytics.recipients
        assert "Google Analytics" in recipient.name

    def test_w6_version_date_and_address(self) -> None:
        policy = site(self.NAME).policy
        assert (policy.version, policy.effective_at[:10]) == ("1.0", "2026-05-11")
        assert policy.url == "https://weco.nexaxt.com/pages/cookie-policy-en.html"
        assert policy.material is True

    def test_w7_sub_processors_are_declared_under_their_own_policies(self) -> None:
        necessary = site(self.NAME).purposes["necessary"]
        (embedded,) = [cookie for cookie in necessary.cookies if cookie.name is None]
        assert (embedded.party, embedded.conditional, embedded.clear_on_withdrawal) == ("third", True, False)
        (recipient,) = necessary.recipients
        assert "Cloudflare, GitHub" in recipient.name
        assert recipient.role == "controller"

    def test_w9_all_subdomains_are_the_site_s(self) -> None:
        assert site(self.NAME).origins == ("https://weco.nexaxt.com", "https://*.weco.nexaxt.com")

    def test_w10_the_four_laws_are_named(self) -> None:
        laws = " ".join(site(self.NAME).laws)
        assert all(law in laws for law in ("No. 94-V", "No. 567-II", "ePrivacy", "PECR"))

    def test_its_contacts_are_those_of_the_text(self) -> None:
        document = site(self.NAME)
        assert document.controller.email == "anton.orlov@nexaxt.com"
        assert document.controller.address == "050013, Almaty, Seifullin Avenue 617"
        assert document.contacts[0].url == "https://weco.nexaxt.com/pages/privacy-policy-en.html"

    def test_w10_everyone_is_asked_wherever_they_are(self) -> None:
        for region in (None, "KZ", "DE", "US", "US-CA", "GB"):
            assert ask(self.NAME, "analytics", "2026-07-01", region=region).reason == "never_asked"

    def test_w4_a_choice_is_kept_for_twelve_months(self) -> None:
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

    def test_n1_the_country_is_data_of_the_necessary_purpose_and_the_address_is_not(self) -> None:
        necessary = site(self.NAME).purposes["necessary"]
        assert necessary.data["country"].dpv == "pd:Country"
        assert "1 year" in necessary.data["country"].title["en"]
        assert "pd:IPAddress" not in {kind.dpv for kind in necessary.data.values()}

    def test_n3_a_choice_rests_for_six_months_and_in_california_for_twelve(self) -> None:
        document = site(self.NAME)
        assert (document.renew_after, document.reask_after.refusal, document.reask_after.withdrawal) == ("P6M",) * 3
        assert document.reask_after_in["US-CA"].refusal == "P12M"

    def test_n4_a_profile_may_be_linked(self) -> None:
        assert site(self.NAME).purposes["analytics"].data["profile"].dpv == "pd:IndividualProfile"

    def test_n5_periods_of_retention(self) -> None:
        document = site(self.NAME)
        assert (document.record_retention, document.purposes["analytics"].retention) == ("P1Y", "P12M")
        assert document.record_retention_counted == "act"  # the text names no other beginning

    def test_n6_n12_rights_are_answered_within_thirty_days_and_an_authority_is_named(self) -> None:
        document = site(self.NAME)
        assert document.answer_within == {"default": "P30D"}
        assert document.authorities[0].regions == ("EU", "EEA")
        rights = document.contacts[0].about["en"]
        for right in ("access", "correction", "deletion", "copy", "objection", "withdrawal"):
            assert right in rights

    def test_n7_children_under_sixteen_are_reported_and_nobody_is_asked_for_an_age(self) -> None:
        document = site(self.NAME)
        assert any("under 16" in contact.about["en"] for contact in document.contacts)
        assert {purpose.kind for purpose in document.purposes.values()} == {"consent"}

    def test_n8_providers_with_their_countries_and_transfers(self) -> None:
        named = [
            (recipient.name.split()[0].strip(","), recipient.role, recipient.region, recipient.transfer)
            for purpose in site(self.NAME).purposes.values()
            for recipient in purpose.recipients
        ]
        assert named == [
            ("Hetzner", "processor", "DE", None),
            ("Brevo", "processor", "EU", None),
            ("Honeybadger", "processor", "US", None),
            ("WhatsApp", "controller", "US", "adequacy"),
            ("PostHog", "processor", "EU", None),
        ]
        assert site(self.NAME).stored_in == ("DE",)

    def test_n10_the_analytics_tool_is_posthog(self) -> None:
        (cookie,) = site(self.NAME).purposes["analytics"].cookies
        assert (cookie.pattern, cookie.party, cookie.clear_on_withdrawal) == ("ph_*_posthog", "third", True)

    def test_n11_changes_are_posted_with_their_date(self) -> None:
        document = site(self.NAME)
        assert (document.announce_changes, document.policy.effective_at[:10]) == ("posted", "2026-04-14")

    @pytest.mark.parametrize("region", ["DE", "FR", "IS", "NO", "LI", "GB", "GB-NIR", None, "XX", "RE"])
    def test_n2_analytics_waits_for_consent_in_europe_and_where_the_place_is_unknown(self, region: str | None) -> None:
        assert ask(self.NAME, "analytics", "2026-07-01", region=region).reason == "never_asked"

    @pytest.mark.parametrize("region", ["KZ", "US", "CH", "RU", "US-CA"])
    def test_n2_analytics_runs_elsewhere_until_the_visitor_objects(self, region: str) -> None:
        outcome = ask(self.NAME, "analytics", "2026-07-01", region=region)
        assert (outcome.decision, outcome.reason, outcome.status) == ("granted", "opt_out_default", None)
        objection = act(self.NAME, "2026-06-15", "denied", "analytics")
        for later in ("2026-07-01", "2036-07-01"):
            assert ask(self.NAME, "analytics", later, objection, region=region).decision == "denied"

    def test_n3_the_choice_is_kept_for_six_months(self) -> None:
        granted = act(self.NAME, "2026-08-31", "granted", "analytics", region="DE")
        assert ask(self.NAME, "analytics", "2027-02-27", granted, region="DE").decision == "granted"
        assert ask(self.NAME, "analytics", "2027-02-28", granted, region="DE").reason == "expired"

    def test_a_visitor_who_travels_has_the_stricter_of_the_two_places(self) -> None:
        lapsed = act(self.NAME, "2026-06-15", "granted", "analytics", region="DE")
        assert ask(self.NAME, "analytics", "2027-06-15", lapsed, region="KZ").decision == "denied"


class TestCustodian:
    NAME = "id.custodian.kz"

    def test_c1_c2_its_five_purposes_in_russian_of_which_two_are_required(self) -> None:
        document = site(self.NAME)
        assert list(document.purposes) == ["necessary", "session", "analytics", "functional", "targeting"]
        assert [name for name, purpose in document.purposes.items() if purpose.required] == ["necessary", "session"]
        assert document.languages == ("ru",)
        assert document.policy.effective_at == "2025-11-17T00:00:00.000Z"

    def test_c3_session_and_persistent_cookies_are_told_apart(self) -> None:
        purposes = site(self.NAME).purposes
        assert [cookie.duration for cookie in purposes["session"].cookies] == ["session"]
        for name in ("analytics", "functional", "targeting"):
            assert [cookie.duration for cookie in purposes[name].cookies] == ["persistent"]

    def test_c6_targeting_is_shared_with_third_parties_that_the_text_does_not_name(self) -> None:
        purposes = site(self.NAME).purposes
        assert [recipient.role for recipient in purposes["targeting"].recipients] == ["controller"]
        assert not any(purposes[name].recipients for name in ("analytics", "functional"))

    def test_c7_the_web_server_s_log_keeps_addresses_and_is_declared(self) -> None:
        log = site(self.NAME).purposes["necessary"].data["serverLog"]
        assert log.dpv == "pd:IPAddress"
        assert "сам сайт" in log.title["ru"]

    def test_its_contacts_are_those_of_the_text(self) -> None:
        document = site(self.NAME)
        assert document.controller.email == "office@custodian.kz"
        assert document.contacts[0].url == "https://id.custodian.kz/"

    def test_c4_c5_changes_are_announced_and_the_inventory_is_reviewed_every_thirty_days(self) -> None:
        document = site(self.NAME)
        assert document.announce_changes == "first-visit"
        assert document.review_cookies_every == "P30D"

    def test_c8_the_optional_ones_are_opt_in(self) -> None:
        for purpose in ("analytics", "functional", "targeting"):
            assert ask(self.NAME, purpose, "2026-07-01").reason == "never_asked"
