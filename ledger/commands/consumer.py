"""`consent-ledger consumer`: who keeps copies, and how far each has confirmed erasures. What that means is
ledger/consumers."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from ledger.administration import Who
from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, at_site
from ledger.consumers import Consumer
from ledger.core.encoding import encode_time
from ledger.service import Service
from ledger.site import Site

SITE = click.argument("site_name", metavar="SITE")
NAME = click.argument("name")


@click.group("consumer")
def consumer_command() -> None:
    """Who keeps copies of what a site publishes, and has to forget what is erased."""


@consumer_command.command("add")
@SITE
@NAME
@acting_options
@DATA
def add(site_name: str, name: str, data: Path, who: Who) -> None:
    """Register a consumer, and make the secret key by which it confirms. The key is shown once.

    It begins at the log's head, for what is erased by now it never gets.
    """

    async def work(service: Service, site: Site) -> str:
        return await service.consumers.add(site, name, service.administration.acting(site.site, who))

    click.echo(at_site(data, site_name, work))
    click.echo(f"{name} confirms with this key, by POST /v1/sites/{site_name}/erasures:confirm", err=True)


@consumer_command.command("remove")
@SITE
@NAME
@acting_options
@DATA
def remove(site_name: str, name: str, data: Path, who: Who) -> None:
    """Take a consumer away: its key is revoked, and certificates do not name it any more."""

    async def work(service: Service, site: Site) -> None:
        await service.consumers.remove(site, name, service.administration.acting(site.site, who))

    at_site(data, site_name, work)
    click.echo(f"removed {name}")


@consumer_command.command("list")
@SITE
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--check", is_flag=True, help="Exit code 1 where a consumer has not confirmed every erasure.")
@DATA
def list_consumers(site_name: str, as_json: bool, check: bool, data: Path) -> None:
    """The consumers of SITE, and how far each has confirmed erasures."""

    async def work(service: Service, site: Site) -> list[Consumer]:
        return await service.consumers.all(site)

    found: list[Consumer] = at_site(data, site_name, work)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_told(one) for one in found]), indent=1))
    else:
        click.echo("\n".join(map(_line, found)) or "no consumer is registered")
    if check and any(one.next_seq is not None for one in found):
        raise SystemExit(1)


def _told(one: Consumer) -> dict[str, object]:
    told: dict[str, object] = {
        "name": one.name,
        "position": f"{one.site}:{one.position}",
        "addedAt": encode_time(one.added_ms),
    }
    if one.confirmed_ms is not None:
        told["confirmedAt"] = encode_time(one.confirmed_ms)
    if one.next_seq is not None:
        told["waitsFor"] = f"{one.site}:{one.next_seq}"
    return told


def _line(one: Consumer) -> str:
    told = "never confirmed" if one.confirmed_ms is None else f"confirmed at {encode_time(one.confirmed_ms)}"
    if one.next_seq is None:
        return f"{one.name:32} nothing to confirm; {told}"
    hours = one.behind_seconds(time.time_ns() // 1_000_000) / 3600
    return f"{one.name:32} BEHIND since entry {one.next_seq}, for {hours:.1f} h; {told}"
