"""`consent-ledger admin-log`: who did what to a site, by whose word. What it shows is ledger/admin_log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from ledger.admin_log import Recorded, Wanted, acts
from ledger.commands.locate import DATA, find_settings
from ledger.commands.options import read_time
from ledger.config import READ_TIMEOUT_SECONDS
from ledger.core.encoding import encode_time
from ledger.terminal import plain


@click.group("admin-log")
def admin_log_command() -> None:
    """The administrative log of a site. `export SITE.admin-log` and `verify` audit it like any other."""


@admin_log_command.command("list")
@click.argument("site_name", metavar="SITE")
@click.option("--act", metavar="WORD", help="Acts of this word alone, like key.created, or of a kind, like erasure.")
@click.option("--actor", metavar="NAME", help="Acts of this actor alone.")
@click.option("--since", metavar="TIME", help="Recorded then or later, like 2026-11-21T03:00:00Z.")
@click.option("--until", metavar="TIME", help="Recorded before then.")
@click.option("--flagged", is_flag=True, help="Acts alone whose instruction was believed unlawful.")
@click.option("--after", type=int, default=-1, metavar="SEQ", help="Only what comes after this entry.")
@click.option("--limit", type=click.IntRange(1), help="At most so many acts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@DATA
def list_acts(
    site_name: str,
    act: str | None,
    actor: str | None,
    since: str | None,
    until: str | None,
    flagged: bool,
    after: int,
    limit: int | None,
    as_json: bool,
    data: Path,
) -> None:
    """Every administrative act about SITE, oldest first. What is erased by now is shown as such."""
    wanted = Wanted(act, actor, read_time("--since", since), read_time("--until", until), flagged)

    async def run() -> None:
        from ledger.site import SiteRegistry  # noqa: PLC0415 - `--help` starts fast
        from ledger.store.pool import open_pool  # noqa: PLC0415
        from ledger.store.reads import Reads  # noqa: PLC0415

        settings = find_settings(data)
        pool = await open_pool(settings.database_url, size=2, timeout_seconds=READ_TIMEOUT_SECONDS)
        sites = SiteRegistry(Reads(pool), pool, settings)
        try:
            log = await sites.admin_log(site_name)
            shown = 0
            async for found in acts(pool, log, wanted, after):
                click.echo(_json(log.site, found) if as_json else _line(found))
                shown += 1
                if shown == limit:
                    return
        finally:
            await sites.stop()
            await pool.close()

    asyncio.run(run())


def _json(log: str, found: Recorded) -> bytes:
    members: dict[str, Any] = {"position": f"{log}:{found.seq}", "recordedAt": encode_time(found.ms)}
    members |= {"erased": True} if found.act is None else {"act": found.act}
    return msgspec.json.encode(members)


def _line(found: Recorded) -> str:
    head = f"{found.seq:>6}  {encode_time(found.ms)}  "
    act = found.act
    if act is None:
        return f"{head}(erased)"
    told = [f"{act.actor} ({act.role})", *(f"{name}={text}" for name, text in act.details.items())]
    told += [f"instruction: {act.instruction}"] if act.instruction else []
    told += [f"FLAGGED {act.flagged}"] if act.flagged else []
    told += [f"from {act.address}"] if act.address else []
    return plain(f"{head}{act.act:<20}  {'; '.join(told)}")
