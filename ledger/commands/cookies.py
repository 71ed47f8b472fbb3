"""`consent-ledger cookies`: the cookie inventory on the command line. What it says is ledger/cookies."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from ledger import config
from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, at_site
from ledger.cookies import Cookies
from ledger.core.document import Storage
from ledger.core.errors import InputRefused
from ledger.core.event import convert
from ledger.messages import CookieInventory, CookieReviewInput, CookiesObserved, DeclaredCookie, UndeclaredCookie
from ledger.site import Site

if TYPE_CHECKING:
    from ledger.administration import Who
    from ledger.service import Service

SITE = click.argument("site_name", metavar="SITE")
_ROLE = "--by is a role, 1 to 64 characters, and nobody's address"
REPORT_NAMES = 100
"""As many as one report over HTTP may have."""


@click.group("cookies")
def cookies_command() -> None:
    """Cookies that are declared, and cookies that are there."""


@cookies_command.command("list")
@SITE
@click.option("--json", "as_json", is_flag=True, help="For programs: as GET /v1/sites/SITE/cookies answers.")
@click.option("--check", is_flag=True, help="Exit code 1 where a cookie is undeclared, or a review overdue.")
@DATA
def list_cookies(site_name: str, as_json: bool, check: bool, data: Path) -> None:
    """What the policy in force declares against what was reported, and how the reviews stand."""

    async def work(cookies: Cookies, site: Site) -> CookieInventory:
        return await cookies.inventory(site)

    inventory: CookieInventory = _run(data, site_name, work)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(inventory), indent=1))
    else:
        click.echo("\n".join(_lines(inventory)))
    if check and (inventory.undeclared or inventory.overdue_seconds):
        raise SystemExit(1)


@cookies_command.command("report")
@SITE
@click.argument("names", nargs=-1)
@click.option("--storage", type=click.Choice(get_args(Storage)), default="cookie", show_default=True)
@DATA
def report(site_name: str, names: tuple[str, ...], storage: Storage, data: Path) -> None:
    """Report names that a crawler found. Names alone, never values; without NAMES a line each from standard input."""
    found = list(names) or [line.strip() for line in sys.stdin if line.strip()]
    if not found:
        raise click.UsageError("no names: give them as arguments, or one a line on standard input")

    async def work(cookies: Cookies, site: Site) -> int:
        dropped = 0
        for start in range(0, len(found), REPORT_NAMES):
            page = found[start : start + REPORT_NAMES]
            seen = convert({"names": page, "storage": storage}, CookiesObserved)
            kept = await cookies.observe(site, seen, config.COOKIES_MAX_NAMES)
            for name in kept.names:
                click.echo(name)
            dropped += kept.dropped
        return dropped

    if dropped := _run(data, site_name, work):
        click.echo(f"{dropped} names found no room: `consent-ledger cookies forget` makes some", err=True)
        raise SystemExit(1)


@cookies_command.command("review")
@SITE
@click.option("--by", required=True, help="The role of who went through it, like 'data protection officer'.")
@click.option("--inventory", help="The hash that `list` showed: refused where the inventory is another one by now.")
@acting_options
@DATA
def review(site_name: str, by: str, inventory: str | None, data: Path, who: Who) -> None:
    """Record that somebody went through the inventory, now. What is recorded never changes."""
    try:
        told = convert({"by": by, "inventory": inventory}, CookieReviewInput)
    except InputRefused as error:
        what = "--inventory is the hash that `list` shows" if error.pointer == "/inventory" else _ROLE
        raise click.UsageError(what) from error

    async def work(service: Service, site: Site) -> None:
        acting = service.administration.acting(site.site, who)
        recorded, replayed = await service.cookies.review(site, told, acting)
        done = "was recorded today already" if replayed else "recorded"
        click.echo(f"review {recorded.n} {done}: by {recorded.by} at {recorded.reviewed_at}")
        click.echo(f"inventory {recorded.inventory}, policy {recorded.policy_version}")

    _run_service(data, site_name, work)


@cookies_command.command("forget")
@SITE
@click.argument("names", nargs=-1)
@click.option("--unseen", "days", type=click.IntRange(1, 36_500), help="Instead: what was not seen for so many days.")
@DATA
def forget(site_name: str, names: tuple[str, ...], days: int | None, data: Path) -> None:
    """Forget names that were reported, as `list` shows them: reported in error, or gone. Reviews stay."""
    if bool(names) == bool(days):
        raise click.UsageError("name what to forget, or give --unseen DAYS")

    async def work(cookies: Cookies, site: Site) -> None:
        count = await cookies.forget(site, names or None, days or 0)
        click.echo(f"forgot {count} {'name' if count == 1 else 'names'}")

    _run(data, site_name, work)


def _run(data: Path, site_name: str, work: Callable[[Cookies, Site], Awaitable[Any]]) -> Any:
    return _run_service(data, site_name, lambda service, site: work(service.cookies, site))


def _run_service(data: Path, site_name: str, work: Callable[[Service, Site], Awaitable[Any]]) -> Any:
    try:
        return at_site(data, site_name, work)
    except InputRefused as error:
        raise click.UsageError(error.detail) from error


def _lines(inventory: CookieInventory) -> Iterator[str]:
    yield f"{inventory.site}, policy {inventory.policy_version}, inventory {inventory.inventory}"
    purpose = ""
    for cookie in inventory.declared:
        if cookie.purpose != purpose:
            purpose = cookie.purpose
            yield purpose
        yield f"  {cookie.name or cookie.pattern or _described(cookie):32} {cookie.storage:14} {_seen(cookie)}"
    if inventory.undeclared:
        yield "UNDECLARED"
    for row in inventory.undeclared:
        yield f"  {row.name:32} {row.storage:14} {_seen(row)}"
    yield _reviews(inventory)


def _seen(cookie: DeclaredCookie | UndeclaredCookie) -> str:
    if isinstance(cookie, DeclaredCookie) and not cookie.name and not cookie.pattern:
        return "cannot be seen without a name"
    if not cookie.days:
        return "never seen"
    if cookie.days == 1:
        return f"seen on {cookie.first_seen}"
    return f"seen on {cookie.days} days, from {cookie.first_seen} to {cookie.last_seen}"


def _described(cookie: DeclaredCookie) -> str:
    """What a cookie without a name is for, in the first of its languages, as far as there is room."""
    text = next(iter(cookie.description.values()), "")
    return f"({text if len(text) <= 30 else text[:29] + '…'})"


def _reviews(inventory: CookieInventory) -> str:
    last = inventory.last_review
    told = "never reviewed" if last is None else f"last reviewed by {last.by} at {last.reviewed_at}"
    if inventory.due is None:
        return f"{told}; the policy asks for no reviews"
    overdue = f", OVERDUE by {_days(inventory.overdue_seconds)}" if inventory.overdue_seconds else ""
    return f"{told}; every {inventory.review_every}, next due {inventory.due}{overdue}"


def _days(seconds: int) -> str:
    days, rest = divmod(seconds, 86_400)
    return f"{days} d {rest // 3600} h"
