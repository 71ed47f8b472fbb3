"""Policies and the documents that they name: what is published is public, publishing needs the scope admin."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import hdrs, web

from ledger.config import POLICY_MAX_AGE_SECONDS, POLICY_PAGE_DEFAULT_VERSIONS, POLICY_PAGE_MAX_VERSIONS
from ledger.core.errors import DocumentInvalid, InputRefused
from ledger.core.notice import MEDIA_TYPES
from ledger.http import auth, body, caching, parameters
from ledger.http.acting import acting_of
from ledger.http.edge import EDGE, JSON, created, encode

POLICY_TYPES = frozenset({JSON, "application/yaml", "application/x-yaml", "text/yaml"})


async def get_policy(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/policy`: a document, byte for byte as published; its hash is the ETag.

    It is the one in force now, the one that held `at` a time, or that of a `version`.
    """
    edge = request.app[EDGE]
    site = await auth.find_site(request, edge)
    asked = parameters.query(request, once=("version", "at"))
    at_ms = parameters.time(asked, "at")
    if at_ms is not None and "version" in asked:
        raise InputRefused("invalid-query", "Ask for a version or for a time, not for both.")
    digest, document = await edge.service.publishing.policy(site, parameters.version(asked, "version"), at_ms)
    headers: dict[str, str] = {
        hdrs.CONTENT_TYPE: JSON,
        hdrs.CACHE_CONTROL: f"public, max-age={POLICY_MAX_AGE_SECONDS}",
        hdrs.CONTENT_LOCATION: f"/documents/{digest}",
    }
    return caching.respond(request, document, headers, digest)


async def put_policy(request: web.Request) -> web.Response:
    """`PUT /v1/sites/{site}/policy`: publish a version of the site document, sent as JSON or YAML."""
    edge = request.app[EDGE]
    admitted = await auth.admit(request, edge, auth.PUBLISH_POLICY)
    site, acting = admitted.site, acting_of(request, edge, admitted)
    parameters.query(request)
    limits = edge.limits
    data = await body.read_body(request, POLICY_TYPES, limits.policy_body_max_bytes, limits.body_read_timeout_seconds)
    published, replayed = await edge.service.publishing.publish(site, data, acting)
    return created(published, {hdrs.LOCATION: f"/documents/{published.document}"}, replayed=replayed)


async def list_policies(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/policies`: every version, the newest first, in pages."""
    edge = request.app[EDGE]
    site = await auth.find_site(request, edge)
    asked = parameters.query(request, once=("cursor", "limit"))
    limit = parameters.page(asked, POLICY_PAGE_DEFAULT_VERSIONS, POLICY_PAGE_MAX_VERSIONS)
    return _public(request, encode(await edge.service.publishing.versions(site, asked.get("cursor"), limit)))


async def get_difference(request: web.Request) -> web.Response:
    """`GET /v1/sites/{site}/policy/diff`: what the version `to` changes, compared with the version `from`."""
    edge = request.app[EDGE]
    site = await auth.find_site(request, edge)
    asked = parameters.query(request, once=("from", "to"))
    before, after = parameters.version(asked, "from"), parameters.version(asked, "to")
    return _public(request, encode(await edge.service.publishing.difference(site, before, after)))


async def put_document(request: web.Request) -> web.Response:
    """`PUT /v1/sites/{site}/documents`: keep a notice, a text or a picture under its SHA-256."""
    edge = request.app[EDGE]
    acting = acting_of(request, edge, await auth.admit(request, edge, auth.PUBLISH_POLICY))
    parameters.query(request)
    limits = edge.limits
    data = await body.read_body(request, MEDIA_TYPES, limits.document_body_max_bytes, limits.body_read_timeout_seconds)
    media_type = request.headers[hdrs.CONTENT_TYPE].partition(";")[0].strip().lower()
    try:
        stored, replayed = await edge.service.publishing.upload(media_type, data, acting)
    except DocumentInvalid as error:
        raise InputRefused("invalid-upload", str(error), error.pointer) from error
    return created(stored, {hdrs.LOCATION: f"/documents/{stored.document}"}, replayed=replayed)


async def get_document(request: web.Request) -> web.Response:
    """`GET /documents/{sha256}`: a published document, which never changes. It may hold no script that runs here."""
    edge = request.app[EDGE]
    parameters.query(request)
    digest = request.match_info["sha256"]
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InputRefused("not-found", "A document is named by its SHA-256, 64 hex digits in lower case.")
    media_type, document = await edge.service.publishing.document(bytes.fromhex(digest))
    headers = {
        hdrs.CACHE_CONTROL: "public, max-age=31536000, immutable",
        hdrs.CONTENT_TYPE: f"{media_type}; charset=utf-8" if media_type == "text/plain" else media_type,
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    return caching.respond(request, document, headers, digest)


def _public(request: web.Request, answer: bytes) -> web.Response:
    headers: Mapping[str, str] = {
        hdrs.CACHE_CONTROL: f"public, max-age={POLICY_MAX_AGE_SECONDS}",
        hdrs.CONTENT_TYPE: JSON,
    }
    return caching.respond(request, answer, headers)
