"""NATS JetStream as the relay needs it: a connection, the stream API as typed calls, and atomic batches (ADR-50).

A connection that fails is closed for good and the caller opens another one: nothing is buffered for a later server,
so no half of a batch is ever replayed, and every change of server is seen. Each call has a deadline.
It knows nothing of consent: what a stream should hold is core/stream, what to do about it is the relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from secrets import token_hex
from typing import TypeVar

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

from ledger.config import NATS_CONNECT_TIMEOUT_SECONDS, NATS_MIN_PAYLOAD_BYTES, NATS_REQUEST_TIMEOUT_SECONDS
from ledger.core.stream import Message

WRONG_LAST_SEQUENCE = 10071
STREAM_NOT_FOUND = 10059
STREAM_NAME_IN_USE = 10058
SUBJECTS_OVERLAP = 10065
MESSAGE_NOT_FOUND = 10037
_DELETE_NOT_FOUND = (10043, 10057)

_MINIMUM_SERVER = (2, 12)
_NANOSECONDS = 1_000_000_000
_PING_SECONDS = 10
_PENDING_MAX_BYTES = 64 * 1024 * 1024
"""Above any batch: nats-py waits without a deadline, and swallows cancellation, once its buffer is full."""
_SLOWEST_BYTES_PER_SECOND = 1024 * 1024
_DUPLICATE_WINDOW = _NANOSECONDS // 10

_log = logging.getLogger(__name__)


class BusError(Exception):
    """A call that did not do its work, or whose answer is missing: read the stream to know. `slug` is stable."""

    slug = "nats"


class Disconnected(BusError):
    """No connection, or none any more."""

    slug = "nats-disconnected"


class TimedOut(BusError):
    """No answer in time, or none that can be read."""

    slug = "nats-timeout"


class NoJetStream(BusError):
    """The server is there and JetStream is not: switched off, without a leader, or starting."""

    slug = "jetstream-unavailable"


class Refused(BusError):
    """JetStream's error answer; `code` is its `err_code`."""

    def __init__(self, code: int, description: str) -> None:
        self.code = code
        self.slug = f"nats-refused-{code}"
        super().__init__(f"{code}: {description}")


class StreamConfig(Struct, frozen=True):
    """What the relay decides about a stream. The rest (placement, replicas after creation) is the operator's."""

    name: str
    subjects: list[str]
    description: str = ""
    max_age: int = 0
    """Nanoseconds."""
    retention: str = "limits"
    storage: str = "file"
    discard: str = "old"
    max_msgs: int = -1
    max_bytes: int = -1
    max_msgs_per_subject: int = -1
    max_msg_size: int = -1
    duplicate_window: int = _DUPLICATE_WINDOW
    allow_atomic: bool = True
    allow_direct: bool = True
    allow_rollup_hdrs: bool = False
    deny_delete: bool = False
    deny_purge: bool = False
    sealed: bool = False


class StreamState(Struct, frozen=True):
    messages: int
    first_seq: int
    last_seq: int
    num_deleted: int = 0
    subjects: dict[str, int] = {}


class StreamInfo(Struct, frozen=True):
    """One moment of a stream. `config` stays as the server wrote it; `created` tells one stream from its successor."""

    config: msgspec.Raw
    created: str
    state: StreamState

    def is_configured(self, config: StreamConfig) -> bool:
        return msgspec.json.decode(self.config, type=StreamConfig) == config


class StoredMessage(Struct, frozen=True):
    """A message as the stream holds it."""

    subject: str
    seq: int
    data: bytes = b""
    hdrs: bytes = b""

    def header(self, name: str) -> str | None:
        prefix = name.lower().encode() + b":"
        for line in self.hdrs.split(b"\r\n")[1:]:
            if line[: len(prefix)].lower() == prefix:
                return line[len(prefix) :].strip().decode("utf-8", "replace")
        return None


class _Error(Struct, frozen=True):
    code: int
    err_code: int = 0
    description: str = ""


class _Answer(Struct, frozen=True):
    error: _Error | None = None


class _Got(Struct, frozen=True):
    message: StoredMessage


class _Published(Struct, frozen=True):
    seq: int
    count: int = 1


_T = TypeVar("_T")


def stream_config(name: str, subjects: str, description: str, max_age_seconds: float) -> StreamConfig:
    return StreamConfig(name, [subjects], description, int(max_age_seconds * _NANOSECONDS))


