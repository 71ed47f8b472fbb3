"""`consent-ledger recover`: what it tells and asks; what cannot be undone is done only after an answer."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO

import click

from ledger.administration import Who, open_administration
from ledger.backup.folder import ERASURES
from ledger.backup.journal import ErasureLine, Journal, gone_of
from ledger.backup.tail import size_of
from ledger.bus import Bus, BusError
from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, find_admin_url, find_settings
from ledger.config import Settings
from ledger.core.admin_act import is_admin_log, site_of
from ledger.core.encoding import encode_time
from ledger.core.entry import decode
from ledger.core.errors import ConfigInvalid, LedgerError, Unavailable
from ledger.memory import forget
from ledger.progress import bar
from ledger.recover.recovery import Recovery, connect
from ledger.store.pool import open_pool
from ledger.store.sites import find_log

_ACCEPT = """\
Giving up what is lost of {site}.

The log goes on from entry {last}, recorded {time}.
Every later entry that was acknowledged is lost: grants, refusals and withdrawals. What is appended from now on takes
the same positions, so there are two continuations of one log, and whoever holds a receipt or a checkpoint of a lost
entry can show that. This command cannot be undone."""
_MORE = "{place} has a signed checkpoint over {size} entries, and there are {here}"
_SIGNED = (
    "This log cannot go on, for its key would vouch for two histories: bring the entries back, or begin the log anew "
    "under another prefix (deploy/runbooks/older-copy.md)"
)
_HOLE = """\
What is missing is that entry alone, which holds nothing of a person. A newer copy of PostgreSQL has it, and so has
`erasures` beside the backups, if the worker kept it when the event was erased: {where}.
Where neither is left: deploy/runbooks/older-copy.md, steps 3 and 4."""
_RESTART = """\
Now restart every server of this ledger: one that saw the lost entries refuses to append until then. Tell each consumer
of the stream to go back to {site}:{last}, and the site's controller what was lost and when."""


@click.command("recover")
@click.argument("site_name", metavar="SITE")
@click.option("--from-stream", is_flag=True, help="Verify what the stream holds beyond the ledger; append it again.")
@click.option("--dry-run", is_flag=True, help="With --from-stream: verify and tell, and append nothing.")
@click.option(
    "--document",
    "documents",
    multiple=True,
    type=click.File("rb"),
    help="With --from-stream: a published document that neither holds, as it was served under /documents.",
)
@click.option("--accept-loss", is_flag=True, help="Go on without what is lost; asks first.")
@acting_options
@DATA
def recover_command(
    site_name: str,
    from_stream: bool,
    dry_run: bool,
    documents: tuple[BinaryIO, ...],
    accept_loss: bool,
    data: Path,
    who: Who,
) -> None:
    """Go on after Postgres was put back to an older copy, or failed over and lost commits.

    Needs LEDGER_ADMIN_DATABASE_URL. Exit code 1 if something in the stream cannot be taken; what comes before it is.
    """
    if from_stream == accept_loss:
        raise click.UsageError("--from-stream first; --accept-loss if nothing is left there")
    settings, admin_url = find_settings(data), find_admin_url(data)
    if accept_loss:
        asyncio.run(_accept_loss(settings, admin_url, site_name, who))
    else:
        bodies = [document.read() for document in documents]
        sys.exit(asyncio.run(_from_stream(settings, admin_url, site_name, bodies, dry_run, who)))


async def _on_record(settings: Settings, site: str, who: Who, outcome: str, entries: int) -> None:
    """The one act that goes on where it cannot be recorded: what brings a ledger back may not wait for it."""
    pool = await open_pool(settings.database_url, size=2)
    try:
        async with open_administration(settings, pool) as administration:
            act = who.act("log.recovered", {"outcome": outcome, "entries": str(entries)})
            await administration.record(site_of(site), act)
    except LedgerError as error:
        click.echo(f"warning: this is not on record in the administrative log: {error}", err=True)
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def _open(settings: Settings, admin_url: str, site: str, bodies: Sequence[bytes]) -> AsyncIterator[Recovery]:
    if not settings.nats_url:
        raise ConfigInvalid("set LEDGER_NATS_URL: what Postgres lost is in the stream, or nowhere")
    connection = await connect(admin_url)
    try:
        row = await find_log(connection, site)
        bus = await Bus.connect(settings.nats_url)
        try:
            gone = None
            if settings.backup_dir is not None:
                lines = Journal(settings.backup_dir / ERASURES, ErasureLine).read()
                gone = gone_of(lines, row.origin, await size_of(connection, row))
            yield Recovery(connection, bus, row, settings.masters, bodies, gone)
        finally:
            await bus.close()
    except BusError as error:
        raise Unavailable("nats", f"NATS: {error}. Run it again; what was appended stays.") from error
    finally:
        await connection.close()


