"""The printed record: every text in every language, nothing of a policy or an event as markup, and what K1 names."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger
from ledger.core.decide import Reason
from ledger.core.document import LegalBasis, Role, TransferBasis
from ledger.core.event import Action, Type
from ledger.core.note import TYPE_ED25519, parse_vkey
from ledger.core.notice import Form, Position, Refusing
from ledger.core.receipt import CheckName, Verdict, verify_receipt
from ledger.http import record_page, single_page
from ledger.messages import PurposeDecision
from ledger.records import markup, page, terms
from ledger.records.dossier import Dossier, Moment, Shown
from ledger.records.words import LANGUAGES, WORDS, Words
from tests.records import CHOICELESS, ENDED, EVENTS, POLICY, SHOWN, VISITOR, denied, document, dossier, event

WEB = Path(ledger.__file__).parent / "web"
EVERYTHING = EVENTS | ENDED | CHOICELESS


class Seen(HTMLParser):
    """What a browser would find: elements with their attributes, and text outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._in: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        if not self._in:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def seen(made: Dossier, language: str | None = None) -> Seen:
    found = Seen()
    found.feed(record_page.of(made, language).body.decode())
    return found


def with_history(made: Dossier) -> Dossier:
    own = Moment(made.receipt.seq, made.recorded_ms, made.event, True, made.after)
    return made._replace(timeline=(own,))


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [WORDS, *terms.TERMS], ids=lambda table: next(iter(table)))
def test_every_word_is_there_in_every_language(table: terms.Table) -> None:
    for key, texts in table.items():
        assert len(texts) == len(LANGUAGES), key
        assert all(text.strip() == text != "" for text in texts), key
        assert not any("{" in text for text in texts), f"{key} has a place that nobody fills"


def test_whatever_the_ledger_can_say_has_a_word() -> None:
    assert set(get_args(Type)) == set(terms.EVENTS)
    assert set(get_args(Action)) == set(terms.ACTIONS)
    assert set(get_args(LegalBasis)) == set(terms.BASES)
    assert set(get_args(Role)) == set(terms.ROLES)
    assert set(get_args(TransferBasis)) == set(terms.TRANSFERS)
    assert set(get_args(Reason)) <= set(terms.REASONS)
    assert set(CheckName) == set(terms.CHECKS)
    assert {*get_args(Form), *get_args(Position), *get_args(Refusing)} == set(terms.LAYOUT)


def test_every_sentence_is_used() -> None:
    code = "".join(path.read_text() for path in (Path(ledger.__file__).parent / "records").glob("*.py"))
    code = code.replace((Path(ledger.__file__).parent / "records" / "words.py").read_text(), "")
    assert [key for key in WORDS if f'"{key}"' not in code and f"'{key}'" not in code] == []


@pytest.mark.parametrize(
    ("language", "period", "expected"),
    [
        ("en", "P12M", "12 months"),
        ("en", "P1M", "1 month"),
        ("ru", "P1M", "1 месяц"),
        ("ru", "P2M", "2 месяца"),
        ("ru", "P12M", "12 месяцев"),
        ("ru", "P21D", "21 день"),
        ("kk", "P12M", "12 ай"),
        ("en", "PT24H", "24 hours"),
        ("en", "P1Y2DT30M", "1 year 2 days 30 minutes"),
        ("de", "P2W", "2 weeks"),
    ],
)
def test_a_period_is_told_as_people_say_it(language: str, period: str, expected: str) -> None:
    assert Words(language).period(period) == expected


# --- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", EVERYTHING)
def test_every_event_has_a_page_in_every_language(name: str, language: str) -> None:
    found = seen(with_history(dossier(EVERYTHING[name])), language)
    assert ("html", {"lang": language}) in found.elements
    words = Words(language)
    for key in (
        "title",
        "glance",
        "operator",
        "subject",
        "purposes",
        "notice",
        "cookies",
        "rights",
        "timeline",
        "proof",
    ):
        assert words[key] in found.text, key
    assert words.of(terms.EVENTS, EVERYTHING[name].type) in found.text
    assert VISITOR in found.text


