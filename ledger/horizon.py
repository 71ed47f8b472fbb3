"""Within which time the bytes of what was erased are gone from the database's files, as this server is set up.

It looks and tells; `scrub` is what makes them go. What lies outside the server (backups, a file system's snapshots,
consumers) is in deploy/runbooks/erasure.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.scrub import Relation, relations

_SERVER = """
select current_setting('wal_recycle')::boolean as recycles, current_setting('archive_mode') <> 'off' as archives,
       pg_size_bytes(current_setting('wal_keep_size')) as keeps_bytes,
       pg_has_role('pg_checkpoint', 'usage') and has_function_privilege('pg_switch_wal()', 'execute') as may,
       (select array_agg(r.slot_name::text order by r.slot_name) from pg_replication_slots r) as slots
"""


class Horizon(NamedTuple):
    """One place where erased bytes linger. `detail` says for how long, and what to do where that is too long."""

    good: bool
    what: str
    detail: str


async def horizons(connection: asyncpg.Connection, scrub_hours: int) -> list[Horizon]:
    """Of the tables with their indexes, and of the WAL."""
    return [_tables(await relations(connection), scrub_hours), _wal(await connection.fetchrow(_SERVER))]


def _tables(tables: Sequence[Relation], hours: int) -> Horizon:
    what = "erased bytes in tables"
    late_seconds = max(1, hours) * 3600 * config.SCRUB_LATE_FACTOR
    if not all(table.ours for table in tables):
        detail = (
            "stay until `consent-ledger scrub` is run with LEDGER_ADMIN_DATABASE_URL, by a timer of your own: before "
            "Postgres 17 the worker may not write tables anew"
        )
        return Horizon(False, what, detail)
    large = [table for table in tables if table.bytes > config.SCRUB_WORKER_MAX_BYTES]
    left = [table.name for table in large if not table.before or (table.touched and table.seconds > late_seconds)]
    waiting = [table.name for table in tables if table.touched and table.seconds > late_seconds]
    if left:
        megabytes = config.SCRUB_WORKER_MAX_BYTES // (1024 * 1024)
        detail = (
            f"{', '.join(left)}: above {megabytes} MB, where everybody would wait too long: run "
            "`consent-ledger scrub` in a quiet hour, by a timer of your own"
        )
        return Horizon(False, what, detail)
    if waiting:
        detail = f"{', '.join(waiting)}: not written anew though it is due: is a worker running, does its log tell why?"
        return Horizon(False, what, detail)
    within = f"{hours} h" if hours else "a minute"
    detail = f"gone within {within} of an erasure, and from their indexes"
    if large:
        hours_ago = max(table.seconds for table in large) / 3600
        names = ", ".join(table.name for table in large)
        detail += f"; from {names}, large, by your own `consent-ledger scrub`, {hours_ago:.0f} h ago last"
    return Horizon(True, what, detail)


def _wal(row: asyncpg.Record) -> Horizon:
    longer: list[str] = []
    if not row["may"]:
        longer.append(
            "the service may not ask for a checkpoint, so it goes with the server's own: run `consent-ledger migrate` "
            "as a superuser"
        )
    if row["recycles"]:
        longer.append("files are used again with what was in them: set wal_recycle=off")
    if row["keeps_bytes"]:
        longer.append(f"wal_keep_size keeps the last {row['keeps_bytes'] // (1024 * 1024)} MB whatever is in them")
    if row["slots"]:
        longer.append(f"replication slots keep it for those who read them ({', '.join(row['slots'])})")
    if row["archives"]:
        longer.append("the archive keeps it for as long as you keep the archive: let it go with your oldest backup")
    detail = "; ".join(longer) or "gone with the same run, and all that was written before"
    return Horizon(not longer, "erased bytes in WAL", detail)
