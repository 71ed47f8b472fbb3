"""Who may call what: bearer keys, their scopes, and the origins of browser pages (CORS).

A publishable key is meant to be read by anyone who opens the page, so it may only post events and read the state of a
visitor whose id the caller holds. The origin check keeps other websites' pages out; it is no defence against programs.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from aiohttp import hdrs, web

from ledger.config import ORIGIN_CACHE_MAX, PREFLIGHT_MAX_AGE_SECONDS
from ledger.core.admin_act import is_admin_log, site_of
from ledger.core.errors import InputRefused, NotFound
from ledger.http.edge import SHARED_WITH, SITE, Edge
from ledger.service import Principal
from ledger.site import Site


class Access(NamedTuple):
    """What a call needs: a secret key with `scope` (or with `instead`), or, where `publishable`, any publishable key of
    the site."""

    publishable: bool
    scope: str
    instead: str = ""


POST_EVENT = Access(publishable=True, scope="events")
POST_BATCH = Access(publishable=False, scope="events")
READ_CONSENT = Access(publishable=True, scope="check")
CHECK = Access(publishable=False, scope="check")
READ_HISTORY = Access(publishable=False, scope="audit")
READ_RECEIPT = Access(publishable=False, scope="audit")
READ_ENTRIES = Access(publishable=False, scope="audit")
PUBLISH_POLICY = Access(publishable=False, scope="admin")
OBSERVE_COOKIES = Access(publishable=True, scope="events")
READ_COOKIES = Access(publishable=False, scope="check")
REVIEW_COOKIES = Access(publishable=False, scope="admin")
MAKE_REQUEST = Access(publishable=True, scope="admin")
READ_REQUEST = Access(publishable=True, scope="admin")
LEAD_REQUESTS = Access(publishable=False, scope="admin")
CONFIRM_ERASURES = Access(publishable=False, scope="check")
READ_CERTIFICATE = Access(publishable=False, scope="audit", instead="admin")
ERASE = Access(publishable=False, scope="admin")
EXPORT = Access(publishable=False, scope="admin")
EXPORT_PERSON = Access(publishable=False, scope="audit", instead="admin")


class Admitted(NamedTuple):
    """A caller whose key, scope and origin are right for the call."""

    site: Site
    principal: Principal


async def find_site(request: web.Request, edge: Edge) -> Site:
    """The site that the path names."""
    try:
        site = await edge.service.site(request.match_info["site"])
    except NotFound as error:
        raise InputRefused("unknown-site", str(error)) from error
    request[SITE] = site
    return site


async def find_log(request: web.Request, edge: Edge) -> Site:
    """The log that the path names: a site's, or its administrative one."""
    try:
        log = await edge.service.sites.log(request.match_info["site"])
    except NotFound as error:
        raise InputRefused("unknown-site", str(error)) from error
    request[SITE] = log
    return log


async def admit(request: web.Request, edge: Edge, access: Access) -> Admitted:
    """The caller of a site's call, once key, scope and origin were found right for it."""
    return await _admit(request, edge, access, await find_site(request, edge))


async def admit_to_log(request: web.Request, edge: Edge, access: Access) -> Admitted:
    """The same of a log's call: an administrative log is read with the keys of its site."""
    log = await find_log(request, edge)
    site = await edge.service.site(site_of(log.site)) if is_admin_log(log.site) else log
    return (await _admit(request, edge, access, site))._replace(site=log)


async def _admit(request: web.Request, edge: Edge, access: Access, site: Site) -> Admitted:
    principal = await edge.service.authenticate(site, bearer(request))
    if principal is None:
        raise InputRefused("key-unknown", "The key is unknown, was revoked, or belongs to another site.")
    origin = request.headers.get(hdrs.ORIGIN)
    if principal.key_class == "publishable":
        if not access.publishable:
            raise InputRefused("secret-key-needed", f"This call needs a secret key with the scope {access.scope}.")
        if origin is not None:
            if not origin_allowed(request, edge, site, origin):
                raise origin_refused(site, origin)
            request[SHARED_WITH] = origin
        return Admitted(site, principal)
    if principal.scopes.isdisjoint((access.scope, access.instead)):
        raise InputRefused("scope-missing", f"This call needs a key with the scope {access.scope}.")
    if origin is not None:
        raise InputRefused(
            "secret-key-in-browser",
            "A secret key belongs on a server: whoever opens the page can read it. Revoke it, and use a publishable "
            "key in browsers. (A program leaves the header Origin out.)",
        )
    return Admitted(site, principal)


def bearer(request: web.Request) -> str:
    """The key that a caller sent."""
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is None:
        raise InputRefused("key-missing", "Send an API key of the site: Authorization: Bearer pk_… or sk_….")
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer" or not key.startswith(("pk_", "sk_")) or not key.isascii():
        raise InputRefused("key-unknown", "The header has to read Authorization: Bearer pk_… or sk_….")
    return key


# --- origins ---------------------------------------------------------------------------------------------------------


_allowed: set[tuple[bytes, str]] = set()
"""Document hash and origin of pages found allowed: matching a wildcard costs more than the rest of the checks."""


def origin_allowed(request: web.Request, edge: Edge, site: Site, origin: str) -> bool:
    """Whether a page of this origin may call the site: by the policy in force, or because it is our own demo page."""
    if edge.demo and origin in (f"http://{request.host}", f"https://{request.host}"):
        return True
    published = site.policies.in_force(time.time_ns() // 1_000_000)
    if published is None:
        return False
    key = (published.document_hash, origin)
    if key in _allowed:
        return True
    if not published.document.allows_origin(origin):
        return False
    if len(_allowed) >= ORIGIN_CACHE_MAX:
        _allowed.clear()
    _allowed.add(key)
    return True


def origin_refused(site: Site, origin: str) -> InputRefused:
    return InputRefused(
        "origin-not-allowed",
        f"{origin[:255]!r} is not among the origins of {site.site}; its site document lists them.",
    )


EXPOSED_HEADERS = (
    "Idempotent-Replayed, Location, Preference-Applied, Checkpoint-Pending, Retry-After, WWW-Authenticate, ETag"
)
ALLOWED_HEADERS = (
    "Authorization, Content-Type, Consent-Visitor, Consent-Min-Position, Consent-Request-Token, Prefer, If-None-Match"
)


def share(response: web.StreamResponse, origin: str) -> None:
    """Let the page of this origin (or of any, `*`) read the answer."""
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS


def preflight(origin: str | None, allow: str, methods: str) -> web.Response:
    """Tell a browser that pages of this origin may call with these methods (fetch standard, CORS preflight)."""
    response = web.Response(status=204, headers={hdrs.ALLOW: allow})
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Methods"] = methods
        response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_MAX_AGE_SECONDS)
    return response
