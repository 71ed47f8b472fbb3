"""Site documents for tests: a small one, one that uses every member, and ways to spoil them."""

from __future__ import annotations

import copy
import json
from typing import Any, NamedTuple

SMALL: dict[str, Any] = {
    "site": "shop.example",
    "controller": {"name": "Shop"},
    "languages": ["en"],
    "origins": ["https://shop.example"],
    "policy": {"version": "1.0", "effectiveAt": "2026-05-11", "url": "https://shop.example/cookies"},
    "renewAfter": "P12M",
    "purposes": {"analytics": {"title": {"en": "Analytics"}, "description": {"en": "Counting"}}},
}


def _texts(en: str, ru: str, kk: str) -> dict[str, str]:
    return {"en": en, "ru": ru, "kk": kk}


FULL: dict[str, Any] = {
    "$schema": "https://shop.example/schemas/site-document.json",
    "site": "shop.example",
    "controller": {
        "name": "Shop LLP",
        "bin": "123456789012",
        "country": "KZ",
        "address": "Abai 1, Almaty",
        "email": "privacy@shop.example",
        "phone": "+7 700 000 0000",
    },
    "languages": ["en", "ru", "kk"],
    "origins": ["https://shop.example", "https://*.shop.example", "http://localhost:3000"],
    "policy": {
        "version": "2.0",
        "effectiveAt": "2026-05-11T09:00:00.000Z",
        "url": "https://shop.example/cookies",
        "material": ["marketing"],
        "notMaterial": {"statistics": "Only the spelling of a recipient's name was put right."},
    },
    "order": ["necessary", "statistics", "analytics", "marketing", "age", "terms", "abroad", "credit"],
    "purposes": {
        "necessary": {
            "required": True,
            "title": _texts("Necessary", "Необходимые", "Қажетті"),
            "description": _texts("Nothing works without.", "Без них сайт не работает.", "Онсыз сайт жұмыс істемейді."),
            "cookies": [{"name": "sid", "inactivity": "P2W"}, {"name": "choice", "duration": "P12M"}],
            "legalBasis": {"default": "legitimate_interest", "EU": "exemption"},
        },
        "statistics": {
            "title": _texts("Statistics", "Статистика", "Статистика"),
            "description": _texts("Counting visits.", "Подсчёт посещений.", "Келушілерді санау."),
            "aliasOf": "analytics",
            "inUse": True,
            "cookies": [
                {
                    "pattern": "_ga*",
                    "description": _texts("A number", "Номер", "Нөмір"),
                    "duration": "P24M",
                    "party": "third",
                    "conditional": True,
                    "clearOnWithdrawal": False,
                },
                {"name": "queue", "storage": "localStorage", "duration": "persistent"},
            ],
            "recipients": [
                {"name": "Counter Inc.", "role": "controller", "region": "US", "transfer": "contractual_clauses"},
                {"name": "Host AG", "region": "EU"},
            ],
            "data": {
                "address": {"title": _texts("IP address", "IP-адрес", "IP мекенжайы"), "dpv": "pd:IPAddress"},
                "pages": {"title": _texts("Pages visited", "Посещённые страницы", "Қаралған беттер")},
            },
            "publication": True,
            "legalBasis": {"default": "consent", "UK": "exemption", "US-CA": "legitimate_interest"},
            "laws": ["Kazakhstan, Law No. 94-V"],
            "regimes": {"default": "opt-in", "UK": "exempt", "US-CA": "opt-out"},
            "renewAfter": "P6M",
            "reaskAfter": {"refusal": "P6M", "withdrawal": "P6M", "dismissal": "P7D"},
            "retention": "P12M",
            "recordRetention": "P2Y",
            "dpv": ["dpv:ServiceUsageAnalytics"],
            "consentMode": ["analytics_storage"],
        },
        "analytics": {
            "title": _texts("Analytics", "Аналитика", "Аналитика"),
            "description": _texts("Counting.", "Подсчёт.", "Санау."),
            "removedIn": "2.0",
        },
        "marketing": {
            "title": _texts("Marketing", "Маркетинг", "Маркетинг"),
            "description": _texts("Advertising.", "Реклама.", "Жарнама."),
            "inUse": False,
            "needs": ["age"],
            "consentMode": ["ad_storage", "ad_user_data", "ad_personalization"],
        },
        "age": {
            "kind": "attestation",
            "title": _texts("Age", "Возраст", "Жас"),
            "description": _texts("I am old enough.", "Мой возраст позволяет.", "Жасым жетеді."),
            "minimumAge": {"default": 16, "KZ": 18},
        },
        "terms": {
            "kind": "acceptance",
            "title": _texts("Terms", "Условия", "Шарттар"),
            "description": _texts("The terms of sale.", "Условия продажи.", "Сату шарттары."),
            "document": "ab" * 32,
        },
        "abroad": {
            "kind": "transfer",
            "title": _texts("Transfer", "Передача", "Беру"),
            "description": _texts("To Germany.", "В Германию.", "Германияға."),
            "destination": "DE",
        },
        "credit": {
            "title": _texts("Credit", "Кредит", "Несие"),
            "description": _texts("Paying later.", "Оплата позже.", "Кейін төлеу."),
            "withdrawable": False,
            "withdrawalBar": _texts("Until it is paid.", "Пока не оплачено.", "Төленгенге дейін."),
        },
    },
    "renewAfter": "P12M",
    "reaskAfter": {"refusal": "P12M", "withdrawal": "P12M", "dismissal": "P7D"},
    "reaskAfterIn": {"EU": {"refusal": "P6M"}, "US-CA": {"refusal": "P12M"}},
    "regimes": {"default": "opt-in"},
    "announceChanges": "first-visit",
    "notices": {
        "banner": {"document": "cd" * 32, "mediaType": "application/json"},
        "banner-ru": {"document": "ef" * 32, "mediaType": "image/png", "language": "ru"},
    },
    "contacts": [
        {
            "about": _texts("Complaints", "Жалобы", "Шағымдар"),
            "email": "dpo@shop.example",
            "phone": "+7 700",
            "url": "https://shop.example/contact",
        }
    ],
    "authorities": [
        {"name": _texts("A regulator", "Регулятор", "Реттеуші"), "url": "https://example.org", "regions": ["KZ"]}
    ],
    "answerWithin": {"default": "P30D", "EU": "P1M", "KZ": "3 working days"},
    "answerExtension": {"EU": "P2M"},
    "answerOnWorkingDay": True,
    "utcOffset": "+05:00",
    "recordRetention": "P3Y",
    "recordRetentionOf": {"notice.seen": "P90D", "consent.dismissed": "P6M"},
    "recordRetentionCounted": "act",
    "suppressFor": "P5Y",
    "storedIn": ["KZ", "DE"],
    "residency": ["KZ"],
    "reviewCookiesEvery": "P30D",
    "laws": ["European Union, Regulation 2016/679 (GDPR)"],
    "entryBundlesPublic": True,
}  # fmt: skip
"""Every member of the model, in English, Russian and Kazakh."""