def test_it_shows_what_the_law_of_kazakhstan_wants_a_consent_to_name() -> None:
    text = seen(dossier(EVENTS["grant"])).text
    for row in (
        "Operator NEXA IKS TI LLP BIN 230940021527",
        "Data subject Pseudonymous. No name is known here",
        "Term until 2027-11-21 03:00:00 UTC",
        "Passed to third parties Yes : Google Ireland",
        "Transfer across the border Yes : IE",
        "Spread in public sources Yes",
        "Data Pages visited",
    ):
        assert row in text


def test_what_is_barred_from_withdrawal_says_so_with_the_reason() -> None:
    text = seen(dossier(EVENTS["acceptance"]), "ru").text
    assert "Не может быть отозвано Условия : На этом основан договор." in text


def test_the_notice_is_shown_in_the_words_that_the_visitor_read_whatever_language_the_page_is_in() -> None:
    words = {"title": "Файлы cookie", "body": ["Мы спрашиваем."], "labels": {"customize": "Выбрать"}}
    other = {"title": "Cookies", "labels": {"customize": "Choose"}}
    artefact = {
        "format": "consent-notice/1",
        "texts": {"en": other, "ru": words},
        "layout": {"form": "banner", "position": "bottom", "refusing": "second-layer"},
        "defaults": {"analytics": "denied"},
        "screenshots": [{"document": "ee" * 32}, {"document": "dd" * 32}],
    }
    shown = Shown(SHOWN, "application/json", json.dumps(artefact).encode())
    picture = Shown("ee" * 32, "image/png", b"\x89PNG\r\n\x1a\n")
    found = seen(dossier(event(language="ru"))._replace(notice=shown, pictures=(picture,)), "en")
    for text in ("Мы спрашиваем.", "Выбрать", "Refusing only behind another click".replace("only ", ""), "dd" * 32):
        assert text in found.text
    assert "Choose" not in found.text
    (image,) = [attributes for tag, attributes in found.elements if tag == "img"]
    assert str(image["src"]).startswith("data:image/png;base64,")


@pytest.mark.parametrize("media_type", ["image/svg+xml", "text/html", "application/x-unknown"])
def test_a_document_of_an_odd_type_is_shown_as_text_and_never_run(media_type: str) -> None:
    body = b"<svg onload=alert(1)><script>alert(1)</script>"
    found = seen(dossier()._replace(notice=Shown(SHOWN, media_type, body)))
    assert "<svg onload=alert(1)>" in found.text
    assert not [tag for tag, _ in found.elements if tag in ("svg", "img", "iframe", "object", "embed")]


def test_the_history_shows_the_decisions_after_each_event_and_what_was_erased() -> None:
    made = with_history(dossier())
    withdrawn = PurposeDecision(decision="denied", reason="withdrawn", ask=False, notify=False, seq=9)
    later = Moment(9, made.recorded_ms + 1, EVENTS["withdrawal"], False, {"analytics": withdrawn})
    text = seen(made._replace(timeline=(*made.timeline, later), erased=(7,), left_out=3)).text
    assert "3 older events are not shown here" in text
    assert re.search(r"7 Erased: nothing of it is kept.* 9 2026", text)
    assert text.count("in another browser of the account") == 1
    assert "Consent withdrawn took consent back in another browser of the account" in text
    assert "every optional purpose" in text
    assert re.search(r"Analytics withdrawn", text)


def test_the_receipt_in_the_page_verifies_by_the_command_too() -> None:
    body = page.write(dossier()).body
    receipt = re.search(r'<pre id="receipt">(.*?)</pre>', body, re.DOTALL)
    assert receipt is not None
    text = receipt[1].replace("&quot;", '"').replace("&amp;", "&")
    vkey = parse_vkey(dossier().log_vkey, TYPE_ED25519)
    assert verify_receipt(text.encode(), vkey).verdict == Verdict.VERIFIED


# --- markup -----------------------------------------------------------------------------------------------------------

