"""The HTTP side of a witness: c2sp.org/tlog-witness, and what its operator looks at. What it decides is `state`.

It logs alarms and no addresses; it knows of no visitor, only sizes and hashes pass through it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ledger import config
from ledger.core.errors import Malformed, Unavailable
from ledger.core.witnessing import ADD_CHECKPOINT, MAX_OFFER_BYTES, SIZE_TYPE, encode_size, parse_offer
from ledger.witness.state import FORK, WitnessState

log = logging.getLogger(__name__)
_silent = logging.getLogger(f"{__name__}.connections")  # aiohttp's own lines name peers
_silent.propagate = False
_silent.addHandler(logging.NullHandler())

_HASH = re.compile(r"[0-9a-f]{64}")
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WitnessServer(Collector):
    """Serves one `WitnessState`, which is used from one thread of its own: a commit waits for the disk."""

    def __init__(self, state: WitnessState) -> None:
        self._state = state
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="witness")
        self._reading = 0
        self._waiting: Counter[str] = Counter()
        self._alarmed_at: dict[str, float] = {}
        self._registry = CollectorRegistry()
        self._answers = CounterMetric(
            "consent_ledger_witness_answers", "Answers to add-checkpoint.", ("status",), registry=self._registry
        )
        self._registry.register(self)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[_guard])
        app.router.add_post(ADD_CHECKPOINT, self.add_checkpoint)
        app.router.add_get("/{origin_hash}/checkpoint", self.checkpoint)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/metrics", self.metrics)
        return app

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown()

    async def add_checkpoint(self, request: web.Request) -> web.Response:
        """Judge an offer. Its codes and bodies are those of the specification."""
        try:
            response = await self._answer(request)
        except Unavailable as error:
            self._alarm(error)
            response = _refusal(503, str(error), retry_after=error.retry_after)
        self._answers.labels(str(response.status)).inc()
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            body = await self._read(request)
            if body is None:
                return _refusal(413, f"an offer has at most {MAX_OFFER_BYTES} bytes", close=True)
            offer = parse_offer(body)
        except TimeoutError:
            return _refusal(408, f"the body did not come within {config.WITNESS_BODY_TIMEOUT_SECONDS:g} s", close=True)
        except Malformed as error:
            return _refusal(400, str(error))
        outcome = await self._use("offer", lambda state: state.consider(offer))
        if outcome.found is not None:
            what = "signed two heads of one size" if outcome.found == FORK else "signed a head that it did not prove"
            level = logging.ERROR if outcome.found == FORK else logging.WARNING
            log.log(level, "%s %s; both are kept: `witness evidence`", offer.checkpoint.origin, what)
        verdict = outcome.verdict
        if outcome.signature is not None:
            return web.Response(body=outcome.signature.line().encode(), content_type="text/plain", charset="utf-8")
        if verdict.size is not None:
            response = web.Response(status=verdict.status, body=encode_size(verdict.size))
            response.headers["Content-Type"] = SIZE_TYPE
            return response
        return _refusal(verdict.status, verdict.reason)

    async def checkpoint(self, request: web.Request) -> web.Response:
        """The monitoring endpoint: what was cosigned last, with the log's signatures and ours."""
        origin_hash = request.match_info["origin_hash"]
        note = None
        if _HASH.fullmatch(origin_hash):
            note = await self._use("look", lambda state: state.shown(origin_hash))
        if note is None:
            return _refusal(404, "this witness has cosigned no checkpoint of that log")
        response = web.Response(body=note, content_type="text/plain", charset="utf-8")
        response.headers["Cache-Control"] = "no-store"
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    async def healthz(self, _request: web.Request) -> web.Response:
        """Whether the database answers."""
        await self._use("look", lambda state: state.last_cosigned_at())
        return web.Response(text="ok\n")

    async def metrics(self, _request: web.Request) -> web.Response:
        """For Prometheus."""
        exposition = await self._use("look", lambda _state: generate_latest(self._registry))
        return web.Response(body=exposition, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def collect(self) -> Iterator[Metric]:
        """Runs in the state's thread (see `metrics`), or before there is traffic."""
        size = GaugeMetricFamily("consent_ledger_witness_size_entries", "Size cosigned last.", labels=["log"])
        time = GaugeMetricFamily(
            "consent_ledger_witness_cosigned_timestamp_seconds", "When it was cosigned.", labels=["log"]
        )
        evidence = GaugeMetricFamily(
            "consent_ledger_witness_evidence", "Pairs of checkpoints kept as evidence.", labels=["log", "kind"]
        )
        heads = {known.origin: known for known in self._state.logs() if known.size is not None}
        for origin, known in heads.items():
            size.add_metric([origin], known.size or 0)
            time.add_metric([origin], known.cosigned_at or 0)
        for (origin, kind), count in self._state.evidence_counts().items():
            evidence.add_metric([origin, kind], count)
        yield from (size, time, evidence)

    async def _use(self, kind: str, work: Callable[[WitnessState], T]) -> T:
        """In the state's thread. A flood of readers takes no offer's place, nor the other way round."""
        if self._waiting[kind] >= config.WITNESS_MAX_IN_FLIGHT:
            raise Unavailable("crowded", "too many requests at once; try again")
        self._waiting[kind] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._state)
        finally:
            self._waiting[kind] -= 1

    async def _read(self, request: web.Request) -> bytes | None:
        """The body, or None if it is too long."""
        if (request.content_length or 0) > MAX_OFFER_BYTES:
            return None
        if self._reading >= config.WITNESS_MAX_BODIES:
            raise Unavailable("crowded", "too many offers at once; try again")
        self._reading += 1
        received = bytearray()
        try:
            async with asyncio.timeout(config.WITNESS_BODY_TIMEOUT_SECONDS):
                async for chunk in request.content.iter_any():
                    received += chunk
                    if len(received) > MAX_OFFER_BYTES:
                        return None
        finally:
            self._reading -= 1
        return bytes(received)

    def _alarm(self, error: Unavailable) -> None:
        """Now and then, while it goes on."""
        now = asyncio.get_running_loop().time()
        last = self._alarmed_at.get(error.reason)
        if last is None or now - last >= config.WITNESS_ALARM_SECONDS:
            self._alarmed_at[error.reason] = now
            log.error("an offer is not cosigned: %s", error)


