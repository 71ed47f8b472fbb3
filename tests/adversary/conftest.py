"""Fixtures of the adversary suite: the honest log, once a session, and a copy of its database for every attack."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.config import Settings
from ledger.embedded.postgres import Postgres
from tests.adversary.gallery import Copy, Gallery
from tests.adversary.victim import Honest, grow
from tests.conftest import admin, service_url


@pytest.fixture(scope="session")
def honest(postgres: Postgres, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """The honest log, in a database that nobody changes."""
    name = "ledger_honest"

    async def make() -> Honest:
        async with admin(postgres) as connection:
            await connection.execute(f"create database {name} template {template_database}")
        directory: Path = tmp_path_factory.mktemp("honest")
        settings = Settings(
            database_url=service_url(postgres.url(name)),
            keys_dir=directory / "keys",
            master_secret=secrets.token_bytes(32),
            origin_prefix="ledger.test",
            port=0,
        )
        return await grow(settings, name)

    return asyncio.run(make())


@pytest.fixture(scope="session")
def copy(postgres: Postgres, honest: Honest) -> Copy:
    """`with copy() as admin_url`: the honest log's database, to be attacked."""

    @contextmanager
    def copied() -> Iterator[str]:
        name = f"attacked_{secrets.token_hex(6)}"

        async def run(statement: str) -> None:
            async with admin(postgres) as connection:
                await connection.execute(statement)

        asyncio.run(run(f"create database {name} template {honest.database}"))
        try:
            yield postgres.url(name)
        finally:
            asyncio.run(run(f"drop database {name} with (force)"))

    return copied


@pytest.fixture(scope="session")
def gallery(honest: Honest, copy: Copy, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return Gallery(honest, copy, tmp_path_factory.mktemp("gallery"))
