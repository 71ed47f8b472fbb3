"""Policies and documents: what is published is public, publishing needs the scope admin."""

from __future__ import annotations

from aiohttp import hdrs, web

from ledger.config import POLICY_MAX_AGE_SECONDS
from ledger.core.errors import InputRefused
from ledger.http import auth, body, caching, parameters
from ledger.http.edge import EDGE, JSON, json_response

POLICY_TYPES = frozenset({JSON, "application/yaml", "application/x-yaml", "text/yaml"})


async def get_policy(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/policy`: the document in force, byte for byte as published; its hash is the ETag."""
    edge = request.app[EDGE]
    site = await auth.find_site(request, edge)
    parameters.query(request)
    digest, document = await edge.service.policy(site)
    headers = {
        hdrs.ETAG: f'"{digest}"',
        hdrs.CACHE_CONTROL: f"public, max-age={POLICY_MAX_AGE_SECONDS}",
        hdrs.CONTENT_LOCATION: f"/documents/{digest}",
    }
    if caching.is_known(request, digest):
        return web.Response(status=304, headers=headers)
    return web.Response(body=document, headers=headers, content_type=JSON)


async def put_policy(request: web.Request) -> web.Response:
    """`PUT /v1/sites/{site}/policy`: publish a version of the site document, sent as JSON or YAML."""
    edge = request.app[EDGE]
    site, _ = await auth.admit(request, edge, auth.PUBLISH_POLICY)
    parameters.query(request)
    limits = edge.limits
    data = await body.read_body(request, POLICY_TYPES, limits.policy_body_max_bytes, limits.body_read_timeout_seconds)
    published = await edge.service.publish(site, data)
    return json_response(published, 201, {hdrs.LOCATION: f"/documents/{published.document}"})


async def get_document(request: web.Request) -> web.Response:
    """`GET /documents/{sha256}`: a published document, which never changes. It may hold no script that runs here."""
    edge = request.app[EDGE]
    parameters.query(request)
    digest = request.match_info["sha256"]
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InputRefused("not-found", "A document is named by its SHA-256, 64 hex digits in lower case.")
    media_type, document = await edge.service.document(bytes.fromhex(digest))
    headers = {
        hdrs.ETAG: f'"{digest}"',
        hdrs.CACHE_CONTROL: "public, max-age=31536000, immutable",
        hdrs.CONTENT_TYPE: media_type,
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    if caching.is_known(request, digest):
        return web.Response(status=304, headers=headers)
    return web.Response(body=document, headers=headers)