def _refusal(
    status: int, reason: str, *, retry_after: int = 0, close: bool = False, headers: dict[str, str] | None = None
) -> web.Response:
    response = web.Response(status=status, text=f"{reason}\n", headers=headers)
    if retry_after:
        response.headers["Retry-After"] = str(retry_after)
    if close:
        response.force_close()
    return response


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A fault of ours is told to the operator in full and to the peer not at all."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return _refusal(error.status, error.reason, headers=headers)
    except Unavailable as error:
        return _refusal(503, str(error), retry_after=error.retry_after)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("a request could not be answered")
        return _refusal(500, "something went wrong in this witness; its operator's log has it")


@asynccontextmanager
async def serving(state: WitnessState, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Listen while the block runs; gives the address. Leaving it lets requests in progress end."""
    server = WitnessServer(state)
    runner = web.AppRunner(
        server.app(),
        access_log=None,
        logger=_silent,
        shutdown_timeout=config.SHUTDOWN_TIMEOUT_SECONDS,
        keepalive_timeout=config.KEEPALIVE_TIMEOUT_SECONDS,
        lingering_time=config.LINGER_SECONDS,
        max_line_size=config.HEADER_LINE_MAX_BYTES,
        max_field_size=config.HEADER_LINE_MAX_BYTES,
        max_headers=config.HEADERS_MAX,
        auto_decompress=False,  # a few bytes could become gigabytes
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        address = runner.addresses[0]
        yield address[0], address[1]
    finally:
        await runner.cleanup()
        server.close()