def changed(base: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    """A copy with values put at slash-separated places, like `purposes/analytics/cookies/0`; ABSENT takes one away."""
    whole = copy.deepcopy(base)
    for place, value in changes:
        *way, last = place.split("/")
        part: Any = whole
        for step in way:
            part = part[int(step)] if isinstance(part, list) else part.setdefault(step, {})
        key: Any = int(last) if isinstance(part, list) else last
        if value is ABSENT:
            del part[key]
        else:
            part[key] = value
    return whole


def encoded(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


class _Absent:
    def __repr__(self) -> str:
        return "absent"  # tests are named by it, and have the same names in every process


ABSENT = _Absent()
"""Instead of a value: take the member away."""


class Malformed(NamedTuple):
    """FULL with changes, where and why it is refused; `crossing`: only by looking at two places at once."""

    changes: tuple[tuple[str, Any], ...]
    path: str
    says: str
    crossing: bool = False


def _one(place: str, value: Any, path: str, says: str, *, crossing: bool = False) -> Malformed:
    return Malformed(((place, value),), path, says, crossing)


S = "purposes/statistics"
s = "purposes.statistics"
MALFORMED = (
    # top
    _one("storedIn", ["EU"], "storedIn[0]", "country's ISO 3166-1"),
    _one("storedIn", "DE", "storedIn", "a list"),
    _one("residency", ["ZZ"], "residency[0]", "like KZ"),
    _one("residency", ["KZ", "KZ"], "residency[1]", "twice"),
    _one("recordRetention", "3 years", "recordRetention", "P12M"),
    _one("recordRetentionOf", "P1Y", "recordRetentionOf", "mapping"),
    _one("recordRetentionOf/consent.gven", "P1Y", "recordRetentionOf.consent.gven", "did you mean consent.given?"),
    _one("recordRetentionOf/notice.seen", "soon", "recordRetentionOf.notice.seen", "ISO 8601"),
    _one("recordRetentionCounted", "start", "recordRetentionCounted", "act, end"),
    _one("suppressFor", "ever", "suppressFor", "ISO 8601"),
    _one("answerWithin", "P30D", "answerWithin", "mapping"),
    _one("answerWithin/Europe", "P30D", "answerWithin.Europe", "default, EU, EEA or UK"),
    _one("answerWithin/default", "soon", "answerWithin.default", "ISO 8601"),
    _one("answerWithin/KZ", "P3BD", "answerWithin.KZ", "15 working days"),
    _one("answerWithin/KZ", "0 working days", "answerWithin.KZ", "15 working days"),
    _one("answerExtension/EU", "P2", "answerExtension.EU", "15 working days"),
    _one("answerExtension/US", "P45D", "answerExtension.US", "`answerWithin` does not say", crossing=True),
    _one("answerOnWorkingDay", "next", "answerOnWorkingDay", "true or false"),
    _one("utcOffset", "Asia/Almaty", "utcOffset", "like +05:00"),
    _one("utcOffset", "+14:30", "utcOffset", "like +05:00"),
    _one("reaskAfterIn/default", {}, "reaskAfterIn.default", "neither EU, EEA or UK"),
    _one("reaskAfterIn/EU", "P6M", "reaskAfterIn.EU", "mapping"),
    _one("reaskAfterIn/EU/dismisal", "P7D", "reaskAfterIn.EU.dismisal", "did you mean dismissal?"),
    _one("reaskAfter/dismissal", "P7", "reaskAfter.dismissal", "ISO 8601"),
    _one("$schema", ["x"], "$schema", "text"),
    _one("entryBundlesPublic", "yes", "entryBundlesPublic", "true or false"),
    _one("order", ["necessary"], "order", "every purpose once", crossing=True),
    _one("controller/country", "Kazakhstan", "controller.country", "ISO 3166-1"),
    _one("languages", ["en", "ru"], "purposes.necessary.title.kk", "known here: en, ru", crossing=True),
    _one("contacts/0/about/kk", ABSENT, "contacts[0].about.kk", "missing", crossing=True),
    Malformed(
        tuple((f"contacts/0/{name}", ABSENT) for name in ("email", "phone", "url")), "contacts[0]", "email, a phone or"
    ),
    _one("contacts/0/url", "http://shop.example", "contacts[0].url", "https://"),
    _one("authorities/0/name", "Regulator", "authorities[0].name", "mapping"),
    _one("authorities/0/regions", ["default"], "authorities[0].regions[0]", "ISO 3166"),
    _one("authorities/0/country", "KZ", "authorities[0].country", "known here: name, url, regions"),
    # notices
    _one("notices/banner/document", "CD" * 32, "notices.banner.document", "64 hex digits in lower case"),
    _one("notices/banner/document", ABSENT, "notices.banner.document", "missing"),
    _one("notices/banner/mediaType", "text/html", "notices.banner.mediaType", "text/plain, image/png, image/jpeg"),
    _one("notices/banner-ru/language", "fr", "notices.banner-ru.language", "languages: en, ru, kk", crossing=True),
    _one("notices/a b", {}, "notices.a b", "letters, digits"),
    # policy
    _one("policy/notMaterial/statistic", "x", "policy.notMaterial.statistic", "one of necessary, stat", crossing=True),
    _one("policy/notMaterial/statistics", "", "policy.notMaterial.statistics", "1 to 2000"),
    _one("policy/notMaterial/marketing", "x", "policy.notMaterial.marketing", "asks again for it", crossing=True),
    _one("policy/material", True, "policy.notMaterial.statistics", "material: false"),
    _one("policy/material", ABSENT, "policy.notMaterial.statistics", "material: false"),
    _one("policy/material", ["market"], "policy.material[0]", "marketing", crossing=True),
    # purposes
    _one(f"{S}/kind", "wish", f"{s}.kind", "consent, acceptance, transfer, attestation"),
    _one(f"{S}/legalBasis", "because", f"{s}.legalBasis", "consent, legitimate_interest"),
    _one(f"{S}/legalBasis/Europe", "consent", f"{s}.legalBasis.Europe", "ISO 3166"),
    _one(f"{S}/legalBasis/default", "because", f"{s}.legalBasis.default", "one of consent"),
    _one(f"{S}/dpv", ["Marketing"], f"{s}.dpv[0]", "dpv:Marketing"),
    _one(f"{S}/data/address/dpv", "https://w3id.org/dpv/pd#IPAddress", f"{s}.data.address.dpv", "pd:IPAddress"),
    _one(f"{S}/data/address/title", ABSENT, f"{s}.data.address.title", "missing"),
    _one(f"{S}/data/an address", {}, f"{s}.data.an address", "begins with a letter"),
    _one(f"{S}/consentMode", ["analytics"], f"{s}.consentMode[0]", "analytics_storage"),
    _one(f"{S}/publication", "maybe", f"{s}.publication", "true or false"),
    _one(f"{S}/recipients/0/role", "partner", f"{s}.recipients[0].role", "processor, controller, joint_controller"),
    _one(f"{S}/recipients/0/transfer", "trust", f"{s}.recipients[0].transfer", "adequacy, consent"),
    _one(f"{S}/recipients/0/country", "US", f"{s}.recipients[0].country", "known here: name, role, region, transfer"),
    _one(f"{S}/cookies/0/clearOnWithdrawal", "no", f"{s}.cookies[0].clearOnWithdrawal", "true or false"),
    _one(f"{S}/retention", "P0D", f"{s}.retention", "ISO 8601"),
    _one(f"{S}/reaskAfter", "P6M", f"{s}.reaskAfter", "mapping"),
    _one(f"{S}/aliasOf", "counting", f"{s}.aliasOf", "keep that purpose in the document", crossing=True),
    _one(f"{S}/aliasOf", "marketing", f"{s}.aliasOf", "still offered", crossing=True),
    _one(f"{S}/aliasOf", "statistics", f"{s}.aliasOf", "statistics -> statistics", crossing=True),
    _one("purposes/abroad/aliasOf", "analytics", "purposes.abroad.aliasOf", "another kind", crossing=True),
    Malformed(
        (("purposes/abroad/removedIn", "2.0"), ("purposes/new", {**FULL["purposes"]["abroad"], "aliasOf": "abroad",
          "destination": "US"}), ("order", ABSENT)),
        "purposes.new.aliasOf", "another destination (DE, here US)", crossing=True,
    ),
    Malformed(
        ((f"{S}/removedIn", "2.0"), ("purposes/analytics/aliasOf", "statistics")),
        f"{s}.aliasOf",
        "statistics -> analytics -> statistics",
        crossing=True,
    ),
    _one(f"{S}/removedIn", "2/0", f"{s}.removedIn", "1 to 32"),
    _one(f"{S}/minimumAge", {"default": 16}, f"{s}.minimumAge", "`kind: attestation` alone"),
    _one("purposes/age/minimumAge/default", 0, "purposes.age.minimumAge.default", "1 to 99"),
    _one("purposes/age/minimumAge/default", 16.5, "purposes.age.minimumAge.default", "whole years"),
    _one("purposes/age/minimumAge", 16, "purposes.age.minimumAge", "mapping"),
    _one("purposes/age/needs", ["age"], "purposes.age.needs", "needs no other"),
    _one("purposes/age/required", True, "purposes.age.required", "nobody could give this attestation"),
    _one("purposes/age/destination", "DE", "purposes.age.destination", "`kind: transfer` alone"),
    _one("purposes/marketing/needs", ["adult"], "purposes.marketing.needs[0]", "offered: age", crossing=True),
    _one("purposes/marketing/needs", ["terms"], "purposes.marketing.needs[0]", "kind: attestation", crossing=True),
    _one("purposes/age/removedIn", "2.0", "purposes.marketing.needs[0]", "there is none", crossing=True),
    _one("purposes/necessary/needs", ["age"], "purposes.necessary.needs", "never asked"),
    _one("purposes/necessary/reaskAfter", {}, "purposes.necessary.reaskAfter", "never asked"),
    _one("purposes/necessary/regimes", {"KZ": "opt-in"}, "purposes.necessary.regimes", "never asked"),
    _one("purposes/age/regimes", {"US": "opt-out"}, "purposes.age.regimes.US", "opt-in everywhere", crossing=True),
    Malformed(
        (("purposes/terms/retention", "P3Y"), ("purposes/terms/recordRetention", "P3Y")),
        "purposes.terms.recordRetention",
        "kept for its `retention`",
    ),
    _one("purposes/necessary/recordRetention", "P1Y", "purposes.necessary.recordRetention", "never asked"),
    _one("purposes/terms/document", ABSENT, "purposes.terms.document", "does not go without it"),
    _one("purposes/terms/document", "ab", "purposes.terms.document", "64 hex"),
    _one("purposes/abroad/document", "ab" * 32, "purposes.abroad.document", "`kind: acceptance` alone"),
    _one("purposes/abroad/destination", ABSENT, "purposes.abroad.destination", "does not go without it"),
    _one("purposes/abroad/destination", "Germany", "purposes.abroad.destination", "ISO 3166"),
    _one("purposes/credit/withdrawalBar", ABSENT, "purposes.credit.withdrawalBar", "told why"),
    _one("purposes/credit/withdrawalBar/kk", ABSENT, "purposes.credit.withdrawalBar.kk", "missing", crossing=True),
    _one("purposes/credit/withdrawable", True, "purposes.credit.withdrawalBar", "goes with `withdrawable: false`"),
)  # fmt: skip
