"""`consent-ledger export-person`: everything that is held of one visitor, into a file that can be verified offline."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import BinaryIO

import click

from ledger.administration import Act, Who
from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, find_settings
from ledger.commands.visitor_option import VISITOR_FILE, read_visitor
from ledger.core.errors import ConfigInvalid
from ledger.core.event import Language, matches

_STDOUT = Path("-")


@click.command("export-person")
@click.argument("site_name", metavar="SITE")
@click.argument("target", metavar="FILE|-", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "html"]),
    default="json",
    show_default=True,
    help="JSON as of /schemas/person-export.json; or a page for printing that verifies its receipts.",
)
@click.option("--language", metavar="TAG", help="Of the page (en, ru, kk); else the visitor's own.")
@VISITOR_FILE
@acting_options
@DATA
def export_person_command(
    site_name: str, target: Path, form: str, language: str | None, visitor_file: BinaryIO, data: Path, who: Who
) -> None:
    """Write everything that is held of one visitor of SITE: events with receipts and proofs, and all decisions.

    It is personal data, and readable by you alone. The visitor's id is read from standard input or a file, never from
    the command line.
    """
    if language is not None and (form != "html" or not matches(Language, language)):
        raise click.UsageError("--language is a tag like en, ru or kk, and goes with --format html")
    visitor = read_visitor(visitor_file)

    def write(file: BinaryIO) -> None:
        asyncio.run(_export(data, site_name, visitor, file, act, form, language))

    act = who.act("export.made", {"kind": "person", "target": "stream" if target == _STDOUT else "file"})
    if target == _STDOUT:
        write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigInvalid(f"{target} is there already: name another file") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


async def _export(
    data: Path, site_name: str, visitor: str, file: BinaryIO, act: Act, form: str, language: str | None
) -> None:
    from ledger import person  # noqa: PLC0415 - a wrong argument is told fast
    from ledger.app import open_service  # noqa: PLC0415
    from ledger.http import person_page  # noqa: PLC0415

    async with open_service(find_settings(data)) as service:
        site = await service.site(site_name)
        found = await person.look_up(service, site, visitor)
        await service.administration.record(site.site, act)
        if not (await service.history(site, visitor, None, 1)).events:
            click.echo(f"nothing is on record under this id at {site_name}: is it the right one?", err=True)
        pieces = person_page.pieces(found, language) if form == "html" else person.written(found)
        async for piece in pieces:
            file.write(piece)
