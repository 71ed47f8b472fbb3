"""Scenarios of what sites do: versions of a policy, purposes that come, go and are renamed, and places."""

from __future__ import annotations

from ledger.core.decide import Mark
from ledger.core.policy import Published
from tests.unit.scenario import (
    BARRED,
    CHANGED,
    DEFAULT,
    EXPIRED,
    GRANTED,
    NO_POLICY,
    NO_PURPOSE,
    NOT_ASKED,
    ONE,
    REFUSED,
    WITHDRAWN,
    Moment,
    Scenario,
    event,
    ms,
    version,
)

MATERIAL = {"material": True}
US = {"default": "opt-in", "US": "opt-out", "GB": "exempt"}
FOR_GOOD = {"withdrawable": False, "withdrawalBar": {"en": "An obligation is unfulfilled."}}


def with_contract(number: str, published: str) -> Published:
    """A version that has a purpose of a contract, besides the usual ones."""
    return version(number, published, purposes={"contract": FOR_GOOD})


VERSIONS = (
    Scenario(
        "A purpose that was removed and comes back revives no grant, whatever reason its author puts on record",
        (event(10, "02-01", "+marketing"), event(11, "04-15", "+marketing", cites="3")),
        (
            Moment("02-15", GRANTED, "03-01", purpose="marketing"),
            Moment("03-01", NO_PURPOSE, "04-01", purpose="marketing"),
            Moment("04-01", CHANGED, ask=True, purpose="marketing"),
            Moment("04-15", GRANTED, "10-15", purpose="marketing"),
        ),
        (
            *ONE,
            version("2", "03-01", purposes={"marketing": {"removedIn": "2"}}),
            version("3", "04-01", policy={"notMaterial": {"marketing": "It is the same again."}}),
        ),
    ),
    Scenario(
        "A reason on record counts for the changes it was said of, not for those to a version published in between",
        (event(10, "03-15", "+marketing", cites="3"),),
        (
            Moment("03-15", GRANTED, "04-01", purpose="marketing"),
            Moment("04-01", CHANGED, ask=True, purpose="marketing"),
        ),
        (
            version("1", "01-01", purposes={"marketing": {"recipients": [{"name": "PostHog"}]}}),
            version(
                "2",
                "02-01",
                policy={"effectiveAt": "2026-04-01", "notMaterial": {"marketing": "A name was put right."}},
                purposes={"marketing": {"recipients": [{"name": "PostHog"}, {"name": "Ads"}]}},
            ),
            version("3", "03-01"),
        ),
    ),
    Scenario(
        "A purpose that is added after everything was refused is refused too, also where its default is a grant",
        (event(10, "02-01", "-*", by="only_necessary", region="US"),),
        (
            Moment("02-15", NO_PURPOSE, "03-01", purpose="maps", region="US"),
            Moment("03-01", REFUSED, purpose="maps", region="US"),
            Moment("03-01", REFUSED, purpose="maps"),
            Moment("2027-02-01", REFUSED, ask=True, purpose="maps", region="US"),
            Moment("03-01", DEFAULT, purpose="maps", region="US", known=9),
        ),
        (*ONE, version("2", "03-01", purposes={"maps": {"regimes": US}})),
    ),
    Scenario(
        "A purpose that is renamed goes on with the answers under its old name, and the old name is gone",
        (
            event(10, "02-01", "+analytics -*"),
            event(11, "03-10", "-statistics", cites="2"),
            event(12, "03-20", "+statistics -*", cites="2"),
        ),
        (
            Moment("02-15", GRANTED, "03-01"),
            Moment("02-15", NO_PURPOSE, "03-01", purpose="statistics"),
            Moment("03-01", NO_PURPOSE),
            Moment("03-01", GRANTED, "08-01", purpose="statistics"),
            Moment("03-10", WITHDRAWN, purpose="statistics"),
            Moment("03-20", GRANTED, "09-20", purpose="statistics"),
        ),
        (
            *ONE,
            version(
                "2",
                "03-01",
                policy={"notMaterial": {"statistics": "the name alone is new"}},
                purposes={"analytics": {"removedIn": "2"}, "statistics": {"aliasOf": "analytics", "regimes": US}},
            ),
        ),
    ),
    Scenario(
        "A refusal under the old name of a purpose stands under its new one",
        (event(10, "02-01", "-analytics", region="US"),),
        (
            Moment("02-15", REFUSED, "03-01", region="US"),
            Moment("03-01", REFUSED, purpose="statistics", region="US"),
            Moment("2036-03-01", REFUSED, ask=True, purpose="statistics", region="US"),
        ),
        (
            *ONE,
            version(
                "2",
                "03-01",
                purposes={"analytics": {"removedIn": "2"}, "statistics": {"aliasOf": "analytics", "regimes": US}},
            ),
        ),
    ),
    Scenario(
        "A purpose that was removed is denied to all, and asks again when it comes back",
        (event(10, "02-01", "+marketing +analytics"),),
        (
            Moment("02-15", GRANTED, "03-01", purpose="marketing"),
            Moment("03-01", NO_PURPOSE, "04-01", purpose="marketing"),
            Moment("04-01", CHANGED, ask=True, purpose="marketing"),
            Moment("04-01", GRANTED, "08-01"),
        ),
        (*ONE, version("2", "03-01", purposes={"marketing": {"removedIn": "2"}}), version("3", "04-01")),
    ),
    Scenario(
        "A grant that cites a version nobody published holds nowhere, a denial that does stands",
        (
            event(10, "02-01", "+analytics", cites=None, cited_policy_version="7"),
            event(11, "02-01", "-marketing", cites=None, cited_policy_version="7"),
        ),
        (
            Moment("02-01", CHANGED, ask=True),
            Moment("02-01", CHANGED, ask=True, region="US"),
            Moment("02-01", REFUSED, purpose="marketing"),
            Moment("08-01", REFUSED, ask=True, purpose="marketing"),
        ),
    ),
    Scenario(
        "A denial that cites a version to come counts at once",
        (event(10, "02-01", "-analytics", cites="2"),),
        (Moment("02-01", REFUSED), Moment("03-01", REFUSED), Moment("08-01", REFUSED, ask=True)),
        (*ONE, version("2", "01-10", policy={"effectiveAt": "2026-03-01", "material": True})),
    ),
    Scenario(
        "Under a material version grants that cite an older one hold no more, whenever they were made; denials do",
        (
            event(10, "02-01", "+analytics"),
            event(11, "03-05", "+analytics"),
            event(12, "03-06", "-marketing"),
            event(13, "03-10", "+analytics", cites="2"),
        ),
        (
            Moment("02-28", GRANTED, "03-01"),
            Moment("03-01", CHANGED, ask=True),
            Moment("03-05", CHANGED, ask=True),
            Moment("03-06", REFUSED, purpose="marketing"),
            Moment("03-10", GRANTED, "09-10"),
        ),
        (*ONE, version("2", "03-01", policy=MATERIAL)),
    ),
    Scenario(
        "A version with a time to come takes effect then, and an answer of before says so",
        (event(10, "02-01", "+analytics"),),
        (
            Moment("02-15", GRANTED, "08-01", known=10),
            Moment("02-15", GRANTED, "04-01"),
            Moment("03-31 23:59:59.999", GRANTED, "04-01"),
            Moment("04-01", CHANGED, ask=True),
            Moment("04-01", GRANTED, "08-01", known=10),
        ),
        (*ONE, version("2", "02-10", seq=11, policy={"effectiveAt": "2026-04-01", "material": True})),
    ),
    Scenario(
        "A version that names a time before it was published takes effect when it is published",
        (event(10, "02-01", "+analytics"),),
        (
            Moment("02-28", GRANTED, "03-01"),
            Moment("03-01", CHANGED, ask=True),
            Moment("2025-12-31", NO_POLICY, "01-01"),
        ),
        (*ONE, version("2", "03-01", policy={"effectiveAt": "2025-06-01", "material": True})),
    ),
    Scenario(
        "A rollback to an older text brings no grant of before back",
        (event(10, "02-01", "+analytics"), event(11, "03-10", "+marketing", cites="2")),
        (
            Moment("02-15", GRANTED, "03-01"),
            Moment("03-15", CHANGED, ask=True),
            Moment("04-15", CHANGED, ask=True),
            Moment("04-15", GRANTED, "09-10", purpose="marketing"),
            Moment("04-15", NOT_ASKED, ask=True, known=9),
        ),
        (*ONE, version("2", "03-01", policy=MATERIAL), version("3", "04-01")),
    ),
    Scenario(
        "A change that is not material is announced until it was seen, and neither it nor the seeing renews a grant",
        (event(10, "02-01", "+analytics"), event(11, "03-05", by="notice.seen", cites="2")),
        (
            Moment("02-28", GRANTED, "08-01"),
            Moment("03-01", GRANTED, "08-01", notify=True),
            Moment("03-01", NOT_ASKED, ask=True, notify=True, purpose="marketing"),
            Moment("03-05", GRANTED, "08-01"),
            Moment("08-01", EXPIRED, ask=True),
        ),
        (
            version("1", "01-01", announceChanges="first-visit"),
            version("2", "03-01", announceChanges="first-visit"),
        ),
    ),
    Scenario(
        "What the comparison of two versions finds material asks again, whatever the author claims, or says why not",
        (event(10, "02-01", "+analytics +marketing"),),
        (
            Moment("02-15", GRANTED, "03-01"),
            Moment("03-01", CHANGED, ask=True),
            Moment("03-01", GRANTED, "08-01", purpose="marketing"),
        ),
        (
            *ONE,
            version(
                "2",
                "03-01",
                policy={"notMaterial": {"marketing": "The same company under its new name."}},
                purposes={
                    "analytics": {"regimes": US, "recipients": [{"name": "Newcomer", "region": "US"}]},
                    "marketing": {"recipients": [{"name": "Newcomer", "region": "US"}]},
                },
            ),
        ),
    ),
)

