"""The worker process: what goes on beside the requests, in parts. Each runs under a lease, so in one replica at a time.

The parts know nothing of each other: each reads what is in the database, and goes on there after any end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import asyncpg
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from ledger import config
from ledger.backup.beside import Keeper
from ledger.checkpointer.run import Checkpointer
from ledger.config import Settings
from ledger.data_keys import KeyMaker
from ledger.erasing.eraser import Eraser
from ledger.erasing.figures import EraserCollector
from ledger.lapser import Lapser
from ledger.lease import hold
from ledger.metrics import LapserCollector, ProjectorCollector
from ledger.process import refuse_unfinished_restore, stop_event
from ledger.projector import Projector
from ledger.relay import Relay
from ledger.requests.delivering import RequestWorker
from ledger.requests.figures import RequestCollector
from ledger.retention.figures import RetentionCollector
from ledger.retention.pruner import Pruner
from ledger.scrub import Scrubber
from ledger.store.pool import open_pool
from ledger.vault import Vaults


class Part(NamedTuple):
    """`lease` is its name over all replicas; `run` goes on until cancelled; `told` is what Prometheus hears of it."""

    lease: str
    run: Callable[[], Awaitable[None]]
    told: Collector


def parts(settings: Settings, pool: asyncpg.Pool) -> list[Part]:
    """All that these settings ask for."""
    vaults = Vaults(pool, settings.masters)
    projector, lapser, eraser = Projector(pool, vaults), Lapser(settings, pool), Eraser(settings, pool)
    pruner, requests = Pruner(settings, pool), RequestWorker(settings, pool)
    checkpointer, keys, scrubber = Checkpointer(settings, pool), KeyMaker(settings, pool), Scrubber(settings)
    found = [
        Part("projector", projector.run, ProjectorCollector(projector)),
        Part("checkpointer", checkpointer.run, checkpointer),
        Part("data keys", keys.run, keys),
        Part("lapser", lapser.run, LapserCollector(lapser)),
        Part("requests", requests.run, RequestCollector(requests)),
        Part("eraser", eraser.run, EraserCollector(eraser)),
        Part("retention", pruner.run, RetentionCollector(pruner)),
        Part("scrubber", scrubber.run, scrubber),
    ]
    if settings.nats_url:
        relay = Relay(pool, vaults, settings.nats_url)
        found.append(Part("relay", relay.run, relay))
    if settings.backup_dir is not None:
        keeper = Keeper(settings, pool)
        found.append(Part("backup keeper", keeper.run, keeper))
    return found


async def run_worker(settings: Settings) -> None:
    """Every part, until SIGTERM or SIGINT."""
    await refuse_unfinished_restore(settings)
    stop = stop_event()
    pool = await open_pool(settings.database_url, size=config.WORKER_MAX_CONNECTIONS)
    registry = CollectorRegistry()
    tasks: list[asyncio.Task[None]] = []
    for part in parts(settings, pool):
        registry.register(part.told)
        work = hold(settings.database_url, part.lease, part.run)
        tasks.append(asyncio.create_task(work, name=part.lease))
    if settings.worker_port:
        start_http_server(settings.worker_port, addr=settings.host, registry=registry)
    try:
        await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        pool.terminate()
