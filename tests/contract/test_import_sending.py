"""Sending against a server that is busy, breaks off, fails or lies: each line gets its one definite answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from ledger.core.errors import ConfigInvalid, Unavailable
from ledger.credentials import Access
from ledger.importing import sending
from ledger.importing.sending import Sender, fetch_policy, open_session

Handler = Callable[[web.Request, list[bytes], int], Awaitable[web.StreamResponse]]
LINES = [b'{"n":1}', b'{"n":2}', b'{"n":3}']


def answer(line: int, status: int, **members: object) -> bytes:
    problem = {"type": "urn:consent-ledger:problem:x", "title": "t", "status": status, "detail": "d"}
    told = {"line": line, "status": status, **({} if status < 300 else {"problem": problem}), **members}
    return json.dumps(told).encode() + b"\n"


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[tuple[Sender, list[int]]]:
    """A sender to a server that answers so; and how many lines each request brought."""
    asked: list[int] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer sk_test"
        lines = (await request.read()).split(b"\n")
        asked.append(len(lines))
        return await handler(request, lines, len(asked))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with open_session() as session:
            yield Sender(session, Access(f"http://127.0.0.1:{port}", "a.example", "", "sk_test"), 1.5), asked
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "IMPORT_PAUSES_SECONDS", (0.01,))


async def test_only_lines_without_an_answer_are_offered_again() -> None:
    async def busy(request: web.Request, lines: list[bytes], attempt: int) -> web.StreamResponse:
        if attempt == 1:
            return web.Response(body=answer(1, 201) + answer(2, 503) + answer(3, 422))
        return web.Response(body=answer(1, 200, replayed=True))

    async with server(busy) as (sender, asked):
        first, second, third = await sender.send(LINES)
    assert asked == [3, 1]
    assert (first.problem, first.replayed) == (None, False)
    assert (second.problem, second.replayed) == (None, True)
    assert third.kind == "x"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_busy_server_is_asked_again(status: int) -> None:
    async def busy(request: web.Request, lines: list[bytes], attempt: int) -> web.StreamResponse:
        if attempt < 3:
            return web.Response(status=status, headers={"Retry-After": "0"})
        return web.Response(body=b"".join(answer(n, 201) for n in (1, 2, 3)))

    async with server(busy) as (sender, asked):
        assert [one.problem for one in await sender.send(LINES)] == [None] * 3
    assert asked == [3, 3, 3]


async def test_what_came_before_the_answer_broke_off_counts() -> None:
    async def breaks(request: web.Request, lines: list[bytes], attempt: int) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(answer(1, 201))
        await response.write(b'{"line": 2, "sta')
        assert request.transport is not None
        request.transport.close()
        return response

    async with server(breaks) as (sender, asked):
        assert len(await sender.send(LINES)) == 3
    assert asked == [3, 2, 1]


async def test_a_line_on_which_the_server_fails_is_given_up_alone() -> None:
    async def fails(request: web.Request, lines: list[bytes], attempt: int) -> web.StreamResponse:
        return web.Response(
            body=b"".join(answer(n, 500 if line == LINES[1] else 201) for n, line in enumerate(lines, 1))
        )

    async with server(fails) as (sender, asked):
        told = await sender.send(LINES)
    assert [one.problem is None for one in told] == [True, False, True]
    assert asked == [3, 1, 1]


@pytest.mark.parametrize("body", [b"", b"<html>", answer(7, 201), answer(0, 201), b"[]\n", b"x" * 200_000])
async def test_an_answer_that_is_none_ends_in_a_sentence(body: bytes) -> None:
    async def lies(request: web.Request, lines: list[bytes], attempt: int) -> web.StreamResponse:
        return web.Response(body=body)

    async with server(lies) as (sender, _):
        with pytest.raises(Unavailable, match="run the same command again"):
            await sender.send(LINES)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 413])
async def test_what_no_repetition_can_change_ends_at_once(status: int) -> None:
    async def refuses(request: web.Request, lines: list[bytes], attempt: int) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "http://127.0.0.1:9/"})

    async with server(refuses) as (sender, asked):
        with pytest.raises(ConfigInvalid, match=str(status)):
            await sender.send(LINES)
    assert asked == [3]


async def test_a_policy_that_cannot_be_had_is_told_of() -> None:
    async with open_session() as session:
        with pytest.raises(ConfigInvalid, match="does it run"):
            await fetch_policy(session, Access("http://127.0.0.1:9", "a.example", "", "sk_test"))
