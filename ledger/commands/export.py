"""`consent-ledger export`: arguments in, a directory or a tar out, and the command that verifies it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import asyncpg
import click

from ledger import tar
from ledger.administration import Act, Administration, Who, open_administration
from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, find_settings
from ledger.commands.options import FiniteRange
from ledger.config import ERASURE_IDLE_SECONDS, EXPORT_WAIT_SECONDS, READ_TIMEOUT_SECONDS, Settings
from ledger.core.admin_act import site_of
from ledger.core.errors import ConfigInvalid, NotFound
from ledger.erasing.store import hasten
from ledger.export import Exported, export
from ledger.keys.receipts import ReceiptKeys
from ledger.progress import Progress, bar
from ledger.spool import spooled
from ledger.store.pool import open_pool
from ledger.vault import Vaults
from ledger.whole import Whole, pack_whole, write_whole

BROKEN = 1
_STDOUT = Path("-")
_PACKED = {".tar": False, ".tgz": True, ".gz": True}


def run_export(
    settings: Settings,
    site: str,
    target: Path,
    *,
    wait_seconds: float = EXPORT_WAIT_SECONDS,
    at_checkpoint: int | None = None,
    who: Who | None = None,
) -> int:
    """The command, by `who`: on record before anything is read. It answers for the writing (0); 1 if the log is broken:
    what exactly is `verify`'s to say."""
    kind = "stream" if target == _STDOUT else "file" if target.suffix in _PACKED else "directory"
    act = None if who is None else who.act("export.made", {"target": kind, "log": site})
    say = partial(click.echo, err=target == _STDOUT)
    with bar("Exporting", "entries") as progress:

        def write(directory: Path) -> Exported:
            return asyncio.run(_export(settings, site, directory, progress, wait_seconds, at_checkpoint, act))

        done = _packed(write, target) if target == _STDOUT or target.suffix in _PACKED else write(target)
    say(f"{done.size:,} entries of {site} are in {'the tar' if target == _STDOUT else target}")
    if done.erased:
        say(f"{done.erased:,} events were erased meanwhile, and taken out again")
    if done.problem is not None:
        click.echo(f"warning: the stored log is broken: {done.problem}. `verify` tells more.", err=True)
    vkey = done.log_vkey or "VKEY"
    say(f"consent-ledger verify {target} --log-vkey {vkey} --log-id {done.log_id.hex()}")
    return 0 if done.problem is None else BROKEN


async def _complete_erasures(pool: asyncpg.Pool, site: str, wait_seconds: float) -> None:
    """Have what was ordered erased before it is exported; what is not erased in time is told of."""
    deadline = time.monotonic() + wait_seconds
    while waiting := await hasten(pool, site):
        if time.monotonic() > deadline:
            click.echo(
                f"warning: {waiting} erasures are ordered and not carried out (is a worker running?): what they take "
                "away is still in this bundle. Export again once they are.",
                err=True,
            )
            return
        await asyncio.sleep(ERASURE_IDLE_SECONDS)


async def _on_record(administration: Administration, site: str, act: Act) -> None:
    """Where there is no administrative log at all, the founding of the site was broken off before anybody came."""
    try:
        await administration.record(site, act)
    except NotFound as error:
        click.echo(f"warning: this export is on no record: {error}", err=True)


async def _export(
    settings: Settings,
    site: str,
    directory: Path,
    progress: Progress,
    wait_seconds: float,
    at_checkpoint: int | None,
    act: Act | None,
) -> Exported:
    pool = await open_pool(settings.database_url, size=2, timeout_seconds=READ_TIMEOUT_SECONDS)
    vaults = Vaults(pool, settings.masters)
    try:
        if act is not None:
            async with open_administration(settings, pool) as administration:
                await _on_record(administration, site_of(site), act)
        await _complete_erasures(pool, site, wait_seconds)
        return await export(
            pool, vaults, site, directory, progress, wait_seconds=wait_seconds, at_checkpoint=at_checkpoint
        )
    finally:
        await pool.close()


