"""`consent-ledger import`: arguments in, a summary out. What an import does is run's."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import secrets
import sys
import time
from pathlib import Path
from typing import BinaryIO, TextIO

import click
import msgspec

from ledger.commands.locate import data_option
from ledger.core.errors import ConfigInvalid
from ledger.core.source import MAX_DOCUMENT_BYTES
from ledger.credentials import Access, find_access
from ledger.importing import c15t, columns, cookiebot, didomi, onetrust
from ledger.importing.found import Format
from ledger.importing.mapping import MappingFile, Plan, make_plan, read_mapping, read_site_policy
from ledger.importing.overdue import overdue_of
from ledger.importing.run import Export, Report, fetch_document, look_through, send_all
from ledger.importing.tally import Tally
from ledger.importing.text import opened
from ledger.importing.visitor import KEY_BYTES
from ledger.progress import bar

FORMATS: dict[str, Format] = {
    form.name: form for form in (columns.FORMAT, onetrust.FORMAT, didomi.FORMAT, cookiebot.FORMAT, c15t.FORMAT)
}
SOME_REFUSED = 1


def _encoding(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    try:
        "".encode(name or "utf-8")
    except LookupError as error:
        raise click.BadParameter(f"there is no text encoding {name}") from error
    return name


@click.command("import")
@click.argument("site_name", metavar="SITE")
@click.argument("path", metavar="FILE|-", type=click.Path(path_type=Path, allow_dash=True, exists=True, dir_okay=False))
@click.option("--format", "format_name", type=click.Choice(list(FORMATS)), required=True, help="Who wrote the file.")
@click.option(
    "--mapping", "mapping_file", type=click.File("rb"), help="YAML: which name of the file is which purpose, and more."
)
@click.option("--policy-version", metavar="VERSION", help="Published version of ours under which the consents count.")
@click.option("--time-zone", metavar="ZONE", help="Of times without an offset, like Europe/Berlin or UTC.")
@click.option(
    "--visitor-key",
    "key_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Key of the hash that takes the place of e-mail addresses and other ids that could be guessed; made in FILE "
    "if it is not there. Keep it: only with it such a person is found again.",
)
@click.option(
    "--encoding", callback=_encoding, help="Of text that is neither UTF-8 nor has a byte order mark, like cp1252."
)
@click.option("--dry-run", is_flag=True, help="Read all rows and tell what would be sent; send nothing.")
@click.option(
    "--report",
    "report_file",
    type=click.File("w", encoding="utf-8", lazy=False),
    help="NDJSON of the rows that are refused or left out.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="ROWS", help="Only the first so many rows.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
@click.option("--url", metavar="URL", help="Of the ledger, with a secret key in LEDGER_SECRET_KEY, instead of --data.")
@data_option("neither --url nor LEDGER_URL is given")
def import_command(
    site_name: str,
    path: Path,
    format_name: str,
    mapping_file: BinaryIO | None,
    policy_version: str | None,
    time_zone: str | None,
    key_file: Path | None,
    encoding: str | None,
    dry_run: bool,
    report_file: TextIO | None,
    limit: int | None,
    as_json: bool,
    url: str | None,
    data: Path,
) -> None:
    """Bring consents over from another tool's export, each with its row as evidence.

    The file is looked through before anything is sent, and may be imported again: nothing is stored twice. An imported
    consent counts at its own time and stays marked as imported. Addresses and browsers are taken out of the rows first.

    Exit code 0: all stored, 1: some rows were refused, 2: could not be done.
    """
    access = _access(site_name, data, url)
    mapping = MappingFile() if mapping_file is None else read_mapping(mapping_file.read(MAX_DOCUMENT_BYTES + 1))
    form = FORMATS[format_name]
    document, now_ms = fetch_document(access), time.time_ns() // 1_000_000
    plan = make_plan(
        mapping,
        read_site_policy(document),
        format_name=form.name,
        words=form.words,
        never_asked=form.never_asked,
        policy_version=policy_version,
        time_zone=time_zone,
        visitor_key=_visitor_key(key_file, make=not dry_run),
        now_ms=now_ms,
        overdue=overdue_of(document, now_ms),
    )
    with opened(path, sys.stdin.buffer) as file:
        tally = _run(Export(file, form, encoding, limit), plan, access, Report(report_file), dry_run)
    _tell(tally, as_json, sent=not dry_run)
    sys.exit(SOME_REFUSED if tally.refused else 0)


def _run(export: Export, plan: Plan, access: Access, report: Report, dry_run: bool) -> Tally:
    with bar("Reading", "KB") as progress:
        seen = look_through(export, plan, report if dry_run else Report(None), progress)
    if dry_run:
        return seen
    tally = Tally()
    try:
        with bar("Sending", "rows") as progress:
            asyncio.run(send_all(export, plan, access, report, tally, seen.rows, progress))
    except BaseException:
        if tally.rows:
            _tell(tally, as_json=False, sent=True)
            click.echo("not finished: the same command goes on from here", err=True)
        raise
    return tally


def _tell(tally: Tally, as_json: bool, *, sent: bool) -> None:
    click.echo(msgspec.json.encode(tally) if as_json else "\n".join(tally.lines(sent=sent)))


def _access(site: str, data: Path, url: str | None) -> Access:
    """By --url or LEDGER_URL and the key in LEDGER_SECRET_KEY, else by the data directory."""
    base, secret = url or os.environ.get("LEDGER_URL", ""), os.environ.get("LEDGER_SECRET_KEY", "")
    if base and secret:
        return Access(base.rstrip("/"), site, "", secret)
    if base:
        raise ConfigInvalid("set LEDGER_SECRET_KEY to a secret key of the site that has the scope events")
    return find_access(site, data)


def _visitor_key(path: Path | None, *, make: bool) -> bytes | None:
    """The key in the file, or a fresh one that is put there; with a dry run it is put nowhere."""
    if path is None:
        return None
    try:
        key = base64.b64decode(path.read_text("ascii").strip(), validate=True)
    except FileNotFoundError:
        key = secrets.token_bytes(KEY_BYTES)
        if make:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(base64.b64encode(key).decode() + "\n")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigInvalid(f"{path} holds no key: {KEY_BYTES} bytes in base64, as this command makes it")
    return key
