"""`consent-ledger doctor`: look at an installation and say what is not as it should be, and what to do about it.

It reads, and changes nothing.
"""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import asyncpg
import nats
import nats.errors

from ledger import config, spool
from ledger.backup.age import age_of
from ledger.config import Settings
from ledger.consumers import Consumers, behind
from ledger.cookies import Cookies, Figures
from ledger.core.admin_act import is_admin_log
from ledger.core.document import SiteDocument
from ledger.core.document_advice import advise
from ledger.core.entry import key_hash
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.core.policy import PolicyHistory
from ledger.erasing.store import late_orders
from ledger.horizon import horizons
from ledger.keys.files import keys_here, paths_of, root_path, site_directory
from ledger.keys.sealed import ROLES
from ledger.region import built_at
from ledger.site import published
from ledger.store.lapses import lapse_trouble, lateness
from ledger.store.migrate import migrations
from ledger.store.pool import open_pool
from ledger.store.reads import CheckpointerRow, Reads, checkpoint_trouble
from ledger.vault import read_vault


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
       p.position, s.admin_of is not null as administrative,
       exists (select 1 from ledger.site a where a.admin_of = s.site_id) as administered
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
_DATA_KEYS = """
select k.master_version as version, extract(epoch from now() - k.created_at)::float8 as age_seconds,
       (select max(e.seq) + 1 from ledger.entry e where e.site_id = k.site_id) - k.since_seq as entries
  from ledger.data_key k where k.site_id = $1 and k.role = 'opening' order by k.key_no desc limit 1
"""
_REQUESTS = """
select count(*), count(*) filter (where r.due_at < clock_timestamp()),
       coalesce(extract(epoch from min(r.due_at) - clock_timestamp())::float8, 0)
  from ledger.request r where r.site_id = $1 and r.closed_at is null
"""
_RETENTION = """
select coalesce(extract(epoch from now()) - min(r.next_ms) / 1000.0, 0)::float8
  from ledger.retention_block r where r.site_id = $1 and r.next_ms is not null
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
        for horizon in await horizons(connection, settings.scrub_hours):
            yield Finding(Verdict.GOOD if horizon.good else Verdict.ADVICE, horizon.what, horizon.detail)
        for row in await connection.fetch(_SITES):
            async for finding in _site(connection, settings, row):
                yield finding
    except asyncpg.PostgresError as error:
        yield Finding(Verdict.BAD, "schema", f"cannot be read ({error}): run `consent-ledger migrate`")
    finally:
        await connection.close()
    async for finding in _policies(settings):
        yield finding
    yield await _consumers(settings)
    yield await _nats(settings)
    backups = age_of(settings.backup_dir, time.time_ns() // 1_000_000)
    yield Finding(Verdict.GOOD if backups.good else Verdict.ADVICE, "backups", backups.detail)
    left = ", ".join(map(str, spool.left()))
    yield Finding(
        Verdict.ADVICE if left else Verdict.GOOD,
        "temporary files",
        f"{left}: of an export that was killed, with openings in it: remove it (the next export does)"
        if left
        else "nothing was left behind by commands that were killed",
    )


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
    if row["administrative"]:
        yield Finding(Verdict.GOOD, site, f"{row['size']} entries of an administrative log")
        async for finding in _keys(connection, settings, row):
            yield finding
        return
    if not row["administered"]:
        detail = "has none: nothing can be done to the site until `consent-ledger site add` of its document founds it"
        yield Finding(Verdict.BAD, f"{site} admin log", detail)
    lag = row["size"] - 1 - (row["position"] or 0)
    yield Finding(
        Verdict.GOOD if lag < LAG_ADVICE_ENTRIES else Verdict.ADVICE,
        site,
        f"{row['size']} entries, {lag} of them not yet in the projection"
        + ("" if lag < LAG_ADVICE_ENTRIES else ": reads get slow; is a worker running?"),
    )
    async for finding in _keys(connection, settings, row):
        yield finding
    yield _requests(site, *await connection.fetchrow(_REQUESTS, row["site_id"]))
    yield _retention(site, await connection.fetchval(_RETENTION, row["site_id"]))


def _retention(site: str, late_seconds: float) -> Finding:
    """Whether records go when their time is over."""
    name = f"{site}, retention"
    if late_seconds > config.RETENTION_LATE_SECONDS:
        told = f"records have been due for {late_seconds / 86_400:.1f} days: is a worker running?"
        return Finding(Verdict.BAD, name, f"{told} `consent-ledger retention plan {site}` shows them")
    return Finding(Verdict.GOOD, name, "nothing has been due for long")


def _requests(site: str, waiting: int, overdue: int, left_seconds: float) -> Finding:
    """How the requests of people stand."""
    name = f"{site}, requests"
    if overdue:
        shown = f"`consent-ledger request list {site} --overdue` shows them"
        return Finding(Verdict.BAD, name, f"{overdue} of {waiting} are open beyond their deadline: {shown}")
    urgent = f", the most urgent one due in {left_seconds / 86_400:.1f} days" if waiting else ""
    return Finding(Verdict.GOOD, name, f"{waiting} wait{urgent}")


async def _data_keys(connection: asyncpg.Connection, settings: Settings, site_id: int, site: str) -> Finding:
    """Whether the keys that seal a site's rows open, how old the one in use is, and how far it is used up."""
    name, key = f"{site} data keys", await connection.fetchrow(_DATA_KEYS, site_id)
    try:
        await read_vault(connection, site_id, settings.masters)
    except ConfigInvalid as error:
        return Finding(Verdict.BAD, name, str(error))
    days, entries = key["age_seconds"] / 86_400, key["entries"]
    told = f"under version {key['version']} of the master secret; the key in use is {days:.1f} days old, "
    told += f"{entries:,} of {2 * config.DATA_KEY_MAX_ENTRIES:,} entries are sealed"
    if days > config.DATA_KEY_PERIOD_DAYS + 1 or entries > config.DATA_KEY_MAX_ENTRIES * 1.5:
        return Finding(Verdict.BAD, name, f"{told}: the next one is overdue; is a worker running?")
    if settings.next_master_secret:
        rotated = key["version"] > settings.master_key_version
        step = "make it LEDGER_MASTER_SECRET" if rotated else "`key rotate-master`, or start `up` again"
        return Finding(Verdict.ADVICE, name, f"{told}. LEDGER_NEXT_MASTER_SECRET waits: {step}")
    return Finding(Verdict.GOOD, name, told)


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
    yield await _data_keys(connection, settings, row["site_id"], site)
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
    if here["receipt"].keys:
        yield Finding(Verdict.GOOD, f"{site} receipt key", "signs Consent Receipts")
    elif not row["administrative"]:
        detail = f"none lies here: no Consent Receipts as JWT until `consent-ledger key new {site} receipt` makes one"
        yield Finding(Verdict.ADVICE, f"{site} receipt key", detail)
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


