"""The page of a person: nothing in it becomes markup, it says the same in three languages, and its words are there."""

from __future__ import annotations

import re

import msgspec
import pytest

from ledger.core.event import Event
from ledger.http import person_page
from ledger.messages import Consent, PurposeDecision, Receipt
from ledger.person import FORMAT
from ledger.person_messages import PersonEvent, PersonExport
from ledger.records.person_terms import KINDS, PERSON, STATES
from ledger.requests.messages import RequestStatus

TIME = "2026-11-21T03:00:00.000Z"
ID = "01980000-0000-7000-8000-000000000001"
EVENT = Event(
    id=ID,
    site="s.example",
    type="consent.given",
    visitor="v" * 22,
    decisions={"analytics": "granted"},
    action="customize",
    cited_policy_version="<b>",
    language="ru",
)
EXPORT = PersonExport(
    format=FORMAT,
    site="s.example",
    visitor="v" * 22,
    exported_at=TIME,
    log_id="0" * 64,
    log_vkey="s.example+00+</textarea><script>alert(1)</script>",
    consent=Consent(
        "s.example", "v" * 22, "s.example:2", {"analytics": PurposeDecision("granted", "granted", False, False)}
    ),
    requests=[RequestStatus("s.example", ID, "access", "answered", TIME, TIME, "0" * 64)],
    events=[
        PersonEvent(2, TIME, EVENT, Receipt(ID, "s.example", 2, TIME, "00", "AA==", "AA==", "AA==", "s.example:2"))
    ],
)


@pytest.mark.parametrize("language", ["en", "ru", "kk"])
def test_the_page_says_everything_in_the_language_asked_for(language: str) -> None:
    page = person_page.of(EXPORT, None, language).decode()
    place = ("en", "ru", "kk").index(language)
    assert f'<html lang="{language}">' in page
    for told in (PERSON["title"], PERSON["now"], PERSON["requests"], KINDS["access"], STATES["answered"]):
        assert told[place] in page
    assert PERSON["restrictions"][place] not in page  # there was none
    assert 'data-seq="2"' in page


def test_the_visitors_own_language_is_taken_where_none_is_asked_for() -> None:
    assert '<html lang="ru">' in person_page.of(EXPORT, None, None).decode()


def test_nothing_in_it_becomes_markup_and_it_may_open_no_connection() -> None:
    page = person_page.of(EXPORT, None, "en").decode()
    assert "<script>alert" not in page
    assert "<b>" not in page
    assert "connect-src 'none'" in page
    assert re.search(r'(?:src|href)="(?:https?:|/)', page) is None


def test_the_data_in_it_is_the_export() -> None:
    page = person_page.of(EXPORT, None, "en").decode()
    held = re.search(r'<pre id="export">(.*?)</pre>', page, re.DOTALL)
    assert held is not None
    text = held[1]
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#x27;", "'"), ("&amp;", "&")):
        text = text.replace(entity, sign)
    assert msgspec.json.decode(text, type=PersonExport) == EXPORT


def test_the_script_finds_every_word_that_it_uses() -> None:
    page = person_page.of(EXPORT, None, "en").decode()
    used = set(re.findall(r"words\.([a-z_]+)", page)) | {"ok", "broken", "not_checked"}
    block = re.search(r'<script type="application/json" id="words">(.*?)</script>', page)
    assert block is not None
    assert used <= set(msgspec.json.decode(block[1]))
