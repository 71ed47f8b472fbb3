"""`consent-ledger policy`: the versions of a site's policy: checked, compared, published, and read again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import msgspec

from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, find_settings
from ledger.config import POLICY_BODY_MAX_BYTES, POLICY_PAGE_MAX_VERSIONS
from ledger.core.document import SiteDocument
from ledger.core.encoding import encode_time
from ledger.core.errors import ConfigInvalid, InputRefused, NotFound
from ledger.core.event import AnyTime, parse_time
from ledger.core.policy import decode_document, parse_site_document
from ledger.core.policy_diff import asks_again, diff
from ledger.messages import PolicyDiff, PolicyItem
from ledger.policies.authoring import read_authored
from ledger.policies.check import check_command, folder_of, schema_command, summary
from ledger.policies.difference import described

if TYPE_CHECKING:
    from ledger.administration import Who
    from ledger.service import Service

JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


@click.group("policy")
def policy_command() -> None:
    """Policies of a site."""


policy_command.add_command(check_command)
policy_command.add_command(schema_command)


@policy_command.command("publish")
@click.argument("document", type=click.File("rb"))
@JSON
@acting_options
@DATA
def policy_publish(document: BinaryIO, as_json: bool, data: Path, who: Who) -> None:
    """Publish a version of a site's document, and what it names. What is published never changes.

    In place of a notice's hash, and of that of a document to be accepted, a file may be named: `{file: banner.json}`,
    relative to DOCUMENT. It is uploaded first.
    """
    authored = read_authored(document.read(POLICY_BODY_MAX_BYTES + 1), folder_of(document))
    name = parse_site_document(authored.source).site

    async def work(service: Service) -> None:
        site = await service.site(name)
        acting = service.administration.acting(site.site, who)
        for media_type, body in authored.uploads:
            await service.publishing.upload(media_type, body, acting)
        answer, replayed = await service.publishing.publish(site, authored.source, acting)
        if as_json:
            click.echo(msgspec.json.encode(answer))
            return
        how = "was published before" if replayed else "is published"
        click.echo(f"version {answer.version} {how}, as entry {answer.seq}, document {answer.document}")
        found = await service.publishing.difference(site, None, answer.version)
        if not replayed and found.before is not None:
            click.echo("\n".join(told(found)))

    _with_service(data, work)


@policy_command.command("list")
@click.argument("site_name", metavar="SITE")
@JSON
@DATA
def policy_list(site_name: str, as_json: bool, data: Path) -> None:
    """Every version of a site's policy, the newest in the log first."""

    async def work(service: Service) -> None:
        site = await service.site(site_name)
        items: list[PolicyItem] = []
        cursor: str | None = None
        while True:
            page = await service.publishing.versions(site, cursor, POLICY_PAGE_MAX_VERSIONS)
            items, cursor = items + page.policies, page.next
            if cursor is None:
                break
        if as_json:
            click.echo(msgspec.json.encode({"site": site_name, "policies": items}))
            return
        if not items:
            raise NotFound(f"{site_name} has published no version")
        width = max(len(item.version) for item in items)
        for item in items:
            mark = "  in force" if item.in_force else ""
            since = f"from {item.effective_at}"
            click.echo(f"{item.version:<{width}}  {since}  entry {item.seq:>6}  {item.document}{mark}")

    _with_service(data, work)


