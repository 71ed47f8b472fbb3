"""Write tables anew from which something was erased, so that its bytes are gone from the database's files.

A deleted row stays in its page, its keys in the indexes, and all of it in the write-ahead log. A table that is written
anew (VACUUM FULL) holds living rows alone, and so do its indexes; its old file goes with the next checkpoint, and the
WAL files that were written before go with it. What keeps WAL longer (an archive, a replication slot, `wal_keep_size`)
and what lies below the file system is not ours: `doctor` names the first, deploy/runbooks/erasure.md all of it.

While a table is written anew everybody waits who reads or writes it: for a second or so for each 30 MB. Its lock is
asked for in short attempts, so that nobody waits behind one who waits for a long reader. The worker leaves large tables
to `consent-ledger scrub`. Emptying page after page without a lock would not do: VACUUM closes up what lives, and leaves
the bytes of what went where they were. Copying beside the living table and changing over would spare the wait, but
needs the right to make and drop the ledger's tables, which nobody who serves has. A row that an open transaction may
still see is copied, too: then the table counts as not written anew, and its turn comes again.

It erases nothing: erasures do, and are complete for everybody who asks the database before this has run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import NamedTuple

import asyncpg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger import config
from ledger.config import Settings

log = logging.getLogger(__name__)

_RELATIONS = """
select s.relation, pg_total_relation_size(c.oid) as bytes, c.changes, ledger.erasures_so_far() as erasures,
       (c.changes, ledger.erasures_so_far()) is distinct from (s.changes, s.erasures)
           or (s.updates and s.started <> pg_postmaster_start_time()) as touched,
       extract(epoch from now() - coalesce(s.at, s.started))::float8 as seconds, s.at is not null as before,
       case when current_setting('server_version_num')::integer >= 170000
            then has_table_privilege(c.oid, 'maintain') else pg_has_role(c.relowner, 'usage') end as ours
  from ledger.scrub s
 cross join lateral (
      select c.oid, c.relowner, t.n_tup_del + case when s.updates then t.n_tup_upd else 0 end as changes
        from pg_class c join pg_stat_all_tables t on t.relid = c.oid
       where c.oid = to_regclass(format('ledger.%I', s.relation))
 ) c
 order by bytes, s.relation
"""
_RECORD = "select ledger.record_scrub($1, $2, $3, $4)"
_NAME = re.compile(r"[a-z_]{1,63}")
_KEPT = re.compile(r"[0-9]+")

Progress = Callable[[int, int], None]


class Relation(NamedTuple):
    """A table that may hold what was erased. `touched`: something was deleted since it was last written anew, `seconds`
    ago (or since it was made); `before`: it ever was; `ours`: this login may write it anew. `bytes` counts indexes and
    TOAST."""

    name: str
    bytes: int
    changes: int
    erasures: int
    touched: bool
    seconds: float
    before: bool
    ours: bool


class Rewritten(NamedTuple):
    """What became of a table. `held_seconds`: nobody waited longer. `kept`: deleted rows that an open transaction
    may still see; `trouble`: why it was not written anew, empty where it was."""

    name: str
    bytes_before: int
    bytes_after: int
    held_seconds: float
    kept: int
    trouble: str = ""

    @property
    def clean(self) -> bool:
        return not self.kept and not self.trouble


class Scrubbed(NamedTuple):
    """What was done. `wal`: the WAL of before is gone, as far as the server may drop it."""

    tables: tuple[Rewritten, ...]
    wal: bool

    @property
    def clean(self) -> bool:
        return all(table.clean for table in self.tables)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection on which rewriting may take its time, and waiting for a lock may not."""
    connection = await asyncpg.connect(
        url,
        timeout=config.CONNECT_TIMEOUT_SECONDS,
        server_settings={
            "application_name": "consent-ledger scrub",
            "lock_timeout": str(round(config.SCRUB_LOCK_TIMEOUT_SECONDS * 1000)),
            "statement_timeout": str(round(config.SCRUB_MAX_SECONDS * 1000)),
        },
    )
    try:
        yield connection
    finally:
        connection.terminate()


async def relations(connection: asyncpg.Connection) -> list[Relation]:
    """Every table that may hold what was erased, the smallest first."""
    return [Relation(*row) for row in await connection.fetch(_RELATIONS)]


async def scrub(
    connection: asyncpg.Connection, tables: Sequence[Relation], progress: Progress = lambda done, total: None
) -> Scrubbed:
    """Write these tables anew, one after another, and let the WAL of before go. A table that is busy is told of.

    `progress` is told bytes. Two at once do no harm: the second waits for the first, and finds little to do.
    """
    done: list[Rewritten] = []
    total, so_far = sum(table.bytes for table in tables), 0
    for table in tables:
        progress(so_far, total)
        rewritten = await _rewrite(connection, table)
        done.append(rewritten)
        so_far += table.bytes
        if rewritten.clean:
            held_ms = round(rewritten.held_seconds * 1000)
            await connection.execute(_RECORD, table.name, table.changes, table.erasures, held_ms)
    wal = await _let_wal_go(connection) if any(not table.trouble for table in done) else True
    progress(total, total)
    return Scrubbed(tuple(done), wal)


