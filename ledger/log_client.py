"""Reads a log over HTTP (C2SP tlog-tiles): checkpoint, hash tiles, entry bundles; and, as a `Source`, a whole bundle.

It believes nothing and judges nothing: what comes back is bytes within their bound, for others to check. A server may
be slow, endless, broken or absent; that is `LogUnreachable`, and never a claim about the log. Redirects are not
followed: they would carry the key to a place that nobody named.
"""

from __future__ import annotations

import asyncio
import io
import threading
import time
import zlib
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs

from ledger import __version__
from ledger.config import (
    LOG_CLIENT_AHEAD_MAX_BYTES,
    LOG_CLIENT_AHEAD_TILES,
    LOG_CLIENT_CONNECT_TIMEOUT_SECONDS,
    LOG_CLIENT_CONNECTIONS,
    LOG_CLIENT_HEADER_MAX_BYTES,
    LOG_CLIENT_PAUSE_MAX_SECONDS,
    LOG_CLIENT_READ_TIMEOUT_SECONDS,
    LOG_CLIENT_RETRY_PAUSES_SECONDS,
    LOG_CLIENT_TIMEOUT_SECONDS,
)
from ledger.core.errors import ConfigInvalid, LogGuarded, LogUnreachable, Malformed
from ledger.core.merkle import HASH_BYTES
from ledger.core.note import MAX_CHECKPOINT_BYTES, parse_checkpoint
from ledger.core.tile import ENTRIES, MAX_BUNDLE_BYTES, TILE_HEIGHT, TILE_WIDTH, Tile, cut_bundle, parse_path

CHECKPOINT = "checkpoint"

_READ_BYTES = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""Answers after which the same request may well succeed."""

T = TypeVar("T")


def check_url(text: str) -> str:
    """A log's URL without its last slash; `ConfigInvalid` if it is none, or holds what belongs elsewhere."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ConfigInvalid(f"{text[:200]!r} is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigInvalid(f"{text[:200]!r} is no URL of a log: https://host/logs/site is one")
    if parts.username is not None or parts.password is not None:
        raise ConfigInvalid("a log's URL holds no password; give the key in a file or by the environment")
    if parts.query or parts.fragment:
        raise ConfigInvalid("a log's URL ends before any ? or #")
    return text.rstrip("/")


def check_key(text: str) -> str:
    """A bearer key as it was read from a file; `ConfigInvalid` if a header could not carry it."""
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigInvalid("the key is one line without a space, as `api-key create` printed it")
    return key


