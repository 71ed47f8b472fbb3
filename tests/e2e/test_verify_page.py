"""The page that verifies a receipt, in a real browser: sound ones and others, with no call to anybody."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Download, Page, Request, expect

from ledger.core.receipt import verify_receipt
from ledger.credentials import Credentials
from tests.e2e.browsing import CONTRAST, Visit
from tests.receipt_cases import (
    ACCOUNT_EVENT,
    DISMISSED_EVENT,
    GOOD,
    LOG,
    NO_RECEIPT,
    OTHER_LOG,
    OWN_EVENT,
    SIGNED,
    TAMPERED,
    W1,
    of_payload,
    under_another_logs_checkpoint,
)
from tests.receipts import b64, encode
from tests.vectors.spec_notes import P, acceptable, add, decode_point, encode_point

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SITE = "weco.nexaxt.com"
BARE = {name: value for name, value in GOOD.items() if name != "proof"}
KEY = str(LOG.log_vkey)


class Verifying(Visit):
    """The page, loaded; `sent` holds every request since then."""

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page)
        page.goto(url)
        expect(page.locator("#verify")).to_be_enabled()
        self.sent: list[str] = []
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        self.sent.append(request.url)

    def bring(self, receipt: dict[str, Any] | str, vkey: str = KEY, *witnesses: str) -> None:
        self.page.fill("#receipt", receipt if isinstance(receipt, str) else encode(receipt).decode())
        self.page.fill("#log-vkey", vkey)
        self.page.fill("#witnesses", "\n".join(witnesses))

    def verify(self) -> str:
        self.page.click("#verify")
        expect(self.page.locator("#verdict")).to_be_focused()
        return self.page.locator("#result").get_attribute("data-verdict") or ""

    def checks(self) -> dict[str, str]:
        rows = self.page.locator("#checks > li").all()
        return {row.get_attribute("data-check") or "": row.locator(".result").inner_text() for row in rows}

    def failed(self) -> list[str]:
        return [name for name, result in self.checks().items() if result == "failed"]


@pytest.fixture
def verifying(browser: BrowserContext, ledger: Credentials) -> Iterator[Verifying]:
    page = browser.new_page()
    yield Verifying(page, f"{ledger.base_url}/verify")
    page.close()


def test_a_sound_receipt_is_verified_step_by_step_without_a_call_to_anybody(verifying: Verifying) -> None:
    page = verifying.page
    verifying.bring(GOOD, KEY, str(W1))
    page.click("#more > summary")
    page.fill("#log-id", LOG.log_id.hex())
    page.fill("#ingest", b64(LOG.ingest.public))
    assert verifying.verify() == "verified"
    assert set(verifying.checks().values()) == {"ok"}
    expect(page.locator("#reason")).to_have_text(f"The log {LOG.origin} holds this event, as entry {GOOD['seq']}.")
    expect(page.locator("#recorded")).to_contain_text("analytics granted")
    expect(page.locator("#proves")).to_contain_text(f"{W1.name}, a witness that you trust, saw this state")
    expect(page.locator("#does-not-prove")).to_contain_text("What the visitor's consent is today")
    page.locator('[data-check="inclusion"] summary').click()
    expect(page.locator('[data-check="inclusion"] dl')).to_contain_text(LOG.leaves[GOOD["seq"]].hex())
    expect(page.locator('[data-check="inclusion"] dl')).to_contain_text(LOG.root_hash(len(LOG.leaves)).hex())
    assert (verifying.sent, verifying.complaints) == ([], [])


def test_events_of_every_type_are_told_in_words(verifying: Verifying) -> None:
    """A receipt whose payload lacks choices, or an action, is shown as well as any other."""
    for payload, words in (
        (ACCOUNT_EVENT, ["made for every browser of the account 0f0f", "with a secret key", "v1;yes"]),
        (ACCOUNT_EVENT, ["the price of access", "TCF", "GPP", "taken over from another system"]),
        (OWN_EVENT, ["Consent expired", "analytics granted in entry 3", "the ledger itself: nobody acted"]),
        (DISMISSED_EVENT, ["Question closed without an answer", "a web page, with a publishable key"]),
    ):
        verifying.bring(of_payload(payload), KEY)
        assert verifying.verify() == "verified"
        for word in words:
            expect(verifying.page.locator("#recorded")).to_contain_text(word)
    assert verifying.complaints == []


def test_the_page_is_one_file_and_can_reach_nobody(verifying: Verifying, ledger: Credentials) -> None:
    """Each way to speak to a server is tried from within, and none gets as far as an answer."""
    served: list[str] = []
    verifying.page.on("response", lambda response: served.append(response.url))
    assert verifying.page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    for attempt in (
        f"fetch('{ledger.base_url}/healthz')",
        "new Promise((ok, no) => { const s = new WebSocket('ws://' + location.host); s.onopen = ok; s.onerror = no; })",
        "new Promise((ok, no) => { const i = new Image(); i.onload = ok; i.onerror = no; i.src = '/web/icon.svg'; })",
        "import('/web/receipt.js')",
    ):
        reached = verifying.page.evaluate(f"(async () => {attempt})().then(() => true, () => false)")
        assert not reached, attempt
    assert verifying.page.evaluate("navigator.sendBeacon('/healthz', 'x')") in (True, False)  # it never says
    refused = [text for text in verifying.complaints if "Content Security Policy" in text]
    assert len(refused) >= 5, verifying.complaints
    assert served == []


@pytest.mark.parametrize(
    "name", ["the payload says denied", "a hash of the proof is another", "the witness did not cosign"]
)
def test_a_tampered_receipt_fails_and_nothing_of_it_is_shown_as_a_fact(verifying: Verifying, name: str) -> None:
    expected, receipt = TAMPERED[name]
    verifying.bring(receipt, KEY, str(W1))
    assert verifying.verify() == "failed"
    assert verifying.failed() == expected
    expect(verifying.page.locator("#verdict")).to_have_text("Failed")
    expect(verifying.page.locator("#recorded")).to_be_empty()
    expect(verifying.page.locator("#proves")).to_have_text(
        "Nothing. Ask where it came from for another copy, and for the reason."
    )
    assert verifying.sent == []


def test_the_browser_judges_every_receipt_as_the_command_does(browser: BrowserContext, ledger: Credentials) -> None:
    """All tampered ones, and every eighth byte of the good one changed: the same checks fail, none by a fault of the
    browser's."""
    files = {name: encode(receipt) for name, (_, receipt) in TAMPERED.items()} | NO_RECEIPT | {"good": encode(GOOD)}
    good = encode(GOOD)
    for at in range(0, len(good), 8):
        files[f"byte {at}"] = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
    found = judge(browser, ledger, files, {})
    for name, data in files.items():
        report = verify_receipt(data, LOG.log_vkey, [W1])
        assert found[name] == [str(report.verdict), [str(check.name) for check in report.failures]], name


