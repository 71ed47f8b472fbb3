"""May the database be relied upon: its schema, its guards, that a commit is durable, the login's rights, the clocks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import asyncpg

from ledger.doctor.finding import Finding, advice, bad, good
from ledger.store.clock import now_ms
from ledger.store.migrate import migrations

CLOCKS_NEAR_MS = 1_000
"""Appending stops at five times as much."""

_APPLIED = "select array_agg(name order by name) from ledger.migration"
_VERSION = "select split_part(current_setting('server_version'), ' ', 1)"  # without the packager's own words
_GUARDED = """
select count(*) = 2 from pg_event_trigger
 where evtname in ('ledger_refuse_ddl', 'ledger_refuse_drop') and evtenabled = 'A'
"""
_SETTINGS = """
select name, setting from pg_settings where name in ('fsync', 'full_page_writes', 'synchronous_commit')
"""
_RIGHTS = """
select r.rolsuper or pg_has_role('ledger_owner', 'member')
       or has_table_privilege('ledger.entry', 'insert, update, delete, truncate')
  from pg_roles r where r.rolname = current_user
"""


async def findings(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    """Over a connection without settings of its own."""
    yield good("database", f"PostgreSQL {await connection.fetchval(_VERSION)} answers")
    applied = await connection.fetchval(_APPLIED) or []
    missing = [name for name, _ in migrations() if name not in applied]
    if missing:
        yield bad("schema", f"{', '.join(missing)} not applied: run `consent-ledger migrate`")
    else:
        yield good("schema", f"{len(applied)} migrations, up to date")
    if await connection.fetchval(_GUARDED):
        yield good("guard", "DDL on the ledger's tables is refused")
    else:
        yield advice("guard", "DDL is not refused: run `consent-ledger migrate` as a superuser")
    for row in await connection.fetch(_SETTINGS):
        if row["setting"] in ("off", "local"):
            yield bad(row["name"], f"{row['setting']}: 201 would not mean durable; set it to on")
        else:
            yield good(row["name"], row["setting"])
    if await connection.fetchval(_RIGHTS):
        yield bad("login", "the service's login may write past the functions: use one in ledger_service alone")
    else:
        yield good("login", "may read, and call the ledger's functions")
    skew_ms = abs(await now_ms(connection) - time.time_ns() // 1_000_000)
    if skew_ms < CLOCKS_NEAR_MS:
        yield good("clocks", f"{skew_ms} ms apart")
    else:
        yield bad("clocks", f"{skew_ms} ms apart: beyond 5 s appending stops; set them by NTP")
