"""The command line: what each command needs is found here, what it does is elsewhere.

Our own errors end a command with one line on standard error and exit code 2 (1 where a check failed).
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import click

from ledger import __version__
from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, find_admin_url, find_settings
from ledger.config import Settings, load_settings
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.retention.command import close_command

DOCUMENT = click.argument("document", type=click.File("rb"))


_ELSEWHERE = {
    "admin-log": ("ledger.commands.admin_log", "admin_log_command"),
    "api-key": ("ledger.commands.api_key", "api_key_command"),
    "backup": ("ledger.backup.command", "backup_command"),
    "certificate": ("ledger.commands.certificate", "certificate_command"),
    "checkpoint": ("ledger.checkpointer.command", "checkpoint_command"),
    "consumer": ("ledger.commands.consumer", "consumer_command"),
    "cookies": ("ledger.commands.cookies", "cookies_command"),
    "decide": ("ledger.commands.decide", "decide_command"),
    "erase": ("ledger.erasing.command", "erase_command"),
    "export": ("ledger.commands.export", "export_command"),
    "export-person": ("ledger.commands.export_person", "export_person_command"),
    "import": ("ledger.importing.command", "import_command"),
    "key": ("ledger.keys.command", "key_command"),
    "monitor": ("ledger.monitor.command", "monitor_command"),
    "policy": ("ledger.policies.command", "policy_command"),
    "receipt": ("ledger.commands.receipt", "receipt_command"),
    "request": ("ledger.requests.command", "request_command"),
    "restore": ("ledger.backup.command", "restore_command"),
    "retention": ("ledger.retention.command", "retention_command"),
    "scrub": ("ledger.commands.scrub", "scrub_command"),
    "verify": ("ledger.commands.verify", "verify_command"),
    "witness": ("ledger.witness.command", "witness_command"),
}
"""Commands that another module brings whole, by its name; imported when they are called, so that each starts fast."""


class Group(click.Group):
    """Ends with a sentence instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _ELSEWHERE:
            module, name = _ELSEWHERE[cmd_name]
            command: click.Command = getattr(importlib.import_module(module), name)
            return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Failure("interrupted") from error
        except LedgerError as error:
            raise Failure(str(error)) from error
        except BrokenPipeError:  # whoever read what is printed has enough of it: click ends without a word
            raise
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Failure(f"{type(error).__name__}: {error}") from error


class Failure(click.ClickException):
    """The command could not do its work."""

    exit_code = 2


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """A ledger of consent: every consent provable, every person forgettable."""


async def _with_pool(settings: Settings, work: Callable[[asyncpg.Pool], Awaitable[Any]]) -> Any:
    from ledger.store.pool import open_pool  # noqa: PLC0415

    pool = await open_pool(settings.database_url, size=2, timeout_seconds=60)
    try:
        return await work(pool)
    finally:
        await pool.close()


async def _site_id(pool: asyncpg.Pool, site: str) -> int:
    site_id: int | None = await pool.fetchval(
        "select site_id from ledger.site where site = $1 and admin_of is null", site
    )
    if site_id is None:
        raise ConfigInvalid(f"this ledger has no site {site}; `consent-ledger site list` shows those it has")
    return site_id


@main.command()
@DATA
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0: any free port.")
def up(data: Path, port: int) -> None:
    """Start everything on this machine: Postgres, NATS and the service, with the example sites.

    Of the LEDGER_… variables only LEDGER_BACKUP_DIR is read. Witnesses are named by a trust policy (C2SP tlog-policy)
    in DATA/witnesses.
    """
    from ledger.embedded.up import up as run_up  # noqa: PLC0415

    run_up(data, port)


@main.command()
@click.option("--role", type=click.Choice(["all", "http", "worker"]), default="all", show_default=True)
def serve(role: str) -> None:
    """Serve with external Postgres and NATS, set up by the environment (README, "Run it for real")."""
    from ledger import app  # noqa: PLC0415

    settings = load_settings()
    app.set_up_logging()
    roles: dict[str, Callable[[Settings], Coroutine[Any, Any, None]]] = {
        "all": app.serve_all,
        "http": app.serve_http,
        "worker": app.run_worker,
    }
    app.run(roles[role](settings))


@main.command()
@DATA
def migrate(data: Path) -> None:
    """Bring the database's schema up to date (LEDGER_ADMIN_DATABASE_URL; once per release, before `serve`)."""
    from ledger.store.migrate import migrate as run_migrate  # noqa: PLC0415

    done = asyncio.run(run_migrate(find_admin_url(data)))
    click.echo("\n".join(f"applied {name}" for name in done.applied) or "the schema is up to date")
    if not done.guarded:
        click.echo(
            "warning: DDL on the ledger's tables is not refused, for event triggers need a superuser; "
            "run this once as one",
            err=True,
        )


@main.group()
def site() -> None:
    """Sites of this ledger."""


@site.command("add")
@DOCUMENT
@click.option(
    "--root-key",
    "root_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Use the root key in FILE, or make it there under a passphrase: then it never was among the service's keys.",
)
@acting_options
@DATA
def site_add(document: Any, root_file: Path | None, data: Path, who: Any) -> None:
    """Found a site from its document (YAML): keys, genesis entry, policy and two API keys, printed once.

    With it its administrative log is founded, SITE.admin-log, with keys of its own; its root key is made in
    FILE.admin-log, under the same passphrase.
    """
    from ledger.keys.root import Offline, where_to_keep  # noqa: PLC0415
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


