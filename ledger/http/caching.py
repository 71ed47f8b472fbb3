"""Entity tags: what a client or a cache has already is not sent again (RFC 9110 section 13, RFC 9111)."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from aiohttp import hdrs, web

IMMUTABLE = "max-age={}, immutable"


def _is_known(request: web.Request, tag: str) -> bool:
    """`If-None-Match` (RFC 9110 section 13.1.2); a tag, given here without its quotes, is compared weakly."""
    tags = request.headers.get(hdrs.IF_NONE_MATCH, "")
    return any(known.strip().removeprefix("W/") in (f'"{tag}"', "*") for known in tags.split(","))


def respond(request: web.Request, body: bytes, headers: Mapping[str, str], digest: str = "") -> web.Response:
    """The body under a tag of its own content, or 304. `digest`: its SHA-256 in hex, where that is known."""
    tag = digest or sha256(body).hexdigest()
    tagged = {**headers, hdrs.ETAG: f'"{tag}"'}
    if _is_known(request, tag):
        tagged.pop(hdrs.CONTENT_ENCODING, None)
        return web.Response(status=304, headers=tagged)
    return web.Response(body=body, headers=tagged)
