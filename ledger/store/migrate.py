"""Bring a database to the newest schema: roles, numbered migrations in one transaction, and the DDL guard.

It needs the database's owner or a superuser, and is the only code that does. A migration once released never changes;
its hash is kept, and a database whose hash differs is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from ledger.config import CONNECT_TIMEOUT_SECONDS
from ledger.core.errors import ConfigInvalid

MINIMUM_POSTGRES = 150_000
_LOCK = 0x636F6E73656E74  # "consent"
_NAME = re.compile(r"[0-9]{4}_[a-z_]+\.sql")

_ROLES = """
do $$
declare
    v_role text;
    -- Since 16 who creates a role is its member without being able to become it.
    v_able text := case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end;
begin
    foreach v_role in array array['ledger_owner', 'ledger_migrate', 'ledger_service'] loop
        if not exists (select 1 from pg_roles r where r.rolname = v_role) then
            begin
                execute format('create role %I nologin', v_role);
            exception when duplicate_object or unique_violation then null;  -- another migrate on this cluster
            end;
        end if;
    end loop;
    if not pg_has_role('ledger_migrate', 'ledger_owner', 'member') then
        grant ledger_owner to ledger_migrate;
    end if;
    if not pg_has_role(current_user, 'ledger_migrate', v_able) then
        execute format('grant ledger_migrate to %I', current_user);
    end if;
end $$
"""
_SCHEMA = """
create schema if not exists ledger authorization ledger_owner;
create table if not exists ledger.migration (
    name text primary key, hash bytea not null, applied_at timestamptz not null default now()
);
"""
# What `ledger_migrate` created belongs to the owner, so that SECURITY DEFINER functions run as the owner.
_OWN = """
do $$
declare
    v_object record;
begin
    for v_object in select c.oid::regclass as name from pg_class c
                     where c.relowner = 'ledger_migrate'::regrole and c.relkind = 'r' loop
        execute format('alter table %s owner to ledger_owner', v_object.name);
    end loop;
    for v_object in select p.oid::regprocedure as name from pg_proc p where p.proowner = 'ledger_migrate'::regrole loop
        execute format('alter routine %s owner to ledger_owner', v_object.name);
    end loop;
end $$
"""
_IS_SUPERUSER = "select rolsuper from pg_roles where rolname = current_user"


class Migrated(NamedTuple):
    """What was done: names newly applied, and whether DDL on the ledger is refused from now on."""

    applied: tuple[str, ...]
    guarded: bool


def migrations() -> list[tuple[str, str]]:
    """(name, SQL) of every migration, in order."""
    folder = files("ledger.store").joinpath("migrations")
    names = sorted(item.name for item in folder.iterdir() if _NAME.fullmatch(item.name))
    return [(name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names]


def digests() -> dict[str, str]:
    """SHA-256 in hex of every migration, by name."""
    return {name: sha256(sql.encode()).hexdigest() for name, sql in migrations()}


async def migrate(admin_url: str, only: Collection[str] | None = None) -> Migrated:
    """Apply what is missing, all or nothing. `ConfigInvalid` for an old server or a schema that is not ours.

    `only`: no other migrations than these, for rows of an older schema are to be loaded first.
    """
    connection = await asyncpg.connect(admin_url, timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        if int(await connection.fetchval("select current_setting('server_version_num')")) < MINIMUM_POSTGRES:
            raise ConfigInvalid("PostgreSQL 15 or newer is needed")
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
            return await _apply(connection, only)
    finally:
        await connection.close()


async def _apply(connection: asyncpg.Connection, only: Collection[str] | None) -> Migrated:
    await connection.execute(_ROLES)
    database = await connection.fetchval("select quote_ident(current_database())")
    await connection.execute(f"grant create on database {database} to ledger_migrate")
    superuser: bool = await connection.fetchval(_IS_SUPERUSER)
    await connection.execute("set local role ledger_migrate")
    await connection.execute(_SCHEMA)
    done = {row["name"]: row["hash"] for row in await connection.fetch("select name, hash from ledger.migration")}
    applied: list[str] = []
    for name, sql in migrations():
        if only is not None and name not in only:
            continue
        digest = sha256(sql.encode()).digest()
        if name in done:
            if done[name] != digest:
                raise ConfigInvalid(f"this database was made with another {name}: it needs the release that made it")
            continue
        await connection.execute(sql)
        await connection.execute("insert into ledger.migration (name, hash) values ($1, $2)", name, digest)
        applied.append(name)
    await connection.execute(_OWN)
    await connection.execute("reset role")
    if superuser:  # also where all is applied: the run before may have been by somebody else
        for name in ("guard.sql", "wal.sql"):
            await connection.execute(files("ledger.store").joinpath(name).read_text(encoding="utf-8"))
    guarded: bool = await connection.fetchval(
        "select count(*) = 2 from pg_event_trigger where evtname in ('ledger_refuse_ddl', 'ledger_refuse_drop')"
    )
    return Migrated(tuple(applied), guarded)
