"""Scenarios of several browsers, accounts and people: links, guardians, and marks that the controller sets."""

from __future__ import annotations

from ledger.core.decide import Mark
from tests.unit.scenario import (
    ANNA,
    BERIK,
    DEFAULT,
    EXPIRED,
    GRANTED,
    NO_AGE,
    NOT_ASKED,
    PHONE,
    REFUSED,
    WITHDRAWN,
    Moment,
    Scenario,
    event,
    ms,
    version,
)

AGE = (
    version(
        "1",
        "01-01",
        purposes={
            "age": {"kind": "attestation", "minimumAge": {"default": 16}},
            "analytics": {"regimes": {"default": "opt-in", "US": "opt-out"}, "needs": ["age"]},
        },
    ),
)

AGE_WITHOUT_ASKING = (
    version(
        "1",
        "01-01",
        regimes={"default": "opt-out"},
        purposes={"age": {"kind": "attestation", "minimumAge": {"default": 16}}, "analytics": {"needs": ["age"]}},
    ),
)

ACCOUNTS = (
    Scenario(
        "Of two browsers with opposite choices each keeps its own until both belong to one account, which shows it",
        (
            event(10, "02-01", "-analytics"),
            event(11, "02-01", by="account.linked", account=ANNA, device=PHONE),
            event(12, "02-02", "+analytics", account=ANNA, device=PHONE),
            event(13, "02-03", by="account.linked", account=ANNA),
            event(14, "02-05", "+analytics"),
            event(15, "02-07", "-analytics", account=ANNA, device=PHONE),
        ),
        (
            Moment("02-02", REFUSED),
            Moment("02-02", GRANTED, "08-02", device=PHONE),
            Moment("02-03", "denied conflict Refused", ask=True, conflict=True),
            Moment("02-03", GRANTED, "08-02", device=PHONE),
            Moment("02-05", GRANTED, "08-05"),
            Moment("02-07", WITHDRAWN, conflict=True),
            Moment("02-07", WITHDRAWN, device=PHONE),
            Moment("02-07", REFUSED, known=12),
        ),
    ),
    Scenario(
        "A grant that is made for the account in this very browser overrides the browser's own denial",
        (
            event(10, "02-01", "+analytics"),
            event(11, "02-02", "-analytics"),
            event(12, "02-03", by="account.linked", account=ANNA),
            event(13, "02-04", "+analytics", account=ANNA, device=PHONE),
            event(14, "02-05", "+analytics", account=ANNA),
        ),
        (
            Moment("02-03", WITHDRAWN),
            Moment("02-04", "denied conflict Withdrawn", ask=True, conflict=True),
            Moment("02-05", GRANTED, "08-05", conflict=True),
        ),
    ),
    Scenario(
        "In a browser that two people share the account that is linked now counts, and the two never merge",
        (
            event(10, "02-01", by="account.linked", account=ANNA),
            event(11, "02-02", "+analytics", account=ANNA),
            event(12, "02-03", by="account.linked", account=BERIK),
            event(13, "02-04", "-analytics", account=BERIK),
            event(14, "02-05", by="account.linked", account=ANNA),
        ),
        (
            Moment("02-01", NOT_ASKED, ask=True),
            Moment("02-02", GRANTED, "08-02"),
            Moment("02-03", NOT_ASKED, ask=True),
            Moment("02-04", REFUSED),
            Moment("02-05", GRANTED, "08-02"),
            Moment("02-05", REFUSED, known=13),
        ),
    ),
    Scenario(
        "Unlinking leaves the browser with its own choices, and the interval of the link stays on record",
        (
            event(10, "01-15", "-marketing"),
            event(11, "02-01", by="account.linked", account=ANNA),
            event(12, "02-02", "+analytics +marketing", account=ANNA),
            event(13, "02-10", by="account.unlinked", account=ANNA),
        ),
        (
            Moment("02-05", GRANTED, "08-02"),
            Moment("02-05", GRANTED, "08-02", conflict=True, purpose="marketing"),
            Moment("02-10", NOT_ASKED, ask=True),
            Moment("02-10", REFUSED, purpose="marketing"),
            Moment("02-11", GRANTED, "08-02", known=12),
        ),
    ),
    Scenario(
        "A link and an unlinking of one moment leave the browser unlinked",
        (
            event(10, "02-01", "+analytics", account=ANNA, device=PHONE),
            event(11, "02-02", by="account.unlinked", account=ANNA),
            event(12, "02-02", by="account.linked", account=ANNA),
            event(13, "02-03", by="account.linked", account=ANNA),
        ),
        (Moment("02-02", NOT_ASKED, ask=True), Moment("02-03", GRANTED, "08-01")),
    ),
)

