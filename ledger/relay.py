"""Keep each site's JetStream stream a faithful copy of its log, in which stream seq = ledger seq.

The stream's own last sequence is the cursor; there is no other memory, so recovery is the normal path. Whatever goes
wrong, the relay reads the stream and goes on from there:

- behind the ledger: it publishes. An answer that was lost is settled by the same look.
- another stream than it was, or holes that no erasure explains: it deletes it and builds it again from Postgres.
- an older copy that was put back: erased events are deleted again first, then it publishes what is missing.
- ahead of the ledger, or holding an entry that this log's keys signed and the ledger lacks: it stops, alarms and
  deletes nothing, for the stream may be the only copy of what Postgres lost.

Messages that an erasure names are overwritten before the erasure's own entry is published, so `last_seq >= e` proves
the deletion. NATS being away disturbs nobody: nothing is queued, and it is tried again for ever.

Two relays on one site are safe, a batch lands only right behind the sequence that its sender expected; that as a rule
one runs is the worker's part (ledger/lease). The steps for one site are in ledger/site_stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import asyncpg
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ledger import config
from ledger.bus import Bus, BusError, Disconnected
from ledger.site_stream import Seen, SiteStream, Stopped
from ledger.store.errors import is_transient
from ledger.store.sites import SiteRow
from ledger.vault import Vaults

log = logging.getLogger(__name__)

_UNEXPECTED = "unexpected-"
State = Literal["waiting", "checking", "following", "stopped"]

_HEADS = """
select s.site_id, s.site, s.origin,
       coalesce((select e.seq from ledger.entry e where e.site_id = s.site_id order by e.seq desc limit 1), -1) as head
  from ledger.site s where s.admin_of is null order by s.site_id  -- an administrative log is published nowhere
"""


@dataclass(frozen=True)
class SiteStatus:
    """One site: where stream and ledger are (-1: unknown), and the last error's slug, empty after success."""

    site: str
    state: State
    stream_seq: int
    ledger_seq: int
    error: str
    published: int
    forgotten: int
    rebuilt: int

    @property
    def lag(self) -> int:
        """Entries that the stream does not hold yet."""
        return max(0, self.ledger_seq - max(self.stream_seq, 0))


@dataclass(frozen=True)
class RelayStatus:
    """What readiness and metrics are made of."""

    connected: bool
    error: str
    sites: tuple[SiteStatus, ...]


class _Follower:
    """One site's task: settle, then follow the head; after any error again from the start."""

    def __init__(self, relay: Relay, site: SiteRow) -> None:
        self.head = -1
        self.wake = asyncio.Event()
        self._relay = relay
        self._site = site
        self._stream = SiteStream(relay.pool, relay.vaults, site, relay.horizon_seconds, relay.replicas)
        self._state: State = "waiting"
        self._error = ""
        self._failures = 0
        self._seq = -1

    @property
    def status(self) -> SiteStatus:
        stream = self._stream
        return SiteStatus(
            self._site.site,
            self._state,
            self._seq,
            self.head,
            self._error,
            stream.published,
            stream.forgotten,
            stream.rebuilt,
        )

    async def run(self) -> None:
        while True:
            try:
                await self._follow(await self._relay.bus())
            except Stopped as stop:
                if self._error != stop.reason:
                    log.error("site %s: the relay stopped: %s: %s", self._site.site, stop.reason, stop)
                self._fail("stopped", stop.reason)
                await self._relay.changed(config.RELAY_STOPPED_LOOK_SECONDS)
            except Exception as error:
                slug = _slug(error)
                if self._error != slug:
                    log.warning("site %s: the relay waits: %s", self._site.site, slug)
                    if slug.startswith(_UNEXPECTED):  # where, but never the text, which may quote data
                        log.error("%s", "".join(traceback.format_tb(error.__traceback__)))
                self._fail("waiting", slug)
                self._failures += 1
                await asyncio.sleep(_backoff(self._failures))

    def _fail(self, state: State, error: str) -> None:
        self._state, self._error = state, error

    async def _follow(self, bus: Bus) -> None:
        """Until something fails; then what is in the stream is known only by looking."""
        seen = await self._settle(bus)
        looked = time.monotonic()
        while True:
            if seen.last_seq > self.head:
                seen = await self._settle(bus)  # the ledger became shorter, or its head was read before ours
            if seen.last_seq < self.head:
                seen = await self._publish(bus, seen)
            elif wait := max(0.0, looked + config.RELAY_LOOK_SECONDS - time.monotonic()):
                await self._idle(wait)
            if bus.closed.is_set():
                raise Disconnected("the connection to NATS was lost")
            if time.monotonic() >= looked + config.RELAY_LOOK_SECONDS:
                if not await self._stream.is_as_left(bus, seen):
                    seen = await self._settle(bus)
                looked = time.monotonic()

    async def _settle(self, bus: Bus) -> Seen:
        if self._state != "stopped":  # an alarm stands until the look that clears it
            self._state = "checking"
        async with self._relay.busy:
            seen = await self._stream.settle(bus)
        self.head = max(self.head, seen.last_seq)
        self._advance(seen)
        return seen

    async def _publish(self, bus: Bus, seen: Seen) -> Seen:
        async with self._relay.busy:
            window = await self._stream.publish_next(bus, seen, self.head)
        self._advance(window.seen)
        if not window.forget:
            return window.seen
        async with self._relay.forgetting:
            return await self._stream.clear(bus, window.seen, window.forget)

    def _advance(self, seen: Seen) -> None:
        if self._error:
            log.info("site %s: the relay goes on at %d", self._site.site, seen.last_seq)
        self._state, self._error, self._failures, self._seq = "following", "", 0, seen.last_seq

    async def _idle(self, seconds: float) -> None:
        self.wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()


