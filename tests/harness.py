"""A whole ledger under test: real server processes, clients that keep every answer, and what must be true of the log.

Nothing here is timed; what is waited for has a generous deadline, after which the test fails.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg
import nats
import psutil

from ledger.config import Settings
from ledger.core import ed25519, keys
from ledger.core.admin_act import decode_logged
from ledger.core.encoding import encode_base64, encode_time
from ledger.core.entry import HAS_OPENING, Entry, Kind, commitment, core_bytes, decode, origin_hash
from ledger.core.merkle import leaf_hash
from ledger.core.stream import names
from ledger.embedded.ports import free_port
from ledger.embedded.postgres import Postgres
from ledger.embedded.server import Server
from ledger.provision import SiteCredentials, create_site
from ledger.secrets import new_event_id
from ledger.store.migrate import migrate
from ledger.vault import read_vault
from tests.openings import opened

DEADLINE_SECONDS = 120.0
PURPOSES = ("analytics", "marketing")

DOCUMENT = """
site: {site}
controller: {{name: A shop, email: dpo@{site}}}
languages: [en]
origins: [https://{site}]
policy: {{version: "{version}", effectiveAt: {effective}, url: https://{site}/cookies}}
regimes: {{default: opt-in}}
renewAfter: P12M
reaskAfter: {{refusal: P6M}}
purposes:
  necessary: {{required: true, title: {{en: Necessary}}, description: {{en: Nothing works without them.}}}}
  analytics: {{title: {{en: Analytics}}, description: {{en: Counts visits.}}}}
  marketing: {{title: {{en: Marketing}}, description: {{en: Shows advertisements.}}}}
"""


def document(site: str, version: str = "1.0", effective: str = "2026-01-01") -> bytes:
    """A small site document in YAML."""
    return DOCUMENT.format(site=site, version=version, effective=effective).encode()


def new_site_name() -> str:
    """One of a test's own, so that tests may share a NATS server."""
    return f"shop-{secrets.token_hex(6)}.example.com"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_visitor() -> str:
    return secrets.token_urlsafe(16)


def grant(**members: Any) -> dict[str, Any]:
    """A grant as a browser posts it; a member that is None is left out."""
    now = encode_time(now_ms())
    event = {
        "id": new_event_id(now_ms()),
        "type": "consent.given",
        "visitor": new_visitor(),
        "decisions": {"analytics": "granted", "marketing": "denied"},
        "action": "customize",
        "policyVersion": "1.0",
        "occurredAt": now,
        "sentAt": now,
        **members,
    }
    return {name: value for name, value in event.items() if value is not None}


def refusal(**members: Any) -> dict[str, Any]:
    """A refusal that cites nothing; a member that is None is left out."""
    event = {
        "id": new_event_id(now_ms()),
        "type": "consent.refused",
        "visitor": new_visitor(),
        "decisions": {"analytics": "denied", "marketing": "denied"},
        "action": "only_necessary",
        **members,
    }
    return {name: value for name, value in event.items() if value is not None}


async def until(what: Callable[[], Awaitable[bool]], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + seconds
    while not await what():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.05)


# --- servers ----------------------------------------------------------------------------------------------------------


async def own_postgres(directory: Path) -> Postgres:
    """A running, migrated cluster of the test's own, to be stopped, killed and put back. The caller stops it."""
    server = Postgres(
        directory / "postgres", free_port(), secrets.token_hex(8), directory / "postgres.log", directory / "run"
    )
    await server.initialise()
    await server.start()
    await migrate(server.url())
    connection = await asyncpg.connect(server.url())
    await connection.execute("create role shop login password 'shop' in role ledger_service")
    await connection.close()
    return server


def own_settings(server: Postgres, directory: Path, nats_url: str = "") -> Settings:
    """Of a server on a cluster of the test's own."""
    return Settings(
        database_url=server.url(user="shop", password="shop"),
        keys_dir=directory / "keys",
        master_secret=secrets.token_bytes(32),
        nats_url=nats_url,
        origin_prefix="ledger.test",
        port=free_port(),
    )


class Process:
    """A `serve` process with its worker, on a free port that it keeps. Use `async with`; it is ready inside."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = replace(settings, port=free_port())
        name = f"serve-{self.settings.port}"
        self._server = Server(self.settings, directory / f"{name}.log", directory / f"{name}.run")

    @property
    def url(self) -> str:
        return self._server.base_url

    @property
    def log(self) -> str:
        return self._server.log.read_text()

    async def start(self) -> None:
        await self._server.start()
        await self._server.ready()

    async def launch(self) -> None:
        """Start it where it cannot get ready: return once it answers at all."""
        await self._server.start()
        async with aiohttp.ClientSession() as session:

            async def answers() -> bool:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/healthz"):
                        return True
                return False

            await until(answers)

    async def kill(self) -> None:
        """SIGKILL to the HTTP process; its worker dies with it."""
        child = self._server.child
        assert child is not None
        tree = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
        child.send(signal.SIGKILL)
        assert await child.wait(DEADLINE_SECONDS) == -signal.SIGKILL
        _, alive = psutil.wait_procs(tree, timeout=DEADLINE_SECONDS)
        assert alive == []

    def send(self, number: signal.Signals) -> None:
        """To the HTTP process alone."""
        assert self._server.child is not None
        self._server.child.send(number)

    async def stop(self) -> None:
        await self._server.stop()

    async def restart(self, settings: Settings) -> None:
        """With other settings, at the same port."""
        await self._server.stop()
        self.settings = replace(settings, port=self.settings.port)
        self._server = Server(self.settings, self._server.log, self._server.run_dir)
        await self.start()

    async def __aenter__(self) -> Process:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


# --- clients ----------------------------------------------------------------------------------------------------------


class Reply(NamedTuple):
    """An answer of a server, read."""

    status: int
    headers: Any
    json: Any


class Browser:
    """Calls one site of one server with its keys."""

    def __init__(self, session: aiohttp.ClientSession, url: str, site: SiteCredentials) -> None:
        self._session, self._url, self.site = session, url, site

    async def call(self, method: str, path: str, body: Any = None, *, secret: bool = False, **headers: str) -> Reply:
        """`path` is a call of the site (`events`) or absolute (`/readyz`); `consent_visitor` becomes a header."""
        url = self._url + (path if path.startswith("/") else f"/v1/sites/{self.site.site}/{path}")
        key = self.site.secret if secret else self.site.publishable
        sent = {"Authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self._session.request(method, url, json=body, headers=sent) as response:
            text = await response.text()
            return Reply(response.status, response.headers, json.loads(text) if text.startswith("{") else text)

    async def post(self, event: dict[str, Any], *, secret: bool = False) -> Reply:
        return await self.call("POST", "events", event, secret=secret)

    async def consent(self, visitor: str, query: str = "", *, secret: bool = False, **headers: str) -> Reply:
        return await self.call("GET", f"consent{query}", secret=secret, consent_visitor=visitor, **headers)

    async def ready(self) -> Reply:
        return await self.call("GET", "/readyz")


class Load:
    """Clients that post events without end, each until it is answered, and keep the answers: `receipts` by event id.

    What is no 201, 200 or 503 with Retry-After fails the test when the block is left. Leaving it lets every client
    bring its last event to an answer.
    """

    def __init__(self, urls: Sequence[str], site: SiteCredentials, clients: int = 8) -> None:
        self.receipts: dict[str, dict[str, Any]] = {}
        self.replayed = 0
        self.refused = 0
        self.broken = 0
        self._urls = itertools.cycle(urls)
        self._site = site
        self._clients = clients
        self._stopping = False
        self._visitors = [new_visitor() for _ in range(50)]

    async def __aenter__(self) -> Load:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping = True
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def more(self, count: int) -> None:
        """Wait until that many more events have been answered."""
        wanted = len(self.receipts) + count

        async def answered() -> bool:
            for task in self._tasks:
                if task.done():
                    await task
            return len(self.receipts) >= wanted

        await until(answered)

    async def _client(self) -> None:
        make = itertools.cycle((grant, refusal))
        while not self._stopping:
            event = next(make)(visitor=secrets.choice(self._visitors))
            self.receipts[event["id"]] = await self.answer(event)
            await asyncio.sleep(0.05)  # many clients that think, and not few that hammer

    async def answer(self, event: dict[str, Any]) -> dict[str, Any]:
        """Post it until there is a receipt, each time to the next server."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        headers = {"Authorization": f"Bearer {self._site.publishable}"}
        while True:
            url = f"{next(self._urls)}/v1/sites/{self._site.site}/events"
            try:
                async with self._session.post(url, json=event, headers=headers) as response:
                    body = await response.json(content_type=None)
                    if response.status in (200, 201):
                        self.replayed += response.status == 200
                        receipt: dict[str, Any] = body
                        return receipt
                    assert response.status == 503, body
                    assert response.headers["Content-Type"] == "application/problem+json"
                    assert int(response.headers["Retry-After"]) > 0
                    self.refused += 1
            except (aiohttp.ClientError, TimeoutError, OSError):
                self.broken += 1
            assert time.monotonic() < deadline, "an event was never answered"
            await asyncio.sleep(0.05)


# --- what must be true of the log -------------------------------------------------------------------------------------


class Log(NamedTuple):
    """A log that was found sound: its entries, and the events in it by id."""

    entries: list[Entry]
    seq_of: dict[str, int]


_ROWS = """
select e.seq, e.entry, o.sealed, k.key, r.by_seq is not null as erased
  from ledger.site s join ledger.entry e using (site_id)
  left join ledger.opening o using (site_id, seq) left join ledger.erased r using (site_id, seq)
  left join ledger.known k using (site_id, seq)
 where s.site = $1 order by e.seq
"""


async def check_log(
    settings: Settings, site: SiteCredentials, receipts: dict[str, dict[str, Any]] | None = None
) -> Log:
    """Chain, signatures, openings; no event twice; and every receipt byte for byte where it says it is."""
    rows = await _rows(settings, site.site)
    genesis = decode(rows[0]["entry"])
    origin, log_id = site.log_vkey.partition("+")[0], leaf_hash(rows[0]["entry"])
    assert log_id.hex() == site.log_id
    keyset = keys.KeySet(origin, log_id, keys.decode_genesis(genesis.public, origin))
    entries: list[Entry] = []
    seq_of: dict[str, int] = {}
    prev, ms = bytes(32), 0
    for index, row in enumerate(rows):
        entry = decode(row["entry"])
        assert (row["seq"], entry.seq, entry.prev) == (index, index, prev)
        assert entry.ms >= ms
        core = core_bytes(log_id if index else origin_hash(origin), entry.kind, entry.commit, entry.public)
        ed25519.verify(keyset.signer(entry), core, entry.signature)
        if entry.kind == Kind.KEY:
            keyset.apply(entry.public)
        assert row["key"] is not None, "an entry without the row by which a retry finds it"
        assert (row["payload"] is None) == (entry.kind not in HAS_OPENING or row["erased"])
        if entry.kind == Kind.EVENT and row["payload"] is not None:
            assert commitment(row["salt"], row["payload"]) == entry.commit
            event_id = decode_logged(row["payload"], site.site).id
            assert event_id not in seq_of, "an event is in the log twice"
            seq_of[event_id] = index
        entries.append(entry)
        prev, ms = leaf_hash(row["entry"]), entry.ms
    for event_id, receipt in (receipts or {}).items():
        row = rows[seq_of[event_id]]
        assert receipt == {
            "id": event_id,
            "site": site.site,
            "seq": row["seq"],
            "recordedAt": encode_time(entries[row["seq"]].ms),
            "leafHash": encode_base64(leaf_hash(row["entry"])),
            "entry": encode_base64(row["entry"]),
            "salt": encode_base64(row["salt"]),
            "payload": encode_base64(row["payload"]),
            "position": f"{site.site}:{row['seq']}",
        }
    return Log(entries, seq_of)


async def check_stream(nats_url: str, settings: Settings, site: SiteCredentials) -> None:
    """Once it has come so far, the site's stream holds each entry and each payload of now at the ledger's seq, and no
    payload that was erased."""
    rows = await _rows(settings, site.site)
    stream = names(site.site).stream
    client = await nats.connect(nats_url)
    js = client.jetstream()

    async def holds_them() -> bool:
        with suppress(nats.js.errors.NotFoundError):  # it may be made anew while we look
            if (await js.stream_info(stream)).state.last_seq < len(rows) - 1:
                return False
            for row in rows:
                if row["erased"]:
                    with suppress(nats.js.errors.NotFoundError):
                        assert not (await js.get_msg(stream, row["seq"])).data
            for page in _pages([row for row in rows[1:] if not row["erased"]], 200):
                messages = await asyncio.gather(*(js.get_msg(stream, row["seq"]) for row in page))
                for row, message in zip(page, messages, strict=True):
                    assert message.headers is not None
                    assert base64.b64decode(message.headers["ce-entry"]) == row["entry"]
                    assert row["payload"] is None or message.data == row["payload"]
            last_seq: int = (await js.stream_info(stream)).state.last_seq
            return last_seq < len(await _rows(settings, site.site))
        return False

    try:
        await until(holds_them)
    finally:
        await client.close()


def _pages(rows: Sequence[dict[str, Any]], size: int) -> list[Sequence[dict[str, Any]]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


async def _rows(settings: Settings, site: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(settings.database_url)
    try:
        site_id = await connection.fetchval("select site_id from ledger.site where site = $1", site)
        vault = await read_vault(connection, site_id, settings.masters)
        return [opened(vault, row) for row in await connection.fetch(_ROWS, site)]
    finally:
        await connection.close()


async def found(settings: Settings, site: str | None = None) -> SiteCredentials:
    """Found a site with the small document."""
    return await create_site(settings, document(site or new_site_name()))


async def check_verified(settings: Settings, site: SiteCredentials, directory: Path) -> None:
    """What `export` writes, `verify` finds sound, and the database with it: two commands, as an auditor gives them.

    A server has to run: its checkpointer signs what is exported.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    pins = ("--log-vkey", site.log_vkey, "--log-id", site.log_id)
    for command in (
        ("export", site.site, str(directory), "--wait", str(DEADLINE_SECONDS)),
        ("verify", str(directory), *pins, "--live"),
    ):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "ledger", *command),
            env={**environ, **settings.environment()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
