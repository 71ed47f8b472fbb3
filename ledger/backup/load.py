"""Loading a backup into an empty database: judged whole before anything is touched, rows in one transaction.

It ends with the rows, the data keys and the key files in place. Whether that log is the right one, and who was erased
since, is told by what comes after (settle).
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import asyncpg

from ledger.backup.archive import DUMP, About, authenticate, unpack
from ledger.backup.dump import Load
from ledger.backup.keyring import Keyring, put_keyring
from ledger.backup.marker import LOADING, Mark, read_mark, set_mark
from ledger.backup.stream import HEADER_BYTES, Damaged, parse_header
from ledger.backup.take import ANCHORS, KEYS
from ledger.checkpointer.records import Anchor
from ledger.config import BACKUP_PART_BYTES, CONNECT_TIMEOUT_SECONDS, Settings
from ledger.core.errors import ConfigInvalid
from ledger.core.note import check_site
from ledger.keys.files import site_directory, write_key_file
from ledger.keys.sealed import ROLES, SealedKey, parse_sealed_key, seal, unseal
from ledger.progress import Progress
from ledger.store.migrate import digests, migrate

_HAS_SITES = "select exists (select 1 from ledger.site)"
_HAS_SCHEMA = "select to_regnamespace('ledger') is not null"
_APPLIED = "select array_agg(name order by name) from ledger.migration"
# The visitors' state is not in a backup: every reader folds all events until `rebuild` is through.
_PROJECTIONS = """
insert into ledger.projection (site_id, version, position, live)
    select s.site_id, 1, 0, true from ledger.site s
     where exists (select 1 from ledger.entry e where e.site_id = s.site_id and e.seq = 0)
    on conflict do nothing
