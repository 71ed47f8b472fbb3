"""`consent-ledger site`: sites are founded, listed and closed. How one is founded is ledger/provision."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, at_database, find_settings
from ledger.config import Settings
from ledger.core.encoding import encode_time
from ledger.retention.command import close_command

if TYPE_CHECKING:
    import asyncpg

    from ledger.administration import Who

_LISTED = """
select s.site, s.origin, (select max(e.seq) + 1 from ledger.entry e where e.site_id = s.site_id) as size,
       (select max(e.seq) + 1 from ledger.entry e where e.site_id = a.site_id) as acts,
       coalesce(c.ended_ms, c.requested_ms) as since_ms,
       case when c.site_id is null then 'open' when c.ended_ms is null then 'closing' else 'closed' end as status
  from ledger.site s left join ledger.site a on a.admin_of = s.site_id
  left join ledger.site_closing c on c.site_id = s.site_id
 where s.admin_of is null order by s.site
"""


@click.group("site")
def site_command() -> None:
    """Sites of this ledger."""


@site_command.command("add")
@click.argument("document", type=click.File("rb"))
@click.option(
    "--root-key",
    "root_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Use the root key in FILE, or make it there under a passphrase: then it never was among the service's keys.",
)
@acting_options
@DATA
def add(document: BinaryIO, root_file: Path | None, data: Path, who: Who) -> None:
    """Found a site from its document (YAML): keys, genesis entry, policy and two API keys, printed once.

    With it its administrative log is founded, SITE.admin-log, with keys of its own; its root key is made in
    FILE.admin-log, under the same passphrase.
    """
    from ledger.keys.root import Offline, where_to_keep  # noqa: PLC0415 - `--help` starts fast
    from ledger.policies.authoring import read_authored  # noqa: PLC0415
    from ledger.policies.check import folder_of  # noqa: PLC0415
    from ledger.provision import create_site  # noqa: PLC0415

    settings = find_settings(data)
    root = None if root_file is None else Offline(settings, root_file).key
    authored = read_authored(document.read(), folder_of(document))
    made = asyncio.run(create_site(settings, authored.source, root, authored.uploads, who))
    click.echo(f"site         {made.site}\nlog id       {made.log_id}\nlog vkey     {made.log_vkey}")
    click.echo(f"admin log    {made.admin_log_vkey}\nadmin log id {made.admin_log_id}")
    click.echo(f"publishable  {made.publishable}\nsecret       {made.secret}")
    click.echo(where_to_keep(settings, made.site, root_file), err=True)


site_command.add_command(close_command)


@site_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@DATA
def list_sites(as_json: bool, data: Path) -> None:
    """Each site with its origin, the size of its log and of its administrative log, and whether it is closed."""

    async def work(_: Settings, pool: asyncpg.Pool) -> None:
        for row in await pool.fetch(_LISTED):
            click.echo(_json(row) if as_json else _line(row))

    at_database(data, work)


def _line(row: asyncpg.Record) -> str:
    acts = f"admin log {row['acts']} entries" if row["acts"] else "NO admin log"
    status = "" if row["status"] == "open" else f"\t{row['status']} since {encode_time(row['since_ms'])}"
    return f"{row['site']}\t{row['origin']}\t{row['size'] or 0} entries\t{acts}{status}"


def _json(row: asyncpg.Record) -> str:
    told = {"site": row["site"], "origin": row["origin"], "entries": row["size"] or 0, "adminEntries": row["acts"] or 0}
    since = {} if row["since_ms"] is None else {"since": encode_time(row["since_ms"])}
    return json.dumps({**told, "status": row["status"], **since})