def test_the_browser_judges_the_events_own_signature(browser: BrowserContext, ledger: Credentials) -> None:
    keys = {"logId": LOG.log_id.hex(), "ingest": LOG.ingest.public.hex()}
    files = {name: encode(receipt) for name, (_, receipt) in SIGNED.items()}
    found = judge(browser, ledger, files, keys)
    assert {name: failed for name, (_, failed) in found.items()} == {
        name: failed for name, (failed, _) in SIGNED.items()
    }


def test_the_browser_takes_the_keys_that_the_specification_takes(browser: BrowserContext, ledger: Credentials) -> None:
    small = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"  # a point of order 8
    own, torsion = decode_point(LOG.log.public), decode_point(bytes.fromhex(small))
    assert own is not None
    assert torsion is not None
    points = {
        LOG.log.public.hex(): True,
        encode_point(add(own, torsion)).hex(): False,
        small: False,
        (1).to_bytes(32, "little").hex(): False,  # neutral
        (P + 1).to_bytes(32, "little").hex(): False,  # neutral, not canonical
        (1 << 255 | 1).to_bytes(32, "little").hex(): False,  # x = 0 with the sign bit
        (P - 1).to_bytes(32, "little").hex(): False,  # of order 2
        (2).to_bytes(32, "little").hex(): False,  # on no curve of ours
        LOG.log.public[:31].hex(): False,
    }
    assert {text: acceptable(bytes.fromhex(text)) for text in points} == points
    page = browser.new_page()
    page.goto(ledger.base_url)
    assert page.evaluate(ACCEPTABLE, list(points)) == list(points.values())
    page.close()


