"""Which events are admitted, and what is stored of them: one table, and the few rules that span its rows."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import msgspec
import pytest

from ledger.core.admission import Admission, Clock, admit, normalize
from ledger.core.encoding import decode_time, encode_time
from ledger.core.errors import InputRefused
from ledger.core.event import Event, EventInput, decode_payload, encode_payload
from ledger.core.policy import PolicyHistory, Published, parse_site_document

SITE = "site.example"
ID, DENIALS_ID = "01926e7c-8c00-7000-8000-000000000001", "01926e7c-8c00-8000-8000-000000000002"
NOW = "2026-06-01T12:00:00.000Z"
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
CLOCK = Clock(decode_time(NOW), max_age_ms=7 * DAY_MS, max_ahead_ms=5 * MINUTE_MS)
SHOWN = "ab" * 32

DOCUMENT = """
site: site.example
controller: {{name: c, email: c@site.example}}
languages: [en]
origins: [https://site.example]
policy: {{version: "{version}", effectiveAt: {effective}, url: https://site.example/}}
regimes: {{default: opt-in}}
renewAfter: P12M
purposes:
  necessary: {{required: true, title: {{en: n}}, description: {{en: n}}}}
  analytics: {{title: {{en: a}}, description: {{en: a}}}}
  {last}: {{title: {{en: l}}, description: {{en: l}}}}
"""


def published(seq: int, at: str, version: str, effective: str, last: str) -> Published:
    document = parse_site_document(DOCUMENT.format(version=version, effective=effective, last=last).encode())
    return Published(seq, decode_time(at), bytes(32), document)


POLICIES = PolicyHistory(
    (
        published(1, "2026-01-01T00:00:00.000Z", "1.0", "2026-01-01", "video"),
        published(5, "2026-05-01T00:00:00.000Z", "2.0", "2026-01-01", "marketing"),
        published(9, "2026-06-01T12:00:00.000Z", "3.0", "2026-06-01", "marketing"),
        published(11, "2026-06-01T12:00:00.000Z", "4.0", "2026-07-01", "marketing"),
    )
)


def after(**by: float) -> str:
    """A time so many days, minutes or ms after now."""
    ms = by.get("days", 0) * DAY_MS + by.get("minutes", 0) * MINUTE_MS + by.get("ms", 0)
    return encode_time(CLOCK.now_ms + int(ms))


def given(**changes: Any) -> EventInput:
    event = EventInput(
        type="consent.given",
        visitor="v" * 22,
        decisions={"analytics": "granted"},
        action="customize",
        policy_version="1.0",
    )
    return msgspec.structs.replace(event, **changes)


def denied(**changes: Any) -> EventInput:
    event = EventInput(
        type="consent.refused", visitor="v" * 22, decisions={"analytics": "denied"}, action="only_necessary"
    )
    return msgspec.structs.replace(event, **changes)


def judge(event: EventInput, *, trusted: bool = False, shown_published: bool = True) -> Admission:
    return admit(
        normalize(event),
        event_id=ID,
        denials_id=lambda: DENIALS_ID,
        site=SITE,
        policies=POLICIES,
        clock=CLOCK,
        trusted=trusted,
        shown_published=shown_published,
    )


class Row(NamedTuple):
    """`kind` and `pointer` of the refusal; admitted where `kind` is empty."""

    what: str
    event: EventInput
    kind: str = ""
    pointer: str | None = None
    trusted: bool = False
    shown_published: bool = True


GRANTS = [
    Row("the version in force", given(policy_version="2.0")),
    Row("an older version", given()),
    Row("a version in force since this very millisecond", given(policy_version="3.0")),
    Row("a required purpose", given(decisions={"necessary": "granted"})),
    Row("a purpose that the cited version had", given(decisions={"video": "granted"})),
    Row("no clock", given()),
    Row("five minutes ahead", given(occurred_at=after(minutes=5))),
    Row("seven days old", given(occurred_at=after(days=-7))),
    Row(
        "a clock years off that knows its age",
        given(occurred_at="2001-01-01T00:00:00Z", sent_at="2001-01-08T00:00:00Z"),
    ),
    Row("sent before it occurred", given(occurred_at=after(minutes=5), sent_at=after())),
    Row("only sent", given(sent_at="2001-01-01T00:00:00Z")),
    Row("a published document", given(shown=SHOWN)),
    Row("an old import", given(action="import", occurred_at="2001-01-01T00:00:00Z"), trusted=True),
    Row(
        "an import whose sender's clock is off",
        given(action="import", occurred_at=after(days=-90), sent_at=after(days=90)),
        trusted=True,
    ),
    Row("no version", given(policy_version=None), "policy-version-missing", "/policyVersion"),
    Row("a version never published", given(policy_version="9"), "unknown-policy-version", "/policyVersion"),
    Row("a version not in force yet", given(policy_version="4.0"), "policy-not-in-force", "/policyVersion"),
    Row("a purpose never offered", given(decisions={"x": "granted"}), "unknown-purpose", "/decisions/x"),
    Row(
        "a purpose of another version",
        given(decisions={"marketing": "granted"}),
        "unknown-purpose",
        "/decisions/marketing",
    ),
    Row(
        "a purpose no longer offered",
        given(decisions={"video": "granted"}, policy_version="2.0"),
        "unknown-purpose",
        "/decisions/video",
    ),
    Row("everything", given(decisions={"*": "granted"}), "invalid-event", "/decisions/*"),
    Row("a document never published", given(shown=SHOWN), "unknown-document", "/shown", shown_published=False),
    Row("too far ahead", given(occurred_at=after(minutes=5, ms=1)), "grant-in-the-future", "/occurredAt"),
    Row("too old", given(occurred_at=after(days=-7, ms=-1)), "grant-too-old", "/occurredAt"),
    Row("2001", given(occurred_at="2001-01-01T00:00:00Z"), "grant-too-old", "/occurredAt"),
    Row("9999", given(occurred_at="9999-12-31T23:59:59Z"), "grant-in-the-future", "/occurredAt"),
    Row(
        "too old by its own clock",
        given(occurred_at=after(days=-1), sent_at=after(days=6, ms=1)),
        "grant-too-old",
        "/occurredAt",
    ),
    Row(
        "ahead by its own clock",
        given(occurred_at=after(), sent_at=after(minutes=-5, ms=-1)),
        "grant-in-the-future",
        "/occurredAt",
    ),
    Row(
        "an import from the future",
        given(action="import", occurred_at=after(minutes=6), sent_at=after(minutes=6)),
        "grant-in-the-future",
        "/occurredAt",
        trusted=True,
    ),
]

FORMS = [
    Row("given without a grant", given(decisions={"analytics": "denied"}), "invalid-event", "/decisions"),
    Row("refused with a grant", denied(decisions={"analytics": "granted"}), "invalid-event", "/decisions"),
    Row(
        "withdrawn with a grant",
        denied(type="consent.withdrawn", decisions={"a": "denied", "analytics": "granted"}),
        "invalid-event",
        "/decisions",
    ),
    Row("a grant imported by a browser", given(action="import"), "secret-key-needed", "/action"),
    Row("a denial imported by a browser", denied(action="import"), "secret-key-needed", "/action"),
]

ODD = {
    "policy_version": [None, "1.0", "4.0", "9", "?", "x" * 64],
    "decisions": [
        {"analytics": "denied"},
        {"never-offered": "denied"},
        {"*": "denied"},
        {"*": "denied", "x": "denied"},
    ],
    "clock": [(None, None), ("2001-01-01T00:00:00Z", None), ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z")],
    "shown": [None, SHOWN],
}


@pytest.mark.parametrize("row", GRANTS, ids=lambda row: row.what)
def test_a_grant_has_to_be_right_in_version_purpose_and_clock(row: Row) -> None:
    admission = judge(row.event, trusted=row.trusted, shown_published=row.shown_published)
    if row.kind:
        assert admission.event is None
        assert admission.refusal is not None
        assert (admission.refusal.kind, admission.refusal.pointer) == (row.kind, row.pointer)
    else:
        assert admission.refusal is None
        assert admission.event is not None
        assert (admission.event.id, admission.event.decisions) == (ID, row.event.decisions)
        assert decode_payload(encode_payload(admission.event), Event) == admission.event


@pytest.mark.parametrize("row", [row for row in GRANTS if row.kind], ids=lambda row: row.what)
def test_the_denials_beside_a_refused_grant_are_kept_under_an_id_of_their_own(row: Row) -> None:
    denials = (
        {"kept": "denied", "analytics": "denied"} if "analytics" not in row.event.decisions else {"kept": "denied"}
    )
    event = msgspec.structs.replace(row.event, decisions={**row.event.decisions, **denials}, region="KZ")
    admission = judge(event, trusted=row.trusted, shown_published=row.shown_published)
    assert admission.refusal is not None
    assert (admission.refusal.kind, admission.refusal.pointer) == (row.kind, row.pointer)
    assert admission.event is not None
    assert (admission.event.id, admission.event.type) == (DENIALS_ID, "consent.refused")
    assert admission.event.decisions == denials
    assert admission.event.action == row.event.action
    assert decode_payload(encode_payload(admission.event), Event) == admission.event


@pytest.mark.parametrize("row", FORMS, ids=lambda row: row.what)
def test_an_event_that_contradicts_itself_is_refused_whole(row: Row) -> None:
    with pytest.raises(InputRefused) as refused:
        judge(row.event)
    assert (refused.value.kind, refused.value.pointer) == (row.kind, row.pointer)


@pytest.mark.parametrize("kind", ["consent.refused", "consent.withdrawn"])
def test_a_denial_is_admitted_whatever_it_cites_and_whatever_its_clock_says(kind: str) -> None:
    for version, decisions, (occurred, sent), shown in itertools.product(*ODD.values()):
        for shown_published in (True, False):
            event = denied(
                type=kind,
                policy_version=version,
                decisions=decisions,
                occurred_at=occurred,
                sent_at=sent,
                shown=shown,
            )
            admission = judge(event, shown_published=shown_published)
            assert admission.refusal is None
            stored = admission.event
            assert stored is not None
            assert (stored.id, stored.type, stored.decisions) == (ID, kind, decisions)
            # What was never published is kept as what was cited, so that it is never taken for a version or a document.
            assert (stored.policy_version or stored.cited_policy_version) == version
            assert (stored.policy_version is not None) == (version in ("1.0", "4.0"))
            assert (stored.shown, stored.cited_shown) == ((shown, None) if shown_published else (None, shown))
            assert decode_payload(encode_payload(stored), Event) == stored


@pytest.mark.parametrize("event", [given(region="KZ"), denied(region="KZ")], ids=["grant", "denial"])
def test_a_region_is_believed_from_secret_keys_alone(event: EventInput) -> None:
    regions = [admission.event and admission.event.region for admission in (judge(event), judge(event, trusted=True))]
    assert regions == [None, "KZ"]


def test_times_are_stored_in_the_one_encoding() -> None:
    stored = judge(denied(occurred_at="2026-06-01t13:00:00.12345+01:00", sent_at="2026-06-01T12:00:00Z")).event
    assert stored is not None
    assert (stored.occurred_at, stored.sent_at) == ("2026-06-01T12:00:00.123Z", "2026-06-01T12:00:00.000Z")


@pytest.mark.parametrize("name", ["occurred_at", "sent_at"])
@pytest.mark.parametrize(
    "time",
    [
        "2026-02-30T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "+012026-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-06-01T12:00:00",
    ],
)
def test_a_time_outside_the_calendar_refuses_grants_alone(name: str, time: str) -> None:
    """A denial is recorded without it, and so counts when it is recorded."""
    stored = judge(denied(**{name: time})).event
    assert stored is not None
    assert (stored.occurred_at, stored.sent_at) == (None, None)
    refusal = judge(given(**{name: time})).refusal
    assert refusal is not None
    assert refusal.pointer == {"occurred_at": "/occurredAt", "sent_at": "/sentAt"}[name]