ATTACKS = (
    "<script>alert(1)</script>",
    "</pre><img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "<!-- body -->",
    "<title></title>",
    '<html lang="en">',
    '<script type="application/json" id="words">{}</script>',
    "</script><script>alert(1)//",
    "javascript:alert(1)",
    "&lt;script&gt;",
    "]]><!--",
)


def hostile(attack: str) -> Dossier:
    """An attack in every text that an author or a visitor can write."""
    quoted = json.dumps(attack)
    policy = re.sub(r"\b(en|ru|kk): [^,}\n]+", lambda found: f"{found[1]}: {quoted}", POLICY)
    for old in ("NEXA IKS TI LLP", "050013, Almaty, Seifullin Avenue 617", "Google Ireland", "Kazakhstan No 94-V"):
        policy = policy.replace(old, quoted)
    made = with_history(dossier(EVENTS["import"], document(policy)))
    return made._replace(notice=Shown(SHOWN, "text/plain", attack.encode()))


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_becomes_markup(attack: str) -> None:
    made, benign = hostile(attack), with_history(dossier(EVENTS["import"]))
    benign = benign._replace(notice=Shown(SHOWN, "text/plain", b"x"))
    found = seen(made)
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in seen(benign).elements]
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert all(str(attributes.get("href", "https:")).startswith(("https:", "mailto:", "data:image/svg+xml;base64,"))
               for _, attributes in found.elements)  # fmt: skip
    assert attack in " ".join(found.texts) or "�" in found.text


@settings(max_examples=200)
@given(st.text(max_size=40))
def test_a_text_is_shown_as_it_is_or_with_what_would_steer_a_reader_replaced(text: str) -> None:
    found = Seen()
    found.feed(markup.el("p", text, title=text))
    ((tag, attributes),) = found.elements
    assert (tag, [*attributes]) == ("p", ["title"])
    assert not set("\u202e\u2066\x00\x1b") & set("".join(found.texts))


def test_only_addresses_of_the_web_and_of_mail_become_links() -> None:
    for url in ("https://a.example/x", "http://a.example", "mailto:a@b.example"):
        assert markup.link(url).startswith("<a ")
    for url in ("javascript:alert(1)", "data:text/html,x", "//evil.example", " https://a.example", "JAVASCRIPT:x"):
        assert "<a" not in markup.link(url)


def test_the_pages_policy_allows_one_script_one_style_and_no_connection() -> None:
    made = record_page.of(hostile("<script>alert(1)</script>"), None)
    policy = single_page.policy_of(made.body.decode())
    assert policy in made.headers["Content-Security-Policy"]
    assert "connect-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[^']+';", policy)
    assert "unsafe" not in policy
    assert policy == single_page.policy_of(single_page.assemble("record.html"))


def test_what_is_put_into_a_frame_is_text_and_is_not_looked_at_again() -> None:
    frame = '<html lang="en"><title></title><!-- body -->'
    filled = single_page.filled(frame, '"><x', "</title><x>", "<!-- body --><title></title>")
    assert filled == ('<html lang="&quot;&gt;&lt;x"><title>&lt;/title&gt;&lt;x&gt;</title><!-- body --><title></title>')


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pages_script_has_its_words(language: str) -> None:
    body = record_page.of(dossier(), language).body.decode()
    block = re.search(r'<script type="application/json" id="words">(.*?)</script>', body)
    assert block is not None
    words = json.loads(block[1])
    assert words["verified"] == Words(language)["verified"]
    assert set(words["checks"]) == set(CheckName)
    scripts = "".join((WEB / name).read_text() for name in ("record.js", "verdict.js"))
    used = re.findall(r"words\.([a-z_]+)", scripts)
    assert {*used, "verified", "failed", "unproven", "ok", "not_checked", "broken"} == set(words)


def test_a_denial_is_shown_as_one() -> None:
    text = seen(dossier(denied())).text
    assert text.count("Not allowed") == 2
    assert "Nothing was allowed: these rows say what the question was about." in text