def run_whole(
    settings: Settings, site: str, target: Path, wait_seconds: float = EXPORT_WAIT_SECONDS, who: Who | None = None
) -> int:
    """Everything of a site. It answers for the writing (0); 1 if something is missing or broken, which is told."""
    if target != _STDOUT and target.suffix not in _PACKED:
        raise ConfigInvalid(f"--whole writes a tar: name a file that ends in {' or '.join(_PACKED)}, or -")
    act = None
    if who is not None:
        act = who.act("export.made", {"target": "stream" if target == _STDOUT else "file", "kind": "whole"})
    with bar("Exporting", "entries") as progress:
        done = _packed(
            lambda made: asyncio.run(_whole(settings, site, made, progress, wait_seconds, act)), target, whole=True
        )
    say = partial(click.echo, err=target == _STDOUT)
    say(
        f"everything of {site} is in {'the tar' if target == _STDOUT else target}: {done.log.size:,} entries, ",
        nl=False,
    )
    say(f"{done.requests:,} requests, {done.certificates:,} certificates; its README.txt says how to verify it")
    for problem in done.problems:
        click.echo(f"warning: {problem}", err=True)
    return BROKEN if done.problems else 0


async def _whole(
    settings: Settings, site: str, directory: Path, progress: Progress, wait_seconds: float, act: Act | None
) -> Whole:
    from ledger.app import open_service  # noqa: PLC0415 - an ordinary export needs no service

    async with open_service(settings) as service:
        keys = ReceiptKeys(settings, service.reads)
        found = await service.site(site)
        if act is not None:
            await _on_record(service.administration, site, act)
        return await write_whole(service, keys, found, directory, progress, wait_seconds=wait_seconds)


T = TypeVar("T")


def _packed(write: Callable[[Path], T], target: Path, *, whole: bool = False) -> T:
    """The bundle is written beside the tar, and packed once it is complete: a tar begins with what is known last."""
    pack = pack_whole if whole else tar.pack
    if target == _STDOUT:
        if sys.stdout.isatty():
            raise ConfigInvalid("a tar is no text for a terminal: redirect it, or name a file")
        with spooled() as made:
            done = write(made / "bundle")
            pack(made / "bundle", sys.stdout.buffer, compress=False)
        sys.stdout.buffer.flush()
        return done
    if target.exists():
        raise ConfigInvalid(f"{target} is there already: name another file")
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    with spooled(target.absolute().parent) as made:
        done = write(made / "bundle")
        packed = made / "tar"
        with os.fdopen(os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            pack(made / "bundle", file, compress=_PACKED[target.suffix])
        packed.replace(target)
    return done


@click.command("export")
@click.argument("site_name", metavar="SITE")
@click.argument("target", metavar="DIR|FILE.tar[.gz]|-", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--wait",
    "wait_seconds",
    type=FiniteRange(min=0),
    default=EXPORT_WAIT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="For a checkpoint that covers the log as it is now.",
)
@click.option(
    "--whole",
    is_flag=True,
    help="Everything of the site, in a tar: both logs, the register of requests, certificates, and how to verify it.",
)
@click.option(
    "--at-checkpoint",
    type=click.IntRange(min=1),
    metavar="SIZE",
    help="Take the kept checkpoint of this size instead, and the log only so far.",
)
@acting_options
@DATA
def export_command(
    site_name: str,
    target: Path,
    wait_seconds: float,
    whole: bool,
    at_checkpoint: int | None,
    data: Path,
    who: Who,
) -> None:
    """Write a site's log, openings and documents, as a bundle that anybody can verify.

    The bundle stands under a checkpoint that the checkpointer signed; it is personal data, and readable by you alone.
    Exit code 0: written, 1: written, but the stored log is broken, 2: could not be written.
    """
    settings = find_settings(data)
    if whole:
        if at_checkpoint is not None:
            raise click.UsageError("--whole is of the site as it is now: leave --at-checkpoint out")
        sys.exit(run_whole(settings, site_name, target, wait_seconds, who))
    sys.exit(run_export(settings, site_name, target, wait_seconds=wait_seconds, at_checkpoint=at_checkpoint, who=who))