PLACES = (
    Scenario(
        "A visitor who travels has the stricter of the place of the act and the place of the question",
        (event(10, "02-01", "+analytics", region="US"), event(11, "02-01", "+marketing", region="KZ")),
        (
            Moment("01-15", DEFAULT, region="US"),
            Moment("01-15", NOT_ASKED, ask=True, region="KZ"),
            Moment("01-15", NOT_ASKED, ask=True, region=None),
            Moment("01-15", NOT_ASKED, ask=True, region="FR"),
            Moment("08-01", "granted expired -", ask=True, region="US"),
            Moment("08-01", EXPIRED, ask=True, region="KZ"),
            Moment("08-01", EXPIRED, ask=True, region=None),
        ),
    ),
    Scenario(
        "A grant from a strict place does not become a default in a lenient one",
        (event(10, "02-01", "+analytics", region="KZ"),),
        (
            Moment("02-02", GRANTED, "08-01", region="US"),
            Moment("08-01", EXPIRED, ask=True, region="US"),
            Moment("08-01", DEFAULT, region="US", known=9),
        ),
    ),
    Scenario(
        "A refusal keeps the question away for the longest interval of the place of the act and of the question",
        (event(10, "02-01", "-analytics", region="US"), event(11, "02-01", "-marketing")),
        (
            Moment("08-01", REFUSED, region="KZ"),
            Moment("2027-02-01", REFUSED, ask=True, region="KZ"),
            Moment("08-01", REFUSED, region="US", purpose="marketing"),
            Moment("08-01", REFUSED, ask=True, region="KZ", purpose="marketing"),
            Moment("08-01", REFUSED, region=None, purpose="marketing"),
        ),
    ),
    Scenario(
        "A purpose may have an interval of its own",
        (event(10, "02-01", "-analytics"), event(11, "02-01", "-marketing")),
        (
            Moment("03-01", REFUSED, ask=True),
            Moment("03-01", REFUSED, purpose="marketing"),
            Moment("02-28", REFUSED),
        ),
        (version("1", "01-01", purposes={"analytics": {"reaskAfter": {"refusal": "P1M"}}}),),
    ),
)

