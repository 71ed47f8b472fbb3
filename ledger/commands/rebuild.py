"""`consent-ledger rebuild`: the visitors' state, a copy of what the log holds, built anew by ledger/projector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.commands.locate import DATA, at_database
from ledger.config import Settings
from ledger.progress import bar

if TYPE_CHECKING:
    import asyncpg


@click.command("rebuild")
@click.argument("site_name", metavar="SITE")
@DATA
def rebuild_command(site_name: str, data: Path) -> None:
    """Build the visitors' state anew from the log, beside the living one, and switch over."""
    from ledger.projector import rebuild  # noqa: PLC0415 - `--help` starts fast
    from ledger.store.sites import find_site  # noqa: PLC0415
    from ledger.vault import Vaults  # noqa: PLC0415

    async def work(settings: Settings, pool: asyncpg.Pool) -> None:
        site_id = (await find_site(pool, site_name)).site_id
        with bar("folding", "entries") as progress:
            read = await rebuild(pool, Vaults(pool, settings.masters), site_id, progress)
        click.echo(f"rebuilt the state of {site_name} from {read} entries")

    at_database(data, work)