# --- what the policies say --------------------------------------------------------------------------------------------


async def _consumers(settings: Settings) -> Finding:
    pool = await open_pool(settings.database_url, size=1)
    try:
        found = await Consumers(Reads(pool)).all()
    except (LedgerError, asyncpg.PostgresError) as error:
        return Finding(Verdict.ADVICE, "consumers", f"cannot be looked at: {error}")
    finally:
        await pool.close()
    late = ", ".join(f"{one.name} of {one.site}" for one in behind(found, config.CONSUMER_LATE_SECONDS))
    if late:
        detail = f"{late} did not confirm an erasure within a day: ask whether they follow the stream"
        return Finding(Verdict.ADVICE, "consumers", detail)
    return Finding(Verdict.GOOD, "consumers", f"{len(found)} registered, and no erasure waits for one")


async def _policies(settings: Settings) -> AsyncIterator[Finding]:
    """Of every site: what to think over in its policies, in force and next to come, how its cookie inventory is, and
    whether lapses are told."""
    pool = await open_pool(settings.database_url, size=1)
    try:
        reads, cookies = Reads(pool), Cookies(pool)
        differ = False
        late, ordered = await lateness(pool), await late_orders(pool)
        for site in [row for row in await reads.sites() if not is_admin_log(row.site)]:
            history = PolicyHistory(tuple(published(row) for row in await reads.policies(site.site_id)))
            now_ms = time.time_ns() // 1_000_000
            in_force = history.in_force(now_ms)
            coming = next((entry for entry in history.in_effect_order if entry.effect_ms > now_ms), None)
            if in_force is None:
                yield Finding(Verdict.ADVICE, f"{site.site} policy", "none is in force: every purpose is denied")
            for entry, state in ((in_force, "in force"), (coming, "next to come")):
                if entry is not None:
                    for finding in _advice(site.site, entry.document, state):
                        yield finding
                    differ = differ or _regions_matter(entry.document)
            for figures in await cookies.measure([(site.site_id, site.site, history)]):
                for finding in _cookies(figures):
                    yield finding
            trouble = lapse_trouble(late.get(site.site, 0.0))
            yield Finding(
                Verdict.GOOD if trouble is None else Verdict.ADVICE,
                f"{site.site} lapses",
                trouble or "told as they come",
            )
            orders, seconds = ordered.get(site.site, (0, 0.0))
            yield _erasures(site.site, orders, seconds)
        yield _regions(settings, differ)
    except (LedgerError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        yield Finding(Verdict.BAD, "policies", f"cannot be read ({error}): run `consent-ledger migrate`")
    finally:
        pool.terminate()


def _erasures(site: str, orders: int, late_seconds: float) -> Finding:
    if late_seconds > config.ERASURE_LATE_SECONDS:
        detail = f"{orders} ordered, the oldest due for {late_seconds:.0f} s: is a worker running, with the ingest key?"
        return Finding(Verdict.BAD, f"{site} erasures", detail)
    return Finding(Verdict.GOOD, f"{site} erasures", f"{orders} wait" if orders else "none waits")


def _advice(site: str, document: SiteDocument, state: str) -> Iterator[Finding]:
    what, found = f"{site} policy {document.version}", advise(document)
    if not found:
        yield Finding(Verdict.GOOD, what, f"{state}, nothing in it to think over")
    for path, text in found:
        yield Finding(Verdict.ADVICE, what, f"{state}: {path}: {text}")


def _cookies(figures: Figures) -> Iterator[Finding]:
    what = f"{figures.site} cookies"
    if figures.undeclared:
        number = "1 name" if figures.undeclared == 1 else f"{figures.undeclared} names"
        yield Finding(
            Verdict.ADVICE,
            what,
            f"{number} that no policy declares, seen in the last {config.COOKIES_RECENT_DAYS} days: "
            f"`consent-ledger cookies list {figures.site}` shows them; declare them, or see that they are gone",
        )
    overdue = figures.overdue_seconds
    if overdue:
        since = f"{overdue // 86_400} days" if overdue >= 2 * 86_400 else f"{overdue // 3600} hours"
        yield Finding(
            Verdict.ADVICE,
            what,
            f"their review is overdue by {since}: `consent-ledger cookies list {figures.site}`, then "
            f"`consent-ledger cookies review {figures.site} --by ROLE`",
        )
    elif not figures.undeclared:
        yield Finding(Verdict.GOOD, what, "all declared" + ("" if overdue is None else ", and no review is overdue"))


def _regions_matter(document: SiteDocument) -> bool:
    """Whether a visitor's region makes a difference."""
    asked = (name for name in document.purposes if document.asks(name))
    return any(len(set(document.regimes_of(name).values())) > 1 for name in asked)


def _regions(settings: Settings, differ: bool) -> Finding:
    if settings.geoip_db is not None:
        try:
            days = (time.time() - built_at(settings.geoip_db)) / 86_400
        except ConfigInvalid as error:
            return Finding(Verdict.BAD, "regions", f"LEDGER_GEOIP_DB={settings.geoip_db}: {error}")
        if days * 86_400 > config.REGION_DATABASE_OLD_SECONDS:
            return Finding(
                Verdict.ADVICE, "regions", f"the location file is {days:.0f} days old: replace it, servers follow"
            )
        return Finding(Verdict.GOOD, "regions", f"found in a location file that is {days:.0f} days old")
    if settings.region_header:
        return Finding(Verdict.GOOD, "regions", f"told by trusted proxies in {settings.region_header}")
    if differ:
        return Finding(
            Verdict.ADVICE,
            "regions",
            "nobody's is known, so that the strictest regime holds for whoever posts with a publishable key: set "
            "LEDGER_GEOIP_DB, or LEDGER_REGION_HEADER with LEDGER_TRUSTED_PROXIES",
        )
    return Finding(Verdict.GOOD, "regions", "not looked for, and no policy asks for them")


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
