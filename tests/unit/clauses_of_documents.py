"""What the policies and the law ask of a site document, clause by clause, as data: the facts that it has to state."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ledger.core.document import Cookie, Purpose, SiteDocument
from ledger.core.duration import DAY_MS, Duration

WECO, NERA, CUSTODIAN = "weco.nexaxt.com", "we-nera.com", "id.custodian.kz"


class Fact(NamedTuple):
    clause: str
    says: str
    site: str
    holds: Callable[[SiteDocument], bool]


def by_name(document: SiteDocument) -> dict[str, Cookie]:
    return {cookie.name or cookie.pattern or "": cookie for one in document.purposes.values() for cookie in one.cookies}


def lasts(cookie: Cookie, what: str) -> bool:
    found = cookie.duration if cookie.duration is not None else cookie.inactivity
    return str(found) == what


def every(document: SiteDocument, holds: Callable[[Purpose], bool]) -> bool:
    return all(holds(one) for one in document.purposes.values() if not one.required)


FACTS = (
    Fact(
        "W1",
        "four categories, the first of which asks for no consent",
        WECO,
        lambda d: (
            d.order == ("necessary", "preferences", "analytics", "marketing")
            and [name for name in d.order if d.purposes[name].required] == ["necessary"]
        ),
    ),
    Fact(
        "W1",
        "each cookie has its purpose and duration, conditional ones are marked",
        WECO,
        lambda d: (
            lasts(by_name(d)["session_id"], "session")
            and lasts(by_name(d)["csrf_token"], "session")
            and lasts(by_name(d)["cookie_consent"], "P12M")
            and lasts(by_name(d)["lang"], "P12M")
            and lasts(by_name(d)["theme"], "P12M")
            and lasts(by_name(d)["_ga"], "P24M")
            and lasts(by_name(d)["_gid"], "PT24H")
            and {cookie.name for cookie in d.purposes["analytics"].cookies if cookie.conditional} == {"_ga", "_gid"}
        ),
    ),
    Fact(
        "W2",
        "which categories are in use at present is told",
        WECO,
        lambda d: [name for name in d.order if not d.purposes[name].in_use] == ["marketing"],
    ),
    Fact("W3", "a link to the full policy", WECO, lambda d: d.policy.url.startswith("https://weco.nexaxt.com/")),
    Fact(
        "W3",
        "the notice that is shown first is kept, in each language",
        WECO,
        lambda d: bool(d.notices),
    ),
    Fact(
        "W7",
        "whoever receives what a third-party cookie gathers is named",
        WECO,
        lambda d: every(d, lambda one: bool(one.recipients) or all(cookie.party == "first" for cookie in one.cookies)),
    ),
    Fact("W8", "Russian and English", WECO, lambda d: set(d.languages) == {"en", "ru"}),
    Fact(
        "W9",
        "all subdomains, and nobody else's",
        WECO,
        lambda d: (
            d.allows_origin("https://weco.nexaxt.com")
            and d.allows_origin("https://shop.weco.nexaxt.com")
            and not d.allows_origin("https://weco.nexaxt.com.evil.example")
            and not d.allows_origin("https://notweco.nexaxt.com")
            and not d.allows_origin("http://weco.nexaxt.com")
        ),
    ),
    Fact(
        "W10",
        "the laws are named",
        WECO,
        lambda d: all(any(law in one for one in d.laws) for law in ("94-V", "567-II", "2002/58", "PECR")),
    ),
    Fact(
        "W11",
        "the cookies to clear are named, also those that outlive a consent",
        WECO,
        lambda d: (
            by_name(d)["_ga"].clear_on_withdrawal
            and isinstance(by_name(d)["_ga"].duration, Duration)
            and by_name(d)["_ga"].duration.after(0) > d.renewal_of("analytics").after(0)  # type: ignore[union-attr]
        ),
    ),
    Fact(
        "N3",
        "a session ends after two weeks unused",
        NERA,
        lambda d: any(str(c.inactivity) == "P2W" for c in d.purposes["necessary"].cookies),
    ),
    Fact(
        "N10",
        "the analytics tool and where it runs",
        NERA,
        lambda d: [(one.name, one.region) for one in d.purposes["analytics"].recipients] == [("PostHog", "EU")],
    ),
    Fact("N11", "changes are posted", NERA, lambda d: d.announce_changes == "posted"),
    Fact(
        "N12",
        "an authority to complain to, for visitors of the EU",
        NERA,
        lambda d: any("EU" in one.regions for one in d.authorities),
    ),
    Fact(
        "C1",
        "five categories, two of them necessary by nature",
        CUSTODIAN,
        lambda d: (
            d.order == ("necessary", "session", "analytics", "functional", "targeting")
            and [name for name in d.order if d.purposes[name].required] == ["necessary", "session"]
        ),
    ),
    Fact(
        "C2",
        "everything that a visitor reads is in Russian",
        CUSTODIAN,
        lambda d: (
            d.languages == ("ru",)
            and all(set(one.title) == set(one.description) == {"ru"} for one in d.purposes.values())
        ),
    ),
    Fact(
        "C3",
        "session and persistent cookies are told apart",
        CUSTODIAN,
        lambda d: (
            {cookie.duration for cookie in d.purposes["session"].cookies} == {"session"}
            and "persistent" in {cookie.duration for cookie in d.purposes["functional"].cookies}
        ),
    ),
    Fact(
        "C4",
        "the cookies are gone through every 30 days",
        CUSTODIAN,
        lambda d: d.review_cookies_every is not None and d.review_cookies_every.after(0) == 30 * DAY_MS,
    ),
    Fact(
        "C5",
        "every change is announced on the first visit after it",
        CUSTODIAN,
        lambda d: d.announce_changes == "first-visit",
    ),
    Fact(
        "C6",
        "who may receive data for targeting is named",
        CUSTODIAN,
        lambda d: bool(d.purposes["targeting"].recipients),
    ),
    Fact(
        "K1",
        "operator with BIN, term, publication, data",
        WECO,
        lambda d: (
            d.controller.bin == "230940021527"
            and every(d, lambda one: not one.publication and (bool(one.data) or not one.in_use))
        ),
    ),
    Fact(
        "K1",
        "operator with BIN, term, publication, data",
        NERA,
        lambda d: (
            d.controller.bin == "231240009149"
            and every(d, lambda one: not one.publication and (bool(one.data) or not one.in_use))
        ),
    ),
    Fact(
        "K3",
        "where the database lies, and which law wants it at home",
        NERA,
        lambda d: d.stored_in == ("DE",) and "KZ" in d.residency,
    ),
    Fact("K4", "how soon a request is answered", NERA, lambda d: str(d.answer_within["default"]) == "P30D"),
    Fact("E1", "what was shown is named by hash", NERA, lambda d: bool(d.notices)),
    Fact("E1", "what was shown is named by hash", CUSTODIAN, lambda d: bool(d.notices)),
)
