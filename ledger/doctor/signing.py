"""Can this machine append to a log and sign it: its checkpointer, the data keys that seal its rows, the key files."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg

from ledger import config
from ledger.config import Settings
from ledger.core.entry import key_hash
from ledger.core.errors import ConfigInvalid
from ledger.doctor.finding import Finding, advice, bad, good
from ledger.keys.files import keys_here, paths_of, root_path, site_directory
from ledger.keys.sealed import ROLES
from ledger.store.reads import Reads
from ledger.store.sites import CheckpointerRow, checkpoint_trouble
from ledger.vault import read_vault

DATA_KEY_LATE_DAYS = config.DATA_KEY_PERIOD_DAYS + 1
DATA_KEY_LATE_ENTRIES = config.DATA_KEY_MAX_ENTRIES * 3 // 2
"""With more under one key its successor is overdue."""

_ACTIVE_LOG_KEYS = "select array_agg(k.public) from ledger.log_keys($1) k where k.active"
_DATA_KEYS = """
select k.master_version as version, extract(epoch from now() - k.created_at)::float8 as age_seconds,
       (select max(e.seq) + 1 from ledger.entry e where e.site_id = k.site_id) - k.since_seq as entries
  from ledger.data_key k where k.site_id = $1 and k.role = 'opening' order by k.key_no desc limit 1
"""


class Log(NamedTuple):
    """A site's log, or its administrative one."""

    site_id: int
    site: str
    is_administrative: bool


async def findings(
    reads: Reads, settings: Settings, log: Log, checkpointer: CheckpointerRow | None
) -> AsyncIterator[Finding]:
    """Of one log."""
    yield _checkpoints(log.site, checkpointer)
    yield await _data_keys(reads.pool, settings, log)
    async for finding in _key_files(reads, settings, log):
        yield finding


def _checkpoints(site: str, checkpointer: CheckpointerRow | None) -> Finding:
    what, trouble = f"{site} checkpoints", checkpoint_trouble(checkpointer)
    if trouble is None:
        return good(what, "signed")
    signs = (
        checkpointer is not None
        and checkpointer.state == "signing"
        and checkpointer.silent < config.CHECKPOINT_DEAD_SECONDS
    )
    return (advice if signs else bad)(what, f"{trouble} (`consent-ledger checkpoint status {site}` tells more)")


async def _data_keys(pool: asyncpg.Pool, settings: Settings, log: Log) -> Finding:
    """Whether the keys that seal a log's rows open, how old the one in use is, and how far it is used up."""
    what, key = f"{log.site} data keys", await pool.fetchrow(_DATA_KEYS, log.site_id)
    try:
        await read_vault(pool, log.site_id, settings.masters)
    except ConfigInvalid as error:
        return bad(what, str(error))
    days, entries = key["age_seconds"] / 86_400, key["entries"]
    told = f"under version {key['version']} of the master secret; the key in use is {days:.1f} days old, "
    told += f"{entries:,} of {2 * config.DATA_KEY_MAX_ENTRIES:,} entries are sealed"
    if days > DATA_KEY_LATE_DAYS or entries > DATA_KEY_LATE_ENTRIES:
        return bad(what, f"{told}: the next one is overdue; is a worker running?")
    if settings.next_master_secret:
        rotated = key["version"] > settings.master_key_version
        step = "make it LEDGER_MASTER_SECRET" if rotated else "`key rotate-master`, or start `up` again"
        return advice(what, f"{told}. LEDGER_NEXT_MASTER_SECRET waits: {step}")
    return good(what, told)


async def _key_files(reads: Reads, settings: Settings, log: Log) -> AsyncIterator[Finding]:
    site = log.site
    here = {role: keys_here(settings, site, role) for role in ROLES}
    active = set(await reads.active_signers(log.site_id))
    if any(key_hash(key.public) in active for key in here["ingest"].keys.values()):
        yield good(f"{site} ingest key", "active in the log")
    else:
        where = site_directory(settings, site)
        reasons = "; ".join(here["ingest"].problems.values()) or f"none that is active lies in {where}"
        yield bad(f"{site} ingest key", f"{reasons}: this machine cannot record")
    log_keys = {key.public for key in here["log"].keys.values()}
    if log_keys.intersection(await reads.pool.fetchval(_ACTIVE_LOG_KEYS, log.site_id) or ()):
        yield good(f"{site} log key", "active in the log")
    else:
        yield advice(f"{site} log key", "no active one lies here: a worker on this machine cannot sign checkpoints")
    if here["receipt"].keys:
        yield good(f"{site} receipt key", "signs Consent Receipts")
    elif not log.is_administrative:
        detail = f"none lies here: no Consent Receipts as JWT until `consent-ledger key new {site} receipt` makes one"
        yield advice(f"{site} receipt key", detail)
    for of_role in here.values():
        for path, problem in of_role.problems.items():
            yield bad(f"{site} key {path.name}", problem)
    files = [path for role in ROLES for path in paths_of(settings, site, role)]
    open_to_others = [path.name for path in files if _mode(path) & 0o077]
    if open_to_others:
        yield bad(f"{site} keys", f"{', '.join(open_to_others)} readable by others: chmod 600")
    if root_path(settings, site).exists():
        detail = (
            f"on this machine: `consent-ledger key take-offline {site} FILE` moves it to where no thief of this one is"
        )
        yield advice(f"{site} root key", detail)


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