BARS = (
    Scenario(
        "A grant that cannot be withdrawn stands against a withdrawal until its term ends, and then is withdrawn",
        (event(10, "02-01", "+contract"), event(11, "03-01", "-contract", by="withdraw"), event(12, "03-02", "-*")),
        (
            Moment("02-01", GRANTED, "08-01", purpose="contract"),
            Moment("03-01", BARRED, "08-01", purpose="contract"),
            Moment("03-02", BARRED, "08-01", purpose="contract"),
            Moment("03-02", "denied gpc Refused", "08-01", purpose="contract", gpc=True),
            Moment("08-01", WITHDRAWN, purpose="contract"),
            Moment("2027-03-02", WITHDRAWN, ask=True, purpose="contract"),
        ),
        (with_contract("1", "01-01"),),
    ),
    Scenario(
        "A refusal before any grant is a refusal also where a grant could not be withdrawn",
        (event(10, "02-01", "-contract"), event(11, "02-10", "+contract"), event(12, "02-20", "-contract")),
        (
            Moment("02-01", REFUSED, purpose="contract"),
            Moment("02-10", GRANTED, "08-10", purpose="contract"),
            Moment("02-20", BARRED, "08-10", purpose="contract"),
        ),
        (with_contract("1", "01-01"),),
    ),
    Scenario(
        "One version since the grant that allows withdrawal is enough",
        (event(10, "02-01", "+contract"), event(11, "02-10", "-contract")),
        (
            Moment("02-10", BARRED, "03-01", purpose="contract"),
            Moment("03-01", WITHDRAWN, purpose="contract"),
            Moment("04-01", WITHDRAWN, purpose="contract"),
        ),
        (
            with_contract("1", "01-01"),
            version("2", "03-01", purposes={"contract": {}}),
            version(
                "3",
                "04-01",
                policy={"notMaterial": {"contract": "As it was in version 1."}},
                purposes={"contract": FOR_GOOD},
            ),
        ),
    ),
    Scenario(
        "A denial made before the version that the grant cites was in force is not barred once it is",
        (event(10, "02-10", "+contract", cites="2"), event(11, "02-20", "-contract")),
        (
            Moment("02-20", WITHDRAWN, purpose="contract"),
            Moment("03-02", WITHDRAWN, purpose="contract"),
        ),
        (
            version("1", "01-01", purposes={"contract": {}}),
            version(
                "2",
                "03-01",
                policy={"notMaterial": {"contract": "Said in advance."}},
                purposes={"contract": FOR_GOOD},
            ),
        ),
    ),
    Scenario(
        "A suppression mark is never barred",
        (event(10, "02-01", "+contract"), event(11, "04-01", "-contract", by="withdraw")),
        (
            Moment("02-02", GRANTED, "03-01", purpose="contract"),
            Moment("03-01", "denied suppressed Refused", purpose="contract"),
            Moment("04-01", "denied suppressed Refused", "08-01", purpose="contract"),
            Moment("08-01", WITHDRAWN, purpose="contract"),
        ),
        (with_contract("1", "01-01"),),
        (Mark("*", ms("03-01"), None, 10),),
    ),
)

