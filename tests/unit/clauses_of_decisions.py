"""What the policies and the law ask of a decision, clause by clause, as data.

Given a site's document (and its further versions) and these acts, `decide` must answer so at these times and places.
Days are UTC; a site's version 1.0 is published on the day that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.unit.clauses_of_documents import CUSTODIAN, NERA, WECO

ACCOUNT, OTHER_ACCOUNT = "a" * 32, "b" * 32
TERMS = "7e" * 32

Edit = Callable[[dict[str, Any]], None]
"""Changes the source of a site document into that of another version."""


class Said(NamedTuple):
    """An event: the day, the type's last word, and what was answered, as `purpose=granted` or `purpose=denied`.

    `device` tells browsers apart; with `account` a choice for, or a link to, an account.
    """

    day: str
    kind: str
    answers: str = ""
    version: str = "1.0"
    region: str | None = None
    action: str = "customize"
    device: str = "phone"
    account: str | None = None
    shown: str | None = None
    gpc: bool = False


class Asked(NamedTuple):
    """A question and its answer: `decision reason`, and where they are told, whether to ask, notify, and until when."""

    day: str
    purpose: str
    answer: str
    region: str | None = None
    ask: bool | None = None
    notify: bool | None = None
    until: str | None = None
    gpc: bool = False
    device: str = "phone"


class Version(NamedTuple):
    """A further version of the site's document, published on a day."""

    day: str
    number: str
    edit: Edit


class Moments(NamedTuple):
    clause: str
    says: str
    site: str
    said: tuple[Said, ...]
    asked: tuple[Asked, ...]
    versions: tuple[Version, ...] = ()


def put(path: str, value: Any) -> Edit:
    """Set one member of the source, by a path of names."""

    def edit(source: dict[str, Any]) -> None:
        *above, last = path.split("/")
        for name in above:
            source = source.setdefault(name, {})
        source[last] = value

    return edit


def edits(*several: Edit) -> Edit:
    def edit(source: dict[str, Any]) -> None:
        for one in several:
            one(source)

    return edit


NOT_MATERIAL = put("policy/material", "false")


def purpose(title: str, **members: Any) -> dict[str, Any]:
    """The source of a purpose of we-nera.com, whose only language is English."""
    return {"title": {"en": title}, "description": {"en": title}, **members}


ACCEPT_ALL = "preferences=granted analytics=granted marketing=granted"
TRANSFERS = edits(
    NOT_MATERIAL,
    put(
        "purposes/transfer-us",
        purpose("Transfer to the United States", kind="transfer", destination="US", regimes={"default": "opt-in"}),
    ),
    put(
        "purposes/transfer-tr",
        purpose("Transfer to Türkiye", kind="transfer", destination="TR", regimes={"default": "opt-in"}),
    ),
)
CLICK_WRAP = edits(
    NOT_MATERIAL,
    put(
        "purposes/terms",
        purpose(
            "Terms of sale",
            kind="acceptance",
            document=TERMS,
            withdrawable="false",
            withdrawalBar={"en": "An accepted contract ends by its own terms."},
            regimes={"default": "opt-in"},
        ),
    ),
)
AGED = edits(
    NOT_MATERIAL,
    put(
        "purposes/age",
        purpose("I am 16 or older", kind="attestation", minimumAge={"default": "16"}, regimes={"default": "opt-in"}),
    ),
    put("purposes/analytics/needs", ["age"]),
)


