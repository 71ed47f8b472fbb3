"""`consent-ledger policy`: the versions of a site's policy, checked before they are published, and published."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import BinaryIO

import click

from ledger.core.policy import parse_site_document
from ledger.locate import DATA, find_settings
from ledger.policy_check import check_command


@click.group("policy")
def policy_command() -> None:
    """Policies of a site."""


policy_command.add_command(check_command)


@policy_command.command("publish")
@click.argument("document", type=click.File("rb"))
@DATA
def policy_publish(document: BinaryIO, data: Path) -> None:
    """Publish a version of a site's document. What is published never changes."""
    from ledger.app import open_service  # noqa: PLC0415

    body = document.read()
    name = parse_site_document(body).site

    async def work() -> None:
        async with open_service(find_settings(data)) as service:
            done = await service.publish(await service.site(name), body)
        click.echo(f"published version {done.version} as entry {done.seq}, document {done.document}")

    asyncio.run(work())