ACCEPTABLE = """async (points) => {
  const { isAcceptable } = await import("/web/ed25519.js");
  const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => Number.parseInt(pair, 16));
  return points.map((hex) => isAcceptable(bytes(hex)));
}"""


def judge(
    browser: BrowserContext, ledger: Credentials, files: dict[str, bytes], keys: dict[str, str]
) -> dict[str, list[Any]]:
    """Verdict and failed checks of each file, by the page's own modules."""
    page = browser.new_page()
    page.goto(ledger.base_url)  # where they may be loaded one by one
    found: dict[str, list[Any]] = page.evaluate(
        JUDGE, [{name: b64(data) for name, data in files.items()}, KEY, str(W1), keys]
    )
    page.close()
    return found


JUDGE = """async ([files, key, witness, keys]) => {
  const { verifyReceipt } = await import("/web/receipt.js");
  const { parseVkey } = await import("/web/note.js");
  const bytes = (hex) => (hex ? Uint8Array.from(hex.match(/../g), (pair) => Number.parseInt(pair, 16)) : null);
  const own = { logId: bytes(keys.logId), ingest: bytes(keys.ingest) };
  const trust = { ...own, logVkeys: [await parseVkey(key, 1)], witnesses: [await parseVkey(witness, 4)] };
  const found = {};
  for (const [name, base64] of Object.entries(files)) {
    const data = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const { verdict, checks } = await verifyReceipt(data, trust);
    if (checks.some(({ detail }) => detail.includes("the browser could not"))) throw new Error(name);
    found[name] = [verdict, checks.filter(({ result }) => result === "failed").map((check) => check.name)];
  }
  return found;
}"""


def test_keys_of_several_logs_may_be_brought_and_only_the_sites_own_counts(verifying: Verifying) -> None:
    keys = f"{OTHER_LOG.log_vkey}\n{KEY}\n"
    verifying.bring(GOOD, keys)
    assert verifying.verify() == "verified"
    verifying.bring(under_another_logs_checkpoint(), keys)
    assert verifying.verify() == "failed"
    assert verifying.failed() == ["checkpoint"]


def test_without_a_proof_it_is_never_called_verified(verifying: Verifying) -> None:
    verifying.bring(BARE)
    assert verifying.verify() == "unproven"
    expect(verifying.page.locator("#verdict")).to_have_text("Not proven")
    verifying.page.click("#more > summary")
    verifying.page.fill("#log-id", LOG.log_id.hex())
    verifying.page.fill("#ingest", b64(LOG.ingest.public))
    assert verifying.verify() == "accepted"
    expect(verifying.page.locator("#verdict")).to_have_text("Accepted only")


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("log-vkey", "", "without the key of the log nothing can be proven"),
        ("log-vkey", KEY[:-1], "not canonical base64"),
        ("log-vkey", KEY.replace("weco", "veco"), "may be cut or mistyped"),
        ("log-vkey", str(W1), "no Ed25519 key of a log"),
        ("witnesses", KEY, "no Ed25519 key of a witness"),
        ("log-id", "ABC", "64 hex digits"),
        ("ingest", b64(bytes(32)), "the id of the log beside it"),
    ],
)
def test_a_key_that_can_not_be_used_is_told_beside_it_and_nothing_is_verified(
    verifying: Verifying, field: str, text: str, reason: str
) -> None:
    page = verifying.page
    verifying.bring(GOOD)
    page.click("#more > summary")
    page.fill(f"#{field}", text)
    page.click("#verify")
    expect(page.locator(f"#{field}-fault")).to_contain_text(reason)
    expect(page.locator(f"#{field}")).to_be_focused()
    expect(page.locator("#result")).to_be_hidden()


