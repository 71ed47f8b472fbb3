"""Replacing the master secret: data keys and key files are sealed anew, the rows under data keys stay as they are.

Whatever ends it, each key is under the old secret or the new one, and who knows both goes on; run again, it completes.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import NamedTuple

import asyncpg

from ledger.administration import Who, open_administration
from ledger.config import Settings
from ledger.core.errors import ConfigInvalid, Unavailable
from ledger.core.sealing import Master
from ledger.data_keys import rewrap
from ledger.keys.files import reseal_key_files
from ledger.store.errors import is_transient
from ledger.store.pool import connect_as_owner, open_pool

_WAITING = "select exists (select 1 from ledger.data_key k where k.wrapped is not null and k.master_version < $1)"
_SITES = "select site, origin from ledger.site where admin_of is null order by site_id"


class Rotated(NamedTuple):
    """What was sealed anew by this run; nothing, where an earlier one had done it all."""

    version: int
    data_keys: int
    key_files: list[Path]


def next_master(settings: Settings) -> Master:
    """The secret that is to replace the one in force; `ConfigInvalid` tells how to name it."""
    if len(settings.masters) < 2:
        raise ConfigInvalid(
            "set LEDGER_NEXT_MASTER_SECRET to a new secret (`openssl rand -base64 32`), here and for every process of "
            "this ledger, restart them, and run this again (deploy/runbooks/master-secret.md)"
        )
    return settings.masters[1]


async def rotate_master(settings: Settings, admin_url: str, who: Who) -> Rotated:
    """Data keys first, of all sites in one transaction; then the key files of this machine, one after another. Before
    all that the act of `who` is recorded, once for each site and version.

    `admin_url`: as the ledger's owner, for who may replace data keys may destroy them. `ConfigInvalid` if something
    opens under neither secret: of the data keys none is changed then. `Unavailable`: run it again.
    """
    new = next_master(settings)
    try:
        connection = await connect_as_owner(admin_url, "consent-ledger rotate-master")
        try:
            if await connection.fetchval(_WAITING, new.version):
                await _record(settings, who, new.version)
            data_keys = await rewrap(connection, settings.masters, new)
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if not is_transient(error):
            raise
        raise Unavailable("database-unavailable", "The database does not answer. Run it again: it goes on.") from error
    return Rotated(new.version, data_keys, reseal_key_files(settings, new.secret))


async def _record(settings: Settings, who: Who, version: int) -> None:
    pool = await open_pool(settings.database_url, size=2)
    try:
        async with open_administration(settings, pool) as administration:
            for row in await pool.fetch(_SITES):
                act = who.act("master.rotated", {"masterVersion": str(version)})
                act_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{row['origin']} master {version}"))
                await administration.record(row["site"], act, act_id=act_id)
    finally:
        await pool.close()
