"""`consent-ledger backup` and `consent-ledger restore`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import click

from ledger.backup import folder
from ledger.backup.archive import About, authenticate, read_about
from ledger.backup.load import beside_of, judge, seekable
from ledger.backup.restore import replay, restore
from ledger.backup.settle import Options
from ledger.backup.stream import HEADER_BYTES, parse_header
from ledger.backup.take import Target, record, take
from ledger.commands.acting import AS
from ledger.commands.locate import DATA, find_admin_url, find_settings
from ledger.config import Settings, load_settings
from ledger.core.duration import HOUR_MS, parse_keep
from ledger.core.encoding import encode_time
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.core.sealing import Master
from ledger.progress import bar

FILE = click.argument("file", metavar="FILE")
OLD_SECRET = click.option(
    "--old-secret",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the master secret (base64) that the backup was sealed under, if it was replaced since.",
)


@click.group("backup", invoke_without_command=True)
@click.option(
    "--to",
    metavar="DIR|FILE|-",
    help="A directory (a file by time in it), a file, or standard output; else LEDGER_BACKUP_DIR.",
)
@click.option(
    "--keep",
    metavar="PERIOD",
    help="Remove backups of the directory that are older, like 35d, 12h or 8w; else LEDGER_BACKUP_KEEP.",
)
@AS
@DATA
@click.pass_context
def backup_command(context: click.Context, to: str | None, keep: str | None, actor: str | None, data: Path) -> None:
    """Take a sealed backup: the database, the key files, the newest checkpoints.

    Needs LEDGER_ADMIN_DATABASE_URL. It is sealed under the master secret, which is in no backup: keep it elsewhere, or
    nobody can restore. Beside the backups lie `keyring`, `orders`, `erasures` and `acts`, without which none is worth
    anything, and which are only worth something as they are last: take them along, and keep no older ones.
    """
    if context.invoked_subcommand is not None:
        return
    settings, admin_url = find_settings(data), find_admin_url(data)
    target = _target(settings, to)
    keep_ms = settings.backup_keep_ms if keep is None else parse_keep(keep)
    if keep is not None and target.directory is None:
        raise click.UsageError("--keep goes with a directory of backups")
    extra = {}
    if not os.environ.get("LEDGER_DATABASE_URL"):
        from ledger.backup.directory import founded  # noqa: PLC0415
        from ledger.embedded.installation import DataDirectory  # noqa: PLC0415

        extra = founded(DataDirectory(data))

    async def work() -> None:
        await record(settings, target, actor)
        with bar("backing up", "KiB") as progress:
            taken = await take(settings, admin_url, target, extra=extra, keep_ms=keep_ms, progress=progress)
        where = "standard output" if taken.path is None else str(taken.path)
        entries = sum(site.size for site in taken.about.sites)
        click.echo(f"{where}: {len(taken.about.sites)} logs, {entries} entries, {taken.size} bytes", err=True)
        for path in taken.pruned:
            click.echo(f"removed {path}", err=True)
        if settings.backup_dir is None:
            click.echo(
                f"the files beside it, in {target.beside}, are as of now. Unless the worker (or `up`) runs with "
                f"LEDGER_BACKUP_DIR={target.beside}, which keeps them current, a restore brings back the erased",
                err=True,
            )
        if target.directory is not None and keep_ms is not None:
            oldest = folder.kept_in(target.directory)[0]
            click.echo(
                f"the oldest is of {encode_time(oldest.taken_ms)}; what is erased now is in no backup here any more "
                f"{keep or f'{keep_ms // HOUR_MS}h'} from now, as long as backups go on",
                err=True,
            )

    if target.directory is not None:
        with folder.alone_in(target.directory):
            asyncio.run(work())
    else:
        asyncio.run(work())


@backup_command.command("list")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@DATA
def list_command(directory: Path | None, as_json: bool, data: Path) -> None:
    """The backups of a directory (else LEDGER_BACKUP_DIR), the oldest first. Their contents are not checked."""
    if directory is None:
        settings = find_settings(data)
        if settings.backup_dir is None:
            raise click.UsageError("name a directory, or set LEDGER_BACKUP_DIR")
        directory = settings.backup_dir
    if not directory.is_dir():
        raise ConfigInvalid(f"{directory} is not there")
    masters = _masters(data)
    rows = []
    for kept in folder.kept_in(directory):
        row: dict[str, object] = {"file": str(kept.path), "taken": encode_time(kept.taken_ms)}
        row["bytes"] = kept.path.stat().st_size
        try:
            with kept.path.open("rb") as file:
                about = read_about(file.read, masters)
            row["sites"] = {site.site: site.size for site in about.sites}
        except LedgerError as error:
            row["problem"] = str(error)
        rows.append(row)
    if not rows:
        click.echo(f"no backup lies in {directory}", err=True)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    for row in rows if not as_json else ():
        sites = row.get("sites")
        what = (
            ", ".join(f"{name} {size}" for name, size in sites.items()) if isinstance(sites, dict) else row["problem"]
        )
        click.echo(f"{row['taken']}  {row['bytes']:>12}  {row['file']}  {what}")
    sys.exit(1 if any("problem" in row for row in rows) else 0)


@backup_command.command("check")
@FILE
@OLD_SECRET
@DATA
def check_command(file: str, old_secret: Path | None, data: Path) -> None:
    """Authenticate every byte of a backup (`-`: standard input), and compare what it holds with its list.

    Exit code 1 where it is damaged, cut short or altered, or of another master secret. It is not loaded anywhere: only
    a restore shows that it can be.
    """
    masters = _masters(data)
    try:
        with _opened(file) as source, bar("checking", "KiB") as progress:
            size = os.fstat(source.fileno()).st_size
            source, secrets = _with_old(source, masters, old_secret)
            about = authenticate(source.read, secrets, lambda done: progress(done // 1024, max(done, size) // 1024))
    except LedgerError as error:
        click.echo(f"{file}: {error}", err=True)
        sys.exit(1)
    click.echo(f"{file}: whole, of {encode_time(about.taken_ms)}, by release {about.release}")
    _show(about)


@backup_command.command("replay")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--accept-loss", is_flag=True, help="Go on without entries that nothing here has any more.")
@AS
@DATA
def replay_command(directory: Path | None, accept_loss: bool, actor: str | None, data: Path) -> None:
    """After PostgreSQL was put back by other means (a base backup, WAL): forget again who was erased since.

    Destroyed data keys are destroyed again, what came after is brought back from the streams, the journals beside the
    backups are carried out (DIRECTORY, else LEDGER_BACKUP_DIR). Stop every server first; nothing is served meanwhile.
    """
    from ledger.administration import actor_here  # noqa: PLC0415

    settings = find_settings(data)
    place = directory or settings.backup_dir
    if place is None:
        raise click.UsageError("name the directory of the journals, or set LEDGER_BACKUP_DIR")
    options = Options(place, accept_loss, actor_here(actor))
    asyncio.run(replay(settings, find_admin_url(data), options, lambda line: click.echo(line, err=True)))


@click.command("restore")
@FILE
@click.option("--beside", type=click.Path(path_type=Path, file_okay=False), help="Where keyring and journals lie.")
@OLD_SECRET
@click.option("--accept-loss", is_flag=True, help="Go on without entries that nothing here has any more.")
@AS
@DATA
def restore_command(
    file: str, beside: Path | None, old_secret: Path | None, accept_loss: bool, actor: str | None, data: Path
) -> None:
    """Restore a backup (`-`: standard input) into an empty database; nobody comes back who was erased since.

    Where LEDGER_DATABASE_URL is set: into that database, as LEDGER_ADMIN_DATABASE_URL. Else into the data directory of
    an `up`, under the master secret in LEDGER_MASTER_SECRET. Keyring and journals are those beside the file, unless
    --beside names others. Interrupted, give the same command again. Nothing is served before it is done.
    """
    from ledger.administration import actor_here  # noqa: PLC0415

    def tell(line: str) -> None:
        click.echo(line, err=True)

    external = bool(os.environ.get("LEDGER_DATABASE_URL"))
    settings = load_settings() if external else None
    masters = settings.masters if settings is not None else _given_masters(data)
    place = beside_of(file, None if settings is None else settings.backup_dir, beside)
    options = Options(place, accept_loss, actor_here(actor))
    began = time.monotonic()
    with _opened(file) as source:
        whole, secrets = _with_old(source, dict(masters), old_secret)
        with bar("checking", "KiB") as progress:
            judged = judge(whole, secrets, progress)
        if settings is not None:
            asyncio.run(restore(settings, find_admin_url(data), judged, options, tell))
        else:
            from ledger.backup.directory import restore_into  # noqa: PLC0415

            asyncio.run(restore_into(data, judged, masters[0], options, tell))
    tell(f"restored in {time.monotonic() - began:.0f} s")


def _target(settings: Settings, to: str | None) -> Target:
    beside = settings.backup_dir
    if to == "-":
        if beside is None:
            raise ConfigInvalid("set LEDGER_BACKUP_DIR: the keyring lies there, without which no backup can be read")
        if sys.stdout.isatty():
            raise ConfigInvalid("a backup is no text: lead it into a file or a pipe")
        return Target(None, None, sys.stdout.buffer, beside)
    if to is None:
        if beside is None:
            raise ConfigInvalid("say where to with --to, or set LEDGER_BACKUP_DIR")
        return Target(beside, None, None, beside)
    path = Path(to).absolute()
    if path.is_dir() or to.endswith("/") or not path.suffix:
        return Target(path, None, None, beside or path)
    return Target(None, path, None, beside or path.parent)


def _masters(data: Path) -> dict[int, bytes]:
    return dict(find_settings(data).masters if not os.environ.get("LEDGER_MASTER_SECRET") else load_masters())


def load_masters(environ: Mapping[str, str] = os.environ) -> tuple[Master, ...]:
    """The master secrets of the environment; no database is needed for them."""
    return load_settings({**environ, "LEDGER_DATABASE_URL": "none"}).masters


def _given_masters(data: Path) -> tuple[Master, ...]:
    """For a data directory: of the environment, else of what is in the directory, else typed in."""
    if os.environ.get("LEDGER_MASTER_SECRET"):
        return load_masters()
    from ledger.embedded.installation import DataDirectory  # noqa: PLC0415

    if DataDirectory(data).has_installation():
        return DataDirectory(data).settings().masters
    if not sys.stdin.isatty():
        raise ConfigInvalid("set LEDGER_MASTER_SECRET: no backup can be opened without it")
    typed = click.prompt("Master secret (base64)", hide_input=True)
    return load_masters({**os.environ, "LEDGER_MASTER_SECRET": typed})


def _with_old(
    source: BinaryIO, secrets: dict[int, bytes], old_secret: Path | None
) -> tuple[BinaryIO, dict[int, bytes]]:
    """The same, from its beginning, and the secret in the file beside those of now, under the version that it names."""
    if old_secret is None:
        return source, secrets
    source = seekable(source)
    version = parse_header(source.read(HEADER_BYTES)).master_version
    source.seek(0)
    given = {**os.environ, "LEDGER_MASTER_SECRET": old_secret.read_text(encoding="utf-8").strip()}
    return source, {**secrets, version: load_masters(given)[0].secret}


def _opened(file: str) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise ConfigInvalid(f"{file} cannot be read: {error.strerror}") from error


def _show(about: About) -> None:
    for site in about.sites:
        click.echo(f"  {site.site}: {site.size} entries")
