"""`consent-ledger receipt` as a command: exit codes, words, JSON, and a receipt got from a server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from click.testing import CliRunner, Result

from ledger.cli import main
from tests.logbuilder import LogBuilder, key
from tests.receipt_cases import (
    ACCOUNT_EVENT,
    DISMISSED_EVENT,
    GOOD,
    LOG,
    OWN_EVENT,
    SEQ,
    TAMPERED,
    W1,
    W2,
    of_payload,
)
from tests.receipts import b64, encode, proof_of, receipt_of

BARE = {name: value for name, value in GOOD.items() if name != "proof"}
VKEY = ("--log-vkey", str(LOG.log_vkey))
SIGNER = ("--log-id", LOG.log_id.hex(), "--ingest-key", b64(LOG.ingest.public))


def run(receipt: dict[str, Any] | bytes, *arguments: str) -> Result:
    data = receipt if isinstance(receipt, bytes) else encode(receipt)
    return CliRunner().invoke(main, ["receipt", "verify", "-", *arguments], input=data)


def test_a_sound_receipt_is_0_and_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "receipt.json").write_bytes(encode(GOOD))
    command = [sys.executable, "-m", "ledger", "receipt", "verify", "receipt.json", *VKEY, "--witness", str(W1)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"VERIFIED: the log {LOG.origin} holds this event, as entry {SEQ}.")
    for words in ("Consent given", "analytics: granted", "marketing: denied", "version 1.0", "ok           inclusion"):
        assert words in done.stdout
    assert f"{W1.name}, a witness that you trust, saw" in done.stdout
    assert "What the visitor's consent is today" in done.stdout


def test_events_of_every_type_are_told_in_words() -> None:
    for payload, words in (
        (ACCOUNT_EVENT, ["Consent given", "made for every browser of the account 0f0f", "with a secret key", "v1;yes"]),
        (ACCOUNT_EVENT, ["the price of access", "TCF", "GPP", "taken over from another system"]),
        (OWN_EVENT, ["Consent expired", "analytics, granted in entry 3", "the ledger itself: nobody acted"]),
        (DISMISSED_EVENT, ["Question closed without an answer", "a web page, with a publishable key"]),
    ):
        done = run(of_payload(payload), *VKEY)
        assert done.exit_code == 0, done.output
        told = " ".join(done.stdout.split())
        assert [word for word in words if word not in told] == []


def test_a_receipt_that_was_tampered_with_is_1_and_nothing_of_it_is_told_as_a_fact() -> None:
    done = run(TAMPERED["the payload says denied"][1], *VKEY)
    assert done.exit_code == 1
    assert done.stdout.startswith("FAILED: do not rely on this receipt. Salt and payload are not what")
    assert "FAILED       commitment" in done.stdout
    assert "What was recorded" not in done.stdout
    assert GOOD["id"] not in done.stdout


@pytest.mark.parametrize("name", list(TAMPERED))
def test_no_tampered_receipt_gets_another_exit_code(name: str) -> None:
    assert run(TAMPERED[name][1], *VKEY, "--witness", str(W1)).exit_code == 1


def test_without_a_proof_it_is_3_and_never_called_verified() -> None:
    unproven, accepted = run(BARE, *VKEY), run(BARE, *VKEY, *SIGNER)
    assert (unproven.exit_code, accepted.exit_code) == (3, 3)
    assert unproven.stdout.startswith("NOT PROVEN: ")
    assert accepted.stdout.startswith("ACCEPTED ONLY: ")
    assert "That the event is in the log: get the receipt again" in accepted.stdout
    assert "VERIFIED" not in unproven.stdout + accepted.stdout


def test_json_says_the_same_to_a_program() -> None:
    told = json.loads(run(GOOD, *VKEY, "--witness", str(W1), *SIGNER, "--json").stdout)
    assert (told["verdict"], told["seq"], told["recordedAt"]) == ("verified", SEQ, GOOD["recordedAt"])
    assert {check["result"] for check in told["checks"]} == {"ok"}
    assert told["event"]["decisions"] == {"analytics": "granted", "marketing": "denied"}
    assert told["checkpoint"] == {
        "origin": LOG.origin,
        "size": len(LOG.leaves),
        "root": b64(LOG.root_hash(len(LOG.leaves))),
    }
    assert [cosigned["witness"] for cosigned in told["cosigned"]] == [str(W1)]
    failed = run(TAMPERED["the payload says denied"][1], *VKEY, "--json")
    assert (failed.exit_code, json.loads(failed.stdout)["verdict"]) == (1, "failed")
    assert "event" not in json.loads(failed.stdout)


def test_a_policy_brings_log_keys_and_a_quorum(tmp_path: Path) -> None:
    file = tmp_path / "policy"
    lines = f"log {LOG.log_vkey}\nwitness w1 {W1}\nwitness w2 {W2}\ngroup g 1 w1 w2\nquorum "
    file.write_text(lines + "g\n")
    assert run(GOOD, "--policy", str(file)).exit_code == 0
    file.write_text(lines + "w2\n")
    done = run(GOOD, "--policy", str(file))
    assert done.exit_code == 1
    assert "quorum is not reached" in done.stdout


def test_after_a_rotation_several_log_keys_may_be_brought() -> None:
    new = key("log 2")
    after = receipt_of(LOG, SEQ, LOG.checkpoint(signers=[new]))
    assert run(after, *VKEY).exit_code == 1
    assert run(after, *VKEY, "--log-vkey", str(LOG.vkey(new))).exit_code == 0


def test_a_proof_fetched_apart_takes_the_place_of_the_receipts_own(tmp_path: Path) -> None:
    file = tmp_path / "event.tlog-proof"
    file.write_text(proof_of(LOG, SEQ, LOG.checkpoint()))
    assert run(BARE, *VKEY, "--proof", str(file)).exit_code == 0
    file.write_text(proof_of(LOG, SEQ + 1, LOG.checkpoint()))
    assert run(GOOD, *VKEY, "--proof", str(file)).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--log-vkey"),
        (("--log-vkey", "no key"), "--log-vkey: "),
        (("--log-vkey", str(W1)), "--log-vkey: "),
        ((*VKEY, "--witness", str(LOG.log_vkey)), "--witness: "),
        ((*VKEY, "--log-id", "00"), "--log-id is 64 hex digits"),
        ((*VKEY, *SIGNER[2:]), "--ingest-key needs --log-id"),
        ((*VKEY, *SIGNER[:3], b64(bytes(32))), "--ingest-key: "),
        ((*VKEY, "--policy", __file__), "--policy: line 1"),
        ((*VKEY, "--proof", "no-such-file"), "no-such-file"),
        (("--nonsense",), "No such option"),
    ],
)
def test_what_can_not_be_used_is_2_with_a_reason(arguments: tuple[str, ...], words: str) -> None:
    done = run(GOOD, *arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_file_that_is_not_there_is_2() -> None:
    done = CliRunner().invoke(main, ["receipt", "verify", "no-such-file", *VKEY])
    assert (done.exit_code, "no-such-file" in done.stderr) == (2, True)


def test_nothing_in_a_receipt_steers_the_terminal() -> None:
    log = LogBuilder()
    seq = log.event(policyVersion=None, citedPolicyVersion="\x1b[2J\u202e\x07")
    done = run(receipt_of(log, seq) | {"\x1b[31m": 1}, *VKEY)
    assert done.exit_code == 0
    assert not {"\x1b", "\u202e", "\x07"} & set(done.stdout)
    assert "\ufffd[31m" in done.stdout


# --- get -------------------------------------------------------------------------------------------------------------


RENDERED = b"x" * 700_000
"""Longer than any receipt, and than what one read of a socket gives."""


class Server:
    """A ledger that answers with one receipt, at first without its proof."""

    def __init__(self) -> None:
        self.without_proof = 0
        self.asked: list[tuple[str, str]] = []
        self.queries: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers["Authorization"]))
        if request.match_info["id"] != GOOD["id"]:
            problem = {"type": "not-found", "title": "Not found", "status": 404, "detail": "There is no such event."}
            return web.json_response(problem, status=404)
        self.without_proof -= 1
        self.queries.append(request.query_string)
        if "format" in request.query:
            headers = {"Retry-After": "1"} if self.without_proof >= 0 else {}
            return web.Response(body=RENDERED, content_type="text/html", headers=headers)
        return web.json_response(GOOD if self.without_proof < 0 else BARE)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    app = web.Application()
    app.router.add_get("/v1/sites/{site}/receipts/{id}", served.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


async def get(server: Server, *arguments: str) -> tuple[int | None, str, str]:
    environ = {"LEDGER_URL": server.url, "LEDGER_PUBLISHABLE_KEY": "pk_test", "LEDGER_SECRET_KEY": "sk_test"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ledger", "receipt", "get", LOG.site, *arguments),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_receipt_is_got_once_its_proof_is_there(server: Server, tmp_path: Path) -> None:
    server.without_proof = 2
    code, out, err = await get(server, GOOD["id"], "-o", str(tmp_path / "receipt.json"))
    assert (code, out, err) == (0, "", "")
    assert json.loads((tmp_path / "receipt.json").read_text()) == GOOD
    assert server.asked == [(f"/v1/sites/{LOG.site}/receipts/{GOOD['id']}", "Bearer sk_test")] * 3


async def test_a_receipt_without_a_proof_in_time_is_3(server: Server) -> None:
    server.without_proof = 1_000
    code, out, err = await get(server, GOOD["id"], "--wait", "0")
    assert (code, json.loads(out)) == (3, BARE)
    assert "no proof yet" in err


async def test_a_rendering_is_got_whole_once_its_proof_is_there(server: Server, tmp_path: Path) -> None:
    server.without_proof = 1
    page = tmp_path / "record.html"
    code, out, err = await get(server, GOOD["id"], "--format", "html", "--language", "kk", "-o", str(page))
    assert (code, out, err) == (0, "", "")
    assert page.read_bytes() == RENDERED
    assert server.queries == ["format=html&language=kk"] * 2
    server.without_proof = 1_000
    code, out, err = await get(server, GOOD["id"], "--format", "iso27560", "--wait", "0")
    assert (code, len(out.strip())) == (3, len(RENDERED))
    assert "no proof yet" in err
    assert server.queries[-1] == "format=iso27560"


async def test_a_format_that_there_is_none_of_is_told_before_anybody_is_asked(server: Server) -> None:
    code, _, err = await get(server, GOOD["id"], "--format", "pdf")
    assert code == 2
    assert "iso27560" in err
    assert server.asked == []


async def test_a_refusal_of_the_server_is_told_in_its_words(server: Server) -> None:
    code, out, err = await get(server, "01980000-0000-7000-8000-00000000ffff")
    assert (code, out) == (2, "")
    assert "404: Not found. There is no such event." in err


def test_the_key_of_another_log_of_the_same_name_is_told() -> None:
    done = run(GOOD, "--log-vkey", str(LOG.vkey(key("thief"))))
    assert done.exit_code == 1
    assert "did not sign the checkpoint" in done.stdout
