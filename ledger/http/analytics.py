"""The calls of analytics: bulk check, a visitor's history."""

from __future__ import annotations

from aiohttp import web

from ledger import config
from ledger.core.errors import InputRefused
from ledger.core.event import convert, parse_json
from ledger.http import auth, body, parameters
from ledger.http.edge import EDGE, json_response
from ledger.messages import CheckInput


async def check(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/check`: decisions for many visitors at one moment."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.CHECK)
    parameters.query(request)
    limits = edge.limits
    data = await body.read_body(request, body.JSON_TYPES, limits.check_body_max_bytes, limits.body_read_timeout_seconds)
    return json_response(await edge.service.check(site, _question(data, limits.check_max_answers)))


def _question(data: bytes, max_answers: int) -> CheckInput:
    value = parse_json(data)
    try:
        question = convert(value, CheckInput)
    except InputRefused as error:
        raise InputRefused("invalid-check", error.detail, error.pointer) from error
    if len(question.visitors) * len(question.purposes) > max_answers:
        raise InputRefused(
            "too-many-answers",
            f"Visitors times purposes may be at most {max_answers}; split the question.",
            "/visitors",
        )
    return question


async def history(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/history`: a page of a visitor's events, oldest first."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.READ_HISTORY)
    query = parameters.query(request, once=("cursor", "limit"))
    limit = parameters.page(query, config.HISTORY_PAGE_EVENTS, config.HISTORY_PAGE_MAX_EVENTS)
    visitor = parameters.visitor(request)
    return json_response(await edge.service.history(site, visitor, query.get("cursor"), limit))
