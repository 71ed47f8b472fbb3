"""`consent-ledger doctor`: look at an installation and say what is not as it should be, and what to do about it.

It reads, and changes nothing.
"""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import asyncpg
import nats
import nats.errors

from ledger import config
from ledger.config import Settings
from ledger.core.entry import key_hash
from ledger.keys.files import keys_here, paths_of, root_path, site_directory
from ledger.keys.sealed import ROLES
from ledger.store.migrate import migrations
from ledger.store.reads import CheckpointerRow, checkpoint_trouble


class Verdict(Enum):
    GOOD = "good"
    ADVICE = "advice"
    BAD = "bad"


class Finding(NamedTuple):
    """One thing looked at. `detail` tells what to do where the verdict is not good."""

    verdict: Verdict
    what: str
    detail: str


_APPLIED = "select array_agg(name order by name) from ledger.migration"
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
_NOW_MS = "select (extract(epoch from clock_timestamp()) * 1000)::bigint"
_SITES = """
select s.site_id, s.site, coalesce((select max(e.seq) + 1 from ledger.entry e where e.site_id = s.site_id), 0) as size,
       p.position
  from ledger.site s left join ledger.projection p on p.site_id = s.site_id and p.live order by s.site
"""
_ACTIVE = """
select array_agg(key_hash) from ledger.signer where site_id = $1 and role = 'ingest' and until is null
"""
_ACTIVE_LOG_KEYS = "select array_agg(k.public) from ledger.log_keys($1) k where k.active"
_CHECKPOINTER = """
select state, reason, detail, witnesses, extract(epoch from now() - seen_at)::float8 as silent
  from ledger.checkpointer where site_id = $1
"""
LAG_ADVICE_ENTRIES = 100_000


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Every finding, the database's first: without it the others cannot be looked at."""
    try:
        connection = await asyncpg.connect(settings.database_url, timeout=config.CONNECT_TIMEOUT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield Finding(Verdict.BAD, "database", f"does not answer ({type(error).__name__}): is it up, is the URL right?")
        return
    try:
        async for finding in _database(connection):
            yield finding
        for row in await connection.fetch(_SITES):
            async for finding in _site(connection, settings, row):
                yield finding
    except asyncpg.PostgresError as error:
        yield Finding(Verdict.BAD, "schema", f"cannot be read ({error}): run `consent-ledger migrate`")
    finally:
        await connection.close()
    yield await _nats(settings)


async def _database(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    version = connection.get_server_version()
    yield Finding(Verdict.GOOD, "database", f"PostgreSQL {version.major}.{version.minor} answers")
    applied = await connection.fetchval(_APPLIED) or []
    missing = [name for name, _ in migrations() if name not in applied]
    if missing:
        yield Finding(Verdict.BAD, "schema", f"{', '.join(missing)} not applied: run `consent-ledger migrate`")
    else:
        yield Finding(Verdict.GOOD, "schema", f"{len(applied)} migrations, up to date")
    if await connection.fetchval(_GUARDED):
        yield Finding(Verdict.GOOD, "guard", "DDL on the ledger's tables is refused")
    else:
        yield Finding(Verdict.ADVICE, "guard", "DDL is not refused: run `consent-ledger migrate` as a superuser")
    for row in await connection.fetch(_SETTINGS):
        good = row["setting"] not in ("off", "local")
        yield Finding(
            Verdict.GOOD if good else Verdict.BAD,
            row["name"],
            row["setting"] if good else f"{row['setting']}: 201 would not mean durable; set it to on",
        )
    if await connection.fetchval(_RIGHTS):
        yield Finding(
            Verdict.BAD, "login", "the service's login may write past the functions: use one in ledger_service alone"
        )
    else:
        yield Finding(Verdict.GOOD, "login", "may read, and call the ledger's functions")
    skew_ms = await connection.fetchval(_NOW_MS) - time.time_ns() // 1_000_000
    near = abs(skew_ms) < 1_000
    yield Finding(
        Verdict.GOOD if near else Verdict.BAD,
        "clocks",
        f"{abs(skew_ms)} ms apart" + ("" if near else ": beyond 5 s appending stops; set them by NTP"),
    )


async def _site(connection: asyncpg.Connection, settings: Settings, row: asyncpg.Record) -> AsyncIterator[Finding]:
    site = row["site"]
    lag = row["size"] - 1 - (row["position"] or 0)
    yield Finding(
        Verdict.GOOD if lag < LAG_ADVICE_ENTRIES else Verdict.ADVICE,
        site,
        f"{row['size']} entries, {lag} of them not yet in the projection"
        + ("" if lag < LAG_ADVICE_ENTRIES else ": reads get slow; is a worker running?"),
    )
    async for finding in _keys(connection, settings, row):
        yield finding


async def _keys(connection: asyncpg.Connection, settings: Settings, row: asyncpg.Record) -> AsyncIterator[Finding]:
    site = row["site"]
    reported = await connection.fetchrow(_CHECKPOINTER, row["site_id"])
    checkpointer = None if reported is None else CheckpointerRow(*reported)
    trouble = checkpoint_trouble(checkpointer)
    signs = (
        checkpointer is not None
        and checkpointer.state == "signing"
        and checkpointer.silent < config.CHECKPOINT_DEAD_SECONDS
    )
    yield Finding(
        Verdict.GOOD if trouble is None else Verdict.ADVICE if signs else Verdict.BAD,
        f"{site} checkpoints",
        "signed" if trouble is None else f"{trouble} (`consent-ledger checkpoint status {site}` tells more)",
    )
    active = set(await connection.fetchval(_ACTIVE, row["site_id"]) or ())
    here = {role: keys_here(settings, site, role) for role in ROLES}
    if any(key_hash(key.public) in active for key in here["ingest"].keys.values()):
        yield Finding(Verdict.GOOD, f"{site} ingest key", "active in the log")
    else:
        where = site_directory(settings, site)
        reasons = "; ".join(here["ingest"].problems.values()) or f"none that is active lies in {where}"
        yield Finding(Verdict.BAD, f"{site} ingest key", f"{reasons}: this machine cannot record")
    log_keys = {key.public for key in here["log"].keys.values()}
    if log_keys.intersection(await connection.fetchval(_ACTIVE_LOG_KEYS, row["site_id"]) or ()):
        yield Finding(Verdict.GOOD, f"{site} log key", "active in the log")
    else:
        detail = "no active one lies here: a worker on this machine cannot sign checkpoints"
        yield Finding(Verdict.ADVICE, f"{site} log key", detail)
    for path, problem in {path: text for of_role in here.values() for path, text in of_role.problems.items()}.items():
        yield Finding(Verdict.BAD, f"{site} key {path.name}", problem)
    files = [path for role in ROLES for path in paths_of(settings, site, role)]
    open_to_others = [path.name for path in files if _mode(path) & 0o077]
    if open_to_others:
        yield Finding(Verdict.BAD, f"{site} keys", f"{', '.join(open_to_others)} readable by others: chmod 600")
    if root_path(settings, site).exists():
        yield Finding(
            Verdict.ADVICE,
            f"{site} root key",
            f"on this machine: `consent-ledger key take-offline {site} FILE` moves it to where no thief of this one is",
        )


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


async def _nats(settings: Settings) -> Finding:
    if not settings.nats_url:
        return Finding(Verdict.ADVICE, "NATS", "not set up: nothing is published until LEDGER_NATS_URL is set")
    try:
        client = await nats.connect(
            settings.nats_url, connect_timeout=int(config.CONNECT_TIMEOUT_SECONDS), allow_reconnect=False
        )
    except (OSError, TimeoutError, nats.errors.Error) as error:
        return Finding(
            Verdict.BAD, "NATS", f"does not answer ({type(error).__name__}): events are kept, and published later"
        )
    try:
        account = await client.jetstream().account_info()
        return Finding(Verdict.GOOD, "NATS", f"JetStream answers, {account.streams} streams")
    except (TimeoutError, nats.errors.Error) as error:
        return Finding(Verdict.BAD, "NATS", f"JetStream does not answer ({type(error).__name__}): is it enabled?")
    finally:
        await client.close()