class Bus:
    """One connection to one server. `closed` is set when it is gone; `server_id` and `max_payload` are the server's."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.server_id = ""
        self.max_payload = 0
        self._client = Client()
        self._inbox = ""
        self._calls = 0
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    @classmethod
    async def connect(cls, url: str, timeout_seconds: float = NATS_CONNECT_TIMEOUT_SECONDS) -> Bus:
        """Connect to one of the comma-separated servers; `Disconnected` if none answers in time, or is too old."""
        bus = cls()
        try:
            async with asyncio.timeout(timeout_seconds):
                await bus._open(url)
        except (TimeoutError, OSError, ValueError, nats.errors.Error) as error:
            await bus.close()
            raise Disconnected(f"no connection to NATS: {type(error).__name__}") from error
        except BaseException:
            await bus.close()
            raise
        return bus

    async def _open(self, url: str) -> None:
        await self._client.connect(
            [server.strip() for server in url.split(",")],
            name="consent-ledger relay",
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=max(1, round(NATS_CONNECT_TIMEOUT_SECONDS)),
            ping_interval=_PING_SECONDS,
            max_outstanding_pings=2,
            pending_size=_PENDING_MAX_BYTES,
            error_cb=_note_error,
            closed_cb=self._lost,
            disconnected_cb=self._lost,
        )
        self.server_id = self._client._server_info.get("server_id", "")
        self.max_payload = self._client.max_payload
        version = self._client.connected_server_version
        if (version.major, version.minor) < _MINIMUM_SERVER:
            raise Disconnected("the NATS server has no atomic batches: 2.12 or newer is needed")
        if self.max_payload < NATS_MIN_PAYLOAD_BYTES:
            raise Disconnected(f"the NATS server's max_payload is below {NATS_MIN_PAYLOAD_BYTES} bytes")
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*", cb=self._answered)

    async def close(self) -> None:
        """Close at once; what waits for an answer gets `Disconnected`."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(NATS_CONNECT_TIMEOUT_SECONDS):
                await self._client.close()
        await self._lost()

    async def _lost(self) -> None:
        self.closed.set()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(Disconnected("the connection to NATS was lost"))

    async def _answered(self, answer: Msg) -> None:
        waiter = self._waiting.get(answer.subject.rpartition(".")[2])
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    async def _request(
        self, requests: Sequence[Message], timeout_seconds: float = NATS_REQUEST_TIMEOUT_SECONDS
    ) -> bytes:
        """Publish messages in order, the last of them with a reply subject, and give the body of the answer."""
        self._calls += 1
        token = str(self._calls)
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[token] = waiter
        try:
            if self.closed.is_set():
                raise Disconnected("the connection to NATS was lost")
            for request in requests[:-1]:
                await self._client.publish(request.subject, request.data, headers=dict(request.headers))
            last = requests[-1]
            await self._client.publish(
                last.subject, last.data, f"{self._inbox}.{token}", dict(last.headers) if last.headers else None
            )
            async with asyncio.timeout(timeout_seconds):
                answer = await waiter
        except TimeoutError as error:
            await self._check_alive()
            raise TimedOut(f"no answer within {timeout_seconds:.1f} s") from error
        except (nats.errors.Error, OSError) as error:
            raise Disconnected(f"sending failed: {type(error).__name__}") from error
        finally:
            del self._waiting[token]
            if not waiter.cancel() and not waiter.cancelled():
                waiter.exception()  # retrieved, so that a loss nobody waits for is not reported as forgotten
        if answer.headers and answer.headers.get("Status") == "503":
            raise NoJetStream("JetStream is not there to answer")
        data: bytes = answer.data
        return data

    async def _check_alive(self) -> None:
        """A server that does not even answer a ping is left: a fresh connection may find another one."""
        try:
            await self._client.flush(timeout=max(1, round(NATS_CONNECT_TIMEOUT_SECONDS)))
        except (nats.errors.Error, OSError):
            await self.close()

    async def _api(self, subject: str, body: object, answer: type[_T]) -> _T:
        data = await self._request([Message(f"$JS.API.{subject}", (), msgspec.json.encode(body))])
        return _decode(data, answer)

    async def stream_info(self, name: str, counted: str) -> StreamInfo | None:
        """The stream, with the number of messages on the subject `counted`; None if there is no such stream."""
        try:
            return await self._api(f"STREAM.INFO.{name}", {"subjects_filter": counted}, StreamInfo)
        except Refused as refusal:
            if refusal.code == STREAM_NOT_FOUND:
                return None
            raise

    async def create_stream(self, config: StreamConfig, first_seq: int, replicas: int) -> None:
        """Create it, its first message to come at `first_seq`; nothing happens if it is there just so."""
        body = msgspec.to_builtins(config) | {"first_seq": first_seq, "num_replicas": replicas}
        await self._api(f"STREAM.CREATE.{config.name}", body, _Answer)

    async def update_stream(self, info: StreamInfo, config: StreamConfig) -> None:
        """Put the relay's part of the configuration right and leave the rest as it is."""
        body = msgspec.json.decode(info.config) | msgspec.to_builtins(config)
        await self._api(f"STREAM.UPDATE.{config.name}", body, _Answer)

    async def delete_stream(self, name: str) -> None:
        with _ignoring(STREAM_NOT_FOUND):
            await self._api(f"STREAM.DELETE.{name}", {}, _Answer)

    async def message(self, name: str, seq: int) -> StoredMessage | None:
        """The message at a sequence, read from the stream's leader; None if there is none."""
        return await self._get(name, {"seq": seq})

    async def last_message(self, name: str, subjects: str) -> StoredMessage | None:
        return await self._get(name, {"last_by_subj": subjects})

    async def _get(self, name: str, query: dict[str, int | str]) -> StoredMessage | None:
        try:
            return (await self._api(f"STREAM.MSG.GET.{name}", query, _Got)).message
        except Refused as refusal:
            if refusal.code == MESSAGE_NOT_FOUND:
                return None
            raise

    async def delete_message(self, name: str, seq: int) -> None:
        """Delete it and overwrite its bytes in the store. Deleting what is gone is no error."""
        with _ignoring(*_DELETE_NOT_FOUND):
            await self._api(f"STREAM.MSG.DELETE.{name}", {"seq": seq}, _Answer)

    async def publish(self, messages: Sequence[Message], expected_last: int) -> int:
        """Publish all or none right after `expected_last`; the last message's sequence.

        `Refused` with WRONG_LAST_SEQUENCE: somebody else published. Without an answer they may be in the stream.
        """
        batch = token_hex(16)
        marked = []
        for number, message in enumerate(messages, 1):
            extra = [("Nats-Batch-Id", batch), ("Nats-Batch-Sequence", str(number))]
            if number == 1:
                extra.append(("Nats-Expected-Last-Sequence", str(expected_last)))
            if number == len(messages):
                extra.append(("Nats-Batch-Commit", "1"))
            marked.append(message._replace(headers=(*message.headers, *extra)))
        seconds = NATS_REQUEST_TIMEOUT_SECONDS + sum(len(m.data) for m in messages) / _SLOWEST_BYTES_PER_SECOND
        published = _decode(await self._request(marked, seconds), _Published)
        if published.seq != expected_last + len(messages):
            raise Refused(WRONG_LAST_SEQUENCE, f"published up to {published.seq}")
        return published.seq

    async def put(self, subject: str, data: bytes, expected: int) -> int:
        """Publish one message where the last one of its subject has the sequence `expected` (0: there is none yet).

        `Refused` with WRONG_LAST_SEQUENCE: somebody else was first. Without an answer it may be in the stream.
        """
        headers = (("Nats-Expected-Last-Subject-Sequence", str(expected)),)
        return _decode(await self._request([Message(subject, headers, data)]), _Published).seq


def _decode(data: bytes, answer: type[_T]) -> _T:
    try:
        error = msgspec.json.decode(data, type=_Answer).error
        if error is not None:
            raise Refused(error.err_code, error.description)
        return msgspec.json.decode(data, type=answer)
    except msgspec.DecodeError as failure:
        raise TimedOut("JetStream's answer is not what its API promises") from failure


@contextlib.contextmanager
def _ignoring(*codes: int) -> Iterator[None]:
    try:
        yield
    except Refused as refusal:
        if refusal.code not in codes:
            raise


async def _note_error(error: Exception) -> None:
    _log.debug("nats: %s", type(error).__name__)
