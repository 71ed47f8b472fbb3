"""Keeps what lies beside the backups up to date: by the worker every few seconds, and by each `backup`.

It looks what changed since it looked last, so a crash at any moment leaves nothing out: the journals are read again,
and what they lack is appended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

import asyncpg
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ledger import __version__, config
from ledger.backup.archive import About, SiteInside, read_about
from ledger.backup.folder import ACTS, ERASURES, KEYRING, ORDERS, kept_in
from ledger.backup.journal import LEAF_BYTES, ActLine, ErasureLine, Journal
from ledger.backup.keyring import Keyring, is_older, read_keyring, write_keyring
from ledger.backup.orders import are_older, changes, write_orders
from ledger.config import Settings
from ledger.core.admin_act import is_admin_log
from ledger.core.entry import decode, decode_seqs
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.core.sealing import Master
from ledger.store.sites import SiteRow

log = logging.getLogger(__name__)

_SITES = "select site_id, site, origin from ledger.site order by site_id"
_MIGRATIONS = "select name, encode(hash, 'hex') from ledger.migration order by name"
_ABOUT = """
select s.site, s.origin, coalesce((select max(e.seq) + 1 from ledger.entry e where e.site_id = s.site_id), 0),
       coalesce((select c.note from ledger.checkpoint c where c.site_id = s.site_id order by c.size desc limit 1), ''),
       k.made, k.destroyed
  from ledger.site s
 cross join lateral (select coalesce(max(d.key_no), 0) as made, count(d.destroyed_at) as destroyed
                       from ledger.data_key d where d.site_id = s.site_id) k
 order by s.site_id
"""
_ERASURES = """
select e.seq, e.entry, o.sealed
  from (select distinct r.by_seq from ledger.erased r where r.site_id = $1 and r.by_seq >= $2
         order by r.by_seq limit $3) b
  join ledger.entry e on e.site_id = $1 and e.seq = b.by_seq
  join ledger.opening o on o.site_id = $1 and o.seq = b.by_seq
 order by e.seq
"""
_ERASED = """
select substring(ledger.leaf_hash(e.entry) from 1 for $3),
       case when ledger.entry_ms(e.entry) >= $4 then e.entry end
  from unnest($2::bigint[]) with ordinality u(seq, n)
  join ledger.entry e on e.site_id = $1 and e.seq = u.seq order by u.n
"""
_ACTS = """
select e.seq, e.entry, o.sealed
  from ledger.entry e left join ledger.opening o on o.site_id = e.site_id and o.seq = e.seq
 where e.site_id = $1 and e.seq >= $2 order by e.seq limit $3