@asynccontextmanager
async def open_session(key: str | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for any number of logs of one operator; `key` is sent with every request."""
    headers = {
        hdrs.USER_AGENT: f"consent-ledger/{__version__}",
        hdrs.ACCEPT_ENCODING: "gzip, identity",
        **({} if key is None else {hdrs.AUTHORIZATION: f"Bearer {key}"}),
    }
    timeout = aiohttp.ClientTimeout(
        total=LOG_CLIENT_TIMEOUT_SECONDS,
        sock_connect=LOG_CLIENT_CONNECT_TIMEOUT_SECONDS,
        sock_read=LOG_CLIENT_READ_TIMEOUT_SECONDS,
    )
    async with aiohttp.ClientSession(
        headers=headers,
        timeout=timeout,
        connector=aiohttp.TCPConnector(limit=0),  # each client bounds its own
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # bounded below; a small answer may unfold to any size
        max_line_size=LOG_CLIENT_HEADER_MAX_BYTES,
        max_field_size=LOG_CLIENT_HEADER_MAX_BYTES,
        trust_env=True,
    ) as session:
        yield session


class LogClient:
    """One log at one URL. `requests` counts what was asked, retries too."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.url = check_url(url)
        self.requests = 0
        self._session = session
        self._turn = asyncio.Semaphore(LOG_CLIENT_CONNECTIONS)

    async def checkpoint(self) -> bytes:
        """The checkpoint as it is served, at most `MAX_CHECKPOINT_BYTES`."""
        data = await self.get(CHECKPOINT, MAX_CHECKPOINT_BYTES)
        if data is None:
            raise LogUnreachable(f"{self.url} has no checkpoint: is this the URL of a log?")
        return data

    async def tile(self, tile: Tile, limit: int | None = None, *, fresh: bool = False) -> bytes | None:
        """A hash tile or an entry bundle; None if there is none.

        Of a partial one that is gone the full one is asked for and cut to its width: a log may delete what it has
        completed. `fresh` goes past caches.
        """
        bound = limit or (MAX_BUNDLE_BYTES if tile.level == ENTRIES else TILE_WIDTH * HASH_BYTES)
        data = await self.get(tile.path, bound, fresh=fresh)
        if data is not None or tile.width == TILE_WIDTH:
            return data
        data = await self.get(tile._replace(width=TILE_WIDTH).path, bound, fresh=fresh)
        if data is None:
            return None
        return cut_bundle(data, tile.width) if tile.level == ENTRIES else data[: tile.width * HASH_BYTES]

    async def get(self, path: str, limit: int, *, fresh: bool = False) -> bytes | None:
        """The file at `path` of the log; None if there is none.

        `Malformed` if it is more than `limit` bytes; `LogGuarded` if it needs a key, or another one; `LogUnreachable`
        if it cannot be had now, after some attempts.
        """
        attempts, begun = len(LOG_CLIENT_RETRY_PAUSES_SECONDS), time.monotonic()
        for attempt, pause in enumerate(LOG_CLIENT_RETRY_PAUSES_SECONDS, 1):
            try:
                async with self._turn:  # waiting for a connection is no part of an attempt's time
                    return await self._once(path, limit, fresh)
            except _TryAgain as error:
                if attempt == attempts or time.monotonic() - begun > LOG_CLIENT_TIMEOUT_SECONDS:
                    raise LogUnreachable(f"{self.url}/{path}: {error}, {attempt} times") from error
                await asyncio.sleep(max(pause, error.after_seconds))
        raise RuntimeError("there is at least one attempt")

    async def _once(self, path: str, limit: int, fresh: bool) -> bytes | None:
        self.requests += 1
        headers = {hdrs.CACHE_CONTROL: "no-cache"} if fresh else None
        try:
            async with self._session.get(f"{self.url}/{path}", headers=headers, allow_redirects=False) as response:
                if response.status in (404, 410):
                    return None
                self._expect_200(response, path)
                return await self._body(response, path, limit)
        except TimeoutError as error:
            raise _TryAgain("no answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: aiohttp's of an odd answer
            raise _TryAgain(f"the connection failed ({type(error).__name__})") from error

    def _expect_200(self, response: aiohttp.ClientResponse, path: str) -> None:
        status, what = response.status, f"{self.url}/{path}"
        if status == 200:
            return
        if status in (401, 403):
            raise LogGuarded(f"{what} is guarded ({status}): give a key with the scope `audit`, by --key-file")
        if 300 <= status < 400:
            to = response.headers.get(hdrs.LOCATION, "")[:200]
            raise LogUnreachable(f"{what} redirects to {to!r}, which is not followed: name the log's own URL")
        if status in _AGAIN:
            raise _TryAgain(f"the server answered {status}", _retry_after(response))
        raise LogUnreachable(f"{what}: the server answered {status}")

    async def _body(self, response: aiohttp.ClientResponse, path: str, limit: int) -> bytes:
        encoding = response.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise LogUnreachable(f"{self.url}/{path} comes in an encoding that was not asked for: {encoding[:40]!r}")
        unpack = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        data = bytearray()
        async for part in response.content.iter_chunked(_READ_BYTES):
            try:
                data += part if unpack is None else unpack.decompress(part, limit + 1 - len(data))
            except zlib.error as error:
                raise _TryAgain("its gzip encoding is broken") from error
            if len(data) > limit:
                response.close()
                raise Malformed(f"{path} is larger than {limit} bytes")
        if unpack is not None and (not unpack.eof or unpack.unused_data):
            raise _TryAgain("its gzip encoding is cut short, or has something behind it")
        return bytes(data)


class _TryAgain(Exception):
    """An attempt that failed, and may not fail again."""

    def __init__(self, detail: str, after_seconds: float = 0.0) -> None:
        self.after_seconds = after_seconds
        super().__init__(detail)


def _retry_after(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get(hdrs.RETRY_AFTER, "")
    return min(float(text), LOG_CLIENT_PAUSE_MAX_SECONDS) if text.isascii() and text.isdigit() else 0.0


# --- a log as a bundle ------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """How many tiles a level has that are full, and how wide the one behind them is."""

    full: int
    rest: int

    def tile(self, level: int, n: int) -> Tile | None:
        if n < self.full:
            return Tile(level, n)
        return Tile(level, n, self.rest) if n == self.full and self.rest else None


class HttpSource:
    """A log over HTTP as the files of a bundle, without openings (ledger/bundle.Source). Use it in a `with`.

    Whoever audits reads one tile of a level after another, so the next ones are fetched meanwhile, several at a time.
    For one thread. `read` raises as `LogClient.get` does.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self._url = check_url(url)
        self._key = key
        self._size = 0
        self._ahead: dict[Tile, Future[bytes | None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="log client", daemon=True)
        self._started: Future[LogClient] = Future()
        self._finished: asyncio.Event

    def __enter__(self) -> HttpSource:
        self._thread.start()
        self._client = self._started.result()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._finished.set)
        self._thread.join()

    def _run(self) -> None:
        async def serve() -> None:
            self._finished = asyncio.Event()
            async with open_session(self._key) as session:
                self._loop = asyncio.get_running_loop()
                self._started.set_result(LogClient(session, self._url))
                await self._finished.wait()
                others = asyncio.all_tasks() - {asyncio.current_task()}
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

        try:
            asyncio.run(serve())
        except Exception as error:
            if not self._started.done():
                self._started.set_exception(error)

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def read(self, path: str, limit: int) -> bytes | None:
        """A whole file; None if there is none; `Malformed` if it is more than `limit` bytes."""
        if path == CHECKPOINT:
            data = self._begin(self._client.get(path, limit)).result()
            self._size = _claimed_size(data)
            return data
        try:
            tile = parse_path(path)
        except Malformed:
            return self._begin(self._client.get(path, limit)).result()
        fetched = self._ahead.pop(tile, None)
        self._look_ahead(tile)
        if fetched is not None:
            try:
                data = fetched.result()
            except (Malformed, CancelledError):
                pass  # too large to be fetched ahead; perhaps not too large for the caller
            else:
                if data is None or len(data) <= limit:
                    return data
        return self._begin(self._client.tile(tile, limit)).result()

    def _look_ahead(self, tile: Tile) -> None:
        """Fetch what comes after `tile` on its level. A jump forgets what was fetched for nothing."""
        level = max(tile.level, 0)
        row = _Row(*divmod(self._size >> (level * TILE_HEIGHT), TILE_WIDTH))
        for passed in [t for t in self._ahead if t.level == tile.level and t.n <= tile.n]:
            self._ahead.pop(passed).cancel()
        for n in range(tile.n + 1, tile.n + 1 + LOG_CLIENT_AHEAD_TILES):
            following = row.tile(tile.level, n)
            if following is None:
                break
            if following not in self._ahead:
                bound = LOG_CLIENT_AHEAD_MAX_BYTES if tile.level == ENTRIES else TILE_WIDTH * HASH_BYTES
                self._ahead[following] = self._begin(self._client.tile(following, bound))

    def stream(self, path: str) -> BinaryIO | None:
        """No openings: a log's read API has none, and what else is asked for is small."""
        if path.endswith(".ndjson"):
            return None
        data = self.read(path, MAX_BUNDLE_BYTES)
        return None if data is None else io.BytesIO(data)

    def names(self, folder: str, limit: int) -> list[str]:
        """None: the read API lists nothing."""
        return []


def _claimed_size(data: bytes | None) -> int:
    """Of a checkpoint that nobody has verified yet: a hint what to fetch, and no more."""
    try:
        return parse_checkpoint(data or b"").size
    except Malformed:
        return 0
