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
from ledger.config import Settings, load_settings
from ledger.core.ed25519 import SigningKey
from ledger.core.errors import ConfigInvalid, LedgerError
from ledger.locate import DATA, find_admin_url, find_settings

DOCUMENT = click.argument("document", type=click.File("rb"))


_ELSEWHERE = {
    "backup": ("ledger.backup.command", "backup_command"),
    "certificate": ("ledger.certificate_command", "certificate_command"),
    "checkpoint": ("ledger.checkpointer.command", "checkpoint_command"),
    "consumer": ("ledger.consumer_command", "consumer_command"),
    "cookies": ("ledger.cookies_command", "cookies_command"),
    "decide": ("ledger.decide_command", "decide_command"),
    "export": ("ledger.export_command", "export_command"),
    "export-person": ("ledger.person_command", "export_person_command"),
    "import": ("ledger.importing.command", "import_command"),
    "key": ("ledger.keys.command", "key_command"),
    "monitor": ("ledger.monitor.command", "monitor_command"),
    "policy": ("ledger.policies.command", "policy_command"),
    "receipt": ("ledger.receipt_command", "receipt_command"),
    "request": ("ledger.requests.command", "request_command"),
    "restore": ("ledger.backup.command", "restore_command"),
    "verify": ("ledger.verify_command", "verify_command"),
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
    site_id: int | None = await pool.fetchval("select site_id from ledger.site where site = $1", site)
    if site_id is None:
        raise ConfigInvalid(f"this ledger has no site {site}; `consent-ledger site list` shows those it has")
    return site_id


@main.command()
@DATA
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0: any free port.")
def up(data: Path, port: int) -> None:
    """Start everything on this machine: Postgres, NATS and the service, with the example sites.

    LEDGER_… variables are not read. Witnesses are named by a trust policy (C2SP tlog-policy) in DATA/witnesses.
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
@DATA
def site_add(document: Any, root_file: Path | None, data: Path) -> None:
    """Found a site from its document (YAML): keys, genesis entry, policy and two API keys, printed once."""
    from ledger.keys.root import load_root, make_root, where_to_keep  # noqa: PLC0415
    from ledger.policies.authoring import read_authored  # noqa: PLC0415
    from ledger.policies.check import folder_of  # noqa: PLC0415
    from ledger.provision import create_site  # noqa: PLC0415

    settings = find_settings(data)

    def root(origin: str) -> SigningKey:
        assert root_file is not None
        return load_root(settings, origin, root_file) if root_file.exists() else make_root(origin, root_file)

    authored = read_authored(document.read(), folder_of(document))
    made = asyncio.run(create_site(settings, authored.source, root if root_file else None, authored.uploads))
    click.echo(f"site         {made.site}\nlog id       {made.log_id}\nlog vkey     {made.log_vkey}")
    click.echo(f"publishable  {made.publishable}\nsecret       {made.secret}")
    click.echo(where_to_keep(settings, made.site, root_file), err=True)


@site.command("list")
@DATA
def site_list(data: Path) -> None:
    """Each site with its origin and the size of its log."""

    async def work(pool: asyncpg.Pool) -> None:
        for row in await pool.fetch(
            "select s.site, s.origin, (select max(e.seq) + 1 from ledger.entry e where e.site_id = s.site_id) as size "
            "from ledger.site s order by s.site"
        ):
            click.echo(f"{row['site']}\t{row['origin']}\t{row['size'] or 0} entries")

    asyncio.run(_with_pool(find_settings(data), work))


@main.group("api-key")
def api_key() -> None:
    """Keys of frontends and analytics."""


@api_key.command("create")
@click.argument("site_name", metavar="SITE")
@click.option("--class", "key_class", type=click.Choice(["publishable", "secret"]), required=True)
@click.option("--scope", "scopes", multiple=True, type=click.Choice(["events", "check", "audit", "admin"]))
@click.option("--label", default="", help="What the key is for.")
@DATA
def api_key_create(site_name: str, key_class: str, scopes: tuple[str, ...], label: str, data: Path) -> None:
    """Make a key and print it: it is stored hashed and never told again."""
    from ledger import provision  # noqa: PLC0415

    if key_class == "publishable" and scopes:
        raise click.UsageError("publishable keys have no scopes of their own")
    if key_class == "secret" and not scopes:
        raise click.UsageError("a secret key needs at least one --scope")

    async def work(pool: asyncpg.Pool) -> None:
        site_id = await _site_id(pool, site_name)
        granted = scopes or provision.PUBLISHABLE_SCOPES
        click.echo(await provision.create_api_key(pool, site_id, key_class, granted, label))

    asyncio.run(_with_pool(find_settings(data), work))


@api_key.command("revoke")
@DATA
def api_key_revoke(data: Path) -> None:
    """Revoke a key, read from standard input so that it stays out of the shell's history."""
    from ledger import provision  # noqa: PLC0415

    key = sys.stdin.readline().strip()

    async def work(pool: asyncpg.Pool) -> None:
        if not await provision.revoke_api_key(pool, key):
            raise ConfigInvalid("no living key like this one")
        click.echo("revoked; servers notice within a few seconds")

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
@DATA
def recover(
    site_name: str, from_stream: bool, dry_run: bool, documents: tuple[Any, ...], accept_loss: bool, data: Path
) -> None:
    """Go on after Postgres was put back to an older copy, or failed over and lost commits.

    Needs LEDGER_ADMIN_DATABASE_URL. Exit code 1 if something in the stream cannot be taken; what comes before it is.
    """
    from ledger.recover.command import run_accept_loss, run_from_stream  # noqa: PLC0415

    if from_stream == accept_loss:
        raise click.UsageError("--from-stream first; --accept-loss if nothing is left there")
    if accept_loss:
        run_accept_loss(find_settings(data), find_admin_url(data), site_name)
    else:
        bodies = [document.read() for document in documents]
        sys.exit(run_from_stream(find_settings(data), find_admin_url(data), site_name, bodies, dry_run))


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
