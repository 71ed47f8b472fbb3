"""The life of data keys: made ahead of use, destroyed when nothing is left that they sealed, wrapped anew.

It decides when; what a key seals is the vault's part, and that nothing is lost the database's (0012).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import asyncpg
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ledger import config
from ledger.config import Settings
from ledger.core.errors import ConfigInvalid, SealBroken, Unavailable
from ledger.core.merkle import leaf_hash
from ledger.core.sealing import KeyName, Master, unwrap, wrap
from ledger.store.ask import ask
from ledger.store.errors import is_passing, sqlstate
from ledger.vault import make_key, unknown_version

log = logging.getLogger(__name__)

_NEWEST = """
select s.site_id, s.site, g.entry as genesis, k.key_no, k.master_version,
       extract(epoch from now() - k.created_at)::float8 as age_seconds,
       (select max(e.seq) + 1 from ledger.entry e where e.site_id = s.site_id) - k.since_seq as entries
  from ledger.site s
  join ledger.entry g on g.site_id = s.site_id and g.seq = 0
  join lateral (select d.* from ledger.data_key d where d.site_id = s.site_id and d.role = 'opening'
                 order by d.key_no desc limit 1) k on true
 order by s.site_id
"""
_CLOSED = """
select d.key_no from ledger.data_key d
 where d.site_id = $1 and d.role = 'opening' and d.wrapped is not null
   and d.key_no < (select o.key_no from ledger.data_key o where o.site_id = $1 and o.role = 'opening'
                    order by o.key_no desc offset 1 limit 1)
 order by d.key_no
"""
_DESTROY = "select ledger.destroy_data_key($1, $2)"
_LIVING = """
select k.site_id, k.key_no, k.role, k.master_version, k.wrapped, e.entry as genesis
  from ledger.data_key k join ledger.entry e on e.site_id = k.site_id and e.seq = 0
 where k.wrapped is not null order by k.site_id, k.key_no
"""
_REWRAP = "select ledger.rewrap_data_keys($1, $2, $3, $4)"
_MADE_MEANWHILE = "40001"


class OpeningKey(NamedTuple):
    """A site's newest opening key: `entries` were appended since it was made, sealed by it at most."""

    site_id: int
    site: str
    log_id: bytes
    key_no: int
    master_version: int
    age_seconds: float
    entries: int

    @property
    def is_due(self) -> bool:
        """Whether the next one is to be made."""
        period = config.DATA_KEY_PERIOD_DAYS * 86_400 - config.DATA_KEY_AHEAD_SECONDS
        return self.age_seconds >= period or self.entries >= config.DATA_KEY_MAX_ENTRIES


async def newest_keys(pool: asyncpg.Pool) -> list[OpeningKey]:
    """Of every site."""
    return [
        OpeningKey(
            row["site_id"],
            row["site"],
            leaf_hash(row["genesis"]),
            row["key_no"],
            row["master_version"],
            row["age_seconds"],
            row["entries"],
        )
        for row in await ask(pool, _NEWEST)
    ]


async def destroy_empty_keys(pool: asyncpg.Pool, site_id: int) -> list[int]:
    """Destroy the opening keys of a site under which no opening is left; their numbers. The database refuses the newest
    two, which seal, and whichever is still needed."""
    closed = [row["key_no"] for row in await ask(pool, _CLOSED, site_id)]
    return [key_no for key_no in closed if (await ask(pool, _DESTROY, site_id, key_no))[0][0]]


class KeyMaker(Collector):
    """Makes the next opening key of each site when it is due, and destroys those that nothing needs any more."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._said: dict[str, str] = {}
        self._keys: list[OpeningKey] = []

    async def run(self) -> None:
        """Until cancelled. A database that goes away is waited for."""
        while True:
            try:
                await self.round()
            except Exception as error:
                if not is_passing(error):
                    log.exception("data keys could not be looked after; it is tried again")
            await asyncio.sleep(config.DATA_KEY_LOOK_SECONDS)

    async def round(self) -> None:
        """Every site once. What is wrong with one is told once, and does not keep the others waiting."""
        self._keys = await newest_keys(self._pool)
        for key in self._keys:
            try:
                if key.is_due:
                    made = await make_key(self._pool, key.site_id, key.log_id, "opening", *self._settings.masters)
                    log.info("data key %d of %s is made, and seals in %d s", made, key.site, _AHEAD)
                for key_no in await destroy_empty_keys(self._pool, key.site_id):
                    log.info("data key %d of %s is destroyed: nothing is left that it sealed", key_no, key.site)
            except ConfigInvalid as error:
                if self._said.get(key.site) != str(error):
                    self._said[key.site] = str(error)
                    log.error("no data key of %s can be made: %s", key.site, error)

    def collect(self) -> Iterable[Metric]:
        """What is known of the newest keys."""
        age = GaugeMetricFamily("consent_ledger_data_key_age_seconds", "Age of the newest.", labels=["site"])
        entries = GaugeMetricFamily("consent_ledger_data_key_entries", "Entries since it was made.", labels=["site"])
        for key in self._keys:
            age.add_metric([key.site], key.age_seconds)
            entries.add_metric([key.site], key.entries)
        return [age, entries]


_AHEAD = config.DATA_KEY_AHEAD_SECONDS


async def rewrap(connection: asyncpg.Connection, old: Sequence[Master], new: Master) -> int:
    """Wrap the data keys of all sites under `new`, in one statement; how many were not yet. The rows that they sealed
    stay as they are.

    `connection` is the ledger owner's. `ConfigInvalid` if a key opens under none of the secrets: then nothing is done.
    """
    for _ in range(config.DATA_KEY_ATTEMPTS):
        living = await connection.fetch(_LIVING)
        newest = max((row["master_version"] for row in living), default=new.version)
        if newest > new.version:
            raise unknown_version(newest, [*old, new])
        rows = [row for row in living if row["master_version"] < new.version]
        if not rows:
            return 0
        wrapped = [_wrapped_anew(row, dict(old), new) for row in rows]
        columns = [[row["site_id"] for row in rows], [row["key_no"] for row in rows], wrapped]
        try:
            await connection.execute(_REWRAP, new.version, *columns)
        except asyncpg.PostgresError as error:
            if sqlstate(error) != _MADE_MEANWHILE:
                raise
            continue
        return len(rows)
    raise Unavailable("data-key-unknown", "Others make data keys all the time; run it again.")


def _wrapped_anew(row: asyncpg.Record, secrets: dict[int, bytes], new: Master) -> bytes:
    secret = secrets.get(row["master_version"])
    if secret is None:
        raise unknown_version(row["master_version"], secrets.items())
    name = KeyName(leaf_hash(row["genesis"]), row["key_no"], row["role"])
    try:
        return wrap(unwrap(row["wrapped"], name, Master(row["master_version"], secret)), name, new)
    except SealBroken as error:
        raise ConfigInvalid(
            f"data key {row['key_no']} of site {row['site_id']} does not open under version {row['master_version']} of "
            "the master secret: the secret is another one, or the key was altered. Nothing was changed"
        ) from error
