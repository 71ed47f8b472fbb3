"""`consent-ledger api-key`: keys of frontends and analytics. What a key may do is ledger/http/auth."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import click

from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, at_database
from ledger.config import Settings
from ledger.core.errors import ConfigInvalid
from ledger.store.sites import find_site

if TYPE_CHECKING:
    from ledger.administration import Administration, Who


@click.group("api-key")
def api_key_command() -> None:
    """Keys of frontends and analytics."""


@api_key_command.command("create")
@click.argument("site_name", metavar="SITE")
@click.option("--class", "key_class", type=click.Choice(["publishable", "secret"]), required=True)
@click.option("--scope", "scopes", multiple=True, type=click.Choice(["events", "check", "audit", "admin"]))
@click.option("--label", default="", help="What the key is for; acts by it are told under this name.")
@acting_options
@DATA
def api_key_create(site_name: str, key_class: str, scopes: tuple[str, ...], label: str, data: Path, who: Who) -> None:
    """Make a key and print it: it is stored hashed and never told again."""
    from ledger import provision  # noqa: PLC0415

    if key_class == "publishable" and scopes:
        raise click.UsageError("publishable keys have no scopes of their own")
    if key_class == "secret" and not scopes:
        raise click.UsageError("a secret key needs at least one --scope")

    async def work(pool: asyncpg.Pool, administration: Administration) -> None:
        site_id = (await find_site(pool, site_name)).site_id
        granted = scopes or provision.PUBLISHABLE_SCOPES
        acting = administration.acting(site_name, who)
        click.echo(await provision.create_api_key(pool, site_id, key_class, granted, label, acting))

    _with_administration(data, work)


@api_key_command.command("revoke")
@acting_options
@DATA
def api_key_revoke(data: Path, who: Who) -> None:
    """Revoke a key, read from standard input so that it stays out of the shell's history."""
    from ledger import provision  # noqa: PLC0415

    key = sys.stdin.readline().strip()

    async def work(pool: asyncpg.Pool, administration: Administration) -> None:
        site_name = await provision.site_of_api_key(pool, key)
        if site_name is None:
            raise ConfigInvalid("no living key like this one")
        await provision.revoke_api_key(pool, key, administration.acting(site_name, who))
        click.echo("revoked; servers notice within a few seconds")

    _with_administration(data, work)


def _with_administration(data: Path, work: Callable[[asyncpg.Pool, Administration], Awaitable[None]]) -> None:
    from ledger.administration import open_administration  # noqa: PLC0415

    async def at(settings: Settings, pool: asyncpg.Pool) -> None:
        async with open_administration(settings, pool) as administration:
            await work(pool, administration)

    at_database(data, at)
