"""The page in a real browser, against a real server: a person plays the visitor and sees what the ledger keeps."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright, Route, expect, sync_playwright

from ledger.credentials import Credentials, read_credentials
from tests.vectors.spec_verifier import check_receipt

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SITE = "weco.nexaxt.com"
OPTIONAL = ("analytics", "marketing", "preferences")
START_SECONDS = 60
STOP_SECONDS = 30


@pytest.fixture(scope="module")
def chromium() -> str:
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        pytest.skip(f"no browser on this machine (looked for {', '.join(BROWSERS)}): the page was not tried")
    return found


@pytest.fixture(scope="module")
def ledger(chromium: str) -> Iterator[Credentials]:
    """`consent-ledger up` with the example sites, on free ports, in a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="ledger-page-"))
    with (directory / "up.log").open("wb") as log:
        command = [sys.executable, "-m", "ledger", "up", "--data", str(directory / "data"), "--port", "0"]
        up = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (directory / "data" / "credentials.json").exists():
            assert up.poll() is None, (directory / "up.log").read_text()
            assert time.monotonic() < deadline, "the service did not come up in time"
            time.sleep(0.05)
        yield read_credentials(directory / "data")
    finally:
        up.send_signal(signal.SIGINT)
        try:
            up.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait()
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright, chromium: str) -> Iterator[BrowserContext]:
    profile = tempfile.mkdtemp(prefix="ledger-chromium-")
    context = playwright.chromium.launch_persistent_context(
        profile, executable_path=chromium, args=FLAGS, viewport={"width": 1280, "height": 900}, locale="en-GB"
    )
    context.set_default_timeout(10_000)
    yield context
    context.close()
    shutil.rmtree(profile, ignore_errors=True)


