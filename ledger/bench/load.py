"""The load generator: a process of its own that keeps every connection busy and does as little as it can beside.

It reads one job per line on standard input and writes what it measured, a line each, to standard output. Answers are
not parsed beyond their framing and status; one of them goes back as a sample, for the caller to look at.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import cast

import msgspec

from ledger.bench.workload import EXPECTED_STATUS, POSTING, Job, Measured, requests
from ledger.percentile import percentile

CONNECT_TIMEOUT_SECONDS = 10.0
LAST_ANSWERS_SECONDS = 30.0


class _Recorder:
    """Answers that came within the measured time."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.latencies: list[float] = []
        self.unexpected: Counter[str] = Counter()
        self.sample = b""
        self.measuring = False
        self.sending = True

    def answered(self, status: int, seconds: float, body: bytes) -> None:
        if status != self.expected:
            self.unexpected[str(status)] += 1
            self.sample = body
        elif self.measuring:
            self.latencies.append(seconds)
            if not self.sample:
                self.sample = body


class _Connection(asyncio.Protocol):
    """One client: sends a request, waits for the whole answer, sends the next."""

    def __init__(self, next_request: Callable[[], bytes], recorder: _Recorder, ended: asyncio.Future[None]) -> None:
        self._next_request = next_request
        self._recorder = recorder
        self.ended = ended
        self._received = bytearray()
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        if not self._recorder.sending:
            self._transport.close()
            return
        request = self._next_request()
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        answer = split_answer(self._received)
        if answer is not None:
            status, body = answer
            self._recorder.answered(status, time.perf_counter() - self._sent_at, body)
            self._received.clear()
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._recorder.sending:
            self._recorder.unexpected["connection lost"] += 1
        if not self.ended.done():
            self.ended.set_result(None)


def split_answer(received: bytearray) -> tuple[int, bytes] | None:
    """Status and body of one complete answer, None while it is not complete. Chunked bodies keep their framing."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end]).lower()
    status = int(head[9:12])
    at = head.find(b"content-length:")
    if at < 0:
        whole = received.endswith(b"\r\n0\r\n\r\n")
        return (status, bytes(received[end + 4 :])) if whole else None
    line_end = head.find(b"\r", at)
    size = int(head[at + 15 : line_end if line_end >= 0 else None])
    return (status, bytes(received[end + 4 :])) if len(received) >= end + 4 + size else None


def _itself(connection: _Connection) -> _Connection:
    return connection


async def measure(job: Job) -> Measured:
    """Do one job. `OSError` or `TimeoutError` if the server cannot be reached."""
    loop = asyncio.get_running_loop()
    numbers = itertools.count(job.first if job.call in POSTING else 0)
    next_request = requests(job, numbers)
    recorder = _Recorder(EXPECTED_STATUS[job.call])
    connections: list[_Connection] = []
    for _ in range(job.connections):
        connection = _Connection(next_request, recorder, loop.create_future())
        connections.append(connection)
        connecting = loop.create_connection(partial(_itself, connection), job.host, job.port)
        await asyncio.wait_for(connecting, CONNECT_TIMEOUT_SECONDS)
    await asyncio.sleep(job.warm_up_seconds)
    recorder.measuring, started = True, time.perf_counter()
    await asyncio.sleep(job.seconds)
    recorder.measuring, seconds = False, time.perf_counter() - started
    recorder.sending = False
    await asyncio.wait([connection.ended for connection in connections], timeout=LAST_ANSWERS_SECONDS)
    return Measured(
        answers=len(recorder.latencies),
        items=len(recorder.latencies) * job.items,
        seconds=seconds,
        p50_ms=percentile(recorder.latencies, 0.50) * 1000,
        p99_ms=percentile(recorder.latencies, 0.99) * 1000,
        unexpected=dict(recorder.unexpected),
        next_number=next(numbers),
        sample=recorder.sample.decode("utf-8", errors="replace"),
    )


def main() -> None:
    """Jobs until standard input ends."""
    try:
        import uvloop  # noqa: PLC0415 - where it exists
    except ImportError:
        factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    else:
        factory = uvloop.new_event_loop
    gc.disable()
    for line in sys.stdin.buffer:
        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                measured = runner.run(measure(msgspec.json.decode(line, type=Job)))
        except (OSError, TimeoutError) as error:
            sys.exit(f"the server cannot be reached: {error}")
        sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")
        sys.stdout.buffer.flush()
        gc.collect()


if __name__ == "__main__":
    main()
