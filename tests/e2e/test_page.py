"""The page in a real browser, against a real server: a person plays the visitor and sees what the ledger keeps."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from ledger.credentials import Credentials
from tests.e2e.browsing import CONTRAST, Visit
from tests.vectors.spec_receipts import check_receipt

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SITE = "weco.nexaxt.com"
OPTIONAL = ("analytics", "marketing", "preferences")
PATIENCE_MS = 60_000
EXTRACT = """async (visitor) => {
  const database = await new Promise((ok) => {
    const opening = indexedDB.open("consent-identity");
    opening.onsuccess = () => ok(opening.result);
  });
  const row = await new Promise((ok) => {
    const asked = database.transaction("keys").objectStore("keys").get(visitor);
    asked.onsuccess = () => ok(asked.result);
  });
  database.close();
  if (!row) return "no key";
  return crypto.subtle.exportKey("pkcs8", row.keys.privateKey).then(() => "exported", (refused) => refused.name);
}"""


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


def test_what_the_page_says_is_the_notice_that_its_choices_cite(page: Page, ledger: Credentials) -> None:
    page.click("#refuse")
    expect_entries(page, 1)
    stored = json.loads(page.evaluate(f"sessionStorage.getItem('consent-ledger:{SITE}')"))
    event = json.loads(base64.b64decode(stored["entries"][0]["receipt"]["payload"]))
    answer = page.request.get(f"{ledger.base_url}/documents/{event['shown']}")
    said = answer.json()["texts"][event["language"]]
    expect(page.locator("#banner-title")).to_have_text(said["title"])
    expect(page.locator("#banner-text p")).to_have_text(said["body"])
    expect(page.locator("#refuse")).to_have_text(said["labels"]["only_necessary"])


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


# --- rights -----------------------------------------------------------------------------------------------------------


def step(page: Page, ledger: Credentials, **told: str) -> dict[str, Any]:
    """What an operator does, with the secret key."""
    url = f"{ledger.base_url}/v1/sites/{SITE}/requests/{page.locator('#request-id').inner_text()}/steps"
    answer = page.request.post(url, data=told, headers={"Authorization": f"Bearer {ledger.sites[SITE].secret}"})
    assert answer.status == 201, answer.text()
    return dict(answer.json())


def expect_state(page: Page, state: str) -> None:
    expect(page.locator(f'#request[data-state="{state}"]')).to_be_visible(timeout=PATIENCE_MS)


def test_a_visitor_sees_the_request_go_its_way_and_fetches_what_is_held(
    visit: Visit, ledger: Credentials, tmp_path: Path
) -> None:
    page = visit.page
    visitor = page.locator("#visitor").inner_text()
    assert len(visitor) == 43
    assert page.evaluate(EXTRACT, visitor) == "InvalidAccessError", "the private key never leaves the browser"
    page.click("#accept")
    expect(page.locator("#entries > li")).to_have_count(1)
    page.click("#ask-access")
    expect_state(page, "proven")
    expect(page.locator("#request-steps li")).to_contain_text(["by the visitor"])
    expect(page.locator("#request-download")).to_be_hidden()
    page.reload()
    expect_state(page, "proven")
    step(page, ledger, step="forward")
    expect_state(page, "forwarded")
    told = step(page, ledger, step="instruct", instruction="DSR-1")
    assert told["visitor"] == visitor
    expect_state(page, "instructed")
    with page.expect_download() as fetched:
        page.click("#request-download")
    fetched.value.save_as(tmp_path / "person.json")
    held = json.loads((tmp_path / "person.json").read_text())
    assert (held["visitor"], len(held["events"])) == (visitor, 1)
    expect_state(page, "answered")
    with page.expect_download() as fetched:
        page.click("#request-page")
    fetched.value.save_as(tmp_path / "person.html")
    assert visitor in (tmp_path / "person.html").read_text()
    assert page.evaluate(CONTRAST) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert visit.complaints == []
    assert len(visit.hosts) == 1


def test_a_visitor_who_asks_to_be_forgotten_is_and_becomes_somebody_else(visit: Visit, ledger: Credentials) -> None:
    page = visit.page
    visitor = page.locator("#visitor").inner_text()
    page.click("#accept")
    expect(page.locator("#entries > li")).to_have_count(1)
    page.click("#ask-erasure")
    expect_state(page, "proven")
    step(page, ledger, step="forward")
    step(page, ledger, step="instruct", instruction="DSR-2")
    expect_state(page, "answered")
    expect(page.locator("#request-state")).to_contain_text("what the ledger held of you is gone")
    expect(page.locator("#visitor")).not_to_have_text(visitor)
    expect(page.locator("#entries > li")).to_have_count(0)
    assert page.evaluate(EXTRACT, visitor) == "no key"
    status = page.request.get(
        f"{ledger.base_url}/v1/sites/{SITE}/requests/{page.locator('#request-id').inner_text()}",
        headers={"Authorization": f"Bearer {ledger.sites[SITE].secret}"},
    ).json()
    assert (status["forgotten"], "visitor" in status, "instruction" in status) == (True, False, False)
    # The old id is refused, the new one is asked anew.
    gone = page.request.post(
        f"{ledger.base_url}/v1/sites/{SITE}/events",
        data={"type": "consent.refused", "visitor": visitor, "decisions": {"*": "denied"}, "action": "api"},
        headers={"Authorization": f"Bearer {ledger.sites[SITE].secret}"},
    )
    assert gone.status == 410
    page.click("#refuse")
    expect(page.locator("#entries > li")).to_have_count(1)


def test_a_visitor_objects_corrects_and_takes_the_data_along_and_sees_an_answer_put_off(
    visit: Visit, ledger: Credentials, tmp_path: Path
) -> None:
    page = visit.page
    page.click("#accept")
    expect_entries(page, 1)

    page.click("#ask-objection")
    expect_state(page, "proven")
    page.click("#request-act")
    expect_entries(page, 2)
    expect(entry(page).locator("h3")).to_contain_text("Consent withdrawn")
    expect_answer(page, "analytics", "denied")
    for told in ({"step": "forward"}, {"step": "instruct", "instruction": "DSR-4"}, {"step": "answer"}):
        step(page, ledger, **told)
    page.click("#request-look")
    expect_state(page, "answered")
    expect(page.locator("#request-act")).to_be_hidden()

    page.click("#ask-correction")
    expect(page.locator("#request-title")).to_have_text("Put it right")
    expect_state(page, "proven")
    page.click("#request-act")
    expect(page.locator("#purposes input:focus")).to_be_visible()
    page.check("#purpose-analytics")
    page.keyboard.press("Enter")
    expect_entries(page, 3)
    expect_answer(page, "analytics", "granted")
    first = page.locator("#request-due").inner_text()
    extended = step(page, ledger, step="extend", reason="number_of_requests", instruction="DSR-5")
    page.click("#request-look")
    expect(page.locator("#request-due")).to_contain_text(f"put off from {first}, as there are many requests")
    expect(page.locator("#request-due")).to_contain_text(extended["dueAt"][:10])
    expect(page.locator("#request-steps li").last).to_contain_text("put off, by the operator")

    page.click("#ask-portability")
    expect(page.locator("#request-title")).to_have_text("Give me my data")
    expect(page.locator("#request-act")).to_be_hidden()
    step(page, ledger, step="forward")
    step(page, ledger, step="instruct", instruction="DSR-6")
    page.click("#request-look")
    expect_state(page, "instructed")
    expect(page.locator("#request-page")).to_be_hidden()
    with page.expect_download() as fetched:
        page.click("#request-download")
    fetched.value.save_as(tmp_path / "mine.json")
    held = json.loads((tmp_path / "mine.json").read_text())
    assert sorted(request["kind"] for request in held["requests"]) == ["correction", "objection", "portability"]
    assert visit.complaints == []


def test_a_page_whose_visitor_was_erased_meanwhile_takes_a_new_id(visit: Visit, ledger: Credentials) -> None:
    page = visit.page
    visitor = page.locator("#visitor").inner_text()
    secret = {"Authorization": f"Bearer {ledger.sites[SITE].secret}"}
    ordered = page.request.post(
        f"{ledger.base_url}/v1/sites/{SITE}/erasures",
        data={"visitor": visitor, "reason": "subject_request", "instruction": "DSR-3"},
        headers=secret,
    )
    assert ordered.status == 202, ordered.text()
    page.click("#accept")
    expect(page.locator("#visitor")).not_to_have_text(visitor)
    page.click("#accept")
    expect(page.locator("#entries > li")).to_have_count(1)


def test_a_browser_that_can_keep_no_key_says_that_it_proves_nothing(
    browser: BrowserContext, ledger: Credentials
) -> None:
    page = browser.new_page()
    page.add_init_script(
        "SubtleCrypto.prototype.generateKey = async () => { throw new DOMException('', 'NotSupportedError'); }"
    )
    open_site(page, ledger, SITE)
    expect(page.locator("#rights-proof")).to_contain_text("can prove nothing")
    expect(page.locator("#ask-access")).to_be_disabled()
    assert len(page.locator("#visitor").inner_text()) == 22
    page.click("#accept")
    expect(page.locator("#entries > li")).to_have_count(1)
    page.close()
