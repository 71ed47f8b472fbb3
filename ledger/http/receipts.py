"""Receipts with their proofs: as JSON, as the text of c2sp.org/tlog-proof, and for a post that waits.

Renderings for people and other systems are records' part.
"""

from __future__ import annotations

import msgspec
from aiohttp import hdrs, web

from ledger.core.encoding import decode_base64
from ledger.core.errors import Unavailable
from ledger.http import auth, parameters, records
from ledger.http.edge import EDGE, Edge, json_response
from ledger.messages import Receipt
from ledger.published import Leaf, Proven
from ledger.site import Site

PENDING = "Checkpoint-Pending"
"""`true` where no checkpoint with its quorum covers the entry yet; the proof, if any, is under a lesser one."""
TEXT = "text/plain; charset=utf-8"
SUFFIX = ".tlog-proof"


async def get_receipt(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/receipts/{id}`: an event's entry, opening and proof; the proof alone as `text/plain`; with
    `format` a rendering of it."""
    rendering = request.query.get(records.FORMAT)
    if rendering is None and _wants_text(request):
        response = await get_proof(request)
        del response.headers[hdrs.CONTENT_DISPOSITION]
    else:
        site, receipt, proven = await _proven(request, records.FORMAT, records.LANGUAGE)
        headers = pending(proven)
        if proven.proof is None:
            headers[hdrs.RETRY_AFTER] = "1"
        receipt = with_proof(receipt, proven)
        if rendering is None:
            response = json_response(receipt, 200, headers)
        else:
            response = await records.respond(request, site, receipt, rendering, headers)
    response.headers[hdrs.VARY] = hdrs.ACCEPT
    return response


async def get_proof(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/receipts/{id}.tlog-proof`: the proof alone, as a file."""
    _, receipt, proven = await _proven(request)
    if proven.proof is None:
        raise Unavailable("checkpoint-pending", "No checkpoint covers the entry yet; try again in a moment.")
    headers = {
        **pending(proven),
        hdrs.CONTENT_TYPE: TEXT,
        hdrs.CACHE_CONTROL: "no-store",
        hdrs.CONTENT_DISPOSITION: f'attachment; filename="{receipt.id}{SUFFIX}"',
    }
    return web.Response(body=proven.proof.encode(), headers=headers)


async def _proven(request: web.Request, *once: str) -> tuple[Site, Receipt, Proven]:
    """The receipt that the path names with its proof; `once`: query parameters that are known."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.READ_RECEIPT)
    records.check(parameters.query(request, once=once))
    receipt = await edge.service.receipt(site, parameters.identifier(request, "An event"))
    return site, receipt, await edge.service.published.prove(site.site_id, _leaf(receipt))


async def awaited(edge: Edge, site: Site, receipt: Receipt) -> tuple[Receipt, Proven]:
    """The receipt of a recorded event once a checkpoint covers it, or after a while as it is."""
    proven = await edge.service.published.wait(site.site_id, _leaf(receipt), edge.limits.checkpoint_wait_seconds)
    edge.meters.wait("pending" if proven.pending else "proven")
    return with_proof(receipt, proven), proven


def with_proof(receipt: Receipt, proven: Proven) -> Receipt:
    return receipt if proven.proof is None else msgspec.structs.replace(receipt, proof=proven.proof)


def pending(proven: Proven) -> dict[str, str]:
    """The header that says so, where a better proof is to come."""
    return {PENDING: "true"} if proven.pending else {}


def _leaf(receipt: Receipt) -> Leaf:
    return Leaf(receipt.seq, decode_base64(receipt.leaf_hash))


def _wants_text(request: web.Request) -> bool:
    """`Accept` (RFC 9110 section 12.5.1): JSON, unless text is named and JSON is not."""
    named = {part.partition(";")[0].strip() for part in request.headers.get(hdrs.ACCEPT, "").lower().split(",")}
    return "text/plain" in named and "application/json" not in named
