"""The command `scrub`: write anew, now, every table that may hold what was erased."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from ledger.commands.locate import DATA, find_admin_url, find_settings
from ledger.core.errors import ConfigInvalid
from ledger.progress import bar
from ledger.scrub import Scrubbed, connected, relations, scrub


@click.command("scrub")
@click.option("--touched", is_flag=True, help="Only tables from which something was deleted since the last time.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@DATA
def scrub_command(touched: bool, as_json: bool, data: Path) -> None:
    """Write tables anew, so that what was erased is gone from their files, and let the WAL of before go.

    Whoever records or reads waits while a table is locked: a second or so for each 30 MB. Where
    LEDGER_ADMIN_DATABASE_URL is set it is used, which Postgres before 17 needs. Exit code 1 if something is left; run
    it again then.
    """
    done = asyncio.run(_scrub(_url(data), touched))
    if as_json:
        tables = [{**table._asdict(), "clean": table.clean} for table in done.tables]
        click.echo(msgspec.json.encode({"clean": done.clean, "wal": done.wal, "tables": tables}))
    else:
        _tell(done)
    sys.exit(0 if done.clean and done.wal else 1)


def _url(data: Path) -> str:
    try:
        return find_admin_url(data)
    except ConfigInvalid:
        return find_settings(data).database_url


async def _scrub(url: str, touched: bool) -> Scrubbed:
    async with connected(url) as connection:
        tables = [table for table in await relations(connection) if table.touched or not touched]
        with bar("writing anew", "bytes") as progress:
            return await scrub(connection, tables, progress)


def _tell(done: Scrubbed) -> None:
    for table in done.tables:
        if table.trouble:
            click.echo(f"{table.name}: NOT written anew: {table.trouble}")
        elif table.kept:
            click.echo(f"{table.name}: {table.kept} deleted rows are LEFT, which an open transaction may still see")
        else:
            sizes = f"{table.bytes_before / 1e6:.1f} MB before, {table.bytes_after / 1e6:.1f} MB now"
            click.echo(f"{table.name}: written anew, {sizes}, locked for {table.held_seconds:.2f} s at most")
    if not done.tables:
        click.echo("nothing was deleted since the last time")
    elif done.wal:
        click.echo("WAL: begun anew, what lay before is dropped as far as the server may (`consent-ledger doctor`)")
    else:
        click.echo("WAL: this login may not ask for a checkpoint; it goes with the server's own ones")
