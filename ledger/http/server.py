"""Listening: aiohttp's runner with our bounds, and a connection that answers even broken HTTP with a problem.

What aiohttp would do by itself is log the peer's address and answer in text; neither is wanted here. No access log is
kept: it would hold addresses, and everything of use in it is in the metrics.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from ledger.config import HEADER_LINE_MAX_BYTES, HEADERS_MAX
from ledger.core.errors import InputRefused
from ledger.http import problem
from ledger.http.edge import EDGE

UNSENT_BYTES = 65_536
"""An answer below this fits the socket's buffers: sending it waits for nobody."""


class Connection(web.RequestHandler):
    """One connection. Sending an answer is given `write_timeout_seconds`."""

    __slots__ = ("_write_timeout_seconds",)

    def __init__(self, *args: Any, write_timeout_seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._write_timeout_seconds = write_timeout_seconds

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and what went wrong outside the middleware; the connection ends with it."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, so no other one can be sent")
        if status == 400:
            response = problem.respond_to(InputRefused("bad-request", "This is not a valid HTTP/1.1 request."), "")
        else:
            response = problem.respond(problem.unexpected(exc if isinstance(exc, Exception) else Exception(), "http"))
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """The texts of such errors quote the peer: they are told without them."""
        error = kw.get("exc_info")
        if isinstance(error, Exception):
            problem.unexpected(error, "connection")

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; cut off a client that does not take it."""
        if isinstance(resp, web.HTTPException):
            resp = problem.respond_to(resp, "http")  # raised before the middleware was reached
        length = resp.content_length
        if length is not None and length < UNSENT_BYTES:
            return await super().finish_response(request, resp, start_time)
        try:
            async with asyncio.timeout(self._write_timeout_seconds):
                return await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()
            return resp, True


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application of `create_app` on connections of ours, with its limits."""

    def __init__(self, app: web.Application) -> None:
        limits = app[EDGE].limits
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=limits.shutdown_timeout_seconds,
            keepalive_timeout=limits.keepalive_timeout_seconds,
            lingering_time=limits.linger_seconds,
            max_line_size=HEADER_LINE_MAX_BYTES,
            max_field_size=HEADER_LINE_MAX_BYTES,
            max_headers=HEADERS_MAX,
            auto_decompress=False,  # a few bytes could become gigabytes
            write_timeout_seconds=limits.write_timeout_seconds,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            **made._kwargs,
        )


@asynccontextmanager
async def serving(
    app: web.Application, host: str, port: int, *, reuse_port: bool = False
) -> AsyncIterator[tuple[str, int]]:
    """Listen while the block runs; gives the address. Leaving it lets requests in progress end."""
    runner = Runner(app)
    await runner.setup()
    try:
        listener = web.TCPSite(runner, host, port, reuse_port=reuse_port)
        await listener.start()
        address = runner.addresses[0]
        yield address[0], address[1]
    finally:
        await runner.cleanup()
