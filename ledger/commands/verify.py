"""`consent-ledger verify`: arguments in, report and exit code out."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import click
import msgspec

from ledger.bundle import Directory, Source
from ledger.commands.could_not_run import or_could_not_run
from ledger.commands.locate import DATA, find_settings
from ledger.commands.options import read, read_log_id
from ledger.config import READ_TIMEOUT_SECONDS
from ledger.core.audit import Verdict
from ledger.core.errors import ConfigInvalid
from ledger.core.heads import Pins
from ledger.core.note import TYPE_COSIGNATURE, TYPE_ED25519, parse_checkpoint, parse_vkey
from ledger.progress import bar
from ledger.tar import Tar
from ledger.verify import Report, render, verify
from ledger.verify.admin import AdminBundle, match
from ledger.verify.report import DifferenceFound, Live


@contextmanager
def open_source(place: str, key: str | None = None) -> Iterator[Source]:
    """A directory, a tar (plain or gzip), `-` for a tar on standard input, or the URL of a log.

    `key` is sent to a log whose entries are guarded. OSError or `Malformed` if it is none of these.
    """
    if place.startswith(("http://", "https://")):
        from ledger.log_client import HttpSource, check_key  # noqa: PLC0415 - the command starts fast

        with HttpSource(place, None if key is None else check_key(key)) as log:
            yield log
    elif place == "-":
        with Tar(sys.stdin.buffer) as tar:
            yield tar
    elif Path(place).is_dir():
        yield Directory(Path(place))
    else:
        with Tar(Path(place).open("rb")) as tar:
            yield tar


async def _compare(source: Source, data: Path) -> Live:
    from ledger.live import compare  # noqa: PLC0415
    from ledger.store.pool import open_pool  # noqa: PLC0415
    from ledger.vault import Vaults  # noqa: PLC0415

    settings = find_settings(data)
    pool = await open_pool(settings.database_url, size=1, timeout_seconds=READ_TIMEOUT_SECONDS)
    try:
        with bar("Comparing", "entries") as progress:
            found = await compare(pool, source, Vaults(pool, settings.masters), progress)
    finally:
        await pool.close()
    differences = tuple(DifferenceFound(each.table, each.what) for each in found.differences)
    return Live(found.entries, found.visitors, found.total, differences)


def run_verify(
    place: str,
    pins: Pins,
    *,
    processes: int | None = None,
    key: str | None = None,
    live: Path | None = None,
    admin: AdminBundle | None = None,
) -> Report:
    """Audit what is at `place`; with `live`, a data directory, compare the database with it too if it is sound; with
    `admin`, its administrative log, see whether every erasure rests on an act."""
    with open_source(place, key) as source:
        with bar("Verifying", "entries") as progress:
            report = verify(source, pins, processes=processes, progress=progress)
        if admin is not None:
            with open_source(admin.place) as other:
                report = msgspec.structs.replace(report, admin=match(source, report, other, admin, processes))
        if live is None or report.verdict == Verdict.FAULT:
            return report
        if report.verdict == Verdict.LOG_ONLY:
            raise ConfigInvalid("--live needs a bundle with its payloads: export one, and name it here")
        return msgspec.structs.replace(report, live=asyncio.run(_compare(source, live)))


def read_pins(
    log_vkey: str | None, log_id: str | None, old: Path | None, witnesses: tuple[str, ...], prefix: str = ""
) -> Pins:
    """What the auditor brings, from text and a file; `ConfigInvalid` tells which of it cannot be read.

    `prefix` is that of the options, as they are named in the error.
    """
    pinned, older = None, None
    if log_vkey is not None:
        pinned = read(f"--{prefix or 'log-'}vkey", partial(parse_vkey, log_vkey, TYPE_ED25519))
    if old is not None:
        older = read(f"--{prefix}old", partial(parse_checkpoint, old.read_bytes()))
    trusted = tuple(read("--witness", partial(parse_vkey, witness, TYPE_COSIGNATURE)) for witness in witnesses)
    return Pins(pinned, read_log_id(f"--{prefix}log-id", log_id), older, trusted)


@click.command("verify")
@click.argument("place", metavar="DIR|FILE.tar[.gz]|-|URL")
@click.option("--log-vkey", required=True, metavar="VKEY", help="The log's key, as it was given to you out of band.")
@click.option("--log-id", metavar="HEX", help="The log's id, likewise: pins the genesis entry and so the root key.")
@click.option("--old", type=click.Path(path_type=Path), metavar="FILE", help="A checkpoint kept from an earlier audit.")
@click.option("--witness", "witnesses", multiple=True, metavar="VKEY", help="A witness you trust; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--processes", type=click.IntRange(1, 256), help="Worker processes; one for each core by default.")
@click.option(
    "--key-file",
    type=click.File("r"),
    help="With a URL: a key with scope `audit`, as `api-key create` printed it, for a log whose entries are guarded.",
)
@click.option(
    "--admin",
    "admin_place",
    metavar="DIR",
    help="The bundle of its administrative log: every erasure has to rest on an act that is in it.",
)
@click.option("--admin-vkey", metavar="VKEY", help="The administrative log's key, likewise; it need not be known.")
@click.option("--admin-log-id", metavar="HEX", help="The administrative log's id, likewise.")
@click.option(
    "--admin-old", type=click.Path(path_type=Path), metavar="FILE", help="A checkpoint of it, from an earlier audit."
)
@click.option("--live", is_flag=True, help="Compare the database's derived rows with the log too; needs its settings.")
@DATA
@click.pass_context
def verify_command(
    context: click.Context,
    place: str,
    log_vkey: str,
    log_id: str | None,
    old: Path | None,
    witnesses: tuple[str, ...],
    as_json: bool,
    processes: int | None,
    key_file: IO[str] | None,
    admin_place: str | None,
    admin_vkey: str | None,
    admin_log_id: str | None,
    admin_old: Path | None,
    live: bool,
    data: Path,
) -> None:
    """Audit a bundle offline, or a log over HTTP.

    A bundle is what `export` wrote: a directory, or a tar. Over HTTP there are no payloads, so that the verdict is
    "log only" at best. With --admin an erasure that no administrative act ordered is a fault too. Exit code 0: sound,
    1: a fault, 2: could not run, 3: log only.
    """
    with or_could_not_run(context):
        pins = read_pins(log_vkey, log_id, old, witnesses)
        key = None if key_file is None else key_file.read()
        admin_pins = read_pins(admin_vkey, admin_log_id, admin_old, witnesses, "admin-")
        if admin_place is None and (admin_vkey or admin_log_id or admin_old):
            raise ConfigInvalid("--admin names the bundle that --admin-vkey, --admin-log-id and --admin-old are about")
        admin = None if admin_place is None else AdminBundle(admin_place, admin_pins)
        report = run_verify(place, pins, processes=processes, key=key, live=data if live else None, admin=admin)
    click.echo(report.encode() if as_json else render(report))
    context.exit(report.exit_code)