MOMENTS = (
    Moments(
        "W3",
        "accept all, only necessary, or category by category",
        WECO,
        (
            Said("2026-06-01", "given", ACCEPT_ALL, action="accept_all"),
            Said("2026-06-01", "refused", "*=denied", action="only_necessary", device="laptop"),
            Said("2026-06-01", "given", "preferences=granted analytics=denied marketing=denied", device="tablet"),
        ),
        (
            Asked("2026-06-02", "marketing", "granted granted", ask=False),
            Asked("2026-06-02", "analytics", "denied refused", device="laptop", ask=False),
            Asked("2026-06-02", "necessary", "granted not_required", device="laptop"),
            Asked("2026-06-02", "preferences", "granted granted", device="tablet"),
            Asked("2026-06-02", "analytics", "denied refused", device="tablet", ask=False),
            Asked("2026-06-02", "analytics", "denied never_asked", device="never seen", ask=True),
        ),
    ),
    Moments(
        "W4",
        "a choice lives for 12 months, then the banner returns",
        WECO,
        (
            Said("2026-06-01", "given", "analytics=granted"),
            Said("2026-06-01", "refused", "*=denied", device="laptop"),
        ),
        (
            Asked("2027-05-31", "analytics", "granted granted", ask=False, until="2027-06-01"),
            Asked("2027-06-01", "analytics", "denied expired", ask=True),
            Asked("2027-05-31", "analytics", "denied refused", device="laptop", ask=False),
            Asked("2027-06-01", "analytics", "denied refused", device="laptop", ask=True),
        ),
    ),
    Moments(
        "W5",
        "withdrawal at any time; what is necessary goes on",
        WECO,
        (
            Said("2026-06-01", "given", ACCEPT_ALL),
            Said("2026-06-03", "withdrawn", "*=denied", action="settings"),
        ),
        (
            Asked("2026-06-02", "analytics", "granted granted"),
            Asked("2026-06-03", "analytics", "denied withdrawn", ask=False),
            Asked("2026-06-03", "preferences", "denied withdrawn"),
            Asked("2026-06-03", "necessary", "granted not_required"),
        ),
    ),
    Moments(
        "W6",
        "a material change asks again, another one does not",
        WECO,
        (Said("2026-06-01", "given", ACCEPT_ALL),),
        (
            Asked("2026-07-02", "analytics", "granted granted", ask=False),
            Asked("2026-08-01", "analytics", "denied policy_changed", ask=True),
            Asked("2026-08-01", "preferences", "granted granted", ask=False),
        ),
        (
            Version("2026-07-01", "1.1", NOT_MATERIAL),
            Version("2026-08-01", "1.2", put("policy/material", ["analytics"])),
        ),
    ),
    Moments(
        "W7",
        "a recipient that comes in asks again, whatever the author says",
        WECO,
        (Said("2026-06-01", "given", ACCEPT_ALL),),
        (
            Asked("2026-07-01", "preferences", "denied policy_changed", ask=True),
            Asked("2026-07-01", "marketing", "granted granted"),
        ),
        (
            Version(
                "2026-07-01",
                "1.1",
                edits(NOT_MATERIAL, put("purposes/preferences/recipients", [{"name": "Cloudflare", "region": "US"}])),
            ),
        ),
    ),
    Moments(
        "W10",
        "everyone is asked, wherever they are",
        WECO,
        (),
        tuple(
            Asked("2026-06-01", "analytics", "denied never_asked", region=region, ask=True)
            for region in (None, "KZ", "DE", "GB", "US-CA", "BR")
        ),
    ),
    Moments(
        "W11",
        "who clears the browser comes back as new, and the old grant lapses",
        WECO,
        (Said("2026-06-01", "given", ACCEPT_ALL, device="before clearing"),),
        (
            Asked("2026-06-02", "analytics", "denied never_asked", device="after clearing", ask=True),
            Asked("2026-06-02", "analytics", "granted granted", device="before clearing"),
            Asked("2027-06-01", "analytics", "denied expired", device="before clearing"),
        ),
    ),
    Moments(
        "W12",
        "a category that was declared unused asks before it is used",
        WECO,
        (Said("2026-06-01", "given", ACCEPT_ALL),),
        (
            Asked("2026-07-01", "marketing", "denied policy_changed", ask=True),
            Asked("2026-07-01", "analytics", "granted granted"),
        ),
        (Version("2026-07-01", "1.1", edits(NOT_MATERIAL, put("purposes/marketing/inUse", "true"))),),
    ),
    Moments(
        "D12",
        "consent to a transfer, destination by destination",
        NERA,
        (Said("2026-07-02", "given", "transfer-us=granted", version="1.1"),),
        (
            Asked("2026-07-03", "transfer-us", "granted granted", region="KZ"),
            Asked("2026-07-03", "transfer-tr", "denied never_asked", region="KZ", ask=True),
            Asked("2026-06-30", "transfer-us", "denied unknown_purpose", region="KZ"),
        ),
        (Version("2026-07-01", "1.1", TRANSFERS),),
    ),
    Moments(
        "D14",
        "an accepted document stays accepted, until its version is replaced",
        NERA,
        (
            Said("2026-07-02", "given", "terms=granted", version="1.1", shown=TERMS),
            Said("2026-07-03", "withdrawn", "*=denied"),
        ),
        (
            Asked("2026-07-02", "terms", "granted granted"),
            Asked("2026-07-03", "terms", "granted withdrawal_barred", ask=False),
            Asked("2026-07-03", "analytics", "denied refused"),
            Asked("2026-07-03", "terms", "denied never_asked", device="another", ask=True),
            Asked("2026-08-01", "terms", "denied withdrawn"),
        ),
        (
            Version("2026-07-01", "1.1", CLICK_WRAP),
            Version(
                "2026-08-01",
                "1.2",
                edits(CLICK_WRAP, put("policy/material", ["terms"]), put("purposes/terms/document", "7f" * 32)),
            ),
        ),
    ),
    Moments(
        "N1",
        "a place that is not known is the strictest",
        NERA,
        (),
        (
            Asked("2026-06-01", "analytics", "denied never_asked", region=None, ask=True),
            Asked("2026-06-01", "analytics", "denied never_asked", region="ZZ", ask=True),
            Asked("2026-06-01", "analytics", "granted opt_out_default", region="KZ", ask=False),
        ),
    ),
    Moments(
        "N2",
        "in the EU, the EEA and the UK on consent; elsewhere by default, with an objection",
        NERA,
        (Said("2026-06-01", "refused", "analytics=denied", region="US", device="objector"),),
        (
            *(
                Asked("2026-06-01", "analytics", "denied never_asked", region=region, ask=True)
                for region in ("DE", "FR", "GF", "NO", "IS", "GB")
            ),
            *(
                Asked("2026-06-01", "analytics", "granted opt_out_default", region=region)
                for region in ("US", "KZ", "JP", "CH")
            ),
            Asked("2026-06-01", "analytics", "denied gpc", region="US", gpc=True),
            Asked("2026-06-02", "analytics", "denied refused", region="US", device="objector"),
            Asked("2028-06-02", "analytics", "denied refused", region="US", device="objector", ask=True),
        ),
    ),
    Moments(
        "N2",
        "who was granted by default elsewhere is asked on arrival in the EU, and the choice made there goes along",
        NERA,
        (Said("2026-06-05", "given", "analytics=granted", region="DE"),),
        (
            Asked("2026-06-04", "analytics", "granted opt_out_default", region="US"),
            Asked("2026-06-04", "analytics", "denied never_asked", region="DE"),
            Asked("2026-06-06", "analytics", "granted granted", region="US"),
            Asked("2026-12-05", "analytics", "denied expired", region="US", ask=True),
        ),
    ),
    Moments(
        "N3",
        "a choice is kept for six months",
        NERA,
        (Said("2026-06-01", "given", "analytics=granted", region="DE"),),
        (
            Asked("2026-11-30", "analytics", "granted granted", region="DE", until="2026-12-01"),
            Asked("2026-12-01", "analytics", "denied expired", region="DE", ask=True),
        ),
    ),
    Moments(
        "N4",
        "a choice for the account holds on every browser that is linked, while it is linked",
        NERA,
        (
            Said("2026-06-01", "linked", device="phone", account=ACCOUNT),
            Said("2026-06-02", "linked", device="laptop", account=ACCOUNT),
            Said("2026-06-03", "given", "analytics=granted", region="DE", device="phone", account=ACCOUNT),
            Said("2026-06-05", "unlinked", device="laptop", account=ACCOUNT),
            Said("2026-06-06", "linked", device="laptop", account=OTHER_ACCOUNT),
        ),
        (
            Asked("2026-06-04", "analytics", "granted granted", region="DE", device="laptop"),
            Asked("2026-06-04", "analytics", "granted granted", region="DE", device="phone"),
            Asked("2026-06-05", "analytics", "denied never_asked", region="DE", device="laptop"),
            Asked("2026-06-06", "analytics", "denied never_asked", region="DE", device="laptop"),
            Asked("2026-06-06", "analytics", "granted granted", region="DE", device="phone"),
        ),
    ),
    Moments(
        "N6",
        "an objection to a legitimate interest is heeded, and does not wear off",
        NERA,
        (Said("2026-06-01", "refused", "analytics=denied", region="KZ", action="settings"),),
        (
            Asked("2026-05-31", "analytics", "granted opt_out_default", region="KZ"),
            Asked("2026-06-01", "analytics", "denied refused", region="KZ"),
            Asked("2029-06-01", "analytics", "denied refused", region="KZ"),
        ),
    ),
    Moments(
        "N7",
        "a child's own grant does not hold, a guardian's does, also when the child comes of age",
        NERA,
        (
            Said("2026-07-02", "given", "analytics=granted", version="1.1", region="DE", device="child"),
            Said("2026-07-02", "given", "analytics=granted age=granted", version="1.1", region="DE", device="adult"),
            Said(
                "2026-07-02", "given", "analytics=granted", version="1.1", region="DE", action="guardian", device="ward"
            ),
            Said("2026-08-02", "given", "age=granted", version="1.1", region="DE", device="ward"),
        ),
        (
            Asked("2026-07-03", "analytics", "denied age_unconfirmed", region="DE", device="child"),
            Asked("2026-07-03", "analytics", "denied age_unconfirmed", region="US", device="nobody"),
            Asked("2026-07-03", "analytics", "granted granted", region="DE", device="adult", ask=False),
            Asked("2026-07-03", "analytics", "granted granted", region="DE", device="ward", ask=False),
            Asked("2026-08-03", "analytics", "granted granted", region="DE", device="ward", ask=True),
        ),
        (Version("2026-07-01", "1.1", AGED),),
    ),
    Moments(
        "N10",
        "the tool starts on a grant only, and stops on withdrawal",
        NERA,
        (
            Said("2026-06-02", "given", "analytics=granted", region="FR"),
            Said("2026-06-04", "withdrawn", "analytics=denied", region="FR", action="withdraw"),
        ),
        (
            Asked("2026-06-01", "analytics", "denied never_asked", region="FR"),
            Asked("2026-06-03", "analytics", "granted granted", region="FR"),
            Asked("2026-06-04", "analytics", "denied withdrawn", region="FR"),
        ),
    ),
    Moments(
        "N11",
        "a change that is posted is not announced to anybody in person",
        NERA,
        (Said("2026-06-01", "given", "analytics=granted", region="FR"),),
        (Asked("2026-07-02", "analytics", "granted granted", region="FR", notify=False),),
        (Version("2026-07-01", "1.1", NOT_MATERIAL),),
    ),
    Moments(
        "C5",
        "a changed policy is announced on the first visit after it, also when it is not material",
        CUSTODIAN,
        (
            Said("2026-06-01", "given", "analytics=granted"),
            Said("2026-07-03", "seen", version="1.1"),
        ),
        (
            Asked("2026-06-30", "analytics", "granted granted", notify=False),
            Asked("2026-07-02", "analytics", "granted granted", notify=True, ask=False),
            Asked("2026-07-04", "analytics", "granted granted", notify=False),
        ),
        (Version("2026-07-01", "1.1", NOT_MATERIAL),),
    ),
    Moments(
        "C8",
        "where the text promises nothing, nothing is processed without consent",
        CUSTODIAN,
        (),
        tuple(
            Asked("2026-06-01", name, "denied never_asked", region=region, ask=True)
            for name in ("analytics", "functional", "targeting")
            for region in ("KZ", "DE", None)
        ),
    ),
    Moments(
        "K2",
        "where the law stands against it a withdrawal is recorded, and the bar holds no longer than the policy says so",
        CUSTODIAN,
        (
            Said("2026-07-02", "given", "functional=granted", version="1.1"),
            Said("2026-07-03", "withdrawn", "functional=denied"),
            Said("2026-07-02", "refused", "functional=denied", version="1.1", device="refuser"),
            Said("2026-06-02", "given", "functional=granted", device="before"),
            Said("2026-07-03", "withdrawn", "functional=denied", device="before"),
        ),
        (
            Asked("2026-07-04", "functional", "granted withdrawal_barred", ask=False),
            Asked("2026-07-04", "functional", "denied refused", device="refuser"),
            Asked("2026-07-04", "functional", "denied withdrawn", device="before"),
            Asked("2026-08-01", "functional", "denied withdrawn"),
        ),
        (
            Version(
                "2026-07-01",
                "1.1",
                edits(
                    NOT_MATERIAL,
                    put("purposes/functional/withdrawable", "false"),
                    put("purposes/functional/withdrawalBar", {"ru": "Есть неисполненное обязательство."}),
                ),
            ),
            Version("2026-08-01", "1.2", NOT_MATERIAL),
        ),
    ),
    Moments(
        "E2",
        "no asking again for months after a refusal: six, in California twelve",
        NERA,
        (
            Said("2026-07-02", "refused", "analytics=denied", region="FR", version="1.1"),
            Said("2026-07-02", "refused", "analytics=denied", region="US-CA", version="1.1", device="Californian"),
        ),
        (
            Asked("2027-01-01", "analytics", "denied refused", region="FR", ask=False),
            Asked("2027-01-02", "analytics", "denied refused", region="FR", ask=True),
            Asked("2027-07-01", "analytics", "denied refused", region="US-CA", ask=False, device="Californian"),
            Asked("2027-07-02", "analytics", "denied refused", region="US-CA", ask=True, device="Californian"),
        ),
        (
            Version(
                "2026-07-01",
                "1.1",
                edits(NOT_MATERIAL, put("reaskAfterIn", {"US-CA": {"refusal": "P12M", "withdrawal": "P12M"}})),
            ),
        ),
    ),
    Moments(
        "E3",
        "exempt in the United Kingdom: no consent needed, an objection heeded",
        NERA,
        (Said("2026-07-02", "refused", "analytics=denied", region="GB", version="1.1", device="objector"),),
        (
            Asked("2026-06-30", "analytics", "denied never_asked", region="GB"),
            Asked("2026-07-02", "analytics", "granted opt_out_default", region="GB", ask=False),
            Asked("2026-07-02", "analytics", "denied never_asked", region="DE"),
            Asked("2026-07-03", "analytics", "denied refused", region="GB", device="objector"),
        ),
        (Version("2026-07-01", "1.1", edits(NOT_MATERIAL, put("purposes/analytics/regimes/UK", "exempt"))),),
    ),
)
