"""`consent-ledger migrate`: the database's schema, brought up to date by ledger/store/migrate."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from ledger.commands.locate import DATA, find_admin_url


@click.command("migrate")
@DATA
def migrate_command(data: Path) -> None:
    """Bring the database's schema up to date (LEDGER_ADMIN_DATABASE_URL; once per release, before `serve`)."""
    from ledger.store.migrate import migrate  # noqa: PLC0415 - `--help` starts fast

    done = asyncio.run(migrate(find_admin_url(data)))
    click.echo("\n".join(f"applied {name}" for name in done.applied) or "the schema is up to date")
    if not done.guarded:
        click.echo(
            "warning: DDL on the ledger's tables is not refused, for event triggers need a superuser; "
            "run this once as one",
            err=True,
        )
