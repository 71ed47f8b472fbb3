"""Events go to the server in batches, each offered again until every line has a definite answer.

A batch may be offered as often as it takes: the ids are derived, so a line that was recorded already is answered as a
replay. What is in doubt after `IMPORT_PATIENCE_SECONDS` ends the import, which a later run takes up again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
import msgspec
from aiohttp import hdrs

from ledger.config import (
    IMPORT_ANSWER_TIMEOUT_SECONDS,
    IMPORT_CONNECT_TIMEOUT_SECONDS,
    IMPORT_FAILED_ATTEMPTS,
    IMPORT_PATIENCE_SECONDS,
    IMPORT_PAUSE_MAX_SECONDS,
    IMPORT_PAUSES_SECONDS,
    IMPORT_POLICY_MAX_BYTES,
)
from ledger.core.errors import ConfigInvalid, Unavailable
from ledger.credentials import Access
from ledger.messages import BatchResult, Problem

_BUSY = frozenset({408, 429, 502, 503, 504})
_FAILED = 500
_TIMEOUT = aiohttp.ClientTimeout(
    total=None, sock_connect=IMPORT_CONNECT_TIMEOUT_SECONDS, sock_read=IMPORT_ANSWER_TIMEOUT_SECONDS
)
_results = msgspec.json.Decoder(BatchResult)
_problem = msgspec.json.Decoder(Problem)


class Answer(NamedTuple):
    """`problem` where a line was refused; `replayed`: it had been recorded before."""

    replayed: bool = False
    problem: Problem | None = None

    @property
    def kind(self) -> str:
        """The stable slug of the refusal."""
        return "" if self.problem is None else self.problem.type.rpartition(":")[2]


def open_session() -> aiohttp.ClientSession:
    """Without proxies or cookies of this machine's."""
    return aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())


async def fetch_policy(session: aiohttp.ClientSession, access: Access) -> bytes:
    """The document of the site's policy in force; `ConfigInvalid` where there is none, or no such site."""
    try:
        async with session.get(f"{access.base_url}/v1/sites/{access.site}/policy", allow_redirects=False) as response:
            body = await response.content.read(IMPORT_POLICY_MAX_BYTES)
            if response.status != 200:
                raise ConfigInvalid(f"{access.base_url} answers {response.status}: {_detail(body)}")
            return body
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ConfigInvalid(f"{access.base_url} does not answer ({type(error).__name__}): does it run?") from error


class Sender:
    """Sends batches of encoded events to one site."""

    def __init__(
        self, session: aiohttp.ClientSession, access: Access, patience_seconds: float = IMPORT_PATIENCE_SECONDS
    ) -> None:
        self._session, self._access, self._patience_seconds = session, access, patience_seconds

    async def send(self, lines: Sequence[bytes]) -> list[Answer]:
        """The answers, in order. `Unavailable` where patience ended, `ConfigInvalid` where the key is not taken."""
        answers: dict[int, Answer] = {}
        failed: dict[int, int] = {}
        deadline = time.monotonic() + self._patience_seconds
        attempt = 0
        while len(answers) < len(lines):
            waiting = [n for n in range(len(lines)) if n not in answers]
            settled, pause = await self._offer([lines[n] for n in waiting])
            before = len(answers)
            for place, result in settled.items():
                n = waiting[place]
                if result.status == _FAILED:
                    failed[n] = failed.get(n, 0) + 1
                if result.status not in _BUSY and (result.status != _FAILED or failed[n] >= IMPORT_FAILED_ATTEMPTS):
                    answers[n] = Answer(result.replayed, result.problem)
            if len(answers) == len(lines):
                break
            if len(answers) > before:
                attempt, deadline = 0, time.monotonic() + self._patience_seconds
            pause = max(pause, IMPORT_PAUSES_SECONDS[min(attempt, len(IMPORT_PAUSES_SECONDS) - 1)])
            if time.monotonic() + pause > deadline:
                raise Unavailable(
                    "no-answer",
                    f"{self._access.base_url} gave no definite answer for {self._patience_seconds:g} s; run the same "
                    "command again when it does: what is stored is not stored twice",
                )
            attempt += 1
            await asyncio.sleep(pause)
        return [answers[n] for n in range(len(lines))]

    async def _offer(self, lines: Sequence[bytes]) -> tuple[dict[int, BatchResult], float]:
        """One request: the results that came, by place, and how long the server asks to be left alone."""
        settled: dict[int, BatchResult] = {}
        try:
            async with self._session.post(
                f"{self._access.base_url}/v1/sites/{self._access.site}/events:batch",
                data=b"\n".join(lines),
                headers={
                    hdrs.AUTHORIZATION: f"Bearer {self._access.secret}",
                    hdrs.CONTENT_TYPE: "application/x-ndjson",
                },
                allow_redirects=False,
            ) as response:
                if response.status in _BUSY or response.status == _FAILED:
                    return settled, _pause_of(response)
                body = await response.read() if response.status != 200 else b""
                if response.status != 200:
                    raise ConfigInvalid(f"{self._access.base_url} answers {response.status}: {_detail(body)}")
                async for line in response.content:
                    result = _results.decode(line)
                    if 0 < result.line <= len(lines):
                        settled[result.line - 1] = result
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError, msgspec.MsgspecError):
            pass  # what came counts; the rest is offered again
        return settled, 0.0


def _pause_of(response: aiohttp.ClientResponse) -> float:
    asked = response.headers.get(hdrs.RETRY_AFTER, "")
    return min(float(asked), IMPORT_PAUSE_MAX_SECONDS) if asked.isascii() and asked.isdigit() else 0.0


def _detail(body: bytes) -> str:
    try:
        return _problem.decode(body).detail
    except msgspec.MsgspecError:
        return "this is no answer of a ledger"
