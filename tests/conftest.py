"""Real servers for tests: one throwaway Postgres cluster and one NATS server a session, set up as `up` does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from ledger.config import Settings
from ledger.embedded.nats import Nats
from ledger.embedded.ports import free_port
from ledger.embedded.postgres import Postgres
from ledger.store.migrate import migrate

TEST_SECONDS = {"e2e": 1.0, "fault": 1.0, "adversary": 0.2, "contract": 0.1}
"""About what a test takes, by its folder; and what the files take that take longest."""
FILE_SECONDS = {
    "fault/test_rotation.py": 120.0,
    "contract/test_schema.py": 100.0,
    "fault/test_restore_drill.py": 100.0,
    "e2e/test_up.py": 90.0,
    "e2e/test_monitor_command.py": 85.0,
    "fault/test_kill.py": 80.0,
    "fault/test_database.py": 75.0,
    "fault/test_witnesses.py": 70.0,
    "bench/test_bench.py": 60.0,
    "e2e/test_page.py": 60.0,
    "e2e/test_record_page.py": 60.0,
    "e2e/test_simulate.py": 60.0,
    "e2e/test_readme.py": 50.0,
    "fault/test_key_runbooks.py": 50.0,
    "contract/test_import.py": 45.0,
    "e2e/test_verify_page.py": 45.0,
    "fault/test_checkpointer_kill.py": 40.0,
    "fault/test_relay.py": 40.0,
    "fault/test_recover.py": 40.0,
    "fault/test_lapser.py": 40.0,
    "fault/test_master_rotation.py": 40.0,
    "e2e/test_erasure_drill.py": 40.0,
    "e2e/test_backup.py": 40.0,
    "contract/test_log_tree.py": 25.0,
    "fault/test_erasure_kill.py": 25.0,
    "unit/test_proofs.py": 25.0,
    "unit/test_site_document_schema.py": 20.0,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: several workers take them in this order, and end together."""
    seconds: Counter[Path] = Counter()
    for item in items:
        seconds[item.path] += TEST_SECONDS.get(item.path.parent.name, 0.02)
    for path in seconds:
        seconds[path] = FILE_SECONDS.get(f"{path.parent.name}/{path.name}", seconds[path])
    items.sort(key=lambda item: -seconds[item.path])


MEMORY_BYTES = 8 << 30
"""Free in memory before servers keep their data there: several workers need some hundred megabytes each."""


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """Where the session's servers keep their data; gone afterwards.

    In memory where there is room: to copy a database for a test takes several times as long on a disk.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= MEMORY_BYTES
    directory = Path(tempfile.mkdtemp(prefix="ledger-test-", dir=memory if roomy else None))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postgres(servers_dir: Path) -> Iterator[Postgres]:
    """A running cluster: `postgres.url("postgres")` is the superuser's URL of that database. Do not stop or kill it."""
    server = Postgres(
        data=servers_dir / "postgres",
        port=free_port(),
        password=secrets.token_hex(16),
        log=servers_dir / "postgres.log",
        run_dir=servers_dir / "run",
        # Nothing here outlives the session, and every test begins and ends with a database: no waiting for the disk.
        settings={"max_connections": "200", "fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"},
    )

    async def start() -> None:
        await server.initialise()
        await server.start()

    asyncio.run(start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def nats(servers_dir: Path) -> Iterator[Nats]:
    """A running server with JetStream: `nats.url`. Use streams with names of your own. Do not stop or kill it."""
    server = Nats(
        data=servers_dir / "nats",
        port=free_port(),
        password=secrets.token_hex(16),
        config=servers_dir / "nats.conf",
        log=servers_dir / "nats.log",
        run_dir=servers_dir / "run",
    )

    async def start() -> None:
        await server.start()
        await server.ready()

    asyncio.run(start())
    yield server
    asyncio.run(server.stop())


SERVICE_LOGIN = "ledger_test"


class Database(NamedTuple):
    """A fresh, migrated database: `url` for the service's login, `admin_url` for the superuser."""

    url: str
    admin_url: str


@pytest.fixture(scope="session")
def template_database(postgres: Postgres) -> str:
    """Migrated once; every test's database is a copy."""

    async def make() -> None:
        async with admin(postgres) as connection:
            await connection.execute("create database ledger_template")
        migrated = await migrate(postgres.url("ledger_template"))
        assert migrated.guarded
        async with admin(postgres) as connection:
            await connection.execute(f"create role {SERVICE_LOGIN} login password 'test' in role ledger_service")

    asyncio.run(make())
    return "ledger_template"


@contextlib.asynccontextmanager
async def admin(postgres: Postgres, database: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.url(database))
    try:
        yield connection
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def database(postgres: Postgres, template_database: str) -> AsyncIterator[Database]:
    name = f"ledger_{secrets.token_hex(6)}"
    async with admin(postgres) as connection:
        await connection.execute(f"create database {name} template {template_database}")
    admin_url = postgres.url(name)
    yield Database(service_url(admin_url), admin_url)
    async with admin(postgres) as connection:
        await connection.execute(f"drop database {name} with (force)")


def service_url(admin_url: str, *, port: int | None = None) -> str:
    """The same database for the service's login, perhaps behind another port."""
    parts = urlsplit(admin_url)
    return urlunsplit(parts._replace(netloc=f"{SERVICE_LOGIN}:test@{parts.hostname}:{port or parts.port}"))


@pytest.fixture
def settings(database: Database, tmp_path: Path) -> Settings:
    """Of a server on the test's database."""
    return Settings(
        database_url=database.url,
        keys_dir=tmp_path / "keys",
        master_secret=secrets.token_bytes(32),
        origin_prefix="ledger.test",
        port=0,
    )
