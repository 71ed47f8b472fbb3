"""Renderings of a receipt for people and for other systems, and the keys that sign one of them.

What a rendering says is ledger/records' part, what it is made of is gathered by ledger/dossiers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import hdrs, web
from multidict import MultiMapping

from ledger.config import RECEIPT_KEYS_MAX_AGE_SECONDS
from ledger.core.errors import InputRefused
from ledger.dossiers import gather
from ledger.http import caching, parameters, record_page
from ledger.http.edge import EDGE, PRIVATE
from ledger.messages import Receipt
from ledger.records import iso27560, kantara
from ledger.records.jose import JWK_SET_TYPE, JWT_TYPE, jwk_set
from ledger.site import Site

FORMAT = "format"
LANGUAGE = "language"
ISO27560, KANTARA, HTML = "iso27560", "kantara", "html"
FORMATS = (ISO27560, KANTARA, HTML)


def check(query: MultiMapping[str]) -> None:
    """Refuse a format that there is none of, and a language where it would say nothing."""
    wanted = parameters.word(query, FORMAT, FORMATS)
    if parameters.language(query) is not None and wanted != HTML:
        raise InputRefused("invalid-query", "language goes with format=html; the others hold every language.")


async def respond(
    request: web.Request, site: Site, receipt: Receipt, wanted: str, headers: Mapping[str, str]
) -> web.Response:
    """The receipt as it was asked for. Raises `InputRefused` for an event that it cannot be made of, `Unavailable`."""
    edge = request.app[EDGE]
    dossier = await gather(edge.service, site, receipt, edge.base_url(request), whole=wanted == HTML)
    if wanted == ISO27560:
        body, media_type = iso27560.render(dossier), iso27560.MEDIA_TYPE
    elif wanted == KANTARA:
        assert edge.receipt_keys is not None
        key = await edge.receipt_keys.signing(site, edge.service.sites.loaded())
        body, media_type = kantara.render(dossier, key), JWT_TYPE
    else:
        page = await asyncio.to_thread(record_page.of, dossier, request.query.get(LANGUAGE))
        return web.Response(body=page.body, headers={**headers, **PRIVATE, **page.headers})
    return web.Response(body=body, headers={**headers, **PRIVATE, hdrs.CONTENT_TYPE: media_type})


async def get_keys(request: web.Request) -> web.Response:
    """`GET /.well-known/jwks.json`: the public receipt keys of every site, for whoever verifies a Consent Receipt."""
    parameters.query(request)
    edge = request.app[EDGE]
    publics = [] if edge.receipt_keys is None else await edge.receipt_keys.published(edge.service.sites.loaded())
    fresh = f"public, max-age={RECEIPT_KEYS_MAX_AGE_SECONDS}"
    headers: dict[str, str] = {hdrs.CONTENT_TYPE: JWK_SET_TYPE, hdrs.CACHE_CONTROL: fresh}
    return caching.respond(request, jwk_set(publics), headers)
