"""Below the calls: broken HTTP, slow and silent peers, oversized headers, methods and addresses that are not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from ledger.config import SHUTDOWN_TIMEOUT_SECONDS, Settings
from ledger.core.errors import Unavailable
from ledger.http.limits import DEFAULT_LIMITS
from ledger.http.metrics import Meters
from ledger.service import Recording, Service
from tests.contract.conftest import Api, Client, grant, running_api, visitor
from tests.contract.test_events import assert_problem

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def exchange(connect: Connect, sent: bytes) -> tuple[int, bytes, bytes]:
    """Status, header and body of the first answer; the peer closes."""
    reader, writer = await connect()
    writer.write(sent)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    body = await asyncio.wait_for(reader.readexactly(length), 10)
    return int(head.split()[1]), head, body


HOST = b"Host: x\r\n"
BROKEN = [
    ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ("an unknown version", b"GET /healthz HTTP/9.9\r\n" + HOST + b"\r\n"),
    ("two lengths", b"POST /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    ("a negative length", b"POST /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n"),
    (
        "length and chunks",
        b"POST /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a header without a colon", b"GET /healthz HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n"),
    ("NUL in a header", b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n"),
    ("a huge header", b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 20_000 + b"\r\n\r\n"),
    ("too many headers", b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 200 + b"\r\n"),
    ("a huge target", b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
]


@pytest.mark.parametrize("sent", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_broken_http_is_answered_with_a_problem(connect: Connect, sent: bytes) -> None:
    status, head, body = await exchange(connect, sent)
    assert status == 400
    assert b"application/problem+json" in head
    assert json.loads(body)["type"] == "urn:consent-ledger:problem:bad-request"


ODD = [
    ("an absolute target", b"GET http://elsewhere/healthz HTTP/1.1\r\n", 200),
    ("a target with a fragment", b"GET /healthz#x HTTP/1.1\r\n", 200),
    ("no version", b"GET /healthz\r\n", 200),
    ("an asterisk", b"OPTIONS * HTTP/1.1\r\n", 404),
    ("CONNECT", b"CONNECT example.com:443 HTTP/1.1\r\n", 404),
    ("two slashes", b"GET //healthz HTTP/1.1\r\n", 404),
    ("dots", b"GET /web/../../etc/passwd HTTP/1.1\r\n", 404),
    ("encoded dots", b"GET /web/%2e%2e%2f%2e%2e%2fpyproject.toml HTTP/1.1\r\n", 404),
    ("percent signs", b"GET /%zz%f HTTP/1.1\r\n", 404),
    ("bytes beyond ASCII", b"GET /\xff\xfe HTTP/1.1\r\n", 404),
    ("an unknown method", b"BREW /healthz HTTP/1.1\r\n", 405),
    ("an unknown expectation", b"GET /healthz HTTP/1.1\r\nExpect: a cookie\r\n", 417),
]


@pytest.mark.parametrize(("line", "expected"), [row[1:] for row in ODD], ids=[row[0] for row in ODD])
async def test_an_odd_request_never_fails_the_server(connect: Connect, line: bytes, expected: int) -> None:
    status, head, body = await exchange(connect, line + HOST + b"Connection: close\r\n\r\n")
    assert status in {expected, 400, 404}
    assert status == 200 or b"application/problem+json" in head
    assert json.loads(body)


async def test_a_body_that_breaks_its_own_framing_is_refused(connect: Connect, api: Api) -> None:
    status, _, body = await exchange(
        connect,
        b"POST /v1/sites/weco.nexaxt.com/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + api.publishable.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    )
    assert status == 400
    assert json.loads(body)["type"] == "urn:consent-ledger:problem:bad-request"


@pytest.mark.parametrize("broken", [False, True])
async def test_expect_100_continue_is_understood(connect: Connect, api: Api, broken: bool) -> None:
    event = json.dumps(grant()).encode()
    reader, writer = await connect()
    writer.write(
        b"POST /v1/sites/weco.nexaxt.com/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nAuthorization: Bearer " + api.publishable.encode() + b"\r\n"
        b"Content-Length: " + str(len(event)).encode() + b"\r\n\r\n"
    )
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"x" * len(event) if broken else event)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 " if broken else b"HTTP/1.1 201 ")


async def test_pipelined_requests_are_answered_in_order(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b'alive"}')).startswith(b"HTTP/1.1 200 ")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")


async def test_what_is_not_there_is_not_found(client: Client) -> None:
    for path in ("/nowhere", "/v1", "/v1/sites", "/v1/sites/weco.nexaxt.com", "/v1/sites/weco.nexaxt.com/events/"):
        for method in ("GET", "POST", "DELETE"):
            assert_problem(await client.call(method, path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "events", "OPTIONS,POST"),
        ("DELETE", "events:batch", "POST"),
        ("POST", "consent", "GET,HEAD,OPTIONS"),
        ("PATCH", "policy", "GET,HEAD,OPTIONS,PUT"),
        ("POST", "/healthz", "GET,HEAD"),
        ("TRACE", "/", "GET,HEAD"),
    ],
)
async def test_another_method_is_told_which_there_are(client: Client, method: str, path: str, allowed: str) -> None:
    answer = await client.call(method, path)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == allowed


async def test_head_is_get_without_a_body(client: Client) -> None:
    for path in ("/healthz", "policy", "/openapi.json"):
        answer = await client.call("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 0


# --- slow and silent peers -------------------------------------------------------------------------------------------


async def test_a_connection_that_never_completes_its_headers_is_closed(settings: Settings) -> None:
    limits = replace(DEFAULT_LIMITS, keepalive_timeout_seconds=0.5)
    async with running_api(settings, limits=limits) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
        started = time.monotonic()
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        closed = asyncio.ensure_future(reader.read())
        while not closed.done() and time.monotonic() - started < 60:
            writer.write(b"X: y\r\n")
            await asyncio.sleep(0.1)
        assert await closed == b""
        assert time.monotonic() - started < 60, "the limit, and not the default"
        writer.close()


async def test_a_body_that_never_completes_is_refused(settings: Settings) -> None:
    limits = replace(DEFAULT_LIMITS, body_read_timeout_seconds=0.3, linger_seconds=0.1)
    async with running_api(settings, limits=limits) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
        writer.write(
            b"POST /v1/sites/weco.nexaxt.com/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + api.publishable.encode() + b"\r\nContent-Length: 1000\r\n\r\n{"
        )
        answer = await asyncio.wait_for(reader.read(), 60)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body-timeout" in answer
        writer.close()


async def test_a_client_that_does_not_take_its_answer_is_cut_off(settings: Settings) -> None:
    limits = replace(DEFAULT_LIMITS, write_timeout_seconds=0.3)
    purposes = [f"purpose-{n}" for n in range(10)]
    question = json.dumps({"visitors": [visitor() for _ in range(10_000)], "purposes": purposes}).encode()
    async with running_api(settings, limits=limits) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]), limit=1_024)
        writer.write(
            b"POST /v1/sites/weco.nexaxt.com/check HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + api.secret.encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(question)
        )
        writer.write(question)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await asyncio.sleep(1)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while data := await asyncio.wait_for(reader.read(1 << 20), 10):
                taken += len(data)
        assert 0 < taken < length
        writer.close()


async def test_stopping_answers_who_is_being_served_and_waits_for_nobody_else(settings: Settings) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Service):
        def __init__(self, service: Service) -> None:
            self.__dict__.update(service.__dict__)

        async def record(self, *arguments: Any, **named: Any) -> Recording:
            begun.set()
            await go_on.wait()
            return await super().record(*arguments, **named)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        async with running_api(settings, wrap=Slow) as api:
            idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
            posting = group.create_task(Client(api, session).post(grant()))
            await begun.wait()
            asyncio.get_running_loop().call_later(0.3, go_on.set)
            started = time.monotonic()
        assert time.monotonic() - started < SHUTDOWN_TIMEOUT_SECONDS
        assert (await posting).status == 201
        assert await idle_reader.read() == b""
        idle_writer.close()


# --- what the server cannot do ---------------------------------------------------------------------------------------


async def test_a_ledger_that_cannot_write_says_when_to_come_back(settings: Settings) -> None:
    class Full(Service):
        def __init__(self, service: Service) -> None:
            self.__dict__.update(service.__dict__)

        async def record(self, *_: Any, **__: Any) -> Recording:
            raise Unavailable("overloaded", "More events arrive than can be written.", 7)

    async with running_api(settings, wrap=Full) as api, aiohttp.ClientSession() as session:
        answer = await Client(api, session).post(grant(), Origin="https://weco.nexaxt.com")
    assert_problem(answer, 503, "overloaded")
    assert answer.headers["Retry-After"] == "7"
    assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


async def test_an_unexpected_error_is_told_and_logged_without_data(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    who = visitor()

    class Broken(Service):
        def __init__(self, service: Service) -> None:
            self.__dict__.update(service.__dict__)

        async def record(self, *_: Any, **__: Any) -> Recording:
            raise ValueError(f"the visitor {who} at 192.0.2.1")

    async with running_api(settings, wrap=Broken) as api, aiohttp.ClientSession() as session:
        answer = await Client(api, session).post(grant(visitor=who), Origin="https://weco.nexaxt.com")
    assert_problem(answer, 500, "internal-error")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://weco.nexaxt.com"
    assert "unexpected ValueError in /v1/sites/{site}/events" in caplog.text
    assert who not in answer.body.decode() + caplog.text
    assert "192.0.2.1" not in caplog.text


async def test_an_answer_that_fails_half_way_is_broken_off(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("half way")

    async with running_api(settings) as api, aiohttp.ClientSession() as session:
        monkeypatch.setattr(Meters, "line", fail)
        with pytest.raises(aiohttp.ClientError):
            async with asyncio.timeout(10):
                await Client(api, session).call(
                    "POST",
                    "events:batch",
                    key=api.secret,
                    data=json.dumps(grant()),
                    headers={"Content-Type": "application/x-ndjson"},
                )
    assert "unexpected" in caplog.text
    assert "half way" not in caplog.text


async def test_nothing_of_a_visitor_or_a_peer_is_logged(
    client: Client, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    event = grant()
    await client.post(event)
    await client.post({**event, "language": "ru"})
    await client.post(grant(visitor=event["visitor"] + "!"))
    await client.call("GET", f"consent?visitor={event['visitor']}", key=client.api.publishable)
    await exchange(connect, BROKEN[0][1])
    await exchange(connect, BROKEN[-1][1])
    logged = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("ledger", "aiohttp"))
    )
    assert event["visitor"] not in logged
    assert event["id"] not in logged
    assert "127.0.0.1" not in logged
    metrics = (await client.call("GET", "/metrics")).body.decode()
    assert event["visitor"] not in metrics
    assert event["id"] not in metrics
