"""Erasures and restrictions: ordered, looked at, and (a restriction) lifted again; all with the scope admin."""

from __future__ import annotations

from typing import Any, TypeVar

from aiohttp import hdrs, web

from ledger import config
from ledger.core.errors import InputRefused
from ledger.core.event import EventId, convert, matches, parse_json
from ledger.erasing.messages import ErasureInput, ErasureLift
from ledger.erasing.orders import By
from ledger.http import auth, body, parameters
from ledger.http.acting import who_acts
from ledger.http.edge import EDGE, json_response
from ledger.site import Site

Message = TypeVar("Message")


async def post_erasure(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/erasures`: 202 once the visitor or account is blocked; what is on record goes soon."""
    site, by = await _admitted(request)
    status = await request.app[EDGE].service.erasures.order(site, await _read(request, ErasureInput), by)
    return json_response(status, 202, {hdrs.LOCATION: f"/v1/sites/{site.site}/erasures/{status.id}"})


async def get_erasure(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/erasures/{id}`: how far it is, and what remains until when."""
    site, _ = await _admitted(request)
    return json_response(await request.app[EDGE].service.erasures.status(site, _id(request)))


async def lift(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/erasures/{id}/lift`: the end of a restriction, under an instruction of its own."""
    site, by = await _admitted(request)
    asked = await _read(request, ErasureLift)
    return json_response(await request.app[EDGE].service.erasures.lift(site, _id(request), asked, by))


async def _admitted(request: web.Request) -> tuple[Site, By]:
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.ERASE)
    parameters.query(request)
    who = who_acts(request, edge, admitted)
    return admitted.site, By(who.actor, who.role, who.flagged)


async def _read(request: web.Request, kind: type[Message]) -> Message:
    limits = request.app[EDGE].limits
    data = await body.read_body(
        request, body.JSON_TYPES, config.ERASURE_BODY_MAX_BYTES, limits.body_read_timeout_seconds
    )
    value: Any = parse_json(data)
    try:
        return convert(value, kind)
    except InputRefused as error:
        raise InputRefused("invalid-erasure", error.detail, error.pointer) from error


def _id(request: web.Request) -> str:
    erasure = request.match_info["id"]
    if not matches(EventId, erasure):
        raise InputRefused("not-found", "An erasure's id is a UUID in lower case.")
    return erasure
