"""The checkpointer of the worker process: every site of the ledger, each in a task of its own, until cancelled.

That as a rule one runs is the worker's part (ledger/lease); that two cannot harm is ledger/checkpointer/site.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import aiohttp
import asyncpg
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ledger import config
from ledger.bus import Bus, BusError, Disconnected
from ledger.checkpointer.follower import NotSigned
from ledger.checkpointer.records import RecordChanged, RecordUnreachable
from ledger.checkpointer.site import SiteCheckpointer
from ledger.config import Settings
from ledger.core.errors import ConfigInvalid, LedgerError, Unavailable
from ledger.core.quorum import TrustPolicy
from ledger.memory import MemoryDamaged
from ledger.store import checkpoints as store
from ledger.store.sites import SiteRow
from ledger.witness.client import WitnessClient
from ledger.witness.policy import read_policy

log = logging.getLogger(__name__)

_STARTING = "starting"
State = Literal["waiting", "signing", "refused"]
_RETRY_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)


@dataclass
class SiteStatus:
    """One site as metrics and `doctor` see it. `reason` is a stable word, empty while all is well."""

    site: str
    state: State = "waiting"
    reason: str = _STARTING
    detail: str = ""
    size: int = 0
    log_size: int = 0
    signed_at: float = 0.0
    alarms: tuple[str, ...] = ()
    turned_at: float = 0.0


class NatsLink:
    """One connection to NATS that is opened again whenever it is lost."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._bus: Bus | None = None

    def bus(self) -> Bus:
        """`Disconnected` while there is none."""
        if self._bus is None or self._bus.closed.is_set():
            raise Disconnected("no connection to NATS")
        return self._bus

    async def try_once(self) -> None:
        with contextlib.suppress(Disconnected):
            self._bus = await Bus.connect(self._url)

    async def stay(self) -> None:
        while True:
            if self._bus is None:
                await self.try_once()
            bus = self._bus
            if bus is None:
                await asyncio.sleep(config.RELAY_BACKOFF_SECONDS[-1])
                continue
            try:
                await bus.closed.wait()
            finally:
                self._bus = None
                await bus.close()

    async def close(self) -> None:
        if self._bus is not None:
            await self._bus.close()


def witness_clients(session: aiohttp.ClientSession, policy: TrustPolicy) -> list[WitnessClient]:
    """A client for each witness of the policy that says where it is asked."""
    return [WitnessClient(session, witness) for witness in policy.witnesses if witness.url is not None]


