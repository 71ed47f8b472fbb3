"""Where everything is wired: the HTTP process, the worker process, and the two together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry, start_http_server

from ledger import config
from ledger.backup.beside import Keeper
from ledger.backup.marker import refuse_unfinished
from ledger.checkpointer.run import Checkpointer
from ledger.config import Settings
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.credentials import read_credentials
from ledger.data_keys import KeyMaker
from ledger.embedded.child import follow_parent
from ledger.erasing.eraser import Eraser
from ledger.http.app import create_app
from ledger.http.server import serving
from ledger.lapser import Lapser
from ledger.lease import hold
from ledger.metrics import (
    ConsumerCollector,
    CookieCollector,
    EraserCollector,
    LapserCollector,
    ProjectorCollector,
    RegionCollector,
    SequencerCollector,
)
from ledger.projector import Projector
from ledger.region import RegionFinder
from ledger.relay import Relay
from ledger.requests.delivering import RequestWorker
from ledger.requests.figures import RequestCollector
from ledger.retention.figures import RetentionCollector
from ledger.retention.pruner import Pruner
from ledger.scrub import Scrubber
from ledger.service import Service
from ledger.site import SiteRegistry
from ledger.store.pool import open_pool
from ledger.store.reads import Reads
from ledger.vault import Vaults

log = logging.getLogger(__name__)


def set_up_logging() -> None:
    """One line an event to standard error. Nothing that identifies a visitor is ever logged."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("asyncio", "nats", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end on uvloop, where it exists."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        factory = asyncio.new_event_loop
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


@contextlib.asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """The service over its own connections; leaving it answers every waiter."""
    reader_pool = await open_pool(settings.database_url)
    writer_pool = await open_pool(
        settings.database_url, size=config.WRITER_MAX_CONNECTIONS, timeout_seconds=config.APPEND_TIMEOUT_SECONDS
    )
    reads = Reads(reader_pool)
    sites = SiteRegistry(reads, writer_pool, settings)
    service = Service(sites, reads)
    following = asyncio.create_task(sites.follow(), name="follow sites")
    try:
        with contextlib.suppress(LedgerError):  # the database may come later
            await sites.load()
        yield service
    finally:
        following.cancel()
        await asyncio.wait([following])
        await service.published.stop()
        await sites.stop()
        writer_pool.terminate()
        reader_pool.terminate()


async def serve_http(settings: Settings) -> None:
    """The HTTP process, until SIGTERM or SIGINT."""
    await _refuse_unfinished_restore(settings)
    regions = RegionFinder.of(settings)  # it may take a while, in which a signal simply ends the process
    stop = _stop_event()
    async with (
        open_service(settings) as service,
        _beside(regions.follow()),
        _beside(service.cookies.watch(service.sites.loaded)),
        _beside(service.downloads.sweep()),
        _beside(service.consumers.watch()),
    ):
        registry = CollectorRegistry()
        registry.register(SequencerCollector(service))
        registry.register(RegionCollector(regions))
        registry.register(CookieCollector(service.cookies))
        registry.register(ConsumerCollector(service.consumers))
        app = create_app(service, settings, registry, demo_keys=lambda: _demo_keys(settings), regions=regions)
        try:
            async with serving(app, settings.host, settings.port, reuse_port=True) as (host, port):
                log.info("listening on http://%s:%d", host, port)
                await stop.wait()
                log.info("stopping: no new requests, waiting for those in flight")
        except OSError as error:
            raise ConfigInvalid(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another with LEDGER_PORT"
            ) from error


