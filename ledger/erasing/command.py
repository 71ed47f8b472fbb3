"""`consent-ledger erase`: order an erasure or a restriction, look at it, lift it, open or let go what is held as proof.

The visitor's id is read from a file, standard input or a prompt that shows nothing, for arguments end up in shell
histories and process lists. Whoever may run this has the master secret and the site's ingest key.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, get_args

import click
import msgspec

from ledger.administration import Who, actor_here
from ledger.commands.acting import AS
from ledger.commands.locate import DATA, at_site
from ledger.commands.options import FiniteRange, read_options
from ledger.commands.visitor_option import VISITOR_FILE, read_account, read_visitor
from ledger.core import forms
from ledger.core.errors import ConfigInvalid, InputRefused
from ledger.core.event import EventId, matches
from ledger.erasing.messages import ErasureInput, ErasureLift, ErasureStatus, Level, Reason
from ledger.service import Service
from ledger.site import Site

Told = TypeVar("Told")

_SITE = click.argument("site")
_ERASURE = click.argument("erasure", metavar="ID")


def _reference(context: click.Context, parameter: click.Parameter, text: str) -> str:
    if not forms.REFERENCE.fits(text):
        raise click.BadParameter(forms.REFERENCE.expected)
    return text


_INSTRUCTION = click.option(
    "--instruction",
    required=True,
    metavar="REFERENCE",
    callback=_reference,
    help="Where the instruction is kept, like DSR-2026/117.",
)
_EVIDENCE = click.option("--evidence", metavar="SHA256", help="Of the request, as it is kept (64 hex digits).")
_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group("erase")
def erase_command() -> None:
    """Forget a person, or restrict the use of what is on record.

    Each order is an administrative act, which is recorded first. A running worker carries erasures out.
    """


@erase_command.command("order")
@_SITE
@click.option("--reason", type=click.Choice(get_args(Reason)), default="subject_request", show_default=True)
@_INSTRUCTION
@_EVIDENCE
@click.option("--level", type=click.Choice(get_args(Level)), default="erase", show_default=True)
@click.option("--hold-for", metavar="PERIOD", help="With the level hold, like P3Y.")
@click.option("--account", "is_account", is_flag=True, help="What is read is an account's name, not a visitor's id.")
@click.option(
    "--with-browsers", is_flag=True, help="With --account: every browser that is or was linked to it, by an order each."
)
@click.option("--id", "erasure", metavar="ID", help="A UUID: the order is made once under it.")
@click.option("--wait", "wait_seconds", type=FiniteRange(min=0), default=0.0, help="Seconds, until it is done.")
@VISITOR_FILE
@AS
@_JSON
@DATA
def order(
    site: str,
    reason: Reason,
    instruction: str,
    evidence: str | None,
    level: Level,
    hold_for: str | None,
    is_account: bool,
    with_browsers: bool,
    erasure: str | None,
    wait_seconds: float,
    visitor_file: BinaryIO,
    actor: str | None,
    as_json: bool,
    data: Path,
) -> None:
    """Order it: from now on nothing is recorded or told of this visitor. Exit code 1 if it was not done in time."""
    name = read_account(visitor_file) if is_account else read_visitor(visitor_file)
    named: dict[str, str | bool] = {"account" if is_account else "visitor": name}
    members = {"reason": reason, "instruction": instruction, "evidence": evidence, "level": level, "id": erasure}
    named |= {"withBrowsers": with_browsers}
    asked = read_options({**members, **named, "holdFor": hold_for}, ErasureInput)

    async def work(service: Service, found: Site) -> ErasureStatus:
        status = await service.erasures.order(found, asked, _who(actor))
        deadline = asyncio.get_running_loop().time() + wait_seconds
        while status.state == "pending" and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.2)
            status = await service.erasures.status(found, status.id)
        return status

    status = _run(data, site, work)
    _tell(status, as_json)
    sys.exit(1 if wait_seconds and status.state == "pending" else 0)


@erase_command.command("status")
@_SITE
@_ERASURE
@_JSON
@DATA
def status(site: str, erasure: str, as_json: bool, data: Path) -> None:
    """How far an order is, and what remains until when."""
    _check_id(erasure)
    _tell(_run(data, site, lambda service, found: service.erasures.status(found, erasure)), as_json)


@erase_command.command("lift")
@_SITE
@_ERASURE
@_INSTRUCTION
@_EVIDENCE
@AS
@_JSON
@DATA
def lift(
    site: str, erasure: str, instruction: str, evidence: str | None, actor: str | None, as_json: bool, data: Path
) -> None:
    """End a restriction."""
    _check_id(erasure)
    asked = read_options({"instruction": instruction, "evidence": evidence}, ErasureLift)
    _tell(_run(data, site, lambda service, found: service.erasures.lift(found, erasure, asked, _who(actor))), as_json)


@erase_command.command("open-held")
@_SITE
@_ERASURE
@_INSTRUCTION
@AS
@DATA
def open_held(site: str, erasure: str, instruction: str, actor: str | None, data: Path) -> None:
    """Open what is held as proof: one JSON line an opening. It is personal data, and the act is on record."""
    _check_id(erasure)
    who = _who(actor)
    found = _run(data, site, lambda service, found: service.erasures.open_held(found, erasure, instruction, who))
    for opening in found:
        click.echo(msgspec.json.encode(opening).decode())


@erase_command.command("release-held")
@_SITE
@_ERASURE
@_INSTRUCTION
@_EVIDENCE
@AS
@_JSON
@DATA
def release_held(
    site: str, erasure: str, instruction: str, evidence: str | None, actor: str | None, as_json: bool, data: Path
) -> None:
    """Destroy what is held as proof before its term, with its key. Nothing brings it back, and the act is on record."""
    _check_id(erasure)
    asked = read_options({"instruction": instruction, "evidence": evidence}, ErasureLift)

    async def work(service: Service, found: Site) -> ErasureStatus:
        return await service.erasures.release_held(found, erasure, asked, _who(actor))

    _tell(_run(data, site, work), as_json)


def _run(data: Path, site: str, work: Callable[[Service, Site], Awaitable[Told]]) -> Told:
    logging.getLogger("ledger.site").setLevel(logging.ERROR)
    try:
        return at_site(data, site, work)
    except InputRefused as error:
        raise ConfigInvalid(error.detail) from error


def _who(actor: str | None) -> Who:
    return Who(actor_here(actor), "operator")


def _check_id(erasure: str) -> None:
    if not matches(EventId, erasure):
        raise ConfigInvalid("an erasure's id is a UUID in lower case, as the order was answered with")


def _tell(status: ErasureStatus, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(status), indent=2).decode())
        return
    for line in _words(status):
        click.echo(line)


_STATES: dict[str, str] = {
    "pending": "ordered: nothing is recorded or told any more, and what is on record goes soon",
    "erased": "erased",
    "restricted": "restricted: everything stays and is recorded on, and nothing is used",
    "lifted": "the restriction is lifted",
    "superseded": "another order took its place",
}


def _words(status: ErasureStatus) -> list[str]:
    lines: list[Any] = [
        f"{status.id}: {_STATES[status.state]}",
        f"reason {status.reason}, level {status.level}, ordered {status.requested_at}, act {status.act}",
    ]
    if status.restricted:
        lines.append(f"it waits for {status.restricted} restricted: lift first; what is left are their records")
    elif status.state == "pending":
        lines.append(f"it waits to be mixed with others until {status.due_at} at the latest")
    if status.state == "erased":
        lines.append(f"{status.events} events went, the last at {status.ended_at}")
        if status.level == "hold" and not status.held:
            lines.append("nothing is held as proof")
    lines += [f"  entry {entry.position}: {entry.events} of its events" for entry in status.entries]
    lines += [f"stays until {each.until}: event {each.seq} ({', '.join(each.purposes)})" for each in status.kept]
    if status.held:
        lines.append(f"held as proof until {status.held_until}: {status.held} openings (`erase release-held` ends it)")
    lines += [f"stays denied until {mark.until}: {mark.purpose}" for mark in status.marks]
    if status.browsers:
        lines.append(f"{len(status.browsers)} browsers have orders of their own: {', '.join(status.browsers)}")
    if status.browsers_left:
        lines.append(f"{status.browsers_left} browsers that were linked keep what they recorded for themselves")
    if status.blocked_until:
        lines.append(f"nothing is recorded under the id until {status.blocked_until}")
    return lines