class _Turns:
    """One site's task: a round when the log has grown, and now and then all the same."""

    def __init__(self, owner: Checkpointer, site: SiteRow, clients: Sequence[WitnessClient]) -> None:
        self.status = SiteStatus(site.site)
        self.grown = asyncio.Event()
        self.log_size = 0
        self.checkpointer = SiteCheckpointer(
            owner.settings, owner.pool, site, owner.policy, clients, owner.link.bus if owner.link else None
        )
        self._owner = owner
        self._site = site
        self._failures = 0
        self._thinned_at = time.monotonic()

    async def run(self) -> None:
        self.checkpointer.cosigning.changed = self.grown.set
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.checkpointer.cosigning.run())
                group.create_task(self._turn_for_ever())
        finally:
            self.checkpointer.close()

    async def _turn_for_ever(self) -> None:
        while True:
            begun = time.monotonic()
            async with self._owner.busy:
                pause = await self._turn()
            self.status.turned_at = time.monotonic()
            if pause is None:  # all is signed: until the log grows
                await asyncio.sleep(begun + config.CHECKPOINT_INTERVAL_SECONDS - time.monotonic())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(config.CHECKPOINT_LOOK_SECONDS):
                        await self.grown.wait()
            else:
                await asyncio.sleep(pause)

    async def _turn(self) -> float | None:
        """One round; how long to wait before the next, None if nothing is left to do."""
        self.grown.clear()
        status = self.status
        try:
            outcome = await self.checkpointer.round()
        except NotSigned as refusal:
            if status.state != "refused" or status.reason != refusal.reason:
                log.error("site %s: no checkpoint is signed: %s: %s", self._site.site, refusal.reason, refusal.detail)
            status.state, status.reason, status.detail = "refused", refusal.reason, refusal.detail
            status.log_size = self.log_size
            return config.CHECKPOINT_LOOK_SECONDS
        except Exception as error:
            return self._wait(error)
        if status.state == "refused":
            log.info("site %s: checkpoints are signed again, at size %d", self._site.site, outcome.size)
        if status.alarms != outcome.alarms and outcome.alarms:
            log.warning("site %s: checkpoints are signed without %s", self._site.site, ", ".join(outcome.alarms))
        status.state, status.reason, status.detail = "signing", "", ""
        if outcome.alarms:
            status.reason = f"{outcome.alarms[0].split()[0]}-unreachable"
            status.detail = f"signed without {', '.join(outcome.alarms)}"
        status.size, status.log_size, status.alarms = outcome.size, outcome.log_size, outcome.alarms
        self._failures = 0
        if outcome.signed:
            status.signed_at = time.time()
        await self._thin()
        return None if outcome.size >= outcome.log_size else 0.0

    def _wait(self, error: Exception) -> float:
        """Something that passes by itself, as a rule."""
        self._failures += 1
        slug, detail = _slug(error)
        status = self.status
        if isinstance(error, RecordChanged):
            return _RETRY_SECONDS[0]
        if status.state == "refused":
            return config.CHECKPOINT_LOOK_SECONDS  # the refusal stands until a round says otherwise
        if status.reason != slug:
            log.warning("site %s: the checkpointer waits: %s: %s", self._site.site, slug, detail)
            if slug.startswith("unexpected-"):  # where, but never the text, which may quote data
                log.error("%s", "".join(traceback.format_tb(error.__traceback__)))
        status.state, status.reason, status.detail = "waiting", slug, detail
        return _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS)) - 1]

    async def _thin(self) -> None:
        if time.monotonic() - self._thinned_at < config.CHECKPOINT_THIN_SECONDS:
            return
        self._thinned_at = time.monotonic()
        with contextlib.suppress(LedgerError):
            await store.thin(
                self._owner.pool, self._site.site_id, config.CHECKPOINT_KEEP_ALL_SECONDS, config.CHECKPOINT_THIN_ROWS
            )

    async def report(self) -> None:
        """A sign of life, as long as there is life in it."""
        status = self.status
        if time.monotonic() - status.turned_at > config.CHECKPOINT_DEAD_SECONDS:
            return
        cosigning = self.checkpointer.cosigning
        await store.report(
            self._owner.pool, self._site.site_id, status.state, status.reason, status.detail, cosigning.report()
        )


