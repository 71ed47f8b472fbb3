"""`consent-ledger certificate`: get a certificate of erasure from the ledger, or verify one offline.

Verifying opens no connection and reads no settings: a certificate, and the keys that its reader brings along.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import BinaryIO

import click

from ledger.certificate_report import render, told, verdict
from ledger.commands.could_not_run import or_could_not_run
from ledger.commands.locate import DATA, find_settings
from ledger.core.certificate import MAX_CERTIFICATE_BYTES
from ledger.core.certificate_check import verify_certificate
from ledger.core.encoding import decode_json
from ledger.core.errors import ConfigInvalid, Malformed
from ledger.core.event import EventId, matches
from ledger.core.jws import decode_base64url, thumbprint
from ledger.core.note import TYPE_ED25519, parse_vkey
from ledger.core.receipt_message import MAX_RECEIPT_BYTES

EXIT_CODES = {"verified": 0, "failed": 1, "unproven": 3}
MAX_JWKS_BYTES = 1024 * 1024


@click.group("certificate")
def certificate_command() -> None:
    """Certificates of erasure: what was erased, when and why, and what remains."""


@certificate_command.command("get")
@click.argument("site_name", metavar="SITE")
@click.argument("erasure", metavar="ERASURE")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here; else to the screen.")
@DATA
def get_command(site_name: str, erasure: str, output: Path | None, data: Path) -> None:
    """Get the signed certificate of an erasure of SITE, by the id that the order was answered with.

    It is made anew each time, and tells what consumers have confirmed by then.
    """
    if not matches(EventId, erasure):
        raise ConfigInvalid("an erasure's id is a UUID in lower case, as the order was answered with")
    token = asyncio.run(_get(data, site_name, erasure)) + b"\n"
    if output is None:
        click.echo(token.decode(), nl=False)
        return
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(token)


async def _get(data: Path, site_name: str, erasure: str) -> bytes:
    from ledger.app import open_service  # noqa: PLC0415 - `--help` starts fast
    from ledger.certificates import certificate  # noqa: PLC0415
    from ledger.keys.receipts import ReceiptKeys  # noqa: PLC0415

    settings = find_settings(data)
    async with open_service(settings) as service:
        keys = ReceiptKeys(settings, service.reads)
        return await certificate(service, keys, await service.site(site_name), erasure)


@certificate_command.command("verify")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--log-vkey",
    "log_vkeys",
    multiple=True,
    required=True,
    metavar="VKEY",
    help="The log's key, as it was given to you out of band. Repeated, as after a rotation: one of them has to have "
    "signed.",
)
@click.option(
    "--jwks",
    type=click.File("rb"),
    help="The site's receipt keys, as published at /.well-known/jwks.json: one of them has to have signed.",
)
@click.option(
    "--receipt",
    "receipts",
    type=click.File("rb"),
    multiple=True,
    help="A receipt of an event that the erasure has to have named; may be repeated.",
)
@click.option("--evidence", metavar="HEX", help="The evidence of your own request, as it was sent: SHA-256 of it.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def verify_command(
    context: click.Context,
    file: BinaryIO,
    log_vkeys: tuple[str, ...],
    jwks: BinaryIO | None,
    receipts: tuple[BinaryIO, ...],
    evidence: str | None,
    as_json: bool,
) -> None:
    """Verify a certificate of erasure offline: FILE as it was got, - reads it from standard input.

    Take the keys from where you trust them, never from the certificate itself: without --jwks it is not proven who
    signed.
    Exit code 0: verified, 1: failed, 2: could not run, 3: not everything that proves it could be checked.
    """
    with or_could_not_run(context):
        report = verify_certificate(
            file.read(MAX_CERTIFICATE_BYTES + 2),
            tuple(parse_vkey(text, TYPE_ED25519) for text in log_vkeys),
            () if jwks is None else _key_names(jwks.read(MAX_JWKS_BYTES + 1)),
            tuple(receipt.read(MAX_RECEIPT_BYTES + 1) for receipt in receipts),
            evidence,
        )
        text = told(report).encode().decode() if as_json else render(report).removesuffix("\n")
    click.echo(text)
    context.exit(EXIT_CODES[verdict(report)])


def _key_names(data: bytes) -> tuple[str, ...]:
    """Thumbprints of the Ed25519 keys in a JWK set; `ConfigInvalid` where it is none."""
    try:
        keys = decode_json(data.strip()).get("keys")
        publics = [decode_base64url(key["x"]) for key in keys if key.get("crv") == "Ed25519"]  # type: ignore[union-attr]
    except (Malformed, TypeError, KeyError, AttributeError) as error:
        raise ConfigInvalid("--jwks is a JWK set, as /.well-known/jwks.json has it") from error
    if not publics:
        raise ConfigInvalid("--jwks holds no Ed25519 key")
    return tuple(thumbprint(public) for public in publics)