async def _from_stream(
    settings: Settings, admin_url: str, site: str, bodies: Sequence[bytes], dry_run: bool, who: Who
) -> int:
    if is_admin_log(site):
        raise ConfigInvalid(
            "an administrative log is on no stream: `consent-ledger backup replay` brings it back from the files "
            "beside the backups, and with it what was done by its acts (deploy/runbooks/older-copy.md, step 2)"
        )
    async with _open(settings, admin_url, site, bodies) as recovery:
        with bar("verifying", "entries") as progress:
            survey = await recovery.survey(progress)
        click.echo(f"{site}: the ledger ends at entry {survey.first - 1}, its stream at {survey.last}")
        signed = await recovery.signed(settings.anchors / f"{site}.anchor")
        altered = await recovery.contradiction(signed, survey)
        if altered is not None:
            click.echo(f"nothing is taken: {altered}", err=True)
            return 1
        if survey.end > survey.first:
            click.echo(f"entries {survey.first} to {survey.end - 1} verify")
            if signed and signed[0].checkpoint.size > survey.end:
                size = signed[0].checkpoint.size
                click.echo(
                    f"but {size} entries were signed: no checkpoint is signed again before all are back", err=True
                )
            if dry_run:
                click.echo("nothing was appended (--dry-run)")
            else:
                await _on_record(settings, site, who, "from_stream", survey.end - survey.first)
                with bar("appending", "entries") as progress:
                    await recovery.append(survey, progress)
                if survey.erased:
                    click.echo(
                        f"{len(survey.erased)} events in it or before it were erased. Marks and blocks are kept for "
                        "those that this database still held. Of the others nobody knows any more what they said: "
                        "whoever refused among them, where silence grants, is asked anew"
                    )
                click.echo(
                    "appended again. Servers that refused go on by themselves within seconds, unless they saw more"
                )
        elif survey.refused is None:
            click.echo("the stream holds nothing that the ledger lacks")
        if survey.refused is not None:
            click.echo(f"not taken, from entry {survey.end} on: {survey.refused}", err=True)
            if survey.refused.rule == 2:
                there = settings.backup_dir
                where = "set LEDGER_BACKUP_DIR to where it lies" if there is None else f"that in {there} lacks it"
                click.echo(_HOLE.format(where=where), err=True)
    return 0 if survey.refused is None else 1


async def _accept_loss(settings: Settings, admin_url: str, site: str, who: Who) -> None:
    async with _open(settings, admin_url, site, ()) as recovery:
        last = decode(await recovery.last_entry())
        signed = await recovery.signed(settings.anchors / f"{site}.anchor")
        altered = await recovery.contradiction(signed)
        if altered is not None or (signed and signed[0].checkpoint.size > last.seq + 1):
            what = altered or _MORE.format(place=signed[0].place, size=signed[0].checkpoint.size, here=last.seq + 1)
            raise ConfigInvalid(f"{what}. {_SIGNED}")
        copy = await recovery.is_copy()
        if not copy:
            with bar("verifying", "entries") as progress:
                survey = await recovery.survey(progress)
            if survey.end > survey.first:
                raise ConfigInvalid(
                    f"entries {survey.first} to {survey.end - 1} in the stream verify: bring them back first, "
                    f"`consent-ledger recover {site} --from-stream`"
                )
        click.echo(_ACCEPT.format(site=site, last=last.seq, time=encode_time(last.ms)))
        if not copy:
            click.echo("The stream is deleted with all it holds; the relay builds it again from the ledger.")
        if click.prompt("Type the site's name to go on", default="", show_default=False) != site:
            raise ConfigInvalid("nothing was done")
        await _on_record(settings, site, who, "loss_accepted", last.seq + 1)
        if not copy:
            await recovery.discard_stream()
            click.echo("the stream is deleted")
        forget(settings.anchors / f"{site}.memory")  # of a checkpointer that followed what is given up
        click.echo(_RESTART.format(site=site, last=last.seq))
