"""`consent-ledger policy check` and `schema`: read a site document offline, and help an editor to write one.

It opens no connection and publishes nothing. What may be used but should be thought over is told as advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import click

from ledger.config import POLICY_BODY_MAX_BYTES
from ledger.core.document import Cookie, Purpose, SiteDocument, encode_document
from ledger.core.document_advice import Advice, advise
from ledger.core.encoding import encode_json
from ledger.core.errors import DocumentInvalid
from ledger.core.policy import parse_site_document
from ledger.core.regions import DEFAULT
from ledger.core.source import line_of
from ledger.policies.authoring import check_uploads, read_authored

FAULTY = 1


@click.command("check")
@click.argument("document", type=click.File("rb"))
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--strict", is_flag=True, help="Exit with 1 for advice as for a fault.")
def check_command(document: BinaryIO, as_json: bool, strict: bool) -> None:
    """Read a site document and tell what is wrong with it or, where nothing is, what it says.

    DOCUMENT is a file of YAML or JSON, or - for standard input. Nothing is published and nothing is asked of a server.

    Exit code 0: it can be published (there may be advice); 1: it cannot; 2: it could not be read at all.
    """
    data = document.read(POLICY_BODY_MAX_BYTES + 1)
    try:
        authored = read_authored(data, folder_of(document))
        found = parse_site_document(authored.source)
        check_uploads(found, authored.uploads)
    except DocumentInvalid as error:
        line = line_of(data, error.place)
        if as_json:
            fault = {"path": error.path, "pointer": error.pointer, "detail": error.detail}
            click.echo(encode_json({"valid": False, "fault": fault | ({"line": line} if line else {})}))
        else:
            where = f", line {line}" if line else ""
            click.echo(f"{_name(document)}{where}: {error}", err=True)
        raise SystemExit(FAULTY) from error
    advice = advise(found)
    if as_json:
        told = [{"path": one.path, "text": one.text} for one in advice]
        digest = sha256(encode_document(found)).hexdigest()
        click.echo(
            encode_json(
                {"valid": True, "site": found.site, "version": found.version, "document": digest, "advice": told}
            )
        )
    else:
        click.echo("\n".join(summary(found, advice)))
    if strict and advice:
        raise SystemExit(FAULTY)


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of site documents, for an editor: it completes and explains every member.

    Keep it beside your document, and begin the document with the line

    # yaml-language-server: $schema=site-document.schema.json

    A server has it at /schemas/site-document.json.
    """
    click.echo((Path(__file__).parent.parent / "http" / "site-document.schema.json").read_text("utf-8"), nl=False)


def folder_of(document: BinaryIO) -> Path | None:
    """Where the document lies; None for standard input."""
    name = _name(document)
    return None if name == "standard input" else Path(name).parent


def _name(document: BinaryIO) -> str:
    name: str = getattr(document, "name", "-")
    return "standard input" if name in ("-", "<stdin>") else name


def summary(document: SiteDocument, advice: tuple[Advice, ...]) -> list[str]:
    """What the document says, for a person, in lines."""
    policy, encoded = document.policy, encode_document(document)
    lines = [
        f"{document.site}, version {policy.version}, in force from {policy.effective_at} at the earliest",
        f"  controller   {document.controller.name}",
        f"  languages    {', '.join(document.languages)}",
        f"  consent      lasts {document.renew_after}; asked again after a refusal: "
        f"{document.reask_after.refusal or 'never'}",
        f"  published    {len(encoded)} bytes with the SHA-256 {sha256(encoded).hexdigest()}",
    ]
    for name in document.order:
        lines += ["", *_purpose(document, name, document.purposes[name])]
    if advice:
        lines += ["", "To think over (none of it hinders publishing):"]
        lines += [f"  {path}: {text}" for path, text in advice]
    return lines


def _purpose(document: SiteDocument, name: str, purpose: Purpose) -> list[str]:
    title = next(iter(purpose.title.values()))
    lines = [f"{name} ({title}): {_asked(document, name, purpose)}"]
    if purpose.legal_basis:
        lines.append(f"  {'basis':<14} {_by_region(purpose.legal_basis).replace('_', ' ')}")
    lines += [f"  {'data':<14} {next(iter(kind.title.values()))}" for kind in purpose.data.values()]
    lines += [f"  {cookie.storage:<14} {_cookie(cookie)}" for cookie in purpose.cookies]
    for recipient in purpose.recipients:
        parts = (recipient.name, recipient.role.replace("_", " "), recipient.region, recipient.transfer)
        lines.append(f"  {'recipient':<14} {', '.join(part for part in parts if part).replace('_', ' ')}")
    return lines


def _asked(document: SiteDocument, name: str, purpose: Purpose) -> str:
    if purpose.removed_in is not None:
        return f"removed in version {purpose.removed_in}"
    if purpose.required:
        return "required, never asked"
    words = [
        purpose.kind if purpose.kind != "consent" else "",
        _by_region(document.regimes_of(name)),
        f"lasts {document.renewal_of(name)}",
    ]
    words += [f"goes on with {purpose.alias_of}"] if purpose.alias_of else []
    words += [f"needs {' and '.join(purpose.needs)}"] if purpose.needs else []
    words += [] if purpose.in_use else ["not in use"]
    words += [] if purpose.withdrawable else ["cannot be withdrawn"]
    return "; ".join(filter(None, words))


def _by_region(table: Mapping[str, str]) -> str:
    """Like `opt-out, EU opt-in`: what holds everywhere else stands first."""
    ordered = sorted(table.items(), key=lambda item: item[0] != DEFAULT)
    return ", ".join(word if region == DEFAULT else f"{region} {word}" for region, word in ordered)


def _cookie(cookie: Cookie) -> str:
    named = cookie.name or cookie.pattern or next(iter(cookie.description.values()))
    lives = f"{cookie.inactivity} unused" if cookie.inactivity else str(cookie.duration)
    notes = ["third party"] if cookie.party == "third" else []
    notes += ["conditional"] if cookie.conditional else []
    return ", ".join((named, lives, *notes))
