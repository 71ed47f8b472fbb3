"""`consent-ledger retention`: what is due to go, have it go, and what went. What decides it is core/retention.

Closing a site, `consent-ledger site close`, is here too: it is the same work on another ground.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, at_site, find_settings
from ledger.core.encoding import encode_time
from ledger.core.errors import ConfigInvalid, InputRefused
from ledger.core.event import parse_time

if TYPE_CHECKING:
    from ledger.administration import Who
    from ledger.service import Service
    from ledger.site import Site

SITE = click.argument("site_name", metavar="SITE")
JSON = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")


@click.group("retention")
def retention_command() -> None:
    """Records whose time is over, by what the site's document says (recordRetention and what goes with it).

    The worker erases them by itself, in batches that mix people; each batch is an act in the administrative log.
    """


@retention_command.command("plan")
@SITE
@click.option("--at", metavar="TIME", help="As of a moment, like 2027-05-31T00:00:00Z; without it, now.")
@JSON
@DATA
def plan(site_name: str, at: str | None, as_json: bool, data: Path) -> None:
    """What a run would take: how many, by type of event, purpose and month of recording. Changes nothing."""
    try:
        at_ms = None if at is None else parse_time(at, "--at")
    except InputRefused as error:
        raise click.UsageError(error.detail) from error

    async def work(service: Service, site: Site) -> None:
        from ledger.retention.looking import planned  # noqa: PLC0415 - `--help` starts fast

        moment = at_ms if at_ms is not None else time.time_ns() // 1_000_000
        found = await planned(service.reads.pool, site, moment)
        counts = {" ".join(key): count for key, count in sorted(found.items())}
        if as_json:
            click.echo(msgspec.json.encode({"site": site.site, "asOf": encode_time(moment), "counts": counts}))
            return
        click.echo(f"{site.site}, due by {encode_time(moment)}:" if counts else f"{site.site}: nothing is due")
        _show(counts)

    _run(data, site_name, work)


@retention_command.command("run")
@SITE
@acting_options
@JSON
@DATA
def run(site_name: str, as_json: bool, data: Path, who: Who) -> None:
    """Erase what is due, now, instead of waiting for the worker. May be broken off, and given again."""

    async def work(service: Service, site: Site) -> None:
        from ledger.retention import store  # noqa: PLC0415
        from ledger.retention.pruner import prune  # noqa: PLC0415

        pool = service.reads.pool
        done, _ = await prune(pool, service.sites, site, await store.now(pool), who)
        counts = {" ".join(key): count for key, count in sorted(done.counts.items())}
        if as_json:
            told = {"site": site.site, "events": done.events, "entries": done.entries, "counts": counts}
            click.echo(msgspec.json.encode(told))
            return
        click.echo(f"{site.site}: {done.events} events erased, with {done.entries} erasure entries")
        _show(counts)

    _run(data, site_name, work)


@retention_command.command("report")
@SITE
@JSON
@DATA
def report(site_name: str, as_json: bool, data: Path) -> None:
    """What each run of the last 400 days took, the newest first."""

    async def work(service: Service, site: Site) -> None:
        from ledger.retention import store  # noqa: PLC0415

        runs = await store.report(service.reads.pool, site.site_id)
        if as_json:
            told = [{**one._asdict(), "as_of_ms": encode_time(one.as_of_ms)} for one in runs]
            click.echo(msgspec.json.encode({"site": site.site, "runs": [_renamed(one) for one in told]}))
            return
        if not runs:
            click.echo(f"{site.site}: no run has taken anything yet")
        for one in runs:
            acts = one.acts[0] if len(one.acts) == 1 else f"{one.acts[0]} and {len(one.acts) - 1} more"
            click.echo(f"{encode_time(one.as_of_ms)}  {one.events} events, {one.entries} entries  ({acts})")
            _show(one.counts)

    _run(data, site_name, work)


@click.command("close")
@SITE
@click.option("--status", "only_status", is_flag=True, help="Tell how far it is; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. What is erased never comes back.")
@click.option(
    "--confirmation",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the confirmation for the controller to FILE, signed by the site's receipt key (a JWT).",
)
@acting_options
@JSON
@DATA
def close_command(
    site_name: str, only_status: bool, yes: bool, confirmation: Path | None, as_json: bool, data: Path, who: Who
) -> None:
    """Close SITE on its controller's instruction: record nothing more, and erase every event.

    What law keeps (acceptances with a `retention`) goes when its term is over. Hand over the data first: `export`. May
    be broken off, and given again; the worker goes on in any case.
    """

    async def work(service: Service, site: Site) -> None:
        from ledger.keys.receipts import ReceiptKeys  # noqa: PLC0415
        from ledger.retention import closing  # noqa: PLC0415

        pool, sites = service.reads.pool, service.sites
        if not only_status:
            if who.instruction is None:
                raise click.UsageError("--instruction is needed: the reference of the controller's instruction")
            if not yes:
                click.confirm(f"Erase every event of {site.site} for good?", abort=True)
            await closing.close_site(pool, sites, site, who)
            await closing.carry_out(pool, sites, site, who, _tell(as_json))
        told = await closing.closing_of(pool, site)
        if confirmation is not None:
            key = await ReceiptKeys(find_settings(data), service.reads).signing(site, sites.loaded())
            signed = closing.confirmation(told, key, site.origin)
            await asyncio.to_thread(confirmation.write_bytes, signed + b"\n")
        if as_json:
            click.echo(msgspec.json.encode(told))
        else:
            click.echo(
                f"{site.site} is {told.status} since {told.ended_at or told.requested_at}, by {told.instruction}"
            )
            click.echo(f"  {told.erased} events erased, with {told.entries} erasure entries; {told.kept} left")
            if told.restricted:
                people = "1 person is" if told.restricted == 1 else f"{told.restricted} people are"
                click.echo(f"  {people} restricted: lift first (`erase lift`); then it goes on")
            if told.ordered:
                click.echo(f"  the worker carries out {told.ordered} orders to erase first; then it goes on")

    _run(data, site_name, work)


def _tell(as_json: bool) -> Callable[[int], None]:
    told: list[int] = []

    def tell(left: int) -> None:
        if not as_json and told[-1:] != [left]:
            told.append(left)
            click.echo(f"{left} events left", err=True)

    return tell


def _show(counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        click.echo(f"  {count:>9,}  {name}")


def _renamed(run: dict[str, Any]) -> dict[str, Any]:
    names = {"as_of_ms": "asOf"}
    return {names.get(name, name): value for name, value in run.items()}


def _run(data: Path, site_name: str, work: Callable[[Service, Site], Awaitable[None]]) -> None:
    try:
        at_site(data, site_name, work)
    except InputRefused as error:
        raise ConfigInvalid(error.detail) from error
