"""Requests of people about their data: made and followed from the browser that proves whose it is, led on by operators.

A visitor's calls take a publishable key, and for a request that was made the token that a proof gave; an operator's
take a secret key with the scope admin.
"""

from __future__ import annotations

from typing import get_args

from aiohttp import hdrs, web

from ledger import config
from ledger.core.errors import InputRefused, TooMany
from ledger.core.subject_request import Kind, State
from ledger.http import auth, body, parameters
from ledger.http.acting import who_acts
from ledger.http.downloads import told_of
from ledger.http.edge import EDGE, created, json_response
from ledger.requests.messages import (
    RequestDownload,
    RequestInput,
    RequestProof,
    RequestRegistration,
    RequestStepInput,
)

HEADER = "Consent-Request-Token"


async def post_request(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/requests`: a challenge, whose answer makes a request or shows one that was made."""
    edge = request.app[EDGE]
    site, principal = await auth.admit(request, edge, auth.MAKE_REQUEST)
    asked = await _read(request, RequestInput)
    challenge = edge.service.visitor_requests.challenge(site, asked)
    begins = asked.kind is not None and principal.key_class == "publishable"
    if begins and (wait := edge.requesters.take(edge.address_of(request), site.site)):
        detail = f"Many requests were begun from this address. Try again in {wait} seconds, or turn to the controller."
        raise TooMany("too-many-requests", detail, wait)
    return json_response(challenge)


async def post_proof(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/requests/{id}/proof`: the answer to a challenge; 201 if it made the request."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.MAKE_REQUEST)
    proof = await _read(request, RequestProof)
    request_id = _id(request)
    proven, entered = await edge.service.visitor_requests.prove(site, request_id, proof, edge.region_of(request))
    headers: dict[str, str] = {hdrs.LOCATION: f"/v1/sites/{site.site}/requests/{proven.request.id}"}
    return json_response(proven, 201 if entered else 200, headers)


async def get_request(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/requests/{id}`: how it stands, for operators and the visitor who made it."""
    edge = request.app[EDGE]
    site, principal = await auth.admit(request, edge, auth.READ_REQUEST)
    parameters.query(request)
    request_id = _id(request)
    to_visitor = principal.key_class == "publishable"
    if to_visitor:
        edge.service.visitor_requests.check_token(site, request_id, _token(request))
    return json_response(await edge.service.requests.status(site, request_id, to_visitor=to_visitor))


async def post_download(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/requests/{id}/download`: a link to what the visitor asked for; it works once."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.MAKE_REQUEST)
    wanted = await _read(request, RequestDownload)
    request_id = _id(request)
    edge.service.visitor_requests.check_token(site, request_id, _token(request))
    return told_of(request, await edge.service.visitor_requests.download(site, request_id, wanted))


async def list_requests(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/requests`: the register, the newest first, in pages."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.LEAD_REQUESTS)
    query = parameters.query(request, once=("state", "kind", "overdue", "cursor", "limit"))
    limit = parameters.page(query, config.REQUEST_PAGE_DEFAULT, config.REQUEST_PAGE_MAX)
    page = await edge.service.requests.page(
        site,
        state=parameters.word(query, "state", get_args(State)),
        kind=parameters.word(query, "kind", get_args(Kind)),
        overdue=parameters.flag(query, "overdue"),
        cursor=query.get("cursor"),
        limit=limit,
    )
    return json_response(page)


async def register_request(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/requests:register`: enter a request that came otherwise."""
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.LEAD_REQUESTS)
    site, who = admitted.site, who_acts(request, edge, admitted)
    entered, is_new = await edge.service.requests.register(site, await _read(request, RequestRegistration), who)
    headers: dict[str, str] = {hdrs.LOCATION: f"/v1/sites/{site.site}/requests/{entered.id}"}
    return created(entered, headers, replayed=not is_new)


async def post_step(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/requests/{id}/steps`: lead a request on."""
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.LEAD_REQUESTS)
    who = who_acts(request, edge, admitted)
    asked = await _read(request, RequestStepInput)
    return json_response(await edge.service.requests.take(admitted.site, _id(request), asked, who), 201)


def _id(request: web.Request) -> str:
    return parameters.identifier(request, "A request")


def _token(request: web.Request) -> str:
    token = request.headers.get(HEADER)
    if token is None:
        detail = f"Send the token that your proof gave in the header {HEADER}."
        raise InputRefused("request-token-refused", detail)
    return token


async def _read(request: web.Request, kind: type[body.Message]) -> body.Message:
    parameters.query(request)
    return await body.read_message(request, kind, config.REQUEST_BODY_MAX_BYTES, "invalid-request")
