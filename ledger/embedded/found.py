"""Bring the embedded database to where the service can use it: database, schema, login, and the example sites."""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import files

import asyncpg
import msgspec

from ledger.config import Settings
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.core.policy import parse_site_document
from ledger.credentials import SiteKeys
from ledger.embedded.installation import DATABASE, SERVICE_LOGIN, DataDirectory, Installation
from ledger.embedded.postgres import Postgres
from ledger.keys.files import ensure_receipt_key
from ledger.keys.operations import LogKeys
from ledger.provision import create_site
from ledger.store.migrate import migrate
from ledger.store.pool import open_pool

EXAMPLE_SITES = ("weco.nexaxt.com", "we-nera.com", "id.custodian.kz")

_HAS_DATABASE = "select exists (select 1 from pg_database d where d.datname = $1)"
_HAS_LOGIN = "select exists (select 1 from pg_roles r where r.rolname = $1)"
_CREATE_LOGIN = "select format('create role %I login password %L in role ledger_service', $1::text, $2::text)"
_SITES = "select s.site from ledger.site s join ledger.entry e on e.site_id = s.site_id and e.seq = 0"


async def prepare_database(postgres: Postgres, service_password: str) -> None:
    """Make database, schema and login, or find them there."""
    connection = await asyncpg.connect(postgres.url())
    try:
        if not await connection.fetchval(_HAS_DATABASE, DATABASE):
            await connection.execute(f"create database {DATABASE}")
        await migrate(postgres.url(DATABASE))
    finally:
        await connection.close()
    await add_login(postgres, service_password)


async def add_login(postgres: Postgres, service_password: str) -> None:
    """The service's login, once there is a schema; or find it there."""
    connection = await asyncpg.connect(postgres.url())
    try:
        if not await connection.fetchval(_HAS_LOGIN, SERVICE_LOGIN):
            await connection.execute(await connection.fetchval(_CREATE_LOGIN, SERVICE_LOGIN, service_password))
    finally:
        await connection.close()


async def found_examples(directory: DataDirectory, installation: Installation, settings: Settings) -> Installation:
    """Found the example sites that are not there yet, keeping the credentials of each before the next."""
    connection = await asyncpg.connect(settings.database_url)
    try:
        there = {row["site"] for row in await connection.fetch(_SITES)}
    finally:
        await connection.close()
    lost = installation.sites.keys() - there
    if lost:
        raise ConfigInvalid(
            f"the database has lost the log of {', '.join(sorted(lost))}: put {directory.postgres} back as it was, "
            "or begin anew in another directory with --data"
        )
    for name in EXAMPLE_SITES:
        if name in installation.sites:
            continue
        document = files("ledger").joinpath("sites", f"{name}.yaml").read_bytes()
        if parse_site_document(document).site != name:
            raise RuntimeError(f"the example {name}.yaml describes another site")
        made = await create_site(settings, document)
        credentials = SiteKeys(made.log_id, made.log_vkey, made.publishable, made.secret)
        installation = msgspec.structs.replace(installation, sites={**installation.sites, name: credentials})
        directory.save(installation)
    for keys in installation.sites.values():  # a directory of before receipt keys gets one
        ensure_receipt_key(settings, keys.log_vkey.partition("+")[0])
    current = await _with_current_vkeys(settings, installation)
    if current != installation:
        directory.save(current)
    return current


async def _with_current_vkeys(settings: Settings, installation: Installation) -> Installation:
    """Log keys may have been rotated since the site was founded: clients are told the newest."""
    sites = dict(installation.sites)
    pool = await open_pool(settings.database_url, size=1)
    try:
        for name, known in installation.sites.items():
            with suppress(LedgerError):  # an odd log is for the service and the audit to tell about
                history = await (await LogKeys.of_site(pool, name)).history()
                for newest in history.active("log")[-1:]:
                    sites[name] = msgspec.structs.replace(known, log_vkey=str(history.vkey(newest)))
    finally:
        await pool.close()
    return msgspec.structs.replace(installation, sites=sites)
