"""The calls of frontends: post one event, read one visitor's own decisions."""

from __future__ import annotations

from aiohttp import hdrs, web

from ledger.core.errors import InputRefused
from ledger.core.event import parse_input
from ledger.http import auth, body, parameters, receipts
from ledger.http.edge import EDGE, HELD, created, json_response
from ledger.messages import Receipt, ReceiptMinimal
from ledger.service import ConsentQuestion


async def post_event(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/events`: 201 with the receipt once the event is durable, 200 for an exact repeat."""
    edge = request.app[EDGE]
    site, principal = await auth.admit(request, edge, auth.POST_EVENT)
    waits = request.rel_url.raw_query_string and _waits(request)
    limits = edge.limits
    data = await body.read_body(request, body.JSON_TYPES, limits.event_body_max_bytes, limits.body_read_timeout_seconds)
    region = None if principal.key_class == "secret" else edge.region_of(request)
    receipt, replayed = await edge.service.record(site, parse_input(data), principal, region=region)
    headers: dict[str, str] = {hdrs.LOCATION: f"/v1/sites/{receipt.site}/receipts/{receipt.id}"}
    if waits:
        request[HELD] = True
        receipt, proven = await receipts.awaited(edge, site, receipt)
        headers |= receipts.pending(proven)
    answer: Receipt | ReceiptMinimal = receipt
    if parameters.prefers_minimal(request):
        headers["Preference-Applied"] = "return=minimal"
        answer = minimal(receipt)
    return created(answer, headers, replayed=replayed)


def _waits(request: web.Request) -> bool:
    """Whether the answer is to be held until a checkpoint covers the entry."""
    return parameters.word(parameters.query(request, once=("wait",)), "wait", ("checkpoint",)) is not None


def minimal(receipt: Receipt) -> ReceiptMinimal:
    """The receipt without entry and opening."""
    return ReceiptMinimal(receipt.id, receipt.site, receipt.seq, receipt.position)


async def get_consent(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/consent`: one visitor's decisions, which show every event that was answered before."""
    edge = request.app[EDGE]
    site, principal = await auth.admit(request, edge, auth.READ_CONSENT)
    query = parameters.query(request, once=("at", "knownAt", "region", "gpc", "explain"), many=("purpose",))
    region = parameters.region(query)
    if principal.key_class != "secret":
        if region is not None:
            raise InputRefused(
                "secret-key-needed",
                "A region is believed from secret keys only; leave it out, and the server finds it, or the site's "
                "strictest regime answers.",
            )
        region = edge.region_of(request)
    known, known_is_time = parameters.seq_or_time(query, "knownAt")
    question = ConsentQuestion(
        visitor=parameters.visitor(request),
        purposes=parameters.purposes(query),
        at_ms=parameters.time(query, "at"),
        known=known,
        known_is_time=known_is_time,
        region=region,
        gpc=parameters.gpc(request, query),
        min_position=parameters.min_position(request, site.site),
        explain=parameters.flag(query, "explain"),
        asked_by="backend" if principal.key_class == "secret" else "frontend",
    )
    return json_response(await edge.service.consent(site, question))
