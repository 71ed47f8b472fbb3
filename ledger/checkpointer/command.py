"""`consent-ledger checkpoint`: what an operator sees of the signing of a log, and how a lost record is put back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import click

from ledger.checkpointer import restore
from ledger.commands.locate import DATA, at_database
from ledger.config import Settings
from ledger.core import agreement
from ledger.core.encoding import encode_base64
from ledger.core.errors import ConfigInvalid
from ledger.store.reads import Reads
from ledger.store.sites import SiteRow, checkpoint_trouble, find_log

SITE = click.argument("site_name", metavar="SITE")


@click.group("checkpoint")
def checkpoint_command() -> None:
    """Signed checkpoints: how the checkpointer fares with a site, and what to do where it refuses."""


@checkpoint_command.command("status")
@SITE
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@DATA
def status(site_name: str, as_json: bool, data: Path) -> None:
    """Judge the whole log anew, and ask every place that knows the last checkpoint what it knows.

    It writes nothing, and the worker may go on beside it. Exit code 1 where something is wrong.
    """

    async def work(settings: Settings, pool: asyncpg.Pool, site: SiteRow) -> bool:
        row = (await Reads(pool).checkpointers()).get(site.site_id)
        trouble = checkpoint_trouble(row)
        places: dict[str, str] = {}
        size, log_size, fault = 0, 0, ""
        try:
            async with restore.examining(settings, pool, site) as (_, found):
                places = {name: restore.describe(said) for name, said in found.looked.said.items()}
                size, log_size = found.checkpoint.size if found.checkpoint else 0, found.log_size
        except ConfigInvalid as error:
            fault = str(error)
        answer = {
            "site": site.site,
            "origin": site.origin,
            "checkpointer": trouble or "signing",
            "witnesses": json.loads(row.witnesses) if row is not None else [],
            "log": fault or "sound",
            "size": size,
            "logSize": log_size,
            "places": places,
        }
        if as_json:
            click.echo(json.dumps(answer, indent=1, ensure_ascii=False))
        else:
            click.echo(f"{site.site}: checkpointer: {answer['checkpointer']}")
            click.echo(f"log: {answer['log']}" + ("" if fault else f", {log_size} entries, {size} of them signed"))
            for name, what in places.items():
                click.echo(f"  {name:12} {what}")
        return not trouble and not fault

    if not _run(data, site_name, work):
        raise SystemExit(1)


@checkpoint_command.command("restore-record")
@SITE
@click.option("--to", "place", type=click.Choice([agreement.NATS, agreement.ANCHOR, agreement.DATABASE]), required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@DATA
def restore_record(site_name: str, place: str, yes: bool, data: Path) -> None:
    """Put the record of the last checkpoint back where it was lost, from the places that still have it.

    First the whole log is judged anew, and every other place and witness is asked: if one is ahead or disagrees,
    nothing is written. Find out first why the record is gone: it may be the trace of an attack.
    """

    async def work(settings: Settings, pool: asyncpg.Pool, site: SiteRow) -> bool:
        async with restore.examining(settings, pool, site) as (checkpointer, found):
            checkpoint = restore.check(found, place)
            click.echo(f"The log is sound up to {found.log_size} entries.")
            click.echo(f"Last checkpoint: size {checkpoint.size}, root {encode_base64(checkpoint.root)}")
            click.echo(f"It is known to: {', '.join(found.vouching)}")
            if not yes:
                click.confirm(f"Write it to the {place} record?", abort=True)
            await restore.put_back(checkpointer, found, place)
            click.echo("Written. The worker goes on by itself within seconds.")
        return True

    _run(data, site_name, work)


def _run(data: Path, site_name: str, work: Callable[[Settings, asyncpg.Pool, SiteRow], Awaitable[Any]]) -> Any:
    async def at(settings: Settings, pool: asyncpg.Pool) -> Any:
        return await work(settings, pool, await find_log(pool, site_name))

    return at_database(data, at)
