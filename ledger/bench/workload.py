"""The requests of the benchmark as ready-made HTTP/1.1 bytes: numbered, so that each event and visitor is a new one.

Building one costs about a microsecond: the load generator shares the machine with what it measures.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from ledger.core.encoding import encode_time

Call = Literal["event", "proven", "batch", "read", "check"]


class Job(msgspec.Struct, frozen=True):
    """One measurement: `connections` clients, each with one request in flight, for `seconds` after `warm_up_seconds`.

    Events and visitors are numbered from `first`; reads and checks ask about the visitors below it. `items` is how
    many events a batch has, or visitors a check.
    """

    call: Call
    host: str
    port: int
    site: str
    key: str
    version: str
    purposes: tuple[str, ...]
    run: str  # 8 hex digits: tells the ids of one run from another's
    now_ms: int
    first: int
    connections: int
    seconds: float
    warm_up_seconds: float = 0.5
    items: int = 1


class Measured(msgspec.Struct, frozen=True):
    """What came of a job. `unexpected` counts answers of another status than the call's; `sample` is one body."""

    answers: int
    items: int
    seconds: float
    p50_ms: float
    p99_ms: float
    unexpected: dict[str, int]
    next_number: int
    sample: str

    @property
    def rate(self) -> float:
        """Items (events, reads or visitors) a second."""
        return self.items / self.seconds


POSTING = frozenset({"event", "proven", "batch"})
"""Calls that take numbers which no event had before."""
EXPECTED_STATUS = {"event": 201, "proven": 201, "batch": 200, "read": 200, "check": 200}


def new_run() -> tuple[str, int]:
    """`run` and `now_ms` of a benchmark that begins now."""
    return secrets.token_hex(4), time.time_ns() // 1_000_000


def requests(job: Job, numbers: Iterator[int]) -> Callable[[], bytes]:
    """The next request of a job, whoever asks."""
    build = {"event": _events, "proven": _proven_events, "batch": _batches, "read": _reads, "check": _checks}[job.call]
    return build(job, numbers)


def visitor(job: Job, number: int) -> str:
    """The id of a numbered visitor, 24 characters."""
    return f"bench-{job.run}{number:010x}"


def _proven_events(job: Job, numbers: Iterator[int]) -> Callable[[], bytes]:
    """Answered when a checkpoint with its quorum covers the event."""
    return _events(job, numbers, "events?wait=checkpoint")


def _events(job: Job, numbers: Iterator[int], path: str = "events") -> Callable[[], bytes]:
    template = _event_template(job)
    size = len(template % (0, 0))
    head = _head(job, "POST", path, size)
    return lambda: head + template % ((number := next(numbers)), number)


def _batches(job: Job, numbers: Iterator[int]) -> Callable[[], bytes]:
    template = _event_template(job) + b"\n"
    head = _head(job, "POST", "events:batch", len(template % (0, 0)) * job.items, "application/x-ndjson")

    def build() -> bytes:
        return head + b"".join([template % (n, n) for n in itertools.islice(numbers, job.items)])

    return build


def _reads(job: Job, numbers: Iterator[int]) -> Callable[[], bytes]:
    before, after = _head(job, "GET", "consent", None).split(b"\r\n", 1)
    template = before + b"\r\nConsent-Visitor: bench-" + job.run.encode() + b"%010x\r\n" + after
    return lambda: template % (next(numbers) * _STRIDE % job.first)


def _checks(job: Job, numbers: Iterator[int]) -> Callable[[], bytes]:
    def build() -> bytes:
        start = next(numbers) * job.items
        visitors = [visitor(job, n % job.first) for n in range(start, start + job.items)]
        body = msgspec.json.encode({"visitors": visitors, "purposes": job.purposes})
        return _head(job, "POST", "check", len(body)) + body

    return build


_STRIDE = 7_919
"""A prime: consecutive reads ask about visitors that lie apart."""


def _head(job: Job, method: str, path: str, size: int | None, media: str = "application/json") -> bytes:
    lines = [
        f"{method} /v1/sites/{job.site}/{path} HTTP/1.1",
        f"Host: {job.host}:{job.port}",
        f"Authorization: Bearer {job.key}",
    ]
    if size is not None:
        lines += [f"Content-Type: {media}", f"Content-Length: {size}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _event_template(job: Job) -> bytes:
    """A consent as banners send it, to be filled with two numbers; all of one length."""
    milliseconds = f"{job.now_ms:012x}"
    moment = encode_time(job.now_ms)
    event = {
        "id": f"{milliseconds[:8]}-{milliseconds[8:]}-7{job.run[:3]}-8{job.run[3:6]}-%012x",
        "type": "consent.given",
        "visitor": f"bench-{job.run}%010x",
        "decisions": {purpose: "denied" if n % 3 == 2 else "granted" for n, purpose in enumerate(job.purposes)},
        "action": "customize",
        "policyVersion": job.version,
        "language": "en",
        "occurredAt": moment,
        "sentAt": moment,
    }
    return msgspec.json.encode(event)