site.add_command(close_command)


@site.command("list")
@DATA
def site_list(data: Path) -> None:
    """Each site with its origin and the size of its log, and the size of its administrative log."""

    async def work(pool: asyncpg.Pool) -> None:
        for row in await pool.fetch(
            "select s.site, s.origin, (select max(e.seq) + 1 from ledger.entry e where e.site_id = s.site_id) as size, "
            "(select max(e.seq) + 1 from ledger.entry e where e.site_id = a.site_id) as acts "
            "from ledger.site s left join ledger.site a on a.admin_of = s.site_id where s.admin_of is null "
            "order by s.site"
        ):
            acts = f"admin log {row['acts']} entries" if row["acts"] else "NO admin log"
            click.echo(f"{row['site']}\t{row['origin']}\t{row['size'] or 0} entries\t{acts}")

    asyncio.run(_with_pool(find_settings(data), work))


@main.command()
@click.argument("site_name", metavar="SITE")
@DATA
def rebuild(site_name: str, data: Path) -> None:
    """Build the visitors' state anew from the log, beside the living one, and switch over."""
    from ledger import projector  # noqa: PLC0415
    from ledger.progress import bar  # noqa: PLC0415
    from ledger.vault import Vaults  # noqa: PLC0415

    settings = find_settings(data)

    async def work(pool: asyncpg.Pool) -> None:
        site_id = await _site_id(pool, site_name)
        with bar("folding", "entries") as progress:
            read = await projector.rebuild(pool, Vaults(pool, settings.masters), site_id, progress)
        click.echo(f"rebuilt the state of {site_name} from {read} entries")

    asyncio.run(_with_pool(settings, work))


@main.command()
@click.argument("site_name", metavar="SITE")
@click.option("--from-stream", is_flag=True, help="Verify what the stream holds beyond the ledger; append it again.")
@click.option("--dry-run", is_flag=True, help="With --from-stream: verify and tell, and append nothing.")
@click.option(
    "--document",
    "documents",
    multiple=True,
    type=click.File("rb"),
    help="With --from-stream: a published document that neither holds, as it was served under /documents.",
)
@click.option("--accept-loss", is_flag=True, help="Go on without what is lost; asks first.")
@acting_options
@DATA
def recover(
    site_name: str,
    from_stream: bool,
    dry_run: bool,
    documents: tuple[Any, ...],
    accept_loss: bool,
    data: Path,
    who: Any,
) -> None:
    """Go on after Postgres was put back to an older copy, or failed over and lost commits.

    Needs LEDGER_ADMIN_DATABASE_URL. Exit code 1 if something in the stream cannot be taken; what comes before it is.
    """
    from ledger.recover.command import run_accept_loss, run_from_stream  # noqa: PLC0415

    if from_stream == accept_loss:
        raise click.UsageError("--from-stream first; --accept-loss if nothing is left there")
    if accept_loss:
        run_accept_loss(find_settings(data), find_admin_url(data), site_name, who)
    else:
        bodies = [document.read() for document in documents]
        sys.exit(run_from_stream(find_settings(data), find_admin_url(data), site_name, bodies, dry_run, who))


@main.command()
@click.argument("site_name", metavar="SITE")
@click.option("--visitors", type=click.IntRange(1, 10_000_000), default=1_000, show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Go on for so long instead.")
@click.option("--concurrency", type=click.IntRange(1, 1_000), default=16, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Fixes who does what.")
@DATA
def simulate(site_name: str, visitors: int, minutes: float | None, concurrency: int, seed: int, data: Path) -> None:
    """Live a realistic day of visitors against a running server, and check every answer."""
    from ledger.credentials import find_access  # noqa: PLC0415
    from ledger.simulate.run import Plan, run_simulate  # noqa: PLC0415

    plan = Plan(visitors=visitors, minutes=minutes, concurrency=concurrency, seed=seed)
    sys.exit(run_simulate(find_access(site_name, data), plan))


@main.command()
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Of a running `up`; else one is started beside."
)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5.0, show_default=True, help="Of each measurement.")
@click.option("--witnesses", type=click.IntRange(0, 16), default=2, show_default=True, help="Of a ledger of its own.")
def bench(data: Path | None, seconds: float, witnesses: int) -> None:
    """Measure rates and latencies, beside pgbench's bare insert on the same server."""
    from ledger.bench.run import run_bench  # noqa: PLC0415

    run_bench(data, seconds=seconds, witnesses=witnesses)


@main.command()
@DATA
def doctor(data: Path) -> None:
    """Look at the installation, and say what is not as it should be. Exit code 1 if something is bad."""
    from ledger.doctor import Verdict, examine  # noqa: PLC0415

    marks = {Verdict.GOOD: "ok    ", Verdict.ADVICE: "advice", Verdict.BAD: "BAD   "}

    async def work() -> bool:
        bad = False
        async for finding in examine(find_settings(data)):
            click.echo(f"{marks[finding.verdict]}  {finding.what}: {finding.detail}")
            bad = bad or finding.verdict is Verdict.BAD
        return bad

    sys.exit(1 if asyncio.run(work()) else 0)
