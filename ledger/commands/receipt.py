"""`consent-ledger receipt`: verify a receipt offline, or get one from the running server.

Verifying opens no connection and reads no settings: a receipt, and the keys that its reader brings along.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, urlencode

import aiohttp
import click
import msgspec

from ledger.commands import options
from ledger.commands.could_not_run import or_could_not_run
from ledger.commands.locate import data_option
from ledger.config import RECEIPT_ANSWER_MAX_BYTES, RECEIPT_PROOF_POLL_SECONDS, RECEIPT_REQUEST_TIMEOUT_SECONDS
from ledger.core.ed25519 import check_public
from ledger.core.encoding import decode_base64
from ledger.core.errors import ConfigInvalid
from ledger.core.note import TYPE_COSIGNATURE, TYPE_ED25519, parse_vkey
from ledger.core.quorum import MAX_POLICY_BYTES, TrustPolicy, parse_policy
from ledger.core.receipt import verify_receipt
from ledger.core.receipt_message import MAX_RECEIPT_BYTES, parse_receipt
from ledger.core.tlog_proof import MAX_PROOF_BYTES
from ledger.credentials import Access, find_access
from ledger.messages import Problem
from ledger.receipt_report import EXIT_CODES, render, told
from ledger.terminal import plain

RECEIPT = "receipt"
NO_PROOF = 3


@click.group("receipt")
def receipt_command() -> None:
    """Receipts: the proof of one event that a visitor or a site keeps."""


@receipt_command.command("verify")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--log-vkey",
    "log_vkeys",
    multiple=True,
    metavar="VKEY",
    help="The log's key, as it was given to you out of band. Repeated, as after a rotation: one of them has to have "
    "signed.",
)
@click.option("--log-id", metavar="HEX", help="The log's id; with --ingest-key the event's own signature is checked.")
@click.option("--ingest-key", metavar="BASE64", help="The public key that signed the event; needs --log-id.")
@click.option(
    "--witness", "witnesses", multiple=True, metavar="VKEY", help="A witness that must have cosigned; may be repeated."
)
@click.option(
    "--policy",
    "policy_file",
    type=click.File("rb"),
    help="A trust policy (c2sp.org/tlog-policy): logs, witnesses and the quorum that must have cosigned.",
)
@click.option("--proof", type=click.File("rb"), help="A tlog-proof fetched apart, in place of the receipt's own.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def verify_command(
    context: click.Context,
    file: BinaryIO,
    log_vkeys: tuple[str, ...],
    log_id: str | None,
    ingest_key: str | None,
    witnesses: tuple[str, ...],
    policy_file: BinaryIO | None,
    proof: BinaryIO | None,
    as_json: bool,
) -> None:
    """Verify a receipt offline: FILE is its JSON, - reads it from standard input.

    Take the log's key from where you trust it, never from the receipt itself.
    Exit code 0: verified, 1: failed, 2: could not run, 3: there is no proof in it that the log holds the event.
    """
    with or_could_not_run(context):
        policy = None if policy_file is None else _read_policy(policy_file)
        if not log_vkeys and (policy is None or not policy.logs):
            raise ConfigInvalid("name the log's key by --log-vkey, or a policy with a log line by --policy")
        if ingest_key is not None and log_id is None:
            raise ConfigInvalid("--ingest-key needs --log-id: the signature covers the log's id")
        keys = tuple(options.read("--log-vkey", partial(parse_vkey, text, TYPE_ED25519)) for text in log_vkeys)
        trusted = tuple(options.read("--witness", partial(parse_vkey, text, TYPE_COSIGNATURE)) for text in witnesses)
        report = verify_receipt(
            _read(file, MAX_RECEIPT_BYTES),
            keys,
            trusted,
            policy,
            options.read_log_id("--log-id", log_id),
            None if ingest_key is None else options.read("--ingest-key", partial(_ingest_key, ingest_key)),
            None if proof is None else _read(proof, MAX_PROOF_BYTES),
        )
        text = told(report).encode().decode() if as_json else render(report)
    click.echo(text)
    context.exit(EXIT_CODES[report.verdict])


def _read(file: BinaryIO, limit: int) -> bytes:
    """The file, or so much of it that it is seen to be too long."""
    return file.read(limit + 1)


def _read_policy(file: BinaryIO) -> TrustPolicy:
    return options.read(
        "--policy", partial(parse_policy, _read(file, MAX_POLICY_BYTES).decode("utf-8", "surrogateescape"))
    )


def _ingest_key(text: str) -> bytes:
    public = decode_base64(text)
    check_public(public)
    return public


@receipt_command.command("get")
@click.argument("site")
@click.argument("event_id", metavar="ID")
@click.option(
    "--format",
    "rendering",
    type=click.Choice([RECEIPT, "iso27560", "kantara", "html"]),
    default=RECEIPT,
    show_default=True,
    help="The receipt itself, which is the evidence; a consent record as of ISO/IEC TS 27560 in JSON-LD; a Kantara "
    "Consent Receipt as signed JWT; or a page for printing that verifies itself.",
)
@click.option("--language", metavar="TAG", help="Of the page (en, ru, kk); else the visitor's own.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here; else to the screen.")
@click.option(
    "--wait",
    type=options.FiniteRange(0, 3600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a checkpoint that covers the event.",
)
@data_option("LEDGER_URL and the keys are not set")
@click.pass_context
def get_command(
    context: click.Context,
    site: str,
    event_id: str,
    rendering: str,
    language: str | None,
    output: Path | None,
    wait: float,
    data: Path,
) -> None:
    """Get the receipt of an event from the running server, with its proof, or a rendering of it.

    Exit code 0: it has one, 2: could not run, 3: no checkpoint covered the event in time.
    """
    asked = {"format": None if rendering == RECEIPT else rendering, "language": language}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    with or_could_not_run(context):
        got = asyncio.run(_get(find_access(site, data), event_id, query, wait))
        if output is None:
            click.echo(got.body.decode())
        else:
            output.write_bytes(got.body)
    if not got.proven:
        click.echo("it holds no proof yet: no checkpoint covers the event; try again later", err=True)
        context.exit(NO_PROOF)


class _Got(NamedTuple):
    """An answer's exact bytes, and whether a proof is in them."""

    body: bytes
    proven: bool


