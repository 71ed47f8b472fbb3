"""A monitor from its start to its exit code: one look, or watching until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, start_http_server

from ledger.config import (
    MONITOR_ONCE_PATIENCE_SECONDS,
    MONITOR_ONCE_PAUSE_SECONDS,
    MONITOR_WEBHOOK_FLUSH_SECONDS,
)
from ledger.core.encoding import encode_base64
from ledger.core.errors import ConfigInvalid
from ledger.core.watch import Kind
from ledger.log_client import LogClient, open_session
from ledger.monitor.metrics import MonitorCollector
from ledger.monitor.record import FoundFault, Notice, Record
from ledger.monitor.watch import PATIENCE_SECONDS, Aim, Watch
from ledger.monitor.webhook import Webhook

log = logging.getLogger(__name__)

SOUND, FAULT, COULD_NOT_RUN = 0, 1, 2
_NOT_SEEN = frozenset({Kind.UNREACHABLE, Kind.GUARDED})


class Task(NamedTuple):
    """What to do. `metrics`: host and port to listen on; None: no metrics. `key`: for guarded entries."""

    aim: Aim
    urls: tuple[str, ...]
    directory: Path
    key: str | None = None
    entries: bool = True
    interval_seconds: float = 10.0
    keep_going: bool = False
    webhook: str = ""
    metrics: tuple[str, int] | None = None
    listener: Callable[[Notice], None] | None = None


class AlarmNow(Struct, frozen=True):
    """Something amiss as of the last round."""

    kind: str
    url: str
    detail: str


class Report(Struct, frozen=True, rename="camel"):
    """What a single look found. `entries`: whether each entry was judged, or tiles alone."""

    verdict: str
    exit_code: int
    origin: str
    size: int
    root: str
    log_id: str
    entries: bool
    faults: tuple[FoundFault, ...]
    alarms: tuple[AlarmNow, ...]

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


def exit_code(faults: int, conditions: Iterable[Kind]) -> int:
    """0: sound, 1: a fault, or an alarm about what was seen, 2: something that could not be looked at."""
    present = set(conditions)
    if faults or present - _NOT_SEEN:
        return FAULT
    return COULD_NOT_RUN if present else SOUND


def report_of(watch: Watch) -> Report:
    """As of the last round."""
    state, head = watch.record.state, watch.record.head
    code = exit_code(len(state.faults), (kind for kind, _ in watch.conditions))
    return Report(
        {SOUND: "sound", FAULT: "fault", COULD_NOT_RUN: "not seen"}[code],
        code,
        watch.aim.origin,
        head.size,
        encode_base64(head.root) if head.size else "",
        state.log_id.hex(),
        watch.entries_judged,
        tuple(state.faults),
        tuple(AlarmNow(str(kind), url, detail) for (kind, url), detail in watch.conditions.items()),
    )


async def look_once(task: Task) -> Report:
    """Look until there is nothing that may pass in a moment, or patience is at its end; then conclude."""
    async with _watching(task) as watch:
        deadline = time.monotonic() + MONITOR_ONCE_PATIENCE_SECONDS
        await watch.round()
        while any(kind in PATIENCE_SECONDS and kind not in _NOT_SEEN for kind, _ in watch.conditions):
            if watch.record.state.faults or time.monotonic() > deadline:
                break
            await asyncio.sleep(MONITOR_ONCE_PAUSE_SECONDS)
            await watch.round()
        watch.settle()
        return report_of(watch)


async def watch_on(task: Task, stop: asyncio.Event) -> int:
    """Watch until `stop`, or until there is a fault and nobody said to keep going; the exit code."""
    async with _watching(task) as watch:
        for fault in watch.record.state.faults:
            log.error("FAULT %s at %s, found before and not acknowledged: %s", fault.kind, fault.url, fault.detail)
        while not stop.is_set() and (task.keep_going or not watch.record.state.faults):
            next_round = time.monotonic() + task.interval_seconds
            await _until(stop, watch.round())
            if watch.record.state.faults and not task.keep_going:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, next_round - time.monotonic()))
        return FAULT if watch.record.state.faults else SOUND


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, unless it is time to stop first: a slow server must not keep us."""
    round_, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((round_, stopping), return_when=asyncio.FIRST_COMPLETED)
        if round_.done():
            await round_
    finally:
        for task in (round_, stopping):
            task.cancel()
        await asyncio.gather(round_, stopping, return_exceptions=True)


@asynccontextmanager
async def _watching(task: Task) -> AsyncIterator[Watch]:
    """The watch with everything around it; leaving it gives the webhook a last moment."""
    with Record(task.directory, task.aim.origin) as record:
        async with open_session(task.key) as session:
            clients = [LogClient(session, url) for url in task.urls]
            watch = Watch(task.aim, clients, record, time.time, entries=task.entries)
            watch.announcer.listener = task.listener
            watch.announcer.to_webhook = bool(task.webhook)
            webhook = Webhook(task.webhook, record, watch.announcer.told) if task.webhook else None
            telling = None if webhook is None else asyncio.create_task(webhook.run(), name="webhook")
            try:
                with _metrics(task.metrics, watch, webhook):
                    yield watch
            finally:
                if webhook is not None and telling is not None:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(webhook.empty(), MONITOR_WEBHOOK_FLUSH_SECONDS)
                    telling.cancel()
                    await asyncio.gather(telling, return_exceptions=True)
                watch.close()


@contextmanager
def _metrics(at: tuple[str, int] | None, watch: Watch, webhook: Webhook | None) -> Iterator[None]:
    """Metrics over HTTP for as long as it lasts."""
    if at is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(MonitorCollector(watch, webhook))
    try:
        server, thread = start_http_server(at[1], addr=at[0], registry=registry)
    except OSError as error:
        raise ConfigInvalid(f"cannot listen on {at[0]}:{at[1]} ({error.strerror}): choose another port") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
