"""How a command finds its ledger, by the environment or by the data directory of an `up`, and works at it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ledger.config import COMMAND_TIMEOUT_SECONDS, Settings, load_settings
from ledger.core.errors import ConfigInvalid

if TYPE_CHECKING:
    import asyncpg

    from ledger.service import Service
    from ledger.site import Site

Command = TypeVar("Command", bound=Callable[..., Any])
Told = TypeVar("Told")


def data_option(used_where: str) -> Callable[[Command], Command]:
    """The option `--data` of a command that may find its ledger in another way too, and which comes first."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(".ledger"),
        show_default=True,
        help=f"Data directory of an `up`; used where {used_where}.",
    )


DATA = data_option("LEDGER_DATABASE_URL is not set")


def find_settings(data: Path) -> Settings:
    """Of the environment, where it names a database, else of the `up` in that directory."""
    if os.environ.get("LEDGER_DATABASE_URL"):
        return load_settings()
    from ledger.embedded.installation import DataDirectory  # noqa: PLC0415 - commands start fast

    return DataDirectory(data).settings()


def find_admin_url(data: Path) -> str:
    """LEDGER_ADMIN_DATABASE_URL, or the superuser's URL of the `up` in that directory."""
    url = os.environ.get("LEDGER_ADMIN_DATABASE_URL", "")
    if url:
        return url
    if os.environ.get("LEDGER_DATABASE_URL"):
        raise ConfigInvalid("set LEDGER_ADMIN_DATABASE_URL too: the service's own login may not do this")
    from ledger.embedded.installation import DataDirectory  # noqa: PLC0415

    return DataDirectory(data).admin_database_url()


def at_database(data: Path, work: Callable[[Settings, asyncpg.Pool], Awaitable[Told]]) -> Told:
    """What `work` makes of the database, over a pool of its own."""
    from ledger.store.pool import open_pool  # noqa: PLC0415 - `--help` starts fast

    settings = find_settings(data)

    async def run() -> Told:
        pool = await open_pool(settings.database_url, size=2, timeout_seconds=COMMAND_TIMEOUT_SECONDS)
        try:
            return await work(settings, pool)
        finally:
            await pool.close()

    return asyncio.run(run())


def at_site(data: Path, site: str, work: Callable[[Service, Site], Awaitable[Told]]) -> Told:
    """What `work` makes of a site, in this process and without a server; whatever it raises comes through."""
    from ledger.app import open_service  # noqa: PLC0415 - `--help` starts fast

    async def run() -> Told:
        async with open_service(find_settings(data)) as service:
            return await work(service, await service.site(site))

    return asyncio.run(run())