async def _refuse_unfinished_restore(settings: Settings) -> None:
    """`ConfigInvalid` if the database holds half a ledger. One that does not answer may come later."""
    try:
        connection = await asyncpg.connect(settings.database_url, timeout=config.CONNECT_TIMEOUT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return
    try:
        await refuse_unfinished(connection)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let it run while the block does."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _demo_keys(settings: Settings) -> dict[str, str]:
    """Publishable keys by site; none before `up` has written them."""
    if settings.demo is None:
        return {}
    try:
        return {site: keys.publishable for site, keys in read_credentials(settings.demo.parent).sites.items()}
    except ConfigInvalid:
        return {}


async def run_worker(settings: Settings) -> None:
    """The worker process: projector, relay, checkpointer and lapser, each under a lease, until SIGTERM or SIGINT."""
    await _refuse_unfinished_restore(settings)
    stop = _stop_event()
    pool = await open_pool(settings.database_url, size=config.WORKER_MAX_CONNECTIONS)
    registry = CollectorRegistry()
    key_maker = KeyMaker(settings, pool)
    registry.register(key_maker)
    vaults = Vaults(pool, settings.masters)
    projector = Projector(pool, vaults)
    registry.register(ProjectorCollector(projector))
    tasks = [asyncio.create_task(hold(settings.database_url, "projector", projector.run), name="projector")]
    if settings.nats_url:
        relay = Relay(pool, vaults, settings.nats_url)
        registry.register(relay)
        tasks.append(asyncio.create_task(hold(settings.database_url, "relay", relay.run), name="relay"))
    checkpointer = Checkpointer(settings, pool)
    registry.register(checkpointer)
    tasks.append(
        asyncio.create_task(hold(settings.database_url, "checkpointer", checkpointer.run), name="checkpointer")
    )
    tasks.append(asyncio.create_task(hold(settings.database_url, "data keys", key_maker.run), name="data keys"))
    lapser = Lapser(settings, pool)
    registry.register(LapserCollector(lapser))
    tasks.append(asyncio.create_task(hold(settings.database_url, "lapser", lapser.run), name="lapser"))
    requests = RequestWorker(settings, pool)
    registry.register(RequestCollector(requests))
    tasks.append(asyncio.create_task(hold(settings.database_url, "requests", requests.run), name="requests"))
    if settings.backup_dir is not None:
        keeper = Keeper(settings, pool)
        registry.register(keeper)
        tasks.append(
            asyncio.create_task(hold(settings.database_url, "backup keeper", keeper.run), name="backup keeper")
        )
    eraser = Eraser(settings, pool)
    registry.register(EraserCollector(eraser))
    tasks.append(asyncio.create_task(hold(settings.database_url, "eraser", eraser.run), name="eraser"))
    pruner = Pruner(settings, pool)
    registry.register(RetentionCollector(pruner))
    tasks.append(asyncio.create_task(hold(settings.database_url, "retention", pruner.run), name="retention"))
    scrubber = Scrubber(settings)
    registry.register(scrubber)
    tasks.append(asyncio.create_task(hold(settings.database_url, "scrubber", scrubber.run), name="scrubber"))
    if settings.worker_port:
        start_http_server(settings.worker_port, addr=settings.host, registry=registry)
    try:
        await stop.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        pool.terminate()


async def serve_all(settings: Settings) -> None:
    """The HTTP process with a worker process beside it, which is started again if it ends."""
    worker = asyncio.create_task(_keep_worker(settings), name="worker")
    try:
        await serve_http(settings)
    finally:
        worker.cancel()
        await asyncio.wait([worker])


async def _keep_worker(settings: Settings) -> None:
    environ = {**os.environ, **settings.environment()}
    while True:
        try:
            process = await asyncio.create_subprocess_exec(
                # -P: a module that lies where the server was started is not taken for one of ours.
                *(sys.executable, "-P", "-m", "ledger", "serve", "--role", "worker"),
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=follow_parent(signal.SIGKILL),
            )
        except OSError as error:  # no process or memory to be had just now
            log.error("the worker cannot be started (%s); it is tried again", error.strerror)
            await asyncio.sleep(config.WORKER_RESTART_SECONDS)
            continue
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), config.SHUTDOWN_DRAIN_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
            raise
        log.error("the worker ended with code %d; it is started again", code)
        await asyncio.sleep(config.WORKER_RESTART_SECONDS)


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
