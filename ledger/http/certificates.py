"""Certificates of erasure, and consumers' word that erasures are applied where they keep copies."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web

from ledger import certificates, config
from ledger.certificate_report import render
from ledger.core.certificate import JWS_TYPE, MEDIA_TYPE
from ledger.core.certificate_check import verify_certificate
from ledger.core.encoding import decode_decimal
from ledger.core.errors import InputRefused, Malformed
from ledger.core.jws import parse
from ledger.core.note import TYPE_ED25519, parse_vkey
from ledger.http import auth, body, parameters
from ledger.http.acting import acting_of
from ledger.http.edge import EDGE, PRIVATE, json_response
from ledger.messages import ErasuresConfirmInput

FORMAT = "format"


async def get_certificate(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/erasures/{id}/certificate`: the signed certificate; with `format=text` what it says."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.READ_CERTIFICATE)
    wanted = parameters.word(parameters.query(request, once=(FORMAT,)), FORMAT, ("text",))
    erasure = parameters.identifier(request, "An erasure")
    assert edge.receipt_keys is not None
    token = await certificates.certificate(edge.service, edge.receipt_keys, site, erasure)
    headers = dict(PRIVATE)
    if wanted is None:
        name = f'attachment; filename="{site.site}-erasure-{erasure}.jws"'
        headers |= {hdrs.CONTENT_TYPE: MEDIA_TYPE, hdrs.CONTENT_DISPOSITION: name}
        return web.Response(body=token + b"\n", headers=headers)
    report = verify_certificate(token, [parse_vkey(site.log_vkey, TYPE_ED25519)], [parse(token, JWS_TYPE).key_name])
    return web.Response(text=await asyncio.to_thread(render, report), headers=headers)


async def confirm(request: web.Request) -> web.Response:
    """`POST /v1/sites/{site}/erasures:confirm`: every erasure up to a position is applied at a consumer."""
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.CONFIRM_ERASURES)
    site = admitted.site
    parameters.query(request)
    told = await body.read_message(request, ErasuresConfirmInput, config.CONFIRM_BODY_MAX_BYTES, "invalid-confirmation")
    try:
        name, _, seq_text = told.position.rpartition(":")
        if name != site.site:
            raise Malformed("another site's position")
        seq = decode_decimal(seq_text)
    except Malformed as error:
        raise InputRefused("invalid-confirmation", f"A position here is {site.site}:<seq>.", "/position") from error
    acting = acting_of(request, edge, admitted)
    return json_response(await edge.service.consumers.confirm(site, told.consumer, auth.bearer(request), seq, acting))
