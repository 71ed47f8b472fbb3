"""The calls of analytics: bulk check, a visitor's history."""

from __future__ import annotations

from aiohttp import web

from ledger import config
from ledger.core.errors import InputRefused
from ledger.http import auth, body, parameters
from ledger.http.edge import EDGE, json_response
from ledger.messages import CheckInput


async def check(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/check`: decisions for many visitors at one moment."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.CHECK)
    parameters.query(request)
    limits = edge.limits
    question = await body.read_message(request, CheckInput, limits.check_body_max_bytes, "invalid-check")
    if len(question.visitors) * len(question.purposes) > limits.check_max_answers:
        raise InputRefused(
            "too-many-answers",
            f"Visitors times purposes may be at most {limits.check_max_answers}; split the question.",
            "/visitors",
        )
    return json_response(await edge.service.check(site, question))


async def history(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/history`: a page of a visitor's events, oldest first."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.READ_HISTORY)
    query = parameters.query(request, once=("cursor", "limit"))
    limit = parameters.page(query, config.HISTORY_PAGE_EVENTS, config.HISTORY_PAGE_MAX_EVENTS)
    visitor = parameters.visitor(request)
    return json_response(await edge.service.history(site, visitor, query.get("cursor"), limit))
