"""The printed record in a real browser: in three languages, without a server, on paper, and with a hostile policy."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from msgspec import convert
from msgspec.structs import replace
from playwright.sync_api import BrowserContext, Page, Playwright, expect

from ledger.core.event import decode_event
from ledger.credentials import Credentials
from ledger.http import person_page, record_page
from ledger.messages import Consent, Receipt
from ledger.person_messages import PersonEvent, PersonExport
from ledger.records.words import LANGUAGES, Words
from tests.e2e.browsing import CONTRAST, FLAGS, Visit
from tests.harness import grant, new_visitor, refusal
from tests.receipt_cases import LOG, cosigned
from tests.receipts import b64
from tests.records import CHOICELESS, ENDED, EVENTS, dossier
from tests.unit.test_record_page import ATTACKS, hostile, with_history

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SITE = "weco.nexaxt.com"
Open = Callable[[bytes], Visit]


@pytest.fixture
def opened(browser: BrowserContext, tmp_path: Path) -> Iterator[Open]:
    """Opens a page from a file, as whoever was handed it does; the browser has no network."""
    pages: list[Page] = []

    def open_it(body: bytes) -> Visit:
        file = tmp_path / f"record-{len(pages)}.html"
        file.write_bytes(body)
        page = browser.new_page()
        pages.append(page)
        visit = Visit(page)
        page.goto(file.as_uri())
        return visit

    browser.set_offline(True)
    yield open_it
    browser.set_offline(False)
    for page in pages:
        page.close()


def post(ledger: Credentials, event: dict[str, Any]) -> str:
    keys = ledger.sites[SITE]
    headers = {"Authorization": f"Bearer {keys.secret}", "Content-Type": "application/json"}
    url = f"{ledger.base_url}/v1/sites/{SITE}/events"
    with urlopen(Request(url, json.dumps(event).encode(), headers)) as answer:
        assert answer.status == 201
    return str(event["id"])


def got(ledger: Credentials, event_id: str, tmp_path: Path, *more: str) -> bytes:
    """The page, as `receipt get` brings it, once its proof is there."""
    output = tmp_path / "got.html"
    environ = {
        "LEDGER_URL": ledger.base_url,
        "LEDGER_PUBLISHABLE_KEY": ledger.sites[SITE].publishable,
        "LEDGER_SECRET_KEY": ledger.sites[SITE].secret,
    }
    command = [sys.executable, "-m", "ledger", "receipt", "get", SITE, event_id, "--format", "html", "-o", str(output)]
    subprocess.run([*command, "--wait", "60", *more], env=environ, check=True)
    return output.read_bytes()


def test_whoever_is_handed_the_file_reads_it_and_sees_it_verified_without_a_network(
    opened: Open, ledger: Credentials, tmp_path: Path
) -> None:
    who = new_visitor()
    event_id = post(ledger, grant(visitor=who, language="ru", policyVersion="1.0"))
    post(ledger, refusal(visitor=who, type="consent.withdrawn", action="withdraw"))
    visit = opened(got(ledger, event_id, tmp_path))
    page = visit.page
    expect(page.locator("#verdict")).to_have_text("Подтверждено")
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "verified")
    expect(page.locator("#from-receipt")).to_contain_text(f"consent.given, {event_id}")
    expect(page.locator("#from-receipt")).to_contain_text("analytics: granted")
    expect(page.locator("#checks li")).to_have_count(12)
    expect(page.locator(".glance").first).to_contain_text("NEXA IKS TI LLP")
    expect(page.locator(".glance").first).to_contain_text("БИН 230940021527")
    expect(page.locator(".glance").first).to_contain_text(who)
    rows = page.locator("table.timeline tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("эта запись")
    expect(rows.nth(1)).to_contain_text("Согласие отозвано")
    expect(rows.nth(1)).to_contain_text("отозвано")
    assert visit.complaints == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_whole_and_legible_in_every_language(opened: Open, language: str) -> None:
    visit = opened(record_page.of(with_history(dossier()), language).body)
    page, words = visit.page, Words(language)
    expect(page.locator("#verdict")).to_have_text(words["verified"])
    expect(page.locator("html")).to_have_attribute("lang", language)
    headings = [heading.inner_text() for heading in page.locator("h2").all()]
    sections = ("glance", "purposes", "notice", "cookies", "rights", "timeline", "proof")
    assert headings == [words[section] for section in sections]
    titles = {"en": ("Analytics", "Counts visits."), "ru": ("Аналитика", "Считает посещения."),
              "kk": ("Талдау", "Келулерді санайды.")}[language]  # fmt: skip
    for text in (*titles, words["granted"], words["denied"], words["pseudonymous"], words["third_parties"]):
        expect(page.get_by_text(text).first).to_be_visible()
    assert page.evaluate(CONTRAST) == []
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.complaints == []


def test_an_event_of_every_kind_verifies_in_its_page(opened: Open) -> None:
    for name, event in (EVENTS | ENDED | CHOICELESS).items():
        visit = opened(record_page.of(with_history(dossier(event)), "en").body)
        expect(visit.page.locator("#verdict"), name).to_have_attribute("data-verdict", "verified")
        expect(visit.page.locator("#from-receipt"), name).to_contain_text(event.type)
        assert visit.complaints == [], name


def test_a_page_whose_receipt_was_changed_says_that_it_failed(opened: Open) -> None:
    body = record_page.of(dossier(), "en").body
    at = body.index(b"&quot;payload&quot;") + 40
    changed = body[:at] + (b"A" if body[at : at + 1] != b"A" else b"B") + body[at + 1 :]
    visit = opened(changed)
    expect(visit.page.locator("#verdict")).to_have_attribute("data-verdict", "failed")
    expect(visit.page.locator("#from-receipt")).to_be_hidden()


def test_a_reader_may_bring_another_key_and_the_verdict_is_of_that_key(opened: Open) -> None:
    page = opened(record_page.of(dossier(), "en").body).page
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "verified")
    key = page.locator("#log-vkey").input_value()
    page.fill("#log-vkey", key.replace("ledger.example", "ledger.forged"))
    page.click("#again")
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "failed")
    page.fill("#log-vkey", key)
    page.click("#again")
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "verified")


def test_before_a_checkpoint_nothing_is_called_verified(opened: Open) -> None:
    page = opened(record_page.of(dossier(proven=False), "en").body).page
    expect(page.locator("#verdict")).to_have_text("Not proven")
    expect(page.get_by_text("No checkpoint covers the entry yet.")).to_be_visible()


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_of_a_hostile_policy_runs(opened: Open, attack: str) -> None:
    visit = opened(record_page.of(hostile(attack), None).body)
    dialogs: list[str] = []
    visit.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    expect(visit.page.locator("#verdict")).to_have_attribute("data-verdict", "verified")
    for target in visit.page.locator("dd a, td a").all():
        assert re.match(r"https:|mailto:", target.get_attribute("href") or "")
    assert visit.page.locator("script").count() == 2
    assert visit.page.locator("main script, main style, main iframe, main svg").count() == 0
    assert dialogs == []
    assert visit.complaints == []  # a policy that had to stop something would have said so


def test_it_can_be_read_without_a_script(playwright: Playwright, chromium: str, tmp_path: Path) -> None:
    file = tmp_path / "record.html"
    file.write_bytes(record_page.of(with_history(dossier()), "en").body)
    with playwright.chromium.launch(executable_path=chromium, args=FLAGS) as running:
        page = running.new_context(java_script_enabled=False, offline=True).new_page()
        page.goto(file.as_uri())
        expect(page.locator("#verdict")).to_have_text("Not checked yet: open this file in a browser")
        expect(page.locator("table.timeline")).to_contain_text("Consent given")
        expect(page.locator("#receipt")).to_contain_text('"leafHash"')
        expect(page.locator("#from-receipt")).to_be_hidden()


def test_on_paper_it_is_a4_and_no_row_is_cut(opened: Open, tmp_path: Path) -> None:
    made = with_history(dossier())
    page = opened(record_page.of(made._replace(timeline=made.timeline * 60), "kk").body).page
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "verified")
    page.emulate_media(media="print")
    cut = page.evaluate(
        "Array.from(document.querySelectorAll('tr, li, blockquote, figure, .glance > div'))"
        ".filter((one) => getComputedStyle(one).breakInside !== 'avoid').length"
    )
    assert cut == 0
    assert page.evaluate("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"
    expect(page.locator("#again")).to_be_hidden()
    pdf = page.pdf(prefer_css_page_size=True)
    boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([0-9.]+) ([0-9.]+)\s*\]", pdf)
    assert len(boxes) >= 5
    assert {(round(float(width)), round(float(height))) for width, height in boxes} <= {
        (595, 842),
        (594, 841),
        (596, 842),
    }


def test_a_persons_page_verifies_each_receipt_and_finds_the_one_that_was_changed(opened: Open) -> None:
    proven, told = cosigned(LOG, 5), cosigned(LOG, 6)
    export = person_of([proven, told])
    page = opened(person_page.of(export, None, "en")).page
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "verified")
    expect(page.locator("[data-result=ok]")).to_have_count(2)
    changed = export.events[1].receipt
    entry = b64(b64decode(changed.entry)[:-1] + b"x")
    events = [export.events[0], replace(export.events[1], receipt=replace(changed, entry=entry))]
    page = opened(person_page.of(replace(export, events=events), None, "en")).page
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "failed")
    expect(page.locator("[data-result=broken]")).to_have_count(1)
    other = [replace(export.events[0], event=replace(export.events[0].event, action="accept_all")), export.events[1]]
    page = opened(person_page.of(replace(export, events=other), None, "en")).page
    expect(page.locator("#reason")).to_contain_text("of another event")


def person_of(receipts: list[dict[str, Any]]) -> PersonExport:
    found = [convert(one, Receipt) for one in receipts]
    return PersonExport(
        *("consent-ledger/v1 person-export", LOG.site, "v" * 22, found[0].recorded_at, "0" * 64, str(LOG.log_vkey)),
        Consent(LOG.site, "v" * 22, found[-1].position, {}),
        events=[PersonEvent(one.seq, one.recorded_at, decode_event(b64decode(one.payload)), one) for one in found],
    )