AGES = (
    Scenario(
        "Where a site asks nobody first, an age that nobody stated is stated by nobody",
        (event(10, "02-01", "+analytics"), event(11, "02-02", "+age")),
        (
            Moment("01-31", "denied age_unconfirmed Unknown", ask=True),
            Moment("02-01", NO_AGE, ask=True),
            Moment("02-02", GRANTED, "08-01"),
            Moment("02-01", "denied never_asked Unknown", ask=True, purpose="age"),
        ),
        AGE_WITHOUT_ASKING,
    ),
    Scenario(
        "A minor's grant waits for a guardian, whose grant stands when the child comes of age and asks then",
        (
            event(10, "02-01", "+analytics"),
            event(11, "02-02", "-age"),
            event(12, "02-03", "+analytics", by="guardian"),
            event(13, "05-01", "+age"),
            event(14, "05-02", "+analytics"),
        ),
        (
            Moment("02-01", NO_AGE, "08-01", ask=True),
            Moment("02-02", NO_AGE, "08-01"),
            Moment("02-03", GRANTED, "08-03"),
            Moment("05-01", GRANTED, "08-03", ask=True),
            Moment("05-02", GRANTED, "11-01"),
            Moment("11-01", NO_AGE, "11-02", ask=True),
            Moment("11-02", EXPIRED, ask=True),
            Moment("08-03", EXPIRED, ask=True, known=12),
        ),
        AGE,
    ),
    Scenario(
        "The default grant of opt-out needs the attestation too",
        (event(10, "02-01", "+age", region="US"),),
        (
            Moment("01-31", "denied age_unconfirmed Unknown", ask=True, region="US"),
            Moment("02-01", DEFAULT, "08-01", region="US"),
            Moment("08-01", "denied age_unconfirmed Unknown", ask=True, region="US"),
            Moment("02-01", NOT_ASKED, ask=True),
        ),
        AGE,
    ),
    Scenario(
        "A guardian's denial withdraws, and the child's own grant without the age does not bring it back",
        (
            event(10, "02-01", "+analytics", by="guardian"),
            event(11, "02-02", "-analytics", by="guardian"),
            event(12, "02-03", "+analytics"),
        ),
        (Moment("02-01", GRANTED, "08-01"), Moment("02-02", WITHDRAWN), Moment("02-03", NO_AGE, "08-03", ask=True)),
        AGE,
    ),
)

MARKS = (
    Scenario(
        "A suppression mark denies what the default or an older grant would allow, until it ends",
        (event(10, "01-15", "+analytics", region="US"),),
        (
            Moment("01-31", GRANTED, "02-01", region="US"),
            Moment("02-01", "denied suppressed Refused", "05-01", region="US"),
            Moment("02-01", "denied suppressed Refused", "05-01", purpose="marketing"),
            Moment("02-01", GRANTED, "07-15", region="US", known=11),
            Moment("05-01", GRANTED, "07-15", region="US"),
        ),
        marks=(Mark("*", ms("02-01"), ms("05-01"), 12),),
    ),
    Scenario(
        "A later explicit grant beats a suppression mark, but the default never does, not even once the grant lapsed",
        (event(10, "03-01", "+analytics", region="US"),),
        (
            Moment("02-15", "denied suppressed Refused", region="US"),
            Moment("03-01", GRANTED, "09-01", region="US"),
            Moment("09-01", EXPIRED, ask=True, region="US"),
            Moment("2036-01-01", EXPIRED, ask=True, region="US"),
        ),
        marks=(Mark("analytics", ms("02-01"), None, 5),),
    ),
)

SCENARIOS = (*ACCOUNTS, *AGES, *MARKS)
