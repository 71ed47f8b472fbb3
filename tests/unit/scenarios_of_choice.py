"""Scenarios of what one visitor does in one browser: when it counts, how long, for what, and under which signal."""

from __future__ import annotations

from tests.unit.scenario import (
    DEFAULT,
    EXPIRED,
    GRANTED,
    NOT_ASKED,
    REFUSED,
    SIGNAL,
    WITHDRAWN,
    Moment,
    Scenario,
    event,
)

CLOCKS = (
    Scenario(
        "A device clock ten years slow changes nothing where both its times are sent",
        (
            event(10, "02-01 12:00", "+analytics", made="2016-02-01 00:00", sent="2016-02-01 00:05"),
            event(11, "02-02 12:00", "-analytics", made="2016-02-02 00:00", sent="2016-02-02 00:00"),
        ),
        (
            Moment("02-01 11:54", NOT_ASKED, ask=True),
            Moment("02-01 11:55", GRANTED, "08-01 11:55"),
            Moment("02-02 11:59", GRANTED, "08-01 11:55"),
            Moment("02-02 12:00", WITHDRAWN),
        ),
    ),
    Scenario(
        "A grant from a device clock a year fast does not outlast the withdrawal after it",
        (
            event(10, "02-01", "+analytics", made="2027-02-01", sent="2027-02-01"),
            event(11, "02-02", "-analytics", by="withdraw"),
        ),
        (
            Moment("02-01", GRANTED, "08-01"),
            Moment("02-02", WITHDRAWN),
            Moment("2027-01-31", WITHDRAWN),
            Moment("2027-02-02", WITHDRAWN, ask=True),
        ),
    ),
    Scenario(
        "Without the time of sending a fast clock places no grant in the future and a slow one no denial in the past",
        (
            event(10, "02-01", "+analytics", made="2027-02-01"),
            event(11, "03-01", "-analytics", made="01-15"),
            event(12, "04-01", "+analytics", made="03-15"),
        ),
        (
            Moment("02-01", GRANTED, "08-01"),
            Moment("02-28", GRANTED, "08-01"),
            Moment("03-01", WITHDRAWN),
            Moment("03-15", GRANTED, "09-15"),
            Moment("03-15", WITHDRAWN, known=11),
        ),
    ),
    Scenario(
        "A grant that waited in a browser without a network loses to the withdrawal that was sent at once",
        (
            event(10, "02-02", "-analytics", made="02-02", sent="02-02"),
            event(11, "02-03", "+analytics", made="02-01", sent="02-03"),
        ),
        (
            Moment("02-01", GRANTED, "08-01"),
            Moment("02-02", REFUSED, known=10),
            Moment("02-02", WITHDRAWN),
            Moment("02-04", WITHDRAWN),
        ),
    ),
    Scenario(
        "A denial whose own clocks place it more than seven days back counts when it is recorded",
        (
            event(10, "02-01", "+analytics"),
            event(11, "02-20", "-analytics", made="02-12 23:59", sent="02-20"),
            event(12, "02-20", "-marketing", made="02-13", sent="02-20"),
        ),
        (
            Moment("02-13", GRANTED, "08-01"),
            Moment("02-20", WITHDRAWN),
            Moment("02-13", REFUSED, purpose="marketing"),
            Moment("02-12", NOT_ASKED, ask=True, purpose="marketing"),
        ),
    ),
    Scenario(
        "A server clock that jumped ahead and stood still gives ties to denials, whatever their order",
        (
            event(10, "02-01 00:00:00", "+analytics"),
            event(11, "02-01 00:00:50", "-analytics"),
            event(12, "02-01 00:00:50", "+analytics"),
            event(13, "02-01 00:00:50.001", "+analytics"),
        ),
        (
            Moment("02-01 00:00:49.999", GRANTED, "08-01"),
            Moment("02-01 00:00:50", WITHDRAWN),
            Moment("02-01 00:00:51", GRANTED, "08-01 00:00:50.001"),
            Moment("02-01 00:00:51", WITHDRAWN, known=12),
            Moment("02-01 00:00:51", GRANTED, "08-01", known=10),
        ),
    ),
)

