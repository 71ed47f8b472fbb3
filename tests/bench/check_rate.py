"""How fast a check of ten thousand visitors by five purposes is: `python -m tests.bench.check_rate`, on a database made
for it.

The same visitors are asked for over HTTP, in one call after the other, by a client in a process of its own: once where
nobody is linked to an account, then with every tenth linked. The time is that of the whole call, JSON at both ends
included.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
from prometheus_client import CollectorRegistry

import ledger
from ledger.app import open_service
from ledger.config import Settings
from ledger.core.event import EventInput
from ledger.http.app import create_app
from ledger.http.server import serving
from ledger.projector import project_batch
from ledger.provision import create_site
from ledger.secrets import new_event_id
from ledger.sequencer import Lane
from ledger.service import Principal, Service
from ledger.site import Site
from ledger.store.pool import open_pool
from ledger.vault import Vaults
from tests.harness import new_visitor, now_ms, own_postgres, own_settings

SITE = "id.custodian.kz"
PURPOSES = ["necessary", "session", "analytics", "functional", "targeting"]
OPTIONAL = PURPOSES[2:]
LINKED_ONE_IN = 10
AT_ONCE = 256


def ask(host: str, port: int, key: str, visitors: list[str], calls: int) -> list[float]:
    """Seconds of each call."""
    body = json.dumps({"visitors": visitors, "purposes": PURPOSES}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    seconds = []
    connection = http.client.HTTPConnection(host, port, timeout=120)
    for _ in range(calls):
        began = time.perf_counter()
        connection.request("POST", f"/v1/sites/{SITE}/check", body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        seconds.append(time.perf_counter() - began)
        if response.status != 200 or len(answer["results"]) != len(visitors):
            raise click.ClickException(f"the check got {response.status}")
    return seconds


async def post(service: Service, site: Site, key: Principal, events: list[EventInput]) -> None:
    for start in range(0, len(events), AT_ONCE):
        batch = events[start : start + AT_ONCE]
        await asyncio.gather(*(service.record(site, event, key, Lane.BULK) for event in batch))


def choice(visitor: str, number: int, **members: Any) -> EventInput:
    return EventInput(
        type="consent.given",
        visitor=visitor,
        id=new_event_id(now_ms()),
        decisions={purpose: "denied" if (number + n) % 3 == 2 else "granted" for n, purpose in enumerate(OPTIONAL)},
        action="customize",
        policy_version="1.0",
        **members,
    )


async def measure(count: int, calls: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="check-rate-"))
    postgres = await own_postgres(directory)
    try:
        settings = own_settings(postgres, directory)
        made = await create_site(settings, (Path(ledger.__file__).parent / "sites" / f"{SITE}.yaml").read_bytes())
        async with open_service(settings) as service:
            site = await service.site(SITE)
            key = Principal(site.site_id, "secret", frozenset({"events", "check"}))
            visitors = [new_visitor() for _ in range(count)]
            await post(service, site, key, [choice(visitor, n) for n, visitor in enumerate(visitors)])
            app = create_app(service, settings, CollectorRegistry())
            async with serving(app, "127.0.0.1", 0) as (host, port):
                await report("nobody linked", settings, site, (host, port, made.secret, visitors, calls))
                linked = visitors[::LINKED_ONE_IN]
                links = [
                    EventInput(type="account.linked", visitor=visitor, account=f"account-{n // 2}")
                    for n, visitor in enumerate(linked)
                ]
                await post(service, site, key, links)
                await post(service, site, key, [choice(v, n, scope="account") for n, v in enumerate(linked)])
                await report("every tenth linked", settings, site, (host, port, made.secret, visitors, calls))
    finally:
        await postgres.stop()


async def report(what: str, settings: Settings, site: Site, call: tuple[str, int, str, list[str], int]) -> None:
    pool = await open_pool(settings.database_url, size=1)
    size: int = await pool.fetchval("select max(seq) + 1 from ledger.entry where site_id = $1", site.site_id)
    row = await pool.fetchrow(
        "select version, position from ledger.projection where site_id = $1 and live", site.site_id
    )
    position = row["position"]
    while position < size - 1:
        position = await project_batch(
            pool, Vaults(pool, settings.masters), site.site_id, row["version"], position, size
        )
    await pool.close()
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as client:
        seconds = await asyncio.to_thread(client.apply, ask, call)
    visitors, typical = len(call[3]), median(seconds)
    click.echo(
        f"{what}: {visitors:,} visitors by {len(PURPOSES)} purposes in {typical:.2f} s (best {min(seconds):.2f}): "
        f"{visitors / typical:,.0f} visitors/s, {visitors * len(PURPOSES) / typical:,.0f} answers/s"
    )


@click.command()
@click.option("--visitors", default=10_000, show_default=True)
@click.option("--calls", default=7, show_default=True)
def main(visitors: int, calls: int) -> None:
    """Measure, and print two lines."""
    asyncio.run(measure(visitors, calls))


if __name__ == "__main__":
    main()
