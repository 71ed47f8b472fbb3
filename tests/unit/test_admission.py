"""Which events are admitted, and what is stored of them: one table, and the few rules that span its rows."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import msgspec
import pytest

from ledger.core.admission import Admission, Clock, Sender, admit, normalize
from ledger.core.document import Notice, Purpose
from ledger.core.encoding import decode_time, encode_time
from ledger.core.errors import InputRefused
from ledger.core.event import Event, EventInput, InputType, decode_payload, encode_content, encode_payload
from ledger.core.policy import PolicyHistory, Published, parse_site_document

SITE = "site.example"
ID, DENIALS_ID = "01926e7c-8c00-7000-8000-000000000001", "01926e7c-8c00-8000-8000-000000000002"
NOW = "2026-06-01T12:00:00.000Z"
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
CLOCK = Clock(decode_time(NOW), max_age_ms=7 * DAY_MS, max_ahead_ms=5 * MINUTE_MS)
SHOWN, ACCEPTED, NEVER_SHOWN = "ab" * 32, "cd" * 32, "ef" * 32
ACCOUNT = "0a" * 16

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
ACCEPTANCE = Purpose(title={"en": "t"}, description={"en": "t"}, kind="acceptance", document=ACCEPTED)
NOTICE = Notice(document=SHOWN, media_type="application/json")


def published(seq: int, at: str, version: str, effective: str, last: str) -> Published:
    document = parse_site_document(DOCUMENT.format(version=version, effective=effective, last=last).encode())
    if version == "2.0":
        purposes = {**document.purposes, "terms": ACCEPTANCE}
        document = msgspec.structs.replace(document, purposes=purposes, notices={"banner": NOTICE})
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


def event(kind: InputType, **changes: Any) -> EventInput:
    return msgspec.structs.replace(EventInput(type=kind, visitor="v" * 22), **changes)


def judge(
    event: EventInput, *, trusted: bool = False, account: str | None = None, policies: PolicyHistory = POLICIES
) -> Admission:
    return admit(
        normalize(event),
        event_id=ID,
        denials_id=lambda: DENIALS_ID,
        site=SITE,
        policies=policies,
        clock=CLOCK,
        sender=Sender(trusted, account),
    )


class Row(NamedTuple):
    """`kind` and `pointer` of the refusal; admitted where `kind` is empty."""

    what: str
    event: EventInput
    kind: str = ""
    pointer: str | None = None
    trusted: bool = False
    account: str | None = None


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
    Row("an import with its row", given(action="import", original="a;b", occurred_at=after(days=-9)), trusted=True),
    Row("a page load told by a backend", given(action="api"), trusted=True),
    Row("a signal told by a backend", given(action="gpc"), trusted=True),
    Row("a guardian's", given(action="guardian"), trusted=True),
    Row("a linked visitor's for the account", given(scope="account"), account=ACCOUNT),
    Row("a wall's", given(conditional=True, tc_string="CPXxRfAPXxRfA", gpp_string="DBABMA~CPXxRfA", gpc=True)),
    Row("of a document that was shown", given(decisions={"terms": "granted"}, policy_version="2.0", shown=ACCEPTED)),
    Row("by a page load", given(action="api"), "visitor-act-needed", "/action"),
    Row("by a signal", given(action="gpc"), "visitor-act-needed", "/action"),
    Row("by closing the question", given(action="dismiss"), "visitor-act-needed", "/action"),
    Row("by a backend closing the question", given(action="dismiss"), "visitor-act-needed", "/action", trusted=True),
    Row("a guardian's by a browser", given(action="guardian"), "secret-key-needed", "/action"),
    Row("for an account without one", given(scope="account"), "not-linked", "/scope"),
    Row("for an account without one, by a backend", given(scope="account"), "not-linked", "/scope", trusted=True),
    Row("for an account of its own naming", given(scope="account", account="x"), "invalid-event", "/account"),
    Row(
        "of a document without showing it",
        given(decisions={"terms": "granted"}, policy_version="2.0"),
        "document-not-shown",
        "/shown",
    ),
    Row(
        "of a document while showing another",
        given(decisions={"analytics": "granted", "terms": "granted"}, policy_version="2.0", shown=SHOWN),
        "document-not-shown",
        "/shown",
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
    Row("a document never published", given(shown=NEVER_SHOWN), "unknown-document", "/shown"),
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
    Row("an import of no time", given(action="import"), "invalid-event", "/occurredAt", trusted=True),
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
    Row("refused without a purpose", denied(decisions={}), "invalid-event", "/decisions"),
    Row("withdrawn without a purpose", denied(type="consent.withdrawn", decisions={}), "invalid-event", "/decisions"),
    Row("given without a purpose", given(decisions={}), "invalid-event", "/decisions"),
    Row("given without an action", given(action=None), "invalid-event", "/action"),
    Row("refused without an action", denied(action=None), "invalid-event", "/action"),
    Row("a row of an export beside no import", given(original="a;b"), "invalid-event", "/original", trusted=True),
    Row("a row of an export by a browser", denied(action="import", original="a"), "secret-key-needed", "/action"),
    Row(
        "dismissed with decisions", event("consent.dismissed", decisions={"a": "denied"}), "invalid-event", "/decisions"
    ),
    Row("dismissed by another act", event("consent.dismissed", action="withdraw"), "invalid-event", "/action"),
    Row("dismissed for an account", event("consent.dismissed", scope="account"), "invalid-event", "/scope"),
    Row("dismissed with an account", event("consent.dismissed", account="a"), "invalid-event", "/account"),
    Row("seen with decisions", event("notice.seen", decisions={"a": "granted"}), "invalid-event", "/decisions"),
    Row("seen with an action", event("notice.seen", action="dismiss"), "invalid-event", "/action"),
    Row("linked to nothing", event("account.linked"), "invalid-event", "/account", trusted=True),
    Row("unlinked from nothing", event("account.unlinked"), "invalid-event", "/account", trusted=True),
    Row("linked by a browser", event("account.linked", account="a"), "secret-key-needed", "/type"),
    Row("unlinked by a browser", event("account.unlinked", account="a"), "secret-key-needed", "/type"),
    Row(
        "linked with decisions",
        event("account.linked", account="a", decisions={"a": "denied"}),
        "invalid-event",
        "/decisions",
        trusted=True,
    ),
    Row("linked with an action", event("account.linked", account="a", action="api"), "invalid-event", "/action", True),
    Row(
        "linked as a wall",
        event("account.linked", account="a", conditional=True),
        "invalid-event",
        "/conditional",
        True,
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
    "shown": [None, SHOWN, ACCEPTED, NEVER_SHOWN],
    "action": ["only_necessary", "api", "gpc", "dismiss", "guardian"],
    "scope": [
        ("device", None, None),
        ("account", None, None),
        ("account", "named", ACCOUNT),
        ("device", "named", None),
    ],
}


@pytest.mark.parametrize("row", GRANTS, ids=lambda row: row.what)
def test_a_grant_has_to_be_right_in_version_purpose_and_clock(row: Row) -> None:
    admission = judge(row.event, trusted=row.trusted, account=row.account)
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
    admission = judge(event, trusted=row.trusted, account=row.account)
    assert admission.refusal is not None
    assert (admission.refusal.kind, admission.refusal.pointer) == (row.kind, row.pointer)
    assert admission.event is not None
    assert (admission.event.id, admission.event.type) == (DENIALS_ID, "consent.refused")
    assert admission.event.decisions == denials
    assert admission.event.action == row.event.action
    assert decode_payload(encode_payload(admission.event), Event) == admission.event


def test_a_purpose_that_a_version_removed_is_not_told_among_those_that_it_has() -> None:
    before = published(1, "2026-01-01T00:00:00.000Z", "5.0", "2026-01-01", "video")
    video = msgspec.structs.replace(before.document.purposes["video"], removed_in="5.0")
    document = msgspec.structs.replace(before.document, purposes={**before.document.purposes, "video": video})
    event = given(decisions={"video": "granted"}, policy_version="5.0")
    refusal = judge(event, policies=PolicyHistory((before._replace(document=document),))).refusal
    assert refusal is not None
    assert refusal.detail.endswith("; it has necessary, analytics.")


@pytest.mark.parametrize("row", FORMS, ids=lambda row: row.what)
def test_an_event_that_contradicts_itself_is_refused_whole(row: Row) -> None:
    with pytest.raises(InputRefused) as refused:
        judge(row.event, trusted=row.trusted, account=row.account)
    assert (refused.value.kind, refused.value.pointer) == (row.kind, row.pointer)


@pytest.mark.parametrize("kind", ["consent.refused", "consent.withdrawn"])
def test_a_denial_is_admitted_whatever_it_cites_and_whatever_its_clock_says(kind: str) -> None:
    for version, decisions, (occurred, sent), shown, action, (scope, account, linked) in itertools.product(
        *ODD.values()
    ):
        event = denied(
            type=kind,
            policy_version=version,
            decisions=decisions,
            occurred_at=occurred,
            sent_at=sent,
            shown=shown,
            action=action,
            scope=scope,
            account=account,
        )
        admission = judge(event, account=linked)
        assert admission.refusal is None
        stored = admission.event
        assert stored is not None
        assert (stored.id, stored.type, stored.decisions) == (ID, kind, decisions)
        # What was never published is kept as what was cited, so that it is never taken for a version or a document.
        assert (stored.policy_version or stored.cited_policy_version) == version
        assert (stored.policy_version is not None) == (version in ("1.0", "4.0"))
        assert (stored.shown, stored.cited_shown) == ((None, shown) if shown == NEVER_SHOWN else (shown, None))
        # It is a device's where there is no account to hold it.
        assert stored.account == (linked if scope == "account" else None)
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


UNDECIDED = [
    Row("dismissed", event("consent.dismissed")),
    Row("dismissed by name", event("consent.dismissed", action="dismiss", conditional=True, gpc=True)),
    Row("dismissed elsewhere", event("consent.dismissed", action="import", original="x"), trusted=True),
    Row("seen", event("notice.seen", tc_string="CPXxRfA")),
    Row("linked", event("account.linked", account=ACCOUNT), trusted=True),
    Row("linked anew", event("account.linked", account=ACCOUNT), trusted=True, account="0b" * 16),
    Row("unlinked", event("account.unlinked", account=ACCOUNT), trusted=True, account=ACCOUNT),
    Row("unlinked from what it was not linked to", event("account.unlinked", account=ACCOUNT), trusted=True),
]


@pytest.mark.parametrize("row", UNDECIDED, ids=lambda row: row.what)
@pytest.mark.parametrize("shown", [SHOWN, NEVER_SHOWN], ids=["shown", "never shown"])
def test_what_decides_nothing_is_stored_as_it_came_and_with_what_it_cites(row: Row, shown: str) -> None:
    told = msgspec.structs.replace(row.event, policy_version="?", shown=shown, language="kk", component="settings")
    stored = judge(told, trusted=row.trusted, account=row.account).event
    assert stored is not None
    assert (stored.type, stored.decisions, stored.account) == (row.event.type, {}, row.event.account)
    assert stored.action == (row.event.action or "dismiss" if row.event.type == "consent.dismissed" else None)
    assert (stored.language, stored.component, stored.cited_policy_version) == ("kk", "settings", "?")
    assert (stored.shown or stored.cited_shown, stored.shown is None) == (shown, shown == NEVER_SHOWN)
    assert decode_payload(encode_payload(stored), Event) == stored


@pytest.mark.parametrize("time", ["2001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z"])
@pytest.mark.parametrize("row", UNDECIDED, ids=lambda row: row.what)
def test_of_what_decides_nothing_only_a_link_is_refused_for_its_clock(row: Row, time: str) -> None:
    admission = judge(msgspec.structs.replace(row.event, occurred_at=time), trusted=row.trusted, account=row.account)
    assert (admission.event is None) == (admission.refusal is not None) == (row.event.type == "account.linked")


def test_the_end_of_a_link_that_another_has_ended_is_refused_for_it_would_end_that_one() -> None:
    admission = judge(event("account.unlinked", account=ACCOUNT), trusted=True, account="0b" * 16)
    assert admission.event is None
    assert admission.refusal is not None
    assert (admission.refusal.kind, admission.refusal.pointer) == ("not-linked", "/account")


def test_a_dismissal_that_names_its_action_has_the_content_of_one_that_does_not() -> None:
    named, unnamed = (normalize(event("consent.dismissed", action=action)).event for action in ("dismiss", None))
    assert encode_content(named) == encode_content(unnamed)


@pytest.mark.parametrize(("trusted", "told"), [(True, "secret"), (False, "publishable")])
def test_what_an_event_was_authenticated_with_is_stored(trusted: bool, told: str) -> None:
    for sent in (given(), denied(), event("notice.seen")):
        stored = judge(sent, trusted=trusted).event
        assert stored is not None
        assert stored.authentication == told


def test_where_the_region_is_not_believed_the_one_that_the_server_found_is_stored() -> None:
    for trusted, region in ((False, "DE"), (True, "KZ")):
        stored = admit(
            normalize(given(region="KZ")),
            event_id=ID,
            denials_id=lambda: DENIALS_ID,
            site=SITE,
            policies=POLICIES,
            clock=CLOCK,
            sender=Sender(trusted, region="DE"),
        ).event
        assert stored is not None
        assert stored.region == region


@pytest.mark.parametrize(("account", "kept"), [(ACCOUNT, ACCOUNT), (None, None)], ids=["linked", "not linked"])
def test_the_denials_of_a_refused_choice_for_an_account_are_the_accounts_where_there_is_one(
    account: str | None, kept: str | None
) -> None:
    event = given(scope="account", decisions={"analytics": "denied", "x": "granted"})
    admission = judge(event, account=account)
    assert admission.refusal is not None
    assert admission.event is not None
    assert (admission.event.type, admission.event.account) == ("consent.refused", kept)