"""
_KEY_NAME = re.compile(r"[a-z0-9-]{1,64}\.key")


class Judged(NamedTuple):
    """A backup that was read to its end and is whole. `file` is at its beginning; `id` tells it from every other;
    `secrets` are the master secrets, by version, one of which opened it."""

    file: BinaryIO
    secrets: Mapping[int, bytes]
    id: bytes
    about: About
    members: dict[str, bytes]


def judge(file: BinaryIO, secrets: Mapping[int, bytes], progress: Progress) -> Judged:
    """Authenticate everything; `Damaged` or `NotThisSecret`. What cannot be read twice is spooled, sealed as it is."""
    file = seekable(file)
    size = os.fstat(file.fileno()).st_size
    salt = parse_header(file.read(HEADER_BYTES)).salt
    file.seek(0)
    about = authenticate(file.read, secrets, lambda _: progress(file.tell() // 1024, size // 1024))
    file.seek(0)
    members: dict[str, bytearray] = {}
    for piece in unpack(file.read, secrets):
        if piece.name == DUMP:  # the rest was there before it
            break
        members.setdefault(piece.name, bytearray()).extend(piece.data)
    else:
        raise Damaged("this is no backup, though this ledger sealed it: there is no database in it")
    file.seek(0)
    return Judged(file, secrets, salt, about, {name: bytes(data) for name, data in members.items()})


async def check_target(admin_url: str, judged: Judged) -> Mark | None:
    """`ConfigInvalid` unless the database is empty, or this very restore was broken off in it: then how far it came.
    And unless this release can read the backup's rows."""
    ours = digests()
    for name, digest in judged.about.migrations.items():
        if ours.get(name) != digest:
            raise ConfigInvalid(
                f"the backup was made by release {judged.about.release}, whose schema this one does not continue "
                f"({name}): restore it with that release"
            )
    connection = await asyncpg.connect(admin_url, timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        if not await connection.fetchval(_HAS_SCHEMA):
            return None
        mark = await read_mark(connection)
        if mark is not None and mark.backup != judged.id:
            raise ConfigInvalid(
                "the restore of another backup into this database was not finished: finish that one, or begin anew "
                "with an empty database"
            )
        if mark is None and await connection.fetchval(_HAS_SITES):
            raise ConfigInvalid(
                "the database has a ledger already, and a restore never replaces one: make an empty database, and set "
                "LEDGER_DATABASE_URL and LEDGER_ADMIN_DATABASE_URL to it"
            )
        applied = await connection.fetchval(_APPLIED) or []
        if mark is None and set(applied) - set(judged.about.migrations):
            raise ConfigInvalid("the empty database has a newer schema than the backup: make one without any schema")
        return mark
    finally:
        await connection.close()


async def is_restored(admin_url: str) -> bool:
    """Whether there is a ledger, and no restore into it waits to be finished."""
    connection = await asyncpg.connect(admin_url, timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        there = await connection.fetchval(_HAS_SCHEMA) and await connection.fetchval(_HAS_SITES)
        return bool(there) and await read_mark(connection) is None
    finally:
        await connection.close()


async def load(admin_url: str, judged: Judged, keyring: Keyring, progress: Progress) -> None:
    """Schema, rows and data keys. A run that was broken off left all of the rows, or none."""
    await migrate(admin_url, only=judged.about.migrations)
    connection = await asyncpg.connect(admin_url, timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        if await read_mark(connection) is None:
            await set_mark(connection, Mark(judged.id, LOADING))
        if not await connection.fetchval(_HAS_SITES):
            await asyncio.to_thread(_load_rows, admin_url, judged, progress)
        async with connection.transaction():
            await connection.execute("set local role ledger_owner")
            await connection.execute(_PROJECTIONS)
            await put_keyring(connection, keyring)
        await migrate(admin_url)
        await connection.execute("analyze")
    finally:
        await connection.close()


def put_files(settings: Settings, judged: Judged) -> list[str]:
    """Key files and anchors where there are none; what is there is never replaced. Names of those put."""
    put = []
    for name, data in judged.members.items():
        kind, _, rest = name.partition("/")
        site, _, file = rest.partition("/")
        if kind == KEYS:
            sealed = parse_sealed_key(data)
            check_site(site)
            if _KEY_NAME.fullmatch(file) is None or sealed.role not in ROLES:
                raise ConfigInvalid(f"the backup holds a key file of an odd name: {file[:80]!r}")
            path = site_directory(settings, site) / file
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_key_file(path, _as_here(sealed, settings, judged))
                put.append(str(path))
        elif kind == ANCHORS:
            check_site(rest)
            anchor = Anchor(settings.anchors / f"{rest}.anchor")
            if anchor.read().note is None:
                anchor.write(data, None, {})
                put.append(str(anchor.path))
    return put


def _as_here(sealed: SealedKey, settings: Settings, judged: Judged) -> SealedKey:
    """A key file that this installation opens: sealed anew, where the master secret was replaced since the backup."""
    if sealed.has_passphrase:
        return sealed
    key = unseal(sealed, *settings.master_secrets, *judged.secrets.values())
    return seal(key, sealed.origin, sealed.role, settings.masters[0].secret)


def _load_rows(admin_url: str, judged: Judged, progress: Progress) -> None:
    judged.file.seek(0)
    size = os.fstat(judged.file.fileno()).st_size
    rows = Load(admin_url)
    try:
        for piece in unpack(judged.file.read, judged.secrets):
            if piece.name == DUMP:
                rows.write(piece.data)
                progress(judged.file.tell() // 1024, size // 1024)
        rows.finish()  # after the last byte was authenticated once more
    finally:
        rows.close()


def seekable(file: BinaryIO) -> BinaryIO:
    """The same, or a temporary file (without a name) with what it holds, sealed as it is."""
    if file.seekable():
        return file
    spooled = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's process ends soon
    while data := file.read(BACKUP_PART_BYTES):
        spooled.write(data)
    spooled.seek(0)
    return spooled


def beside_of(file: str, backup_dir: Path | None, given: Path | None) -> Path:
    """The directory in which keyring and journals lie: as given, of the settings, or that of the file."""
    if given is not None:
        return given
    if file != "-":
        return Path(file).absolute().parent
    if backup_dir is not None:
        return backup_dir
    raise ConfigInvalid("name the directory of the keyring with --beside, for the backup comes from standard input")
