"""The cookie inventory: pages and crawlers report names, owners read and review what came of them."""

from __future__ import annotations

from aiohttp import web

from ledger import config
from ledger.http import auth, body, parameters
from ledger.http.acting import acting_of
from ledger.http.edge import EDGE, created, json_response
from ledger.messages import CookieReviewInput, CookiesObserved


async def observed(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/cookies:observed`: names that were found on a page, never values."""
    edge = request.app[EDGE]
    site, principal = await auth.admit(request, edge, auth.OBSERVE_COOKIES)
    seen = await _read(request, CookiesObserved)
    publishable = principal.key_class == "publishable"
    room = config.COOKIES_MAX_NAMES_PUBLISHABLE if publishable else config.COOKIES_MAX_NAMES
    return json_response(await edge.service.cookies.observe(site, seen, room))


async def inventory(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/cookies`: what the policy declares against what was seen, and how the reviews stand."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.READ_COOKIES)
    parameters.query(request)
    return json_response(await edge.service.cookies.inventory(site))


async def review(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/cookies:review`: somebody went through the inventory."""
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.REVIEW_COOKIES)
    told, acting = await _read(request, CookieReviewInput), acting_of(request, edge, admitted)
    recorded, replayed = await edge.service.cookies.review(admitted.site, told, acting)
    return created(recorded, replayed=replayed)


async def _read(request: web.Request, kind: type[body.Message]) -> body.Message:
    parameters.query(request)
    return await body.read_message(request, kind, config.COOKIES_BODY_MAX_BYTES, "invalid-cookies")