def test_a_verdict_goes_away_once_what_it_was_of_is_changed(verifying: Verifying) -> None:
    verifying.bring(GOOD)
    assert verifying.verify() == "verified"
    verifying.page.focus("#receipt")
    verifying.page.keyboard.type(" ")
    expect(verifying.page.locator("#result")).to_be_hidden()


def test_a_file_is_read_and_one_that_is_no_text_is_told(verifying: Verifying, tmp_path: Path) -> None:
    page = verifying.page
    (tmp_path / "receipt.json").write_bytes(encode(GOOD))
    (tmp_path / "picture.json").write_bytes(b"\x89PNG\xff\xfe")
    page.fill("#log-vkey", KEY)
    page.set_input_files("#file", tmp_path / "receipt.json")
    expect(page.locator("#receipt")).to_have_value(encode(GOOD).decode())
    assert verifying.verify() == "verified"
    page.set_input_files("#file", tmp_path / "picture.json")
    expect(page.locator("#receipt-fault")).to_contain_text("is not UTF-8")
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#receipt")).to_have_value("")


def test_a_dropped_file_is_read(verifying: Verifying) -> None:
    drop = """(text) => {
      const files = new DataTransfer();
      files.items.add(new File([text], "receipt.json", { type: "application/json" }));
      const drop = new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
      document.querySelector("#drop").dispatchEvent(drop);
    }"""
    verifying.page.evaluate(drop, encode(GOOD).decode())
    expect(verifying.page.locator("#receipt")).to_have_value(encode(GOOD).decode())