class Relay(Collector):
    """Relays all sites, new ones too, until cancelled. Register it with a prometheus registry to have its metrics."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        vaults: Vaults,
        nats_url: str,
        *,
        horizon_seconds: int = config.RELAY_HORIZON_SECONDS,
        replicas: int = 1,
    ) -> None:
        self.pool = pool
        self.vaults = vaults
        self.horizon_seconds = horizon_seconds
        self.replicas = replicas
        self.busy = asyncio.Semaphore(config.RELAY_MAX_BUSY_SITES)
        self.forgetting = asyncio.Semaphore(config.RELAY_MAX_FORGETTING_SITES)
        self._nats_url = nats_url
        self._bus: Bus | None = None
        self._bus_changed = asyncio.Condition()
        self._error = ""
        self._followers: dict[int, _Follower] = {}

    async def run(self) -> None:
        """Until cancelled; it may be run again then. No failure of NATS or Postgres ends it."""
        self._followers.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay_connected())
            group.create_task(self._watch_heads(group))

    @property
    def status(self) -> RelayStatus:
        connected = self._bus is not None and not self._bus.closed.is_set()
        return RelayStatus(connected, self._error, tuple(follower.status for follower in self._followers.values()))

    async def bus(self) -> Bus:
        """The living connection, waited for."""
        async with self._bus_changed:
            await self._bus_changed.wait_for(lambda: self._bus is not None and not self._bus.closed.is_set())
            assert self._bus is not None
            return self._bus

    async def changed(self, timeout_seconds: float) -> None:
        """Wait for another connection, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds), self._bus_changed:
                await self._bus_changed.wait()

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            try:
                bus = await Bus.connect(self._nats_url)
            except Disconnected as error:
                if not failures:
                    log.warning("no connection to NATS; it is tried again for ever")
                failures += 1
                self._error = str(error)
                await asyncio.sleep(_backoff(failures))
                continue
            try:
                log.info("connected to NATS")
                failures, self._error = 0, ""
                async with self._bus_changed:
                    self._bus = bus
                    self._bus_changed.notify_all()
                await bus.closed.wait()
            finally:
                self._bus = None
                await bus.close()
            log.warning("the connection to NATS was lost")
            for follower in self._followers.values():
                follower.wake.set()

    async def _watch_heads(self, group: asyncio.TaskGroup) -> None:
        """Poll the heads of all sites in one query (45 us for 50 sites), less often while nothing moves."""
        pause, failed = config.RELAY_POLL_SECONDS, False
        while True:
            try:
                records = await self.pool.fetch(_HEADS)
            except Exception as error:
                if not failed:
                    log.warning("the relay waits for the database: %s", _slug(error))
                failed = True
                await asyncio.sleep(config.RELAY_BACKOFF_SECONDS[-1])
                continue
            failed = False
            moved = False
            for record in records:
                site_id, head = record["site_id"], record["head"]
                follower = self._followers.get(site_id)
                if follower is None:
                    if head < 0:
                        continue  # no genesis yet
                    follower = self._followers[site_id] = _Follower(
                        self, SiteRow(site_id, record["site"], record["origin"])
                    )
                    group.create_task(follower.run())
                if head != follower.head:
                    follower.head, moved = head, True
                    follower.wake.set()
            pause = config.RELAY_POLL_SECONDS if moved else min(pause * 1.5, config.RELAY_POLL_IDLE_SECONDS)
            await asyncio.sleep(pause)

    def collect(self) -> Iterator[Metric]:
        """The metrics of prometheus, made of `status` when they are asked for."""
        status = self.status
        connected = GaugeMetricFamily("consent_ledger_relay_connected", "Whether NATS is connected")
        connected.add_metric([], float(status.connected))
        lag = GaugeMetricFamily("consent_ledger_relay_lag", "Entries that the stream lacks", labels=["site"])
        alarm = GaugeMetricFamily(
            "consent_ledger_relay_alarm", "1: the relay stopped and a person has to look", labels=["site", "reason"]
        )
        counters = [
            (CounterMetricFamily(f"consent_ledger_relay_{name}", text, labels=["site"]), name)
            for name, text in (
                ("published", "Messages published"),
                ("forgotten", "Messages of erased events overwritten"),
                ("rebuilt", "Streams deleted and built again"),
            )
        ]
        for site in status.sites:
            lag.add_metric([site.site], site.lag)
            if site.state == "stopped":
                alarm.add_metric([site.site, site.error], 1)
            for family, name in counters:
                family.add_metric([site.site], getattr(site, name))
        yield from (connected, lag, alarm, *(family for family, _ in counters))


def _backoff(failures: int) -> float:
    return config.RELAY_BACKOFF_SECONDS[min(failures, len(config.RELAY_BACKOFF_SECONDS)) - 1]


def _slug(error: Exception) -> str:
    """A stable word for what went wrong; never the text, which may quote data."""
    if isinstance(error, BusError):
        return error.slug
    if is_transient(error):
        return "database-unavailable"
    return _UNEXPECTED + type(error).__name__
