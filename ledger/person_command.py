"""`consent-ledger export-person`: everything that is held of one visitor, into a file that can be verified offline."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import BinaryIO

import click

from ledger.acting import acting_options
from ledger.administration import Act, Who
from ledger.core.errors import ConfigInvalid
from ledger.locate import DATA, find_settings
from ledger.visitor_option import VISITOR_FILE, read_visitor

_STDOUT = Path("-")


@click.command("export-person")
@click.argument("site_name", metavar="SITE")
@click.argument("target", metavar="FILE|-", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
@VISITOR_FILE
@acting_options
@DATA
def export_person_command(site_name: str, target: Path, visitor_file: BinaryIO, data: Path, who: Who) -> None:
    """Write everything that is held of one visitor of SITE: events with receipts and proofs, and all decisions.

    It is personal data, and readable by you alone. The visitor's id is read from standard input or a file, never from
    the command line.
    """
    visitor = read_visitor(visitor_file)
    act = who.act("export.made", {"kind": "person", "target": "stream" if target == _STDOUT else "file"})
    if target == _STDOUT:
        asyncio.run(_export(data, site_name, visitor, sys.stdout.buffer, act))
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigInvalid(f"{target} is there already: name another file") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            asyncio.run(_export(data, site_name, visitor, file, act))
    except BaseException:
        target.unlink(missing_ok=True)
        raise


async def _export(data: Path, site_name: str, visitor: str, file: BinaryIO, act: Act) -> None:
    from ledger import person  # noqa: PLC0415 - a wrong argument is told fast
    from ledger.app import open_service  # noqa: PLC0415

    async with open_service(find_settings(data)) as service:
        site = await service.site(site_name)
        found = await person.look_up(service, site, visitor)
        await service.administration.record(site.site, act)
        async for piece in person.written(found):
            file.write(piece)