def test_a_receipt_is_verified_with_the_keyboard_alone(verifying: Verifying) -> None:
    page = verifying.page
    page.focus("#receipt")
    page.keyboard.insert_text(encode(GOOD).decode())
    page.keyboard.press("Tab")  # the file
    page.keyboard.press("Tab")
    expect(page.locator("#log-vkey")).to_be_focused()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(KEY)
    for _ in range(3):  # witnesses, the event's own signature, the button
        page.keyboard.press("Tab")
    expect(page.locator("#verify")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_be_focused()
    expect(page.locator("#verdict")).to_have_text("Verified")


def test_a_visitor_hands_a_fresh_receipt_over_and_it_is_verified_under_the_servers_key(
    browser: BrowserContext, ledger: Credentials
) -> None:
    page = browser.new_page()
    visit = Visit(page)
    page.goto(f"{ledger.base_url}/#{SITE}")
    expect(page.locator("#accept")).to_be_enabled()
    page.click("#accept")
    page.get_by_role("button", name="Verify this receipt").first.click()
    page.wait_for_url("**/verify")
    expect(page.locator("#verdict")).to_have_text("Verified")
    expect(page.locator("#log-vkey")).to_have_value(ledger.sites[SITE].log_vkey)
    expect(page.locator("#filled-in")).to_be_visible()
    expect(page.locator("#recorded")).to_contain_text("marketing granted")
    receipt = json.loads(page.locator("#receipt").input_value())
    assert receipt["proof"].startswith("c2sp.org/tlog-proof@v1\n")
    assert page.evaluate("sessionStorage.getItem('consent-ledger:receipt')") is None
    page.go_back()
    expect(page.locator("#entries > li")).not_to_have_count(0)
    assert visit.complaints == []
    page.close()

    # And what the page showed, a command gets from the server and finds the same.
    keys = ledger.sites[SITE]
    environ = {"LEDGER_URL": ledger.base_url, "LEDGER_PUBLISHABLE_KEY": "pk", "LEDGER_SECRET_KEY": keys.secret}
    got = run_receipt("get", SITE, receipt["id"], env=environ)
    assert {name: value for name, value in json.loads(got).items() if name != "proof"} == {
        name: value for name, value in receipt.items() if name != "proof"
    }
    told = json.loads(run_receipt("verify", "-", "--log-vkey", keys.log_vkey, "--json", data=got))
    assert (told["verdict"], told["seq"]) == ("verified", receipt["seq"])


def run_receipt(*arguments: str, data: str = "", env: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-m", "ledger", "receipt", *arguments]
    done = subprocess.run(command, input=data, env=env or {}, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_a_saved_receipt_is_verified_by_the_saved_page_without_any_server(
    browser: BrowserContext, ledger: Credentials, tmp_path: Path
) -> None:
    page = browser.new_page()
    page.goto(f"{ledger.base_url}/#{SITE}")
    expect(page.locator("#accept")).to_be_enabled()
    page.click("#refuse")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save this receipt").first.click()
    receipt = keep(saved.value, tmp_path)
    page.goto(f"{ledger.base_url}/verify")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save this page as one file").click()
    copy = keep(saved.value, tmp_path)
    page.close()

    page = browser.new_page()
    page.route(re.compile("^https?:"), lambda route: route.abort())
    offline = Verifying(page, copy.as_uri())
    page.set_input_files("#file", receipt)
    expect(page.locator("#log-vkey")).to_have_value(ledger.sites[SITE].log_vkey)
    assert offline.verify() == "verified"
    expect(page.locator("#recorded")).to_contain_text("Consent refused")
    expect(page.locator("#save")).to_be_hidden()
    page.set_input_files("#file", receipt)
    page.fill("#receipt", receipt.read_text().replace('"seq": ', '"seq": 1'))
    assert offline.verify() == "failed"
    assert ([url for url in offline.sent if url.startswith("http")], offline.complaints) == ([], [])
    page.close()


def keep(download: Download, directory: Path) -> Path:
    path = directory / download.suggested_filename
    download.save_as(path)
    return path


@pytest.mark.parametrize("ed25519", ["missing", "lying"])
def test_a_browser_that_can_not_verify_says_so_and_claims_nothing(
    browser: BrowserContext, ledger: Credentials, ed25519: str
) -> None:
    page = browser.new_page()
    instead = {
        "missing": "Promise.reject(new DOMException('no', 'NotSupportedError'))",
        "lying": "Promise.resolve(true)",
    }
    page.add_init_script(f"SubtleCrypto.prototype.verify = () => {instead[ed25519]};")
    page.goto(f"{ledger.base_url}/verify")
    expect(page.get_by_role("alert")).to_contain_text("does not know Ed25519")
    expect(page.locator("#verify")).to_be_disabled()
    expect(page.locator("#result")).to_be_hidden()
    page.close()


def test_nothing_in_a_receipt_becomes_markup(verifying: Verifying) -> None:
    markup = "<img src=x onerror=alert(1)>"
    verifying.bring(GOOD | {markup: 1, "site": markup})
    assert verifying.verify() == "failed"
    verifying.bring(GOOD | {markup: 1})
    assert verifying.verify() == "verified"
    expect(verifying.page.locator("#recorded")).to_contain_text(markup)
    assert verifying.page.locator("#result img").count() == 0
    assert (verifying.sent, verifying.complaints) == ([], [])


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (768, "dark"), (1280, "light")])
def test_the_page_fits_the_screen_and_every_control_has_a_name(verifying: Verifying, width: int, scheme: Any) -> None:
    page = verifying.page
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    for receipt in (TAMPERED["the payload says denied"][1], BARE, GOOD):
        verifying.bring(receipt)
        verifying.verify()
        page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CONTRAST) == []
    for role in ("button", "textbox", "link"):
        for control in page.get_by_role(role).all():
            assert control.evaluate("node => node.ariaLabel || node.labels?.[0]?.innerText || node.innerText"), role