class Visit:
    """A page that was opened, with everything that went wrong on it and every host that it asked."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))


@pytest.fixture
def visit(browser: BrowserContext, ledger: Credentials) -> Iterator[Visit]:
    page = browser.new_page()
    opened = Visit(page)
    open_site(page, ledger, SITE)
    yield opened
    page.close()


@pytest.fixture
def page(visit: Visit) -> Page:
    return visit.page


def open_site(page: Page, ledger: Credentials, site: str) -> None:
    page.goto(f"{ledger.base_url}/#{site}")
    expect(page.locator("#site")).to_have_value(site)
    expect(page.locator("#accept")).to_be_enabled()


def answers(page: Page) -> dict[str, str]:
    rows = page.locator("#answers tr").all()
    return {row.get_attribute("data-purpose") or "": row.locator("strong").inner_text() for row in rows}


def expect_answer(page: Page, purpose: str, answer: str) -> None:
    expect(page.locator(f'#answers [data-purpose="{purpose}"] strong')).to_have_text(answer)


def entry(page: Page, nth: int = 0) -> Any:
    return page.locator("#entries > li").nth(nth)


def expect_entries(page: Page, count: int) -> None:
    expect(page.locator("#entries > li")).to_have_count(count)


def test_a_choice_appears_in_the_log_with_hashes_that_the_browser_finds_again(visit: Visit) -> None:
    page = visit.page
    assert answers(page) == {"necessary": "granted", **dict.fromkeys(OPTIONAL, "denied")}
    page.click("#accept")
    expect_entries(page, 1)
    for purpose in OPTIONAL:
        expect_answer(page, purpose, "granted")
    for check in ("Leaf hash", "Commitment"):
        expect(entry(page).locator(f'[data-check="{check}"]')).to_have_class("holds")
    expect(entry(page).locator('[data-check="Signature"] code')).to_have_text(re.compile("^[0-9a-f]{128}$"))
    page.click("#withdraw")
    expect_entries(page, 2)
    expect(entry(page).locator("h3")).to_contain_text("Consent withdrawn")
    for purpose in OPTIONAL:
        expect_answer(page, purpose, "denied")
    expect(page.locator('#answers [data-purpose="analytics"]')).to_contain_text("withdrawn")
    # Nobody else writes to this log meanwhile, so the entry before is one of ours.
    expect(entry(page).locator('[data-check="Previous"]')).to_have_class("holds")
    assert visit.complaints == []
    assert len(visit.hosts) == 1, "nothing comes from third parties"


def test_the_receipt_that_the_page_got_is_sound(page: Page, ledger: Credentials) -> None:
    page.click("#accept")
    expect_entries(page, 1)
    stored = page.evaluate(f"sessionStorage.getItem('consent-ledger:{SITE}')")
    keys = ledger.sites[SITE]
    check_receipt(json.loads(stored)["entries"][0]["receipt"], keys.log_vkey, bytes.fromhex(keys.log_id), None)


def test_a_visitor_chooses_per_purpose_with_the_keyboard_alone(page: Page) -> None:
    page.focus("#customise")
    page.keyboard.press("Enter")
    expect(page.locator("#purposes")).to_be_visible()
    expect(page.locator("#purpose-necessary")).to_be_disabled()
    page.focus("#purpose-analytics")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect_entries(page, 1)
    expect_answer(page, "analytics", "granted")
    expect_answer(page, "marketing", "denied")
    expect(page.locator("#customise")).to_be_focused()
    expect(page.get_by_role("status")).to_have_text(re.compile(r"Entry \d+ is in the log\."))


def test_the_same_event_sent_again_gets_the_same_receipt(page: Page) -> None:
    page.click("#refuse")
    expect(page.locator('#answers [data-purpose="analytics"]')).to_contain_text("refused · ")
    position = page.locator("#position").inner_text()
    entry(page).get_by_role("button", name="Send the same event again").click()
    expect(entry(page).locator(".sent")).to_have_text(
        "Sent again: answered 200, replayed, the very same receipt; nothing was added."
    )
    page.click("#ask")
    expect(page.locator("#position")).to_have_text(position)


def test_a_new_visitor_is_asked_anew_and_a_reload_remembers_the_old_one(page: Page) -> None:
    page.click("#accept")
    expect_answer(page, "analytics", "granted")
    known = page.locator("#visitor").inner_text()
    page.reload()
    expect(page.locator("#visitor")).to_have_text(known)
    expect_entries(page, 1)
    expect_answer(page, "analytics", "granted")
    page.click("#new-visitor")
    expect(page.locator("#visitor")).not_to_have_text(known)
    expect_entries(page, 0)
    expect_answer(page, "analytics", "denied")


def test_an_event_that_got_no_answer_keeps_its_id_until_it_is_recorded(page: Page) -> None:
    sent: list[dict[str, Any]] = []

    def lose(route: Route) -> None:
        sent.append(route.request.post_data_json)
        route.fetch()  # the server records it; only the answer is lost
        route.abort()

    page.route("**/events", lose, times=1)
    page.click("#accept")
    expect(page.locator("#unsent")).to_be_visible()
    expect_entries(page, 0)
    with page.expect_request("**/events") as again:
        page.click("#try-again")
    expect_entries(page, 1)
    expect(page.locator("#unsent")).to_be_hidden()
    repeated = again.value.post_data_json
    assert repeated["id"] == sent[0]["id"]
    assert repeated["sentAt"] > sent[0]["sentAt"]
    entry(page).locator("summary").nth(1).click()
    assert json.loads(entry(page).locator("pre").inner_text())["sentAt"] == sent[0]["sentAt"]


def test_a_receipt_that_was_tampered_with_is_told(page: Page) -> None:
    def tamper(route: Route) -> None:
        answer = route.fetch()
        receipt = answer.json()
        payload = base64.b64decode(receipt["payload"]).replace(b'"granted"', b'"denied"')
        route.fulfill(response=answer, json=receipt | {"payload": base64.b64encode(payload).decode()})

    page.route("**/events", tamper, times=1)
    page.click("#accept")
    expect(entry(page).locator('[data-check="Commitment"]')).to_have_class("broken")
    expect(entry(page).locator('[data-check="Leaf hash"]')).to_have_class("holds")


def test_a_refusal_of_the_ledger_is_told_in_its_own_words(page: Page) -> None:
    def cite(route: Route) -> None:
        route.continue_(post_data=route.request.post_data_json | {"policyVersion": "9.9"})

    page.route("**/events", cite, times=1)
    page.click("#accept")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("has not published this policyVersion")
    expect(page.locator("#unsent")).to_be_hidden()
    expect_entries(page, 0)


def test_a_privacy_signal_is_no_and_an_explicit_yes_beside_it_is_yes(page: Page) -> None:
    page.check("#gpc")
    expect(page.locator('#answers [data-purpose="marketing"]')).to_contain_text("gpc · ")
    page.click("#accept")
    expect_answer(page, "marketing", "granted")
    entry(page).locator("summary").nth(1).click()
    assert json.loads(entry(page).locator("pre").inner_text())["gpc"] is True


@pytest.mark.parametrize("site", ["we-nera.com", "id.custodian.kz"])
def test_every_example_site_can_be_played(visit: Visit, ledger: Credentials, site: str) -> None:
    page = visit.page
    page.select_option("#site", site)
    expect(page.locator("#position")).to_contain_text(site)
    expect(page.locator("#log-id")).to_have_text(ledger.sites[site].log_id)
    page.click("#accept")
    expect_entries(page, 1)
    expect_answer(page, "analytics", "granted")
    page.click("#customise")
    for label in page.locator("#purpose-list label").all():
        assert label.inner_text().strip()
    assert visit.complaints == []


def test_the_commands_that_are_shown_work_as_printed(page: Page) -> None:
    for block in page.locator(".command pre").all()[:2]:
        done = subprocess.run(["bash", "-c", block.inner_text()], capture_output=True, check=True, timeout=20)
        answer = json.loads(done.stdout)
        assert answer["site"] == SITE
    assert answer["decisions"]["analytics"]["reason"] == "refused"


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (768, "dark"), (1280, "dark")])
def test_the_page_fits_the_screen_and_every_control_has_a_name(page: Page, width: int, scheme: Any) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.click("#accept")
    expect_entries(page, 1)
    page.click("#customise")
    for summary in entry(page).locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for role in ("button", "checkbox", "combobox", "link"):
        for control in page.get_by_role(role).all():
            assert control.evaluate("node => node.ariaLabel || node.innerText || node.labels?.[0]?.innerText"), role
    assert page.evaluate(CONTRAST) == []


CONTRAST = """() => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (color) => {
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = Array.from(rgb(color)).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (rgb(color)[3] === 255) return color;
    }
    return "white";
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = Array.from(node.childNodes).some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node.closest(":disabled") || node.closest(".unseen, .skip")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(node.outerHTML.slice(0, 120));
  }
  return faint;
}"""
"""Texts whose contrast with their ground is below 4.5 (WCAG 2.2, 1.4.3)."""