@policy_command.command("show")
@click.argument("site_name", metavar="SITE")
@click.argument("version", required=False)
@click.option("--at", help="The version that held at a time, like 2026-11-21T03:00:00Z, instead of the one in force.")
@click.option("--json", "as_json", is_flag=True, help="Print the document, byte for byte as published.")
@DATA
def policy_show(site_name: str, version: str | None, at: str | None, as_json: bool, data: Path) -> None:
    """What a version says: VERSION, the one that held at a time, or the one in force."""
    if version is not None and at is not None:
        raise click.UsageError("a version or a time, not both")
    try:
        at_ms = None if at is None else parse_time(msgspec.convert(at, AnyTime), "")
    except (InputRefused, msgspec.ValidationError) as error:
        raise click.UsageError("--at is a time like 2026-11-21T03:00:00Z") from error

    async def work(service: Service) -> None:
        site = await service.site(site_name)
        digest, body = await service.publishing.policy(site, version, at_ms)
        if as_json:
            click.echo(body)
            return
        document = decode_document(body)
        click.echo("\n".join(summary(document, ())))
        entry = site.policies.get(document.version)
        assert entry is not None
        click.echo(f"\npublished at {encode_time(entry.published_ms)} as entry {entry.seq}, document {digest}")
        if entry.effect_ms > entry.published_ms:
            click.echo(f"it holds from {encode_time(entry.effect_ms)} on")
        for name, notice in document.notices.items():
            click.echo(f"notice {name}: {notice.media_type}, document {notice.document}")

    _with_service(data, work)


@policy_command.command("diff")
@click.argument("before")
@click.argument("after", required=False)
@click.option("--site", "site_name", help="Whose versions they are, where no file tells.")
@JSON
@DATA
def policy_diff(before: str, after: str | None, site_name: str | None, as_json: bool, data: Path) -> None:
    """What changes from BEFORE to AFTER, and for which purposes visitors are asked again.

    Each is a file or, if there is no such file, a published version. With one of them alone it is compared with the
    version in effect before it; a file, with the one in force.
    """
    files = {name: _read_file(name) for name in (before, after) if name is not None and Path(name).is_file()}
    newer = before if after is None else after
    name = site_name or next((document.site for document in files.values()), None)
    if name is None:
        raise click.UsageError("neither is a file: say with --site whose versions they are")
    if after is not None and {before, after} <= files.keys():
        _tell(compare(files[before], files[after]), as_json)
        return

    async def work(service: Service) -> None:
        site = await service.site(name)
        if newer not in files and before not in files:
            _tell(await service.publishing.difference(site, before if after else None, newer), as_json)
            return
        older = files.get(before) if after else None
        if older is None:
            older = decode_document((await service.publishing.policy(site, before if after else None))[1])
        published = files.get(newer) or decode_document((await service.publishing.policy(site, newer))[1])
        _tell(compare(older, published), as_json)

    _with_service(data, work)


def compare(before: SiteDocument, after: SiteDocument) -> PolicyDiff:
    """What a document changes, be it published or not."""
    found = diff(before, after)
    return described(before, after, lambda purpose: asks_again(found, after, purpose))


def told(found: PolicyDiff) -> list[str]:
    """A diff in lines, by purpose; what is material is marked."""
    lines = [f"{found.site}: version {found.after}, compared with {found.before or 'nothing'}"]
    for purpose in dict.fromkeys(change.purpose for change in found.changes):
        lines.append(f"  {purpose or 'the site'}")
        for change in found.changes:
            if change.purpose == purpose:
                lines.append(f"    {'! ' if change.material else '  '}{change.what}")
    if not found.changes:
        lines.append("  nothing changes")
    for asked in found.asks_again:
        lines.append(f"visitors are asked again for {asked.purpose}: {'; '.join(asked.why)}")
    if not found.asks_again:
        lines.append("nobody is asked again")
    for purpose, reason in found.not_material.items():
        lines.append(f"on record why not for {purpose}: {reason}")
    return lines


def _tell(found: PolicyDiff, as_json: bool) -> None:
    click.echo(msgspec.json.encode(found) if as_json else "\n".join(told(found)))


def _read_file(name: str) -> SiteDocument:
    path = Path(name)
    with path.open("rb") as file:
        authored = read_authored(file.read(POLICY_BODY_MAX_BYTES + 1), path.parent)
    return parse_site_document(authored.source)


def _with_service(data: Path, work: Callable[[Service], Awaitable[Any]]) -> None:
    from ledger.app import open_service  # noqa: PLC0415 - commands start fast

    async def run() -> None:
        async with open_service(find_settings(data)) as service:
            await work(service)

    try:
        asyncio.run(run())
    except NotFound as error:
        raise ConfigInvalid(str(error)) from error
