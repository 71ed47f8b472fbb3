"""The ledger as a frontend and an analytics backend reach it: over HTTP, with patience.

An event without a definite answer is sent again, under the same id and with `sentAt` stamped anew, as the contract
asks of every frontend; after `patience_seconds` its fate is left open, and the caller is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

import aiohttp
import msgspec

from ledger.core.encoding import encode_time
from ledger.core.event import EventInput
from ledger.credentials import Access
from ledger.messages import CheckInput, CheckResults, Consent, History, Problem, Receipt
from ledger.simulate.tally import Tally

RETRY_PAUSE_SECONDS = 0.2
RETRY_PAUSE_MAX_SECONDS = 3.0
RETRIED_STATUSES = frozenset({429, 502, 503, 504})

Answer = TypeVar("Answer")


class Unanswered(Exception):
    """The ledger gave no definite answer for as long as patience lasted."""


class Posted(NamedTuple):
    """The definite answer to an event: a receipt, or a problem (which may hold the receipt of the denials kept)."""

    status: int
    receipt: Receipt | None
    problem: Problem | None
    replayed: bool


class _Raw(NamedTuple):
    status: int
    body: bytes
    replayed: bool


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Client:
    """Calls of one site. Every attempt is counted in the tally."""

    def __init__(self, session: aiohttp.ClientSession, access: Access, tally: Tally, patience_seconds: float) -> None:
        self._session = session
        self._access = access
        self._tally = tally
        self._patience_seconds = patience_seconds
        self._base = f"{access.base_url}/v1/sites/{access.site}/"

    async def post(self, event: EventInput, clock_ms: int | None = 0, *, backend: bool = False) -> Posted:
        """Record an event. `clock_ms` is how far the visitor's clock is off; None: a client that sends no `sentAt`.
        `backend`: with the secret key.
        """
        deadline = time.monotonic() + self._patience_seconds
        pause = RETRY_PAUSE_SECONDS
        key = self._access.secret if backend else self._access.publishable
        while True:
            raw = await self._attempt("post", "POST", "events", key, _body(event, clock_ms))
            if raw is not None and raw.status not in RETRIED_STATUSES:
                break
            pause = await self._pause(pause, deadline)
        if raw.status in (200, 201):
            return Posted(raw.status, _decode(raw.body, Receipt), None, raw.replayed)
        return Posted(raw.status, None, _decode(raw.body, Problem), False)

    async def post_and_hang_up(self, event: EventInput, after_seconds: float) -> None:
        """A post whose answer is never read: the connection goes away a moment after the request."""
        request = self._session.post(
            self._base + "events", data=_body(event, 0), headers=self._headers(self._access.publishable)
        )
        with suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(after_seconds), request:
                await asyncio.sleep(after_seconds)
        self._tally.answers["hung up"] += 1

    async def consent(self, visitor: str, *, gpc: bool = False) -> Consent:
        """The visitor's own decisions, as a frontend reads them."""
        path = "consent?gpc=1" if gpc else "consent"
        return _decode(await self._ask("read", "GET", path, self._access.publishable, visitor=visitor), Consent)

    async def check(self, visitors: Sequence[str], purposes: Sequence[str]) -> CheckResults:
        """The bulk question of analytics."""
        question = msgspec.json.encode(CheckInput(visitors=list(visitors), purposes=list(purposes)))
        return _decode(await self._ask("check", "POST", "check", self._access.secret, body=question), CheckResults)

    async def history(self, visitor: str) -> list[str]:
        """The ids of all events of a visitor, oldest first."""
        ids: list[str] = []
        path = "history"
        while True:
            page = _decode(await self._ask("history", "GET", path, self._access.secret, visitor=visitor), History)
            ids += [item.event.id for item in page.events]
            if page.next is None:
                return ids
            path = f"history?cursor={page.next}"

    async def _ask(
        self, call: str, method: str, path: str, key: str, *, body: bytes | None = None, visitor: str | None = None
    ) -> bytes:
        deadline = time.monotonic() + self._patience_seconds
        pause = RETRY_PAUSE_SECONDS
        while True:
            raw = await self._attempt(call, method, path, key, body, visitor)
            if raw is not None and raw.status == 200:
                return raw.body
            if raw is not None and raw.status not in RETRIED_STATUSES:
                raise Unanswered(f"{method} {path.partition('?')[0]} answers {raw.status}")
            pause = await self._pause(pause, deadline)

    async def _attempt(
        self, call: str, method: str, path: str, key: str, body: bytes | None, visitor: str | None = None
    ) -> _Raw | None:
        """One request; None if it got no answer."""
        started = time.perf_counter()
        answer, raw = "no answer", None
        try:
            async with self._session.request(
                method, self._base + path, data=body, headers=self._headers(key, visitor)
            ) as response:
                raw = _Raw(response.status, await response.read(), "Idempotent-Replayed" in response.headers)
                answer = str(raw.status)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            raw = None
        self._tally.answered(call, answer, (time.perf_counter() - started) * 1000)
        return raw

    async def _pause(self, seconds: float, deadline: float) -> float:
        if time.monotonic() + seconds > deadline:
            raise Unanswered(f"no definite answer within {self._patience_seconds:g} s")
        await asyncio.sleep(seconds)
        return min(seconds * 2, RETRY_PAUSE_MAX_SECONDS)

    def _headers(self, key: str, visitor: str | None = None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if visitor is not None:
            headers["Consent-Visitor"] = visitor
        return headers


def _body(event: EventInput, clock_ms: int | None) -> bytes:
    if clock_ms is not None:
        event = msgspec.structs.replace(event, sent_at=encode_time(now_ms() + clock_ms))
    return msgspec.json.encode(event)


def _decode(body: bytes, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Unanswered(f"an answer that is no {kind.__name__}: {error}") from error
