"""Taking a backup: one snapshot of the database, the key files and the anchors, sealed as they are read.

Nothing is written in clear anywhere, and nothing counts before it is whole: the file grows under another name, reaches
the disk, and is renamed then. The keyring is written first, so that there is no backup that nobody can read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import asyncpg
import msgspec

from ledger import config
from ledger.administration import Act, actor_here, open_administration
from ledger.backup import folder
from ledger.backup.archive import ABOUT, DUMP, About, Packer, read_about, sites_digest
from ledger.backup.beside import Beside, about_of
from ledger.backup.dump import LEFT_OUT, dumped
from ledger.backup.keyring import read_keyring
from ledger.backup.marker import refuse_unfinished
from ledger.backup.stream import SALT_BYTES, Sealer
from ledger.checkpointer.records import Anchor
from ledger.config import Settings
from ledger.core.admin_act import admin_log_of
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.core.sealing import Master
from ledger.durable import sync_directory
from ledger.keys.files import site_directory
from ledger.progress import Progress
from ledger.store.pool import open_pool

Write = Callable[[bytes], object]
KEYS, ANCHORS, INSTALLATION, WITNESSES = "keys", "anchors", "installation.json", "witnesses"

_BYTES = """
select coalesce(sum(pg_table_size(c.oid)), 0)::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'ledger' and c.relkind = 'r' and c.relname <> all ($1)
"""


class Target(NamedTuple):
    """Where to: a directory that takes a file by time, a file of that name, or a pipe; and what lies beside it."""

    directory: Path | None
    file: Path | None
    stream: BinaryIO | None
    beside: Path


class Taken(NamedTuple):
    """What was made. `path` is None of a pipe; `pruned` went, being older than what is to be kept."""

    path: Path | None
    about: About
    size: int
    pruned: list[Path]


async def take(
    settings: Settings,
    admin_url: str,
    target: Target,
    *,
    extra: dict[str, bytes],
    keep_ms: int | None,
    progress: Progress,
) -> Taken:
    """`extra`: more members by name, such as an `up`'s installation. `ConfigInvalid` tells why there is none."""
    connection = await asyncpg.connect(
        admin_url,
        timeout=config.CONNECT_TIMEOUT_SECONDS,
        server_settings={"idle_in_transaction_session_timeout": "0"},  # it waits for the dump of its snapshot
    )
    try:
        await refuse_unfinished(connection)
        major = connection.get_server_version().major
        # Before the snapshot: what an anchor vouches for is in the snapshot then.
        members = {**await asyncio.to_thread(_members, settings, await _names(connection)), **extra}
        beside = Beside(target.beside, settings.masters[0])
        known = beside.known()
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot: str = await connection.fetchval("select pg_export_snapshot()")
            about = await about_of(connection)
            estimate: int = await connection.fetchval(_BYTES, list(LEFT_OUT))
            target.beside.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.put_keyring(await read_keyring(connection), about, known)
            rows = dumped(admin_url, snapshot, major)
            pack = partial(_pack, settings.masters[0], about, members, rows, estimate, progress)
            path, size = await asyncio.to_thread(_write, target, about.taken_ms, pack)
        await beside.update(connection)
        before_ms = about.taken_ms - config.BACKUP_JOURNAL_ENTRY_SECONDS * 1000
        beside.erasures.change(lambda line: line.without_entries(before_ms))
        pruned: list[Path] = []
        if keep_ms is not None and target.directory is not None:
            pruned = folder.prune(target.directory, keep_ms, about.taken_ms)
            forget_acts(beside, target.directory, dict(settings.masters))
        return Taken(path, about, size, pruned)
    finally:
        await connection.close()


async def record(settings: Settings, target: Target, actor: str | None) -> None:
    """Record in the administrative log of every site that a backup is made: before it is, and in it."""
    kind = "stream" if target.stream is not None else "directory" if target.directory is not None else "file"
    details = {"target": kind, "masterVersion": str(settings.masters[0].version)}
    pool = await open_pool(settings.database_url, size=2)
    try:
        async with open_administration(settings, pool) as administration:
            names = await _names(pool)
            for site in names:
                if admin_log_of(site) in names:
                    act = Act("backup.made", actor_here(actor), "operator", None, details)
                    await administration.record(site, act)
    finally:
        pool.terminate()


def forget_acts(beside: Beside, directory: Path, secrets: Mapping[int, bytes]) -> None:
    """Drop from the journal of acts, which hold something of persons, what every kept backup holds already; nothing
    while one is kept that cannot be read, such as of an earlier master secret. Erasures stay: copies of backups may be
    kept elsewhere for longer, and would bring back who is not named there."""
    sizes: dict[str, int] = {}
    try:
        for kept in folder.kept_in(directory):
            with kept.path.open("rb") as file:
                for site in read_about(file.read, secrets).sites:
                    sizes[site.origin] = min(site.size, sizes.get(site.origin, site.size))
    except LedgerError:
        return
    beside.acts.keep(lambda line: line.seq >= sizes.get(line.origin, 0))


async def _names(connection: asyncpg.Connection | asyncpg.Pool) -> list[str]:
    return [row[0] for row in await connection.fetch("select site from ledger.site order by site_id")]


def _members(settings: Settings, sites: list[str]) -> dict[str, bytes]:
    """Key files, sealed as they are, and anchors; and the trust policy, if there is one."""
    members = {}
    for site in sites:
        keys = site_directory(settings, site)
        for path in sorted(keys.glob("*.key")) if keys.is_dir() else ():
            members[f"{KEYS}/{site}/{path.name}"] = path.read_bytes()
        note = Anchor(settings.anchors / f"{site}.anchor").read().note
        if note is not None:
            members[f"{ANCHORS}/{site}"] = note
    if settings.witness_policy is not None:
        members[WITNESSES] = settings.witness_policy.read_bytes()
    return members


def _write(target: Target, taken_ms: int, pack: Callable[[Write], int]) -> tuple[Path | None, int]:
    if target.stream is not None:
        try:
            size = pack(target.stream.write)
            target.stream.flush()
        except BrokenPipeError as error:
            raise ConfigInvalid("whoever was to take the backup went away: what came there is no whole one") from error
        return None, size
    final = target.file or (target.directory or Path()) / folder.name_of(taken_ms)
    unfinished = final.with_name(final.name + folder.PARTIAL)
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            size = pack(file.write)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(final)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ConfigInvalid(f"{final} cannot be written, and nothing is left of it: {error.strerror}") from error
        raise
    sync_directory(final.parent)
    return final, size


def _pack(
    master: Master,
    about: About,
    members: dict[str, bytes],
    rows: Iterator[bytes],
    estimate: int,
    progress: Progress,
    write: Write,
) -> int:
    written = 0

    def counted(data: bytes) -> None:
        nonlocal written
        write(data)
        written += len(data)
        progress(written // 1024, max(written, estimate) // 1024)

    digest = sites_digest([site.origin for site in about.sites])
    packer = Packer(Sealer(counted, master.secret, master.version, os.urandom(SALT_BYTES), digest))
    packer.add(ABOUT, msgspec.json.encode(about))
    for name, data in members.items():
        packer.add(name, data)
    packer.add_pieces(DUMP, rows)
    packer.finish()
    return written
