"""What tests of the relay share: a nats-server to break, a running relay, and an independent reader of the stream."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import nats as nats_py
import nats.js.errors
from nats.aio.client import Client

from ledger.core.encoding import encode_time
from ledger.core.entry import Kind, decode
from ledger.core.merkle import leaf_hash
from ledger.core.sealing import Master
from ledger.embedded.nats import Nats
from ledger.embedded.ports import free_port
from ledger.relay import Relay, SiteStatus
from ledger.store.append import Head
from ledger.store.reads import Reads
from ledger.vault import Vaults
from tests.conftest import Database
from tests.fault.writer import Writer
from tests.founding import MASTER, ORIGIN, SITE, Founded
from tests.openings import opened

STREAM = "consent-v1-shop_example_com"
PREFIX = "consent.v1.shop_example_com"


class Broker:
    """A nats-server of the test's own, to be stopped, killed and put back."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        self._server = Nats(
            data=self.store,
            port=free_port(),
            password=secrets.token_hex(8),
            config=directory / "nats.conf",
            log=directory / "nats.log",
            run_dir=directory / "run",
        )

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port

    async def start(self) -> None:
        await self._server.start()
        await self._server.ready()

    async def stop(self) -> None:
        await self._server.stop()

    async def kill(self) -> None:
        assert self._server.child is not None
        self._server.child.send(signal.SIGKILL)
        assert await self._server.child.wait(5) is not None

    def freeze(self, number: signal.Signals) -> None:
        assert self._server.child is not None
        self._server.child.send(number)

    def holds(self, data: bytes) -> bool:
        """Whether these bytes lie anywhere in the store's files."""
        return any(data in path.read_bytes() for path in self.store.rglob("*") if path.is_file())


@contextlib.asynccontextmanager
async def relaying(
    pool: asyncpg.Pool, broker: Broker, masters: Sequence[Master] = (MASTER,), **options: int
) -> AsyncIterator[Relay]:
    relay = Relay(pool, Vaults(pool, masters), broker.url, **options)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        assert not task.done(), task.exception()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not relay.status.connected


