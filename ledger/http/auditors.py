"""The log as auditors read it: checkpoint, tiles and entry bundles of c2sp.org/tlog-tiles, and proofs ready made.

Nothing is given out that the served checkpoint does not cover. Checkpoints, hash tiles and proofs are public; entry
bundles need a secret key with the scope audit, unless the site document opens them.
"""

from __future__ import annotations

import asyncio
import gzip
import time

from aiohttp import hdrs, web

from ledger.config import CHECKPOINT_MAX_AGE_SECONDS, PARTIAL_TILE_MAX_AGE_SECONDS, TILE_MAX_AGE_SECONDS
from ledger.core.encoding import decode_decimal, encode_base64
from ledger.core.errors import InputRefused, Malformed
from ledger.core.tile import TILE_WIDTH, Tile, parse_path
from ledger.http import auth, caching, parameters
from ledger.http.edge import EDGE, JSON, encode
from ledger.messages import ConsistencyProof
from ledger.site import Site

TEXT = "text/plain; charset=utf-8"
OCTETS = "application/octet-stream"
GZIP_LEVEL = 1
"""Half of an entry is hashes and signatures: more work finds nothing more to save."""

_BRIEFLY = f"public, max-age={CHECKPOINT_MAX_AGE_SECONDS}"


async def get_checkpoint(request: web.Request) -> web.Response:
    """`GET /logs/{site}/checkpoint`: the newest checkpoint that is cosigned, or has waited for it long enough."""
    edge = request.app[EDGE]
    site = await auth.find_log(request, edge)
    parameters.query(request)
    row = await edge.service.published.checkpoint(site.site_id)
    return caching.respond(request, row.note, {hdrs.CONTENT_TYPE: TEXT, hdrs.CACHE_CONTROL: _BRIEFLY})


async def get_tile(request: web.Request) -> web.Response:
    """`GET /logs/{site}/tile/<L>/<N>[.p/<W>]`: a hash tile."""
    edge = request.app[EDGE]
    site = await auth.find_log(request, edge)
    parameters.query(request)
    tile = _tile(request)
    data = await edge.service.published.hash_tile(site.site_id, tile)
    return caching.respond(request, data, {hdrs.CONTENT_TYPE: OCTETS, hdrs.CACHE_CONTROL: _for_long(tile, "public")})


async def get_entries(request: web.Request) -> web.Response:
    """`GET /logs/{site}/tile/entries/<N>[.p/<W>]`: an entry bundle, compressed for those who take it so."""
    edge = request.app[EDGE]
    site = await auth.find_log(request, edge)
    is_open = _opens_entries(site)
    if not is_open:
        await auth.admit_to_log(request, edge, auth.READ_ENTRIES)
    parameters.query(request)
    tile = _tile(request)
    data = await edge.service.published.entry_bundle(site.site_id, tile)
    headers: dict[str, str] = {
        hdrs.CONTENT_TYPE: OCTETS,
        hdrs.CACHE_CONTROL: _for_long(tile, "public" if is_open else "private"),
        hdrs.VARY: hdrs.ACCEPT_ENCODING if is_open else f"{hdrs.ACCEPT_ENCODING}, {hdrs.AUTHORIZATION}",
    }
    if _takes_gzip(request):
        packed = await asyncio.to_thread(gzip.compress, data, GZIP_LEVEL, mtime=0)
        return caching.respond(request, packed, {**headers, hdrs.CONTENT_ENCODING: "gzip"})
    return caching.respond(request, data, headers)


async def get_proof(request: web.Request) -> web.Response:
    """`GET /logs/{site}/proof?index=`: the place of an entry under the served checkpoint (c2sp.org/tlog-proof)."""
    edge = request.app[EDGE]
    site = await auth.find_log(request, edge)
    query = parameters.query(request, once=("index",))
    index = _number(query.get("index"), "index")
    if index is None:
        raise InputRefused("invalid-parameter", "index is the seq of an entry, like index=42.")
    proof = await edge.service.published.prove_index(site.site_id, index)
    return caching.respond(request, proof.encode(), {hdrs.CONTENT_TYPE: TEXT, hdrs.CACHE_CONTROL: _BRIEFLY})


async def get_consistency(request: web.Request) -> web.Response:
    """`GET /logs/{site}/consistency?old=&new=`: that the log at the size `new` continues the one at the size `old`."""
    edge = request.app[EDGE]
    site = await auth.find_log(request, edge)
    query = parameters.query(request, once=("old", "new"))
    old, new = _number(query.get("old"), "old"), _number(query.get("new"), "new")
    if old is None:
        raise InputRefused("invalid-parameter", "old is a size of the log, like old=42&new=1000.")
    if new is not None and old > new:
        raise InputRefused("sizes-reversed", "The larger log continues the smaller one: old may not exceed new.")
    size, hashes = await edge.service.published.consistency(site.site_id, old, new)
    message = ConsistencyProof(site.site, old, size, [encode_base64(sibling) for sibling in hashes])
    lasting = f"public, {caching.IMMUTABLE.format(PARTIAL_TILE_MAX_AGE_SECONDS)}"
    headers: dict[str, str] = {hdrs.CONTENT_TYPE: JSON, hdrs.CACHE_CONTROL: _BRIEFLY if new is None else lasting}
    return caching.respond(request, encode(message), headers)


def _tile(request: web.Request) -> Tile:
    """The tile that the path names: as it was sent, for another spelling of it is another path."""
    path = request.rel_url.raw_path.split("/", 3)[3]
    try:
        return parse_path(path)
    except Malformed as error:
        raise InputRefused("not-found", f"There is no such tile ({error}).") from error


def _for_long(tile: Tile, who: str) -> str:
    full = tile.width == TILE_WIDTH
    return f"{who}, {caching.IMMUTABLE.format(TILE_MAX_AGE_SECONDS if full else PARTIAL_TILE_MAX_AGE_SECONDS)}"


def _opens_entries(site: Site) -> bool:
    in_force = site.policies.in_force(time.time_ns() // 1_000_000)
    return in_force is not None and in_force.document.entry_bundles_public


def _takes_gzip(request: web.Request) -> bool:
    """`Accept-Encoding` (RFC 9110 section 12.5.3): gzip is named, and not with a weight of nothing."""
    for part in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        return decode_decimal(text)
    except Malformed as error:
        raise InputRefused("invalid-parameter", f"{name} is a decimal number below 2^53.") from error