async def _get(access: Access, event_id: str, query: str, wait_seconds: float) -> _Got:
    """The answer: with a proof if there is one before the time is up. `ConfigInvalid` if refused."""
    deadline = time.monotonic() + wait_seconds
    url = f"{access.base_url}/v1/sites/{quote(access.site, safe='')}/receipts/{quote(event_id, safe='')}"
    limit = RECEIPT_ANSWER_MAX_BYTES if query else MAX_RECEIPT_BYTES
    headers = {"Authorization": f"Bearer {access.secret}"}
    timeout = aiohttp.ClientTimeout(total=RECEIPT_REQUEST_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        while True:
            try:
                async with session.get(f"{url}?{query}" if query else url, allow_redirects=False) as response:
                    body = await _read_answer(response, limit)
                    status = response.status
                    announced = "Retry-After" in response.headers  # of an answer that is had: a proof is to come
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ConfigInvalid(f"{access.base_url} does not answer: {type(error).__name__} {error}") from error
            if status != HTTPStatus.OK and (status != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline):
                raise ConfigInvalid(f"the server answers {status}{_problem(body)}")
            if status == HTTPStatus.OK:
                proven = not announced if query else parse_receipt(body).proof is not None
                if proven or time.monotonic() > deadline:
                    return _Got(body, proven)
            await asyncio.sleep(RECEIPT_PROOF_POLL_SECONDS)


async def _read_answer(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or so much of it that it is seen to be too long."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    if size > limit and response.status == HTTPStatus.OK and limit == RECEIPT_ANSWER_MAX_BYTES:
        raise ConfigInvalid(f"the server's answer is longer than {limit // 1024 // 1024} MiB")
    return b"".join(parts)


def _problem(body: bytes) -> str:
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return plain(f": {problem.title}. {problem.detail}")