SIGNALS = (
    Scenario(
        "GPC after a plain grant denies while it is on, and the grant holds again when it is gone",
        (event(10, "02-01", "+analytics"),),
        (
            Moment("02-02", GRANTED, "08-01"),
            Moment("02-03", SIGNAL, gpc=True),
            Moment("02-04", GRANTED, "08-01"),
            Moment("08-01", EXPIRED, ask=True),
            Moment("08-01", SIGNAL, ask=True, gpc=True),
        ),
    ),
    Scenario(
        "A GPC signal that was recorded stays a denial when it is gone",
        (event(10, "02-01", "+analytics"), event(11, "02-03", "-*", by="gpc", gpc=True)),
        (
            Moment("02-02", GRANTED, "08-01"),
            Moment("02-03", WITHDRAWN, gpc=True),
            Moment("02-04", WITHDRAWN),
            Moment("02-04", REFUSED, purpose="marketing"),
        ),
    ),
    Scenario(
        "An explicit grant while GPC is on holds against the signal until it lapses",
        (event(10, "02-01", "+analytics", gpc=True), event(11, "02-03", "-*", by="gpc", gpc=True)),
        (
            Moment("02-02", GRANTED, "08-01", gpc=True),
            Moment("02-04", GRANTED, "08-01", gpc=True),
            Moment("02-04", GRANTED, "08-01"),
            Moment("08-01", WITHDRAWN, gpc=True),
            Moment("08-01", WITHDRAWN),
            Moment("08-01", EXPIRED, ask=True, gpc=True, known=10),
        ),
    ),
    Scenario(
        "GPC denies where nobody was asked, also where the default is a grant",
        (),
        (
            Moment("02-01", DEFAULT, region="US"),
            Moment("02-01", SIGNAL, region="US", gpc=True),
            Moment("02-01", SIGNAL, ask=True, gpc=True),
        ),
    ),
)

AGEING = (
    Scenario(
        "A refusal never ages into a grant under opt-in, but is asked about again after its interval",
        (event(10, "02-01", "-analytics"),),
        (
            Moment("02-01", REFUSED),
            Moment("07-31 23:59:59.999", REFUSED),
            Moment("08-01", REFUSED, ask=True),
            Moment("2046-02-01", REFUSED, ask=True),
        ),
    ),
    Scenario(
        "A refusal never ages into the default grant under opt-out, and its interval is that of the place",
        (event(10, "02-01", "-analytics", region="US"),),
        (
            Moment("01-31", DEFAULT, region="US"),
            Moment("08-01", REFUSED, region="US"),
            Moment("2027-01-31", REFUSED, region="US"),
            Moment("2027-02-01", REFUSED, ask=True, region="US"),
            Moment("2046-02-01", REFUSED, ask=True, region="US"),
        ),
    ),
    Scenario(
        "An objection under exempt stands like a refusal",
        (event(10, "02-01", "-analytics", region="GB"),),
        (
            Moment("01-31", DEFAULT, region="GB"),
            Moment("02-01", REFUSED, region="GB"),
            Moment("2036-02-01", REFUSED, ask=True, region="GB"),
        ),
    ),
    Scenario(
        "A grant that lapses under opt-out becomes the default, which is no consent",
        (event(10, "02-01", "+analytics", region="US"),),
        (
            Moment("07-31", GRANTED, "08-01", region="US"),
            Moment("08-01", "granted expired -", ask=True, region="US"),
            Moment("08-01", SIGNAL, ask=True, region="US", gpc=True),
        ),
    ),
    Scenario(
        "A grant that lapses under opt-out over an older refusal leaves the refusal standing",
        (event(10, "01-15", "-analytics", region="US"), event(11, "02-01", "+analytics", region="US")),
        (
            Moment("01-20", REFUSED, region="US"),
            Moment("07-31", GRANTED, "08-01", region="US"),
            Moment("08-01", EXPIRED, ask=True, region="US"),
        ),
    ),
    Scenario(
        "The same choice made again renews, and the same act sent again does not",
        (
            event(10, "02-01", "+analytics", made="02-01", sent="02-01"),
            event(11, "04-01", "+analytics", made="02-01"),
            event(12, "05-01", "+analytics", made="05-01", sent="05-01"),
        ),
        (
            Moment("02-01", GRANTED, "08-01"),
            Moment("04-02", GRANTED, "08-01"),
            Moment("05-01", GRANTED, "11-01"),
            Moment("08-01", EXPIRED, ask=True, known=11),
        ),
    ),
    Scenario(
        "A dismissal grants nothing, denies nothing and keeps the question away for its own interval",
        (
            event(10, "02-01", by="consent.dismissed"),
            event(11, "03-01", "+analytics"),
            event(12, "09-10", by="consent.dismissed"),
        ),
        (
            Moment("01-31", NOT_ASKED, ask=True),
            Moment("02-01", NOT_ASKED),
            Moment("02-01", SIGNAL, gpc=True),
            Moment("02-01", DEFAULT, region="US"),
            Moment("02-07 23:59", NOT_ASKED),
            Moment("02-08", NOT_ASKED, ask=True),
            Moment("03-01", GRANTED, "09-01"),
            Moment("09-01", EXPIRED, ask=True),
            Moment("09-10", EXPIRED),
            Moment("09-17", EXPIRED, ask=True),
        ),
    ),
    Scenario(
        "A dismissal does not shorten or lengthen what a refusal keeps away",
        (event(10, "02-01", "-analytics"), event(11, "07-30", by="consent.dismissed")),
        (
            Moment("02-10", REFUSED),
            Moment("07-31", REFUSED),
            Moment("08-01", REFUSED, ask=True),
            Moment("08-01", NOT_ASKED, purpose="marketing"),
            Moment("08-06", NOT_ASKED, ask=True, purpose="marketing"),
        ),
    ),
)

