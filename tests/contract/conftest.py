"""A running server for tests of the contract: the real service on a real database, one for the whole session."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

import ledger
from ledger.app import open_service
from ledger.config import Settings
from ledger.embedded.postgres import Postgres
from ledger.http.app import create_app
from ledger.http.limits import DEFAULT_LIMITS, Limits
from ledger.http.server import serving
from ledger.provision import create_api_key, create_site
from ledger.region import RegionFinder
from ledger.secrets import new_event_id
from ledger.service import Service
from ledger.store.pool import open_pool
from tests.conftest import admin, service_url

SITE = "weco.nexaxt.com"
OTHER_SITE = "we-nera.com"
SITES_DIR = Path(ledger.__file__).parent / "sites"
SCOPES = ("events", "check", "audit", "admin")


class Api(NamedTuple):
    """A server that answers at `url`, and keys of `SITE`: publishable, with all scopes, and by scope."""

    url: str
    publishable: str
    secret: str
    scoped: Mapping[str, str]
    other_secret: str
    settings: Settings

    def site_url(self, call: str, site: str = SITE) -> str:
        return f"{self.url}/v1/sites/{site}/{call}"


class Answer(NamedTuple):
    """A response, read. `json` is None where the body is none."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any


class Client:
    """Calls an `Api`, with a key of the caller's choice."""

    def __init__(self, api: Api, session: aiohttp.ClientSession) -> None:
        self.api, self._session = api, session

    async def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """`path` is a call of `SITE` (`events`), or an absolute path (`/healthz`)."""
        url = self.api.url + path if path.startswith("/") else self.api.site_url(path)
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        async with self._session.request(method, url, json=json, data=data, headers=sent) as response:
            body = await response.read()
            is_json = response.content_type.endswith("json") and response.content_type != "application/x-ndjson"
            return Answer(
                response.status, response.headers, body, await response.json(content_type=None) if is_json else None
            )

    async def post(self, event: Mapping[str, Any], *, key: str | None = None, **headers: str) -> Answer:
        return await self.call(
            "POST",
            "events",
            key=key or self.api.publishable,
            json=event,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )


def visitor() -> str:
    return secrets.token_urlsafe(16)


def grant(**members: Any) -> dict[str, Any]:
    return {
        "id": new_event_id(1_790_000_000_000),
        "type": "consent.given",
        "visitor": visitor(),
        "decisions": {"analytics": "granted"},
        "action": "customize",
        "policyVersion": "1.0",
        **members,
    }


def refusal(**members: Any) -> dict[str, Any]:
    return {
        "id": new_event_id(1_790_000_000_000),
        "type": "consent.refused",
        "visitor": visitor(),
        "decisions": {"analytics": "denied"},
        "action": "only_necessary",
        **members,
    }


@asynccontextmanager
async def fresh_database(postgres: Postgres, template: str) -> AsyncIterator[str]:
    """The service's URL of a database for one server."""
    name = f"ledger_{secrets.token_hex(6)}"
    async with admin(postgres) as connection:
        await connection.execute(f"create database {name} template {template}")
    yield service_url(postgres.url(name))
    async with admin(postgres) as connection:
        await connection.execute(f"drop database {name} with (force)")


@asynccontextmanager
async def running_api(
    settings: Settings,
    *,
    limits: Limits = DEFAULT_LIMITS,
    wrap: Callable[[Service], Service] = lambda service: service,
) -> AsyncIterator[Api]:
    """A server with the example sites. `wrap` may put something between the edge and the service."""
    founded = await create_site(settings, (SITES_DIR / f"{SITE}.yaml").read_bytes())
    other = await create_site(settings, (SITES_DIR / f"{OTHER_SITE}.yaml").read_bytes())
    async with open_service(settings) as service:
        pool = await open_pool(settings.database_url, size=1)
        site_id = (await service.site(SITE)).site_id
        scoped = {scope: await create_api_key(pool, site_id, "secret", (scope,), "test") for scope in SCOPES}
        await pool.close()
        app = create_app(
            wrap(service),
            settings,
            CollectorRegistry(),
            limits=limits,
            demo_keys=lambda: {SITE: founded.publishable},
            regions=RegionFinder.of(settings),
        )
        async with serving(app, "127.0.0.1", 0) as (host, port):
            yield Api(f"http://{host}:{port}", founded.publishable, founded.secret, scoped, other.secret, settings)


@contextmanager
def api_on_a_thread(postgres: Postgres, template_database: str, keys_dir: Path) -> Iterator[Api]:
    """A server on a thread and an event loop of its own."""
    ready: Future[Api] = Future()
    stop: Future[Callable[[], Any]] = Future()

    async def run() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.set_result(lambda: loop.call_soon_threadsafe(stopping.set))
        async with fresh_database(postgres, template_database) as url:
            settings = Settings(
                database_url=url,
                keys_dir=keys_dir,
                master_secret=secrets.token_bytes(32),
                origin_prefix="ledger.test",
                demo=Path("credentials.json"),
            )
            # No checkpointer runs here: who waits for one gets an answer without, and soon.
            async with running_api(settings, limits=Limits(checkpoint_wait_seconds=0.2)) as running:
                ready.set_result(running)
                await stopping.wait()

    def serve() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=serve, name="server of the contract tests")
    thread.start()
    try:
        yield ready.result(60)
    finally:
        stop.result(10)()
        thread.join(60)


@pytest.fixture(scope="session")
def api(postgres: Postgres, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The session's server."""
    with api_on_a_thread(postgres, template_database, tmp_path_factory.mktemp("server") / "keys") as running:
        yield running


@pytest_asyncio.fixture
async def client(api: Api) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(api, session)


@pytest_asyncio.fixture
async def connect(
    api: Api,
) -> AsyncIterator[Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]]:
    """Opens raw connections to the server."""
    opened: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = api.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        opened.append(writer)
        return reader, writer

    yield connect
    for writer in opened:
        writer.close()