async def _rewrite(connection: asyncpg.Connection, table: Relation) -> Rewritten:
    if not table.ours:
        trouble = "this login may not write it anew: before Postgres 17 its owner alone may (LEDGER_ADMIN_DATABASE_URL)"
        return Rewritten(table.name, table.bytes, table.bytes, 0.0, 0, trouble)
    if _NAME.fullmatch(table.name) is None:
        raise RuntimeError(f"{table.name!r} is no name of a table of ours")
    kept = 0

    def listen(_: object, message: asyncpg.PostgresLogMessage) -> None:
        # "0 dead row versions cannot be removed yet." in whatever language: the number comes first.
        nonlocal kept
        found = _KEPT.match(message.detail or "")
        kept += int(found[0]) if found else 0

    connection.add_log_listener(listen)
    try:
        for attempt in range(config.SCRUB_LOCK_ATTEMPTS):
            if attempt:
                await asyncio.sleep(config.SCRUB_LOCK_PAUSE_SECONDS)
            began = time.monotonic()
            try:
                # ANALYZE besides: statistics are samples of rows, also of those that are gone.
                await connection.execute(f"vacuum (full, verbose, analyze) ledger.{table.name}")
            except asyncpg.LockNotAvailableError:
                continue
            held = time.monotonic() - began
            after: int = await connection.fetchval(
                "select pg_total_relation_size(to_regclass(format('ledger.%I', $1::text)))", table.name
            )
            return Rewritten(table.name, table.bytes, after, held, kept)
    finally:
        connection.remove_log_listener(listen)
    trouble = "somebody held it all the time: a long export, a backup, or a session left open"
    return Rewritten(table.name, table.bytes, table.bytes, 0.0, 0, trouble)


async def _let_wal_go(connection: asyncpg.Connection) -> bool:
    """Begin a WAL file and checkpoint: what lies before the file is not needed any more. False without the rights."""
    try:
        await connection.execute("select pg_switch_wal()")
        await connection.execute("checkpoint")
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True


class Scrubber(Collector):
    """The worker's part: writes anew what was touched, every so many hours, and tells Prometheus how it stands."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tables: list[Relation] = []
        self._skipped: frozenset[str] = frozenset()
        self._not_before: dict[str, float] = {}
        self.runs = 0
        self.held_seconds = 0.0
        self.longest_seconds = 0.0

    async def run(self) -> None:
        """Until cancelled. A database that goes away ends it, and the lease takes it up again."""
        async with connected(self._settings.database_url) as connection:
            while True:
                await self.round(connection)
                await asyncio.sleep(config.SCRUB_LOOK_SECONDS)

    async def round(self, connection: asyncpg.Connection) -> Scrubbed | None:
        """Write anew what is due; None where nothing is."""
        self._tables = await relations(connection)
        touched = [table for table in self._tables if table.touched]
        due = [
            table
            for table in touched
            if table.ours
            and table.seconds >= self._settings.scrub_hours * 3600
            and table.bytes <= config.SCRUB_WORKER_MAX_BYTES
            and time.monotonic() >= self._not_before.get(table.name, 0.0)
        ]
        self._say([table for table in touched if table.bytes > config.SCRUB_WORKER_MAX_BYTES or not table.ours])
        if not due:
            return None
        done = await scrub(connection, due)
        self.runs += 1
        for table in done.tables:
            self.held_seconds += table.held_seconds
            self.longest_seconds = max(self.longest_seconds, table.held_seconds)
            if not table.clean:  # whoever is in the way will be for a while, and everybody else waits at each attempt
                self._not_before[table.name] = time.monotonic() + config.SCRUB_RETRY_SECONDS
            if table.trouble:
                log.warning("%s was not written anew: %s", table.name, table.trouble)
            elif table.kept:
                log.warning("%s still holds %d deleted rows that an open transaction may see", table.name, table.kept)
        return done

    def _say(self, left: Sequence[Relation]) -> None:
        """Once, what waits for a person."""
        names = frozenset(table.name for table in left)
        if names - self._skipped:
            log.warning(
                "%s: something was erased, and the worker may not write it anew, or it is too large to do so unasked; "
                "run `consent-ledger scrub` in a quiet hour",
                ", ".join(sorted(names)),
            )
        self._skipped = names

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "consent_ledger_scrub_waiting_seconds",
            "For how long a table was not written anew from which something was erased; 0 where nothing was.",
            labels=["relation"],
        )
        for table in self._tables:
            waiting.add_metric([table.name], table.seconds if table.touched else 0)
        runs = CounterMetricFamily("consent_ledger_scrubs", "Times that tables were written anew.", value=self.runs)
        held = CounterMetricFamily(
            "consent_ledger_scrub_held_seconds", "For how long tables were locked in all.", value=self.held_seconds
        )
        longest = GaugeMetricFamily(
            "consent_ledger_scrub_longest_seconds", "The longest of these locks.", value=self.longest_seconds
        )
        yield from (waiting, runs, held, longest)