@contextlib.asynccontextmanager
async def client_of(broker: Broker) -> AsyncIterator[Client]:
    client = await nats_py.connect(broker.url, allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


async def until(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.02)


def status_of(relay: Relay) -> SiteStatus | None:
    """Of the one site; None before the relay knows it."""
    return next(iter(relay.status.sites), None)


def now(relay: Relay) -> SiteStatus:
    status = status_of(relay)
    assert status is not None
    return status


async def until_status(relay: Relay, what: Callable[[SiteStatus], bool], seconds: float = 20) -> None:
    await until(lambda: (status := status_of(relay)) is not None and what(status), seconds)


async def caught_up(relay: Relay, writer: Writer, seconds: float = 30) -> None:
    await until_status(relay, lambda s: s.state == "following" and s.stream_seq == writer.last, seconds)


@dataclass
class Copy:
    """The stream as an independent reader finds it: where it is, and its holes and tombstones by seq."""

    created: str
    first: int
    last: int
    holes: set[int] = field(default_factory=set)
    tombstones: set[int] = field(default_factory=set)


async def check_copy(broker: Broker, pool: asyncpg.Pool, writer: Writer, first: int = 1) -> Copy:
    """Every message by raw requests: the ledger's entry, payload and salt at the ledger's seq, from `first` on."""
    rows = await pool.fetch(
        """select e.seq, e.entry, o.sealed, r.by_seq, d.body
             from ledger.entry e left join ledger.opening o using (site_id, seq)
             left join ledger.erased r using (site_id, seq)
             left join ledger.policy p using (site_id, seq) left join ledger.document d on d.hash = p.document
            where e.site_id = $1 order by e.seq""",
        writer.site_id,
    )
    rows = [opened(writer.vault, row) for row in rows]
    async with client_of(broker) as client:
        js = client.jetstream()
        info = json.loads((await client.request(f"$JS.API.STREAM.INFO.{STREAM}", b"", timeout=5)).data)
        copy = Copy(info["created"], info["state"]["first_seq"], info["state"]["last_seq"])
        assert copy.last == writer.last == rows[-1]["seq"]
        assert copy.first >= first
        for row in rows[max(first, 1) :]:
            seq = row["seq"]
            try:
                message = await js.get_msg(STREAM, seq)
            except nats.js.errors.NotFoundError:
                assert row["by_seq"] is not None, f"message {seq} is missing"
                copy.holes.add(seq)
                continue
            headers = message.headers
            assert headers is not None
            entry = decode(row["entry"])
            assert base64.b64decode(headers["ce-entry"]) == row["entry"]
            assert headers["ce-sequence"] == f"{seq:020d}"
            assert headers["ce-id"] == f"{SITE}:{seq}"
            assert headers["ce-source"] == ORIGIN
            assert headers["ce-time"] == encode_time(entry.ms)
            assert headers["ce-specversion"] == "1.0"
            assert message.subject == f"{PREFIX}.{headers['ce-type'].removeprefix('consent.')}"
            assert not any(name.startswith("Nats-Msg-Id") for name in headers)
            if row["by_seq"] is not None:
                assert (message.data or b"", headers["ce-type"]) == (b"", "consent.erased")
                assert "ce-salt" not in headers
                copy.tombstones.add(seq)
            elif entry.kind in (Kind.EVENT, Kind.ERASURE):
                assert message.data == row["payload"]
                assert base64.b64decode(headers["ce-salt"]) == row["salt"]
                assert headers["ce-type"] in ("consent.refused", "consent.erasure")
            elif entry.kind == Kind.POLICY:
                assert message.data == row["body"]
            else:
                assert message.data == row["entry"]
    return copy


async def api(broker: Broker, subject: str, body: object = None) -> Any:
    """The answer of JetStream's API to one request."""
    async with client_of(broker) as client:
        answer = await client.request(f"$JS.API.{subject}", json.dumps(body or {}).encode(), timeout=5)
        reply = json.loads(answer.data)
        assert "error" not in reply, reply
        return reply


@dataclass(frozen=True)
class Stored:
    subject: str
    headers: dict[str, str]
    data: bytes


async def messages_of(broker: Broker) -> dict[int, Stored]:
    """Every message of the stream by its sequence."""
    messages: dict[int, Stored] = {}
    async with client_of(broker) as client:
        js = client.jetstream()
        state = (await js.stream_info(STREAM)).state
        for seq in range(state.first_seq, state.last_seq + 1):
            with contextlib.suppress(nats.js.errors.NotFoundError):
                message = await js.get_msg(STREAM, seq)
                headers = {name: value for name, value in (message.headers or {}).items() if name.startswith("ce-")}
                messages[seq] = Stored(message.subject or "", headers, message.data or b"")
    return messages


async def replace_stream(broker: Broker, messages: dict[int, Stored]) -> None:
    """Another stream of the same configuration with these messages at these sequences, as a forger would make it."""
    configuration = (await api(broker, f"STREAM.INFO.{STREAM}"))["config"]
    await api(broker, f"STREAM.DELETE.{STREAM}")
    await api(broker, f"STREAM.CREATE.{STREAM}", configuration)
    async with client_of(broker) as client:
        js = client.jetstream()
        for seq in range(1, max(messages) + 1):
            stored = messages.get(seq, Stored(f"{PREFIX}.given", {}, b""))
            acknowledged = await js.publish(stored.subject, stored.data, headers=dict(stored.headers))
            assert acknowledged.seq == seq
    for seq in set(range(1, max(messages))) - set(messages):
        await api(broker, f"STREAM.MSG.DELETE.{STREAM}", {"seq": seq})


async def lose_tail(database: Database, last: int) -> None:
    """What a failover that lost commits leaves: nothing behind `last`."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        async with connection.transaction():
            await connection.execute("set local event_triggers = off")
            for table in ("entry", "opening", "known", "erased", "policy"):
                await connection.execute(f"alter table ledger.{table} disable trigger all")
                await connection.execute(f"delete from ledger.{table} where seq > $1", last)
    finally:
        await connection.close()


async def resumed(pool: asyncpg.Pool, founded: Founded, database: Database) -> Writer:
    """A writer of a process that sees the log as it is now."""
    head = await Reads(pool).head(founded.site_id)
    assert head.entry is not None
    return Writer(pool, founded._replace(head=Head(head.size, leaf_hash(head.entry))))
