"""A restore into the data directory of an `up`: its Postgres is started for it, and stopped again.

What an `up` made there once, and nobody else has, is made anew: ports, the passwords of its servers. The master secret
is in no backup: who restores brings it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import msgspec

from ledger.backup.load import Judged, is_restored
from ledger.backup.marker import MARK_NAME
from ledger.backup.restore import restore
from ledger.backup.settle import Options
from ledger.backup.take import INSTALLATION, WITNESSES
from ledger.core.encoding import encode_base64
from ledger.core.errors import ConfigInvalid
from ledger.core.sealing import Master
from ledger.credentials import SiteKeys
from ledger.embedded.found import add_login
from ledger.embedded.installation import DATABASE, DataDirectory, Installation
from ledger.embedded.ports import free_port
from ledger.embedded.postgres import Postgres
from ledger.embedded.records import end_orphans

_HAS_DATABASE = "select exists (select 1 from pg_database d where d.datname = $1)"
_PASSWORD_BYTES = 24


class Founded(msgspec.Struct, frozen=True):
    """What a backup holds of `installation.json`: the sites and their API keys, stored nowhere else in clear."""

    origin_prefix: str
    sites: dict[str, SiteKeys]


def founded(directory: DataDirectory) -> dict[str, bytes]:
    """The member of a backup, of an `up`'s directory."""
    installation = directory.installation()
    return {INSTALLATION: msgspec.json.encode(Founded(installation.origin_prefix, installation.sites))}


async def restore_into(
    path: Path, judged: Judged, master: Master, options: Options, tell: Callable[[str], None]
) -> None:
    """Make `path` the data directory of the ledger in the backup. `ConfigInvalid` where it holds one already.

    Call it in the main thread: servers are started.
    """
    directory = DataDirectory(path)
    with directory.locked():
        mark = directory.path / MARK_NAME
        if directory.postgres.exists() and not mark.exists():
            raise ConfigInvalid(
                f"{directory.path} holds a ledger already, and a restore never replaces one: choose another directory, "
                f"or move {directory.postgres} away"
            )
        mark.touch(mode=0o600)
        for name in end_orphans(directory.run):
            tell(f"{name} of an earlier run was still there and has been ended")
        installation = _installation(directory, judged, master)
        if WITNESSES in judged.members and not directory.witnesses.exists():
            directory.witnesses.write_bytes(judged.members[WITNESSES])
        postgres = directory.postgres_server(installation)
        # Only a store that is there can hold what came after the backup.
        nats = directory.nats_server(installation) if directory.nats.exists() else None
        await postgres.initialise()
        await postgres.start()
        try:
            if nats is not None:
                await nats.start()
                await nats.ready()
            await _make_database(postgres)
            settings = replace(directory.settings(), nats_url="" if nats is None else nats.url)
            if await is_restored(postgres.url(DATABASE)):  # broken off when the directory's mark alone was left
                tell("the ledger may be served again")
            else:
                await restore(settings, postgres.url(DATABASE), judged, options, tell)
            await add_login(postgres, installation.service_password)
        finally:
            if nats is not None:
                await nats.stop()
            await postgres.stop()
        mark.unlink()


def _installation(directory: DataDirectory, judged: Judged, master: Master) -> Installation:
    """What is there, if it is of this ledger; else made anew around what the backup has of it."""
    if INSTALLATION not in judged.members:
        raise ConfigInvalid(
            "the backup is of no `up`: restore it by the environment (LEDGER_DATABASE_URL and the others)"
        )
    was = msgspec.json.decode(judged.members[INSTALLATION], type=Founded)
    secret = encode_base64(master.secret)
    if directory.has_installation():
        there = directory.installation()
        if there.master_secret != secret:
            raise ConfigInvalid(f"{directory.path} has another master secret than the one that was given")
    else:
        there = Installation(
            postgres_password=secrets.token_hex(_PASSWORD_BYTES),
            service_password=secrets.token_hex(_PASSWORD_BYTES),
            nats_password=secrets.token_hex(_PASSWORD_BYTES),
            master_secret=secret,
            master_key_version=master.version,
            origin_prefix=was.origin_prefix,
        )
    there = msgspec.structs.replace(
        there,
        sites={**was.sites, **there.sites},
        postgres_port=free_port(there.postgres_port),
        nats_port=free_port(there.nats_port),
    )
    directory.save(there)
    return there


async def _make_database(postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.url())
    try:
        if not await connection.fetchval(_HAS_DATABASE, DATABASE):
            await connection.execute(f"create database {DATABASE}")
    finally:
        await connection.close()
