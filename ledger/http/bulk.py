"""Batches: NDJSON in, NDJSON out, one result a line and in order, while the body is still being read.

A bad line gets its own result and never stops the good ones. At most a window of lines is being recorded at once, so
the body is read only as fast as it commits. If the client goes away, what was read is recorded all the same: a line
without its answer is sent again under the same event id.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
from aiohttp import hdrs, web

from ledger.core.errors import InputRefused, LedgerError
from ledger.core.event import parse_input
from ledger.http import auth, body, parameters, problem
from ledger.http.edge import EDGE, Edge
from ledger.http.frontends import minimal
from ledger.messages import BatchResult
from ledger.sequencer import Lane
from ledger.service import Entered, Recording

NDJSON = "application/x-ndjson"
NDJSON_TYPES = frozenset({NDJSON, "application/ndjson", "application/jsonl"})
FLUSH_BYTES = 32_768
"""Results are sent when this much is ready, or when there is nothing more to wait for."""

_encode = msgspec.json.Encoder().encode


async def post_batch(request: web.Request) -> web.StreamResponse:
    """`POST /v1/sites/{site}/events:batch`: always 200 once the first line is looked at; each line has its status."""
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.POST_BATCH)
    parameters.query(request)
    body.check_content(request, NDJSON_TYPES, edge.limits.batch_body_max_bytes)
    answer = web.StreamResponse(headers={hdrs.CONTENT_TYPE: NDJSON, hdrs.CACHE_CONTROL: "no-store"})
    await answer.prepare(request)
    await _Batch(request, answer, edge, admitted).run()
    return answer


class LineSplitter:
    """Cuts bytes into lines as they come. A line beyond the bound is let pass unkept and comes out as None."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._too_long = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that this piece completes, without their newline."""
        *complete, rest = data.split(b"\n")
        lines: list[bytes | None] = []
        for piece in complete:
            self._keep(piece)
            lines.append(self._take())
        self._keep(rest)
        return lines

    def end(self) -> list[bytes | None]:
        """The last line, where no newline ended it."""
        return [self._take()] if self._rest or self._too_long else []

    def _keep(self, piece: bytes) -> None:
        if self._too_long or len(self._rest) + len(piece) > self._max_bytes:
            self._too_long = True
            self._rest.clear()
        else:
            self._rest += piece

    def _take(self) -> bytes | None:
        line = None if self._too_long else bytes(self._rest)
        self._too_long = False
        self._rest.clear()
        return line


class _Batch:
    """One batch in progress: a reader that starts lines, and a writer that answers them in order."""

    def __init__(self, request: web.Request, answer: web.StreamResponse, edge: Edge, admitted: auth.Admitted) -> None:
        self._request, self._answer, self._edge = request, answer, edge
        self._site, self._principal = admitted
        self._line = 0
        # The bound of the queue is the window: a full one stops the reader.
        self._results: asyncio.Queue[asyncio.Task[BatchResult] | BatchResult | None] = asyncio.Queue(
            edge.limits.batch_window_lines
        )
        self._gone = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            try:
                await self._read(group)
            except InputRefused as error:
                # The answer has begun, so what ends the batch is told as the result of the line it stopped at.
                self._line += 1
                await self._results.put(self._refused(self._line, error))
            except ConnectionError:
                self._gone = True
            await self._results.put(None)

    async def _read(self, group: asyncio.TaskGroup) -> None:
        limits = self._edge.limits
        splitter = LineSplitter(limits.event_body_max_bytes)
        content = self._request.content
        size = 0
        patience_seconds = limits.batch_read_timeout_seconds
        while not self._gone:
            started = time.monotonic()
            try:
                async with asyncio.timeout(min(patience_seconds, limits.body_read_timeout_seconds)):
                    data = await content.readany()
            except TimeoutError as error:
                raise body.too_slow(limits.body_read_timeout_seconds) from error
            except web.RequestPayloadError as error:
                raise InputRefused(
                    "bad-request", "The body broke off; the lines after this one were not read."
                ) from error
            patience_seconds -= time.monotonic() - started
            if not data:
                await self._start(group, splitter.end())
                return
            size += len(data)
            if size > limits.batch_body_max_bytes:
                raise body.too_large(limits.batch_body_max_bytes)
            await self._start(group, splitter.feed(data))

    async def _start(self, group: asyncio.TaskGroup, lines: list[bytes | None]) -> None:
        limits = self._edge.limits
        for line in lines:
            if self._line == limits.batch_max_lines:
                raise InputRefused("too-many-lines", f"A batch has at most {limits.batch_max_lines} lines.")
            self._line += 1
            if line is None:
                error = InputRefused("line-too-large", f"A line has at most {limits.event_body_max_bytes} bytes.")
                await self._results.put(self._refused(self._line, error))
            elif line and not line.isspace():
                await self._results.put(await self._enter(group, self._line, line))

    async def _enter(
        self, group: asyncio.TaskGroup, number: int, line: bytes
    ) -> asyncio.Task[BatchResult] | BatchResult:
        """Give a line its place in the log's order before the next one is looked at: of one visitor's lines, and of
        two under one event id, the order decides.
        """
        try:
            event = parse_input(line)
            entered = await self._edge.service.enter(self._site, event, self._principal, Lane.BULK)
        except LedgerError as error:
            return self._refused(number, error)
        except Exception as error:
            return BatchResult(number, 500, problem=problem.unexpected(error, "events:batch"))
        return group.create_task(self._finish(number, entered))

    async def _finish(self, number: int, entered: Entered | Recording) -> BatchResult:
        try:
            receipt, replayed = await self._edge.service.finish(self._site, entered)
        except LedgerError as error:
            return self._refused(number, error)
        except Exception as error:
            return BatchResult(number, 500, problem=problem.unexpected(error, "events:batch"))
        return BatchResult(number, 200 if replayed else 201, receipt=minimal(receipt), replayed=replayed)

    def _refused(self, number: int, error: LedgerError) -> BatchResult:
        told = problem.of_error(error) or problem.unexpected(error, "events:batch")
        return BatchResult(number, told.status, problem=told)

    async def _write(self) -> None:
        ready = bytearray()
        while (result := await self._results.get()) is not None:
            if isinstance(result, asyncio.Task):
                result = await result
            self._edge.meters.line(result.status)
            ready += _encode(result) + b"\n"
            if len(ready) >= FLUSH_BYTES or self._results.empty():
                await self._send(bytes(ready))
                ready.clear()
        await self._send(bytes(ready))

    async def _send(self, data: bytes) -> None:
        if self._gone or not data:
            return
        try:
            async with asyncio.timeout(self._edge.limits.write_timeout_seconds):
                await self._answer.write(data)
        except ConnectionError:
            self._gone = True
        except TimeoutError:
            self._gone = True
            if self._request.transport is not None:
                self._request.transport.abort()  # it takes nothing: an orderly close would wait for it, too
