"""The cookie inventory: pages and crawlers report names, owners read and review what came of them."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from aiohttp import web

from ledger import config
from ledger.core.errors import InputRefused
from ledger.core.event import convert, parse_json
from ledger.http import auth, body, parameters
from ledger.http.acting import acting_of
from ledger.http.edge import EDGE, Edge, json_response
from ledger.messages import CookieReviewInput, CookiesObserved


async def observed(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/cookies:observed`: names that were found on a page, never values."""
    edge = request.app[EDGE]
    site, principal = await auth.admit(request, edge, auth.OBSERVE_COOKIES)
    seen = await _read(request, edge, CookiesObserved)
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
    told, acting = await _read(request, edge, CookieReviewInput), acting_of(request, edge, admitted)
    recorded, replayed = await edge.service.cookies.review(admitted.site, told, acting)
    headers = {"Idempotent-Replayed": "true"} if replayed else None
    return json_response(recorded, 200 if replayed else 201, headers)


T = TypeVar("T", bound=msgspec.Struct)


async def _read(request: web.Request, edge: Edge, kind: type[T]) -> T:
    parameters.query(request)
    limits = edge.limits
    data = await body.read_body(
        request, body.JSON_TYPES, config.COOKIES_BODY_MAX_BYTES, limits.body_read_timeout_seconds
    )
    value: Any = parse_json(data)
    try:
        return convert(value, kind)
    except InputRefused as error:
        raise InputRefused("invalid-cookies", error.detail, error.pointer) from error
