"""Batches: one result a line and in order, whatever the lines are and however the body comes."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.config import Settings
from ledger.core.errors import Unavailable
from ledger.http.bulk import LineSplitter
from ledger.http.limits import DEFAULT_LIMITS
from ledger.sequencer import Lane
from ledger.service import Entered, Recording, Service
from tests.contract.conftest import Answer, Client, grant, refusal, running_api
from tests.contract.test_events import assert_problem

NDJSON = {"Content-Type": "application/x-ndjson"}


def lines_of(*events: Any) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


async def batch(client: Client, body: Any, *, key: str | None = None) -> Answer:
    return await client.call("POST", "events:batch", key=key or client.api.scoped["events"], data=body, headers=NDJSON)


def results(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.body.endswith(b"\n") or not answer.body
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_every_line_has_its_result_in_order(client: Client) -> None:
    events = [grant() for _ in range(1_500)]
    told = results(await batch(client, lines_of(*events)))
    assert [result["line"] for result in told] == list(range(1, 1_501))
    assert {result["status"] for result in told} == {201}
    assert [result["receipt"]["id"] for result in told] == [event["id"] for event in events]
    assert len({result["receipt"]["seq"] for result in told}) == 1_500


async def test_bad_lines_never_stop_the_good_ones(client: Client) -> None:
    known = grant()
    await client.post(known)
    body = b"\n".join(
        (
            json.dumps(grant()).encode(),
            b"",
            b"not json",
            b" \t\r",
            json.dumps(known).encode(),
            json.dumps({**known, "language": "ru"}).encode(),
            b'{"x":"' + b"x" * 20_000 + b'"}',
            json.dumps(grant(decisions={"analytics": "granted", "marketing": "denied", "no_such": "granted"})).encode(),
            b"[" * 16_000,
            json.dumps(grant(visitor="short")).encode(),
            json.dumps(refusal()).encode(),
        )
    )
    told = {result["line"]: result for result in results(await batch(client, body))}
    assert {line: result["status"] for line, result in told.items()} == {
        1: 201, 3: 400, 5: 200, 6: 409, 7: 413, 8: 422, 9: 400, 10: 422, 11: 201,
    }  # fmt: skip
    assert told[5]["replayed"] is True
    assert told[7]["problem"]["type"].endswith(":line-too-large")
    assert told[8]["problem"]["recorded"]["seq"] > 0
    assert told[10]["problem"]["pointer"] == "/visitor"


async def test_the_same_event_twice_in_a_batch_is_recorded_once(client: Client) -> None:
    event = grant()
    told = results(await batch(client, lines_of(event, event, {**event, "language": "ru"})))
    assert [result["status"] for result in told] == [201, 200, 409]
    assert told[0]["receipt"] == told[1]["receipt"]


async def test_lines_are_recorded_in_their_order_though_one_needs_to_be_looked_up(client: Client) -> None:
    """Two acts of one visitor without client times: their order in the log decides, and so does that of one id."""
    for _ in range(10):
        refused = refusal(policyVersion=uuid.uuid4().hex)  # no version, and so looked for in the database
        given = grant(visitor=refused["visitor"])
        for event in (refused, given):
            event.pop("occurredAt", None)
            event.pop("sentAt", None)
        again = refusal(id=refused["id"], visitor=refused["visitor"])
        told = results(await batch(client, lines_of(refused, given, again)))
        assert [result["status"] for result in told] == [201, 201, 409]
        assert told[0]["receipt"]["seq"] < told[1]["receipt"]["seq"]


async def test_an_empty_batch_has_no_results(client: Client) -> None:
    assert results(await batch(client, b"")) == []
    assert results(await batch(client, b"\n\n \n")) == []


async def test_results_come_while_the_body_is_still_being_sent(client: Client) -> None:
    answered = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield lines_of(grant())
        await asyncio.wait_for(answered.wait(), 10)
        yield lines_of(grant())

    headers = {**NDJSON, "Authorization": f"Bearer {client.api.secret}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(client.api.site_url("events:batch"), data=body(), headers=headers) as response,
    ):
        first = json.loads(await asyncio.wait_for(response.content.readline(), 10))
        assert (first["line"], first["status"]) == (1, 201)
        answered.set()
        assert json.loads(await response.content.readline())["line"] == 2
        assert await response.content.read() == b""


async def test_a_batch_beyond_its_lines_ends_with_a_refusal(client: Client) -> None:
    told = results(await batch(client, b"\n" * 10_000 + lines_of(grant())))
    assert [(result["line"], result["status"]) for result in told] == [(10_001, 413)]
    assert told[0]["problem"]["type"].endswith(":too-many-lines")


async def test_a_batch_beyond_its_bytes_is_refused_by_its_length(client: Client) -> None:
    answer = await client.call(
        "POST",
        "events:batch",
        key=client.api.secret,
        data=b"x",
        headers={**NDJSON, "Content-Length": str(8 * 1024 * 1024 + 1)},
    )
    assert_problem(answer, 413, "body-too-large")


async def test_a_batch_of_unknown_length_is_bounded_by_count(client: Client) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield lines_of(grant())
        for _ in range(9 * 16):
            yield b" " * 65_536

    told = results(await batch(client, body()))
    assert (told[0]["line"], told[0]["status"]) == (1, 201)
    assert told[-1]["status"] == 413


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "multipart/form-data; boundary=x"])
async def test_a_batch_is_ndjson(client: Client, media_type: str) -> None:
    answer = await client.call(
        "POST", "events:batch", key=client.api.secret, data=b"{}", headers={"Content-Type": media_type}
    )
    assert_problem(answer, 415, "unsupported-media-type")


async def test_what_was_read_before_the_client_left_is_recorded(settings: Settings) -> None:
    events = [grant() for _ in range(20)]
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()

    class Slow(Service):
        def __init__(self, service: Service) -> None:
            self.__dict__.update(service.__dict__)

        async def finish(self, *arguments: Any, **named: Any) -> Recording:
            begun.release()
            await go_on.wait()
            return await super().finish(*arguments, **named)

    async with running_api(settings, wrap=Slow) as api, aiohttp.ClientSession() as session:
        _, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
        writer.write(
            b"POST /v1/sites/weco.nexaxt.com/events:batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
            b"Authorization: Bearer " + api.secret.encode() + b"\r\nContent-Length: 1000000\r\n\r\n"
        )
        writer.write(lines_of(*events) + b'{"type":"consent.gi')
        for _ in events:
            await asyncio.wait_for(begun.acquire(), 10)
        writer.transport.abort()
        await asyncio.sleep(0.2)
        go_on.set()
        client = Client(api, session)
        for event in events:
            answer = await client.call("GET", f"receipts/{event['id']}", key=api.secret)
            for _ in range(200):
                if answer.status == 200:
                    break
                await asyncio.sleep(0.02)
                answer = await client.call("GET", f"receipts/{event['id']}", key=api.secret)
            assert answer.status == 200


class _Full(Service):
    """A service whose bulk lane is full for every second event, and which fails on every fifth."""

    def __init__(self, service: Service) -> None:
        self.__dict__.update(service.__dict__)
        self._asked = 0

    async def enter(self, *arguments: Any, **named: Any) -> Entered | Recording:
        assert Lane.BULK in arguments
        self._asked += 1
        if self._asked % 5 == 0:
            raise RuntimeError("visitor 0123456789")
        if self._asked % 2 == 0:
            raise Unavailable("overloaded", "More events arrive than can be written.")
        return await super().enter(*arguments, **named)


async def test_lines_that_cannot_be_taken_now_are_told_so(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async with running_api(settings, wrap=_Full) as api, aiohttp.ClientSession() as session:
        told = results(await batch(Client(api, session), lines_of(*(grant() for _ in range(10)))))
    assert [result["status"] for result in told] == [201, 503, 201, 503, 500, 503, 201, 503, 201, 500]
    assert told[1]["problem"]["type"].endswith(":overloaded")
    assert "RuntimeError" in caplog.text
    assert "0123456789" not in caplog.text + str(told[4])


async def test_a_body_that_comes_too_slowly_ends_with_a_refusal(settings: Settings) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield lines_of(grant())
        await asyncio.sleep(5)

    limits = replace(DEFAULT_LIMITS, body_read_timeout_seconds=0.3, linger_seconds=0.1)
    async with running_api(settings, limits=limits) as api, aiohttp.ClientSession() as session:
        told = results(await batch(Client(api, session), body()))
    assert [(result["line"], result["status"]) for result in told] == [(1, 201), (2, 408)]


async def test_the_body_is_read_only_as_fast_as_it_commits(settings: Settings) -> None:
    held = asyncio.Event()
    started = 0

    class Slow(Service):
        def __init__(self, service: Service) -> None:
            self.__dict__.update(service.__dict__)

        async def finish(self, *arguments: Any, **named: Any) -> Recording:
            nonlocal started
            started += 1
            await held.wait()
            return await super().finish(*arguments, **named)

    limits = replace(DEFAULT_LIMITS, batch_window_lines=8)
    async with running_api(settings, limits=limits, wrap=Slow) as api, aiohttp.ClientSession() as session:
        async with asyncio.TaskGroup() as group:
            posting = group.create_task(batch(Client(api, session), lines_of(*(grant() for _ in range(100)))))
            await asyncio.sleep(0.5)
            assert 8 <= started <= 10
            held.set()
        assert len(results(posting.result())) == 100


@given(
    st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"x")), max_size=12),
    st.lists(st.integers(0, 60), max_size=6),
    st.booleans(),
)
def test_lines_are_cut_the_same_however_the_bytes_come(lines: list[bytes], cuts: list[int], ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    splitter = LineSplitter(8)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    got = [line for start, end in itertools.pairwise(places) for line in splitter.feed(data[start:end])]
    got += splitter.end()
    expected = [line if len(line) <= 8 else None for line in data.split(b"\n")]
    if expected[-1] == b"":
        expected.pop()
    assert got == expected


def test_a_line_that_is_too_long_is_not_kept() -> None:
    splitter = LineSplitter(10)
    for _ in range(1_000):
        assert splitter.feed(b"x" * 1_000) == []
    assert splitter.feed(b"\nshort\n") == [None, b"short"]
    assert splitter.end() == []