"""
_NOW_MS = "select (extract(epoch from clock_timestamp()) * 1000)::bigint"


class Beside:
    """The files of one directory, over connections that may read the ledger."""

    def __init__(self, directory: Path, master: Master) -> None:
        self.directory = directory
        self.erasures = Journal(directory / ERASURES, ErasureLine)
        self.acts = Journal(directory / ACTS, ActLine)
        self._master = master
        self._orders: tuple[object, ...] = ()
        self._next: dict[tuple[str, str], int] = {}

    def known(self) -> About | None:
        """Of when the orders are, and how far the logs were then; None without any that this secret opens."""
        with contextlib.suppress(FileNotFoundError, LedgerError), (self.directory / ORDERS).open("rb") as file:
            return read_about(file.read, dict([self._master]))
        return None

    async def update(self, connection: asyncpg.Connection) -> None:
        """Everything. `OSError` where the directory cannot be written, `ConfigInvalid` where the database is an older
        copy: what only grows is brought up to date then, and nothing else touched."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.erasures.path.exists() and self.acts.path.exists()):
            self._next = {}  # whatever was in them goes into them again
            self.erasures.append([])  # there from the first moment on, so that a missing one is missed
            self.acts.append([])
        known = self.known()
        about = await about_of(connection)  # first, so that no other file is older than what the orders say of it
        for row in await connection.fetch(_SITES):
            site = SiteRow(*row)
            await self._erasures(connection, site)
            if is_admin_log(site.site):
                await self._acts(connection, site)
        self.put_keyring(await read_keyring(connection), about, known)
        orders = self.directory / ORDERS
        # Every change that matters is preceded by an act, so a longer log of a site is no reason to write them.
        stand = [(s.origin, s.size if is_admin_log(s.site) else 0, s.data_keys, s.destroyed) for s in about.sites]
        seen = (await changes(connection), stand)
        if (*seen, _left(orders)) != self._orders:
            await write_orders(orders, connection, about, self._master)
            self._orders = (*seen, _left(orders))

    def put_keyring(self, keyring: Keyring, about: About, known: About | None) -> None:
        """Write it, unless it or `about`, which were read after `known`, is of an older copy of the database."""
        if known is not None and (are_older(about, known) or is_older(keyring, known)):
            raise ConfigInvalid(
                f"the database is an older copy than the files in {self.directory}, which stay as they are: bring it "
                "up to date (deploy/runbooks/older-copy.md, step 2), or, where that is given up, move `orders` away"
            )
        write_keyring(self.directory / KEYRING, keyring)

    async def _erasures(self, connection: asyncpg.Connection, site: SiteRow) -> None:
        place = (ERASURES, site.origin)
        while True:
            start = self._next.get(place, 0)
            rows = await connection.fetch(_ERASURES, site.site_id, start, config.BACKUP_JOURNAL_ROWS)
            if not rows:
                return
            lines: list[ErasureLine] = []
            events = 0
            for seq, data, sealed in rows:
                entry = decode(data)
                seqs = decode_seqs(entry.public)
                young_ms = entry.ms - config.BACKUP_JOURNAL_ENTRY_SECONDS * 1000
                erased = await connection.fetch(_ERASED, site.site_id, seqs, LEAF_BYTES, young_ms)
                leaves, entries = b"".join(row[0] for row in erased), tuple(row[1] for row in erased if row[1])
                lines.append(ErasureLine(site.origin, seq, data, sealed, leaves, entries))
                events += len(seqs)
                if events >= config.BACKUP_JOURNAL_EVENTS:
                    break
            self.erasures.append(lines)
            self._next[place] = lines[-1].seq + 1

    async def _acts(self, connection: asyncpg.Connection, site: SiteRow) -> None:
        place = (ACTS, site.origin)
        while True:
            start = self._next.get(place, 1)
            rows = await connection.fetch(_ACTS, site.site_id, start, config.BACKUP_JOURNAL_ROWS)
            if not rows:
                return
            self.acts.append([ActLine(site.origin, *row) for row in rows])
            self._next[place] = rows[-1]["seq"] + 1


def _left(path: Path) -> tuple[int, int] | None:
    """By which a file is known that somebody put in the place of ours."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns
    return None


async def about_of(connection: asyncpg.Connection) -> About:
    """What there is in a database, as a backup says it of itself."""
    taken_ms: int = await connection.fetchval(_NOW_MS)
    sites = tuple(
        SiteInside(site, origin, size, note.decode(), made, destroyed)
        for site, origin, size, note, made, destroyed in await connection.fetch(_ABOUT)
    )
    version = connection.get_server_version()
    migrations = dict(await connection.fetch(_MIGRATIONS))
    return About(taken_ms, __version__, f"{version.major}.{version.minor}", migrations, sites)


class Keeper(Collector):
    """The worker's part: looks every few seconds. What cannot be written is told once, and in the metrics."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        assert settings.backup_dir is not None
        self._directory = settings.backup_dir
        self._settings = settings
        self._pool = pool
        self._current_at = time.time()
        self._said = ""

    async def run(self) -> None:
        """Until cancelled. After losing the lease to another it begins anew, for that one wrote too."""
        beside = Beside(self._directory, self._settings.masters[0])
        while True:
            try:
                async with self._pool.acquire() as connection:
                    await beside.update(connection)
                self._current_at = time.time()
                self._say("")
            except (OSError, LedgerError) as error:
                self._say(f"{type(error).__name__}: {error}")
            await asyncio.sleep(config.BACKUP_JOURNAL_SECONDS)

    def _say(self, trouble: str) -> None:
        if trouble != self._said:
            if trouble:
                log.error("what lies beside the backups cannot be kept up to date: %s", trouble)
            else:
                log.info("what lies beside the backups is up to date again")
        self._said = trouble

    def collect(self) -> list[GaugeMetricFamily]:
        current = GaugeMetricFamily(
            "consent_ledger_backup_journal_seconds", "When the files beside the backups were last up to date."
        )
        current.add_metric([], self._current_at)
        newest = GaugeMetricFamily("consent_ledger_backup_newest_seconds", "When the newest backup was taken; 0: none.")
        kept = kept_in(self._directory)
        newest.add_metric([], kept[-1].taken_ms / 1000 if kept else 0)
        return [current, newest]
