"""Where the HTTP process is wired, alone or with a worker process beside it; what that one does is ledger/worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from prometheus_client import CollectorRegistry

from ledger import config
from ledger.appending import open_sites
from ledger.config import Settings
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.credentials import read_credentials
from ledger.embedded.child import follow_parent
from ledger.http.app import create_app
from ledger.http.server import serving
from ledger.metrics import ConsumerCollector, CookieCollector, RegionCollector, SequencerCollector
from ledger.process import refuse_unfinished_restore, stop_event
from ledger.region import RegionFinder
from ledger.service import Service
from ledger.store.pool import open_pool
from ledger.store.reads import Reads

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """The service over its own connections; leaving it answers every waiter."""
    pool = await open_pool(settings.database_url)
    reads = Reads(pool)
    try:
        async with open_sites(settings, reads, connections=config.WRITER_MAX_CONNECTIONS) as sites:
            service = Service(sites, reads)
            with contextlib.suppress(LedgerError):  # the database may come later
                await sites.load()
            try:
                yield service
            finally:
                await service.published.stop()
    finally:
        pool.terminate()


async def serve_http(settings: Settings) -> None:
    """The HTTP process, until SIGTERM or SIGINT."""
    await refuse_unfinished_restore(settings)
    regions = RegionFinder.of(settings)  # it may take a while, in which a signal simply ends the process
    stop = stop_event()
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
