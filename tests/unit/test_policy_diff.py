"""What a diff between two versions says, what it finds material, and that it misses no member of a document."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields, replace

from ledger.core import document as doc
from ledger.core.document import (
    Authority,
    Contact,
    Controller,
    Cookie,
    DataCategory,
    Notice,
    PolicyVersion,
    Purpose,
    ReaskAfter,
    Recipient,
    SiteDocument,
)
from ledger.core.duration import Duration, parse_duration
from ledger.core.periods import is_longer, period
from ledger.core.policy_diff import SAYS_NOTHING, Change, diff
from ledger.core.regions import Regime


def lasting(text: str) -> Duration:
    duration = parse_duration(text)
    assert duration is not None
    return duration


GA = Cookie(name="_ga", description={"en": "A number"}, duration=lasting("P12M"))
IDLE = Cookie(pattern="s_*", description={"en": "A session"}, inactivity=lasting("P2W"))
POSTHOG = Recipient(name="PostHog", region="EU", transfer="adequacy")
ANALYTICS = Purpose(
    title={"en": "Analytics"},
    description={"en": "Counting"},
    cookies=(GA, IDLE),
    recipients=(POSTHOG,),
    data={"clicks": DataCategory(title={"en": "Clicks"}, dpv="pd:BrowsingBehavior")},
    dpv=("dpv:Counter",),
    consent_mode=("analytics_storage",),
    retention=lasting("P12M"),
    needs=("age",),
)
BEFORE = SiteDocument(
    site="shop.example",
    controller=Controller(name="Shop", bin="230940021527", country="KZ"),
    languages=("en",),
    origins=("https://shop.example",),
    policy=PolicyVersion(version="1", effective_at="2026-05-11T00:00:00.000Z", url="https://shop.example/p"),
    purposes={
        "analytics": ANALYTICS,
        "marketing": Purpose(title={"en": "Marketing"}, description={"en": "Advertising"}, in_use=False),
        "age": Purpose(
            title={"en": "Age"}, description={"en": "Over"}, kind="attestation", minimum_age={"default": 16}
        ),
    },
    order=("analytics", "marketing", "age"),
    regimes={"default": "opt-in"},
    renew_after=lasting("P12M"),
    contacts=(Contact(about={"en": "Rights"}, email="a@shop.example"),),
    authorities=(Authority(name={"en": "Office"}),),
    notices={"banner": Notice(document="aa" * 32, media_type="application/json")},
)


def site(**members: Any) -> SiteDocument:
    return replace(BEFORE, **members)


def analytics(**members: Any) -> SiteDocument:
    return site(purposes={**BEFORE.purposes, "analytics": replace(ANALYTICS, **members)})


def cookie(**members: Any) -> SiteDocument:
    return analytics(cookies=(replace(GA, **members), IDLE))


def recipient(**members: Any) -> SiteDocument:
    return analytics(recipients=(replace(POSTHOG, **members),))


def controller(**members: Any) -> SiteDocument:
    return site(controller=replace(BEFORE.controller, **members))


def data(**members: Any) -> SiteDocument:
    return analytics(data={"clicks": replace(ANALYTICS.data["clicks"], **members)})


def age(**members: Any) -> SiteDocument:
    return site(purposes={**BEFORE.purposes, "age": replace(BEFORE.purposes["age"], **members)})


MATERIAL, SAME = True, False
# Struct.member -> another document in which it is another, what is said of it, and whether that is material.
MEMBERS: dict[str, tuple[SiteDocument, str, bool]] = {
    "SiteDocument.site": (site(site="other.example"), "the site: other.example instead of shop.example", MATERIAL),
    "SiteDocument.controller": (controller(name="Firm", bin=None), "the controller: Firm instead of Shop", MATERIAL),
    "SiteDocument.languages": (site(languages=("en", "kk")), "a new language: kk", SAME),
    "SiteDocument.origins": (site(origins=(*BEFORE.origins, "https://b.example")), "origin: https://b.example", SAME),
    "SiteDocument.policy": (site(policy=replace(BEFORE.policy, url="https://b.example")), "is to be read", SAME),
    "SiteDocument.purposes": (site(purposes={**BEFORE.purposes, "b": ANALYTICS}), "a new purpose: b", MATERIAL),
    "SiteDocument.renew_after": (site(renew_after=lasting("P24M")), "a grant lasts 24 months instead of 12", MATERIAL),
    "SiteDocument.order": (site(order=("marketing", "analytics", "age")), "another order", SAME),
    "SiteDocument.reask_after": (site(reask_after=ReaskAfter(refusal=lasting("P6M"))), "is asked again", SAME),
    "SiteDocument.reask_after_in": (site(reask_after_in={"EU": ReaskAfter()}), "a visitor in EU is asked again", SAME),
    "SiteDocument.regimes": (site(regimes={"default": "opt-out"}), "opt-out instead of opt-in everywhere", MATERIAL),
    "SiteDocument.announce_changes": (site(announce_changes="email"), "announced: email instead of posted", SAME),
    "SiteDocument.notices": (
        site(notices={"banner": Notice(document="bb" * 32, media_type="application/json")}),
        "the notice banner is another",
        SAME,
    ),
    "SiteDocument.contacts": (site(contacts=()), "the contacts are others", SAME),
    "SiteDocument.authorities": (site(authorities=()), "the authorities that take complaints are others", SAME),
    "SiteDocument.answer_within": (site(answer_within={"default": lasting("P30D")}), "answered (default): P30D", SAME),
    "SiteDocument.answer_on_working_day": (site(answer_on_working_day=True), "moves to the Monday", SAME),
    "SiteDocument.answer_extension": (
        site(answer_extension={"default": lasting("P2M")}),
        "put off (default): P2M",
        SAME,
    ),
    "SiteDocument.utc_offset": (site(utc_offset="+05:00"), "of deadlines: +05:00 instead of +00:00", SAME),
    "SiteDocument.record_retention": (site(record_retention=lasting("P1Y")), "record of a choice is kept: P1Y", SAME),
    "SiteDocument.record_retention_of": (
        site(record_retention_of={"notice.seen": lasting("P90D")}),
        "record of a notice.seen is kept: P90D",
        SAME,
    ),
    "SiteDocument.record_retention_counted": (
        site(record_retention_counted="act"),
        "keeping of records is counted: act instead of end",
        SAME,
    ),
    "SiteDocument.suppress_for": (site(suppress_for=lasting("P1Y")), "a denial outlives its record: P1Y", SAME),
    "SiteDocument.stored_in": (site(stored_in=("KZ",)), "a new country with the ledger's database: KZ", SAME),
    "SiteDocument.residency": (site(residency=("KZ",)), "a new country that wants it kept there: KZ", SAME),
    "SiteDocument.review_cookies_every": (site(review_cookies_every=lasting("P30D")), "are reviewed: P30D", SAME),
    "SiteDocument.laws": (site(laws=("GDPR",)), "a new law that is named: GDPR", SAME),
    "SiteDocument.entry_bundles_public": (site(entry_bundles_public=True), "the log's entries are public", SAME),
    "PolicyVersion.url": (site(policy=replace(BEFORE.policy, url="https://b.example")), "is to be read", SAME),
    "Controller.name": (controller(name="Firm", bin=None), "the controller: Firm instead of Shop", MATERIAL),
    "Controller.bin": (controller(bin="231240009149"), "BIN: 231240009149 instead of 230940021527", MATERIAL),
    "Controller.country": (controller(country="DE"), "the controller's country: DE instead of KZ", MATERIAL),
    "Controller.address": (controller(address="Street 1"), "address: Street 1 (not named before)", SAME),
    "Controller.email": (controller(email="b@shop.example"), "the controller's email", SAME),
    "Controller.phone": (controller(phone="+7"), "the controller's phone", SAME),
    "Contact.about": (site(contacts=(Contact(about={"en": "All"}),)), "the contacts are others", SAME),
    "Contact.email": (site(contacts=(replace(BEFORE.contacts[0], email=None),)), "the contacts are others", SAME),
    "Contact.phone": (site(contacts=(replace(BEFORE.contacts[0], phone="+7"),)), "the contacts are others", SAME),
    "Contact.url": (site(contacts=(replace(BEFORE.contacts[0], url="https://b"),)), "the contacts are others", SAME),
    "Authority.name": (site(authorities=(Authority(name={"en": "B"}),)), "the authorities", SAME),
    "Authority.url": (site(authorities=(replace(BEFORE.authorities[0], url="https://b"),)), "the authorities", SAME),
    "Authority.regions": (site(authorities=(replace(BEFORE.authorities[0], regions=("KZ",)),)), "authorities", SAME),
    "Notice.document": (
        site(notices={"banner": replace(BEFORE.notices["banner"], document="bb" * 32)}),
        "the notice banner is another",
        SAME,
    ),
    "Notice.media_type": (
        site(notices={"banner": replace(BEFORE.notices["banner"], media_type="image/png")}),
        "the notice banner is another",
        SAME,
    ),
    "Notice.language": (
        site(notices={"banner": replace(BEFORE.notices["banner"], language="en")}),
        "the notice banner is another",
        SAME,
    ),
    "ReaskAfter.refusal": (site(reask_after=ReaskAfter(refusal=lasting("P6M"))), "is asked again", SAME),
    "ReaskAfter.withdrawal": (site(reask_after=ReaskAfter(withdrawal=lasting("P6M"))), "is asked again", SAME),
    "ReaskAfter.dismissal": (site(reask_after=ReaskAfter(dismissal=lasting("P6M"))), "is asked again", SAME),
    "DataCategory.title": (data(title={"en": "Taps"}), "the title of the data clicks in en reads otherwise", SAME),
    "DataCategory.dpv": (data(dpv="pd:Location"), "DPV term of the data clicks: pd:Location instead", MATERIAL),
    "Recipient.name": (recipient(name="Plausible"), "a new recipient: Plausible (EU)", MATERIAL),
    "Recipient.role": (recipient(role="controller"), "recipient PostHog: controller instead of processor", MATERIAL),
    "Recipient.region": (recipient(region="US"), "where recipient PostHog is: US instead of EU", MATERIAL),
    "Recipient.transfer": (recipient(transfer="derogation"), "rests: derogation instead of adequacy", MATERIAL),
    "Cookie.name": (cookie(name="_gb"), "a new cookie _gb, which lives 12 months", MATERIAL),
    "Cookie.pattern": (analytics(cookies=(GA, replace(IDLE, pattern="t_*"))), "a new cookie t_*", MATERIAL),
    "Cookie.description": (
        cookie(description={"en": "B"}),
        "the description of cookie _ga in en reads otherwise",
        SAME,
    ),
    "Cookie.duration": (cookie(duration=lasting("P24M")), "cookie _ga lives 24 months instead of 12", MATERIAL),
    "Cookie.inactivity": (
        analytics(cookies=(GA, replace(IDLE, inactivity=lasting("P4W")))),
        "cookie s_*: which lives until 4 weeks after its last use instead of",
        MATERIAL,
    ),
    "Cookie.party": (cookie(party="third"), "cookie _ga is of a third party now", MATERIAL),
    "Cookie.storage": (cookie(storage="localStorage"), "a new localStorage item _ga", MATERIAL),
    "Cookie.conditional": (cookie(conditional=True), "cookie _ga is set only where its tool is switched on", SAME),
    "Cookie.clear_on_withdrawal": (cookie(clear_on_withdrawal=False), "no longer cleared on withdrawal", MATERIAL),
    "Purpose.title": (analytics(title={"en": "Counting"}), "the title in en reads otherwise", SAME),
    "Purpose.description": (analytics(description={"en": "B"}), "the description in en reads otherwise", SAME),
    "Purpose.kind": (analytics(kind="transfer"), "a grant means consent to a transfer instead of consent", MATERIAL),
    "Purpose.required": (analytics(required=True), "visitors are no longer asked: it is always on", MATERIAL),
    "Purpose.in_use": (
        site(purposes={**BEFORE.purposes, "marketing": replace(BEFORE.purposes["marketing"], in_use=True)}),
        "it is taken in use",
        MATERIAL,
    ),
    "Purpose.alias_of": (analytics(alias_of="counting"), "the purpose that it goes on with: counting", SAME),
    "Purpose.removed_in": (analytics(removed_in="2"), "analytics is removed", SAME),
    "Purpose.cookies": (analytics(cookies=(IDLE, GA)), "the cookies stand in another order", SAME),
    "Purpose.recipients": (
        analytics(recipients=(POSTHOG, Recipient(name="Google", region="US"))),
        "a new recipient: Google (US)",
        MATERIAL,
    ),
    "Purpose.data": (
        analytics(data={**ANALYTICS.data, "email": DataCategory(title={"en": "E-mail"})}),
        "a new kind of data: email",
        MATERIAL,
    ),
    "Purpose.publication": (analytics(publication=True), "the data is made public", MATERIAL),
    "Purpose.legal_basis": (
        analytics(legal_basis={"default": "legitimate_interest"}),
        "the legal basis in general: legitimate interest instead of consent",
        MATERIAL,
    ),
    "Purpose.laws": (analytics(laws=("GDPR",)), "a new law it rests on: GDPR", SAME),
    "Purpose.regimes": (analytics(regimes={"US": "opt-out"}), "opt-out instead of opt-in in US", MATERIAL),
    "Purpose.renew_after": (analytics(renew_after=lasting("P13M")), "a grant lasts 13 months instead of 12", MATERIAL),
    "Purpose.reask_after": (analytics(reask_after=ReaskAfter(refusal=lasting("P6M"))), "is asked again", SAME),
    "Purpose.retention": (analytics(retention=lasting("P2Y")), "the data is kept 2 years instead of 12", MATERIAL),
    "Purpose.record_retention": (analytics(record_retention=lasting("P9Y")), "record of an answer is kept: P9Y", SAME),
    "Purpose.withdrawable": (analytics(withdrawable=False), "a grant can no longer be taken back", MATERIAL),
    "Purpose.withdrawal_bar": (analytics(withdrawal_bar={"en": "Law"}), "cannot be taken back in en is new", SAME),
    "Purpose.needs": (analytics(needs=()), "a grant no longer needs age", MATERIAL),
    "Purpose.minimum_age": (age(minimum_age={"default": 13}), "the minimum age in general: 13 instead of 16", MATERIAL),
    "Purpose.destination": (analytics(destination="US"), "where it is transferred to: US", MATERIAL),
    "Purpose.document": (analytics(document="cc" * 32), "the document that is accepted: cccc", MATERIAL),
    "Purpose.dpv": (analytics(dpv=("dpv:Counter", "dpv:Marketing")), "a new DPV term: dpv:Marketing", MATERIAL),
    "Purpose.consent_mode": (
        analytics(consent_mode=("analytics_storage", "ad_storage")),
        "a new consent-mode signal: ad_storage",
        MATERIAL,
    ),
}


def every_member() -> set[str]:
    """Of every part of a site document, as `Struct.member`."""
    parts = [part for part in vars(doc).values() if isinstance(part, type) and issubclass(part, Struct)]
    return {f"{part.__name__}.{field.name}" for part in parts for field in fields(part)}


def test_every_member_of_a_document_is_compared_or_said_to_say_nothing() -> None:
    assert every_member() == MEMBERS.keys() | SAYS_NOTHING
    assert not MEMBERS.keys() & SAYS_NOTHING


@pytest.mark.parametrize("member", sorted(MEMBERS))
def test_a_member_that_is_another_is_said_in_words_and_judged(member: str) -> None:
    after, words, material = MEMBERS[member]
    said = [change for change in diff(BEFORE, after).changes if words in change.what]
    assert said, [change.what for change in diff(BEFORE, after).changes]
    assert any(change.material for change in diff(BEFORE, after).changes) is material
    if material and member != "SiteDocument.renew_after":
        assert any(change.material for change in said)


@pytest.mark.parametrize("member", sorted(SAYS_NOTHING))
def test_a_member_about_the_version_itself_changes_nothing_for_a_visitor(member: str) -> None:
    name = member.rpartition(".")[2]
    other: Any = {"version": "2", "effective_at": "2027-01-01T00:00:00.000Z", "material": False}
    policy = replace(BEFORE.policy, **{name: other.get(name, {"analytics": "A reason"})})
    assert diff(BEFORE, site(policy=policy)).changes == ()


# What is given back, weaker or less: nobody has to be asked again for it.
LESS: dict[str, tuple[SiteDocument, SiteDocument]] = {
    "a cookie": (BEFORE, analytics(cookies=(GA,))),
    "a recipient": (BEFORE, analytics(recipients=())),
    "a kind of data": (BEFORE, analytics(data={})),
    "a shorter life": (BEFORE, cookie(duration=lasting("P6M"))),
    "a session instead of a period": (BEFORE, cookie(duration="session")),
    "a period instead of none": (cookie(duration="persistent"), BEFORE),
    "a period unused instead of none": (
        cookie(duration="persistent"),
        cookie(duration=None, inactivity=lasting("P1M")),
    ),
    "a first party again": (cookie(party="third"), BEFORE),
    "a shorter retention": (BEFORE, analytics(retention=lasting("P6M"))),
    "a retention at last": (analytics(retention=None), BEFORE),
    "a shorter renewal": (BEFORE, site(renew_after=lasting("P6M"))),
    "a stricter regime": (site(regimes={"default": "exempt"}), BEFORE),
    "no publication": (analytics(publication=True), BEFORE),
    "a purpose": (BEFORE, analytics(removed_in="2")),
    "a purpose and its record": (analytics(removed_in="0"), site(purposes={"age": BEFORE.purposes["age"]})),
    "a purpose out of use": (BEFORE, analytics(in_use=False)),
    "withdrawable again": (analytics(withdrawable=False), BEFORE),
    "one more thing needed": (analytics(needs=()), BEFORE),
    "a signal": (BEFORE, analytics(consent_mode=())),
    "a term": (BEFORE, analytics(dpv=())),
}


@pytest.mark.parametrize("what", sorted(LESS))
def test_less_is_listed_and_not_material(what: str) -> None:
    changes = diff(*LESS[what]).changes
    assert changes
    assert not any(change.material for change in changes)


@pytest.mark.parametrize(
    ("was", "now", "longer"),
    [
        ("P12M", "P24M", True),
        ("P24M", "P12M", False),
        ("P12M", "P1Y", False),
        ("P1M", "P31D", True),
        ("P31D", "P1M", False),
        ("P30D", "P1M", True),
        ("P365D", "P1Y", True),
        ("P366D", "P1Y", False),
    ],
)
def test_a_cookie_that_lives_longer_on_any_day_is_material(was: str, now: str, longer: bool) -> None:
    changes = diff(cookie(duration=lasting(was)), cookie(duration=lasting(now))).changes
    assert [change.material for change in changes] == [longer]


@pytest.mark.parametrize(("was", "now"), [("session", "P1D"), ("session", "persistent"), ("P12M", "persistent")])
def test_a_cookie_that_outlives_its_session_or_its_period_is_material(was: str, now: str) -> None:
    words: dict[str, Any] = {"session": "session", "persistent": "persistent"}
    before, after = (cookie(duration=words.get(text) or lasting(text)) for text in (was, now))
    assert diff(before, after).reasons("analytics")
    assert not diff(after, before).reasons("analytics")


def test_a_cookie_that_lives_until_it_is_unused_begins_anew_with_every_visit() -> None:
    idle = cookie(duration=None, inactivity=lasting("P1M"))
    assert diff(BEFORE, idle).reasons("analytics")
    assert not diff(idle, cookie(duration=lasting("P1M"))).reasons("analytics")


def test_a_described_cookie_is_known_again_by_any_of_its_languages() -> None:
    before = cookie(name=None, description={"en": "What you chose", "ru": "Ваш выбор"})
    after = cookie(name=None, description={"en": "What you chose here", "ru": "Ваш выбор"})
    assert [change.what for change in diff(before, after).changes] == [
        "the description of cookie “What you chose here” in en reads otherwise"
    ]


def test_cookies_of_one_name_are_told_apart() -> None:
    first, second = GA, replace(GA, duration=lasting("P6M"))
    assert diff(analytics(cookies=(first, second)), analytics(cookies=(first,))).reasons("analytics") == ()
    (change,) = diff(analytics(cookies=(first,)), analytics(cookies=(second, first))).changes
    assert change.material


def test_another_controller_is_material_for_every_purpose_and_its_new_telephone_for_none() -> None:
    found = diff(BEFORE, controller(name="Firm", bin="231240009149"))
    assert found.reasons("analytics") == found.reasons("age") != ()
    assert not diff(BEFORE, controller(phone="+7")).reasons("analytics")


def test_a_controller_that_is_renamed_stays_the_one_of_its_number() -> None:
    assert not diff(BEFORE, controller(name="Shop Holding")).reasons("analytics")


def test_a_regime_that_grows_weaker_names_the_places() -> None:
    eu = analytics(regimes={"default": "opt-out", "EU": "opt-in", "EEA": "opt-in", "UK": "opt-in"})
    assert any("everywhere but in" in why for why in diff(BEFORE, eu).reasons("analytics"))
    weaker = analytics(regimes={"default": "opt-out", "UK": "opt-in"})
    assert diff(eu, weaker).reasons("analytics") == ("opt-out instead of opt-in in EEA",)


def test_a_regime_of_the_site_counts_where_the_purpose_has_none_of_its_own() -> None:
    own = {**BEFORE.purposes, "analytics": replace(ANALYTICS, regimes={"default": "opt-in"}), "maps": ANALYTICS}
    found = diff(site(purposes=own), site(purposes=own, regimes={"default": "opt-out"}))
    assert found.reasons("analytics") == ()
    assert found.reasons("maps") == ("opt-out instead of opt-in everywhere",)
    assert found.reasons("age") == ()


@pytest.mark.parametrize(("named", "said"), [(None, True), ("P3Y", False)])
def test_it_is_said_where_forgotten_refusals_have_left_no_mark_for_a_regime_in_which_silence_grants(
    named: str | None, said: bool
) -> None:
    before = site(suppress_for=None if named is None else parse_duration(named))
    found = [change.what for change in diff(before, replace(before, regimes={"default": "opt-out"})).changes]
    assert any("counts as silent" in what for what in found) == said
    assert not any("counts as silent" in change.what for change in diff(before, controller(phone="+7")).changes)


def test_nothing_is_material_for_a_purpose_that_is_not_in_use() -> None:
    marketing = replace(BEFORE.purposes["marketing"], recipients=(POSTHOG,))
    (change,) = diff(BEFORE, site(purposes={**BEFORE.purposes, "marketing": marketing})).changes
    assert (change.what, change.material) == ("a new recipient: PostHog (EU)", False)


def test_a_renamed_purpose_is_compared_with_its_original() -> None:
    removed = {**BEFORE.purposes, "analytics": replace(ANALYTICS, removed_in="2")}
    renamed = diff(BEFORE, site(purposes={**removed, "stats": replace(ANALYTICS, alias_of="analytics")}))
    assert renamed.reasons("stats") == ()
    assert "goes on with analytics, whose answers count for it" in [change.what for change in renamed.changes]
    wider = replace(ANALYTICS, alias_of="analytics", recipients=(POSTHOG, Recipient(name="Google")))
    found = diff(BEFORE, site(purposes={**removed, "stats": wider}))
    assert found.reasons("stats") == ("a new recipient: Google",)


def test_a_purpose_that_takes_another_in_is_compared_with_both() -> None:
    narrow = replace(ANALYTICS, recipients=(), cookies=())
    before = site(purposes={**BEFORE.purposes, "stats": narrow})
    removed = {**before.purposes, "stats": replace(narrow, removed_in="2")}
    after = site(purposes={**removed, "analytics": replace(ANALYTICS, alias_of="stats")})
    assert "a new recipient: PostHog (EU)" in diff(before, after).reasons("analytics")


def test_a_purpose_that_comes_back_is_taken_in_use_anew() -> None:
    assert diff(analytics(removed_in="0"), BEFORE).reasons("analytics") == ("a purpose comes back: analytics",)


def test_the_first_version_lists_its_purposes() -> None:
    assert [change.what for change in diff(None, BEFORE).changes] == [
        "a new purpose: analytics",
        "a new purpose: marketing, not in use yet",
        "a new purpose: age",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("P12M", "12 months"),
        ("P1Y6M", "1 year and 6 months"),
        ("P1M", "1 month"),
        ("P2W", "2 weeks"),
        ("P30D", "30 days"),
        ("PT24H", "24 hours"),
        ("P1DT12H", "1 day and 12 hours"),
        ("PT90M", "1 hour and 30 minutes"),
    ],
)
def test_a_period_is_said_in_the_units_that_were_written(text: str, words: str) -> None:
    assert period(lasting(text)) == words


# --- properties ---------------------------------------------------------------------------------------------------

# Documents are large to draw, and the machine may be busy: neither is a fault.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

LENGTHS = st.sampled_from([lasting(text) for text in ("P1D", "P1M", "P30D", "P12M", "P1Y", "P24M")])
WORDS = st.sampled_from(["a", "b", "c"])
TEXTS = st.fixed_dictionaries({"en": WORDS}, optional={"ru": WORDS})
REGIMES = st.dictionaries(
    st.sampled_from(["default", "EU", "EEA", "UK", "US", "US-CA", "KZ"]),
    st.sampled_from(["opt-in", "opt-out", "exempt"]),
)


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def few(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=2, unique_by=repr).map(tuple)


COOKIES = st.builds(
    Cookie,
    name=some(WORDS),
    description=TEXTS,
    duration=st.sampled_from(["session", "persistent"]) | LENGTHS,
    party=st.sampled_from(["first", "third"]),
    storage=st.sampled_from(["cookie", "localStorage"]),
    conditional=st.booleans(),
    clear_on_withdrawal=st.booleans(),
)
RECIPIENTS = st.builds(
    Recipient,
    name=WORDS,
    role=st.sampled_from(["processor", "controller"]),
    region=some(st.sampled_from(["EU", "US"])),
    transfer=some(st.sampled_from(["adequacy", "consent"])),
)
PURPOSES = st.builds(
    Purpose,
    title=TEXTS,
    description=TEXTS,
    kind=st.sampled_from(["consent", "transfer"]),
    required=st.booleans(),
    in_use=st.booleans(),
    removed_in=some(st.just("1")),
    cookies=few(COOKIES),
    recipients=few(RECIPIENTS),
    data=st.dictionaries(WORDS, st.builds(DataCategory, title=TEXTS, dpv=some(WORDS)), max_size=3),
    publication=st.booleans(),
    legal_basis=st.dictionaries(
        st.sampled_from(["default", "EU", "US-CA"]), st.sampled_from(["consent", "contract", "exemption"])
    ),
    laws=few(WORDS),
    regimes=REGIMES,
    renew_after=some(LENGTHS),
    reask_after=some(st.builds(ReaskAfter, refusal=some(LENGTHS))),
    retention=some(LENGTHS),
    withdrawable=st.booleans(),
    withdrawal_bar=st.just({}) | TEXTS,
    needs=few(WORDS),
    minimum_age=st.dictionaries(st.sampled_from(["default", "EU"]), st.integers(13, 18)),
    dpv=few(WORDS),
    consent_mode=few(st.sampled_from(["ad_storage", "analytics_storage"])),
)
DOCUMENTS = st.builds(
    replace,
    st.just(BEFORE),
    purposes=st.dictionaries(WORDS, PURPOSES, min_size=1, max_size=2),
    order=st.just(()),
    regimes=REGIMES,
    renew_after=LENGTHS,
    controller=st.builds(Controller, name=WORDS, bin=some(WORDS), country=some(WORDS), phone=some(WORDS)),
    reask_after_in=st.dictionaries(st.sampled_from(["EU", "US"]), st.builds(ReaskAfter, refusal=some(LENGTHS))),
    laws=few(WORDS),
)


@patient
@given(DOCUMENTS)
def test_a_version_does_not_differ_from_itself(version: SiteDocument) -> None:
    assert diff(version, copy.deepcopy(version)).changes == ()


@patient
@given(DOCUMENTS, DOCUMENTS)
def test_what_differs_is_found_in_either_direction(one: SiteDocument, other: SiteDocument) -> None:
    assert bool(diff(one, other).changes) == bool(diff(other, one).changes) == (one != other)


def test_a_table_that_repeats_the_site_s_is_told_and_changes_nothing() -> None:
    purpose = replace(next(iter(BEFORE.purposes.values())), regimes={})
    table: dict[str, Regime] = {"default": "opt-in", "EU": "opt-in"}
    one = replace(BEFORE, regimes=table, purposes={"a": purpose})
    (change,) = diff(one, replace(one, purposes={"a": replace(purpose, regimes=table)})).changes
    assert (change.path, change.material) == ("purposes.a.regimes", False)


REMOVALS: list[Callable[[Purpose, int], Purpose]] = [
    lambda purpose, at: replace(purpose, cookies=without(purpose.cookies, at)),
    lambda purpose, at: replace(purpose, recipients=without(purpose.recipients, at)),
    lambda purpose, at: replace(purpose, data=dict(without(tuple(purpose.data.items()), at))),
    lambda purpose, at: replace(purpose, consent_mode=without(purpose.consent_mode, at)),
    lambda purpose, at: replace(purpose, dpv=without(purpose.dpv, at)),
    lambda purpose, at: replace(purpose, laws=without(purpose.laws, at)),
    lambda purpose, at: replace(purpose, publication=False),
    lambda purpose, at: replace(purpose, removed_in="1"),
    lambda purpose, at: replace(purpose, in_use=False),
]


def without(items: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    return tuple(item for index, item in enumerate(items) if index != at)


@patient
@given(DOCUMENTS, st.sampled_from(REMOVALS), st.integers(0, 2))
def test_a_removal_is_never_material(
    version: SiteDocument, removal: Callable[[Purpose, int], Purpose], at: int
) -> None:
    less = {name: removal(purpose, at) for name, purpose in version.purposes.items()}
    found = diff(version, replace(version, purposes=less)).changes
    assert [change for change in found if change.material] == []


@patient
@given(DOCUMENTS, st.data())
def test_a_purpose_that_is_dropped_altogether_is_not_material(version: SiteDocument, draw: st.DataObject) -> None:
    kept = draw.draw(st.sets(st.sampled_from(sorted(version.purposes))))
    found = diff(version, replace(version, purposes={name: version.purposes[name] for name in kept}))
    assert not any(change.material for change in found.changes)


@patient
@given(LENGTHS, LENGTHS, st.integers(0, 2**41))
def test_a_period_that_is_not_longer_never_ends_later(one: Duration, other: Duration, start_ms: int) -> None:
    if not is_longer(one, other):
        assert one.after(start_ms) <= other.after(start_ms)


def test_a_change_names_its_place() -> None:
    assert diff(BEFORE, cookie(duration=lasting("P24M"))).changes == (
        Change(
            "analytics", "purposes.analytics.cookies._ga.duration", "cookie _ga lives 24 months instead of 12", True
        ),
    )
