"""A small server of logs for tests: what each path answers can be anything, and every request is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import unused_port

from ledger.core import merkle, note, tile
from ledger.core.errors import Malformed
from tests.logbuilder import LogBuilder

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def log_file(log: LogBuilder, path: str) -> bytes | None:
    """What an honest server has at a path: the checkpoint, every tile up to the present size, documents."""
    if path == "checkpoint":
        return log.checkpoint().encode()
    if path.startswith("documents/"):
        return log.documents.get(path.removeprefix("documents/"))
    try:
        wanted = tile.parse_path(path)
    except Malformed:
        return None
    level = max(wanted.level, 0)
    first = wanted.n * tile.TILE_WIDTH
    if first + wanted.width > len(log.leaves) >> (level * tile.TILE_HEIGHT):
        return None
    if wanted.level == tile.ENTRIES:
        return tile.encode_bundle(log.entries[first : first + wanted.width])
    span = 1 << (level * tile.TILE_HEIGHT)
    roots = (merkle.root_of(log.leaves[i * span : (i + 1) * span]) for i in range(first, first + wanted.width))
    return b"".join(log.leaves[first : first + wanted.width] if level == 0 else roots)


class LogServer:
    """Serves one log of the builder as tlog-tiles does, from memory or a directory, on a port that it keeps.

    `lies` maps a path (`checkpoint`, `tile/0/000`) to what is answered in its place: bytes, a status, or a handler.
    """

    def __init__(self, log: LogBuilder | None = None, *, directory: Path | None = None) -> None:
        self.log, self.directory = log, directory
        self.note: bytes | None = None
        """The checkpoint; without it the log's own at its present size."""
        self.lies: dict[str, bytes | int | Answer] = {}
        self.requests: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.port = unused_port()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/logs/shop"

    def serve(self, checkpoint: note.Checkpoint) -> None:
        self.note = checkpoint.encode()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.requests[path] += 1
        self.headers.append(dict(request.headers))
        lie = self.lies.get(path)
        if callable(lie):
            return await lie(request)
        if isinstance(lie, int):
            return web.Response(status=lie)
        data = lie if lie is not None else self._read(path)
        return web.Response(status=404) if data is None else web.Response(body=data)

    def _read(self, path: str) -> bytes | None:
        if path == "checkpoint" and self.note is not None:
            return self.note
        if self.directory is not None:
            full = self.directory / path
            return full.read_bytes() if full.is_file() else None
        assert self.log is not None
        return log_file(self.log, path)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/logs/shop/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> LogServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def count(self, prefix: str = "") -> int:
        return sum(times for path, times in self.requests.items() if path.startswith(prefix))


def endless(size: int = 64 * 1024) -> Answer:
    """A body without end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b"\0" * size)
        return response

    return answer


def truncated(body: bytes, keep: int) -> Answer:
    """A body that ends before its announced length."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[:keep])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def silent() -> Answer:
    """No answer, ever."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("nobody wakes it")

    return answer


def with_headers(body: bytes, status: int = 200, **headers: Any) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return answer
