"""Erasures and restrictions: ordered, looked at, and (a restriction) lifted again; all with the scope admin."""

from __future__ import annotations

from aiohttp import hdrs, web

from ledger import config
from ledger.administration import Who
from ledger.erasing.messages import ErasureInput, ErasureLift
from ledger.http import auth, body, parameters
from ledger.http.acting import who_acts
from ledger.http.edge import EDGE, json_response
from ledger.site import Site


async def post_erasure(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/erasures`: 202 once the visitor or account is blocked; what is on record goes soon."""
    site, who = await _admitted(request)
    status = await request.app[EDGE].service.erasures.order(site, await _read(request, ErasureInput), who)
    return json_response(status, 202, {hdrs.LOCATION: f"/v1/sites/{site.site}/erasures/{status.id}"})


async def get_erasure(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/erasures/{id}`: how far it is, and what remains until when."""
    site, _ = await _admitted(request)
    erasure = parameters.identifier(request, "An erasure")
    return json_response(await request.app[EDGE].service.erasures.status(site, erasure))


async def lift(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/erasures/{id}/lift`: the end of a restriction, under an instruction of its own."""
    site, who = await _admitted(request)
    asked, erasure = await _read(request, ErasureLift), parameters.identifier(request, "An erasure")
    return json_response(await request.app[EDGE].service.erasures.lift(site, erasure, asked, who))


async def _admitted(request: web.Request) -> tuple[Site, Who]:
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.ERASE)
    parameters.query(request)
    return admitted.site, who_acts(request, edge, admitted)


async def _read(request: web.Request, kind: type[body.Message]) -> body.Message:
    return await body.read_message(request, kind, config.ERASURE_BODY_MAX_BYTES, "invalid-erasure")