KINDS = (
    Scenario(
        "Acceptance of a document and leave to transfer data abroad follow the same rules as consent",
        (
            event(10, "02-01", "+terms +transfer", shown="d" * 64),
            event(11, "03-01", "-transfer", by="withdraw"),
        ),
        (
            Moment("01-31", NOT_ASKED, ask=True, purpose="terms"),
            Moment("02-01", GRANTED, "08-01", purpose="terms"),
            Moment("03-01", GRANTED, "08-01", purpose="terms"),
            Moment("03-01", WITHDRAWN, purpose="transfer"),
        ),
        (
            version(
                "1",
                "01-01",
                purposes={
                    "terms": {"kind": "acceptance", "document": "d" * 64},
                    "transfer": {"kind": "transfer", "destination": "DE"},
                },
            ),
        ),
    ),
    Scenario(
        "Silence accepts no document, agrees to no transfer and states no age, where everything else is opt-out",
        (),
        (
            Moment("02-01", DEFAULT, region="US", purpose="marketing"),
            Moment("02-01", NOT_ASKED, ask=True, region="US", purpose="terms"),
            Moment("02-01", NOT_ASKED, ask=True, region="US", purpose="transfer"),
            Moment("02-01", NOT_ASKED, ask=True, region="US", purpose="age"),
            Moment("02-01", "denied age_unconfirmed Unknown", ask=True, region="US"),
        ),
        (
            version(
                "1",
                "01-01",
                regimes={"default": "opt-out"},
                purposes={
                    "analytics": {"needs": ["age"]},
                    "marketing": {},
                    "terms": {"kind": "acceptance", "document": "d" * 64},
                    "transfer": {"kind": "transfer", "destination": "DE"},
                    "age": {"kind": "attestation", "minimumAge": {"default": 16}},
                },
            ),
        ),
    ),
)

SCENARIOS = (*VERSIONS, *PLACES, *BARS, *KINDS)
