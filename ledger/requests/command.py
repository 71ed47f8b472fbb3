"""`consent-ledger request`: the register of requests on the command line. What it does is requests/register."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, get_args

import click
import msgspec

from ledger import config
from ledger.administration import Who
from ledger.commands.acting import acting_options
from ledger.commands.locate import DATA, at_site
from ledger.commands.options import read_options
from ledger.commands.visitor_option import read_account, read_visitor
from ledger.core import forms
from ledger.core.errors import InputRefused
from ledger.core.event import EventId, matches
from ledger.core.subject_request import Delay, Kind, Refusal, State, allowed
from ledger.requests.messages import ErasureLevel, RequestList, RequestRegistration, RequestStatus, RequestStepInput
from ledger.requests.register import Requests
from ledger.site import Site

SITE = click.argument("site_name", metavar="SITE")
REQUEST = click.argument("request_id", metavar="ID")
JSON = click.option("--json", "as_json", is_flag=True, help="For programs: as the endpoints answer.")


@click.group("request")
def request_command() -> None:
    """Requests of people about their data: access, erasure, portability, objection, correction.

    A request goes from received over proven, forwarded and instructed to answered; before that it may be refused, and
    put off once. Exit code 2 where a step is not allowed.
    """


@request_command.command("list")
@SITE
@click.option("--state", type=click.Choice(get_args(State)))
@click.option("--kind", type=click.Choice(get_args(Kind)))
@click.option("--overdue", is_flag=True, help="Only those that are open beyond their deadline.")
@click.option("--check", is_flag=True, help="Exit code 1 where one is open beyond its deadline.")
@JSON
@DATA
def list_requests(
    site_name: str, state: State | None, kind: Kind | None, overdue: bool, check: bool, as_json: bool, data: Path
) -> None:
    """Every request, the newest first, a line each."""

    async def work(requests: Requests, site: Site) -> bool:
        cursor: str | None = None
        late = False
        while True:
            page = await requests.page(
                site, state=state, kind=kind, overdue=overdue, cursor=cursor, limit=config.REQUEST_PAGE_MAX
            )
            _show_page(page, as_json=as_json)
            late = late or any(request.late for request in page.requests)
            cursor = page.next
            if cursor is None:
                return late

    if _run(data, site_name, work) and check:
        raise SystemExit(1)


@request_command.command("show")
@SITE
@REQUEST
@JSON
@DATA
def show(site_name: str, request_id: str, as_json: bool, data: Path) -> None:
    """One request: who asked for what, how it stands, what may be done now."""

    async def work(requests: Requests, site: Site) -> RequestStatus:
        return await requests.status(site, _id(request_id))

    _show(_run(data, site_name, work), as_json=as_json)


@request_command.command("register")
@SITE
@click.option("--kind", type=click.Choice(get_args(Kind)), required=True)
@click.option(
    "--visitor-file",
    type=click.File("rb"),
    help="File that holds the visitor's id; - is standard input, and asks where that is a terminal. Left out: nobody.",
)
@click.option("--account", "is_account", is_flag=True, help="What is read is an account's name, not a visitor's id.")
@click.option("--contact", help="Where the controller finds how to reach the person: a reference like DSR-2026/117.")
@click.option("--region", help="ISO 3166: whose law counts. Unknown: the strictest deadline of the document.")
@click.option("--received", help="When it came, RFC 3339; now if left out.")
@click.option("--identified", is_flag=True, help="Who asks was found out: else that is a step of its own (identify).")
@JSON
@DATA
@acting_options
def register(
    site_name: str,
    kind: Kind,
    visitor_file: BinaryIO | None,
    is_account: bool,
    contact: str | None,
    region: str | None,
    received: str | None,
    identified: bool,
    as_json: bool,
    data: Path,
    who: Who,
) -> None:
    """Enter a request that came by letter, or otherwise than from the browser."""
    if is_account and visitor_file is None:
        raise click.UsageError("--account goes with --visitor-file: what is read there is an account's name")
    told: dict[str, Any] = {"kind": kind, "identified": identified}
    told |= {"contact": contact, "region": region, "receivedAt": received}
    if visitor_file is not None:
        read = read_account if is_account else read_visitor
        told["account" if is_account else "visitor"] = read(visitor_file)
    asked = read_options(told, RequestRegistration, {"receivedAt": "--received"})

    async def work(requests: Requests, site: Site) -> RequestStatus:
        entered, is_new = await requests.register(site, asked, who)
        if not is_new:
            click.echo("a request of the same person and kind waits already", err=True)
        return entered

    _show(_run(data, site_name, work), as_json=as_json)


@request_command.command("identify")
@SITE
@REQUEST
@JSON
@DATA
@acting_options
def identify(site_name: str, request_id: str, as_json: bool, data: Path, who: Who) -> None:
    """Say that it was found out otherwise who asks."""
    _take(data, site_name, request_id, {"step": "identify"}, who, as_json=as_json)


@request_command.command("forward")
@SITE
@REQUEST
@JSON
@DATA
@acting_options
def forward(site_name: str, request_id: str, as_json: bool, data: Path, who: Who) -> None:
    """Say that the controller was told. With LEDGER_REQUEST_WEBHOOK the worker does it, and tells it."""
    _take(data, site_name, request_id, {"step": "forward"}, who, as_json=as_json)


@request_command.command("extend")
@SITE
@REQUEST
@click.option("--reason", type=click.Choice(get_args(Delay)), required=True)
@click.option("--until", help="RFC 3339; the latest moment that the site document leaves room for, if left out.")
@JSON
@DATA
@acting_options
def extend(
    site_name: str, request_id: str, reason: str, until: str | None, as_json: bool, data: Path, who: Who
) -> None:
    """Record that the controller puts the answer off, and why: once, and before it was due. Tell the person by then."""
    told = {"step": "extend", "instruction": _instructed(who), "reason": reason}
    _take(data, site_name, request_id, told | ({} if until is None else {"until": until}), who, as_json=as_json)


@request_command.command("instruct")
@SITE
@REQUEST
@click.option("--level", type=click.Choice(get_args(ErasureLevel)), help="Of an erasure; erase if left out.")
@JSON
@DATA
@acting_options
def instruct(site_name: str, request_id: str, level: str | None, as_json: bool, data: Path, who: Who) -> None:
    """Record the controller's instruction to answer. It orders an erasure; data can be fetched from then on."""
    told = {"step": "instruct", "instruction": _instructed(who), **({} if level is None else {"level": level})}
    _take(data, site_name, request_id, told, who, as_json=as_json)


