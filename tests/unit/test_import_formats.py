"""What each format's rows become: who, when, what, under which version; and that nothing becomes a grant by default."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.errors import ConfigInvalid
from ledger.importing import c15t, columns, cookiebot, didomi, onetrust
from ledger.importing.found import Format
from ledger.importing.mapping import MappingFile, SitePolicy, SitePurpose, SiteVersion, make_plan
from ledger.importing.overdue import Overdue
from ledger.importing.run import count
from ledger.importing.tally import Tally
from ledger.importing.visitor import visitor_of
from tests.importing import (
    C15T,
    C15T_MAPPING,
    COOKIEBOT,
    COOKIEBOT_MAPPING,
    DIDOMI,
    DIDOMI_MAPPING,
    KEY,
    NOW_MS,
    ONETRUST_CSV,
    ONETRUST_JSON,
    ONETRUST_MAPPING,
    OTHER,
    SITE,
    STAMP,
    VISITOR,
    events,
    read,
    told,
    wire,
)
from tests.unit.scenario import version

MAPPED = "policyVersion: '1.0'\n"
BOTH = "analytics marketing"


def test_cookiebot_rows_are_choices_of_four_categories() -> None:
    found = events(read(cookiebot.FORMAT, COOKIEBOT, COOKIEBOT_MAPPING))
    assert [wire(event) for event in found] == [
        {
            "type": "consent.given",
            "visitor": visitor_of(STAMP, SITE, None).id,
            "decisions": {"preferences": "granted", "analytics": "denied", "marketing": "granted"},
            "policyVersion": "1.0",
            "region": "DE",
            "occurredAt": "2024-05-01T10:00:00.000Z",
        },
        {
            "type": "consent.refused",
            "visitor": VISITOR,
            "decisions": {"preferences": "denied", "analytics": "denied", "marketing": "denied"},
            "policyVersion": "1.0",
            "region": "KZ",
            "occurredAt": "2024-05-02T11:30:00.000Z",
        },
    ]
    assert {event.action for event in found} == {"import"}


def test_onetrust_rows_are_answers_to_one_purpose() -> None:
    found = read(onetrust.FORMAT, ONETRUST_CSV, ONETRUST_MAPPING)
    assert told(found) == ["event", "event", "no-choice", "unknown-answer"]
    assert [wire(event) for event in events(found)] == [
        {
            "type": "consent.given",
            "visitor": visitor_of("jo.public@example.org", SITE, KEY).id,
            "decisions": {"marketing": "granted"},
            "policyVersion": "1.0",
            "language": "en-GB",
            "occurredAt": "2024-03-01T09:00:00.000Z",
        },
        {
            "type": "consent.withdrawn",
            "visitor": VISITOR,
            "decisions": {"marketing": "denied"},
            "policyVersion": "1.0",
            "language": "de",
            "occurredAt": "2024-03-02T10:00:00.000Z",
        },
    ]


def test_onetrust_receipts_hold_purposes_and_profiles_hold_purposes_with_dates_of_their_own() -> None:
    found = read(onetrust.FORMAT, json.dumps(ONETRUST_JSON), ONETRUST_MAPPING)
    assert told(found) == ["event", "test", "no-choice", "event"]
    receipt, profile = events(found)
    assert receipt.decisions == {"marketing": "granted", "analytics": "denied"}
    assert (receipt.type, receipt.occurred_at) == ("consent.given", "2024-03-01T09:00:00.000Z")
    assert (profile.type, profile.visitor, profile.decisions) == ("consent.withdrawn", OTHER, {"analytics": "denied"})
    assert profile.occurred_at == "2024-04-02T00:00:00.000Z"
    assert [outcome.row.number for outcome in found] == [1, 2, 3, 3]


def test_didomi_lines_hold_events_of_a_user() -> None:
    found = read(didomi.FORMAT, DIDOMI, DIDOMI_MAPPING)
    assert told(found) == ["event", "not-in-force", "event"]
    first, last = events(found)
    assert wire(first) == {
        "type": "consent.given",
        "visitor": VISITOR,
        "decisions": {"analytics": "granted", "marketing": "denied"},
        "policyVersion": "1.0",
        "region": "FR",
        "occurredAt": "2024-01-01T00:00:00.000Z",
    }
    assert (last.type, last.visitor, last.decisions) == (
        "consent.refused", OTHER, {"analytics": "denied", "marketing": "denied"}
    )  # fmt: skip
    assert "jo@example.org" not in (first.original or "")


def test_a_didomi_table_is_the_same_with_dots() -> None:
    table = (
        "id,user.id,created_at,status,consents.purposes\n"
        f'e-1,{VISITOR},2024-01-01T00:00:00Z,confirmed,"[{{""id"":""analytics"",""enabled"":true}}]"\n'
        f'e-2,{VISITOR},2024-01-01T00:00:00Z,confirmed,"[{{""id"":"\n'
    )
    found = read(didomi.FORMAT, table, DIDOMI_MAPPING)
    assert told(found)[0] == "event"
    assert "event" not in told(found)[1:]


def test_an_organisations_own_id_can_be_the_visitor() -> None:
    mapping = DIDOMI_MAPPING + "\ncolumns: {visitor: user.organization_user_id}"
    found = read(didomi.FORMAT, DIDOMI, mapping)
    assert told(found) == ["event", "not-in-force", "no-visitor"]
    assert events(found)[0].visitor == visitor_of("jo@example.org", SITE, KEY).id


def test_c15t_rows_list_what_was_granted() -> None:
    found = read(c15t.FORMAT, json.dumps({"subject": [], "consent": C15T}), C15T_MAPPING)
    assert told(found) == ["event", "event", "event", "no-purposes"]
    given, refused, withdrawn = events(found)
    assert (given.type, given.decisions) == ("consent.given", {"marketing": "granted", "analytics": "denied"})
    assert (refused.type, refused.decisions) == ("consent.refused", {"marketing": "denied", "analytics": "denied"})
    assert (withdrawn.type, withdrawn.occurred_at) == ("consent.withdrawn", "2024-07-01T10:00:00.000Z")
    assert withdrawn.decisions == {"marketing": "denied", "analytics": "denied"}


def test_c15t_rows_of_a_table_need_a_time_zone_for_their_timestamps() -> None:
    row = 'id,subject_id,purpose_ids,given_at,consent_action\nc,sub_4Nqz8dZk2Y6vWx3uRtAa,"[""pur_m""]",{},accept_all\n'
    table = row.format("2024-06-01 08:00:00.123")
    assert told(read(c15t.FORMAT, table, C15T_MAPPING)) == ["time-zone-missing"]
    (event,) = events(read(c15t.FORMAT, table, C15T_MAPPING, time_zone="UTC"))
    assert (event.occurred_at, event.decisions) == ("2024-06-01T08:00:00.123Z", {"marketing": "granted"})


@pytest.mark.parametrize(
    ("members", "fate"),
    [
        ({"status": "withdrawn"}, "consent.withdrawn"),
        ({"status": "expired"}, "not-in-force"),
        ({"status": "archived"}, "unknown-status"),
        ({"status": "active", "isActive": False}, "inactive"),
        ({"isActive": False}, "inactive"),
        ({"validUntil": "2025-01-01T00:00:00Z"}, "lapsed"),
        ({"validUntil": "2999-01-01T00:00:00Z"}, "consent.given"),
        ({"status": "active", "isActive": True}, "consent.given"),
        ({"purposeIds": "pur_m"}, "bad-cell"),
        ({"purposeIds": [{"name": "x"}]}, "no-purpose"),
        ({"givenAt": None}, "no-time"),
        ({"subjectId": ""}, "no-visitor"),
    ],
)
def test_only_what_plainly_stands_is_a_grant(members: dict[str, object], fate: str) -> None:
    row = {**C15T[0], "consentAction": "accept_all", **members}
    (outcome,) = read(c15t.FORMAT, json.dumps(row), C15T_MAPPING)
    assert (outcome.act.event.type if outcome.act else told([outcome])[0]) == fate


def test_a_denial_is_kept_where_the_grant_beside_it_had_lapsed() -> None:
    row = {**C15T[0], "validUntil": "2025-01-01T00:00:00Z"}
    (event,) = events(read(c15t.FORMAT, json.dumps(row), C15T_MAPPING))
    assert (event.type, event.decisions) == ("consent.refused", {"analytics": "denied"})


# --- any CSV ----------------------------------------------------------------------------------------------------------


def test_a_column_for_each_purpose_or_a_row_for_each_answer() -> None:
    wide = f"visitor,date,analytics,marketing\n{VISITOR},2024-01-01T00:00:00Z,yes,no\n"
    long = f"visitor,date,purpose,answer\n{VISITOR},2024-01-01T00:00:00Z,Analytics and performance,granted\n"
    (first,) = events(read(columns.FORMAT, wide))
    (second,) = events(read(columns.FORMAT, long))
    assert first.decisions == {"analytics": "granted", "marketing": "denied"}
    assert second.decisions == {"analytics": "granted"}


def test_several_names_of_one_purpose_grant_it_only_together() -> None:
    mapping = MAPPED + "purposes: {ads: marketing, social: marketing, all: [analytics, preferences]}"
    rows = "".join(f"{VISITOR},2024-01-0{n}T00:00:00Z,{a}\n" for n, a in enumerate(("1,1,1", "1,0,0", "1,,"), 1))
    found = events(read(columns.FORMAT, "visitor,date,ads,social,all\n" + rows, mapping))
    assert [event.decisions for event in found] == [
        {"marketing": "granted", "analytics": "granted", "preferences": "granted"},
        {"marketing": "denied", "analytics": "denied", "preferences": "denied"},
        {"marketing": "granted"},
    ]


def test_other_signals_are_taken_where_they_fit() -> None:
    table = (
        "visitor,date,analytics,lang,country,gpc,tc_string\n"
        f"{VISITOR},2024-01-01T00:00:00Z,0,pt_BR,us-ca,1,CPxx_-.A\n"
        f"{VISITOR},2024-01-02T00:00:00Z,0,not a language,Deutschland,,with blanks in it\n"
    )
    first, second = events(read(columns.FORMAT, table))
    assert (first.language, first.region, first.gpc, first.tc_string) == ("pt-BR", "US-CA", True, "CPxx_-.A")
    assert (second.language, second.region, second.gpc, second.tc_string) == (None, None, False, None)


@pytest.mark.parametrize(
    "word", ["", "maybe", "2", "n/a", "grant me", "ok", "implicit", "always active", "accepted?!x"]
)
def test_a_word_that_is_not_known_is_no_grant(word: str) -> None:
    table = f"visitor,date,analytics\n{VISITOR},2024-01-01T00:00:00Z,{word}\n"
    assert events(read(columns.FORMAT, table)) == []


@given(st.text(st.characters(codec="utf-8", exclude_characters='\r\n",'), max_size=20))
def test_no_text_becomes_a_grant_but_the_words_for_one(word: str) -> None:
    table = f"visitor,date,analytics\n{VISITOR},2024-01-01T00:00:00Z,{word}\n"
    known = {"true", "1", "yes", "granted", "accepted", "given", "optin", "optedin"}
    for event in events(read(columns.FORMAT, table)):
        if event.type == "consent.given":
            assert "".join(c for c in word.casefold() if c.isalnum()) in known


def test_required_purposes_are_not_asked() -> None:
    table = f"visitor,date,necessary\n{VISITOR},2024-01-01T00:00:00Z,whatever\n"
    assert told(read(columns.FORMAT, table)) == ["nothing-asked"]


# --- versions, names, ids ---------------------------------------------------------------------------------------------


def test_a_grant_needs_a_version_of_ours_and_a_denial_does_not() -> None:
    table = (
        "visitor,date,analytics,version\n"
        f"{VISITOR},2024-01-01T00:00:00Z,1,7\n{VISITOR},2024-01-02T00:00:00Z,0,7\n{VISITOR},2024-01-03T00:00:00Z,1,8\n"
    )
    found = read(columns.FORMAT, table, "policyVersion: {'8': '1.0'}")
    assert told(found) == ["no-policy-version", "event", "event"]
    assert [event.policy_version for event in events(found)] == [None, "1.0"]
    assert told(read(columns.FORMAT, table, "{}", policy_version="1.0")) == ["event"] * 3


def test_a_name_that_is_mapped_nowhere_stops_the_row() -> None:
    assert told(read(cookiebot.FORMAT, COOKIEBOT)) == ["unmapped-purpose"] * 2
    assert told(read(cookiebot.FORMAT, COOKIEBOT, MAPPED + "ignore: [statistics]")) == ["event"] * 2


@pytest.mark.parametrize(
    "mapping",
    [
        "purposes: {a: no_such}",
        "purposes: {a: []}",
        "purposes: 5",
        "columns: {wrong: a}",
        "timeZone: Mars/Base",
        "answers: {maybe: [x]}",
        "colums: {}",
        "a: &x b",
        "visitor: plain",
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(mapping: str) -> None:
    with pytest.raises(ConfigInvalid):
        read(columns.FORMAT, "visitor,date,analytics\n", mapping)


@pytest.mark.parametrize(
    ("form", "header"),
    [
        (columns.FORMAT, "name,analytics"),
        (columns.FORMAT, "visitor,date,unheard of"),
        (cookiebot.FORMAT, "Consent ID,Date,Country"),
        (cookiebot.FORMAT, "Date,Marketing"),
        (onetrust.FORMAT, "Identifier,Interaction Date,Purpose"),
        (c15t.FORMAT, "id,subjectId,givenAt"),
        (columns.FORMAT, "visitor,date,analytics,Analytics"),
    ],
)
def test_a_table_without_what_every_row_needs_is_refused_whole(form: Format, header: str) -> None:
    with pytest.raises(ConfigInvalid):
        read(form, header + "\n" + "x," * header.count(",") + "x\n")


def test_the_same_row_has_the_same_id_however_it_is_written() -> None:
    csv = f"visitor,date,analytics,page\n{VISITOR},2024-01-01T00:00:00Z,yes,a\n"
    again = f'"page";"visitor";"analytics";"date"\r\n"b";"{VISITOR}";"TRUE";"2024-01-01T00:00:00Z"\r\n'
    changed = csv.replace("yes", "no")
    first, second, third = (events(read(columns.FORMAT, text))[0] for text in (csv, again, changed))
    assert first.id == second.id
    assert first.id != third.id
    assert first.id is not None
    assert first.id[14] == "8"
    assert events(read(columns.FORMAT, csv, MAPPED + "purposes: {analytics: marketing}"))[0].id == first.id
    assert events(read(columns.FORMAT, csv, MAPPED + "attempt: '2'"))[0].id != first.id


# --- visitors ---------------------------------------------------------------------------------------------------------


def test_what_could_be_guessed_is_stored_as_a_keyed_hash_and_nowhere_else() -> None:
    table = "visitor,date,analytics\n{0},2024-01-01T00:00:00Z,1\n"
    for raw in ("jo@example.org", "4711", "+7 707 762 8700", "jo", "0123456789012345678901234567890123456789" * 2):
        assert told(read(columns.FORMAT, table.format(raw), visitor_key=None)) == ["visitor-key-missing"]
        (event,) = events(read(columns.FORMAT, table.format(raw)))
        assert len(event.visitor) == 43
        assert raw not in (event.original or "")
        other = events(read(columns.FORMAT, table.format(raw), visitor_key=bytes(32)))[0]
        assert other.visitor != event.visitor
        assert other.id != event.id


def test_ids_that_fit_are_kept_unless_the_mapping_says_otherwise() -> None:
    table = f"visitor,date,analytics\n{VISITOR},2024-01-01T00:00:00Z,1\n"
    assert events(read(columns.FORMAT, table))[0].visitor == VISITOR
    (keyed,) = events(read(columns.FORMAT, table, MAPPED + "visitor: keyed"))
    assert keyed.visitor != VISITOR
    assert VISITOR not in (keyed.original or "")


def test_a_withdrawal_takes_back_what_its_row_lists_and_no_more() -> None:
    row = {**C15T[2], "purposeIds": ["pur_m"]}
    (event,) = events(read(c15t.FORMAT, json.dumps(row), C15T_MAPPING))
    assert (event.type, event.decisions) == ("consent.withdrawn", {"marketing": "denied"})


def test_a_title_that_two_purposes_share_names_neither() -> None:
    policy = SitePolicy(SITE, SiteVersion("1.0"), {name: SitePurpose({"en": "Extras"}) for name in ("a", "b")})
    plan = make_plan(
        MappingFile(),
        policy,
        format_name="csv",
        words={},
        never_asked=(),
        policy_version="1.0",
        time_zone=None,
        visitor_key=None,
        now_ms=0,
    )
    assert set(plan.purposes) == {"a", "b"}


@pytest.mark.parametrize(
    ("counted", "due"),
    [("act", [BOTH, "marketing", "", "", BOTH]), ("end", [BOTH, "", "", "", BOTH])],
    ids=["counted from the act", "counted from its end"],
)
def test_what_is_older_than_the_site_keeps_records_is_told_by_purpose(counted: str, due: list[str]) -> None:
    kept = version("1", "2020-01-01", recordRetention="P1Y", recordRetentionCounted=counted).document
    table = (
        "visitor,date,analytics,marketing\n"
        f"{VISITOR},2024-05-01T00:00:00Z,granted,granted\n"
        f"{VISITOR},2025-07-01T00:00:00Z,,denied\n"
        f"{VISITOR},2026-05-01T00:00:00Z,granted,denied\n"
        f"{VISITOR},2026-06-01T00:00:00Z,granted,granted\n"
        f"{VISITOR},2024-06-01T00:00:00Z,granted,granted\n"
    )
    found = read(columns.FORMAT, table, MAPPED, overdue=Overdue(kept, NOW_MS))
    assert [" ".join(one.act.overdue) for one in found if one.act is not None] == due
    tally = Tally()
    for one in found:
        count(tally, one)
    assert any("retention would erase them next  " in line for line in tally.lines(sent=False))
    forever = Overdue(version("1", "2020-01-01").document, NOW_MS)
    assert not any(one.act.overdue for one in read(columns.FORMAT, table, MAPPED, overdue=forever) if one.act)


def test_json_may_begin_with_a_byte_order_mark() -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        assert told(read(didomi.FORMAT, DIDOMI.encode(encoding), DIDOMI_MAPPING))[0] == "event"


_KEYS = st.sampled_from(
    ["id", "user", "user.id", "events", "created_at", "status", "consents", "purposes", "enabled", "disabled",
     "consent", "identifier", "interactionDate", "transactionType", "name", "expiryDate", "test", "subjectId",
     "givenAt", "isActive", "purposeIds", "consentAction", "validUntil", "type", "code", "lastTransactionDate"]
)  # fmt: skip
_CELLS = st.sampled_from(
    [None, True, False, 0, 1.5, "", VISITOR, "analytics", "marketing", "2024-01-01T00:00:00Z", "2024-01-01",
     "CONFIRMED", "withdrawn", "confirmed", "custom", "[]", "{", "\x00", "jo@example.org"]
)  # fmt: skip
_VALUES = st.recursive(
    _CELLS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=6), max_leaves=12
)


@pytest.mark.parametrize("form", [onetrust.FORMAT, didomi.FORMAT, c15t.FORMAT], ids=lambda form: form.name)
@given(rows=st.lists(st.dictionaries(_KEYS, _VALUES, min_size=2), min_size=1, max_size=3))
def test_whatever_an_object_holds_it_is_an_event_or_refused(form: Format, rows: list[dict[str, object]]) -> None:
    found = read(form, "\n".join(map(json.dumps, rows)))
    assert "?" not in told(found)
    for event in events(found):
        assert event.decisions
        assert event.action == "import"