PARTS = (
    Scenario(
        "An event about some purposes leaves the others as they were",
        (
            event(10, "02-01", "+analytics"),
            event(11, "02-05", "-marketing"),
            event(12, "02-10", "+marketing"),
            event(13, "02-15", "-analytics"),
        ),
        (
            Moment("02-02", NOT_ASKED, ask=True, purpose="marketing"),
            Moment("02-05", GRANTED, "08-01"),
            Moment("02-05", REFUSED, purpose="marketing"),
            Moment("02-15", WITHDRAWN),
            Moment("02-15", GRANTED, "08-10", purpose="marketing"),
        ),
    ),
    Scenario(
        "Within one event a purpose that is named overrides the denial of everything",
        (event(10, "02-01", "+analytics -*"), event(11, "02-10", "-* +marketing")),
        (
            Moment("02-01", GRANTED, "08-01"),
            Moment("02-01", REFUSED, purpose="marketing"),
            Moment("02-10", WITHDRAWN),
            Moment("02-10", GRANTED, "08-10", purpose="marketing"),
        ),
    ),
    Scenario(
        "A withdrawal of what was never granted is a refusal",
        (event(10, "02-01", "-analytics", by="withdraw"),),
        (
            Moment("01-31", NOT_ASKED, ask=True),
            Moment("02-01", REFUSED),
            Moment("02-01", NOT_ASKED, ask=True, purpose="marketing"),
            Moment("08-01", REFUSED, ask=True),
        ),
    ),
    Scenario(
        "A withdrawal of everything at once takes back each grant, and a later grant is of its purpose alone",
        (
            event(10, "02-01", "+analytics +marketing"),
            event(11, "02-05", "-*", by="withdraw"),
            event(12, "02-06", "+analytics"),
        ),
        (
            Moment("02-04", GRANTED, "08-01"),
            Moment("02-05", WITHDRAWN),
            Moment("02-05", WITHDRAWN, purpose="marketing"),
            Moment("02-05", "granted not_required -", purpose="necessary"),
            Moment("02-06", GRANTED, "08-06"),
            Moment("2027-02-05", WITHDRAWN, ask=True, purpose="marketing"),
        ),
    ),
    Scenario(
        "A choice that was the price of access is recorded as such and decides like any other",
        (event(10, "02-01", "+analytics", conditional=True), event(11, "03-01", "-analytics", conditional=True)),
        (
            Moment("02-01", GRANTED, "08-01", conditional=True),
            Moment("02-01", SIGNAL, gpc=True),
            Moment("03-01", WITHDRAWN),
        ),
    ),
    Scenario(
        "An imported choice counts at its own time, denials too, and beats nothing that came later",
        (
            event(10, "01-20", "-marketing"),
            event(11, "02-01", "+analytics +marketing", by="import", made="2025-12-01"),
            event(12, "03-01", "-analytics", by="import", made="02-15"),
            event(13, "04-01", "+analytics", by="import", made="2027-01-01"),
        ),
        (
            Moment("01-15", NOT_ASKED, ask=True, known=10),
            Moment("01-15", GRANTED, "06-01"),
            Moment("01-15", GRANTED, "06-01", purpose="marketing"),
            Moment("01-20", WITHDRAWN, purpose="marketing"),
            Moment("02-15", WITHDRAWN),
            Moment("02-15", GRANTED, "06-01", known=11),
            Moment("04-01", GRANTED, "10-01"),
        ),
    ),
)

SCENARIOS = (*CLOCKS, *SIGNALS, *AGEING, *PARTS)