@request_command.command("answer")
@SITE
@REQUEST
@JSON
@DATA
@acting_options
def answer(site_name: str, request_id: str, as_json: bool, data: Path, who: Who) -> None:
    """Say that it was answered. An erasure that is done, and data that was fetched, say so by themselves."""
    _take(data, site_name, request_id, {"step": "answer"}, who, as_json=as_json)


@request_command.command("refuse")
@SITE
@REQUEST
@click.option("--reason", type=click.Choice(get_args(Refusal)), required=True)
@JSON
@DATA
@acting_options
def refuse(site_name: str, request_id: str, reason: str, as_json: bool, data: Path, who: Who) -> None:
    """Record that the controller refuses, and why."""
    told = {"step": "refuse", "instruction": _instructed(who), "reason": reason}
    _take(data, site_name, request_id, told, who, as_json=as_json)


def _take(data: Path, site_name: str, request_id: str, told: dict[str, str], who: Who, *, as_json: bool) -> None:
    asked = read_options(told, RequestStepInput)

    async def work(requests: Requests, site: Site) -> RequestStatus:
        return await requests.take(site, _id(request_id), asked, who)

    _show(_run(data, site_name, work), as_json=as_json)


def _instructed(who: Who) -> str:
    if who.instruction is None:
        raise click.UsageError(f"--instruction is needed, the controller's: {forms.REFERENCE.expected}")
    return who.instruction


def _id(request_id: str) -> str:
    if not matches(EventId, request_id):
        raise click.UsageError(f"ID is {forms.UUID.expected}: `list` shows them")
    return request_id


def _run(data: Path, site_name: str, work: Callable[[Requests, Site], Awaitable[Any]]) -> Any:
    try:
        return at_site(data, site_name, lambda service, site: work(service.requests, site))
    except InputRefused as error:
        raise click.UsageError(error.detail) from error


def _show_page(page: RequestList, *, as_json: bool) -> None:
    for request in page.requests:
        if as_json:
            click.echo(msgspec.json.encode(request))
            continue
        late = "  OVERDUE" if request.late else ""
        click.echo(f"{request.id}  {request.kind:11}  {request.state:10}  due {request.due_at}{late}")


def _show(request: RequestStatus, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(request), indent=1))
    else:
        click.echo("\n".join(_lines(request)))


def _lines(request: RequestStatus) -> Iterator[str]:
    yield f"request   {request.id}"
    yield f"site      {request.site}"
    yield f"kind      {request.kind}"
    yield f"state     {request.state}"
    yield f"received  {request.received_at}"
    yield f"due       {request.due_at}{'  OVERDUE' if request.late else ''}"
    if request.extended_from is not None:
        yield f"put off   from {request.extended_from}"
    if request.extendable_to is not None:
        yield f"room      to put it off until {request.extendable_to}"
    if request.closed_at is not None:
        yield f"closed    {request.closed_at}"
    yield f"evidence  {request.evidence}"
    for name in ("visitor", "account", "contact", "region", "instruction"):
        if (value := getattr(request, name)) is not None:
            yield f"{name:9} {value}"
    if request.forgotten:
        yield "forgotten: who asked is not kept any more"
    for step in request.steps:
        reason = f" ({step.reason})" if step.reason else ""
        yield f"  {step.at}  {step.step:8}  by the {step.by}{reason}, act {step.act}"
    steps = [step for step in allowed(request.state, "operator") if step != "extend" or request.extendable_to]
    yield f"next      {', '.join(steps) or 'nothing: it is closed'}"