class Checkpointer(Collector):
    """All sites, new ones too. Register it with a prometheus registry to have its metrics."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        self.settings = settings
        self.pool = pool
        self.policy = TrustPolicy()
        self.link = NatsLink(settings.nats_url) if settings.nats_url else None
        self.busy = asyncio.Semaphore(config.CHECKPOINT_MAX_BUSY_SITES)
        self._sites: dict[int, _Turns] = {}

    async def run(self) -> None:
        """Until cancelled; it may be run again then."""
        self._sites.clear()
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            clients = await self._witnesses(session)
            if self.link is not None:
                await self.link.try_once()
                group.create_task(self.link.stay())
            group.create_task(self._heartbeat())
            await self._watch_heads(group, clients)

    async def _witnesses(self, session: aiohttp.ClientSession) -> list[WitnessClient]:
        """Those of the trust policy. While that cannot be read nothing is signed: who has to cosign is not known."""
        told = ""
        while True:
            try:
                self.policy = read_policy(self.settings.witness_policy)
                return witness_clients(session, self.policy)
            except ConfigInvalid as error:
                if str(error) != told:
                    log.error("no checkpoint is signed: %s", error)
                told = str(error)
                await asyncio.sleep(config.CHECKPOINT_LOOK_SECONDS)

    @property
    def status(self) -> list[SiteStatus]:
        return [turns.status for turns in self._sites.values()]

    async def _watch_heads(self, group: asyncio.TaskGroup, clients: Sequence[WitnessClient]) -> None:
        """Poll the heads of all sites in one query, less often while nothing moves."""
        pause, failed = config.CHECKPOINT_HEADS_SECONDS, False
        while True:
            try:
                heads = await store.heads(self.pool)
            except LedgerError as error:
                if not failed:
                    log.warning("the checkpointer waits for the database: %s", error)
                failed = True
                await asyncio.sleep(_RETRY_SECONDS[-1])
                continue
            failed = moved = False
            for head in heads:
                turns = self._sites.get(head.site_id)
                if turns is None:
                    if head.size == 0:
                        continue  # no genesis yet
                    turns = self._sites[head.site_id] = _Turns(self, SiteRow(*head[:3]), clients)
                    group.create_task(turns.run())
                if head.size != turns.log_size:
                    turns.log_size, moved = head.size, True
                if head.size != turns.status.log_size or head.size > turns.status.size:
                    turns.grown.set()
            pause = config.CHECKPOINT_HEADS_SECONDS if moved else min(pause * 1.5, config.CHECKPOINT_HEADS_IDLE_SECONDS)
            await asyncio.sleep(pause)

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(config.CHECKPOINT_HEARTBEAT_SECONDS / 3)
            for turns in list(self._sites.values()):
                if not turns.status.turned_at:
                    continue
                try:
                    await turns.report()
                except Exception as error:  # without it `doctor` and /readyz say that there is no sign of life
                    log.debug("site %s: no sign of life could be given: %s", turns.status.site, type(error).__name__)
            await asyncio.sleep(config.CHECKPOINT_HEARTBEAT_SECONDS * 2 / 3)

    def collect(self) -> Iterator[Metric]:
        """The metrics of prometheus, made of the states when they are asked for."""
        site, witness = ["site"], ["site", "witness"]
        prefix = "consent_ledger_checkpoint"
        size = GaugeMetricFamily(f"{prefix}_size", "Entries that the newest checkpoint covers", labels=site)
        age = GaugeMetricFamily(f"{prefix}_age_seconds", "Since a checkpoint was signed here", labels=site)
        lag = GaugeMetricFamily(f"{prefix}_lag", "Entries that no checkpoint covers yet", labels=site)
        alarm = GaugeMetricFamily(
            f"{prefix}_alarm", "1: no checkpoint is signed, or not everybody could be asked", labels=["site", "reason"]
        )
        cosigned = GaugeMetricFamily(f"{prefix}_witness_size", "What a witness cosigned last", labels=witness)
        silence = GaugeMetricFamily(
            f"{prefix}_witness_age_seconds", "Since a witness's newest cosignature", labels=witness
        )
        now = time.time()
        for turns in list(self._sites.values()):
            status = turns.status
            size.add_metric([status.site], status.size)
            lag.add_metric([status.site], max(0, turns.log_size - status.size))
            if status.signed_at:
                age.add_metric([status.site], now - status.signed_at)
            for reason in _reasons(turns, now):
                alarm.add_metric([status.site, reason], 1)
            for state in turns.checkpointer.cosigning.states:
                cosigned.add_metric([status.site, state.name], state.size)
                if state.cosigned_at:
                    silence.add_metric([status.site, state.name], now - state.cosigned_at)
        yield from (size, age, lag, alarm, cosigned, silence)


def _reasons(turns: _Turns, now: float) -> set[str]:
    status = turns.status
    reasons = {f"{name.replace(' ', '-')}-unreachable" for name in status.alarms}
    if status.reason and status.reason != _STARTING:
        reasons.add(status.reason)
    for state in turns.checkpointer.cosigning.states:
        if now - state.cosigned_at > config.CHECKPOINT_WITNESS_STALE_SECONDS:
            reasons.add("witness-silent")
    return reasons


def _slug(error: Exception) -> tuple[str, str]:
    """A stable word for what went wrong, and a text; never that of an unexpected error, which may quote data."""
    if isinstance(error, BusError):
        return error.slug, "NATS did not answer a write; what it holds is read again"
    if isinstance(error, Unavailable):
        return error.reason, str(error)
    if isinstance(error, RecordUnreachable):
        return error.slug, str(error)
    if isinstance(error, MemoryDamaged):
        return "memory-damaged", str(error)
    return f"unexpected-{type(error).__name__}", "see the log of the worker"
